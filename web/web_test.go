package web_test

import (
	"fmt"
	"image"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mienproject/mien/annotate"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/web"
)

func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	page, err := web.Page("1.2.3<")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /page/", page)
	mux.Handle("GET /openapi.yaml", web.OpenAPI())
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func do(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// reference matches what loads another file of the page.
var reference = regexp.MustCompile(`(?:src|href|from|Worker|fetch)\s*[=(]?\s*\(?["'](\.?/[^"'#]+)["']`)

func TestPage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// Follow the references from the page: each file exists.
	seen := map[string]bool{}
	todo := []string{"/", "/openapi.yaml"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		res, body := do(t, http.MethodGet, s.URL+path)
		if res.StatusCode != http.StatusOK || body == "" {
			t.Errorf("%s: status %d, %d bytes", path, res.StatusCode, len(body))
			continue
		}
		h := res.Header
		for key, want := range map[string]string{
			"X-Content-Type-Options": "nosniff",
			"Referrer-Policy":        "no-referrer",
			"Cache-Control":          "no-cache",
		} {
			if h.Get(key) != want {
				t.Errorf("%s: %s is %q, want %q", path, key, h.Get(key), want)
			}
		}
		if h.Get("Content-Type") == "" || h.Get("Etag") == "" || !strings.Contains(h.Get("Permissions-Policy"), "camera=(self)") {
			t.Errorf("%s: headers are %v", path, h)
		}
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %s: %s", path, want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is lax: %s", path, policy)
		}
		if head, _ := do(t, http.MethodHead, s.URL+path); head.StatusCode != http.StatusOK || head.ContentLength != int64(len(body)) {
			t.Errorf("HEAD %s: status %d, %d bytes, want %d", path, head.StatusCode, head.ContentLength, len(body))
		}
		if again, _ := do(t, http.MethodGet, s.URL+path, "If-None-Match", h.Get("Etag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: with the same ETag the status is %d, want 304", path, again.StatusCode)
		}
		if path == "/openapi.yaml" {
			continue
		}
		for _, m := range reference.FindAllStringSubmatch(body, -1) {
			if found := strings.Replace(m[1], "./", "/page/", 1); found != "/readyz" && strings.HasPrefix(m[1], "./") || strings.HasPrefix(found, "/page/") {
				todo = append(todo, found)
			}
		}
	}
	for _, want := range []string{"/page/page.js", "/page/page.css", "/page/worker.js", "/page/pane.js", "/page/queue.js", "/page/sample.jpg", "/page/group.jpg", "/page/hard.jpg", "/page/hard-small.jpg", "/page/icon.svg", "/page/LICENSE-sample.txt"} {
		if !seen[want] {
			t.Errorf("no file refers to %s: %v", want, seen)
		}
	}
	for _, path := range []string{"/page/", "/page/index.html", "/page/nope.js", "/page/../web.go", "/index.html", "/nope"} {
		if res, _ := do(t, http.MethodGet, s.URL+path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, res.StatusCode)
		}
	}
	if _, body := do(t, http.MethodGet, s.URL+"/"); !strings.Contains(body, "Mien 1.2.3&lt;") {
		t.Error("the page does not show the version")
	}
}

// A long Range header takes long to parse, and the page's files are small, so the header is
// ignored whatever its value is.
func TestPageHasNoRanges(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, path := range []string{"/", "/page/page.js", "/page/sample.jpg", "/openapi.yaml"} {
		plain, whole := do(t, http.MethodGet, s.URL+path)
		for _, value := range []string{"bytes=0-9", "bytes=-5", "bytes=0-0,5-9", "bytes=9999999-", "bytes=9-0", "lines=1", "bytes=" + strings.Repeat("0-0,", 200_000)} {
			for _, header := range [][]string{{"Range", value}, {"Range", value, "If-Range", plain.Header.Get("Etag")}} {
				res, body := do(t, http.MethodGet, s.URL+path, header...)
				if res.StatusCode != http.StatusOK || body != whole || res.ContentLength != int64(len(whole)) {
					t.Errorf("%s, Range %.20q: status %d, %d bytes, length %d, want 200 and all %d", path, value, res.StatusCode, len(body), res.ContentLength, len(whole))
				}
				for _, name := range []string{"Accept-Ranges", "Content-Range"} {
					if got := res.Header.Get(name); got != "" {
						t.Errorf("%s, Range %.20q: %s is %q, want none", path, value, name, got)
					}
				}
				if got := res.Header.Get("Content-Type"); got != plain.Header.Get("Content-Type") {
					t.Errorf("%s, Range %.20q: content type is %q", path, value, got)
				}
			}
		}
	}
}

func TestPageConditions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first, whole := do(t, http.MethodGet, s.URL+"/page/page.js")
	tag := first.Header.Get("Etag")
	for _, c := range []struct {
		value string
		want  int
	}{
		{tag, 304},
		{"W/" + tag, 304}, // as a compressing proxy changes it
		{`"another"`, 200},
		{`"another", ` + tag, 304},
		{`"another",W/` + tag + ` , "a third"`, 304},
		{"*", 304},
		{strings.Trim(tag, `"`), 200},
		{"", 200},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			res, body := do(t, method, s.URL+"/page/page.js", "If-None-Match", c.value)
			if res.StatusCode != c.want || res.Header.Get("Etag") != tag {
				t.Errorf("%s with If-None-Match %q: status %d, ETag %q; want %d, %q", method, c.value, res.StatusCode, res.Header.Get("Etag"), c.want, tag)
			}
			if want := map[bool]string{true: whole}[c.want == 200 && method == http.MethodGet]; body != want {
				t.Errorf("%s with If-None-Match %q: %d bytes, want %d", method, c.value, len(body), len(want))
			}
		}
	}
}

// The page has no inline scripts or styles, which its Content-Security-Policy blocks.
func TestPageHasNothingInline(t *testing.T) {
	t.Parallel()
	_, body := do(t, http.MethodGet, newServer(t).URL+"/")
	if found := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(?:>|[^>]*>[^<])|javascript:`).FindString(body); found != "" {
		t.Errorf("the page has %q", found)
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	res, body := do(t, http.MethodGet, newServer(t).URL+"/openapi.yaml")
	if got := res.Header.Get("Content-Type"); got != "application/yaml; charset=utf-8" {
		t.Errorf("content type is %q", got)
	}
	for _, want := range []string{
		"openapi: 3.1.0", "  /inference.v1.Inference/Predict:", "  /inference.v1.Inference/ListModels:", "        rawData:", "google.rpc.ErrorInfo",
		"  /predict:", "          multipart/form-data:", "            image/png:", "        img_b64:",
		"        - name: Connect-Protocol-Version\n          in: header\n          required: false", // the server does not require it
	} {
		if !strings.Contains(body, want+"\n") && !strings.Contains(body, want+":") {
			t.Errorf("it lacks %q", want)
		}
	}
	for _, wrong := range []string{
		"        - name: Connect-Protocol-Version\n          in: header\n          required: true",
		"\n      additionalProperties: false", // newer servers may send more fields
		"        - br\n",                      // the server does not support Brotli
		"x-ref",
	} {
		if strings.Contains(body, wrong) {
			t.Errorf("it has %q", wrong)
		}
	}
	// All references resolve.
	refs := regexp.MustCompile(`\$ref: ['"]#/components/(schemas|headers)/([^'"]+)`).FindAllStringSubmatch(body, -1)
	if len(refs) < 50 {
		t.Errorf("it has only %d references", len(refs))
	}
	for _, ref := range refs {
		if !strings.Contains(body, "\n    "+ref[2]+":\n") {
			t.Errorf("it lacks %s, which it refers to", ref[2])
		}
	}
}

// The page marks faces in the colors of package annotate.
func TestMarks(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("page/marks.js")
	if err != nil {
		t.Fatal(err)
	}
	p := func(x, y float64) face.Point { return face.Point{X: x, Y: y} }
	marked := face.Face{
		Box:       face.Box{MinX: 100, MinY: 100, MaxX: 300, MaxY: 300},
		Landmarks: &face.Landmarks{LeftEye: p(150, 150), RightEye: p(250, 150), Nose: p(200, 200), MouthLeft: p(150, 250), MouthRight: p(250, 250)},
	}
	for _, mark := range []struct {
		name       string
		confidence float64
		at         image.Point
	}{
		{"LIME", 0.9, image.Pt(200, 97)},
		{"LIME", 0.5, image.Pt(200, 97)},
		{"AMBER", 0.4999, image.Pt(103, 97)},
		{"CYAN", 0.9, image.Pt(150, 150)},
		{"PINK", 0.9, image.Pt(250, 250)},
		{"WHITE", 0.9, image.Pt(200, 200)},
	} {
		marked.Confidence = mark.confidence
		c := annotate.Draw(image.NewGray(image.Rect(0, 0, 900, 400)), []face.Face{marked}).RGBAAt(mark.at.X, mark.at.Y)
		if want := fmt.Sprintf("%s = \"#%02x%02x%02x\";", mark.name, c.R, c.G, c.B); !strings.Contains(string(script), want) {
			t.Errorf("marks.js lacks %s, which package annotate draws at a confidence of %v", want, mark.confidence)
		}
	}
	if !strings.Contains(string(script), "UNSURE = 0.5;") {
		t.Error("marks.js has another confidence than 0.5 from which lines are not dashed")
	}
}

// The tests of the page's modules, in test/, run in Node.js.
func TestModules(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("test/*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in test/: %v", err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("needs Node.js 20 or later: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), node, append([]string{"--test"}, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}
