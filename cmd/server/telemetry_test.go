package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// get sends a GET request, and returns the status and the body.
func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // the client is not used again
	res, err := httpClient(t, 1, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

// scrape reads the metrics: each series by its name and labels, histograms by their
// counts.
func scrape(t *testing.T, s server) map[string]float64 {
	t.Helper()
	status, text := get(t, s.admin+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d", status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	series := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			series[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return series
}

// eventually repeats a check until the server has counted what it has answered, because
// it counts after it has sent the answer.
func eventually(t *testing.T, s server, want map[string]float64) map[string]float64 {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		got := scrape(t, s)
		var wrong []string
		for key, value := range want {
			if v, ok := got[key]; !ok || v != value {
				wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", key, v, value))
			}
		}
		if len(wrong) == 0 {
			return got
		}
		if time.Since(began) > 20*time.Second {
			slices.Sort(wrong)
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

// TestMetrics checks that requests are counted by known labels, and that values from
// clients make no series.
func TestMetrics(t *testing.T) {
	s := start(t, append(patient, "--admin-listen", "127.0.0.1:0")...)
	sample := readFile(t, samplePath)
	client := grpcClient(t, s.url)
	for _, req := range []*inferencev1.Image{
		{RawData: sample},
		{RawData: sample[:1000]},
		{},
		{RawData: sample, Options: &inferencev1.DetectOptions{Model: "nobody-knows"}},
	} {
		_, _ = client.Predict(t.Context(), req) // counted, whatever the outcome
	}
	post := func(path, mediaType, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		res, err := httpClient(t, 1, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	post("/predict", "image/jpeg", string(sample))
	post(inferencev1connect.InferencePredictProcedure, "application/json", "{")
	before := eventually(t, s, map[string]float64{
		`mien_requests_total{code="ok",procedure="/inference.v1.Inference/Predict",protocol="grpc"}`:                  1,
		`mien_requests_total{code="invalid_argument",procedure="/inference.v1.Inference/Predict",protocol="grpc"}`:    2,
		`mien_requests_total{code="not_found",procedure="/inference.v1.Inference/Predict",protocol="grpc"}`:           1,
		`mien_requests_total{code="ok",procedure="/predict",protocol="http"}`:                                         1,
		`mien_requests_total{code="invalid_argument",procedure="/inference.v1.Inference/Predict",protocol="connect"}`: 1,
		`mien_request_seconds{procedure="/inference.v1.Inference/Predict"}`:                                           5,
		`mien_images_total{code="ok",model="mtcnn"}`:                                                                  2,
		`mien_images_total{code="invalid_argument",model="mtcnn"}`:                                                    2,
		`mien_images_total{code="not_found",model=""}`:                                                                1,
		`mien_images_total{code="invalid_argument",model=""}`:                                                         1,
		`mien_refusals_total{reason="CORRUPT_IMAGE"}`:                                                                 1,
		`mien_refusals_total{reason="EMPTY_IMAGE"}`:                                                                   1,
		`mien_refusals_total{reason="UNKNOWN_MODEL"}`:                                                                 1,
		`mien_refusals_total{reason="UNREADABLE"}`:                                                                    1,
		`mien_refusals_total{reason="OVERLOADED"}`:                                                                    0,
		`mien_detect_seconds{model="mtcnn"}`:                                                                          2,
		`mien_faces_total{model="mtcnn"}`:                                                                             2,
		`mien_workers_busy`:                                                                                           0,
		`mien_inflight_requests`:                                                                                      0,
		`mien_model_info{default="true",family="mtcnn",model="mtcnn",version="` + defaultVersion(t, client) + `"}`:    1,
	})
	if before["go_goroutines"] < 2 || before["process_resident_memory_bytes"] < 1<<20 || before["mien_workers"] < 1 {
		t.Errorf("%v goroutines, %v bytes, %v workers", before["go_goroutines"], before["process_resident_memory_bytes"], before["mien_workers"])
	}

	for i := range 20 {
		post(fmt.Sprintf("/inference.v1.Inference/Stranger%d", i), "application/json", "{}")
		post(fmt.Sprintf("/nowhere/%d", i), "text/plain", "")
		_, _ = client.Predict(t.Context(), &inferencev1.Image{RawData: sample, Options: &inferencev1.DetectOptions{Model: fmt.Sprint("stranger", i)}})
	}
	after := eventually(t, s, map[string]float64{
		`mien_refusals_total{reason="UNKNOWN_MODEL"}`:                          21,
		`mien_requests_total{code="failed",procedure="other",protocol="http"}`: 40,
	})
	for key := range after {
		if _, ok := before[key]; !ok && strings.HasPrefix(key, "mien_") && !strings.Contains(key, `procedure="other"`) {
			t.Errorf("a stranger made the series %s", key)
		}
	}
}

// defaultVersion returns the version of the model that answers if a request names none.
func defaultVersion(t *testing.T, client inferencev1connect.InferenceClient) string {
	t.Helper()
	res, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetModels()[0].GetVersion()
}

// TestAdmin checks that profiles and metrics are served only on the admin address, and
// nothing else is.
func TestAdmin(t *testing.T) {
	s := start(t, "--admin-listen", "127.0.0.1:0")
	for path, want := range map[string]string{
		"/metrics": "mien_build_info{", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/cmdline": "", "/debug/pprof/heap": "", "/debug/pprof/profile?seconds=1": "",
	} {
		if status, body := get(t, s.admin+path); status != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, without %q", path, status, want)
		}
		if status, _ := get(t, s.url+path); status != http.StatusNotFound {
			t.Errorf("%s on the address for calls: %d", path, status)
		}
	}
	if status, _ := get(t, s.admin+"/inference.v1.Inference/Predict"); status != http.StatusNotFound {
		t.Errorf("calls on the address for operators: %d", status)
	}
	if code, log := s.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, log)
	}
}

func TestAdminAddress(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		want string
	}{
		{want: adminDefault},
		{args: []string{"--admin-listen", ""}},
		{args: []string{"--admin-listen", "off"}},
		{args: []string{"--admin-listen", ":1"}, want: ":1"},
		{args: []string{"--reuse-port"}},
		{args: []string{"--reuse-port", "--admin-listen", ":1"}, want: ":1"},
		{env: "off"},
		{env: ":2", want: ":2"},
		{env: ":2", args: []string{"--reuse-port"}, want: ":2"},
		{env: ":2", args: []string{"--admin-listen", ":1"}, want: ":1"},
	} {
		t.Run(fmt.Sprint(c.args, c.env), func(t *testing.T) {
			t.Setenv("MIEN_ADMIN_LISTEN", c.env)
			cfg, _, err := parse("/", c.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.adminAddress(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestMetricsDocumented checks that docs/operations.md explains each metric with its
// name and labels, and no others.
func TestMetricsDocumented(t *testing.T) {
	documented := map[string]string{} // the labels of each metric
	for line := range strings.Lines(string(readFile(t, "../../docs/operations.md"))) {
		if row := regexp.MustCompile("^\\| `(mien_[a-z_]+)` \\|([^|]*)\\| [^|]{10,} \\|").FindStringSubmatch(line); row != nil {
			documented[row[1]] = row[2]
		}
	}
	certFile, keyFile, _ := certificate(t)
	d, err := pigo.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := service.DefaultConfig()
	cfg.Models = []service.Model{{Name: "pigo", Detector: d}}
	svc, err := service.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := newMetrics()
	m.watch(svc)
	certs := &certificates{log: slog.New(slog.DiscardHandler)}
	if err := certs.load([][]byte{readFile(t, certFile), readFile(t, keyFile)}); err != nil {
		t.Fatal(err)
	}
	m.watchCertificates(certs)
	// Metrics with labels appear only once they have a value.
	m.observe(&service.Record{Model: "pigo", Code: connect.CodeInternal, Reason: "INTERNAL"})
	m.request("/predict", "http", "ok", time.Second)
	m.identity("acme", "ok")
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, family := range families {
		name := family.GetName()
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue // metrics of the client library, which the page does not list
		}
		seen++
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		want, ok := documented[name]
		if !ok {
			t.Errorf("docs/operations.md does not explain %s: %s", name, family.GetHelp())
			continue
		}
		delete(documented, name)
		listed := regexp.MustCompile("`[a-z]+`").FindAllString(want, -1)
		slices.Sort(listed)
		if !slices.Equal(listed, labels) {
			t.Errorf("docs/operations.md gives %s the labels %v; it has %v", name, listed, labels)
		}
	}
	for name := range documented {
		t.Errorf("docs/operations.md explains %s, which there is not", name)
	}
	if seen < 20 {
		t.Errorf("only %d metrics were compared", seen)
	}
}

// TestForwardedCaller checks that the log has the address of the client, as far as it
// can be trusted, and the id of the trace.
func TestForwardedCaller(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		caller string
		proxy  any
	}{
		{"a stranger's word", nil, "127.0.0.1", nil},
		{"a trusted proxy's", []string{"--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "unix"}, "198.51.100.1", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.args...)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/predict?secret=1", bytes.NewReader(nil))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Forwarded-For", "1.2.3.4, 198.51.100.1")
			req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			res, err := httpClient(t, 1, nil).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			_, log := s.stop()
			var line map[string]any
			for text := range strings.Lines(log) {
				if strings.Contains(text, `"msg":"request"`) {
					if err := json.Unmarshal([]byte(text), &line); err != nil {
						t.Fatal(err)
					}
				}
			}
			if line["caller"] != c.caller || line["proxy"] != c.proxy || line["trace_id"] != "0af7651916cd43dd8448eb211c80319c" || line["procedure"] != "/predict" {
				t.Errorf("%v", line)
			}
		})
	}
}

// TestStreamLogged checks that a stream is one request, whose line counts its images,
// and that each image is counted and has a line at debug level.
func TestStreamLogged(t *testing.T) {
	s := start(t, append(patient, "--admin-listen", "127.0.0.1:0", "--log-level", "debug")...)
	stream, err := grpcClient(t, s.url).PredictStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sample := readFile(t, samplePath)
	for _, data := range [][]byte{sample, sample[:1000], sample} {
		if err := stream.Send(&inferencev1.Image{RawData: data}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if err := stream.CloseResponse(); err != nil {
		t.Error(err)
	}
	eventually(t, s, map[string]float64{
		`mien_requests_total{code="ok",procedure="/inference.v1.Inference/PredictStream",protocol="grpc"}`: 1,
		`mien_images_total{code="ok",model="mtcnn"}`:                                                       2,
		`mien_refusals_total{reason="CORRUPT_IMAGE"}`:                                                      1,
		`mien_streams`: 0,
	})
	_, log := s.stop()
	images := 0
	var whole map[string]any
	for text := range strings.Lines(log) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		switch line["msg"] {
		case "image":
			images++
			if line["reason"] != "CORRUPT_IMAGE" && (line["faces"] != 1.0 || line["bytes"] != float64(len(sample))) {
				t.Errorf("%v", line)
			}
		case "request":
			whole = line
		}
	}
	if images != 3 || whole["images"] != 3.0 || whole["failed"] != 1.0 || whole["code"] != "ok" {
		t.Errorf("%d images; the stream: %v", images, whole)
	}
}

// broken is a model that always fails.
type broken struct{}

func (broken) Info() face.Info { return face.Info{} }

func (broken) Input(int, int, face.Options) face.Input { return face.Input{Reduce: 1} }

func (broken) Detect(context.Context, image.Image, face.Options) ([]face.Face, error) {
	return nil, errors.New("the disk is on fire")
}

// TestFailuresLoggedWithTrace checks that the log lines with the cause of a failed
// request have the id of its trace, like the line of the request.
func TestFailuresLoggedWithTrace(t *testing.T) {
	var log bytes.Buffer
	logger := (&config{LogFormat: "json"}).logger(&log, false)
	made := service.DefaultConfig()
	made.Models, made.Logger = []service.Model{{Name: "broken", Detector: broken{}}}, logger
	svc, err := service.New(made)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /predict", svc.PredictHandler())
	mux.HandleFunc("POST /panic", func(http.ResponseWriter, *http.Request) { panic("secret") })
	in := &observability{log: logger, metrics: newMetrics(), tracing: &tracing{}}
	const id = "0af7651916cd43dd8448eb211c80319c"
	for path, message := range map[string]string{"/predict": "internal error", "/panic": "panic"} {
		for _, parent := range []string{"00-" + id + "-b7ad6b7169203331-01", ""} {
			log.Reset()
			server := httptest.NewServer(in.handler(svc.Recover(mux)))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, bytes.NewReader(readFile(t, samplePath)))
			if err != nil {
				t.Fatal(err)
			}
			if parent != "" {
				req.Header.Set("Traceparent", parent)
			}
			res, err := httpClient(t, 1, nil).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			server.Close() // waits for the line of the request, which is written after the answer
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if res.StatusCode != http.StatusInternalServerError || len(lines) != 2 || !strings.Contains(lines[0], `"msg":"`+message+`"`) {
				t.Errorf("%s: %s, %s", path, res.Status, log.String())
			}
			for _, line := range lines {
				if strings.Contains(line, `"trace_id":"`+id+`"`) != (parent != "") {
					t.Errorf("%s, parent %q: %s", path, parent, line)
				}
			}
		}
	}
}

// TestImagesOfStreams checks that each image of a stream has a line at debug level, and
// spans of its own below that of the stream.
func TestImagesOfStreams(t *testing.T) {
	exported := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exported))
	var log bytes.Buffer
	in := &observability{
		log:     (&config{LogFormat: "json", LogLevel: logLevel(slog.LevelDebug)}).logger(&log, false),
		metrics: newMetrics(), tracing: &tracing{provider, provider.Tracer("")},
	}
	const procedure = "/inference.v1.Inference/PredictStream"
	handler := in.handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		whole := service.RecordFrom(r.Context())
		whole.Procedure, whole.Protocol, whole.Handled, whole.Images, whole.Failures = procedure, "grpc", true, 2, 1
		for _, call := range []*service.Record{
			{Model: "pigo", Bytes: 5, Width: 4, Height: 3, Pixels: 12, Faces: 1, Queue: time.Millisecond, Decode: 2 * time.Millisecond, Detect: 3 * time.Millisecond},
			{Model: "pigo", Code: connect.CodeInvalidArgument, Reason: "CORRUPT_IMAGE", Queue: time.Millisecond},
		} {
			call.ID, call.Procedure, call.Protocol, call.Arrived = whole.ID, procedure, "grpc", time.Now()
			in.observe(r.Context(), call)
		}
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(context.Background(), http.MethodPost, procedure+"?secret", nil))

	var lines []map[string]any
	for line := range strings.Lines(log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	if len(lines) != 3 || lines[0]["msg"] != "image" || lines[1]["reason"] != "CORRUPT_IMAGE" || lines[2]["msg"] != "request" ||
		lines[2]["images"] != 2.0 || lines[2]["failed"] != 1.0 || lines[0]["request_id"] != lines[2]["request_id"] || lines[0]["trace_id"] != lines[2]["trace_id"] || lines[0]["trace_id"] == nil {
		t.Errorf("%s", log.String())
	}

	var got []string
	names := map[string]string{}
	for _, s := range exported.GetSpans() {
		names[s.SpanContext.SpanID().String()] = s.Name
	}
	for _, s := range exported.GetSpans() {
		got = append(got, fmt.Sprintf("%s < %s %v", s.Name, names[s.Parent.SpanID().String()], s.EndTime.Sub(s.StartTime).Round(time.Millisecond)))
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), "secret") {
				t.Errorf("a span has the query: %v", a)
			}
		}
		if s.Name == "inference.v1.Inference/PredictStream" && !slices.Contains(s.Attributes, attribute.Int("mien.images", 2)) {
			t.Errorf("%v", s.Attributes)
		}
	}
	for _, want := range []string{
		"queue < image 1ms", "decode < image 2ms", "detect < image 3ms", "image < inference.v1.Inference/PredictStream 6ms",
		"image < inference.v1.Inference/PredictStream 1ms",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no span %q in %q", want, got)
		}
	}
	if len(got) != 7 {
		t.Errorf("%q", got)
	}
}
