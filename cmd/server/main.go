// Command server is Mien, a server that finds faces in images, over gRPC, gRPC-Web,
// Connect and HTTP/JSON on one port. Run it with --help.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"golang.org/x/net/http2"
	"golang.org/x/term"

	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/internal/version"
	"github.com/mienproject/mien/modelstore"
	"github.com/mienproject/mien/service"
	"github.com/mienproject/mien/web"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, done, err := parse("/", args, stdout)
	if done {
		return 0
	}
	if err != nil {
		return misconfigured(stderr, err)
	}
	if cfg.command == addCommand {
		return cfg.addKey(stdout, stderr)
	}
	return runServer(ctx, cfg, stderr)
}

// By how many percent the heap grows between garbage collections, unless GOGC says so. Images are
// memory without pointers, which costs the collector little: Go's own 100 percent give some
// percent more images a second, in a quarter more memory (docs/performance.md). Until the server
// is ready, most of what it allocates stays.
const (
	heapGrowth      = 40
	heapGrowthFirst = 200
)

func growHeap(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// runServer runs the server that cfg describes. It returns the exit code: 0 after a graceful stop, 1 after a
// failure, and 2 if the configuration is wrong.
func runServer(ctx context.Context, cfg *config, stderr io.Writer) int {
	// An interrupt comes from a person and stops the server at once. SIGTERM comes from
	// an orchestrator, and is handled below.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	// A second interrupt ends the process at once.
	context.AfterFunc(ctx, stop)

	// From here on, SIGHUP does not end the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ignoreBrokenPipes()

	growHeap(heapGrowthFirst)
	log := cfg.logger(stderr, isTerminal(stderr))
	var progress io.Writer // only on a terminal
	if isTerminal(stderr) {
		progress = stderr
	}
	svcConfig, err := cfg.service(ctx, log, progress)
	if err != nil && ctx.Err() != nil {
		// An interrupt while models are fetched does not mean that the configuration is wrong.
		fmt.Fprintf(stderr, "mien: %v\n", err)
		return 1
	}
	if err != nil {
		return misconfigured(stderr, err)
	}
	sec, err := newSecurity(cfg, log)
	if err != nil {
		return misconfigured(stderr, err)
	}
	defer sec.files.start(ctx, hangup)()
	// The garbage collector works more often before the heap exceeds this.
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(cfg.limits.heap)
	}
	cfg.logLimits(log)
	// Workers keep their cores busy for milliseconds at a time. With additional threads
	// the operating system can run short tasks in between: reading, answering and,
	// above all, refusing requests. docs/performance.md shows the effect under load.
	if !chosenProcs(os.Getenv("GOMAXPROCS")) {
		runtime.GOMAXPROCS(max(procs, svcConfig.Workers+max(2, svcConfig.Workers/4)))
	}
	obs := &observability{log: log, proxies: cfg.proxies, metrics: newMetrics()}
	if obs.tracing, err = newTracing(ctx, log); err != nil {
		return misconfigured(stderr, err)
	}
	defer obs.tracing.shutdown(ctx, log)
	svcConfig.Observe = obs.observe
	svcConfig.Overloaded = connectionAge(cfg.ConnAge).overloaded
	if sec.quotas != nil {
		svcConfig.Charge = charge
	}
	svc, err := service.New(svcConfig)
	if err != nil {
		return misconfigured(stderr, err)
	}
	obs.metrics.watch(svc)
	obs.metrics.watchCertificates(sec.certificates)
	// Before this point SIGTERM ends the process, because there is nothing to drain.
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	defer signal.Stop(terminated)
	if err := serve(ctx, terminated, cfg, svc, obs, sec, log); err != nil {
		fmt.Fprintf(stderr, "mien: %v\n", err)
		return 1
	}
	return 0
}

// chosenProcs reports whether Go's runtime uses this value of GOMAXPROCS. It silently
// ignores anything that is not a number above 0.
func chosenProcs(value string) bool {
	n, err := strconv.ParseInt(value, 10, 32)
	return err == nil && n > 0
}

// misconfigured prints each problem on a line of its own, and returns the exit code. That tells a
// supervisor whether another start can help: it can if something could not be reached.
func misconfigured(stderr io.Writer, err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "mien: %s\n", strings.TrimSpace(line))
	}
	if _, unreachable := errors.AsType[*url.Error](err); unreachable || errors.Is(err, modelstore.ErrUnavailable) {
		return 1
	}
	fmt.Fprintln(stderr, "mien: see --help")
	return 2
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// serve serves requests until ctx ends or a signal comes from terminated, and then
// drains the server.
func serve(ctx context.Context, terminated <-chan os.Signal, cfg *config, svc *service.Service, obs *observability, sec *security, log *slog.Logger) error {
	// Listen before the self-test, so that a port in use is reported at once. Clients
	// that connect now wait until the self-test has passed.
	listeners, err := cfg.listen(ctx)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	admin, err := cfg.listenAdmin(ctx)
	if err != nil {
		return err
	}
	if admin != nil {
		defer serveAdmin(admin, obs.metrics, sec, newSites(cfg.AllowedHost, nil, nil), log)()
	}
	started := time.Now()
	tested := make(chan error, 1)
	go func() { tested <- svc.SelfTest(ctx) }()

	state := newHealth()
	page, err := web.Page(version.Number)
	if err != nil {
		return err
	}
	stopping, stopNow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNow()
	server, err := newServer(cfg, routes(stopping, cfg, svc, state, page, obs, sec), sec.tls(), log)
	if err != nil {
		return err
	}
	if err := <-tested; err != nil {
		return err
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- serveOn(server, l, sec.certificates != nil) }()
	}
	state.serving(true)
	for _, l := range listeners {
		log.Info("listening", "url", localURL(l.Addr(), sec.certificates != nil))
	}
	if admin != nil {
		log.Info("admin", "metrics", localURL(admin.Addr(), sec.adminTLS)+"/metrics", "profiles", localURL(admin.Addr(), sec.adminTLS)+"/debug/pprof/")
	}
	growHeap(heapGrowth)
	log.Info("ready", "version", version.Number, "models", svc.Models(), "workers", cfg.limits.workers,
		"self_test_ms", milliseconds(time.Since(started)))

	if err := waitForStop(ctx, terminated, failed, cfg, state, log); err != nil {
		return err
	}
	// This happens after the ports are closed, so that clients which get DRAINING and
	// try again reach another server.
	server.RegisterOnShutdown(svc.Drain)
	server.RegisterOnShutdown(stopNow)
	return shutdown(ctx, terminated, server, cfg.drainTimeout(), log)
}

// listen opens the listeners for clients.
func (c *config) listen(ctx context.Context) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, addr := range c.Listen {
		l, err := listen(ctx, addr, c.ReusePort)
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("--listen: %w%s", err, listenRemedy(ctx, addr, err))
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func serveOn(server *http.Server, l net.Listener, secure bool) error {
	if secure {
		return server.ServeTLS(l, "", "")
	}
	return server.Serve(l)
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // the server may have closed it already
	}
}

// newServer returns an HTTP server with the limits that protect connections from each
// other.
func newServer(cfg *config, handler http.Handler, tlsConfig *tls.Config, log *slog.Logger) (*http.Server, error) {
	server := &http.Server{
		Handler:     handler,
		BaseContext: markLoopback,
		ConnContext: connectionAge(cfg.ConnAge).limit,
		Protocols:   new(http.Protocols),
		TLSConfig:   tlsConfig,
		// A URL may contain an image of 40 KB, and on HTTP/2 a header that is too large
		// closes the connection with all of its requests.
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: 10 * time.Second,
		// Enough for an image of 16 MiB in base64 over a slow connection.
		ReadTimeout: bodyTimeout,
		// Counted from the end of the header to the end of the answer.
		WriteTimeout: bodyTimeout + cfg.Timeout + 10*time.Second,
		IdleTimeout:  2 * time.Minute,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 250,
			// This limits what a stream has sent and the server has not read yet, so
			// that a stream that must wait does not block the others of its connection.
			MaxReceiveBufferPerStream:     256 << 10,
			MaxReceiveBufferPerConnection: 16 << 20,
			// The smallest size that the protocol allows. h2spec expects larger frames
			// to be rejected.
			MaxReadFrameSize: 16 << 10,
			SendPingTimeout:  30 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 30 * time.Second,
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	// Before Go 1.26.9, a peer can crash net/http's own HTTP/2 (GO-2026-6617). The
	// implementation in golang.org/x/net is safe with every Go 1.26. From Go 1.27 on,
	// it calls net/http's.
	return server, http2.ConfigureServer(server, nil) //nolint:staticcheck // deprecated only for code that requires a newer Go
}

// waitForStop returns nil when the server must stop, or the error with which it failed.
// After SIGTERM it first waits for load balancers to notice that the server is no
// longer ready.
func waitForStop(ctx context.Context, terminated <-chan os.Signal, failed <-chan error, cfg *config, state *health, log *slog.Logger) error {
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		log.Info("stopping", "because", "interrupt")
		state.serving(false)
		return nil
	case <-terminated:
	}
	log.Info("stopping", "because", "SIGTERM", "drain_delay", cfg.DrainDelay.String(), "drain_timeout", cfg.drainTimeout().String())
	// Readiness ends first, and requests are still answered until load balancers have
	// noticed. Clients with open connections are asked to close them.
	state.serving(false)
	select {
	case <-time.After(cfg.DrainDelay):
	case <-terminated:
		log.Info("hurrying", "because", "SIGTERM")
	case <-ctx.Done():
		log.Info("hurrying", "because", "interrupt")
	}
	return nil
}

// shutdown waits until the requests in flight have ended, for at most timeout, or until
// a signal comes from hurry.
func shutdown(ctx context.Context, hurry <-chan os.Signal, server *http.Server, timeout time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Shutdown(ctx) }()
	because := fmt.Sprintf("--drain-timeout, %v, ended", timeout)
	var err error
	select {
	case err = <-ended:
	case <-hurry:
		because = "another SIGTERM was received"
		cancel()
		err = <-ended
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		_ = server.Close() // the error below is more important
		return fmt.Errorf("requests were still running when %s, and were cut off", because)
	}
	if err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

const (
	maxHeaderBytes = 64 << 10
	bodyTimeout    = time.Minute
)

// routes returns the handler of all URLs. The middleware is listed in the order in
// which a request passes through it.
func routes(stop context.Context, cfg *config, svc *service.Service, state *health, page http.Handler, obs *observability, sec *security) http.Handler {
	mux := http.NewServeMux()
	// Routes that are open to everyone. All others need a key, if the server has keys.
	public := map[string]bool{}
	open := func(path string, h http.Handler) { mux.Handle(path, h); public[path] = true }
	handle := func(path string, h http.Handler) { mux.Handle(path, bounded(stop, service.Compat(h))) }
	// These messages are tiny, so compression is off: compressed, they could only be bombs.
	small := connect.WithHandlerOptions(connect.WithReadMaxBytes(smallMessage), connect.WithCompression("gzip", nil, nil))

	mux.Handle(svc.Handler())    // /inference.v1.Inference/
	mux.Handle(svc.OldHandler()) // /Inference/Predict
	mux.Handle("POST /predict", svc.PredictHandler())
	mux.Handle("PUT /predict", svc.PredictHandler())
	openInference := svc.OpenInference(version.Number, state.isReady.Load)
	openPath, openRPCs := openInference.Handler()
	mux.Handle(openPath, openRPCs) // /inference.GRPCInferenceService/
	rest := openInference.REST()
	mux.Handle("/v2", rest)
	mux.Handle("/v2/", rest)                                  // /v2/models/{model}/infer
	handle(grpcreflect.NewHandlerV1(reflector(), small))      // /grpc.reflection.v1.ServerReflection/
	handle(grpcreflect.NewHandlerV1Alpha(reflector(), small)) // /grpc.reflection.v1alpha.ServerReflection/

	for path, h := range cfg.extra {
		handle(path, h)
	}

	healthPath, healthHandler := grpchealth.NewHandler(state, small)
	open(healthPath, bounded(stop, service.Compat(healthHandler))) // /grpc.health.v1.Health/
	open(inferenceconnect.GRPCInferenceServiceServerLiveProcedure, openRPCs)
	open(inferenceconnect.GRPCInferenceServiceServerReadyProcedure, openRPCs)
	open("/v2/health/live", rest)
	open("/v2/health/ready", rest)
	open("GET /livez", http.HandlerFunc(state.live))
	open("GET /readyz", http.HandlerFunc(state.ready))
	open("GET /openapi.yaml", web.OpenAPI())
	if !cfg.NoPage {
		open("GET /{$}", page)
		open("GET /page/", page)
	}

	isPublic := func(r *http.Request) bool {
		_, pattern := mux.Handler(r)
		return public[pattern] || isPreflight(r)
	}
	obs.crossOrigin = newCrossOrigin(cfg.CORSOrigin, slices.Concat(cfg.CORSHeader, sec.headers()))
	site := newSites(cfg.AllowedHost, cfg.CORSOrigin, obs.crossOrigin)
	return chain(
		split(
			isPublic,
			chain(mux, site.handler(svc, false)),
			chain(mux,
				site.handler(svc, true), // refuses pages of other sites, and host names of others
				sec.callers(svc),        // API keys and client certificates
				sec.account(svc),        // quotas of callers
			),
		),
		connectionAge(cfg.ConnAge).handler, // ends old connections
		state.leaving,                      // ends all connections before the server stops
		obs.handler,                        // request id, access log, metrics, traces
		svc.Recover,                        // turns panics into errors
		obs.crossOrigin.handler,            // lets pages of other origins call the server
	)
}

// split returns a handler that serves a request with yes or no, as the condition says.
func split(condition func(*http.Request) bool, yes, no http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if condition(r) {
			yes.ServeHTTP(w, r)
		} else {
			no.ServeHTTP(w, r)
		}
	})
}

// chain returns h wrapped in middleware. The first one sees a request first.
func chain(h http.Handler, middleware ...func(http.Handler) http.Handler) http.Handler {
	for _, m := range slices.Backward(middleware) {
		h = m(h)
	}
	return h
}

// leaving closes each connection with its next answer (on HTTP/2, with a GOAWAY) while
// the server is about to stop. Otherwise a request could be on its way when the server
// closes the connection, and would be lost.
func (h *health) leaving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.isReady.Load() {
			closeConnection(w.Header())
		}
		next.ServeHTTP(w, r)
	})
}

// smallMessage is larger than any message of health checks and reflection.
const smallMessage = 64 << 10

// bounded limits the bodies of handlers that take no images. It also ends their streams
// when stop ends, because an idle reflection stream must not delay a graceful stop.
func bounded(stop context.Context, next http.Handler) http.Handler {
	next = http.MaxBytesHandler(next, 16*smallMessage)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := http.NewResponseController(w)
		defer context.AfterFunc(stop, func() {
			_ = body.SetReadDeadline(time.Now()) // the stream may have ended already
		})()
		next.ServeHTTP(w, r)
	})
}

func reflector() *grpcreflect.Reflector {
	return grpcreflect.NewStaticReflector(inferencev1connect.InferenceName, inferenceconnect.GRPCInferenceServiceName, grpchealth.HealthV1ServiceName)
}

// health answers probes: those of gRPC, and the two of Kubernetes.
type health struct {
	*grpchealth.StaticChecker
	isReady atomic.Bool
}

func newHealth() *health {
	h := &health{StaticChecker: grpchealth.NewStaticChecker(inferencev1connect.InferenceName, inferenceconnect.GRPCInferenceServiceName)}
	h.serving(false)
	return h
}

func (h *health) serving(yes bool) {
	h.isReady.Store(yes)
	status := grpchealth.StatusNotServing
	if yes {
		status = grpchealth.StatusServing
	}
	h.SetStatus("", status)
	h.SetStatus(inferencev1connect.InferenceName, status)
	h.SetStatus(inferenceconnect.GRPCInferenceServiceName, status)
}

// live reports that the process is alive.
func (h *health) live(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok\n") }

// ready reports whether the models are loaded, the self-test has passed, and the server
// is not about to stop.
func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	if !h.isReady.Load() {
		answer(w, http.StatusServiceUnavailable, "stopping\n")
		return
	}
	answer(w, http.StatusOK, "ok\n")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client may have disconnected
}

// localURL returns the URL that a person on this machine can open.
func localURL(addr net.Addr, secure bool) string {
	if addr.Network() == "unix" {
		return unixScheme + addr.String()
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
