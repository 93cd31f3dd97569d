package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/internal/version"
	"github.com/mienproject/mien/service"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if os.Getenv(asConformance) != "" {
		serveConformance()
	}
	if os.Getenv(asBare) != "" {
		serveBare()
	}
	goleak.VerifyTestMain(m)
}

// server is the whole program, running.
type server struct {
	// url is the first address, and last the last one. admin is the address for operators, or "" if there is
	// none.
	url, last, admin string
	// stop interrupts the program, and returns its exit code and log.
	stop func() (int, string)
}

// start runs the program with args on a free port, and stops it at the end of the test.
func start(t *testing.T, args ...string) server {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"--listen", "127.0.0.1:0", "--admin-listen", "", "--log-format", "json"}, args...), io.Discard, write)
		_ = write.Close()
	}()
	var (
		mu  sync.Mutex
		log strings.Builder
	)
	ready, read2 := make(chan server, 1), make(chan struct{})
	go func() {
		defer close(read2)
		var s server
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			mu.Lock()
			fmt.Fprintln(&log, lines.Text())
			mu.Unlock()
			var line struct{ Msg, URL, Metrics string }
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				continue
			}
			switch line.Msg {
			case "listening":
				s.url, s.last = cmp.Or(s.url, line.URL), line.URL
			case "admin":
				s.admin = strings.TrimSuffix(line.Metrics, "/metrics")
			case "ready":
				ready <- s
			}
		}
	}()
	stop := sync.OnceValues(func() (int, string) {
		cancel()
		c := <-code
		<-read2
		return c, log.String()
	})
	t.Cleanup(func() { stop() })
	select {
	case s := <-ready:
		s.stop = stop
		return s
	case <-read2:
		mu.Lock()
		defer mu.Unlock()
		t.Fatalf("did not start:\n%s", log.String())
		panic("unreachable")
	}
}

// certificate writes a key pair for 127.0.0.1, and returns the files and a pool that
// trusts them.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mien test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER), pool
}

// httpClient returns a client that uses only one version of HTTP.
func httpClient(t testing.TB, version int, pool *x509.CertPool) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	switch {
	case version == 1:
		p.SetHTTP1(true)
	case pool != nil:
		p.SetHTTP2(true)
	default:
		p.SetUnencryptedHTTP2(true)
	}
	transport := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

const samplePath = "../../service/selftest/sample.jpg"

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestProtocols checks that the answer is the same over every protocol × codec ×
// compression × HTTP version × TLS.
func TestProtocols(t *testing.T) {
	cert, key, pool := certificate(t)
	plain, secure := start(t, patient...), start(t, append(patient, "--tls-cert", cert, "--tls-key", key)...)
	if !strings.HasPrefix(plain.url, "http://") || !strings.HasPrefix(secure.url, "https://") {
		t.Fatalf("%s, %s", plain.url, secure.url)
	}
	sample := readFile(t, samplePath)
	var want string // the answer, which must be the same for all

	for _, c := range []struct {
		name string
		opts []connect.ClientOption
		http int // the only HTTP version that it supports; 0 for all
	}{
		{"connect", nil, 0},
		{"grpc", []connect.ClientOption{connect.WithGRPC()}, 2},
		{"grpc-web", []connect.ClientOption{connect.WithGRPCWeb()}, 0},
	} {
		for codec, codecOpts := range map[string][]connect.ClientOption{
			"proto": nil,
			"json":  {connect.WithProtoJSON()},
		} {
			for compression, compressionOpts := range map[string][]connect.ClientOption{
				"identity": {connect.WithAcceptCompression("gzip", nil, nil)},
				"gzip":     {connect.WithSendGzip()},
			} {
				for _, version := range []int{1, 2} {
					if c.http != 0 && c.http != version {
						continue
					}
					for _, s := range []struct {
						name string
						server
						pool *x509.CertPool
					}{{"cleartext", plain, nil}, {"tls", secure, pool}} {
						t.Run(fmt.Sprintf("%s/%s/%s/HTTP%d/%s", c.name, codec, compression, version, s.name), func(t *testing.T) {
							opts := append(append(append([]connect.ClientOption{}, c.opts...), codecOpts...), compressionOpts...)
							client := inferencev1connect.NewInferenceClient(httpClient(t, version, s.pool), s.url, opts...)
							got := assertProtocol(t, client, sample)
							if want == "" {
								want = got
							}
							if got != want {
								t.Errorf("found %s, another way in found %s", got, want)
							}
						})
					}
				}
			}
		}
	}
	if !strings.Contains(want, "up_left") {
		t.Errorf("nothing was compared: %q", want)
	}
}

// assertProtocol checks everything that a client may expect, and returns the faces that
// it received.
func assertProtocol(t *testing.T, client inferencev1connect.InferenceClient, sample []byte) string {
	t.Helper()
	ctx, info := connect.NewClientContext(t.Context())
	res, err := client.Predict(ctx, &inferencev1.Image{RawData: sample, ImageId: "sample"})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.GetResults()) != 1 || res.GetImageId() != "sample" || res.GetWidth() != 320 || res.GetHeight() != 400 || res.GetModel() != defaultModels()[0] {
		t.Fatalf("%v", res)
	}
	found := res.GetResults()[0]
	if iou := face.IoU(box(found), face.Box{MinX: 60, MinY: 85, MaxX: 254, MaxY: 339}); iou < 0.8 {
		t.Errorf("box %v, IoU %.2f", found.GetBox(), iou)
	}
	if c := found.GetConfidence(); c <= 0.9 || c > 1 {
		t.Errorf("confidence %v", c)
	}
	if l := found.GetLandmarks(); l.GetLeftEye().GetX() >= l.GetRightEye().GetX() || l.GetMouthLeft().GetX() >= l.GetMouthRight().GetX() ||
		l.GetNose().GetY() <= l.GetLeftEye().GetY() || l.GetMouthLeft().GetY() <= l.GetNose().GetY() {
		t.Errorf("landmarks %v", l)
	}
	if id := info.ResponseHeader().Get("X-Request-Id"); id == "" || id != res.GetMetaData().GetUuid() {
		t.Errorf("request id %q in the header, %q in the meta data", id, res.GetMetaData().GetUuid())
	}

	// An image without faces is not an error.
	res, err = client.Predict(t.Context(), &inferencev1.Image{
		RawData: make([]byte, 100*80), Width: 100, Height: 80, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
	})
	if err != nil || len(res.GetResults()) != 0 || res.GetWidth() != 100 || res.GetHeight() != 80 {
		t.Errorf("no face: %v, %v", res, err)
	}

	_, err = client.Predict(t.Context(), &inferencev1.Image{RawData: sample[:1000]})
	if code, reason := reasonOf(t, err); code != connect.CodeInvalidArgument || reason != "CORRUPT_IMAGE" {
		t.Errorf("a broken image: %v", err)
	}

	models, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{})
	if err != nil || len(models.GetModels()) != 2 || models.GetModels()[0].GetName() != "mtcnn" || !models.GetModels()[0].GetDefault() || models.GetModels()[1].GetName() != "pigo" {
		t.Errorf("models: %v, %v", models, err)
	}
	return found.String()
}

func box(r *inferencev1.Result) face.Box {
	b := r.GetBox()
	return face.Box{
		MinX: float64(b.GetUpLeft().GetX()), MinY: float64(b.GetUpLeft().GetY()),
		MaxX: float64(b.GetLowerRight().GetX()), MaxY: float64(b.GetLowerRight().GetY()),
	}
}

func reasonOf(t testing.TB, err error) (connect.Code, string) {
	t.Helper()
	var ce *connect.Error
	if !errors.As(err, &ce) {
		t.Fatalf("no Connect error: %v", err)
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*errdetails.ErrorInfo); ok {
				return ce.Code(), info.GetReason()
			}
		}
	}
	return ce.Code(), ""
}

func grpcClient(t testing.TB, url string) inferencev1connect.InferenceClient {
	t.Helper()
	return inferencev1connect.NewInferenceClient(httpClient(t, 2, nil), url, connect.WithGRPC())
}

// fourPeople has the faces in the image of the old system, measured by hand, from left
// to right.
var fourPeople = []face.Box{
	{MinX: 160, MinY: 108, MaxX: 209, MaxY: 168},
	{MinX: 294, MinY: 84, MaxX: 343, MaxY: 146},
	{MinX: 426, MinY: 82, MaxX: 470, MaxY: 138},
	{MinX: 575, MinY: 75, MaxX: 623, MaxY: 136},
}

// TestPeople checks that the four people in the image of the old system are found, and
// nothing else.
func TestPeople(t *testing.T) {
	s := start(t, patient...)
	data := readFile(t, facetest.Path(t, "peoples.jpg"))
	res, err := grpcClient(t, s.url).Predict(t.Context(), &inferencev1.Image{RawData: data})
	if err != nil {
		t.Fatal(err)
	}
	assertFaces(t, res, fourPeople, 0.6)
	for _, r := range res.GetResults() {
		if r.GetLandmarks() == nil || r.GetConfidence() < 0.5 {
			t.Errorf("%v", r)
		}
	}
}

// assertFaces checks that there is a face at each expected position, and no other face.
func assertFaces(t testing.TB, res *inferencev1.InferResults, want []face.Box, least float64) {
	t.Helper()
	if len(res.GetResults()) != len(want) {
		t.Errorf("%d faces, want %d: %v", len(res.GetResults()), len(want), res.GetResults())
	}
	for _, w := range want {
		best := 0.0
		for _, r := range res.GetResults() {
			best = max(best, face.IoU(box(r), w))
		}
		if best < least {
			t.Errorf("no face at %v: best IoU %.2f", w, best)
		}
	}
}

// TestOrientations checks that a photograph in the eight EXIF orientations has the same
// faces in upright coordinates.
func TestOrientations(t *testing.T) {
	s := start(t, patient...)
	client := grpcClient(t, s.url)
	var want []face.Box
	photos := facetest.Subset(t, "exif")
	if len(photos) != 8 {
		t.Fatalf("%d photographs", len(photos))
	}
	for _, p := range photos {
		res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: readFile(t, p.Path)})
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			for _, r := range res.GetResults() {
				want = append(want, box(r))
			}
			if len(want) != 3 {
				t.Fatalf("%s: %v", p.Path, res.GetResults())
			}
		}
		t.Run(filepath.Base(p.Path), func(t *testing.T) { assertFaces(t, res, want, 0.85) })
	}
}

// patient are flags for tests of large images, which the race detector makes slow.
var patient = []string{"--timeout", "10m", "--default-timeout", "10m"}

// TestImagesWithoutFaces checks the number of false faces in all of them at the default
// confidence.
func TestImagesWithoutFaces(t *testing.T) {
	s := start(t, patient...)
	client := grpcClient(t, s.url)
	n := 0
	photos := facetest.Subset(t, "negatives")
	for _, p := range photos {
		res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: readFile(t, p.Path)})
		if err != nil {
			t.Fatal(err)
		}
		n += len(res.GetResults())
	}
	if t.Logf("%d false faces in %d images", n, len(photos)); n > 3 {
		t.Errorf("%d false faces in %d images, want at most 3", n, len(photos))
	}
}

// TestCrossOrigin checks which pages may read the answers in a browser.
func TestCrossOrigin(t *testing.T) {
	open := start(t, "--cors-origin", "https://app.example.com", "--cors-origin", "https://*.example.org")
	more := start(t, "--cors-origin", "https://app.example.com", "--cors-header", "Authorization", "--cors-header", "x-tenant")
	closed := start(t)
	client := httpClient(t, 1, nil)
	for _, c := range []struct {
		name, url, origin string
		header            string // header that the page sends
		allowed           bool
	}{
		{"JSON", open.url, "https://app.example.com", "content-type", true},
		{"Connect", open.url, "https://app.example.com", "connect-protocol-version,connect-timeout-ms,content-type", true},
		{"gRPC-Web", open.url, "https://app.example.com", "content-type,grpc-timeout,x-grpc-web,x-user-agent", true},
		{"request id", open.url, "https://app.example.com", "x-request-id", true},
		{"trace", open.url, "https://app.example.com", "traceparent,tracestate", true},
		{"below a domain", open.url, "https://a.b.example.org", "content-type", true},
		{"other origin", open.url, "https://evil.example.com", "content-type", false},
		{"other scheme", open.url, "http://app.example.com", "content-type", false},
		{"other port", open.url, "https://app.example.com:8443", "content-type", false},
		{"authorization", more.url, "https://app.example.com", "authorization,content-type,x-tenant", true},
		{"authorization, other origin", more.url, "https://evil.example.com", "authorization", false},
		{"header that nobody needs", open.url, "https://app.example.com", "x-evil", false},
		{"no origin configured", closed.url, "https://app.example.com", "content-type", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			do := func(method string, body string, header ...string) *http.Response {
				req, err := http.NewRequestWithContext(t.Context(), method, c.url+inferencev1connect.InferenceListModelsProcedure, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Origin", c.origin)
				for i := 0; i < len(header); i += 2 {
					req.Header.Set(header[i], header[i+1])
				}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				return res
			}
			preflight := do(http.MethodOptions, "", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", c.header)
			if got := preflight.Header.Get("Access-Control-Allow-Origin"); (got == c.origin) != c.allowed || (got != "") != c.allowed {
				t.Errorf("preflight: Access-Control-Allow-Origin %q", got)
			}
			if c.name == "header that nobody needs" {
				return
			}
			res := do(http.MethodPost, "{}", "Content-Type", "application/json")
			if got := res.Header.Get("Access-Control-Allow-Origin"); (got == c.origin) != c.allowed {
				t.Errorf("answer: Access-Control-Allow-Origin %q", got)
			}
			exposed := strings.ToLower(res.Header.Get("Access-Control-Expose-Headers"))
			for _, h := range []string{"grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id", "retry-after", "mien-reason", "mien-ignored-fields"} {
				if strings.Contains(exposed, h) != c.allowed {
					t.Errorf("exposed headers %q, %s", exposed, h)
				}
			}
		})
	}
}

// TestCrossOriginLogged checks that the log says which answers browsers withhold from
// pages, and why.
func TestCrossOriginLogged(t *testing.T) {
	open := start(t, "--cors-origin", "https://app.example.com", "--cors-header", "authorization")
	closed := start(t)
	client := httpClient(t, 1, nil)
	const app = "https://app.example.com"
	cases := []struct {
		name, url, method string
		header            []string
		want              string // empty if the answer is not withheld
	}{
		{"no flag", closed.url, "OPTIONS", []string{"Origin", app, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"}, "no --cors-origin is set"},
		{"no flag, nothing asked before", closed.url, "POST", []string{"Origin", app}, "no --cors-origin is set"},
		{"no flag, a sandbox", closed.url, "POST", []string{"Origin", "null"}, "no --cors-origin is set"},
		{"no origin", closed.url, "POST", nil, ""},
		{"its own page", closed.url, "POST", []string{"Origin", closed.url}, ""},
		{"its own page, behind TLS", closed.url, "POST", []string{"Origin", strings.Replace(closed.url, "http:", "https:", 1)}, ""},
		{"its own page, by another name", closed.url, "POST", []string{"Origin", app, "Sec-Fetch-Site", "same-origin"}, ""},
		{"allowed", open.url, "OPTIONS", []string{"Origin", app, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type"}, ""},
		{"allowed, the call", open.url, "POST", []string{"Origin", app}, ""},
		{"another origin", open.url, "OPTIONS", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, `origin "https://evil.example" is not among --cors-origin`},
		{"another origin, the call", open.url, "POST", []string{"Origin", "https://evil.example"}, `origin "https://evil.example" is not among --cors-origin`},
		{"a long one", open.url, "POST", []string{"Origin", "https://" + strings.Repeat("e", 1000)}, `origin "https://` + strings.Repeat("e", 248) + `…" is not among --cors-origin`},
		{"a header", open.url, "OPTIONS", []string{"Origin", app, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,x-evil"}, `header "x-evil" is not allowed; to allow it, use --cors-header`},
		{"a method", open.url, "OPTIONS", []string{"Origin", app, "Access-Control-Request-Method", "DELETE"}, `method "DELETE" is not allowed`},
		{"no browser", open.url, "OPTIONS", []string{"Origin", app, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,authorization"}, "Access-Control-Request-Headers is malformed"},
	}
	for _, c := range cases {
		req, err := http.NewRequestWithContext(t.Context(), c.method, c.url+inferencev1connect.InferenceListModelsProcedure, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Request-Id", strings.ReplaceAll(strings.ReplaceAll(c.name, " ", "-"), ",", ""))
		for i := 0; i < len(c.header); i += 2 {
			req.Header.Set(c.header[i], c.header[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	logged := map[string]any{}
	for _, s := range []server{open, closed} {
		_, log := s.stop()
		for line := range strings.Lines(log) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err == nil && m["msg"] == "request" {
				logged[m["request_id"].(string)] = m["cors_refused"]
			}
		}
	}
	if len(logged) != len(cases) {
		t.Errorf("%d lines, want %d", len(logged), len(cases))
	}
	for _, c := range cases {
		got, _ := logged[strings.ReplaceAll(strings.ReplaceAll(c.name, " ", "-"), ",", "")].(string)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestSmallHandlersEncodings checks that health checks and reflection reject compressed
// requests without an empty encoding, or an empty list of encodings, in their answer.
func TestSmallHandlersEncodings(t *testing.T) {
	s := start(t)
	for version, client := range map[int]*http.Client{1: httpClient(t, 1, nil), 2: httpClient(t, 2, nil)} {
		for _, path := range []string{"/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} {
			if version == 1 && strings.Contains(path, "reflection") {
				continue // a stream
			}
			for _, encoding := range []string{"gzip", "deflate"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, bytes.NewReader([]byte{1, 0, 0, 0, 1, 0}))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/grpc")
				req.Header.Set("Grpc-Encoding", encoding)
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.Trailer.Get("Grpc-Status") != "12" {
					t.Errorf("%s, %s over HTTP/%d: %v", path, encoding, version, res.Trailer)
				}
				for key, values := range res.Header {
					if strings.HasSuffix(key, "Encoding") && key != "Transfer-Encoding" {
						t.Errorf("%s, %s over HTTP/%d: %s %q", path, encoding, version, key, values)
					}
				}
			}
		}
	}
}

func TestRequestIDs(t *testing.T) {
	s := start(t, patient...)
	client := httpClient(t, 1, nil)
	ask := func(id string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		if id != "" {
			req.Header.Set("X-Request-Id", id)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.Header.Get("X-Request-Id")
	}
	if a, b := ask(""), ask(""); len(a) != 36 || a == b {
		t.Errorf("%q, %q: want two different UUIDs", a, b)
	}
	for _, id := range []string{"4bf92f3577b34da6a3ce929d0e0e4736", "proxy-7:42_a.b"} {
		if got := ask(id); got != id {
			t.Errorf("%q became %q", id, got)
		}
	}
	for _, id := range []string{strings.Repeat("x", 65), "with space", "<script>", "ünïque"} {
		if got := ask(id); len(got) != 36 || got == id {
			t.Errorf("%q became %q, want a new one", id, got)
		}
	}
}

// TestAccessLog checks that the log has one line for each request, with what an
// operator needs, and never the query of a URL.
func TestAccessLog(t *testing.T) {
	s := start(t, patient...)
	client := grpcClient(t, s.url)
	if _, err := client.Predict(t.Context(), &inferencev1.Image{RawData: readFile(t, samplePath)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Predict(t.Context(), &inferencev1.Image{}); err == nil {
		t.Fatal("no error")
	}
	h := httpClient(t, 1, nil)
	for _, path := range []string{"/livez", "/nowhere?secret=1", inferencev1connect.InferencePredictProcedure + "?connect=v1&encoding=json&message=secret"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	code, log := s.stop()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	var lines []map[string]any
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if m["msg"] == "request" {
			lines = append(lines, m)
		}
	}
	if len(lines) != 4 { // the probe is logged at debug level
		t.Fatalf("%d lines:\n%s", len(lines), log)
	}
	if strings.Contains(log, "secret") {
		t.Errorf("the log tells what a URL held:\n%s", log)
	}
	has := func(line map[string]any, want map[string]any) {
		t.Helper()
		for k, v := range want {
			if line[k] != v {
				t.Errorf("%s: %v, want %v", k, line[k], v)
			}
		}
	}
	has(lines[0], map[string]any{
		"protocol": "grpc", "path": "/inference.v1.Inference/Predict", "code": "ok", "http": "HTTP/2.0", "caller": "127.0.0.1",
		"model": "mtcnn", "bytes": float64(len(readFile(t, samplePath))), "width": 320.0, "height": 400.0, "faces": 1.0,
	})
	if lines[0]["detect_ms"].(float64) <= 0 || lines[0]["decode_ms"].(float64) <= 0 || lines[0]["request_id"] == "" {
		t.Errorf("%v", lines[0])
	}
	has(lines[1], map[string]any{"code": "invalid_argument", "reason": "EMPTY_IMAGE"})
	has(lines[2], map[string]any{"path": "/nowhere", "status": 404.0})
	has(lines[3], map[string]any{"path": "/inference.v1.Inference/Predict", "method": "GET", "status": 400.0, "protocol": "connect"})
}

// TestAccessLogOfUnreadable checks that a request which Connect rejects before any
// handler sees it is logged with the code that the client got.
func TestAccessLogOfUnreadable(t *testing.T) {
	s := start(t)
	broken := "\x00\x00\x00\x00\x02\xff\xff" // a gRPC message that is not valid protobuf
	client := httpClient(t, 2, nil)
	for _, c := range [][2]string{
		{"application/json", `{"rawData":`},
		{"application/proto", "\xff\xff"},
		{"application/grpc", broken},
		{"application/grpc-web+proto", broken},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+inferencev1connect.InferencePredictProcedure, strings.NewReader(c[1]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c[0])
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	_, log := s.stop()
	n := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"msg":"request"`) {
			if n++; !strings.Contains(line, `"code":"invalid_argument"`) {
				t.Error(line)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}

// TestSmallHandlersReadLittle checks that health checks and reflection reject long
// messages and bombs.
func TestSmallHandlersReadLittle(t *testing.T) {
	s := start(t)
	client := httpClient(t, 1, nil)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, _ = w.Write(bytes.Repeat([]byte{0}, 50<<20))
	_ = w.Close()
	for _, c := range []struct {
		name, encoding string
		body           []byte
	}{
		{"long", "", append([]byte{0x12, 0x80, 0x80, 0x80, 0x01}, make([]byte, 2<<20)...)},
		{"bomb", "gzip", bomb.Bytes()},
	} {
		for _, path := range []string{"/grpc.health.v1.Health/Check"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/proto")
			req.Header.Set("Content-Encoding", c.encoding)
			res, err := client.Do(req)
			if err != nil {
				continue // the server closed the stream while the client was sending
			}
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				t.Errorf("%s to %s: status %d", c.name, path, res.StatusCode)
			}
		}
	}
}

// TestStopWithIdleReflection checks that an idle stream does not delay a graceful stop.
func TestStopWithIdleReflection(t *testing.T) {
	s := start(t)
	stream := grpcreflect.NewClient(httpClient(t, 2, nil), s.url, connect.WithGRPC()).NewStream(t.Context())
	if _, err := stream.ListServices(); err != nil {
		t.Fatal(err)
	}
	if code, log := s.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, log)
	}
	_, _ = stream.Close() // the server has ended it
}

// TestLeaving checks that a server which is about to stop closes each connection with
// an answer, so that no request is lost.
func TestLeaving(t *testing.T) {
	state := newHealth()
	server := httptest.NewUnstartedServer(state.leaving(http.HandlerFunc(state.live)))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			client := httpClient(t, version, nil)
			reused := func() bool {
				var info httptrace.GotConnInfo
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { info = i }})
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err != nil || string(body) != "ok\n" {
					t.Errorf("%q, %v", body, err)
				}
				return info.Reused
			}
			state.serving(true)
			reused()
			if !reused() {
				t.Error("a connection is not kept")
			}
			state.serving(false)
			if !reused() {
				t.Error("a connection is not kept until the server is about to stop")
			}
			// The GOAWAY follows the answer.
			for began := time.Now(); reused(); time.Sleep(time.Millisecond) {
				if version == 1 || time.Since(began) > 10*time.Second {
					t.Fatal("a connection is kept though the server is about to stop")
				}
			}
		})
	}
}

// TestStalledBody checks that the client's deadline applies while its body stalls.
func TestStalledBody(t *testing.T) {
	s := start(t)
	read, write := io.Pipe()
	defer write.Close()
	go func() { _, _ = io.WriteString(write, `{"rawData":"`) }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+inferencev1connect.InferencePredictProcedure, read)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connect-Timeout-Ms", "200")
	res, err := httpClient(t, 1, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusGatewayTimeout || !strings.Contains(string(body), `"DEADLINE"`) {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
}

func TestProbes(t *testing.T) {
	s := start(t)
	client := httpClient(t, 1, nil)
	for path, want := range map[string]string{"/livez": "ok\n", "/readyz": "ok\n"} {
		res, body := ask(t, client, http.MethodGet, s.url+path)
		if res.StatusCode != http.StatusOK || body != want || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
}

// ask sends a request without a body, and reads the whole answer.
func ask(t *testing.T, client *http.Client, method, url string) (res *http.Response, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(data)
}

// TestPage checks that the page is served at / and nowhere else, and that without it
// everything else is still served.
func TestPage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want map[string]int
	}{
		"page":    {nil, map[string]int{"/": 200, "/page/page.js": 200, "/openapi.yaml": 200, "/page": 404, "/page/": 404, "/index.html": 404, "/nowhere": 404, "/livez": 200}},
		"no page": {[]string{"--no-page"}, map[string]int{"/": 404, "/page/page.js": 404, "/openapi.yaml": 200, "/livez": 200}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.args...)
			client := httpClient(t, 1, nil)
			for path, want := range test.want {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					res, body := ask(t, client, method, s.url+path)
					if res.StatusCode != want {
						t.Errorf("%s %s: status %d, want %d", method, path, res.StatusCode, want)
					}
					if path == "/" && want == 200 && method == http.MethodGet && !strings.Contains(body, "Mien "+version.Number) {
						t.Errorf("the page does not tell the version: %s", body)
					}
				}
			}
		})
	}
}

// TestMisconfigured checks that all problems of the configuration are reported before
// anything is served, with their remedies.
func TestMisconfigured(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name string
		args []string
		env  map[string]string
		code int
		want []string
		max  int // number of reported problems; 0 for any
	}{
		{name: "unknown flag", args: []string{"--lisen", ":1"}, code: 2, want: []string{"--lisen", "--help"}},
		{name: "argument", args: []string{"photo.jpg"}, code: 2, want: []string{"photo.jpg"}},
		{name: "no number", args: []string{"--workers", "many"}, code: 2, want: []string{"--workers", "many"}},
		{name: "no address", args: []string{"--listen", "8080"}, code: 2, want: []string{"--listen", `"8080"`, ":8080"}},
		{name: "port in use", args: []string{"--listen", taken.Addr().String()}, code: 1, want: []string{"--listen", "in use", "another port: --listen 127.0.0.1:"}},
		{name: "unknown model", args: []string{"--model", "yolo"}, code: 2, want: []string{"--model", `"yolo"`, "pigo"}},
		{name: "model twice", args: []string{"--model", "pigo", "--model", "pigo"}, code: 2, want: []string{"--model", "twice"}},
		{name: "no size", args: []string{"--max-image-bytes", "big"}, code: 2, want: []string{"--max-image-bytes", "16MiB"}},
		{name: "limits, all at once", args: []string{"--workers", "0", "--timeout", "0s", "--max-pixels", "0"}, code: 2, want: []string{"--workers", "--timeout", "--max-pixels"}},
		{name: "certificate without key", args: []string{"--tls-cert", "x.pem"}, code: 2, want: []string{"--tls-key"}},
		{name: "certificate that is none", args: []string{"--tls-cert", "main.go", "--tls-key", "main.go"}, code: 2, want: []string{"--tls-cert"}},
		{name: "no file of keys", args: []string{"--auth-keys", "none.txt"}, code: 2, want: []string{"--auth-keys", "none.txt", "mien keys add NAME"}, max: 1},
		{name: "file of keys that is none", args: []string{"--auth-keys", "main.go"}, code: 2, want: []string{"--auth-keys: main.go: line 1"}, max: 1},
		{name: "client authorities without TLS", args: []string{"--tls-client-ca", "ca.pem"}, code: 2, want: []string{"--tls-client-ca", "--tls-cert"}, max: 1},
		{name: "client certificates without authorities", args: []string{"--tls-client-auth", "optional"}, code: 2, want: []string{"--tls-client-auth", "--tls-client-ca"}, max: 1},
		{name: "client certificates sometimes", args: []string{"--tls-client-ca", "ca.pem", "--tls-client-auth", "sometimes"}, code: 2, want: []string{"--tls-client-auth", `"sometimes"`, "required and optional"}},
		{name: "operators over TLS without TLS", args: []string{"--admin-tls"}, code: 2, want: []string{"--admin-tls", "--tls-cert"}, max: 1},
		{name: "operators' keys that are none", args: []string{"--admin-auth-keys", "none.txt"}, code: 2, want: []string{"--admin-auth-keys", "none.txt"}, max: 1},
		{name: "host with a scheme", args: []string{"--allowed-host", "https://faces.example.com"}, code: 2, want: []string{"--allowed-host", `"https://faces.example.com"`, "without a scheme"}, max: 1},
		{name: "host with a port", args: []string{"--allowed-host", "faces.example.com:8080"}, code: 2, want: []string{"--allowed-host"}, max: 1},
		{name: "host in capitals", args: []string{"--allowed-host", "Faces.example.com"}, code: 2, want: []string{"--allowed-host", "lower case"}, max: 1},
		{name: "no requests", args: []string{"--quota-requests", "0"}, code: 2, want: []string{"--quota-requests", "omit it"}, max: 1},
		{name: "requests that are no number", args: []string{"--quota-requests", "NaN"}, code: 2, want: []string{"--quota-requests"}, max: 1},
		{name: "fewer than no pixels", args: []string{"--quota-pixels=-5"}, code: 2, want: []string{"--quota-pixels: -5"}, max: 1},
		{name: "nothing at the same time", args: []string{"--quota-concurrency", "0"}, code: 2, want: []string{"--quota-concurrency"}, max: 1},
		{name: "tokens of anyone", args: []string{"--auth-jwks", "keys.json"}, code: 2, want: []string{"--auth-issuer", "--auth-audience"}, max: 2},
		{name: "an issuer without keys", args: []string{"--auth-issuer", "me"}, code: 2, want: []string{"--auth-jwks"}, max: 1},
		{name: "keys that anyone on the way can change", args: []string{"--auth-jwks", "http://issuer.example/keys", "--auth-issuer", "me", "--auth-audience", "mien"}, code: 2, want: []string{"--auth-jwks", "https://"}, max: 1},
		{name: "keys that are none", args: []string{"--auth-jwks", "main.go", "--auth-issuer", "me", "--auth-audience", "mien"}, code: 2, want: []string{"--auth-jwks: main.go", "JSON Web Key Set"}, max: 1},
		{name: "keys that cannot be reached", args: []string{"--auth-jwks", "http://127.0.0.1:1/keys", "--auth-issuer", "me", "--auth-audience", "mien"}, code: 1, want: []string{"--auth-jwks", "refused"}, max: 1},
		{name: "command without a name", args: []string{"keys", "add"}, code: 2, want: []string{"<name>"}},
		{name: "origin with a path", args: []string{"--cors-origin", "https://example.com/app"}, code: 2, want: []string{"--cors-origin", "https://app.example.com"}},
		{name: "origin with the scheme's own port", args: []string{"--cors-origin", "https://app.example.com:443"}, code: 2, want: []string{"--cors-origin"}},
		{name: "no port", args: []string{"--listen", "127.0.0.1:99999"}, code: 2, want: []string{"--listen", "99999"}},
		{name: "age", args: []string{"--max-connection-age=-1s"}, code: 2, want: []string{"--max-connection-age", "0"}},
		{name: "no room for bodies", args: []string{"--max-body-bytes", "1MiB"}, code: 2, want: []string{"--max-body-bytes", "--max-batch-bytes"}},
		{name: "no memory", args: []string{"--max-inflight-bytes", "1"}, code: 2, want: []string{"--max-inflight-bytes", "1MiB"}},
		{name: "fewer than no workers", args: []string{"--workers=-1"}, code: 2, want: []string{"--workers", "1024"}, max: 1},
		{name: "workers without end", args: []string{"--workers=4611686018427387904"}, code: 2, want: []string{"--workers", "1024"}, max: 1},
		{name: "no time", args: []string{"--timeout=-1s"}, code: 2, want: []string{"--timeout"}, max: 1},
		{name: "default time above the longest", args: []string{"--timeout=5s", "--default-timeout=6s"}, code: 2, want: []string{"--default-timeout: 6s", "--timeout, 5s", "lower", "raise"}, max: 1},
		{name: "default time above the usual longest", env: map[string]string{"MIEN_DEFAULT_TIMEOUT": "1m"}, code: 2, want: []string{"--default-timeout: 1m0s", "--timeout, 30s"}, max: 1},
		{name: "no default time", args: []string{"--default-timeout=0s"}, code: 2, want: []string{"--default-timeout"}, max: 1},
		{name: "a batch of terabytes", args: []string{"--max-batch-bytes=1TiB"}, code: 2, want: []string{"--max-batch-bytes"}, max: 1},
		{name: "no room for the image", args: []string{"--max-image-bytes=500MiB"}, code: 2, want: []string{"--max-body-bytes", "--max-image-bytes"}, max: 1},
		{name: "no time to drain", args: []string{"--drain-timeout=0s"}, code: 2, want: []string{"--drain-timeout"}, max: 1},
		{name: "less than no delay", args: []string{"--drain-delay=-1s"}, code: 2, want: []string{"--drain-delay", "0s"}, max: 1},
		{name: "origin without a scheme", args: []string{"--cors-origin", "example.com"}, code: 2, want: []string{"--cors-origin"}},
		{name: "origin in capitals", args: []string{"--cors-origin", "https://App.example.com"}, code: 2, want: []string{"--cors-origin"}},
		{name: "no header", args: []string{"--cors-origin", "*", "--cors-header", "Authorization: Bearer"}, code: 2, want: []string{"--cors-header", `"Authorization: Bearer"`}, max: 1},
		{name: "all headers", args: []string{"--cors-origin", "*", "--cors-header", "*"}, code: 2, want: []string{"--cors-header", `"*"`, "Authorization"}, max: 1},
		{name: "a header and no origin", args: []string{"--cors-header", "Authorization"}, code: 2, want: []string{"--cors-header", "--cors-origin"}, max: 1},
		{name: "log format", args: []string{"--log-format", "xml"}, code: 2, want: []string{"--log-format", "json"}},
		{name: "log level", args: []string{"--log-level", "loud"}, code: 2, want: []string{"--log-level", "loud", "debug"}},
		{name: "environment", env: map[string]string{"RUN_ENV": "prod"}, code: 2, want: []string{"prod", "production"}},
		{name: "variable", env: map[string]string{"MIEN_QUEUE": "long"}, code: 2, want: []string{"MIEN_QUEUE", "long"}},
		{name: "no admin address", args: []string{"--admin-listen", "9464"}, code: 2, want: []string{"--admin-listen", `"9464"`, "off"}},
		{name: "admin port in use", args: []string{"--admin-listen", taken.Addr().String()}, code: 1, want: []string{"--admin-listen", "in use", "--admin-listen off"}},
		{name: "no network", args: []string{"--trusted-proxy", "10.0.0.0/33"}, code: 2, want: []string{"--trusted-proxy", `"10.0.0.0/33"`, "10.0.0.0/8"}},
		{name: "no collector", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317"}, code: 2, want: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", `"localhost:4317"`, "http://"}},
		{name: "no OTLP protocol", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, code: 2, want: []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc"}},
		{name: "no sampler", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_SAMPLER": "sometimes"}, code: 2, want: []string{"OpenTelemetry", "sampler", "sometimes"}},
		{name: "no exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, code: 2, want: []string{"OTEL_TRACES_EXPORTER", "zipkin", "none"}},
		{name: "misspelled variable", env: map[string]string{"MIEN_MAX_PIXEL": "1"}, code: 2, want: []string{"MIEN_MAX_PIXEL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var stderr bytes.Buffer
			code := run(ctx, append([]string{"--listen", "127.0.0.1:0", "--admin-listen", ""}, c.args...), io.Discard, &stderr)
			if code != c.code || ctx.Err() != nil {
				t.Errorf("exit code %d, want %d: %s", code, c.code, stderr.String())
			}
			if n := strings.Count(stderr.String(), "\n") - 1; c.max > 0 && n > c.max { // the last line is about --help
				t.Errorf("%d problems are reported, want %d: %s", n, c.max, stderr.String())
			}
			for _, text := range c.want {
				if !strings.Contains(stderr.String(), text) {
					t.Errorf("%q does not tell %q", stderr.String(), text)
				}
			}
		})
	}
}

// TestFlagsOfFields checks that problems of the service's configuration are reported
// with the names of flags that exist, because the service knows no flags.
func TestFlagsOfFields(t *testing.T) {
	flags := strings.Split(string(readFile(t, "testdata/surface/flags.txt")), "\n")
	for field, flag := range flagOf {
		if _, ok := reflect.TypeFor[service.Config]().FieldByName(field); !ok || !slices.Contains(flags, flag) {
			t.Errorf("%s, %s", field, flag)
		}
	}
	sources, err := filepath.Glob("../../service/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("%v", err)
	}
	for _, path := range sources {
		for _, flag := range flags {
			// This one is an option of curl, in a hint.
			if flag != "--json" && strings.HasPrefix(flag, "--") && !strings.HasSuffix(path, "_test.go") && bytes.Contains(readFile(t, path), []byte(flag)) {
				t.Errorf("%s knows %s", path, flag)
			}
		}
	}
	err = flagErrors(service.Config{DefaultTimeout: 2, Timeout: 1, MaxInflightBytes: 1 << 60}.Validate())
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "Logger") {
			t.Errorf("no flag: %s", line)
		}
	}
	if !strings.Contains(err.Error(), "--default-timeout: 2ns is above --timeout, 1ns") {
		t.Error(err)
	}
}

// TestEnvironment checks that every flag has its variable, that a flag overrides it,
// and that Kubernetes' variables for a service named mien do no harm.
func TestEnvironment(t *testing.T) {
	for k, v := range map[string]string{
		"MIEN_MAX_IMAGE_BYTES": "2KiB", "MIEN_WORKERS": "3", "MIEN_QUEUE": "0", "MIEN_CORS_ORIGIN": "https://a.example,https://b.example",
		"RUN_ENV": "STAGING", "MIEN_TIMEOUT": "5s", "MIEN_MODEL": "pigo",
		"MIEN_DRAIN_DELAY": "", "MIEN_MAX_PIXELS": "", "MIEN_URL": "http://localhost:8080",
		"MIEN_SERVICE_HOST": "10.0.0.1", "MIEN_SERVICE_PORT": "80", "MIEN_SERVICE_PORT_HTTP": "80", "MIEN_PORT": "tcp://10.0.0.1:80",
		"MIEN_PORT_80_TCP": "tcp://10.0.0.1:80", "MIEN_PORT_80_TCP_ADDR": "10.0.0.1", "MIEN_CANARY_SERVICE_HOST": "10.0.0.2",
	} {
		t.Setenv(k, v)
	}
	cfg, done, err := parse("/", []string{"--workers", "5"}, io.Discard)
	if err != nil || done {
		t.Fatal(err)
	}
	got, err := cfg.service(t.Context(), cfg.logger(io.Discard, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.MaxImageBytes != 2048 || got.Workers != 5 || got.Queue != 0 || got.Timeout != 5*time.Second || got.DefaultTimeout != 5*time.Second ||
		got.Environment != inferencev1.Environment_ENVIRONMENT_STAGING || len(got.Models) != 1 || len(cfg.CORSOrigin) != 2 {
		t.Errorf("%+v, origins %v", got, cfg.CORSOrigin)
	}
}

// TestTimesFollow checks that times without a flag depend on --timeout, and that those
// with a flag do not.
func TestTimesFollow(t *testing.T) {
	for _, c := range []struct {
		args                     []string
		byDefault, idle, toDrain time.Duration
	}{
		{nil, 10 * time.Second, 5 * time.Minute, 35 * time.Second},
		{[]string{"--timeout=5s"}, 5 * time.Second, 5 * time.Minute, 35 * time.Second},
		{[]string{"--timeout=10m"}, 10 * time.Second, 10 * time.Minute, 10*time.Minute + 5*time.Second},
		{[]string{"--timeout=10m", "--default-timeout=8m", "--stream-idle-timeout=1m", "--drain-timeout=2s"}, 8 * time.Minute, time.Minute, 2 * time.Second},
	} {
		cfg, _, err := parse("/", c.args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		got, err := cfg.service(t.Context(), cfg.logger(io.Discard, false), nil)
		if err != nil || got.DefaultTimeout != c.byDefault || got.StreamIdle != c.idle || cfg.drainTimeout() != c.toDrain {
			t.Errorf("%q: %v, %v and %v, %v; want %v, %v and %v", c.args, got.DefaultTimeout, got.StreamIdle, cfg.drainTimeout(), err, c.byDefault, c.idle, c.toDrain)
		}
	}
}

// TestThreads checks that Go has more threads than there are workers, unless the
// environment sets their number to a value that Go accepts.
func TestThreads(t *testing.T) {
	const variable = "GOMAXPROCS"
	for _, c := range []struct {
		value   string
		threads float64 // 0 for more than there are workers
	}{{"", 0}, {"0", 0}, {"-1", 0}, {"abc", 0}, {"3 ", 0}, {"99999999999", 0}, {"3", 3}} {
		t.Setenv(variable, c.value)
		p := startProcess(t, "--admin-listen", "127.0.0.1:0")
		got := scrape(t, server{admin: p.admin})
		threads, workers := got["go_sched_gomaxprocs_threads"], got["mien_workers"]
		want := c.threads
		if want == 0 {
			want = workers + max(2, math.Floor(workers/4))
		}
		if workers == 0 || threads != want {
			t.Errorf("%s=%q: %v threads for %v workers, want %v", variable, c.value, threads, workers, want)
		}
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

func TestHelp(t *testing.T) {
	for flag, texts := range map[string][]string{
		"--help":    {"--listen", "$MIEN_LISTEN", "16MiB", "64000000", "grpc", "Limits"},
		"--version": {version.Number, "pigo", "go1."},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{flag}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", flag, code, stderr.String())
		}
		for _, text := range texts {
			if !strings.Contains(strings.ToLower(stdout.String()), strings.ToLower(text)) {
				t.Errorf("%s does not tell %q:\n%s", flag, text, stdout.String())
			}
		}
	}
}

func TestLogFormat(t *testing.T) {
	for _, c := range []struct {
		format   string
		terminal bool
		json     bool
	}{{"auto", true, false}, {"auto", false, true}, {"text", false, false}, {"json", true, true}} {
		var b bytes.Buffer
		(&config{LogFormat: c.format}).logger(&b, c.terminal).Info("x")
		if got := strings.HasPrefix(b.String(), "{"); got != c.json {
			t.Errorf("%s, terminal %v: %s", c.format, c.terminal, b.String())
		}
	}
}

// TestSeveralListeners checks several --listen, because old clients use :50051 and
// :5000.
func TestSeveralListeners(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--listen", addr)
	for _, url := range []string{s.url, "http://" + addr} {
		if _, err := grpcClient(t, url).ListModels(t.Context(), &inferencev1.ListModelsRequest{}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestRawPixels checks that an image in each of the five pixel formats has the same
// face as its file.
func TestRawPixels(t *testing.T) {
	s := start(t, append(patient, "--model", "pigo")...) // which looks at luma only
	client := grpcClient(t, s.url)
	file := readFile(t, samplePath)
	res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: file})
	if err != nil || len(res.GetResults()) != 1 {
		t.Fatalf("%v, %v", res, err)
	}
	want := []face.Box{box(res.GetResults()[0])}

	img, ok := facetest.Decode(t, samplePath).(*image.YCbCr)
	if !ok {
		t.Fatal("the image is not an *image.YCbCr")
	}
	// An odd size, so that the sizes of chroma planes are rounded up.
	img = img.SubImage(image.Rect(0, 0, 319, 399)).(*image.YCbCr)
	var gray, rgb, rgba, u, v, uv []byte
	for y := range 399 {
		for x := range 319 {
			c := img.YCbCrAt(x, y)
			r, g, b := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
			gray = append(gray, c.Y)
			rgb = append(rgb, r, g, b)
			rgba = append(rgba, r, g, b, 255)
			if x%2 == 0 && y%2 == 0 {
				u, v, uv = append(u, c.Cb), append(v, c.Cr), append(uv, c.Cb, c.Cr)
			}
		}
	}
	for format, data := range map[inferencev1.PixelFormat][]byte{
		inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8:  gray,
		inferencev1.PixelFormat_PIXEL_FORMAT_RGB24:  rgb,
		inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32: rgba,
		inferencev1.PixelFormat_PIXEL_FORMAT_I420:   slices.Concat(gray, u, v),
		inferencev1.PixelFormat_PIXEL_FORMAT_NV12:   slices.Concat(gray, uv),
	} {
		t.Run(format.String(), func(t *testing.T) {
			res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: data, Width: 319, Height: 399, PixelFormat: format})
			if err != nil {
				t.Fatal(err)
			}
			assertFaces(t, res, want, 0.95)
			if res.GetWidth() != 319 || res.GetHeight() != 399 {
				t.Errorf("%d×%d", res.GetWidth(), res.GetHeight())
			}
		})
	}
}

// TestSameAnswerInAnyConcurrency checks that many concurrent requests get the same
// answers as single ones.
func TestSameAnswerInAnyConcurrency(t *testing.T) {
	s := start(t, append(patient, "--workers", "4", "--queue", "100")...)
	client := grpcClient(t, s.url)
	req := &inferencev1.Image{RawData: readFile(t, samplePath), Options: &inferencev1.DetectOptions{MinConfidence: new(float32)}}
	first, err := client.Predict(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			res, err := client.Predict(t.Context(), req)
			if err != nil {
				t.Error(err)
				return
			}
			if !slices.EqualFunc(res.GetResults(), first.GetResults(), func(a, b *inferencev1.Result) bool { return proto.Equal(a, b) }) {
				t.Errorf("%v, want %v", res.GetResults(), first.GetResults())
			}
		})
	}
	wg.Wait()
}
