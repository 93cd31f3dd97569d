package service_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/face"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// A slowCaller sends a little at once, and then a byte now and then.
type slowCaller struct {
	path, contentType string
	header            map[string]string
	declares          int64 // -1: nothing
	sends             []byte
}

// call calls, and returns what was answered when it was, or else when the test
// ends.
func (c slowCaller) call(ctx context.Context, t *testing.T, client *http.Client, url string) (text string) {
	t.Helper()
	body, w := io.Pipe()
	var trickle sync.WaitGroup
	defer trickle.Wait()
	defer body.Close()
	trickle.Go(func() {
		_, err := w.Write(c.sends)
		for n := int64(len(c.sends)); err == nil && (c.declares < 0 || n < c.declares-1); n++ {
			select {
			case <-time.After(50 * time.Millisecond):
				_, err = w.Write([]byte{0})
			case <-ctx.Done():
				w.CloseWithError(ctx.Err())
				return
			}
		}
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+c.path, body)
	if err != nil {
		t.Error(err)
		return ""
	}
	req.ContentLength = c.declares
	req.Header.Set("Content-Type", c.contentType)
	for key, value := range c.header {
		req.Header.Set(key, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(res.Body)
	return string(answer) + res.Trailer.Get("Grpc-Message") + res.Header.Get("Grpc-Message")
}

// prefixed is the beginning of a message of gRPC and of streams: its flags, its
// length, and n bytes of it.
func prefixed(flags byte, length uint32, n int) []byte {
	b := make([]byte, 5+n)
	b[0] = flags
	binary.BigEndian.PutUint32(b[1:], length)
	return b
}

// TestSlowCallers: those whose requests come slowly hold no more than they have
// sent, and when that is in the way of others they have to go.
func TestSlowCallers(t *testing.T) {
	gzip := map[string]string{"Content-Encoding": "gzip"}
	plain, packed := map[string]string{"Te": "trailers"}, map[string]string{"Te": "trailers", "Grpc-Encoding": "gzip"}
	const predict, stream = inferencev1connect.InferencePredictProcedure, inferencev1connect.InferencePredictStreamProcedure
	for _, c := range []struct {
		name   string
		slow   []slowCaller
		each   int // of them
		limits func(*service.Config)
		// full, if not nil, tells that there is no room for others, so some of them
		// have to go.
		full func(service.Stats) bool
	}{
		{
			name: "who declare much", each: 10,
			slow: []slowCaller{
				{path: "/predict", contentType: "image/jpeg", declares: 100_000, sends: []byte("\xff\xd8")},
				{path: predict, contentType: "application/json", declares: 100_000, sends: []byte(`{"rawData": "`)},
				{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 100_000, 1)},
			},
		},
		{
			name: "who compress", each: 10,
			slow: []slowCaller{
				{path: predict, contentType: "application/json", header: gzip, declares: 100_000, sends: []byte("\x1f\x8b")},
				{path: predict, contentType: "application/proto", header: gzip, declares: -1, sends: []byte("\x1f\x8b")},
				{path: predict, contentType: "application/grpc", header: packed, declares: -1, sends: prefixed(1, 100_000, 1)},
				{path: stream, contentType: "application/grpc", header: packed, declares: -1, sends: prefixed(1, 100_000, 1)},
			},
		},
		{
			name: "who have sent much", each: 2, full: func(s service.Stats) bool { return s.BodyBytesInFlight > 180_000 },
			slow: []slowCaller{
				{path: "/predict", contentType: "image/jpeg", declares: 100_000, sends: bytes.Repeat([]byte("x"), 70_000)},
				{path: predict, contentType: "application/json", declares: 100_000, sends: bytes.Repeat([]byte(" "), 70_000)},
				{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 100_000, 70_000)},
				{path: stream, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 100_000, 70_000)},
			},
		},
		{
			name: "who have all places", each: 4, full: func(s service.Stats) bool { return s.RequestsInFlight == 8 },
			limits: func(c *service.Config) { c.MaxRequests = 8 },
			slow: []slowCaller{
				{path: "/predict", contentType: "image/jpeg", declares: 1000, sends: []byte("\xff\xd8")},
				{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 1000, 1)},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen calls
			svc, url := start(t, stub{}, func(config *service.Config) {
				config.MaxImageBytes, config.MaxBatchBytes, config.MaxBodyBytes = 30_000, 30_000, 250_000
				config.Observe = seen.observe
				if c.limits != nil {
					c.limits(config)
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			h1, h2 := httpClient(t), http2Client(t)
			var slow sync.WaitGroup
			answers := make(chan string, 100)
			for _, caller := range c.slow {
				client := h1
				if caller.contentType == "application/grpc" {
					client = h2
				}
				for range c.each {
					slow.Go(func() { answers <- caller.call(ctx, t, client, url) })
				}
			}
			full := c.full
			if full == nil {
				full = func(s service.Stats) bool { return s.RequestsInFlight == c.each*len(c.slow) }
			}
			eventually(t, "they are there", func() bool { return full(svc.Stats()) })
			for name, all := range map[string]map[string]inferencev1connect.InferenceClient{"": clients(t, url), "compressed": compressing(t, url)} {
				for protocol, client := range all {
					large := gray(1)
					large.ImageId = strings.Repeat("x", 60_000)
					if c.full != nil {
						eventually(t, protocol+" is answered "+name, func() bool {
							_, err := client.Predict(ctx, large)
							return err == nil
						})
					} else if _, err := client.Predict(ctx, large); err != nil {
						t.Errorf("%s %s: %v", protocol, name, err)
					}
					if protocol != "grpc" {
						continue
					}
					bidi, err := client.PredictStream(ctx)
					if err == nil {
						err = errors.Join(bidi.Send(large), bidi.CloseRequest())
					}
					if err == nil {
						_, err = bidi.Receive()
						_ = bidi.CloseResponse()
					}
					if err != nil && c.limits == nil { // or it may be refused
						t.Errorf("%s %s: %v", protocol, name, err)
					}
				}
			}
			if held := svc.Stats().BodyBytesInFlight; held > 250_000 {
				t.Errorf("%d bytes are held", held)
			}
			if c.full == nil && len(answers) > 0 {
				t.Errorf("a slow caller was in nobody's way, and is told: %s", <-answers)
			}
			cancel()
			slow.Wait()
			idle(t, svc)
			if c.full != nil {
				close(answers)
				told, counted := 0, 0
				for text := range answers {
					if strings.Contains(text, "others needed its place") {
						told++
					}
				}
				seen.mu.Lock()
				defer seen.mu.Unlock()
				for _, call := range seen.calls {
					if call.Reason == "OVERLOADED" && call.Code == connect.CodeUnavailable {
						counted++
					}
				}
				if told == 0 || counted < told {
					t.Errorf("%d callers were told that they are slow, and %d refusals counted", told, counted)
				}
			}
		})
	}
}

// TestStreamsLeaveRoom: what streams have sent is never in the way of single calls.
func TestStreamsLeaveRoom(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: func(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
		if opts.MaxResults == 2 {
			return nil, nil
		}
		return g.detect(ctx, img, opts)
	}}, func(c *service.Config) {
		c.Workers, c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes = 3, 300_000, 300_000, 2*(400_000+64<<10)
	})
	client := clients(t, url)["grpc"]
	ctx, cancel := context.WithCancel(t.Context())
	large := gray(1)
	large.Width, large.Height, large.RawData = 600, 500, make([]byte, 300_000)
	var streams sync.WaitGroup
	for range 4 { // of which one fits
		stream, err := client.PredictStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		streams.Go(func() {
			for stream.Send(large) == nil {
			}
			_ = stream.CloseResponse()
		})
	}
	<-g.arrived
	time.Sleep(100 * time.Millisecond) // let the others wait
	for range 5 {
		large := gray(2)
		large.Width, large.Height, large.RawData = 600, 500, make([]byte, 300_000)
		for protocol, client := range clients(t, url) {
			if _, err := client.Predict(t.Context(), large); err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
		}
	}
	cancel()
	streams.Wait()
	idle(t, svc)
}
