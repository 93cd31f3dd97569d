package e2e

import (
	"bytes"
	bin "encoding/binary" // binary is the server here
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A collector receives traces by OTLP, over HTTP and gRPC.
type collector struct {
	url string

	mu       sync.Mutex
	received []*tracev1.ResourceSpans
	failed   error
}

// startCollector starts a collector that runs until the end of the test.
func startCollector(t testing.TB) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{url: "http://" + l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		c.take(body, err)
		w.Header().Set("Content-Type", "application/x-protobuf") // no bytes are a valid, empty message
	})
	mux.HandleFunc("POST /opentelemetry.proto.collector.trace.v1.TraceService/Export", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		// One message: a byte for compression, four for its length, and the rest.
		if err == nil && (len(body) < 5 || body[0] != 0 || int(bin.BigEndian.Uint32(body[1:5])) != len(body)-5) {
			err = fmt.Errorf("no message of gRPC: %x", body[:min(len(body), 5)])
		}
		c.take(body[min(len(body), 5):], err)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5)) // the exporter may have disconnected
		w.Header().Set("Grpc-Status", "0")
	})
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: patience}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }() // until Close
	t.Cleanup(func() { _ = server.Close() })
	return c
}

// take reads an export. Its request has the same wire format as TracesData.
func (c *collector) take(body []byte, err error) {
	data := &tracev1.TracesData{}
	if err == nil {
		err = proto.Unmarshal(body, data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && bytes.Contains(body, []byte("secret")) {
		err = fmt.Errorf("it has what a URL held: %q", body)
	}
	if err != nil {
		c.failed = err
	}
	c.received = append(c.received, data.GetResourceSpans()...)
}

func attribute(attributes []*commonv1.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// TestTraces checks that a collector receives a trace which continues the client's and
// has the times of all stages, over both protocols of OTLP, and that the remaining
// spans are exported when the server stops.
func TestTraces(t *testing.T) {
	t.Parallel()
	const (
		traceID = "0af7651916cd43dd8448eb211c80319c"
		spanID  = "b7ad6b7169203331"
	)
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			c := startCollector(t)
			s := startEnv(t, []string{
				"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol,
				"OTEL_BSP_SCHEDULE_DELAY=3600000", // in milliseconds, so nothing is exported before the server stops
			})
			trace := []string{"--header", "traceparent: 00-" + traceID + "-" + spanID + "-01"}
			good := curl(t, small.request(t), append(append(trace, asJSON...), s.url+procedure+"Predict?secret")...).want(t, 200, "application/json")
			curl(t, broken, append(append(trace, asJSON...), s.url+procedure+"Predict")...).want(t, 400, "application/json")
			curl(t, nil, append(trace, s.url+"/livez")...)
			log := s.stop()

			c.mu.Lock()
			defer c.mu.Unlock()
			if c.failed != nil {
				t.Fatal(c.failed)
			}
			spans := map[string][]*tracev1.Span{} // by the id of their parent
			n := 0
			for _, r := range c.received {
				if name := attribute(r.GetResource().GetAttributes(), "service.name"); !strings.HasPrefix(name, "mien") {
					t.Errorf("service.name is %q", name)
				}
				for _, scope := range r.GetScopeSpans() {
					for _, span := range scope.GetSpans() {
						if id := hex.EncodeToString(span.GetTraceId()); id != traceID {
							t.Errorf("the span %s is of the trace %s", span.GetName(), id)
						}
						parent := hex.EncodeToString(span.GetParentSpanId())
						spans[parent] = append(spans[parent], span)
						n++
					}
				}
			}
			// The valid image has three stages. The header of the invalid one shows
			// that it is invalid, so it has none.
			if len(spans[spanID]) != 2 || n != 5 {
				t.Fatalf("%d spans below the caller's, of %d: %v", len(spans[spanID]), n, spans)
			}
			for _, call := range spans[spanID] {
				if call.GetName() != "inference.v1.Inference/Predict" || call.GetKind() != tracev1.Span_SPAN_KIND_SERVER {
					t.Errorf("the span of a call is %s, %s", call.GetName(), call.GetKind())
				}
				if reason := attribute(call.GetAttributes(), "mien.reason"); attribute(call.GetAttributes(), "mien.request_id") != good.requestID {
					if reason != "CORRUPT_IMAGE" {
						t.Errorf("the broken image's reason is %q", reason)
					}
					continue
				}
				from, stages := call.GetStartTimeUnixNano(), spans[hex.EncodeToString(call.GetSpanId())]
				if len(stages) != 3 {
					t.Fatalf("the stages are %v", stages)
				}
				for i, name := range []string{"queue", "decode", "detect"} {
					stage := stages[i]
					if stage.GetName() != name || stage.GetStartTimeUnixNano() < from || stage.GetEndTimeUnixNano() > call.GetEndTimeUnixNano() {
						t.Errorf("the stage %s is %v, within %v", name, stage, call)
					}
					from = stage.GetEndTimeUnixNano()
				}
			}
			for _, line := range requests(log, procedure) {
				if line["trace_id"] != traceID {
					t.Errorf("the log has another trace: %v", line)
				}
			}
		})
	}
}
