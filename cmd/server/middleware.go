package main

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	connectcors "connectrpc.com/cors"
	"github.com/felixge/httpsnoop"
	"github.com/google/uuid"
	"github.com/rs/cors"

	"github.com/mienproject/mien/service"
)

// requestIDHeader carries the request's id: in the answer always, and in the
// request when a proxy in front has given it one already.
const requestIDHeader = "X-Request-Id"

// accessLog gives each request its id and writes one line when it has ended. The
// query of a URL is never logged: it may hold an image.
func accessLog(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := &service.Call{ID: requestID(r)}
		w.Header().Set(requestIDHeader, call.ID)
		ctx := service.WithCall(r.Context(), call)
		m := httpsnoop.Metrics{}
		began := time.Now()
		// What panics through here, to cut the connection, has its line as well.
		defer func() {
			p := recover()
			if p != nil {
				m.Duration = time.Since(began)
			}
			write(r.WithContext(ctx), log, call, m)
			if p != nil {
				panic(p)
			}
		}()
		// httpsnoop keeps what the writer can do, Flush among it.
		m = httpsnoop.CaptureMetrics(next, w, r.WithContext(ctx))
	})
}

// write writes the line of one request.
func write(r *http.Request, log *slog.Logger, call *service.Call, m httpsnoop.Metrics) {
	ctx, level := r.Context(), slog.LevelInfo
	if isProbe(r.URL.Path) {
		level = slog.LevelDebug
	}
	if !log.Enabled(ctx, level) {
		return
	}
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		peer = r.RemoteAddr
	}
	attrs := []slog.Attr{
		slog.String("request_id", call.ID),
		slog.String("peer", peer),
		slog.String("http", r.Proto),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Int("status", m.Code),
		slog.Float64("ms", milliseconds(m.Duration)),
	}
	if call.Procedure != "" {
		code := "ok"
		if call.Code != 0 {
			code = call.Code.String()
		}
		attrs = append(attrs, slog.String("protocol", call.Protocol), slog.String("code", code))
	}
	if call.Reason != "" {
		attrs = append(attrs, slog.String("reason", call.Reason))
	}
	if call.Model != "" {
		attrs = append(attrs,
			slog.String("model", call.Model),
			slog.Int("bytes", call.Bytes),
			slog.Int("width", call.Width),
			slog.Int("height", call.Height),
			slog.Int("faces", call.Faces),
			slog.Float64("queue_ms", milliseconds(call.Queue)),
			slog.Float64("decode_ms", milliseconds(call.Decode)),
			slog.Float64("detect_ms", milliseconds(call.Detect)))
	}
	log.LogAttrs(ctx, level, "request", attrs...)
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// isProbe tells requests that come every few seconds and say nothing.
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

// crossOrigin lets pages of the given origins call every protocol. Without
// origins there is nothing to allow: browsers then refuse other origins' pages.
func crossOrigin(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: connectcors.AllowedMethods(),
		AllowedHeaders: append(connectcors.AllowedHeaders(), requestIDHeader),
		ExposedHeaders: append(connectcors.ExposedHeaders(), requestIDHeader, service.ReasonHeader, "Retry-After"),
		MaxAge:         7200, // seconds; browsers cap it at two hours
	}).Handler(next)
}
