package service_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// ways are all paths and content types for one image.
var ways = []struct{ path, contentType string }{
	{inferencev1connect.InferencePredictProcedure, "application/json"},
	{inferencev1connect.InferencePredictProcedure, "application/proto"},
	{inferencev1connect.InferencePredictProcedure, "application/grpc"},
	{inferencev1connect.InferencePredictProcedure, "application/grpc-web"},
	{"/Inference/Predict", "application/grpc"},
	{"/Inference/Predict", "application/json"},
	{"/predict", "image/jpeg"},
	{"/predict", "application/json"},
	{inferencev1connect.InferencePredictStreamProcedure, "application/grpc"},
	{inferencev1connect.InferencePredictBatchProcedure, "application/connect+json"},
	{inferencev1connect.InferencePredictBatchProcedure, "application/grpc-web"},
}

// post sends a request with that body. If length is -1, the request declares no length.
func post(t *testing.T, client *http.Client, url, contentType string, body io.Reader, length int64) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Te", "trailers")
	return client.Do(req)
}

// assertOverloaded checks the answer of a full server.
func assertOverloaded(t *testing.T, res *http.Response, contentType string) {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Error(err)
	}
	header := func(key string) string { return res.Header.Get(key) + res.Trailer.Get(key) }
	text := string(body)
	retry := header("Retry-After")
	switch {
	case strings.HasPrefix(contentType, "application/grpc-web"):
		if !strings.Contains(strings.ToLower(text)+header("Grpc-Status"), "14") {
			t.Errorf("%v %q", res.Header, text)
		}
		text += header("Grpc-Message")
		retry += text[max(0, strings.Index(strings.ToLower(text), "retry-after")):]
	case strings.HasPrefix(contentType, "application/grpc"):
		if header("Grpc-Status") != "14" {
			t.Errorf("grpc-status %q", header("Grpc-Status"))
		}
		text += header("Grpc-Message")
	case strings.HasPrefix(contentType, "application/connect"):
		retry = "in the end of the stream"
	case res.Header.Get(service.ReasonHeader) != "" && contentType == "application/json":
		// The old system always answers 200.
	default:
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d: %s", res.StatusCode, body)
		}
	}
	if !strings.Contains(text, "overloaded") || retry == "" {
		t.Errorf("Retry-After %q, %v: %q", retry, res.Header, text)
	}
}

// TestTooManyRequests checks that every endpoint refuses requests over --max-requests
// before their bodies are sent.
func TestTooManyRequests(t *testing.T) {
	g := newGate()
	var seen calls
	svc, url := start(t, stub{detect: g.detect}, func(c *service.Config) { c.MaxRequests, c.Observe = 1, seen.observe })
	all := clients(t, url)
	answered := make(chan error)
	go func() {
		_, err := all["grpc"].Predict(t.Context(), gray(1))
		answered <- err
	}()
	<-g.arrived
	h1, h2 := httpClient(t), http2Client(t)
	for _, way := range ways {
		for version, client := range map[string]*http.Client{"HTTP/1.1": h1, "HTTP/2": h2} {
			if version == "HTTP/1.1" && (way.contentType == "application/grpc") {
				continue
			}
			t.Run(version+way.path+" "+way.contentType, func(t *testing.T) {
				body, w := io.Pipe() // nothing is written to it
				defer w.Close()
				res, err := post(t, client, url+way.path, way.contentType, body, 1_000_000)
				if err != nil {
					t.Fatal(err)
				}
				assertOverloaded(t, res, way.contentType)
				if c := seen.take(t, 1)[0]; c.Reason != "OVERLOADED" || c.Code != connect.CodeUnavailable || !c.Arrived.IsZero() {
					t.Errorf("%+v", c)
				}
			})
		}
	}
	// ListModels has no image, and shows operators which server this is.
	if _, err := all["grpc"].ListModels(t.Context(), &inferencev1.ListModelsRequest{}); err != nil {
		t.Error(err)
	}
	g.open <- struct{}{}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	idle(t, svc)
}

// TestRefusalsOfLargeBodies checks that a client of HTTP/1.1 which sends all of a large body
// before it reads, as most of those outside of Go do, gets the answer to a refused request.
func TestRefusalsOfLargeBodies(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.only(1)}, func(c *service.Config) { c.MaxRequests = 1 })
	answered := make(chan error)
	go func() {
		_, err := clients(t, url)["grpc"].Predict(t.Context(), gray(1))
		answered <- err
	}()
	<-g.arrived
	const size = 12 << 20
	for _, c := range []struct{ path, contentType string }{{"/predict", "image/jpeg"}, {predictPath, "application/proto"}} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", c.path, c.contentType, size)
		if _, err := conn.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		part := make([]byte, size/12)
		for n := 0; n < size && err == nil; n += len(part) {
			_, err = conn.Write(part)
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("%s: %v, while the body was sent", c.path, err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
		} else {
			assertOverloaded(t, res, c.contentType)
		}
		_ = conn.Close()
	}
	g.open <- struct{}{}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	idle(t, svc)
}

func http2Client(t *testing.T) *http.Client {
	t.Helper()
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: h2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestTooManyBodyBytes checks the limit for all bodies in flight together. There must
// be room for what is declared, for what is received, and for what a compressed body
// may inflate to.
func TestTooManyBodyBytes(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.only(0)}, func(c *service.Config) {
		c.Workers, c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes = 4, 30_000, 30_000, 120_000
	})
	h1 := httpClient(t)
	// Three images of 25,000 bytes are in progress.
	answered := make(chan error)
	for range 3 {
		go func() {
			_, err := clients(t, url)["grpc"].Predict(t.Context(), &inferencev1.Image{
				RawData: make([]byte, 25_000), Width: 250, Height: 100, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
			})
			answered <- err
		}()
		<-g.arrived
	}
	for _, way := range ways {
		if way.contentType == "application/grpc" || strings.Contains(way.contentType, "connect") {
			continue // the transport chooses which lengths it declares
		}
		t.Run(way.path+" "+way.contentType, func(t *testing.T) {
			body, w := io.Pipe()
			defer w.Close()
			res, err := post(t, h1, url+way.path, way.contentType, body, 60_000)
			if err != nil {
				t.Fatal(err)
			}
			assertOverloaded(t, res, way.contentType)
		})
	}
	// A body without a declared length is refused once there is no more room for it.
	body := `{"rawData": "` + strings.Repeat("A", 80_000) + `"}`
	res, err := post(t, h1, url+inferencev1connect.InferencePredictProcedure, "application/json", strings.NewReader(body), -1)
	if err != nil {
		t.Fatal(err)
	}
	assertOverloaded(t, res, "application/json")
	// So is a compressed body, because it may be a bomb.
	compressed := compressing(t, url)
	noise := gray(1)
	for i := range noise.GetRawData() {
		noise.RawData[i] = byte(i * 97)
	}
	for protocol, client := range compressed {
		if _, err := client.Predict(t.Context(), noise); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%s, compressed: %v", protocol, err)
		}
	}
	packed := gzipped(t, noise.GetRawData())
	compressedImage := func() (status int, reason string) {
		res, _ := send(t, h1, url+"/predict", map[string]string{"Content-Encoding": "gzip"}, packed)
		return res.StatusCode, res.Header.Get(service.ReasonHeader)
	}
	if status, reason := compressedImage(); status != http.StatusServiceUnavailable || reason != "OVERLOADED" {
		t.Errorf("/predict, compressed: %d, %s", status, reason)
	}
	res, err = h1.Get(url + inferencev1connect.InferencePredictProcedure + "?connect=v1&encoding=json&compression=gzip&base64=1&message=" + strings.Repeat("A", 100))
	if err != nil {
		t.Fatal(err)
	}
	assertOverloaded(t, res, "application/json")
	// Requests that fit are answered, whatever else is held.
	for protocol, client := range clients(t, url) {
		if _, err := client.Predict(t.Context(), gray(1)); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
	if got := svc.Stats().BodyBytesInFlight; got < 75_000 || got > 120_000 {
		t.Errorf("%d bytes in flight", got)
	}
	for range 3 {
		g.open <- struct{}{}
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	idle(t, svc)
	for protocol, client := range compressed {
		if _, err := client.Predict(t.Context(), noise); err != nil {
			t.Errorf("%s, compressed: %v", protocol, err)
		}
	}
	if status, reason := compressedImage(); status != http.StatusUnsupportedMediaType || reason != "UNSUPPORTED_FORMAT" {
		t.Errorf("/predict, compressed, with room for it: %d, %s", status, reason)
	}
	idle(t, svc)
}

// TestDeadlinesInTheQueue checks that a request whose deadline is too short for the
// queue is refused at once, that no work is done for one whose deadline passes in the
// queue, and that neither happens on an idle server.
func TestDeadlinesInTheQueue(t *testing.T) {
	g := newGate()
	const takes = 250 * time.Millisecond
	svc, url := start(t, stub{detect: func(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
		if opts.MaxResults == 0 {
			time.Sleep(takes)
			return nil, nil
		}
		return g.detect(ctx, img, opts)
	}}, func(c *service.Config) { c.Workers, c.Queue, c.DefaultTimeout = 1, 20, 30*time.Second })
	client := clients(t, url)["grpc"]
	hold := func() (answered chan error) {
		answered = make(chan error, 10)
		for i := range 10 {
			go func() {
				_, err := client.Predict(t.Context(), gray(1))
				answered <- err
			}()
			eventually(t, "it waits", func() bool { s := svc.Stats(); return s.Busy+s.Queued == i+1 })
		}
		<-g.arrived
		return answered
	}
	letGo := func(answered chan error) {
		for range 10 {
			g.open <- struct{}{}
		}
		for range 10 {
			if err := <-answered; err != nil {
				t.Error(err)
			}
		}
		for len(g.arrived) > 0 {
			if n := <-g.arrived; n != 1 {
				t.Errorf("image %d was worked on", n)
			}
		}
	}

	// The queue has no times yet, so a short deadline might be enough; it is not.
	answered := hold()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Predict(ctx, gray(2)); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("%v", err)
	}
	eventually(t, "it has left the queue", func() bool { return svc.Stats().Queued == 9 })
	letGo(answered)

	for range 32 { // the number of times that the estimate uses
		if _, err := client.Predict(t.Context(), gray(0)); err != nil {
			t.Fatal(err)
		}
	}
	answered = hold()
	short, cancel := context.WithTimeout(t.Context(), 9*takes*3/4)
	defer cancel()
	_, err := client.Predict(short, gray(2))
	if _, reason, _ := reasonOf(t, err); reason != "DEADLINE" || !strings.Contains(err.Error(), "no work was done") || short.Err() != nil {
		t.Errorf("nine are before it, of %v each: %v", takes, err)
	}
	letGo(answered)
	short, cancel = context.WithTimeout(t.Context(), 9*takes*3/4)
	defer cancel()
	if _, err := client.Predict(short, gray(0)); err != nil {
		t.Errorf("on an idle server: %v", err)
	}
	idle(t, svc)
}

// TestManyClientsDisconnect checks that nothing remains after many clients disconnect,
// and that no work is done for those whose work had not begun.
func TestManyClientsDisconnect(t *testing.T) {
	g := newGate()
	var seen calls
	var inVain atomic.Int32
	svc, url := start(t, stub{detect: func(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
		if ctx.Err() != nil {
			inVain.Add(1)
		}
		return g.detect(ctx, img, opts)
	}}, func(c *service.Config) { c.Workers, c.Queue, c.Observe = 2, 300, seen.observe })
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	const each = 40
	h1 := httpClient(t)
	for _, client := range clients(t, url) {
		for range each {
			callers.Go(func() {
				if _, err := client.Predict(ctx, gray(1)); connect.CodeOf(err) != connect.CodeCanceled {
					t.Error(err)
				}
			})
		}
		callers.Go(func() {
			stream, err := client.PredictStream(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				if err := stream.Send(gray(2)); err != nil {
					t.Error(err)
				}
			}
			for err == nil {
				_, err = stream.Receive()
			}
			_ = stream.CloseResponse()
		})
		callers.Go(func() {
			batch, err := client.PredictBatch(ctx, &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{gray(3), gray(3), gray(3)}})
			if err == nil {
				for batch.Receive() {
				}
				_ = batch.Close()
			}
		})
	}
	for range each {
		callers.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/predict", bytes.NewReader(sample(t)))
			if err != nil {
				t.Error(err)
				return
			}
			if res, err := h1.Do(req); err == nil {
				t.Errorf("status %d", res.StatusCode)
				_ = res.Body.Close()
			}
		})
	}
	eventually(t, "all are there", func() bool {
		s := svc.Stats()
		return s.Busy == 2 && s.Busy+s.Queued+s.Waiting == 5*each+2*4*3
	})
	cancel()
	callers.Wait()
	idle(t, svc)
	// The server may notice some of the disconnects later.
	if n := len(g.arrived); n > 20 || inVain.Load() > 0 {
		t.Errorf("%d images were worked on, of which two had begun; %d for those who had left", n, inVain.Load())
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, c := range seen.calls {
		if c.Reason != "CANCELED" {
			t.Errorf("%+v", c)
			break
		}
	}
}

// BenchmarkClientDisconnects measures the time from the moment when a client
// disconnects to the moment when its work is canceled.
func BenchmarkClientDisconnects(b *testing.B) {
	began, told := make(chan struct{}), make(chan time.Time, 1)
	config := service.DefaultConfig()
	config.Models = []service.Model{{Name: "stub", Detector: stub{detect: func(ctx context.Context, _ image.Image, _ face.Options) ([]face.Face, error) {
		began <- struct{}{}
		<-ctx.Done()
		told <- time.Now()
		return nil, ctx.Err()
	}}}}
	url := serve(b, config)
	leave := func(b *testing.B, call func(context.Context)) {
		b.Helper()
		var total, most time.Duration
		for b.Loop() {
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); call(ctx) }()
			<-began
			left := time.Now()
			cancel()
			took := (<-told).Sub(left)
			total, most = total+took, max(most, took)
			<-ended
		}
		b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs/told")
		b.ReportMetric(float64(most.Microseconds()), "µs/worst")
	}
	for protocol, opt := range map[string]connect.ClientOption{
		"connect": connect.WithClientOptions(), "grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb(), "json": connect.WithProtoJSON(),
	} {
		for version, protocols := range map[string]func(*http.Protocols){
			"HTTP1": func(p *http.Protocols) { p.SetHTTP1(true) },
			"HTTP2": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
		} {
			if protocol == "grpc" && version == "HTTP1" {
				continue
			}
			p := new(http.Protocols)
			protocols(p)
			transport := &http.Transport{Protocols: p}
			client := inferencev1connect.NewInferenceClient(&http.Client{Transport: transport}, url, opt)
			b.Run(protocol+"/"+version, func(b *testing.B) {
				leave(b, func(ctx context.Context) { _, _ = client.Predict(ctx, gray(1)) })
			})
			if version == "HTTP2" {
				b.Run(protocol+"/"+version+"/stream", func(b *testing.B) {
					leave(b, func(ctx context.Context) {
						stream, err := client.PredictStream(ctx)
						if err == nil {
							_ = stream.Send(gray(1))
							_, _ = stream.Receive()
							_ = stream.CloseResponse()
						}
					})
				})
			}
			transport.CloseIdleConnections()
		}
	}
}
