package service_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// A slowClient sends some bytes at once, and then a byte now and then.
type slowClient struct {
	path, contentType string
	header            map[string]string
	declares          int64 // -1 for no length
	sends             []byte
	silent            bool // sends nothing after the first bytes
	each              int  // the bytes that it sends every 50 ms; 0 for one
}

// call sends the request, and returns the answer when it arrives or when the test ends.
func (c slowClient) call(ctx context.Context, t *testing.T, client *http.Client, url string) (text string) {
	t.Helper()
	body, w := io.Pipe()
	var trickle sync.WaitGroup
	defer trickle.Wait()
	defer body.Close()
	trickle.Go(func() {
		_, err := w.Write(c.sends)
		if c.silent {
			<-ctx.Done()
		}
		part := make([]byte, max(1, c.each))
		for n := int64(len(c.sends)); err == nil && (c.declares < 0 || n < c.declares-int64(len(part))); n += int64(len(part)) {
			select {
			case <-time.After(50 * time.Millisecond):
				_, err = w.Write(part)
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

// prefixed returns the beginning of a message of gRPC or of streams: its flags, its
// length, and n of its bytes.
func prefixed(flags byte, length uint32, n int) []byte {
	b := make([]byte, 5+n)
	b[0] = flags
	binary.BigEndian.PutUint32(b[1:], length)
	return b
}

// message returns a complete message.
func message(flags byte, data []byte) []byte {
	return append(prefixed(flags, uint32(len(data)), 0), data...)
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSlowClients checks that slow requests hold no more than what they have sent, and
// are evicted if others need the room.
func TestSlowClients(t *testing.T) {
	packedBody := map[string]string{"Content-Encoding": "gzip"}
	plain, packed := map[string]string{"Te": "trailers"}, map[string]string{"Te": "trailers", "Grpc-Encoding": "gzip"}
	const predict, stream = inferencev1connect.InferencePredictProcedure, inferencev1connect.InferencePredictStreamProcedure
	var packedImage bytes.Buffer
	w := gzip.NewWriter(&packedImage)
	if _, err := w.Write(marshal(t, gray(1))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		slow   []slowClient
		each   int // bytes at a time
		limits func(*service.Config)
		// full, if not nil, reports whether there is no room for others, so that slow
		// requests must be evicted.
		full func(service.Stats) bool
	}{
		{
			name: "who declare much", each: 10,
			slow: []slowClient{
				{path: "/predict", contentType: "image/jpeg", declares: 100_000, sends: []byte("\xff\xd8")},
				{path: predict, contentType: "application/json", declares: 100_000, sends: []byte(`{"rawData": "`)},
				{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 100_000, 1)},
			},
		},
		{
			name: "who compress", each: 10,
			slow: []slowClient{
				{path: predict, contentType: "application/json", header: packedBody, declares: 100_000, sends: []byte("\x1f\x8b")},
				{path: predict, contentType: "application/proto", header: packedBody, declares: -1, sends: []byte("\x1f\x8b")},
				{path: predict, contentType: "application/grpc", header: packed, declares: -1, sends: prefixed(1, 100_000, 1)},
				{path: stream, contentType: "application/grpc", header: packed, declares: -1, sends: prefixed(1, 100_000, 1)},
			},
		},
		{
			name: "who compress, and do not end", each: 10,
			slow: []slowClient{{path: predict, contentType: "application/grpc", header: packed, declares: -1, sends: message(1, packedImage.Bytes()), silent: true}},
		},
		{
			name: "who have sent much", each: 2, full: func(s service.Stats) bool { return s.BodyBytesInFlight > 180_000 },
			slow: []slowClient{
				{path: "/predict", contentType: "image/jpeg", declares: 100_000, sends: bytes.Repeat([]byte("x"), 70_000)},
				{path: predict, contentType: "application/json", declares: 100_000, sends: bytes.Repeat([]byte(" "), 70_000)},
				{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 100_000, 70_000)},
				{path: stream, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 100_000, 70_000)},
			},
		},
		{
			name: "who have all places", each: 4, full: func(s service.Stats) bool { return s.RequestsInFlight == 8 },
			limits: func(c *service.Config) { c.MaxRequests = 8 },
			slow: []slowClient{
				{path: "/predict", contentType: "image/jpeg", declares: 1000, sends: []byte("\xff\xd8")},
				{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: prefixed(0, 1000, 1)},
			},
		},
		{
			name: "who have all places and do not end", each: 8, full: func(s service.Stats) bool { return s.RequestsInFlight == 8 },
			limits: func(c *service.Config) { c.MaxRequests = 8 },
			slow:   []slowClient{{path: predict, contentType: "application/grpc", header: plain, declares: -1, sends: message(0, nil), silent: true}},
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
					if err != nil && c.limits == nil { // otherwise it may be refused
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

// TestSlowClientsThatReconnect checks that clients which fill all places with slow bodies, and
// come back as soon as they are evicted, leave others at least 95 % of their calls.
func TestSlowClientsThatReconnect(t *testing.T) {
	const places, slowOnes, calls = 16, 32, 300
	for _, rate := range []int{1 << 10, 17 << 10, 64 << 10, 100 << 10} {
		t.Run(fmt.Sprint(rate>>10, " KiB per second"), func(t *testing.T) {
			svc, url := start(t, stub{}, func(c *service.Config) { c.MaxRequests = places })
			ctx, cancel := context.WithCancel(t.Context())
			var slow sync.WaitGroup
			var came atomic.Int64
			for range slowOnes {
				slow.Go(func() {
					client := httpClient(t)
					for ctx.Err() == nil {
						came.Add(1)
						slowClient{path: "/predict", contentType: "image/jpeg", declares: 8 << 20, sends: []byte("\xff\xd8"), each: rate / 20}.call(ctx, t, client, url)
					}
				})
			}
			eventually(t, "they have all places", func() bool { return svc.Stats().RequestsInFlight == places })
			time.Sleep(2 * time.Second) // until those that come are refused
			failed := 0
			client := clients(t, url)["connect"]
			for range calls {
				if _, err := client.Predict(t.Context(), gray(1)); err != nil {
					failed++
				}
			}
			t.Logf("%d of %d calls failed while slow clients came %d times", failed, calls, came.Load())
			if failed > calls/20 {
				t.Errorf("%d of %d calls failed, want at most a twentieth", failed, calls)
			}
			cancel()
			slow.Wait()
			idle(t, svc)
		})
	}
}

// TestStreamsLeaveRoom checks that what streams have sent never prevents unary
// requests.
func TestStreamsLeaveRoom(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.only(1)}, func(c *service.Config) {
		c.Workers, c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes = 3, 300_000, 300_000, 2*(400_000+64<<10)
	})
	client := clients(t, url)["grpc"]
	ctx, cancel := context.WithCancel(t.Context())
	large := gray(1)
	large.Width, large.Height, large.RawData = 600, 500, make([]byte, 300_000)
	var streams sync.WaitGroup
	for range 4 { // only one of them fits
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
	time.Sleep(100 * time.Millisecond) // until the others wait
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

// TestWaitingStreamsLeaveRoom checks that a stream without room waits, while unary
// requests use what is free.
func TestWaitingStreamsLeaveRoom(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.only(1)}, func(c *service.Config) {
		c.Workers, c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes = 9, 30_000, 30_000, 250_000
	})
	client := clients(t, url)["grpc"]
	var held sync.WaitGroup
	for range 7 {
		large := gray(1)
		large.Width, large.Height, large.RawData = 300, 100, make([]byte, 30_000)
		held.Go(func() {
			if _, err := client.Predict(t.Context(), large); err != nil {
				t.Error(err)
			}
		})
		<-g.arrived
	}
	stream, err := clients(t, url)["grpc"].PredictStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waits := gray(2)
	waits.ImageId = strings.Repeat("x", 60_000)
	if err := errors.Join(stream.Send(waits), stream.CloseRequest()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has what is free", func() bool { return svc.Stats().BodyBytesInFlight > 230_000 })
	before := svc.Stats().BodyBytesInFlight
	for protocol, client := range clients(t, url) {
		if _, err := client.Predict(t.Context(), gray(3)); err != nil {
			t.Errorf("%s: %v, with %d bytes in flight", protocol, err, before)
		}
	}
	for range 7 {
		g.open <- struct{}{}
	}
	held.Wait()
	if res, err := stream.Receive(); err != nil || res.GetImageId() != waits.GetImageId() {
		t.Errorf("%v", err)
	}
	_ = stream.CloseResponse()
	idle(t, svc)
}

// TestOneMessage checks that a unary request has exactly one message.
func TestOneMessage(t *testing.T) {
	svc, url := start(t, stub{}, nil)
	for _, contentType := range []string{"application/grpc", "application/grpc-web"} {
		one := message(0, marshal(t, gray(1)))
		res, err := post(t, http2Client(t), url+inferencev1connect.InferencePredictProcedure, contentType, bytes.NewReader(append(one, one...)), -1)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		told := strings.ToLower(string(body)) + res.Header.Get("Grpc-Message") + res.Trailer.Get("Grpc-Message")
		if err != nil || !strings.Contains(told, "more than one message") {
			t.Errorf("%s: %v, %s %v", contentType, err, body, res.Trailer)
		}
	}
	idle(t, svc)
}

// TestUnreadAnswers checks that clients which do not read their answers hold nothing
// that others need, except for their place among the requests.
func TestUnreadAnswers(t *testing.T) {
	svc, url := start(t, stub{}, func(c *service.Config) {
		c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes, c.StreamIdle = 30_000, 30_000, 250_000, time.Hour
	})
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	// This client receives one byte of its answer before it stops reading.
	transport := &http.Transport{Protocols: h2, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 1}}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(t.Context())
	batch := &inferencev1.PredictBatchRequest{}
	for i := range 10 {
		img := gray(int32(i))
		img.Width, img.Height, img.RawData = 60, 50, make([]byte, 3000)
		batch.Images = append(batch.Images, img)
	}
	image := message(0, marshal(t, gray(1)))
	var answers []io.Closer
	for _, c := range []struct {
		path  string
		sends []byte
	}{
		{inferencev1connect.InferencePredictBatchProcedure, message(0, marshal(t, batch))},
		{inferencev1connect.InferencePredictStreamProcedure, append(slices.Clip(image), message(0, bytes.Repeat([]byte{0xff}, 60_000))...)},
		{inferencev1connect.InferencePredictStreamProcedure, append(slices.Clip(image), message(1, []byte("no gzip"))...)},
	} {
		for range 8 {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+c.path, bytes.NewReader(c.sends))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			req.Header.Set("Grpc-Encoding", "gzip")
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, res.Body)
		}
	}
	eventually(t, "they have given back what they sent", func() bool { return svc.Stats().BodyBytesInFlight == 0 })
	if s := svc.Stats(); s.Streams != 24 {
		t.Fatalf("%+v: their answers have been taken", s)
	}
	large := gray(1)
	large.ImageId = strings.Repeat("x", 60_000)
	for _, all := range []map[string]inferencev1connect.InferenceClient{clients(t, url), compressing(t, url)} {
		for protocol, client := range all {
			if _, err := client.Predict(t.Context(), large); err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
		}
	}
	cancel()
	for _, answer := range answers {
		_ = answer.Close()
	}
	idle(t, svc)
}

// TestNoUselessEviction checks that slow requests are not evicted if that would not
// make enough room.
func TestNoUselessEviction(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.detect}, func(c *service.Config) {
		c.Workers, c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes = 8, 30_000, 30_000, 250_000
	})
	var held, slow sync.WaitGroup
	for range 7 {
		large := gray(1)
		large.Width, large.Height, large.RawData = 300, 100, make([]byte, 30_000)
		held.Go(func() {
			if _, err := clients(t, url)["grpc"].Predict(t.Context(), large); err != nil {
				t.Error(err)
			}
		})
		<-g.arrived
	}
	ctx, cancel := context.WithCancel(t.Context())
	for range 5 {
		slow.Go(func() {
			slowClient{path: "/predict", contentType: "image/jpeg", declares: 1000, sends: []byte("\xff\xd8")}.call(ctx, t, httpClient(t), url)
		})
	}
	eventually(t, "they are there", func() bool { return svc.Stats().RequestsInFlight == 12 })
	time.Sleep(1500 * time.Millisecond) // after this, they count as slow
	res, err := post(t, httpClient(t), url+"/predict", "image/jpeg", bytes.NewReader(make([]byte, 90_000)), 90_000)
	if err != nil {
		t.Fatal(err)
	}
	assertOverloaded(t, res, "image/jpeg")
	// An evicted request frees its place at once.
	if n := svc.Stats().RequestsInFlight; n < 12 {
		t.Errorf("%d requests are in flight of 12: slow callers who have two bytes had to go", n)
	}
	for range 7 {
		g.open <- struct{}{}
	}
	cancel()
	held.Wait()
	slow.Wait()
	idle(t, svc)
}
