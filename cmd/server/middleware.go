package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	connectcors "connectrpc.com/cors"
	"github.com/felixge/httpsnoop"
	"github.com/google/uuid"
	"github.com/rs/cors"
	"go.opentelemetry.io/otel/trace"

	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	"github.com/mienproject/mien/service"
)

// requestIDHeader has the id of the request: in every answer, and in a request to which
// a proxy has given an id.
const requestIDHeader = "X-Request-Id"

// observability is the outermost middleware. It gives each request an id, and when the
// request has ended, it writes the access log, the metrics and the trace. It leaves out
// the query of the URL, which may contain an image.
type observability struct {
	log     *slog.Logger
	proxies proxies
	metrics *metrics
	tracing *tracing
	// crossOrigin says which answers browsers withhold from pages. It may be nil.
	crossOrigin *crossOrigin
}

// An entry describes a request that has ended.
type entry struct {
	record *service.Record
	// caller is the address of the client, and proxy that of the trusted proxy that
	// reported it.
	caller, proxy string
	// path is the path of the URL, and route the pattern that it matched.
	path, route string
	status      int
	took        time.Duration
	// corsRefusal is the reason why browsers withhold the answer from a page, or "" if
	// they do not.
	corsRefusal string
}

func (o *observability) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := entry{record: &service.Record{ID: requestID(r)}, path: shorten(r.URL.Path)}
		e.caller, e.proxy = o.proxies.caller(r)
		w.Header().Set(requestIDHeader, e.record.ID)
		began := time.Now()
		ctx, span := o.tracing.start(r)
		r = r.WithContext(service.WithRecord(ctx, e.record))
		m := httpsnoop.Metrics{}
		// A panic that is used to close the connection is logged too.
		defer func() {
			p := recover()
			e.route, e.status, e.took = route(r), m.Code, time.Since(began)
			e.corsRefusal = o.crossOrigin.refusal(r, w.Header())
			o.write(r.Context(), r, e)
			o.tracing.end(span, r, e)
			o.count(r, e)
			if p != nil {
				panic(p)
			}
		}()
		// httpsnoop preserves the optional methods of the writer, such as Flush.
		m = httpsnoop.CaptureMetrics(next, w, r)
	})
}

// count counts a request.
func (o *observability) count(r *http.Request, e entry) {
	if isProbe(r.URL.Path) {
		return
	}
	procedure, protocol, result := e.record.Procedure, e.record.Protocol, code(e.record)
	if procedure == "" {
		procedure, protocol, result = otherProcedure, "http", "ok"
		if e.status >= http.StatusBadRequest || e.status == 0 {
			result = "failed"
		}
	}
	o.metrics.request(procedure, protocol, result, e.took)
	if e.record.Identity != "" {
		o.metrics.identity(e.record.Identity, result)
	}
}

// observe counts and traces one image. It logs images of streams and batches at debug
// level.
func (o *observability) observe(ctx context.Context, record *service.Record) {
	o.metrics.observe(record)
	o.tracing.image(ctx, record)
	// The line of the request already describes the image of a unary request.
	if record == service.RecordFrom(ctx) || !o.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := append([]slog.Attr{slog.String("request_id", record.ID)}, recordAttrs(record)...)
	o.log.LogAttrs(ctx, slog.LevelDebug, "image", attrs...)
}

// write writes the line of a request to the access log.
func (o *observability) write(ctx context.Context, r *http.Request, e entry) {
	level := slog.LevelInfo
	if isProbe(r.URL.Path) {
		level = slog.LevelDebug
	}
	if !o.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("request_id", e.record.ID), slog.String("caller", e.caller)}
	if e.proxy != "" {
		attrs = append(attrs, slog.String("proxy", e.proxy))
	}
	if e.record.Identity != "" {
		attrs = append(attrs, slog.String("identity", shorten(e.record.Identity)))
	}
	attrs = append(attrs,
		slog.String("http", r.Proto),
		slog.String("method", shorten(r.Method)),
		slog.String("path", e.path),
		slog.Int("status", e.status),
		slog.Float64("ms", milliseconds(e.took)))
	if e.corsRefusal != "" {
		attrs = append(attrs, slog.String("cors_refused", e.corsRefusal))
	}
	if e.record.Procedure != "" {
		attrs = append(attrs, recordAttrs(e.record)...)
	}
	// Without the line of code that writes it, which a Logger searches for each time.
	line := slog.NewRecord(time.Now(), level, "request", 0)
	line.AddAttrs(attrs...)
	_ = o.log.Handler().Handle(ctx, line) // a Logger ignores the error too
}

// recordAttrs returns the attributes of a request or an image for the log.
func recordAttrs(record *service.Record) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("protocol", record.Protocol),
		slog.String("procedure", record.Procedure),
		slog.String("code", code(record)),
	}
	if record.Reason != "" {
		attrs = append(attrs, slog.String("reason", record.Reason))
	}
	if record.Images > 0 {
		attrs = append(attrs, slog.Int("images", record.Images), slog.Int("failed", record.Failures))
	}
	if record.Model != "" {
		attrs = append(attrs,
			slog.String("model", record.Model),
			slog.Int("bytes", record.Bytes),
			slog.Int("width", record.Width),
			slog.Int("height", record.Height),
			slog.Int64("pixels", record.Pixels),
			slog.Int("faces", record.Faces),
			slog.Float64("queue_ms", milliseconds(record.Queue)),
			slog.Float64("decode_ms", milliseconds(record.Decode)),
			slog.Float64("detect_ms", milliseconds(record.Detect)))
	}
	if record.AnyOrientation {
		attrs = append(attrs, slog.Bool("any_orientation", true))
	}
	if record.Truncated {
		attrs = append(attrs, slog.Bool("truncated", true))
	}
	return attrs
}

// traced adds the trace id to each line of the log, including those of the service,
// which knows nothing about traces.
type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (h traced) Handle(ctx context.Context, line slog.Record) error {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		line.AddAttrs(slog.String("trace_id", id.String()))
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

// route returns the path of the pattern that r matched.
func route(r *http.Request) string {
	if _, path, ok := strings.Cut(r.Pattern, " "); ok {
		return path
	}
	return r.Pattern
}

// shorten limits the length of values from clients in the log.
func shorten(s string) string {
	const limit = 256
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// isProbe reports whether path is used by probes, which come every few seconds and are
// not interesting.
func isProbe(path string) bool {
	switch path {
	case "/livez", "/readyz", "/v2/health/live", "/v2/health/ready",
		inferenceconnect.GRPCInferenceServiceServerLiveProcedure, inferenceconnect.GRPCInferenceServiceServerReadyProcedure:
		return true
	}
	return strings.HasPrefix(path, "/grpc.health.v1.Health/")
}

// requestID returns the id in the request if it is valid in logs and headers, and a new
// one otherwise.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:", c)
	}) {
		return uuid.NewString()
	}
	return id
}

// crossOrigin lets pages of the given origins use every protocol. Without origins,
// browsers allow only pages of the server's own origin.
type crossOrigin struct {
	cors *cors.Cors // nil if there are no origins
	// methods and headers are those that pages may use. Headers are in lower case.
	methods, headers []string
}

func newCrossOrigin(origins, headers []string) *crossOrigin {
	c := &crossOrigin{}
	if len(origins) == 0 {
		return c
	}
	c.methods = append(connectcors.AllowedMethods(), http.MethodPut) // for /predict
	headers = slices.Concat(connectcors.AllowedHeaders(), []string{requestIDHeader, service.InferHeaderLength, "Traceparent", "Tracestate"}, headers)
	for _, header := range headers {
		c.headers = append(c.headers, strings.ToLower(header))
	}
	c.cors = cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: c.methods,
		AllowedHeaders: headers,
		ExposedHeaders: append(connectcors.ExposedHeaders(), requestIDHeader, service.ReasonHeader, service.IgnoredFieldsHeader, service.TruncatedHeader, service.InferHeaderLength, "Retry-After", "WWW-Authenticate"),
		MaxAge:         7200, // seconds; some browsers limit it to two hours
	})
	return c
}

func (c *crossOrigin) handler(next http.Handler) http.Handler {
	if c.cors == nil {
		return next
	}
	return c.cors.Handler(next)
}

// allows reports whether r comes from a page of an allowed origin.
func (c *crossOrigin) allows(r *http.Request) bool {
	return c != nil && c.cors != nil && c.cors.OriginAllowed(r)
}

// refusal returns the reason why browsers withhold the answer to r from the page that
// sent it. answer has the headers of the answer. It returns "" if they do not, or if r
// was not sent by a page of another origin.
func (c *crossOrigin) refusal(r *http.Request, answer http.Header) string {
	origin := r.Header.Get("Origin")
	if c == nil || origin == "" || answer.Get("Access-Control-Allow-Origin") != "" || isSameOrigin(r, origin) {
		return ""
	}
	if c.cors == nil {
		return "no --cors-origin is set"
	}
	if !c.cors.OriginAllowed(r) {
		return fmt.Sprintf("origin %q is not among --cors-origin", shorten(origin))
	}
	method := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || method == "" {
		return fmt.Sprintf("method %q is not allowed", shorten(r.Method))
	}
	if !slices.Contains(c.methods, method) {
		return fmt.Sprintf("method %q is not allowed", shorten(method))
	}
	for header := range strings.SplitSeq(strings.Join(r.Header.Values("Access-Control-Request-Headers"), ","), ",") {
		if header = strings.ToLower(strings.TrimSpace(header)); header != "" && !slices.Contains(c.headers, header) {
			return fmt.Sprintf("header %q is not allowed; to allow it, use --cors-header", shorten(header))
		}
	}
	return "Access-Control-Request-Headers is malformed"
}

// isSameOrigin reports whether a page of this server sent r. It ignores the scheme,
// which differs if a proxy terminates TLS.
func isSameOrigin(r *http.Request, origin string) bool {
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return true
	}
	_, host, ok := strings.Cut(origin, "://")
	return ok && strings.EqualFold(host, r.Host)
}
