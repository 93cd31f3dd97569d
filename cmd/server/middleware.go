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

	"github.com/mienproject/mien/service"
)

// requestIDHeader carries the request's id: in the answer always, and in the
// request when a proxy in front has given it one already.
const requestIDHeader = "X-Request-Id"

// observability is around everything else: it gives each request its id, and writes its
// line of the access log, its metrics and its trace when it has ended. The query of a URL
// is left out of all of them, for it may hold an image.
type observability struct {
	log     *slog.Logger
	proxies proxies
	metrics *metrics
	tracing *tracing
	// crossOrigin says what browsers keep from pages; nil if there is none.
	crossOrigin *crossOrigin
}

// An entry is what is known of a request that has ended.
type entry struct {
	record *service.Record
	// caller is the client's address, and proxy that of the trusted proxy which named it.
	caller, proxy string
	// path is that of the URL, and route the pattern that it matched.
	path, route string
	status      int
	took        time.Duration
	// corsRefusal is why a browser keeps the answer from a page; empty when it does not.
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
		// A panic that passes through here, to cut the connection, is logged as well.
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
		// httpsnoop keeps what the writer can do, Flush among it.
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
}

// observe counts and traces one image, of a stream or by itself, and logs those of
// streams at debug level.
func (o *observability) observe(ctx context.Context, record *service.Record) {
	o.metrics.observe(record)
	o.tracing.image(ctx, record)
	// That of a single one is in the line of its request.
	if record == service.RecordFrom(ctx) || !o.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := append([]slog.Attr{slog.String("request_id", record.ID)}, recordAttrs(record)...)
	o.log.LogAttrs(ctx, slog.LevelDebug, "image", attrs...)
}

// write writes the line of one request.
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
	o.log.LogAttrs(ctx, level, "request", attrs...)
}

// recordAttrs returns what the log says of a call or an image.
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
	return attrs
}

// traced adds to each line the trace that it belongs to, where there is one: to
// the service's lines too, which knows nothing of traces.
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

// route is the path of the pattern that r matched.
func route(r *http.Request) string {
	if _, path, ok := strings.Cut(r.Pattern, " "); ok {
		return path
	}
	return r.Pattern
}

// shorten keeps what clients send from filling the log.
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

// isProbe reports whether a request is one of those that come every few seconds and say
// nothing.
func isProbe(path string) bool {
	return path == "/livez" || path == "/readyz" || strings.HasPrefix(path, "/grpc.health.v1.Health/")
}

// requestID takes over the id that the request brings, when it is one that can
// stand in a log and a header, and makes one otherwise.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:", c)
	}) {
		return uuid.NewString()
	}
	return id
}

// crossOrigin lets pages of the given origins call every protocol. Without origins
// there is nothing to allow: browsers then refuse other origins' pages.
type crossOrigin struct {
	cors *cors.Cors // nil without origins
	// methods and headers are those that pages may use, headers in lower case.
	methods, headers []string
}

func newCrossOrigin(origins, headers []string) *crossOrigin {
	c := &crossOrigin{}
	if len(origins) == 0 {
		return c
	}
	c.methods = append(connectcors.AllowedMethods(), http.MethodPut) // for /predict
	headers = slices.Concat(connectcors.AllowedHeaders(), []string{requestIDHeader, "Traceparent", "Tracestate"}, headers)
	for _, header := range headers {
		c.headers = append(c.headers, strings.ToLower(header))
	}
	c.cors = cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: c.methods,
		AllowedHeaders: headers,
		ExposedHeaders: append(connectcors.ExposedHeaders(), requestIDHeader, service.ReasonHeader, service.IgnoredFieldsHeader, "Retry-After"),
		MaxAge:         7200, // seconds; browsers cap it at two hours
	})
	return c
}

func (c *crossOrigin) handler(next http.Handler) http.Handler {
	if c.cors == nil {
		return next
	}
	return c.cors.Handler(next)
}

// refusal returns why a browser keeps the answer to r, with these headers, from the page
// that wants it; empty when it does not, and when no page of another origin has asked.
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
	for _, header := range strings.Split(strings.Join(r.Header.Values("Access-Control-Request-Headers"), ","), ",") {
		if header = strings.ToLower(strings.TrimSpace(header)); header != "" && !slices.Contains(c.headers, header) {
			return fmt.Sprintf("header %q is not allowed; --cors-header allows it", shorten(header))
		}
	}
	return "Access-Control-Request-Headers is not as browsers write it"
}

// isSameOrigin reports whether a page of this server has sent r. The scheme may be
// another where TLS ends before this server.
func isSameOrigin(r *http.Request, origin string) bool {
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return true
	}
	_, host, ok := strings.Cut(origin, "://")
	return ok && strings.EqualFold(host, r.Host)
}
