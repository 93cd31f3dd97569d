package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	neturl "net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/mienproject/mien/internal/version"
	"github.com/mienproject/mien/service"
)

// tracing makes a span for each request, as a child of the client's span, and child
// spans for the stages of each image. The zero value makes no spans, but still extracts
// the client's trace for the log.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// flushTimeout is the maximum time for exporting the last spans.
const flushTimeout = 5 * time.Second

// newTracing sets up the export that OpenTelemetry's environment variables configure.
// The exporter and the SDK read most of these variables (headers, certificates,
// sampler, resource) themselves.
func newTracing(ctx context.Context, log *slog.Logger) (*tracing, error) {
	name, endpoint := firstSet("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "", "otlp":
	case "none":
		endpoint = ""
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is neither otlp nor none", exporter)
	}
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return &tracing{}, nil
	}
	if u, err := neturl.Parse(endpoint); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%s: %q is not the URL of a collector; write it as http://localhost:4318", name, endpoint)
	}
	// Their own log messages go to log. During setup, errors are about invalid
	// variables, which stop the start.
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	var wrong []error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { wrong = append(wrong, err) }))
	defer otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "error", err) }))

	exporter, err := newExporter(ctx, name)
	if err != nil {
		return nil, err
	}
	// Attributes from the environment override these.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "mien"), attribute.String("service.version", version.Number)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	if len(wrong) > 0 {
		_ = provider.Shutdown(ctx) // there are no spans to export
		return nil, fmt.Errorf("OpenTelemetry's variables: %w", errors.Join(wrong...))
	}
	return &tracing{provider, provider.Tracer("github.com/mienproject/mien")}, nil
}

// newExporter returns the exporter for the protocol that the environment names.
// endpoint is the name of the variable with the collector's URL.
func newExporter(ctx context.Context, endpoint string) (*otlptrace.Exporter, error) {
	var client otlptrace.Client
	switch name, protocol := firstSet("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "", "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, fmt.Errorf("%s: %q is neither http/protobuf nor grpc", name, protocol)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	return exporter, nil
}

func firstSet(names ...string) (name, value string) {
	for _, name = range names {
		if value = os.Getenv(name); value != "" {
			return name, value
		}
	}
	return name, ""
}

// shutdown exports the remaining spans.
func (t *tracing) shutdown(ctx context.Context, log *slog.Logger) {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("traces: the last spans were lost", "error", err)
	}
}

// start extracts the client's trace, and starts the span of request r in it.
func (t *tracing) start(r *http.Request) (context.Context, trace.Span) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if t.tracer == nil || isProbe(r.URL.Path) {
		return ctx, nil
	}
	return t.tracer.Start(ctx, shorten(r.Method), trace.WithSpanKind(trace.SpanKindServer)) //nolint:spancheck // the caller ends it
}

// end ends the span of a request. It leaves out the query of the URL, which may contain
// an image.
func (t *tracing) end(span trace.Span, r *http.Request, e entry) {
	if span == nil {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	_, version, _ := strings.Cut(r.Proto, "/")
	span.SetAttributes(
		attribute.String("http.request.method", shorten(r.Method)),
		attribute.String("url.scheme", scheme),
		attribute.String("url.path", e.path),
		attribute.Int("http.response.status_code", e.status),
		attribute.String("network.protocol.version", version),
		attribute.String("client.address", e.caller),
		attribute.String("mien.request_id", e.record.ID),
	)
	if e.record.Identity != "" {
		span.SetAttributes(attribute.String("enduser.id", shorten(e.record.Identity)))
	}
	if agent := r.UserAgent(); agent != "" {
		span.SetAttributes(attribute.String("user_agent.original", shorten(agent)))
	}
	if e.status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	if e.record.Procedure == "" {
		if e.route != "" {
			span.SetName(r.Method + " " + e.route)
		}
		return
	}
	if rpc, method, ok := strings.Cut(strings.TrimPrefix(e.record.Procedure, "/"), "/"); ok && e.record.Protocol != "http" {
		span.SetName(rpc + "/" + method)
		span.SetAttributes(
			attribute.String("rpc.system", rpcSystem(e.record.Protocol)),
			attribute.String("rpc.service", rpc),
			attribute.String("rpc.method", method),
		)
		switch {
		case e.record.Protocol != connect.ProtocolConnect:
			span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(e.record.Code)))
		case e.record.Code != 0:
			span.SetAttributes(attribute.String("rpc.connect_rpc.error_code", code(e.record)))
		}
	} else {
		span.SetName(r.Method + " " + e.record.Procedure)
	}
	if e.record.Images > 0 {
		span.SetAttributes(attribute.Int("mien.images", e.record.Images), attribute.Int("mien.failed", e.record.Failures))
	}
	describe(span, e.record)
}

func rpcSystem(protocol string) string {
	if protocol == connect.ProtocolConnect {
		return "connect_rpc"
	}
	return "grpc"
}

// describe adds the outcome of a request, and the properties of its image, to a span.
func describe(span trace.Span, record *service.Record) {
	if record.Code != 0 {
		span.SetAttributes(attribute.String("mien.code", code(record)))
		if record.Reason != "" {
			span.SetAttributes(attribute.String("mien.reason", record.Reason))
		}
		switch record.Code {
		case connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeUnimplemented, connect.CodeInternal, connect.CodeUnavailable, connect.CodeDataLoss:
			span.SetStatus(codes.Error, record.Reason)
		default: // mistakes of the client are not errors of this server
		}
	}
	if record.Model != "" {
		span.SetAttributes(attribute.String("mien.model", record.Model), attribute.Int("mien.faces", record.Faces))
	}
	if record.Bytes > 0 {
		span.SetAttributes(attribute.Int("mien.image.bytes", record.Bytes))
	}
	if record.Width > 0 {
		span.SetAttributes(attribute.Int("mien.image.width", record.Width), attribute.Int("mien.image.height", record.Height))
	}
}

// image makes the spans of the stages of one image, as children of the span in ctx. An
// image of a stream or batch also gets a span of its own around them.
func (t *tracing) image(ctx context.Context, record *service.Record) {
	if t.tracer == nil || record.Arrived.IsZero() || !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	at := record.Arrived
	if record != service.RecordFrom(ctx) {
		within, span := t.tracer.Start(ctx, "image", trace.WithTimestamp(at))
		describe(span, record)
		defer span.End(trace.WithTimestamp(at.Add(record.Queue + record.Decode + record.Detect)))
		ctx = within
	}
	for _, stage := range []struct {
		name string
		took time.Duration
	}{{"queue", record.Queue}, {"decode", record.Decode}, {"detect", record.Detect}} {
		if stage.took == 0 {
			return // the image did not reach this stage
		}
		_, span := t.tracer.Start(ctx, stage.name, trace.WithTimestamp(at))
		at = at.Add(stage.took)
		span.End(trace.WithTimestamp(at))
	}
}
