package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A consoleMessage is a line in the console of a browser.
type consoleMessage struct {
	Type, Text string
	Values     []json.RawMessage
}

// browse opens a page in Chromium, runs the script there if there is one, and returns
// the first value passed to console.log, and all other messages.
func browse(t testing.TB, page, script string, messages int) (logged json.RawMessage, others []consoleMessage) {
	t.Helper()
	tool(t, "/usr/bin/chromium")
	nodeModule(t, "playwright-core")
	task := marshal(t, map[string]any{"page": page, "script": script, "messages": messages})
	out := runIn(t, root, pagePatience, nil, task, "node", filepath.Join(root, "e2e", "browser", "browse.mjs")).must(t)
	var seen struct {
		Messages []consoleMessage
		Errors   []string
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatalf("%v: %s", err, excerpt(out))
	}
	if len(seen.Errors) != 0 {
		t.Errorf("the page failed: %q", seen.Errors)
	}
	for _, m := range seen.Messages {
		if logged == nil && m.Type == "log" && len(m.Values) > 0 {
			logged = m.Values[0]
		} else {
			others = append(others, m)
		}
	}
	if logged == nil {
		t.Fatalf("the page logged nothing: %s", excerpt(out))
	}
	return logged, others
}

// checkConsole fails the test unless the messages are the expected ones, each
// identified by words in it.
func checkConsole(t testing.TB, messages []consoleMessage, want ...string) {
	t.Helper()
	left := slices.Clone(messages)
	for _, words := range want {
		i := slices.IndexFunc(left, func(m consoleMessage) bool { return strings.Contains(m.Text, words) })
		if i < 0 {
			t.Errorf("the console does not say %q: %s", words, marshal(t, messages))
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, m := range left {
		t.Errorf("the console says (%s) %s", m.Type, m.Text)
	}
}

// site serves the pages from an origin of its own.
func site(t testing.TB, scripts map[string][]byte) *httptest.Server {
	t.Helper()
	images := map[string]*testImage{"/" + sample.name: sample, "/" + small.name: small, "/" + people.name: people}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if script, ok := scripts[r.URL.Path+".js"]; ok {
			_, _ = fmt.Fprintf(w, `<!doctype html><title>Mien</title><link rel="icon" href="data:,"><script type="module">%s</script>`, script)
		} else if p, ok := images[r.URL.Path]; ok {
			data, err := p.data()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(data)
		} else {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// pageURL returns the URL of a page of the site that calls the server with the images.
func pageURL(site *httptest.Server, page string, s *server, protocol string, images ...*testImage) string {
	query := url.Values{"server": {s.url}, "protocol": {protocol}}
	for _, p := range images {
		query.Add("image", p.name)
	}
	return site.URL + page + "?" + query.Encode()
}

func fetchPages(t testing.TB) *httptest.Server {
	t.Helper()
	return site(t, map[string][]byte{"/fetch.js": read(t, filepath.Join(root, "e2e", "browser", "fetch.js"))})
}

func TestBrowserFetch(t *testing.T) {
	t.Parallel()
	pages := fetchPages(t)
	s := start(t, "--cors-origin", pages.URL)
	for _, test := range []struct {
		image  *testImage
		method string
	}{{sample, ""}, {people, ""}, {small, "get"}} {
		p := test.image
		t.Run(p.name+test.method, func(t *testing.T) {
			p.load(t) // skips the test if the image is missing
			logged, others := browse(t, pageURL(pages, "/fetch", s, test.method, p), "", 1)
			var got struct {
				Status    int
				RequestID string
				Body      json.RawMessage
				Refused   string
			}
			if err := json.Unmarshal(logged, &got); err != nil || got.Status != 200 {
				t.Fatalf("the page got %s (%v)", logged, err)
			}
			if a := p.check(t, got.Body); got.RequestID == "" || got.RequestID != a.MetaData.UUID {
				t.Errorf("x-request-id is %q, meta_data.uuid %q", got.RequestID, a.MetaData.UUID)
			}
			checkConsole(t, others)
		})
	}
}

// TestBrowserForeignOrigin checks that a page whose origin the server does not allow
// gets no answer.
func TestBrowserForeignOrigin(t *testing.T) {
	t.Parallel()
	pages := fetchPages(t)
	for name, args := range map[string][]string{
		"others are allowed": {"--cors-origin", "https://app.example.com"},
		"none is allowed":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, args...)
			logged, others := browse(t, pageURL(pages, "/fetch", s, "", sample), "", 3)
			var got struct{ Refused string }
			if err := json.Unmarshal(logged, &got); err != nil || got.Refused != "TypeError: Failed to fetch" {
				t.Errorf("the page got %s (%v)", logged, err)
			}
			checkConsole(t, others, "has been blocked by CORS policy", "net::ERR_FAILED")
			// The browser sent a preflight request, and was refused.
			calls := s.requested(procedure, 1)
			if len(calls) != 1 || calls[0]["method"] != "OPTIONS" {
				t.Errorf("the browser sent %v, want the preflight only", calls)
			}
			// A GET needs no preflight request, but the page cannot read the answer.
			logged, others = browse(t, pageURL(pages, "/fetch", s, "get", small), "", 3)
			if err := json.Unmarshal(logged, &got); err != nil || got.Refused != "TypeError: Failed to fetch" {
				t.Errorf("the page got %s (%v)", logged, err)
			}
			checkConsole(t, others, "has been blocked by CORS policy", "net::ERR_FAILED")
		})
	}
}

// TestBrowserHeaders checks that a page may send the allowed headers and read those of
// the answer, and that the log says which headers are not allowed.
func TestBrowserHeaders(t *testing.T) {
	t.Parallel()
	pages := fetchPages(t)
	s := start(t, "--cors-origin", pages.URL, "--cors-header", "Authorization")
	logged, others := browse(t, pageURL(pages, "/fetch", s, "", sample)+"&header=Authorization&field=min_confidence", "", 1)
	var got struct {
		Status  int
		Ignored string
		Body    json.RawMessage
		Refused string
	}
	if err := json.Unmarshal(logged, &got); err != nil || got.Status != 200 || got.Ignored != "min_confidence" {
		t.Fatalf("the page got %s (%v)", logged, err)
	}
	sample.check(t, got.Body)
	checkConsole(t, others)

	logged, others = browse(t, pageURL(pages, "/fetch", s, "", sample)+"&header=X-Tenant", "", 3)
	if err := json.Unmarshal(logged, &got); err != nil || got.Refused != "TypeError: Failed to fetch" {
		t.Errorf("the page got %s (%v)", logged, err)
	}
	checkConsole(t, others, "has been blocked by CORS policy", "net::ERR_FAILED")
	calls := requests(s.stop(), procedure)
	last := calls[len(calls)-1]
	if want := `header "x-tenant" is not allowed; to allow it, use --cors-header`; last["cors_refused"] != want {
		t.Errorf("the log has %v, want cors_refused to be %q", last, want)
	}
}

// TestBrowserGRPCWebText checks that a page whose grpc-web client was generated for
// text mode gets an error that says so.
func TestBrowserGRPCWebText(t *testing.T) {
	t.Parallel()
	nodeModule(t, "grpc-web")
	script := run(t, nil, nodeModule(t, ".bin", "esbuild"),
		"e2e/browser/grpc_web_text.js", "--bundle", "--format=esm", "--target=es2022", "--log-level=error").must(t)
	pages := site(t, map[string][]byte{"/text.js": script})
	s := start(t, "--cors-origin", pages.URL)
	logged, others := browse(t, pageURL(pages, "/text", s, ""), "", 1)
	var got struct {
		Text   struct{ Code, Message any }
		Binary struct{ Length int }
	}
	if err := json.Unmarshal(logged, &got); err != nil || got.Text.Code != 12.0 || !strings.Contains(fmt.Sprint(got.Text.Message), "mode=grpcweb instead of mode=grpcwebtext") {
		t.Errorf("the page got %s (%v)", logged, err)
	}
	if got.Binary.Length == 0 {
		t.Errorf("in binary mode, the page got %s", logged)
	}
	checkConsole(t, others)
}

func TestBrowserConnect(t *testing.T) {
	t.Parallel()
	pages := site(t, map[string][]byte{"/connect.js": bundle(t)})
	for _, test := range []struct {
		protocol string
		images   []*testImage
		// protocol of the calls in the log
		http, logged string
		// Chromium reports answers with a status of at least 400.
		console []string
	}{
		{"connect", []*testImage{sample, people}, "POST", "connect", []string{"status of 400"}},
		{"connect binary", []*testImage{sample, people}, "POST", "connect", []string{"status of 400"}},
		{"connect get", []*testImage{small}, "GET", "connect", []string{"status of 400"}},
		{"grpcweb", []*testImage{sample, people}, "POST", "grpcweb", nil},
	} {
		t.Run(test.protocol, func(t *testing.T) {
			images := present(t, test.images)
			s := start(t, "--cors-origin", pages.URL)
			logged, others := browse(t, pageURL(pages, "/connect", s, test.protocol, images...), "", 1+len(test.console))
			var got struct {
				Answers []struct {
					RequestID string
					Body      json.RawMessage
				}
				Batch  []json.RawMessage
				Models json.RawMessage
				Error  struct {
					Code, Message string
					Details       []string
				}
			}
			if err := json.Unmarshal(logged, &got); err != nil {
				t.Fatalf("the page logged %s (%v)", excerpt(logged), err)
			}
			if len(got.Answers) != len(images) {
				t.Fatalf("%d answers, want %d", len(got.Answers), len(images))
			}
			for i, p := range images {
				if a := p.check(t, got.Answers[i].Body); got.Answers[i].RequestID != a.MetaData.UUID {
					t.Errorf("x-request-id is %q, meta_data.uuid %q", got.Answers[i].RequestID, a.MetaData.UUID)
				}
			}
			seen := map[int]bool{}
			for _, body := range got.Batch {
				var a struct {
					Index *int
					Error *struct{ Reason string }
				}
				if err := json.Unmarshal(body, &a); err != nil || a.Index == nil || *a.Index > len(images) || seen[*a.Index] {
					t.Fatalf("%v: %s", err, body)
				}
				seen[*a.Index] = true
				if *a.Index < len(images) {
					images[*a.Index].check(t, body)
				} else if a.Error == nil || a.Error.Reason != "CORRUPT_IMAGE" {
					t.Errorf("the broken image of the batch: %s", body)
				}
			}
			if len(seen) != len(images)+1 {
				t.Errorf("%d answers to a batch of %d", len(seen), len(images)+1)
			}
			checkModels(t, got.Models)
			if e := got.Error; e.Code != "InvalidArgument" || e.Message == "" || !slices.Equal(e.Details, []string{"mien/CORRUPT_IMAGE"}) {
				t.Errorf("error is %+v, want InvalidArgument, mien/CORRUPT_IMAGE", e)
			}
			checkConsole(t, others, test.console...)

			calls := 0
			for _, r := range requests(s.stop(), procedure) {
				if r["method"] == "OPTIONS" {
					continue
				}
				calls++
				if strings.HasSuffix(fmt.Sprint(r["path"]), "/PredictBatch") {
					r["method"] = test.http // streams never use GET
				}
				if r["method"] != test.http || r["protocol"] != test.logged {
					t.Errorf("a call came by %v, %v; want %s, %s", r["method"], r["protocol"], test.http, test.logged)
				}
			}
			if want := len(images) + 3; calls != want {
				t.Errorf("%d calls in the log, want %d", calls, want)
			}
		})
	}
}

// bundle generates the browser's code from the contract, and bundles it with the
// libraries into one script.
func bundle(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	template := marshal(t, map[string]any{
		"version": "v2",
		"plugins": []any{map[string]any{
			"local": nodeModule(t, ".bin", "protoc-gen-es"),
			"out":   dir,
			"opt":   []string{"target=ts"},
		}},
	})
	for _, input := range []string{"proto", "e2e/proto"} {
		run(t, nil, "buf", "generate", input, "--template", string(template)).must(t)
	}
	// The generated code is not below node_modules, but imports from there.
	env := []string{"NODE_PATH=" + nodeModule(t)}
	return runEnv(t, env, nil, nodeModule(t, ".bin", "esbuild"),
		"e2e/browser/connect.ts", "--bundle", "--format=esm", "--target=es2022", "--log-level=warning", "--alias:mien="+dir).must(t)
}
