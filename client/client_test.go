package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"image"
	"image/jpeg"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"go.uber.org/goleak"

	"github.com/mienproject/mien/auth"
	"github.com/mienproject/mien/client"
	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

const samplePath = "../service/selftest/sample.jpg"

// serverURL is the URL of a server with the embedded model, for all tests.
var serverURL string

func TestMain(m *testing.M) {
	server := newServer()
	server.Start()
	serverURL = server.URL
	code := m.Run()
	server.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// newServer returns the real service behind a listener, not started yet.
func newServer() *httptest.Server {
	detector, err := pigo.New(cores.NewGate(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic(err)
	}
	config := service.DefaultConfig()
	config.Models = []service.Model{{Name: "pigo", Detector: detector}}
	svc, err := service.New(config)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(svc.Handler())
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(inferencev1connect.InferenceName)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "request-1")
		mux.ServeHTTP(w, r.WithContext(service.WithRecord(r.Context(), &service.Record{ID: "request-1"})))
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	return server
}

func newClient(t *testing.T, url string, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// TestProtocols checks that the answers are the same for every configuration of a
// client.
func TestProtocols(t *testing.T) {
	secure := newServer()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	socket := filepath.Join(t.TempDir(), "mien.sock")
	local := newServer()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local.Listener.Close()
	local.Listener = listener
	local.Start()
	t.Cleanup(local.Close)

	for name, url := range map[string]string{
		"http": serverURL, "host and port": strings.TrimPrefix(serverURL, "http://"), "slash": serverURL + "/",
		"unix": "unix://" + socket, "as --listen has it": "unix:" + socket, "https": secure.URL,
	} {
		for protocol, opts := range map[string][]client.Option{"connect": nil, "grpc": {client.WithGRPC()}} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				if name == "https" {
					opts = append(opts, client.WithHTTPClient(secure.Client()))
				}
				assertAnswers(t, newClient(t, url, opts...))
			})
		}
	}
}

func assertAnswers(t *testing.T, c *client.Client) {
	t.Helper()
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, err := c.PredictFile(t.Context(), samplePath, &inferencev1.DetectOptions{SkipLandmarks: true, MinFaceSize: 150})
	if err != nil || len(res.GetResults()) != 1 || res.GetWidth() != 320 || res.GetResults()[0].GetLandmarks() != nil {
		t.Errorf("%v, %v", res, err)
	}
	models, err := c.ListModels(t.Context())
	if err != nil || len(models) != 1 || models[0].GetName() != "pigo" {
		t.Errorf("models: %v, %v", models, err)
	}

	_, err = c.PredictBytes(t.Context(), []byte("no image"), nil)
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != connect.CodeInvalidArgument || e.Reason != client.ReasonUnsupportedFormat ||
		e.RequestID != "request-1" || !strings.HasPrefix(err.Error(), "UNSUPPORTED_FORMAT: ") || client.Reason(err) != e.Reason {
		t.Errorf("%#v", err)
	}
	if _, ok := errors.AsType[*connect.Error](err); !ok {
		t.Error("no *connect.Error within")
	}
}

// TestTooLarge checks that the reason arrives even if the server stops reading, for the
// limit of an image and for that of a message.
func TestTooLarge(t *testing.T) {
	for protocol, opts := range map[string][]client.Option{"connect": nil, "grpc": {client.WithGRPC()}} {
		c := newClient(t, serverURL, opts...)
		for _, size := range []int{17 << 20, 40 << 20} {
			if _, err := c.PredictBytes(t.Context(), make([]byte, size), nil); client.Reason(err) != client.ReasonTooManyBytes {
				t.Errorf("%s, %d bytes: %v", protocol, size, err)
			}
		}
	}
}

// TestPredictImage checks that an image in memory gives the same faces as its file.
func TestPredictImage(t *testing.T) {
	c := newClient(t, serverURL)
	f, err := os.Open(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.PredictFile(t.Context(), samplePath, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.PredictImage(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Decoders may round differently.
	if len(want.GetResults()) != 1 || len(got.GetResults()) != 1 || got.GetWidth() != 320 || got.GetHeight() != 400 ||
		iou(got.GetResults()[0], want.GetResults()[0]) < 0.9 {
		t.Errorf("%v, the file has %v", got.GetResults(), want.GetResults())
	}
	if _, err := c.PredictImage(t.Context(), image.NewRGBA(image.Rectangle{}), nil); err == nil {
		t.Error("an image without pixels is no error")
	}
}

func iou(a, b *inferencev1.Result) float64 {
	box := func(r *inferencev1.Result) face.Box {
		from, to := r.GetBox().GetUpLeft(), r.GetBox().GetLowerRight()
		return face.Box{MinX: float64(from.GetX()), MinY: float64(from.GetY()), MaxX: float64(to.GetX()), MaxY: float64(to.GetY())}
	}
	return face.IoU(box(a), box(b))
}

func TestPredictFileErrors(t *testing.T) {
	c := newClient(t, serverURL)
	if _, err := c.PredictFile(t.Context(), "nowhere.jpg", nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "nowhere.jpg") {
		t.Errorf("%v", err)
	}
	large := filepath.Join(t.TempDir(), "large.jpg")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 10<<30); err != nil {
		t.Skip("no such file can be made here: ", err)
	}
	if _, err := c.PredictFile(t.Context(), large, nil); client.Reason(err) != client.ReasonTooManyBytes {
		t.Errorf("%v", err)
	}
}

func TestNewErrors(t *testing.T) {
	for _, url := range []string{
		"", "ftp://localhost", "http://", ":8080", "unix:", "unix://", "http://user@localhost", "http://localhost?x=1", "local host", "http://a:b",
	} {
		if _, err := client.New(url); err == nil || !strings.Contains(err.Error(), "write it as http://localhost:8080") {
			t.Errorf("%q: %v", url, err)
		}
	}
	_, err := client.New("unix:///mien.sock", client.WithTimeout(0), client.WithAttempts(0), client.WithHTTPClient(http.DefaultClient),
		client.WithAPIKey("two words"), client.WithTLSConfig(&tls.Config{MinVersion: tls.VersionTLS13}))
	for _, want := range []string{"WithTimeout", "WithAttempts", "WithHTTPClient cannot", "WithAPIKey", "WithTLSConfig cannot", "WithTLSConfig has no effect"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to name %s", err, want)
		}
	}
}

// TestAPIKey checks that each kind of call sends the key, and only to a server that has the
// right certificate.
func TestAPIKey(t *testing.T) {
	keys := &auth.Keys{}
	secret, line, err := auth.NewKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Load([]byte(line)); err != nil {
		t.Fatal(err)
	}
	server := newServer()
	inside := server.Config.Handler
	authenticate := auth.Authenticator{Keys: keys}
	var served atomic.Int64
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := authenticate.Authenticate(r.Context(), r); err != nil {
			_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodeUnauthenticated, err))
			return
		}
		if len(r.TLS.PeerCertificates) != 1 {
			t.Error("no client certificate")
		}
		served.Add(1)
		inside.ServeHTTP(w, r)
	})
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	secure := &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}

	for protocol, opts := range map[string][]client.Option{"connect": nil, "grpc": {client.WithGRPC()}} {
		t.Run(protocol, func(t *testing.T) {
			before := served.Load()
			c := newClient(t, server.URL, append(opts, client.WithAPIKey(secret), client.WithTLSConfig(secure))...)
			assertAnswers(t, c)
			for res, err := range c.PredictStream(t.Context(), func(yield func(*inferencev1.Image) bool) {
				yield(&inferencev1.Image{RawData: make([]byte, 100), Width: 10, Height: 10, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8})
			}) {
				if err != nil {
					t.Errorf("stream: %v, %v", res, err)
				}
			}
			if n := served.Load() - before; n < 4 { // health, Predict, ListModels and the stream
				t.Errorf("only %d calls were served", n)
			}
			for _, wrong := range [][]client.Option{{client.WithAPIKey("wrong")}, nil} {
				c := newClient(t, server.URL, slices.Concat(opts, wrong, []client.Option{client.WithTLSConfig(secure)})...)
				_, err := c.ListModels(t.Context())
				if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != connect.CodeUnauthenticated {
					t.Errorf("%v", err)
				}
				if err := c.WaitReady(t.Context()); err == nil {
					t.Error("ready")
				}
			}
			c = newClient(t, server.URL, append(opts, client.WithAPIKey(secret))...)
			if _, err := c.ListModels(t.Context()); err == nil {
				t.Error("a certificate is trusted that should not be")
			}
		})
	}
}

// TestNoServer checks the errors if no server can be reached, or if waiting for one
// cannot help.
func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := newClient(t, l.Addr().String())
	_, err = c.PredictBytes(t.Context(), []byte("x"), nil)
	if connect.CodeOf(err) != connect.CodeUnavailable || client.Reason(err) != "" || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.WaitReady(ctx); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}

	secure := newServer()
	secure.StartTLS()
	t.Cleanup(secure.Close)
	empty := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	for url, want := range map[string]string{
		secure.URL: "certificate",
		strings.Replace(serverURL, "http:", "https:", 1): "HTTP response to HTTPS client",
		empty.URL: "not a Mien server",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		started := time.Now()
		err := newClient(t, url).WaitReady(ctx)
		if err == nil || !strings.Contains(err.Error(), want) || time.Since(started) > time.Minute {
			t.Errorf("%s: %v after %v, want %q at once", url, err, time.Since(started), want)
		}
		cancel()
	}
}

// resets is a listener that resets its first connections while they are used.
type resets struct {
	net.Listener
	left atomic.Int32
}

func (r *resets) Accept() (net.Conn, error) {
	for {
		conn, err := r.Listener.Accept()
		if err != nil || r.left.Add(-1) < 0 {
			return conn, err
		}
		conn.Read(make([]byte, 16))
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// TestReset checks connections that are reset, which Connect reports as if the client
// had canceled the call.
func TestReset(t *testing.T) {
	server := newServer()
	listener := &resets{Listener: server.Listener}
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	for protocol, opts := range map[string][]client.Option{"connect": nil, "grpc": {client.WithGRPC()}} {
		listener.left.Store(2)
		if models, err := newClient(t, server.URL, opts...).ListModels(t.Context()); err != nil || len(models) != 1 {
			t.Errorf("%s: %v, %v", protocol, models, err)
		}
		listener.left.Store(9)
		_, err := newClient(t, server.URL, opts...).PredictBytes(t.Context(), make([]byte, 1<<20), nil)
		if connect.CodeOf(err) != connect.CodeUnavailable || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

// TestCutAnswer checks answers that end too early, as when a server behind a proxy is killed.
func TestCutAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		opts   []client.Option
		answer http.HandlerFunc
	}{
		"connect, connection closed": {nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/proto")
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(make([]byte, 10))
			panic(http.ErrAbortHandler)
		}},
		"connect, connection reset": {nil, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 100\r\n\r\n"))
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}},
		"grpc, stream ended without trailers": {[]client.Option{client.WithGRPC()}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
		}},
		"grpc, stream ended without announced trailers": {[]client.Option{client.WithGRPC()}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
			_, _ = w.Write(make([]byte, 5)) // an empty message
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer()
			next := server.Config.Handler
			var requests atomic.Int32
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					test.answer(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
			server.Start()
			t.Cleanup(server.Close)
			models, err := newClient(t, server.URL, test.opts...).ListModels(t.Context())
			if err != nil || len(models) != 1 || requests.Load() != 2 {
				t.Errorf("%v, %v after %d attempts", models, err, requests.Load())
			}
		})
	}
}

// generations is a listener whose connections break with the next request on them once
// there is a new generation.
type generations struct {
	net.Listener
	now atomic.Int32
}

type generationConn struct {
	net.Conn
	of   *generations
	born int32
}

func (g *generations) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	return &generationConn{conn, g, g.now.Load()}, err
}

func (c *generationConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.born != c.of.now.Load() {
		c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestRestart checks that after a restart of the server, which breaks all connections,
// the second attempt does not use another broken connection.
func TestRestart(t *testing.T) {
	server := newServer()
	listener := &generations{Listener: server.Listener}
	server.Listener = listener
	next := server.Config.Handler
	var together sync.WaitGroup
	var requests atomic.Int32
	const callers = 3
	together.Add(callers)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= callers {
			together.Done()
			together.Wait() // each call used a connection of its own
		}
		next.ServeHTTP(w, r)
	})
	server.Start()
	t.Cleanup(server.Close)

	c := newClient(t, server.URL, client.WithAttempts(2))
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if _, err := c.ListModels(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	listener.now.Add(1)
	if models, err := c.ListModels(t.Context()); err != nil || len(models) != 1 {
		t.Errorf("%v, %v", models, err)
	}
}

// TestReasons checks that package client exports every reason that it can receive,
// according to package reason, which the server uses.
func TestReasons(t *testing.T) {
	match := func(path, pattern string) (names []string) {
		t.Helper()
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(source), -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return names
	}
	// Package client calls neither /predict nor the Open Inference Protocol, so it does not
	// receive these.
	others := []string{"InvalidForm", "InvalidJSON", "InvalidTensor", "UnsupportedEncoding"}
	want := slices.DeleteFunc(match("../reason/reason.go", `(\w+) += "[A-Z_]+"`), func(name string) bool {
		return slices.Contains(others, name)
	})
	if got := match("errors.go", `Reason(\w+) += reason\.`); !slices.Equal(got, want) {
		t.Errorf("package client exports %v, want %v", got, want)
	}
	if got := match("errors.go", `Reason\w+ += reason\.(\w+)`); !slices.Equal(got, want) {
		t.Errorf("package client's constants have the values %v, want %v", got, want)
	}
}
