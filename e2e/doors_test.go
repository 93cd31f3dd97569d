package e2e

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// checkUnknownCompression fails the test unless a client shows the server's error for
// an unknown compression.
func checkUnknownCompression(t testing.TB, what, compression, code, message string) {
	t.Helper()
	if strings.ToUpper(code) != "UNIMPLEMENTED" || !strings.Contains(message, `"`+compression+`"`) || !strings.Contains(message, "gzip") {
		t.Errorf("%s, %s: %s, %q; want UNIMPLEMENTED, and what is supported", what, compression, code, message)
	}
}

// contract writes the contract as a FileDescriptorSet, and returns the path of the
// file.
func contract(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "contract.binpb")
	run(t, nil, "buf", "build", "proto", "--as-file-descriptor-set", "-o", file).must(t)
	return file
}

// TestStreamOverHTTP1 checks that a client which calls PredictStream over HTTP/1.1
// shows the reason of the failure.
func TestStreamOverHTTP1(t *testing.T) {
	t.Parallel()
	s := start(t)
	nodeModule(t, "@connectrpc", "connect-node")
	out := run(t, nil, "node", filepath.Join(root, "e2e", "node", "stream_http1.mjs"), s.url, contract(t)).must(t)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %s", len(lines), out)
	}
	for _, line := range lines {
		var call struct{ Client, Code, Message string }
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if call.Code != "Unimplemented" || !strings.Contains(call.Message, "PredictStream needs HTTP/2") || !strings.Contains(call.Message, "PredictBatch") {
			t.Errorf("%s", line)
		}
	}
}

// TestCurlHints checks that the error for a request with a wrong option of curl names
// the right option.
func TestCurlHints(t *testing.T) {
	t.Parallel()
	s := start(t)
	jpeg := temp(t, "photo.jpg", sample.load(t))
	png := temp(t, "photo.png", tiles(t, 300))
	gzipped := temp(t, "photo.jpg.gz", run(t, sample.load(t), "gzip", "-c").must(t))
	base64 := temp(t, "image.json", []byte(`{"rawData": "`+string(run(t, sample.load(t), "base64").must(t))+`"}`))
	for name, test := range map[string]struct {
		args   []string
		status int
		told   string
	}{
		"-d @photo.jpg":              {[]string{"-d", "@" + jpeg}, 400, "--data-binary @photo.jpg"},
		"-d @photo.png":              {[]string{"-d", "@" + png}, 415, "--data-binary @photo.jpg"},
		"-d photo.jpg":               {[]string{"-d", "photo.jpg"}, 415, `the text "photo.jpg": to send a file with curl, put an @ before its name, as in --data-binary @photo.jpg`},
		"--data-binary photo.jpg":    {[]string{"--data-binary", "photo.jpg"}, 415, `the text "photo.jpg"`},
		"-F image=photo.jpg":         {[]string{"-F", "image=photo.jpg"}, 415, `the text "photo.jpg": to send a file with curl, put an @ before its name, as in -F image=@photo.jpg`},
		"-F min_confidence=2":        {[]string{"-F", "image=@" + jpeg, "-F", "min_confidence=2"}, 400, "min_confidence is 2; allowed is a number from 0 to 1"},
		"--data-binary @photo.jpg":   {[]string{"--data-binary", "@" + jpeg}, 200, `"confidence"`},
		"-T photo.jpg":               {[]string{"-T", jpeg}, 200, `"confidence"`},
		"-F image=@photo.jpg":        {[]string{"-F", "image=@" + jpeg}, 200, `"confidence"`},
		"gzip":                       {[]string{"--data-binary", "@" + gzipped, "-H", "Content-Encoding: gzip"}, 200, `"confidence"`},
		"br":                         {[]string{"--data-binary", "@" + gzipped, "-H", "Content-Encoding: br"}, 415, "allowed are gzip and identity"},
		"the RPC, without JSON":      {[]string{"--data-binary", "@" + jpeg}, 415, "use /predict: curl -T photo.jpg"},
		"the RPC, lines from base64": {[]string{"-H", "Content-Type: application/json", "--data-binary", "@" + base64}, 200, `"confidence"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/predict"
			if strings.HasPrefix(name, "the RPC") {
				path = procedure + "Predict"
			}
			r := curl(t, nil, append(test.args, s.url+path)...)
			if text := strings.ReplaceAll(string(r.body), `\"`, `"`); r.status != test.status || !strings.Contains(text, test.told) {
				t.Errorf("%d: %s; want %d, %q", r.status, excerpt(r.body), test.status, test.told)
			}
		})
	}
}

// TestUnknownCompression checks that clients which use an unknown compression show the
// server's UNIMPLEMENTED. gRPC's own libraries show INTERNAL if the headers of the
// answer are not as they expect.
func TestUnknownCompression(t *testing.T) {
	t.Parallel()
	s := start(t)
	file := temp(t, sample.name, sample.load(t))
	t.Run("Python", func(t *testing.T) {
		modules := stubs(t)
		out := predictPy(t, modules, "--compression", "deflate", s.addr, file, file)
		if len(out) != 2 {
			t.Fatalf("%d outcomes, want 2", len(out))
		}
		for _, o := range out { // the channel goes on
			if o.Error == nil {
				t.Fatalf("deflate was answered: %s", o.Answer)
			}
			checkUnknownCompression(t, "grpcio", "deflate", o.Error.Code, o.Error.Message)
		}
		out = predictPy(t, modules, "--compression", "gzip", s.addr, file)
		if len(out) != 1 || out[0].Answer == nil {
			t.Fatalf("gzip: %+v", out)
		}
		sample.check(t, out[0].Answer)
	})
	t.Run("Node.js", func(t *testing.T) {
		nodeModule(t, "@grpc", "grpc-js")
		contract := contract(t)
		out := run(t, nil, "node", filepath.Join(root, "e2e", "node", "compression.mjs"), s.url, contract, file).must(t)
		seen := map[string]int{}
		for line := range bytes.Lines(out) {
			var call struct {
				Client, Compression, Procedure, Code, Message string
				Faces                                         *int
			}
			if err := json.Unmarshal(line, &call); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			seen[call.Client]++
			what := call.Client + ", " + call.Procedure
			if call.Compression != "gzip" {
				checkUnknownCompression(t, what, call.Compression, call.Code, call.Message)
			} else if call.Faces == nil || *call.Faces != len(sample.centers) {
				t.Errorf("%s, gzip: %s", what, line)
			}
		}
		for client, calls := range map[string]int{"connect": 6, "connect JSON": 6, "connect over HTTP/1.1": 6, "grpc": 6, "grpcweb": 6, "grpc-js": 2} {
			if seen[client] != calls {
				t.Errorf("%d calls by %s, want %d", seen[client], client, calls)
			}
		}
	})
	t.Run("Java", func(t *testing.T) {
		jars := filepath.Join(root, "e2e", "java", "jars")
		if files, err := filepath.Glob(filepath.Join(jars, "grpc-core-*.jar")); err != nil || len(files) == 0 {
			t.Fatalf("grpc-java is missing: `make test` in %s installs it (%v)", root, err)
		}
		request := temp(t, "request.binpb", convert(t, "Image", "json", "binpb", sample.request(t)))
		out := run(t, nil, "java", "-cp", filepath.Join(jars, "*"), filepath.Join(root, "e2e", "java", "Compression.java"), s.addr, request).must(t)
		calls := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(calls) != 3 {
			t.Fatalf("%d calls, want 3: %s", len(calls), out)
		}
		for i, compression := range []string{"deflate", "gzip", "identity"} {
			call := strings.Split(calls[i], "\t")
			if len(call) != 3 || call[0] != compression {
				t.Fatalf("call %d: %q", i, call)
			}
			if compression == "deflate" {
				checkUnknownCompression(t, "grpc-java", compression, call[1], call[2])
			} else if n, err := strconv.Atoi(call[2]); call[1] != "OK" || err != nil || n < 100 {
				t.Errorf("%q", call)
			}
		}
	})
}
