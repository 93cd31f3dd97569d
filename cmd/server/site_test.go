package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	neturl "net/url"
	"strings"
	"testing"

	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// browse sends a request and returns the status and the body. A header Host is that of the
// request.
func browse(t *testing.T, version int, method, url string, header http.Header, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Host = header.Get("Host")
	res, err := httpClient(t, version, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc") {
		return res.StatusCode, res.Trailer.Get("Grpc-Status") + res.Header.Get("Grpc-Status") + " " + res.Trailer.Get("Grpc-Message") + res.Header.Get("Grpc-Message")
	}
	return res.StatusCode, string(text)
}

// TestCrossSite checks which requests that browsers send for pages are served: those of the
// server's own page and of allowed origins, at each door, and those of others only if they
// cost nothing.
func TestCrossSite(t *testing.T) {
	closed := start(t, patient...)
	exact := start(t, append(patient, "--cors-origin", "https://app.example.com")...)
	wildcard := start(t, append(patient, "--cors-origin", "https://*.example.com")...)
	all := start(t, append(patient, "--cors-origin", "*")...)

	message, err := json.Marshal(map[string]any{"rawData": tinyImage().GetRawData(), "width": 40, "height": 40, "pixelFormat": "PIXEL_FORMAT_GRAY8"})
	if err != nil {
		t.Fatal(err)
	}
	query := neturl.Values{"connect": {"v1"}, "encoding": {"json"}, "message": {string(message)}}.Encode()
	sample := readFile(t, samplePath)
	costly := map[string]func(server, http.Header) (int, string){
		"Predict": func(s server, h http.Header) (int, string) {
			h.Set("Content-Type", "application/json")
			return browse(t, 1, "POST", s.url+inferencev1connect.InferencePredictProcedure, h, message)
		},
		"Predict by GET": func(s server, h http.Header) (int, string) {
			return browse(t, 1, "GET", s.url+inferencev1connect.InferencePredictProcedure+"?"+query, h, nil)
		},
		"gRPC-Web": func(s server, h http.Header) (int, string) {
			h.Set("Content-Type", "application/grpc-web+proto")
			status, text := browse(t, 2, "POST", s.url+"/Inference/Predict", h, envelope(0, marshalFor("proto", tinyImage())))
			if strings.HasPrefix(text, "7 ") { // PERMISSION_DENIED
				status = 403
			}
			return status, text
		},
		"ModelInfer": func(s server, h http.Header) (int, string) {
			h.Set("Content-Type", "application/json")
			return browse(t, 1, "POST", s.url+inferenceconnect.GRPCInferenceServiceModelInferProcedure, h, marshalFor("json", modelInfer("", sample)))
		},
		"infer": func(s server, h http.Header) (int, string) {
			h.Set("Content-Type", "text/plain")
			return browse(t, 1, "POST", s.url+"/v2/models/mtcnn/infer", h, infer("", "", "", false, sample).body)
		},
		// What a form of a page can send without asking.
		"form": func(s server, h http.Header) (int, string) {
			h.Set("Content-Type", "text/plain")
			return browse(t, 1, "POST", s.url+"/predict", h, sample)
		},
	}
	for _, c := range []struct {
		name   string
		header []string
		// ok says which servers accept it: c(losed), e(xact), w(ildcard), a(ll).
		ok string
	}{
		{"no browser", nil, "cewa"},
		{"its own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://faces.test"}, "cewa"},
		{"the address bar", []string{"Sec-Fetch-Site", "none"}, "cewa"},
		{"an allowed page", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com"}, "ewa"},
		{"another page of the domain", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://x.example.com"}, "wa"},
		{"a page of another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, "a"},
		{"a page of the same site", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.example"}, "a"},
		{"a sandbox", []string{"Sec-Fetch-Site", "cross-site", "Origin", "null"}, "a"},
		{"an image, link or form without an origin", []string{"Sec-Fetch-Site", "cross-site"}, "a"},
		{"an old browser", []string{"Origin", "https://evil.example"}, "a"},
		{"an old browser, allowed", []string{"Origin", "https://app.example.com"}, "ewa"},
	} {
		for letter, s := range map[string]server{"c": closed, "e": exact, "w": wildcard, "a": all} {
			for door, call := range costly {
				t.Run(c.name+"/"+door+"/"+letter, func(t *testing.T) {
					header := http.Header{}
					for i := 0; i < len(c.header); i += 2 {
						header.Set(c.header[i], c.header[i+1])
					}
					status, text := call(s, header)
					want := 200
					if !strings.Contains(c.ok, letter) {
						want = 403
					}
					if status != want {
						t.Errorf("status %d, want %d: %s", status, want, text)
					}
					if want == 403 && !strings.Contains(text, "--cors-origin") {
						t.Errorf("%s does not name the flag", text)
					}
				})
			}
			for _, path := range []string{"/", "/openapi.yaml", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/page/page.css"} {
				header := http.Header{}
				for i := 0; i < len(c.header); i += 2 {
					header.Set(c.header[i], c.header[i+1])
				}
				if status, text := browse(t, 1, "GET", s.url+path, header, nil); status != 200 {
					t.Errorf("%s, %s: %d: %s", path, c.name, status, text)
				}
			}
		}
	}
	_, log := closed.stop()
	if !strings.Contains(log, `"reason":"PERMISSION_DENIED"`) {
		t.Error("the reason is not in the log")
	}
}

// TestHostNames checks which host names are accepted, by the address of the listener.
func TestHostNames(t *testing.T) {
	named := []string{"--allowed-host", "faces.example.com", "--allowed-host", "*.example.org", "--allowed-host", "10.1.2.3"}
	local := start(t, "--admin-listen", "127.0.0.1:0")
	localNamed := start(t, append(named, "--admin-listen", "127.0.0.1:0")...)
	everywhere := start(t, "--listen", ":0", "--admin-listen", ":0")
	everywhereNamed := start(t, append(named, "--listen", ":0", "--admin-listen", ":0")...)
	free := start(t, "--allowed-host", "*")
	servers := map[string]server{"l": local, "L": localNamed, "e": everywhere, "E": everywhereNamed, "f": free}

	for _, c := range []struct {
		host string
		ok   string // the servers that accept it
	}{
		{"localhost", "lLeEf"},
		{"localhost:8080", "lLeEf"},
		{"LocalHost.", "lLeEf"},
		{"mien.localhost:1", "lLeEf"},
		{"127.0.0.1:8080", "lLeEf"},
		{"127.8.9.1", "lLeEf"},
		{"[::1]:8080", "lLeEf"},
		{"[::1]", "lLeEf"},
		{"evil.example", "ef"},
		{"evil.example:8080", "ef"},
		{"localhost.evil.example", "ef"},
		{"127.0.0.1.evil.example", "ef"},
		{"192.168.1.5:8080", "ef"},
		{"0.0.0.0:8080", "ef"},
		{"faces.example.com", "LeEf"},
		{"FACES.example.com:443", "LeEf"},
		{"x.faces.example.com", "ef"},
		{"a.b.example.org", "LeEf"},
		{"example.org", "ef"},
		{"10.1.2.3:80", "LeEf"},
	} {
		for letter, s := range servers {
			want := 200
			if !strings.Contains(c.ok, letter) {
				want = 403
			}
			url := s.last
			header := http.Header{"Host": {c.host}}
			for _, version := range []int{1, 2} {
				for _, path := range []string{"/", "/openapi.yaml", "/livez"} {
					status, text := browse(t, version, "GET", url+path, header, nil)
					if path == "/livez" { // probes may use any name
						if status != 200 {
							t.Errorf("%s with %s at %s: %d", path, c.host, letter, status)
						}
						continue
					}
					if status != want || (want == 403 && !strings.Contains(text, "--allowed-host")) {
						t.Errorf("%s with %s at %s over HTTP/%d: %d, want %d: %.200s", path, c.host, letter, version, status, want, text)
					}
				}
			}
			grpcHeader := header.Clone()
			grpcHeader.Set("Content-Type", "application/grpc")
			grpcHeader.Set("Te", "trailers")
			_, text := browse(t, 2, "POST", url+inferencev1connect.InferenceListModelsProcedure, grpcHeader, envelope(0, marshalFor("proto", &inferencev1.ListModelsRequest{})))
			if wantStatus := map[int]string{200: "0 ", 403: "7 "}[want]; !strings.HasPrefix(text, wantStatus) {
				t.Errorf("gRPC with %s at %s: %q", c.host, letter, text)
			}
			if s.admin != "" {
				if status, _ := browse(t, 1, "GET", s.admin+"/metrics", header, nil); status != want {
					t.Errorf("/metrics with %s at %s: %d, want %d", c.host, letter, status, want)
				}
			}
		}
	}
	// A page of another site may not start a profile, which costs time.
	if status, _ := browse(t, 1, "GET", local.admin+"/debug/pprof/profile?seconds=30", http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil); status != 403 {
		t.Errorf("profile: %d", status)
	}
	if status, _ := browse(t, 1, "GET", local.admin+"/debug/pprof/", http.Header{"Sec-Fetch-Site": {"none"}}, nil); status != 200 {
		t.Errorf("profiles: %d", status)
	}
}
