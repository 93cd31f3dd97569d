package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A response is a response that curl received.
type response struct {
	status    int
	http      string // "1.1" or "2"
	mediaType string
	requestID string
	body      []byte
}

// curl sends body, which arguments may name as @-, and returns the response.
func curl(t testing.TB, body []byte, args ...string) response {
	t.Helper()
	file := filepath.Join(t.TempDir(), "body")
	r := run(t, body, "curl", append([]string{
		"--silent", "--show-error", "--max-time", "60", "--output", file,
		"--write-out", `%{http_code}\n%{http_version}\n%{content_type}\n%header{x-request-id}`,
	}, args...)...)
	lines := strings.Split(string(r.must(t)), "\n")
	if len(lines) != 4 {
		t.Fatalf("curl wrote %q", lines)
	}
	status, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) { // missing if the answer is empty
		t.Fatal(err)
	}
	return response{status, lines[1], lines[2], lines[3], data}
}

// want fails the test unless the response has that status and media type.
func (r response) want(t testing.TB, status int, mediaType string) response {
	t.Helper()
	if r.status != status || r.mediaType != mediaType {
		t.Fatalf("the answer is %d, %s; want %d, %s\n%s", r.status, r.mediaType, status, mediaType, excerpt(r.body))
	}
	return r
}

var asJSON = []string{"--header", "Content-Type: application/json", "--data-binary", "@-"}

func TestCurlJSON(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, p := range []*testImage{sample, people} {
		for http, flag := range map[string]string{"1.1": "--http1.1", "2": "--http2-prior-knowledge"} {
			t.Run(p.name+" over HTTP "+http, func(t *testing.T) {
				r := curl(t, p.request(t), append(asJSON, flag, s.url+procedure+"Predict")...)
				a := p.check(t, r.want(t, 200, "application/json").body)
				if r.http != http {
					t.Errorf("HTTP version is %s", r.http)
				}
				if r.requestID != a.MetaData.UUID {
					t.Errorf("x-request-id is %q, meta_data.uuid %q", r.requestID, a.MetaData.UUID)
				}
			})
		}
	}
	t.Run("gzip", func(t *testing.T) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(sample.request(t)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		r := curl(t, packed.Bytes(), append(asJSON, "--header", "Content-Encoding: gzip", s.url+procedure+"Predict")...)
		sample.check(t, r.want(t, 200, "application/json").body)
	})
	t.Run("defaults are spelled out", func(t *testing.T) {
		// A white image without a face.
		request := marshal(t, map[string]any{
			"rawData": bytes.Repeat([]byte{0xff}, 64*64), "width": 64, "height": 64, "pixelFormat": "PIXEL_FORMAT_GRAY8",
		})
		r := curl(t, request, append(asJSON, s.url+procedure+"Predict")...).want(t, 200, "application/json")
		var a map[string]any
		if err := json.Unmarshal(r.body, &a); err != nil {
			t.Fatal(err)
		}
		if faces, ok := a["results"].([]any); !ok || len(faces) != 0 {
			t.Errorf("results are %v, want an empty array", a["results"])
		}
		if id, ok := a["imageId"].(string); !ok || id != "" {
			t.Errorf("imageId is %v, want an empty string", a["imageId"])
		}
	})
}

func TestCurlProto(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, p := range []*testImage{sample, people} {
		t.Run(p.name, func(t *testing.T) {
			request := convert(t, "Image", "json", "binpb", p.request(t))
			r := curl(t, request, "--header", "Content-Type: application/proto", "--data-binary", "@-", s.url+procedure+"Predict")
			r.want(t, 200, "application/proto")
			p.check(t, convert(t, "InferResults", "binpb", "json", r.body))
		})
	}
}

func TestCurlGet(t *testing.T) {
	t.Parallel()
	s := start(t)
	// --get with --data-urlencode puts the content of a file into the query of the URL.
	get := func(t testing.TB, message, query string) response {
		t.Helper()
		return curl(t, nil, "--get", "--data-urlencode", "message@"+temp(t, "message", []byte(message)),
			s.url+procedure+"Predict?connect=v1&"+query)
	}
	t.Run("json", func(t *testing.T) {
		r := get(t, string(small.request(t)), "encoding=json")
		small.check(t, r.want(t, 200, "application/json").body)
	})
	t.Run("proto", func(t *testing.T) {
		request := convert(t, "Image", "json", "binpb", small.request(t))
		r := get(t, base64.RawURLEncoding.EncodeToString(request), "encoding=proto&base64=1")
		small.check(t, convert(t, "InferResults", "binpb", "json", r.want(t, 200, "application/proto").body))
	})
	t.Run("ListModels", func(t *testing.T) {
		r := curl(t, nil, "--get", "--data-urlencode", "message={}", s.url+procedure+"ListModels?connect=v1&encoding=json")
		checkModels(t, r.want(t, 200, "application/json").body)
	})
	t.Run("error", func(t *testing.T) {
		r := get(t, string(broken), "encoding=json")
		checkError(t, r.want(t, 400, "application/json").body, "invalid_argument", "CORRUPT_IMAGE")
	})
	calls := requests(s.stop(), procedure)
	if len(calls) != 4 {
		t.Errorf("%d calls in the log, want 4", len(calls))
	}
	for _, r := range calls {
		if r["method"] != "GET" {
			t.Errorf("a call came by %v", r["method"])
		}
	}
	// The log must not contain an image from the URL.
	for _, line := range s.lines() {
		if strings.Contains(line.text, "message=") || strings.Contains(line.text, "connect=v1") {
			t.Errorf("the log has the query of a URL: %s", line.text)
		}
	}
}

func TestCurlErrors(t *testing.T) {
	t.Parallel()
	s := start(t, "--max-image-bytes", "50000")
	for name, test := range map[string]struct {
		body         []byte
		status       int
		code, reason string
	}{
		"broken image":  {broken, 400, "invalid_argument", "CORRUPT_IMAGE"},
		"no image":      {[]byte(`{}`), 400, "invalid_argument", "EMPTY_IMAGE"},
		"no format":     {[]byte(`{"rawData": "TWllbg=="}`), 400, "invalid_argument", "UNSUPPORTED_FORMAT"},
		"wrong option":  {[]byte(`{"rawData": "TWllbg==", "options": {"minConfidence": 2}}`), 400, "invalid_argument", "INVALID_OPTIONS"},
		"unknown model": {[]byte(`{"rawData": "TWllbg==", "options": {"model": "none"}}`), 404, "not_found", "UNKNOWN_MODEL"},
		// The image is over the limit, but the message is not.
		"large image": {sample.request(t), 429, "resource_exhausted", "TOO_MANY_BYTES"},
		// The message is over the limit.
		"large body": {marshal(t, map[string]any{"rawData": make([]byte, 200_000)}), 429, "resource_exhausted", "TOO_MANY_BYTES"},
		// For such a large body, curl sends Expect: 100-continue.
		"huge body": {marshal(t, map[string]any{"rawData": make([]byte, 4<<20)}), 429, "resource_exhausted", "TOO_MANY_BYTES"},
	} {
		t.Run(name, func(t *testing.T) {
			r := curl(t, test.body, append(asJSON, "--http1.1", s.url+procedure+"Predict")...)
			e := checkError(t, r.want(t, test.status, "application/json").body, test.code, test.reason)
			if len(e.Details) == 0 || e.Details[0].Debug.Reason != test.reason {
				t.Errorf("details are %+v, want the reason to be legible in debug", e.Details)
			}
		})
	}
	t.Run("no JSON", func(t *testing.T) {
		r := curl(t, []byte(`{"rawData": `), append(asJSON, s.url+procedure+"Predict")...).want(t, 400, "application/json")
		var e connectError
		if err := json.Unmarshal(r.body, &e); err != nil || e.Code != "invalid_argument" {
			t.Errorf("error %+v (%v), want invalid_argument", e, err)
		}
	})
	t.Run("no such method", func(t *testing.T) {
		if r := curl(t, []byte("{}"), append(asJSON, s.url+procedure+"Guess")...); r.status != 404 {
			t.Errorf("status is %d, want 404", r.status)
		}
	})
}

func TestCurlProbes(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, path := range []string{"/livez", "/readyz"} {
		r := curl(t, nil, s.url+path).want(t, 200, "text/plain; charset=utf-8")
		if string(r.body) != "ok\n" {
			t.Errorf("%s says %q", path, r.body)
		}
	}
	if r := curl(t, nil, s.url+"/nothing"); r.status != 404 {
		t.Errorf("/nothing: status is %d, want 404", r.status)
	}
}
