package modelstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mienproject/mien/modelstore"
)

func TestMain(m *testing.M) {
	if config, ok := os.LookupEnv(helperVariable); ok {
		os.Exit(help(config))
	}
	goleak.VerifyTestMain(m)
}

// content stands for the weights of a model.
var content = random(1, 200_000)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func pin(name string, content []byte) modelstore.File {
	sum := sha256.Sum256(content)
	return modelstore.File{Name: name, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

// publisher is a real server. Its nth request gets the nth answer, and all later ones
// get the last.
type publisher struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc
	// requests are the requested paths, with the Range header.
	requests []string
}

func publish(t *testing.T, answers ...http.HandlerFunc) *publisher {
	t.Helper()
	p := &publisher{answers: answers}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	answer := p.answers[min(len(p.requests), len(p.answers)-1)]
	p.requests = append(p.requests, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
	p.mu.Unlock()
	answer(w, r)
}

func (p *publisher) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// store returns a store with one model, "small", whose only file p publishes as
// /small.onnx.
func (p *publisher) store(t *testing.T) *modelstore.Store {
	t.Helper()
	f := pin("small.onnx", content)
	f.URL = p.URL + "/small.onnx"
	return &modelstore.Store{
		Dir:     t.TempDir(),
		Models:  []modelstore.Model{{Name: "small", Files: []modelstore.File{f}}},
		Backoff: time.Microsecond,
	}
}

// The answers of a publisher.

// whole answers with content, or with the requested range of it.
func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// rangeless answers with content and ignores the requested range.
func rangeless(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// other answers with b, and its length in the header.
func other(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b)
	}
}

// lengthless answers with b, without a length in the header.
func lengthless(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(b)
	}
}

// cut announces content, and closes the connection after n bytes of b.
func cut(b []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(b[:n])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// stall announces content, sends n bytes and then nothing until the client disconnects.
func stall(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:n])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// trickle sends a byte at a time until the client disconnects.
func trickle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	for i := range content {
		select {
		case <-time.After(time.Millisecond):
			_, _ = w.Write(content[i : i+1])
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// silent does not answer.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// endless never stops sending.
func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(content); err != nil {
			return
		}
	}
}

// partial answers with status 206, a Content-Range and b.
func partial(contentRange string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(b)
	}
}

func TestFetch(t *testing.T) {
	const (
		all  = "/small.onnx"
		rest = "/small.onnx bytes=50000-"

		// impatient is for servers that are always too slow. patient gives a working
		// one time on a busy machine.
		impatient = 30 * time.Millisecond
		patient   = time.Second
	)
	bad := bytes.Clone(content)
	bad[100]++
	half := cut(content, 50_000)
	tests := []struct {
		name    string
		answers []http.HandlerFunc
		asked   []string
		// err and message are the expected error; nil means success.
		err     error
		message string
		// window is the RateWindow; 0 means the default.
		window time.Duration
	}{
		{"ok", []http.HandlerFunc{whole}, []string{all}, nil, "", 0},
		{"of unknown length", []http.HandlerFunc{lengthless(content)}, []string{all}, nil, "", 0},
		{"500, then ok", []http.HandlerFunc{status(500), whole}, []string{all, all}, nil, "", 0},
		{"429 and 503, then ok", []http.HandlerFunc{status(429), status(503), whole}, []string{all, all, all}, nil, "", 0},
		{"cut, then resumed", []http.HandlerFunc{half, whole}, []string{all, rest}, nil, "", 0},
		{"cut with unknown length, then resumed", []http.HandlerFunc{lengthless(content[:50_000]), whole}, []string{all, rest}, nil, "", 0},
		{"cut, then 500, then resumed", []http.HandlerFunc{half, status(500), whole}, []string{all, rest, rest}, nil, "", 0},
		{
			"cut twice",
			[]http.HandlerFunc{half, partial("bytes 50000-199999/*", content[50_000:90_000]), whole},
			[]string{all, rest, "/small.onnx bytes=90000-"},
			nil, "", 0,
		},
		{"cut, no ranges", []http.HandlerFunc{half, rangeless}, []string{all, rest}, nil, "", 0},
		{"cut, then 416", []http.HandlerFunc{half, status(416), whole}, []string{all, rest, all}, nil, "", 0},
		{"cut, then another range", []http.HandlerFunc{half, partial("bytes 0-199999/200000", content), whole}, []string{all, rest, all}, nil, "", 0},
		{"cut, then a range of another file", []http.HandlerFunc{half, partial("bytes 50000-299999/300000", content[50_000:]), whole}, []string{all, rest, all}, nil, "", 0},
		{"cut, then the rest of another file", []http.HandlerFunc{cut(bad, 50_000), whole}, []string{all, rest, all}, nil, "", 0},
		{"stalled, then resumed", []http.HandlerFunc{stall(50_000), whole}, []string{all, rest}, nil, "", patient},

		{"404", []http.HandlerFunc{status(404)}, []string{all}, modelstore.ErrUnavailable, "the server answers 404 Not Found", 0},
		{"403", []http.HandlerFunc{status(403)}, []string{all}, modelstore.ErrUnavailable, "403 Forbidden", 0},
		{"204", []http.HandlerFunc{status(204)}, []string{all}, modelstore.ErrUnavailable, "204 No Content", 0},
		{"a part that nobody asked for", []http.HandlerFunc{partial("bytes 0-199999/200000", content)}, []string{all}, modelstore.ErrUnavailable, "206", 0},
		{"500 for ever", []http.HandlerFunc{status(500)}, []string{all, all, all, all}, modelstore.ErrUnavailable, `500 Internal Server Error \(tried 4 times\)`, 0},
		{"cut for ever", []http.HandlerFunc{cut(content, 0)}, []string{all, all, all, all}, modelstore.ErrUnavailable, `it ended after 0 of 200000 bytes \(tried 4 times\)`, 0},
		{
			"ends early for ever",
			[]http.HandlerFunc{lengthless(content[:50_000]), status(416), lengthless(content[:50_000])},
			[]string{all, rest, all, rest},
			modelstore.ErrUnavailable, "it ended after 50000 of 200000 bytes", 0,
		},
		{"wrong hash", []http.HandlerFunc{other(bad)}, []string{all}, modelstore.ErrMismatch, "its SHA-256 is [0-9a-f]{64}, not [0-9a-f]{64}", 0},
		{"short body", []http.HandlerFunc{other(content[:199_999])}, []string{all}, modelstore.ErrMismatch, "it has 199999 bytes, not 200000", 0},
		{"empty body", []http.HandlerFunc{other(nil)}, []string{all}, modelstore.ErrMismatch, "it has 0 bytes", 0},
		{"long body", []http.HandlerFunc{other(append(content[:200_000:200_000], 0))}, []string{all}, modelstore.ErrMismatch, "it has 200001 bytes, not 200000", 0},
		{"long body of unknown length", []http.HandlerFunc{endless}, []string{all}, modelstore.ErrMismatch, "it is longer than 200000 bytes", 0},
		{"slow trickle", []http.HandlerFunc{trickle}, nil, modelstore.ErrUnavailable, `too slow: \d+ bytes in 30ms, the minimum is 30000 \(tried 4 times\)`, impatient},
		{"stalled for ever", []http.HandlerFunc{stall(0)}, nil, modelstore.ErrUnavailable, `too slow: 0 bytes in 30ms, .*\(tried 4 times\)`, impatient},
		{"silent", []http.HandlerFunc{silent}, nil, modelstore.ErrUnavailable, `too slow: 0 bytes in 30ms, .*\(tried 4 times\)`, impatient},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := publish(t, test.answers...)
			s := p.store(t)
			s.RateWindow = test.window
			if test.window == impatient {
				s.MinRate = 1_000_000
			}
			path, err := s.Fetch(t.Context(), "small")
			if asked := p.asked(); test.asked != nil && !slices.Equal(asked, test.asked) {
				t.Errorf("asked for %q, want %q", asked, test.asked)
			}
			if test.err == nil {
				if err != nil {
					t.Fatal(err)
				}
				check(t, path, content)
				return
			}
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			for _, want := range []string{test.message, `^model "small": ` + p.URL + "/small.onnx "} {
				if !regexp.MustCompile(want).MatchString(err.Error()) {
					t.Errorf("error %q, want it to match %q", err, want)
				}
			}
			// The error has what a program needs to say which files a mirror must
			// serve.
			failure, ok := errors.AsType[*modelstore.FetchError](err)
			if !ok || failure.Model.Name != "small" || len(failure.Model.Files) != 1 || failure.Model.Files[0].Name != "small.onnx" {
				t.Errorf("the error is %+v", failure)
			}
			if _, err := os.Stat(filepath.Join(s.Dir, "small", "small.onnx")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file was left behind: %v", err)
			}
			// A working server repairs whatever was left behind.
			s.RateWindow, s.MinRate = 0, 0
			p.mu.Lock()
			p.answers = []http.HandlerFunc{whole}
			p.mu.Unlock()
			path, err = s.Fetch(t.Context(), "small")
			if err != nil {
				t.Fatal(err)
			}
			check(t, path, content)
		})
	}
}

// check fails the test unless path is a file with that content, and the only one in its
// folder.
func check(t *testing.T, path string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Errorf("%s has %d bytes that are not what was published", path, len(got))
	}
	if names := list(t, filepath.Dir(path)); !slices.Equal(names, []string{filepath.Base(path)}) {
		t.Errorf("the folder has %q", names)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// several returns a store with a model of three files, on a mirror below /models.
func several() (modelstore.Model, http.Handler) {
	contents := map[string][]byte{}
	m := modelstore.Model{Name: "several"}
	mux := http.NewServeMux()
	for i, name := range []string{"p.onnx", "r.onnx", "o.onnx"} {
		contents[name] = random(byte(10+i), 1000*(i+1))
		f := pin(name, contents[name])
		f.URL = "https://publisher.invalid/" + name
		m.Files = append(m.Files, f)
		mux.HandleFunc("/models/several/"+name, func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "mien" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(contents[name]))
		})
	}
	return m, mux
}

func TestSeveralFilesFromAMirror(t *testing.T) {
	m, mirror := several()
	p := publish(t, mirror.ServeHTTP)
	for _, path := range []string{"/models", "/models/"} {
		base, _ := url.Parse(p.URL + path)
		base.User = url.UserPassword("mien", "secret")
		var logged bytes.Buffer
		s := &modelstore.Store{Dir: t.TempDir(), Models: []modelstore.Model{m}, Mirror: base.String(), Logger: slog.New(slog.NewTextHandler(&logged, nil))}
		before := len(p.asked())
		dir, err := s.Fetch(t.Context(), "several")
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(s.Dir, "several"); dir != want {
			t.Errorf("folder %s, want %s", dir, want)
		}
		if names, want := list(t, dir), []string{"o.onnx", "p.onnx", "r.onnx"}; !slices.Equal(names, want) {
			t.Errorf("the folder has %q, want %q", names, want)
		}
		if asked, want := p.asked()[before:], []string{"/models/several/p.onnx", "/models/several/r.onnx", "/models/several/o.onnx"}; !slices.Equal(asked, want) {
			t.Errorf("asked for %q, want %q", asked, want)
		}
		if lines := strings.Count(logged.String(), "\n"); lines != 3 {
			t.Errorf("%d lines in the log, want one a file:\n%s", lines, &logged)
		}

		// Only missing files are downloaded, and a damaged file is not removed until
		// there is a replacement.
		if err := os.Remove(filepath.Join(dir, "r.onnx")); err != nil {
			t.Fatal(err)
		}
		before = len(p.asked())
		if _, err := s.Fetch(t.Context(), "several"); err != nil {
			t.Fatal(err)
		}
		if asked, want := p.asked()[before:], []string{"/models/several/r.onnx"}; !slices.Equal(asked, want) {
			t.Errorf("asked for %q, want %q", asked, want)
		}
		if strings.Contains(logged.String(), "secret") {
			t.Errorf("the log has the password:\n%s", &logged)
		}
	}

	s := &modelstore.Store{Dir: t.TempDir(), Models: []modelstore.Model{m}, Mirror: strings.Replace(p.URL, "//", "//mien:wrong@", 1) + "/models"}
	_, err := s.Fetch(t.Context(), "several")
	if !errors.Is(err, modelstore.ErrUnavailable) {
		t.Fatalf("error %v, want ErrUnavailable", err)
	}
	for _, want := range []string{p.Listener.Addr().String() + "/models/several/p.onnx", "401"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error has the password: %v", err)
	}
}

// A copy of a complete cache behind any server is a mirror.
func TestCacheServesAsMirror(t *testing.T) {
	warm := publish(t, whole).store(t)
	if _, err := warm.Fetch(t.Context(), "small"); err != nil {
		t.Fatal(err)
	}
	p := publish(t, http.FileServer(http.Dir(warm.Dir)).ServeHTTP)
	s := p.store(t)
	s.Mirror = p.URL
	path, err := s.Fetch(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	check(t, path, content)
}

func TestBadMirror(t *testing.T) {
	for _, mirror := range []string{"models.example.com", "ftp://example.com", "/srv/models", "https://", "https://me:secret@example.com:port", "https://me:secret@exa mple.com", "https://me:12/secret#@example.com", "me:secret@example.com", "https://example.com/?a=secret#b", "https://me:secret@example.com\n"} {
		s := &modelstore.Store{Dir: t.TempDir(), Mirror: mirror}
		_, err := s.Fetch(t.Context(), "yunet")
		if !errors.Is(err, modelstore.ErrUnavailable) || !strings.Contains(err.Error(), "the mirror ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("mirror %q: %v", mirror, err)
		}
	}
}

// TestSecretsOfAMirror checks that a token in the URL of a mirror, as the user or in
// the query, reaches the mirror and nothing else: no log, no error, and no server that
// it redirects to.
func TestSecretsOfAMirror(t *testing.T) {
	var referer []string
	elsewhere := publish(t, func(w http.ResponseWriter, r *http.Request) {
		referer = append(referer, r.Header.Get("Referer"), r.URL.RawQuery)
		whole(w, r)
	})
	var wrong []string
	asked := func(answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if user, _, _ := r.BasicAuth(); user != "usertoken" || r.URL.RawQuery != "sig=querytoken" {
				wrong = append(wrong, r.URL.String())
			}
			answer(w, r)
		}
	}
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/there?sig=othertoken", http.StatusFound)
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(redirect))
	t.Cleanup(secure.Close)
	fetch := func(t *testing.T, client *http.Client, base string) (string, error) {
		t.Helper()
		var logged bytes.Buffer
		s := elsewhere.store(t)
		s.Mirror = strings.Replace(base, "://", "://usertoken@", 1) + "/models?sig=querytoken"
		s.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		s.Client = client
		_, err := s.Fetch(t.Context(), "small")
		return logged.String(), err
	}
	for name, answers := range map[string][]http.HandlerFunc{
		"fetched": {asked(status(500)), asked(whole)}, "redirected": {asked(redirect)}, "refused": {asked(status(500)), asked(status(404))},
	} {
		t.Run(name, func(t *testing.T) {
			logged, err := fetch(t, nil, publish(t, answers...).URL)
			if (err != nil) != (name == "refused") {
				t.Error(err)
			}
			if told := fmt.Sprint(logged, err); strings.Contains(told, "token") || !strings.Contains(told, "/models/small/small.onnx?xxxxx") {
				t.Errorf("it tells %s", told)
			}
		})
	}
	t.Run("redirected to http", func(t *testing.T) {
		logged, err := fetch(t, secure.Client(), secure.URL)
		if told := fmt.Sprint(logged, err); err == nil || strings.Contains(told, "token") || !strings.Contains(told, elsewhere.URL+"/there?xxxxx") {
			t.Errorf("it tells %s", told)
		}
	})
	if len(wrong) > 0 {
		t.Errorf("the mirror was asked for %q", wrong)
	}
	if want := []string{"", "sig=othertoken"}; !slices.Equal(referer, want) {
		t.Errorf("the other server got %q, want %q", referer, want)
	}
}

func TestValidate(t *testing.T) {
	for mirror, good := range map[string]bool{
		"": true, "http://localhost:8000": true, "https://me:secret@example.com/a/b/?c=d": true, "http://[::1]:80/": true,
		"example.com/models": false, "/srv/models": false, "https://": false, "HTTPS//secret": false,
	} {
		err := (&modelstore.Store{Mirror: mirror}).Validate()
		if (err == nil) != good || (err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "https://"))) {
			t.Errorf("%q: %v", mirror, err)
		}
	}
}

func TestWarmCacheAsksNobody(t *testing.T) {
	p := publish(t, whole)
	s := p.store(t)
	first, err := s.Fetch(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	var logged bytes.Buffer
	s.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	second, err := s.Fetch(t.Context(), "small")
	if err != nil || second != first {
		t.Fatalf("%s, %v, want %s", second, err, first)
	}
	check(t, second, content)
	if logged.Len() > 0 {
		t.Errorf("it logs: %s", &logged)
	}
}

func TestOfflineWithAColdCache(t *testing.T) {
	p := publish(t, whole)
	s := p.store(t)
	p.Close() // now the port refuses connections
	_, err := s.Fetch(t.Context(), "small")
	if !errors.Is(err, modelstore.ErrUnavailable) {
		t.Fatalf("error %v, want ErrUnavailable", err)
	}
	for _, want := range []string{p.URL + "/small.onnx", "refused", "tried 4 times"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
}

func TestDamagedCache(t *testing.T) {
	flipped := bytes.Clone(content)
	flipped[len(flipped)-1]++
	for name, damaged := range map[string][]byte{
		"a bit": flipped, "short": content[:100], "long": append(bytes.Clone(content), 0), "empty": nil,
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, whole)
			s := p.store(t)
			path, err := s.Fetch(t.Context(), "small")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			var logged bytes.Buffer
			s.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			if path, err = s.Fetch(t.Context(), "small"); err != nil {
				t.Fatal(err)
			}
			check(t, path, content)
			if !strings.Contains(logged.String(), "level=WARN") || !strings.Contains(logged.String(), "damaged") {
				t.Errorf("the log does not tell: %s", &logged)
			}
			if n := len(p.asked()); n != 2 {
				t.Errorf("%d requests, want 2", n)
			}
			// A damaged file is not used if it cannot be replaced.
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			p.Close()
			if path, err = s.Fetch(t.Context(), "small"); !errors.Is(err, modelstore.ErrUnavailable) {
				t.Errorf("%q, %v, want ErrUnavailable", path, err)
			}
		})
	}
}

func TestLeftovers(t *testing.T) {
	tests := map[string]struct {
		partial []byte
		asked   []string
	}{
		"complete": {content, nil},
		"part":     {content[:7], []string{"/small.onnx bytes=7-"}},
		"empty":    {nil, []string{"/small.onnx"}},
		"garbage":  {random(9, 1000), []string{"/small.onnx bytes=1000-", "/small.onnx"}},
		"too long": {random(9, 300_000), []string{"/small.onnx"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := publish(t, whole)
			s := p.store(t)
			partial := filepath.Join(s.Dir, "small", "small.onnx.partial")
			if err := os.MkdirAll(filepath.Dir(partial), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(partial, test.partial, 0o644); err != nil {
				t.Fatal(err)
			}
			path, err := s.Fetch(t.Context(), "small")
			if err != nil {
				t.Fatal(err)
			}
			check(t, path, content)
			if asked := p.asked(); !slices.Equal(asked, test.asked) {
				t.Errorf("asked for %q, want %q", asked, test.asked)
			}
		})
	}
}

func TestUnknownModel(t *testing.T) {
	_, err := new(modelstore.Store).Fetch(t.Context(), "retinaface")
	if !errors.Is(err, modelstore.ErrUnknownModel) {
		t.Fatalf("error %v, want ErrUnknownModel", err)
	}
	if want := `unknown model "retinaface": those that can be fetched are yunet, yunet-s`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestKnown(t *testing.T) {
	known := modelstore.Known()
	if !slices.IsSortedFunc(known, func(a, b modelstore.Model) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
	pinned := regexp.MustCompile(`^https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/.+\.onnx$`)
	hash := regexp.MustCompile(`^[0-9a-f]{64}$`)
	for _, m := range known {
		if len(m.Files) == 0 {
			t.Errorf("%s has no files", m.Name)
		}
		for _, f := range m.Files {
			if !pinned.MatchString(f.URL) || !strings.HasSuffix(f.URL, "/"+f.Name) || !hash.MatchString(f.SHA256) || f.Size <= 0 {
				t.Errorf("%s: %+v", m.Name, f)
			}
		}
	}
}

// The pinned hashes are those of the files with which everything else is measured.
func TestKnownFiles(t *testing.T) {
	const shared = "../../shared/models"
	if _, err := os.Stat(shared); err != nil {
		t.Skip("no models to compare with: ", err)
	}
	for _, m := range modelstore.Known() {
		for _, f := range m.Files {
			path := filepath.Join(shared, f.Name)
			if len(m.Files) > 1 {
				path = filepath.Join(shared, m.Name, f.Name)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
				continue
			}
			if got := pin(f.Name, data); got.SHA256 != f.SHA256 || got.Size != f.Size {
				t.Errorf("%s: %d bytes with SHA-256 %s, pinned are %d and %s", path, got.Size, got.SHA256, f.Size, f.SHA256)
			}
		}
	}
}

func TestRedirects(t *testing.T) {
	plain := publish(t, whole)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(whole))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // errors of clients that do not trust it
	secure.StartTLS()
	t.Cleanup(secure.Close)
	var to string
	redirect := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	plainFrom := publish(t, redirect)
	secureFrom := httptest.NewTLSServer(http.HandlerFunc(redirect))
	t.Cleanup(secureFrom.Close)
	looped := publish(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })

	tests := []struct {
		name, from, to, message string
	}{
		{"http to http", plainFrom.URL, plain.URL, ""},
		{"http to https", plainFrom.URL, secure.URL, ""},
		{"https to https", secureFrom.URL, secure.URL, ""},
		{"https to http", secureFrom.URL, plain.URL, "redirected from https to http: " + plain.URL},
		{"https to a file", secureFrom.URL, "file:///etc/passwd", "redirected from https"},
		{"round and round", looped.URL, "", "10 redirects"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			to = test.to
			s := plain.store(t)
			// The client trusts the certificates of both servers.
			s.Client = secure.Client()
			s.Mirror = test.from
			_, err := s.Fetch(t.Context(), "small")
			if test.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, modelstore.ErrUnavailable) || !strings.Contains(err.Error(), test.message) {
				t.Errorf("error %v, want %q in it", err, test.message)
			}
		})
	}
	t.Run("the client's own policy", func(t *testing.T) {
		to = plain.URL
		s := plain.store(t)
		s.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("not one") }}
		s.Mirror = plainFrom.URL
		if _, err := s.Fetch(t.Context(), "small"); err == nil || !strings.Contains(err.Error(), "not one") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("to a page", func(t *testing.T) {
		page := publish(t, other([]byte("<html>log in</html>")))
		to = page.URL + "/login?secret"
		s := plain.store(t)
		s.Mirror = plainFrom.URL
		_, err := s.Fetch(t.Context(), "small")
		if want := "/small/small.onnx (redirected to " + page.URL + "/login?xxxxx) is not the file that Mien knows"; !errors.Is(err, modelstore.ErrMismatch) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	})
	t.Run("an unknown certificate", func(t *testing.T) {
		s := plain.store(t)
		s.Mirror = secure.URL
		_, err := s.Fetch(t.Context(), "small")
		if !errors.Is(err, modelstore.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "tried") {
			t.Errorf("error %v, want one about the certificate, at the first try", err)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	p := publish(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}, whole)
	started := time.Now()
	if _, err := p.store(t).Fetch(t.Context(), "small"); err != nil {
		t.Fatal(err)
	}
	if elapsed := time.Since(started); elapsed < time.Second {
		t.Errorf("tried again after %v", elapsed)
	}
}

func TestContext(t *testing.T) {
	t.Run("ended by the caller", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := publish(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			silent(w, r)
		})
		_, err := p.store(t).Fetch(ctx, "small")
		if !errors.Is(err, context.Canceled) || errors.Is(err, modelstore.ErrUnavailable) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		if n := len(p.asked()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
	t.Run("ended by Timeout", func(t *testing.T) {
		p := publish(t, silent)
		s := p.store(t)
		s.Timeout = 20 * time.Millisecond
		_, err := s.Fetch(t.Context(), "small")
		if !errors.Is(err, modelstore.ErrUnavailable) || !strings.Contains(err.Error(), "not done after 20ms") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("ended between tries", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := publish(t, status(502)).store(t)
		s.Backoff = time.Hour
		s.Logger = slog.New(slog.NewTextHandler(onWrite(func(line []byte) {
			if bytes.Contains(line, []byte("retrying")) {
				cancel()
			}
		}), nil))
		_, err := s.Fetch(ctx, "small")
		if !errors.Is(err, context.Canceled) || errors.Is(err, modelstore.ErrUnavailable) || !strings.Contains(err.Error(), "502") {
			t.Errorf("error %v, want context.Canceled and what came before", err)
		}
	})
	t.Run("ended while another process fetches", func(t *testing.T) {
		holder := publish(t, silent)
		s := holder.store(t)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { _, _ = s.Fetch(ctx, "small") })
		for len(holder.asked()) == 0 {
			time.Sleep(time.Millisecond)
		}
		waiter := *s
		waiter.Timeout = 10 * time.Millisecond
		_, err := waiter.Fetch(t.Context(), "small")
		if !errors.Is(err, modelstore.ErrUnavailable) || !strings.Contains(err.Error(), "waiting for the process that holds "+filepath.Join(s.Dir, "small.lock")) {
			t.Errorf("error %v", err)
		}
		cancel()
		group.Wait()
	})
}

type onWrite func([]byte)

func (f onWrite) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func TestGoroutinesShareOneFetch(t *testing.T) {
	p := publish(t, whole)
	s := p.store(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			path, err := s.Fetch(t.Context(), "small")
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	group.Wait()
	if n := len(p.asked()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestDefaultFolder(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the variables are Linux's")
	}
	p := publish(t, whole)
	s := p.store(t)
	s.Dir = ""
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	path, err := s.Fetch(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(cache, "mien", "models", "small", "small.onnx"); path != want {
		t.Errorf("path %s, want %s", path, want)
	}

	occupied := filepath.Join(cache, "file")
	if err := os.WriteFile(occupied, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"unset": "", "relative": "cache", "not a folder": occupied} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", value)
			t.Setenv("HOME", "")
			_, err := s.Fetch(t.Context(), "small")
			if !errors.Is(err, modelstore.ErrCache) {
				t.Fatalf("error %v, want ErrCache", err)
			}
		})
	}
}

// Other users can read what one user has downloaded.
func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has others")
	}
	s := publish(t, whole).store(t)
	path, err := s.Fetch(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{path: 0o444, filepath.Dir(path): 0o555} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got&want != want {
			t.Errorf("%s has mode %v", path, got)
		}
	}
}

func TestProgressOffATerminal(t *testing.T) {
	var buffer bytes.Buffer
	file, err := os.Create(filepath.Join(t.TempDir(), "progress"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, s := range []*modelstore.Store{publish(t, cut(content, 100), whole).store(t), publish(t, status(404)).store(t)} {
		s.Progress = &buffer
		_, _ = s.Fetch(t.Context(), "small")
		s.Dir, s.Progress = t.TempDir(), file
		_, _ = s.Fetch(t.Context(), "small")
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if buffer.Len() > 0 || info.Size() > 0 {
		t.Errorf("%d and %d bytes of progress", buffer.Len(), info.Size())
	}
}
