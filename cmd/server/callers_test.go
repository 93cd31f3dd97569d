package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	inference "github.com/mienproject/mien/gen/inference"
	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// addKey runs the command "keys add", and returns the key. It adds its line to file.
func addKey(t testing.TB, file, name string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"keys", "add", name, "--auth-keys", file}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

// keysFile returns a file with a key of each name, and the keys.
func keysFile(t testing.TB, names ...string) (path string, secrets []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys")
	for _, name := range names {
		secrets = append(secrets, addKey(t, path, name))
	}
	return path, secrets
}

// headerTransport adds headers to each request.
type headerTransport struct {
	next   http.RoundTripper
	header func() http.Header
}

func (h headerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	maps.Copy(r.Header, h.header())
	return h.next.RoundTrip(r)
}

func withHeaders(c *http.Client, header http.Header) *http.Client {
	return &http.Client{Transport: headerTransport{c.Transport, func() http.Header { return header }}}
}

// tinyImage has no faces and takes no time.
func tinyImage() *inferencev1.Image {
	return &inferencev1.Image{RawData: make([]byte, 40*40), Width: 40, Height: 40, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
}

// TestKeysAtEveryDoor checks that each procedure in each protocol is refused without a key
// and with a wrong one, in a way that its client understands, and served with a right one.
func TestKeysAtEveryDoor(t *testing.T) {
	file, secrets := keysFile(t, "acme")
	s := start(t, append(patient, "--auth-keys", file)...)
	sample := readFile(t, samplePath)

	doors := map[string]func(*http.Client, ...connect.ClientOption) error{
		"Predict": func(h *http.Client, opts ...connect.ClientOption) error {
			_, err := inferencev1connect.NewInferenceClient(h, s.url, opts...).Predict(t.Context(), tinyImage())
			return err
		},
		"ListModels": func(h *http.Client, opts ...connect.ClientOption) error {
			_, err := inferencev1connect.NewInferenceClient(h, s.url, opts...).ListModels(t.Context(), &inferencev1.ListModelsRequest{})
			return err
		},
		"the old procedure": func(h *http.Client, opts ...connect.ClientOption) error {
			_, err := connect.NewClient[inferencev1.Image, inferencev1.InferResults](h, s.url+"/Inference/Predict", opts...).CallUnary(t.Context(), connect.NewRequest(tinyImage()))
			return err
		},
		"PredictBatch": func(h *http.Client, opts ...connect.ClientOption) error {
			stream, err := inferencev1connect.NewInferenceClient(h, s.url, opts...).PredictBatch(t.Context(), &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{tinyImage()}})
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
			}
			return stream.Err()
		},
		"PredictStream": func(h *http.Client, opts ...connect.ClientOption) error {
			stream, err := inferencev1connect.NewInferenceClient(h, s.url, opts...).PredictStream(t.Context())
			if err != nil {
				return err
			}
			defer stream.CloseResponse()
			_ = stream.Send(tinyImage()) // the error comes from Receive
			_ = stream.CloseRequest()
			for {
				if _, err := stream.Receive(); err != nil {
					if strings.Contains(err.Error(), "EOF") {
						return nil
					}
					return err
				}
			}
		},
		"ModelInfer": func(h *http.Client, opts ...connect.ClientOption) error {
			_, err := inferenceconnect.NewGRPCInferenceServiceClient(h, s.url, opts...).ModelInfer(t.Context(), modelInfer("", sample))
			return err
		},
		"ModelStatistics": func(h *http.Client, opts ...connect.ClientOption) error {
			_, err := inferenceconnect.NewGRPCInferenceServiceClient(h, s.url, opts...).ModelStatistics(t.Context(), &inference.ModelStatisticsRequest{})
			return err
		},
		"reflection": func(h *http.Client, opts ...connect.ClientOption) error {
			stream := grpcreflect.NewClient(h, s.url, opts...).NewStream(t.Context())
			defer stream.Close()
			_, err := stream.ListServices()
			return err
		},
	}
	protocols := map[string][]connect.ClientOption{
		"connect":      nil,
		"connect json": {connect.WithProtoJSON()},
		"connect get":  {connect.WithHTTPGet()},
		"grpc":         {connect.WithGRPC()},
		"grpc-web":     {connect.WithGRPCWeb()},
	}
	credentials := []struct {
		name   string
		header http.Header
		err    string // a part of the message
	}{
		{"no key", nil, "requires an API key"},
		{"wrong key", http.Header{"Authorization": {"Bearer mien_wrong"}}, "not valid"},
		{"wrong key in X-Api-Key", http.Header{"X-Api-Key": {"mien_wrong"}}, "not valid"},
		{"bearer", http.Header{"Authorization": {"Bearer " + secrets[0]}}, ""},
		{"X-Api-Key", http.Header{"X-Api-Key": {secrets[0]}}, ""},
	}
	for door, call := range doors {
		for protocol, opts := range protocols {
			for _, c := range credentials {
				t.Run(door+"/"+protocol+"/"+c.name, func(t *testing.T) {
					err := call(withHeaders(httpClient(t, 2, nil), c.header), opts...)
					if c.err == "" {
						if err != nil {
							t.Error(err)
						}
						return
					}
					if err == nil {
						t.Fatal("accepted")
					}
					if code, reason := reasonOf(t, err); code != connect.CodeUnauthenticated || reason != "UNAUTHENTICATED" || !strings.Contains(err.Error(), c.err) {
						t.Errorf("%v, reason %s", err, reason)
					}
				})
			}
		}
	}

	plain := func(method, path, mediaType string, body []byte) func(http.Header) (*http.Response, string) {
		return func(header http.Header) (*http.Response, string) {
			req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", mediaType)
			res, err := withHeaders(httpClient(t, 1, nil), header).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return res, string(text)
		}
	}
	for name, door := range map[string]struct {
		do func(http.Header) (*http.Response, string)
		ok int // status with a key
	}{
		"raw image":       {plain("POST", "/predict", "image/jpeg", sample), 200},
		"PUT":             {plain("PUT", "/predict", "", sample), 200},
		"old JSON":        {plain("POST", "/predict", "application/json", []byte(`{"img_id": "1", "img_b64": ""}`)), 200},
		"JSON of an RPC":  {plain("POST", inferencev1connect.InferenceListModelsProcedure, "application/json", []byte("{}")), 200},
		"unknown path":    {plain("GET", "/no/such/path", "", nil), 404},
		"other method":    {plain("DELETE", "/livez", "", nil), 405},
		"infer":           {plain("POST", "/v2/models/mtcnn/infer", "", infer("", "", "", false, sample).body), 200},
		"server metadata": {plain("GET", "/v2", "", nil), 200},
		"model metadata":  {plain("GET", "/v2/models/mtcnn", "", nil), 200},
		"unclean path":    {plain("POST", "/page/../predict", "", sample), 200},
	} {
		for _, c := range credentials {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				res, text := door.do(c.header)
				if c.err == "" {
					if res.StatusCode != door.ok && res.StatusCode != http.StatusTemporaryRedirect {
						t.Errorf("status %d: %s", res.StatusCode, text)
					}
					return
				}
				challenge := res.Header.Get("WWW-Authenticate")
				if res.StatusCode != http.StatusUnauthorized || !strings.Contains(text, c.err) || !strings.HasPrefix(challenge, `Bearer realm="mien"`) {
					t.Errorf("status %d, %q: %s", res.StatusCode, challenge, text)
				}
				if strings.Contains(challenge, "invalid_token") != (c.header != nil) {
					t.Errorf("WWW-Authenticate is %s", challenge)
				}
				if name == "infer" || name == "model metadata" {
					if !strings.HasPrefix(text, `{"error":"`) || res.Header.Get("Mien-Reason") != "UNAUTHENTICATED" {
						t.Errorf("%v: %s", res.Header, text)
					}
				}
				if strings.HasPrefix(name, "raw") || strings.HasPrefix(name, "old") {
					if !strings.Contains(text, `"results":[]`) || res.Header.Get("Mien-Reason") != "UNAUTHENTICATED" {
						t.Errorf("%v: %s", res.Header, text)
					}
				}
			})
		}
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/openapi.yaml": 200, "/": 200, "/page/page.css": 200, "/page/none": 404, "/v2/health/live": 200, "/v2/health/ready": 200} {
		if res, text := plain("GET", path, "", nil)(nil); res.StatusCode != want {
			t.Errorf("%s: %d: %s", path, res.StatusCode, text)
		}
	}
	health := connect.NewClient[inferencev1.ListModelsRequest, inferencev1.ListModelsRequest](httpClient(t, 2, nil), s.url+"/grpc.health.v1.Health/Check", connect.WithGRPC())
	if _, err := health.CallUnary(t.Context(), connect.NewRequest(&inferencev1.ListModelsRequest{})); err != nil {
		t.Errorf("health: %v", err)
	}
	open := inferenceconnect.NewGRPCInferenceServiceClient(httpClient(t, 2, nil), s.url, connect.WithGRPC())
	if ready, err := open.ServerReady(t.Context(), &inference.ServerReadyRequest{}); err != nil || !ready.GetReady() {
		t.Errorf("ServerReady: %v, %v", ready, err)
	}
	if live, err := open.ServerLive(t.Context(), &inference.ServerLiveRequest{}); err != nil || !live.GetLive() {
		t.Errorf("ServerLive: %v, %v", live, err)
	}
	_, log := s.stop()
	for _, secret := range append(secrets, "mien_wrong") {
		if strings.Contains(log, secret) {
			t.Error("the log has a key")
		}
	}
	for _, want := range []string{`"identity":"acme"`, `"reason":"UNAUTHENTICATED"`, `"code":"unauthenticated"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

// TestRefusedUnread checks that a request without a key is answered before any of its body
// has been sent.
func TestRefusedUnread(t *testing.T) {
	file, _ := keysFile(t, "acme")
	s := start(t, "--auth-keys", file)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, path := range []string{"/predict", inferencev1connect.InferencePredictProcedure, inferenceconnect.GRPCInferenceServiceModelInferProcedure, "/v2/models/mtcnn/infer"} {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\nContent-Length: 1000\r\n\r\n", path)
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 401" {
			t.Fatalf("%q, %v", answer, err)
		}
		if conn, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://")); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	// A client that looks for an answer only after it has sent a large image.
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", 8<<20)
	if _, err := conn.Write(make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 401" {
		t.Fatalf("%q, %v", answer, err)
	}
	// On HTTP/2, an upload that never sends anything.
	read, write := io.Pipe()
	defer write.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/predict", read)
	if err != nil {
		t.Fatal(err)
	}
	res, err := httpClient(t, 2, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", res.StatusCode)
	}
}

// TestKeyRotation gives a caller a new key again and again under load, and takes the old
// one away, and checks that no call fails as long as the caller changes in between, and
// that the old keys do not work any more.
func TestKeyRotation(t *testing.T) {
	file, secrets := keysFile(t, "acme")
	s := start(t, append(patient, "--auth-keys", file)...)
	var current atomic.Pointer[string]
	current.Store(&secrets[0])
	var calls atomic.Int64
	var callers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}} {
		h := &http.Client{Transport: headerTransport{httpClient(t, 2, nil).Transport, func() http.Header {
			return http.Header{"Authorization": {"Bearer " + *current.Load()}}
		}}}
		client := inferencev1connect.NewInferenceClient(h, s.url, opts...)
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.Predict(t.Context(), tinyImage()); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	works := func(secret string) bool {
		h := withHeaders(httpClient(t, 1, nil), http.Header{"X-Api-Key": {secret}})
		_, err := inferencev1connect.NewInferenceClient(h, s.url).ListModels(t.Context(), &inferencev1.ListModelsRequest{})
		return err == nil
	}
	for i := range 5 {
		old := *current.Load()
		added := addKey(t, file, "acme")
		if i > 0 { // the first is noticed without a signal
			hangUp(t)
		}
		until(t, "the new key works", func() bool { return works(added) })
		current.Store(&added)
		time.Sleep(20 * time.Millisecond) // calls with the old key end
		lines := strings.SplitAfter(string(readFile(t, file)), "\n")
		replace(t, file, []byte(strings.Join(lines[1:], "")))
		hangUp(t)
		until(t, "the old key is refused", func() bool { return !works(old) })
	}
	// A broken file does not lock anyone out.
	replace(t, file, []byte("acme\n"))
	hangUp(t)
	time.Sleep(100 * time.Millisecond)
	cancel()
	callers.Wait()
	if calls.Load() < 50 {
		t.Errorf("only %d calls", calls.Load())
	}
	t.Logf("%d calls, 5 keys", calls.Load())
	if _, log := s.stop(); !strings.Contains(log, "reload failed") || !strings.Contains(log, "line 1: it has 1 fields") {
		t.Error(log)
	}
}

// TestIdentity checks that the name of a caller is in the log, in the metrics and in traces,
// and that names of many certificates do not make series without end.
func TestIdentity(t *testing.T) {
	file, secrets := keysFile(t, "acme", "other")
	s := start(t, "--auth-keys", file, "--admin-listen", "127.0.0.1:0")
	call := func(secret string) {
		h := withHeaders(httpClient(t, 1, nil), http.Header{"X-Api-Key": {secret}})
		_, _ = inferencev1connect.NewInferenceClient(h, s.url).Predict(t.Context(), tinyImage()) // counted, whatever the outcome
	}
	call(secrets[0])
	call(secrets[0])
	call(secrets[1])
	call("mien_stranger")
	series := eventually(t, s, map[string]float64{
		`mien_identity_requests_total{code="ok",identity="acme"}`:                                                    2,
		`mien_identity_requests_total{code="ok",identity="other"}`:                                                   1,
		`mien_refusals_total{reason="UNAUTHENTICATED"}`:                                                              1,
		`mien_requests_total{code="unauthenticated",procedure="/inference.v1.Inference/Predict",protocol="connect"}`: 1,
	})
	for key := range series {
		if strings.Contains(key, "stranger") {
			t.Errorf("a stranger makes a series: %s", key)
		}
	}

	m := newMetrics()
	for i := range 2 * maxIdentities {
		m.identity(fmt.Sprintf("robot %d \xff", i), "ok")
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if n := len(family.GetMetric()); family.GetName() == "mien_identity_requests_total" && n != maxIdentities+1 {
			t.Errorf("%d series", n)
		}
	}

	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tracing := &tracing{provider: provider, tracer: provider.Tracer("test")}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/predict", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracing.start(r)
	tracing.end(span, r, entry{record: &service.Record{Identity: "acme"}})
	if got := spans.GetSpans(); len(got) != 1 || !hasAttribute(got[0].Attributes, "enduser.id", "acme") {
		t.Errorf("%v", got)
	}
}

func hasAttribute(attributes []attribute.KeyValue, key, value string) bool {
	for _, a := range attributes {
		if string(a.Key) == key && a.Value.AsString() == value {
			return true
		}
	}
	return false
}

// TestKeysAndPages checks that pages of allowed origins may send keys, and that browsers
// let them read a refusal.
func TestKeysAndPages(t *testing.T) {
	file, _ := keysFile(t, "acme")
	s := start(t, "--auth-keys", file, "--cors-origin", "https://app.example.com")
	do := func(method string, header http.Header) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+inferencev1connect.InferenceListModelsProcedure, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		res, err := httpClient(t, 1, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res
	}
	res := do(http.MethodOptions, http.Header{
		"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"POST"},
		"Access-Control-Request-Headers": {"authorization,content-type,x-api-key"},
	})
	if allowed := strings.ToLower(res.Header.Get("Access-Control-Allow-Headers")); res.StatusCode != http.StatusNoContent || !strings.Contains(allowed, "authorization") || !strings.Contains(allowed, "x-api-key") {
		t.Errorf("preflight: %d, %v", res.StatusCode, res.Header)
	}
	res = do(http.MethodPost, http.Header{"Origin": {"https://app.example.com"}, "Content-Type": {"application/json"}})
	if res.StatusCode != http.StatusUnauthorized || res.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("refusal: %d, %v", res.StatusCode, res.Header)
	}
}

// TestKeysAdd checks what the command prints, and what it writes into the file.
func TestKeysAdd(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"keys", "add", "acme"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	lines := strings.Split(stdout.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "mien_") || !strings.HasPrefix(lines[1], "acme sha256:") {
		t.Fatalf("%q", stdout.String())
	}
	// A file whose last line is not ended, as some editors leave it.
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# ours\n"+lines[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	second := addKey(t, file, "acme")
	s := start(t, "--auth-keys", file)
	for _, secret := range []string{lines[0], second} {
		h := withHeaders(httpClient(t, 1, nil), http.Header{"X-Api-Key": {secret}})
		if _, err := inferencev1connect.NewInferenceClient(h, s.url).ListModels(t.Context(), &inferencev1.ListModelsRequest{}); err != nil {
			t.Error(err)
		}
	}
	stderr.Reset()
	if code := run(t.Context(), []string{"keys", "add", "no name"}, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), `"no name"`) {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if code := run(t.Context(), []string{"keys", "add", "acme", "--auth-keys", t.TempDir()}, io.Discard, &stderr); code != 1 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// TestTokensOfIssuer checks tokens at each protocol, with keys from a URL that change.
func TestTokensOfIssuer(t *testing.T) {
	type signing struct {
		private ed25519.PrivateKey
		id      string
	}
	var keys atomic.Pointer[[]signing]
	add := func(id string) signing {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return signing{private, id}
	}
	first, second := add("first"), add("second")
	keys.Store(&[]signing{first})
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var set jose.JSONWebKeySet
		for _, k := range *keys.Load() {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Use: "sig"})
		}
		_ = json.NewEncoder(w).Encode(set)
	}))
	defer issuer.Close()
	token := func(k signing) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: k.private, KeyID: k.id}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(map[string]any{"iss": "me", "aud": "mien", "sub": "robot", "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	file, secrets := keysFile(t, "acme")
	s := start(t, append(patient, "--auth-keys", file, "--auth-jwks", issuer.URL, "--auth-issuer", "me", "--auth-audience", "mien")...)
	call := func(secret string, opts ...connect.ClientOption) error {
		h := withHeaders(httpClient(t, 2, nil), http.Header{"Authorization": {"Bearer " + secret}})
		_, err := inferencev1connect.NewInferenceClient(h, s.url, opts...).Predict(t.Context(), tinyImage())
		return err
	}
	for protocol, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
		for _, secret := range []string{token(first), secrets[0]} {
			if err := call(secret, opts...); err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
		}
		err := call(token(second), opts...)
		if code, reason := reasonOf(t, err); code != connect.CodeUnauthenticated || reason != "UNAUTHENTICATED" || !strings.Contains(err.Error(), "none of the issuer's keys") {
			t.Errorf("%s: %v", protocol, err)
		}
	}
	keys.Store(&[]signing{second})
	hangUp(t)
	until(t, "the new key of the issuer counts", func() bool { return call(token(second)) == nil })
	if call(token(first)) == nil {
		t.Error("the old key of the issuer still counts")
	}
	issuer.Close()
	hangUp(t)
	time.Sleep(100 * time.Millisecond)
	if err := call(token(second)); err != nil {
		t.Errorf("while the issuer cannot be reached: %v", err)
	}
	if _, log := s.stop(); !strings.Contains(log, `"identity":"robot"`) || !strings.Contains(log, "reload failed") {
		t.Error(log)
	}
}
