package service_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// stub is a detector that calls a function of the test.
type stub struct {
	info   face.Info
	detect func(context.Context, image.Image, face.Options) ([]face.Face, error)
}

func (s stub) Info() face.Info { return s.info }

func (s stub) Input(int, int, face.Options) face.Input {
	return face.Input{Reduce: 1, BytesPerPixel: 4. / 3}
}

func (s stub) Detect(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	if s.detect == nil {
		return nil, nil
	}
	return s.detect(ctx, img, opts)
}

// start serves a service on a real listener, over HTTP/1.1 and HTTP/2 in cleartext.
func start(t *testing.T, d face.Detector, change func(*service.Config)) (*service.Service, string) {
	t.Helper()
	config := service.DefaultConfig()
	config.Models = []service.Model{{Name: "stub", Detector: d}, {Name: "other", Detector: stub{}}}
	if change != nil {
		change(&config)
	}
	svc, err := service.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return svc, serveService(t, svc)
}

// serve serves a service with that configuration.
func serve(t testing.TB, config service.Config) (url string) {
	t.Helper()
	svc, err := service.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return serveService(t, svc)
}

func serveService(t testing.TB, svc *service.Service) (url string) {
	t.Helper()
	return serveWithin(t, svc, 0)
}

// serveWithin serves a service whose HTTP server limits the time for receiving a
// request.
func serveWithin(t testing.TB, svc *service.Service, read time.Duration) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(svc.Handler())
	mux.Handle(svc.OldHandler())
	mux.Handle("POST /predict", svc.PredictHandler())
	mux.Handle("PUT /predict", svc.PredictHandler())
	open := svc.OpenInference("test", func() bool { return true })
	mux.Handle(open.Handler())
	mux.Handle("/v2/", open.REST())
	mux.Handle("/v2", open.REST())
	handler := svc.Recover(mux)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(service.WithRecord(r.Context(), &service.Record{ID: "the-request"})))
	}))
	server.Config.Protocols, server.Config.ReadTimeout = protocols(), read
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// clients calls url in each protocol, over HTTP/2.
func clients(t *testing.T, url string) map[string]inferencev1connect.InferenceClient {
	t.Helper()
	return clientsWith(t, url)
}

// compressing returns clients that compress their requests.
func compressing(t *testing.T, url string) map[string]inferencev1connect.InferenceClient {
	t.Helper()
	return clientsWith(t, url, connect.WithSendGzip())
}

func clientsWith(t *testing.T, url string, opts ...connect.ClientOption) map[string]inferencev1connect.InferenceClient {
	t.Helper()
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: h2}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	all := map[string]inferencev1connect.InferenceClient{}
	for protocol, opt := range map[string]connect.ClientOption{
		"connect":  connect.WithClientOptions(),
		"json":     connect.WithProtoJSON(),
		"grpc":     connect.WithGRPC(),
		"grpc-web": connect.WithGRPCWeb(),
	} {
		all[protocol] = inferencev1connect.NewInferenceClient(client, url, append([]connect.ClientOption{opt}, opts...)...)
	}
	return all
}

// httpClient uses HTTP/1.1.
func httpClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func logger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func sample(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("selftest/sample.jpg")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// reasonOf returns the reason of the ErrorInfo of an error, and the delay of its
// RetryInfo.
func reasonOf(t *testing.T, err error) (code connect.Code, reason string, retry time.Duration) {
	t.Helper()
	var ce *connect.Error
	if !errors.As(err, &ce) {
		t.Fatalf("no Connect error: %v", err)
	}
	for _, d := range ce.Details() {
		v, err := d.Value()
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *errdetails.ErrorInfo:
			if v.GetDomain() != "mien" {
				t.Errorf("domain %q", v.GetDomain())
			}
			reason = v.GetReason()
		case *errdetails.RetryInfo:
			retry = v.GetRetryDelay().AsDuration()
		}
	}
	return ce.Code(), reason, retry
}

// TestErrors checks the table of errors over every protocol.
func TestErrors(t *testing.T) {
	d := stub{detect: func(_ context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
		switch opts.MaxResults {
		case 500:
			return nil, errors.New("secret: the disk is on fire")
		case 501:
			panic("secret: the disk is on fire")
		}
		return nil, nil
	}}
	var log bytes.Buffer
	_, url := start(t, d, func(c *service.Config) {
		c.MaxImageBytes = 200_000
		c.MaxPixels = 1_000_000
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	jpeg := sample(t)
	f := func(v float32) *float32 { return &v }
	opts := func(o *inferencev1.DetectOptions) *inferencev1.Image {
		return &inferencev1.Image{RawData: jpeg, Options: o}
	}
	raw := func(n int, f inferencev1.PixelFormat, w, h int32) *inferencev1.Image {
		return &inferencev1.Image{RawData: make([]byte, n), PixelFormat: f, Width: w, Height: h}
	}
	for _, c := range []struct {
		name   string
		req    *inferencev1.Image
		code   connect.Code
		reason string
		text   string // part of the message
	}{
		{"no bytes", &inferencev1.Image{}, connect.CodeInvalidArgument, "EMPTY_IMAGE", "empty"},
		{"no bytes, bare", raw(0, inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8, 4, 4), connect.CodeInvalidArgument, "EMPTY_IMAGE", "empty"},
		{"text", &inferencev1.Image{RawData: []byte("Hello, world: no image here.")}, connect.CodeInvalidArgument, "UNSUPPORTED_FORMAT", "JPEG, PNG, GIF, WebP, BMP or TIFF"},
		{"truncated", &inferencev1.Image{RawData: jpeg[:len(jpeg)/2]}, connect.CodeInvalidArgument, "CORRUPT_IMAGE", "JPEG"},
		{"confidence above 1", opts(&inferencev1.DetectOptions{MinConfidence: f(1.5)}), connect.CodeInvalidArgument, "INVALID_OPTIONS", "options.min_confidence is 1.5; allowed is a number from 0 to 1"},
		{"confidence below 0", opts(&inferencev1.DetectOptions{MinConfidence: f(-.5)}), connect.CodeInvalidArgument, "INVALID_OPTIONS", "-0.5"},
		{"confidence NaN", opts(&inferencev1.DetectOptions{MinConfidence: f(float32(math.NaN()))}), connect.CodeInvalidArgument, "INVALID_OPTIONS", "NaN"},
		{"negative results", opts(&inferencev1.DetectOptions{MaxResults: -1}), connect.CodeInvalidArgument, "INVALID_OPTIONS", "options.max_results is -1"},
		{"negative face", opts(&inferencev1.DetectOptions{MinFaceSize: -7}), connect.CodeInvalidArgument, "INVALID_OPTIONS", "options.min_face_size is -7"},
		{"unknown pixel format", raw(16, 99, 4, 4), connect.CodeInvalidArgument, "INVALID_PIXELS", "pixel_format is 99"},
		{"too few pixels", raw(15, inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8, 4, 4), connect.CodeInvalidArgument, "INVALID_PIXELS", "16"},
		{"too many pixel bytes", raw(49, inferencev1.PixelFormat_PIXEL_FORMAT_RGB24, 4, 4), connect.CodeInvalidArgument, "INVALID_PIXELS", "48"},
		{"no size", raw(16, inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32, 0, 0), connect.CodeInvalidArgument, "INVALID_PIXELS", "width"},
		{"negative size", raw(16, inferencev1.PixelFormat_PIXEL_FORMAT_I420, -4, 4), connect.CodeInvalidArgument, "INVALID_PIXELS", "-4"},
		{"too many pixels", raw(16, inferencev1.PixelFormat_PIXEL_FORMAT_NV12, 1001, 1000), connect.CodeInvalidArgument, "TOO_MANY_PIXELS", "1000000"},
		{"largest size there is", raw(16, inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32, math.MaxInt32, math.MaxInt32), connect.CodeInvalidArgument, "TOO_MANY_PIXELS", "1000000"},
		{"too many bytes", &inferencev1.Image{RawData: make([]byte, 200_001)}, connect.CodeResourceExhausted, "TOO_MANY_BYTES", "200000"},
		{"far too many bytes", &inferencev1.Image{RawData: make([]byte, 3_000_000)}, connect.CodeResourceExhausted, "TOO_MANY_BYTES", "200000"},
		{"unknown model", opts(&inferencev1.DetectOptions{Model: "stubb"}), connect.CodeNotFound, "UNKNOWN_MODEL", `["stub" "other"]`},
		{"bug", opts(&inferencev1.DetectOptions{MaxResults: 500}), connect.CodeInternal, "INTERNAL", "the-request"},
		{"panic", opts(&inferencev1.DetectOptions{MaxResults: 501}), connect.CodeInternal, "INTERNAL", "the-request"},
	} {
		for protocol, client := range clients(t, url) {
			t.Run(c.name+"/"+protocol, func(t *testing.T) {
				log.Reset()
				_, err := client.Predict(t.Context(), c.req)
				code, reason, retry := reasonOf(t, err)
				if code != c.code || reason != c.reason || retry != 0 {
					t.Errorf("%v, %q, retry after %v; want %v, %q (%v)", code, reason, retry, c.code, c.reason, err)
				}
				if !strings.Contains(err.Error(), c.text) {
					t.Errorf("%q does not tell %q", err, c.text)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("%q tells the caller what only the log may", err)
				}
				if logged := strings.Contains(log.String(), "secret"); logged != (c.code == connect.CodeInternal) {
					t.Errorf("log: %q", log.String())
				}
				// Nothing stays reserved.
				if _, err := client.Predict(t.Context(), &inferencev1.Image{RawData: jpeg}); err != nil {
					t.Errorf("the next good request: %v", err)
				}
			})
		}
	}
}

// TestHTTPStatus checks the statuses that browsers see.
func TestHTTPStatus(t *testing.T) {
	_, url := start(t, stub{}, func(c *service.Config) { c.MaxImageBytes = 1000 })
	post := func(body string, header ...string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+inferencev1connect.InferencePredictProcedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, c := range []struct {
		name, body string
		header     []string
		status     int
		reason     string // empty for Connect's own errors
	}{
		{name: "empty image", body: `{}`, status: 400, reason: "EMPTY_IMAGE"},
		{name: "charset", body: `{}`, header: []string{"Content-Type", "application/json; charset=utf-8"}, status: 400, reason: "EMPTY_IMAGE"},
		{name: "unknown field is ignored", body: `{"rawdata": "AAAA"}`, status: 400, reason: "EMPTY_IMAGE"},
		{name: "unknown model", body: `{"options": {"model": "x"}}`, status: 404, reason: "UNKNOWN_MODEL"},
		{name: "too many bytes", body: `{"rawData": "` + strings.Repeat("A", 1400) + `"}`, status: 429, reason: "TOO_MANY_BYTES"},
		{name: "far too many bytes", body: `{"rawData": "` + strings.Repeat("A", 100_000) + `"}`, status: 429, reason: "TOO_MANY_BYTES"},
		{name: "gzip bomb", body: bomb(t), header: []string{"Content-Encoding", "gzip"}, status: 429, reason: "TOO_MANY_BYTES"},
		{name: "no JSON", body: `photo`, status: 400},
		{name: "nothing", body: ``, status: 400},
		{name: "wrong base64", body: `{"rawData": "%%"}`, status: 400},
		{name: "data URL", body: `{"rawData": "data:image/jpeg;base64,` + strings.Repeat("A", 900) + `"}`, status: 400},
		{name: "broken gzip", body: `{}`, header: []string{"Content-Encoding", "gzip"}, status: 400},
		{name: "a form", body: `x=1`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := post(c.body, c.header...)
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", res.StatusCode, c.status, body)
			}
			var message struct {
				Code, Message string
				Details       []struct {
					Debug struct{ Reason, Domain string }
				}
			}
			if c.status == 415 {
				return // this answer has no body
			}
			if err := json.Unmarshal(body, &message); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			reason := ""
			for _, d := range message.Details {
				reason += d.Debug.Reason
			}
			if len(body) > 600 {
				t.Errorf("%d bytes of error: the image comes back", len(body))
			}
			if reason != c.reason || message.Code == "" || message.Message == "" {
				t.Errorf("%s, want reason %q", body, c.reason)
			}
		})
	}
}

// bomb returns 100 MB of spaces, compressed.
func bomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for range 100 {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// pythonDate matches what Python's datetime.isoformat writes for a time in UTC with
// microseconds. Before Python 3.11, datetime.fromisoformat reads nothing else for such
// times.
var pythonDate = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$`)

// TestOptionsReachTheModel checks that options reach the model, and that its results
// reach the client.
func TestOptionsReachTheModel(t *testing.T) {
	var asked face.Options
	d := stub{
		info: face.Info{MinConfidence: 0.75},
		detect: func(_ context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
			asked = opts
			asked.Truncated = nil
			if img.Bounds() != image.Rect(0, 0, 320, 400) {
				return nil, fmt.Errorf("image of %v", img.Bounds())
			}
			return []face.Face{
				{Box: face.Box{MinX: 10.4, MinY: 20.6, MaxX: 320, MaxY: 400}, Confidence: 0.875, Landmarks: &face.Landmarks{
					LeftEye: face.Point{X: 1, Y: 2}, RightEye: face.Point{X: 3, Y: 4}, Nose: face.Point{X: 5, Y: 6},
					MouthLeft: face.Point{X: 7, Y: 8}, MouthRight: face.Point{X: 319.9, Y: 399.9},
				}},
				{Box: face.Box{MaxX: 5, MaxY: 5}, Confidence: 0.5},
			}, nil
		},
	}
	_, url := start(t, d, func(c *service.Config) { c.Environment = inferencev1.Environment_ENVIRONMENT_STAGING })
	jpeg := sample(t)
	for protocol, client := range clients(t, url) {
		t.Run(protocol, func(t *testing.T) {
			if _, err := client.Predict(t.Context(), &inferencev1.Image{RawData: jpeg}); err != nil {
				t.Fatal(err)
			}
			if want := (face.Options{MinConfidence: 0.75}); !reflect.DeepEqual(asked, want) {
				t.Errorf("without options: %+v, want %+v", asked, want)
			}
			explicit := float32(0)
			before := time.Now()
			res, err := client.Predict(t.Context(), &inferencev1.Image{
				RawData: jpeg, ImageId: "ünïque", Width: -3, Height: 9, // ignored for encoded images
				MetaData: &inferencev1.MetaData{Uuid: "the caller's"},
				Options: &inferencev1.DetectOptions{
					MinConfidence: &explicit, MaxResults: 3, MinFaceSize: 40, SkipLandmarks: true, Model: "stub",
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := (face.Options{MaxResults: 3, MinFaceSize: 40, SkipLandmarks: true}); !reflect.DeepEqual(asked, want) {
				t.Errorf("with options: %+v, want %+v", asked, want)
			}
			if res.GetImageId() != "ünïque" || res.GetWidth() != 320 || res.GetHeight() != 400 || res.GetModel() != "stub" {
				t.Errorf("%v", res)
			}
			meta := res.GetMetaData()
			at, err := time.Parse(time.RFC3339Nano, meta.GetIsoDate())
			if err != nil || !pythonDate.MatchString(meta.GetIsoDate()) || meta.GetUuid() != "the-request" || meta.GetEnvironment() != inferencev1.Environment_ENVIRONMENT_STAGING ||
				math.Abs(float64(at.UnixMicro())/1e6-meta.GetTimestamp()) > 0.001 || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("meta data %v, %v", meta, err)
			}
			if res.GetTiming().GetDecode().AsDuration() <= 0 || res.GetTiming().GetQueue() == nil || res.GetTiming().GetDetect() == nil {
				t.Errorf("timing %v", res.GetTiming())
			}
			if len(res.GetResults()) != 2 {
				t.Fatalf("%v", res.GetResults())
			}
			first, second := res.GetResults()[0], res.GetResults()[1]
			if b := first.GetBox(); b.GetUpLeft().GetX() != 10 || b.GetUpLeft().GetY() != 21 || b.GetLowerRight().GetX() != 320 || b.GetLowerRight().GetY() != 400 {
				t.Errorf("box %v", b)
			}
			if l := first.GetLandmarks(); l.GetLeftEye().GetX() != 1 || l.GetRightEye().GetX() != 3 || l.GetNose().GetY() != 6 ||
				l.GetMouthLeft().GetX() != 7 || l.GetMouthRight().GetX() != 319 || l.GetMouthRight().GetY() != 399 {
				t.Errorf("landmarks %v", l)
			}
			if first.GetConfidence() != 0.875 || second.GetLandmarks() != nil {
				t.Errorf("%v, %v", first, second)
			}
		})
	}
}

// TestJSON checks the JSON that browser programmers expect: fields with zero values are
// present, and optional fields without a value are absent instead of null.
func TestJSON(t *testing.T) {
	faces := []face.Face{}
	d := stub{detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) { return faces, nil }}
	_, url := start(t, d, nil)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ask := func() map[string]any {
		body, err := json.Marshal(map[string]any{"rawData": sample(t)})
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.Post(url+inferencev1connect.InferencePredictProcedure, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var answer map[string]any
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	answer := ask()
	if results, ok := answer["results"].([]any); !ok || len(results) != 0 {
		t.Errorf("results without a face: %#v", answer["results"])
	}
	if answer["imageId"] != "" {
		t.Errorf("imageId: %#v", answer["imageId"])
	}
	faces = []face.Face{{Box: face.Box{MaxX: 4, MaxY: 5}}}
	result := ask()["results"].([]any)[0].(map[string]any)
	if upLeft := result["box"].(map[string]any)["upLeft"].(map[string]any); upLeft["x"] != 0.0 || upLeft["y"] != 0.0 {
		t.Errorf("upLeft: %#v", upLeft)
	}
	if result["confidence"] != 0.0 {
		t.Errorf("confidence: %#v", result["confidence"])
	}
	if landmarks, there := result["landmarks"]; there {
		t.Errorf("landmarks that are absent: %#v", landmarks)
	}
}

// TestGet checks that Predict can be called with GET, because it has no side effects.
func TestGet(t *testing.T) {
	_, url := start(t, stub{}, nil)
	h := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(h.CloseIdleConnections)
	var methods []string
	client := inferencev1connect.NewInferenceClient(h, url, connect.WithHTTPGet(), connect.WithInterceptors(
		connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
				res, err := next(ctx, req)
				methods = append(methods, req.HTTPMethod())
				return res, err
			}
		})))
	gray := &inferencev1.Image{RawData: make([]byte, 100*100), Width: 100, Height: 100, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	res, err := client.Predict(t.Context(), gray)
	if err != nil || res.GetWidth() != 100 {
		t.Fatalf("%v, %v", res, err)
	}
	if _, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{}); err != nil {
		t.Fatal(err)
	}
	if len(methods) != 2 || methods[0] != http.MethodGet || methods[1] != http.MethodGet {
		t.Errorf("methods %v", methods)
	}
}

func TestListModels(t *testing.T) {
	_, url := start(t, stub{info: face.Info{
		Family: "stub", Version: "7", InputSize: image.Pt(640, 480), Landmarks: true, MinConfidence: 0.25, MinFaceSize: 12,
	}}, nil)
	for protocol, client := range clients(t, url) {
		res, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{})
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		if len(res.GetModels()) != 2 {
			t.Fatalf("%s: %v", protocol, res)
		}
		m := res.GetModels()[0]
		if m.GetName() != "stub" || m.GetFamily() != "stub" || m.GetVersion() != "7" || m.GetInputWidth() != 640 || m.GetInputHeight() != 480 ||
			!m.GetLandmarks() || !m.GetDefault() || m.GetDefaultMinConfidence() != 0.25 || m.GetMinFaceSize() != 12 {
			t.Errorf("%s: %v", protocol, m)
		}
		if m := res.GetModels()[1]; m.GetName() != "other" || m.GetDefault() {
			t.Errorf("%s: %v", protocol, m)
		}
	}
}

// TestOverload fills the workers and the queue, and checks that requests over the limit
// are refused at once, and that admitted ones are answered.
func TestOverload(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int32
	d := stub{detect: func(ctx context.Context, _ image.Image, _ face.Options) ([]face.Face, error) {
		running.Add(1)
		defer running.Add(-1)
		select {
		case <-release:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	_, url := start(t, d, func(c *service.Config) { c.Workers, c.Queue = 2, 3 })
	jpeg := sample(t)
	all := clients(t, url)
	type answer struct {
		protocol string
		err      error
	}
	answers := make(chan answer, 20)
	for range 5 {
		for protocol, client := range all {
			go func() {
				_, err := client.Predict(t.Context(), &inferencev1.Image{RawData: jpeg})
				answers <- answer{protocol, err}
			}()
		}
	}
	// No request ends before the release, so all answers until then are refusals.
	for range 15 {
		a := <-answers
		code, reason, retry := reasonOf(t, a.err)
		if code != connect.CodeUnavailable || reason != "OVERLOADED" || retry <= 0 {
			t.Errorf("%s: %v, %q, retry after %v", a.protocol, code, reason, retry)
		}
		var ce *connect.Error
		if errors.As(a.err, &ce) && ce.Meta().Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", a.protocol, ce.Meta().Get("Retry-After"))
		}
	}
	if n := running.Load(); n > 2 {
		t.Errorf("%d at work, want 2", n)
	}
	close(release)
	for range 5 {
		if a := <-answers; a.err != nil {
			t.Errorf("%s: admitted and not answered: %v", a.protocol, a.err)
		}
	}
	if _, err := all["json"].Predict(t.Context(), &inferencev1.Image{RawData: jpeg}); err != nil {
		t.Errorf("after the storm: %v", err)
	}
}

// TestMemoryIsBounded checks that two images which do not fit into memory together are
// decoded one after the other, and that an image which does not fit on its own is
// rejected.
func TestMemoryIsBounded(t *testing.T) {
	var running, most atomic.Int32
	d := stub{detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		return nil, nil
	}}
	_, url := start(t, d, func(c *service.Config) { c.Workers, c.Queue, c.MaxInflightBytes = 4, 16, 8_000_000 })
	client := clients(t, url)["grpc"]
	gray := func(side int32) *inferencev1.Image {
		return &inferencev1.Image{
			RawData: make([]byte, 3*side*side), Width: side, Height: side, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_RGB24,
		}
	}
	answered := make(chan error, 6)
	for range 6 {
		go func() {
			_, err := client.Predict(t.Context(), gray(1000))
			answered <- err
		}()
	}
	for range 6 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	if n := most.Load(); n != 1 {
		t.Errorf("%d images of 5 MB at once in 8 MB", n)
	}
	_, err := client.Predict(t.Context(), gray(1600))
	if _, reason, _ := reasonOf(t, err); reason != "TOO_MANY_PIXELS" {
		t.Errorf("an image of 10 MB in 8 MB: %v", err)
	}
}

// TestTruncated checks that every door says if the detector has left something out.
func TestTruncated(t *testing.T) {
	var limited atomic.Bool
	d := stub{detect: func(_ context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
		if limited.Load() {
			opts.Truncated()
		}
		return nil, nil
	}}
	_, url := start(t, d, nil)
	data := sample(t)
	for _, want := range []bool{false, true} {
		limited.Store(want)
		for protocol, client := range clients(t, url) {
			res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: data})
			if err != nil || res.GetTruncated() != want {
				t.Errorf("%s: %v, %v; truncated should be %t", protocol, res, err, want)
			}
		}
		for _, accept := range []string{"application/json", "image/png"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/predict", bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if header := res.Header.Get(service.TruncatedHeader); res.StatusCode != http.StatusOK || (header == "true") != want || (header == "") == want {
				t.Errorf("/predict, %s: %s, %q; truncated should be %t", accept, res.Status, header, want)
			}
		}
	}
}

func TestDeadlines(t *testing.T) {
	d := stub{detect: func(ctx context.Context, _ image.Image, _ face.Options) ([]face.Face, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	_, url := start(t, d, func(c *service.Config) {
		c.Workers, c.Timeout, c.DefaultTimeout = 8, 300*time.Millisecond, 100*time.Millisecond
	})
	jpeg := sample(t)
	for protocol, client := range clients(t, url) {
		for _, c := range []struct {
			name             string
			caller, at, most time.Duration
		}{
			{"none", 0, 100 * time.Millisecond, 290 * time.Millisecond},
			{"shorter", 30 * time.Millisecond, 30 * time.Millisecond, 95 * time.Millisecond},
			{"longer than allowed", time.Hour, 300 * time.Millisecond, 20 * time.Second},
		} {
			t.Run(protocol+"/"+c.name, func(t *testing.T) {
				ctx := t.Context()
				if c.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.caller)
					defer cancel()
				}
				began := time.Now()
				_, err := client.Predict(ctx, &inferencev1.Image{RawData: jpeg})
				if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
					t.Fatalf("%v", err)
				}
				// The test does not check how soon, because the machine may be busy.
				// The protocols send whole milliseconds, rounded down.
				if took := time.Since(began); took < c.at-5*time.Millisecond {
					t.Errorf("after %v, want %v", took, c.at)
				}
				if c.name == "shorter" {
					return // the client's own deadline may have passed first
				}
				if _, reason, _ := reasonOf(t, err); reason != "DEADLINE" {
					t.Errorf("reason %q", reason)
				}
			})
		}
	}
}

// TestClientsDisconnect checks that work stops when its client disconnects, and that
// the slot is free after that and not before.
func TestClientsDisconnect(t *testing.T) {
	began, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	d := stub{detect: func(ctx context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
		if opts.MaxResults == 0 {
			return nil, nil
		}
		began <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	}}
	_, url := start(t, d, func(c *service.Config) { c.Workers, c.Queue = 1, 0 })
	for protocol, client := range clients(t, url) {
		t.Run(protocol, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() {
				_, err := client.Predict(ctx, &inferencev1.Image{RawData: sample(t), Options: &inferencev1.DetectOptions{MaxResults: 1}})
				left <- err
			}()
			<-began
			cancel()
			<-ended
			if err := <-left; connect.CodeOf(err) != connect.CodeCanceled {
				t.Errorf("%v", err)
			}
			// The only slot is released a moment after Detect has returned.
			for deadline := time.Now().Add(10 * time.Second); ; {
				_, err := client.Predict(t.Context(), &inferencev1.Image{RawData: sample(t)})
				if err == nil {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("the slot did not come back: %v", err)
				}
			}
		})
	}
}

func TestDrain(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	d := stub{detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) {
		close(began)
		<-release
		return nil, nil
	}}
	svc, url := start(t, d, nil)
	all := clients(t, url)
	answered := make(chan error)
	go func() {
		_, err := all["grpc"].Predict(t.Context(), &inferencev1.Image{RawData: sample(t)})
		answered <- err
	}()
	<-began
	svc.Drain()
	for protocol, client := range all {
		_, err := client.Predict(t.Context(), &inferencev1.Image{RawData: sample(t)})
		if code, reason, retry := reasonOf(t, err); code != connect.CodeUnavailable || reason != "DRAINING" || retry <= 0 {
			t.Errorf("%s: %v, %q, retry after %v", protocol, code, reason, retry)
		}
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("admitted before the drain: %v", err)
	}
}

// TestRecover checks panics outside of the service's own handlers.
func TestRecover(t *testing.T) {
	svc, _ := start(t, stub{}, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/before", func(http.ResponseWriter, *http.Request) { panic("secret") })
	mux.HandleFunc("/after", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		panic("secret")
	})
	server := httptest.NewServer(svc.Recover(mux))
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	res, err := http.Get(server.URL + "/before")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusInternalServerError || strings.Contains(string(body), "secret") || !strings.Contains(string(body), "request id") {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
	// A client must not take half an answer for a complete one.
	res, err = http.Get(server.URL + "/after")
	if err == nil {
		defer res.Body.Close()
		if _, err = io.ReadAll(res.Body); err == nil {
			t.Error("the answer that panicked in the middle came to an orderly end")
		}
	}
}

func TestSelfTest(t *testing.T) {
	right := face.Face{
		Box:       face.Box{MinX: 62, MinY: 80, MaxX: 250, MaxY: 340},
		Landmarks: &face.Landmarks{LeftEye: face.Point{X: 114, Y: 185}, RightEye: face.Point{X: 205, Y: 183}},
	}
	mirrored := right
	mirrored.Landmarks = &face.Landmarks{LeftEye: right.Landmarks.RightEye, RightEye: right.Landmarks.LeftEye}
	bare := right
	bare.Landmarks = nil
	for _, c := range []struct {
		name      string
		landmarks bool
		faces     []face.Face
		err       error
		message   string // empty if the test passes
	}{
		{"right", true, []face.Face{right}, nil, ""},
		{"right, model without landmarks", false, []face.Face{bare}, nil, ""},
		{"no face", true, nil, nil, "finds none"},
		{"two faces", true, []face.Face{right, right}, nil, "finds (62, 80) to (250, 340) with eyes at (114, 185) and (205, 183), (62, 80)"},
		{"many faces", true, []face.Face{right, right, right, right, right}, nil, ", 2 more; "},
		{"elsewhere", false, []face.Face{{Box: face.Box{MaxX: 100, MaxY: 100}}}, nil, "at (60, 85) to (254, 339) with eyes at (115, 184) and (203, 183); this model finds (0, 0) to (100, 100)"},
		{"eyes swapped", true, []face.Face{mirrored}, nil, "eyes at (205, 183) and (114, 185)"},
		{"landmarks missing", true, []face.Face{bare}, nil, "finds (62, 80) to (250, 340); "},
		{"broken", true, nil, errors.New("out of order"), "out of order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc, _ := start(t, stub{info: face.Info{Landmarks: c.landmarks}, detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) {
				return c.faces, c.err
			}}, func(c *service.Config) { c.Models = c.Models[:1]; c.MaxPixels = 10 })
			err := svc.SelfTest(t.Context())
			if (err == nil) != (c.message == "") {
				t.Errorf("%v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), `"stub"`) || !strings.Contains(err.Error(), c.message)) {
				t.Errorf("%v does not name the model, or %q", err, c.message)
			}
		})
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := service.DefaultConfig()
	good.Models = []service.Model{{Name: "stub", Detector: stub{}}}
	if _, err := service.New(good); err != nil {
		t.Fatal(err)
	}
	for message, spoil := range map[string]func(*service.Config){
		"Models: ":                      func(c *service.Config) { c.Models = nil },
		"Models: \"stub\" occurs twice": func(c *service.Config) { c.Models = append(c.Models, c.Models[0]) },
		"MaxImageBytes: ":               func(c *service.Config) { c.MaxImageBytes = 0 },
		"MaxBatchBytes: ":               func(c *service.Config) { c.MaxBatchBytes = 0 },
		"MaxRequests: ":                 func(c *service.Config) { c.MaxRequests = 0 },
		"MaxBodyBytes: ":                func(c *service.Config) { c.MaxBodyBytes = 64 << 20 }, // smaller than the largest batch
		"StreamIdle: ":                  func(c *service.Config) { c.StreamIdle = 0 },
		"MaxPixels: ":                   func(c *service.Config) { c.MaxPixels = -1 },
		"MaxInflightBytes: ":            func(c *service.Config) { c.MaxInflightBytes = 0 },
		"Workers: ":                     func(c *service.Config) { c.Workers = 0 },
		"Queue: ":                       func(c *service.Config) { c.Queue = -1 },
		"Timeout: ":                     func(c *service.Config) { c.Timeout = 0 },
		"DefaultTimeout: ":              func(c *service.Config) { c.DefaultTimeout = c.Timeout + 1 },
		// Sums of these values would overflow.
		"MaxImageBytes: 9223372036854775807":    func(c *service.Config) { c.MaxImageBytes = math.MaxInt64 },
		"MaxBatchBytes: 9223372036854775807":    func(c *service.Config) { c.MaxBatchBytes = math.MaxInt64 },
		"MaxBodyBytes: 9223372036854775807":     func(c *service.Config) { c.MaxBodyBytes = math.MaxInt64 },
		"MaxPixels: 9223372036854775807":        func(c *service.Config) { c.MaxPixels = math.MaxInt64 },
		"MaxInflightBytes: 9223372036854775807": func(c *service.Config) { c.MaxInflightBytes = math.MaxInt64 },
		"MaxRequests: 9223372036854775807":      func(c *service.Config) { c.MaxRequests = math.MaxInt },
		"Workers: 9223372036854775807":          func(c *service.Config) { c.Workers = math.MaxInt },
		"Queue: 9223372036854775807":            func(c *service.Config) { c.Queue = math.MaxInt },
		"Timeout: 2562047h47m16.854775807s":     func(c *service.Config) { c.Timeout = math.MaxInt64 },
		"StreamIdle: 2562047h47m16.8547":        func(c *service.Config) { c.StreamIdle = math.MaxInt64 },
		"MaxBodyBytes: -9223372036854775808":    func(c *service.Config) { c.MaxBodyBytes = math.MinInt64 },
	} {
		bad := good
		spoil(&bad)
		if _, err := service.New(bad); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", message, err)
		}
	}
	// All problems are reported together.
	if _, err := service.New(service.Config{}); err == nil || strings.Count(err.Error(), "\n") < 6 {
		t.Errorf("the zero value: %v", err)
	}
	// Callers may use other names for the fields.
	bad := good
	bad.MaxBodyBytes = 1
	if wrong := bad.Validate(); len(wrong) != 1 || wrong[0].Field != "MaxBodyBytes" ||
		!strings.HasPrefix(wrong[0].Message(strings.ToUpper), "MAXBODYBYTES: 1 is below") || !strings.Contains(wrong[0].Message(strings.ToUpper), " MAXIMAGEBYTES and MAXBATCHBYTES allow") {
		t.Errorf("%v", wrong)
	}
}
