package service_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
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

// gray returns a small image. The detectors of the tests recognize it by the option n.
func gray(n int32) *inferencev1.Image {
	return &inferencev1.Image{
		RawData: make([]byte, 8*8), Width: 8, Height: 8, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
		ImageId: fmt.Sprint("image ", n), Options: &inferencev1.DetectOptions{MaxResults: n},
	}
}

// gate is a detector that blocks on each image until the test lets it continue.
type gate struct {
	arrived chan int // the MaxResults of images
	open    chan struct{}
	running atomic.Int32
	most    atomic.Int32
}

func newGate() *gate { return &gate{arrived: make(chan int, 1000), open: make(chan struct{})} }

func (g *gate) detect(ctx context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
	n := g.running.Add(1)
	defer g.running.Add(-1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	g.arrived <- opts.MaxResults
	select {
	case <-g.open:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// only is a detector that blocks on images with that MaxResults, and no others.
func (g *gate) only(n int) func(context.Context, image.Image, face.Options) ([]face.Face, error) {
	return func(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
		if opts.MaxResults != n {
			return nil, nil
		}
		return g.detect(ctx, img, opts)
	}
}

// TestStream checks that answers come in order, that several images are processed at
// the same time but no more than there are workers, and that failed images are answered
// with an error.
func TestStream(t *testing.T) {
	var running, most atomic.Int32
	var log strings.Builder
	d := stub{detect: func(_ context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if opts.MaxResults == 50 {
			panic("secret")
		}
		// Later images are faster, so that results are out of order before they are
		// sorted.
		time.Sleep(time.Duration(3-opts.MaxResults%3) * 2 * time.Millisecond)
		return make([]face.Face, opts.MaxResults%5), nil
	}}
	var seen calls
	svc, url := start(t, d, func(c *service.Config) {
		c.Workers, c.Observe, c.Logger = 3, seen.observe, logger(&log)
	})
	const n = 120
	for protocol, client := range clients(t, url) {
		t.Run(protocol, func(t *testing.T) {
			stream, err := client.PredictStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for i := range int32(n) {
					req := gray(i)
					if i%10 == 3 {
						req.RawData = req.GetRawData()[1:]
					}
					if err := stream.Send(req); err != nil {
						t.Error(err)
					}
				}
				if err := stream.CloseRequest(); err != nil {
					t.Error(err)
				}
			}()
			for i := range int32(n) {
				res, err := stream.Receive()
				if err != nil {
					t.Fatalf("image %d: %v", i, err)
				}
				if res.Index == nil || res.GetIndex() != i || res.GetImageId() != fmt.Sprint("image ", i) || res.GetMetaData().GetUuid() != "the-request" {
					t.Fatalf("image %d: %v", i, res)
				}
				switch e := res.GetError(); {
				case i%10 == 3:
					if e.GetCode() != int32(connect.CodeInvalidArgument) || e.GetReason() != "INVALID_PIXELS" || !strings.Contains(e.GetMessage(), "64") {
						t.Errorf("image %d: %v", i, res)
					}
				case i == 50:
					if e.GetCode() != int32(connect.CodeInternal) || e.GetReason() != "INTERNAL" || strings.Contains(e.GetMessage(), "secret") {
						t.Errorf("image %d: %v", i, res)
					}
				case e != nil || len(res.GetResults()) != int(i%5) || res.GetWidth() != 8 || res.GetModel() != "stub":
					t.Errorf("image %d: %v", i, res)
				}
			}
			if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the last: %v", err)
			}
			if err := stream.CloseResponse(); err != nil {
				t.Error(err)
			}
			failed := 0
			for _, c := range seen.take(t, n) {
				if c.ID != "the-request" || c.Procedure != inferencev1connect.InferencePredictStreamProcedure || c.Arrived.IsZero() {
					t.Errorf("%+v", c)
				}
				if c.Reason != "" {
					failed++
				}
			}
			if failed != n/10+1 {
				t.Errorf("%d failures were told, want %d", failed, n/10+1)
			}
		})
	}
	if m := most.Load(); m != 3 {
		t.Errorf("%d at work, want 3", m)
	}
	idle(t, svc)
}

// idle waits until nothing is reserved.
func idle(t *testing.T, svc *service.Service) {
	t.Helper()
	var s service.Stats
	defer func() {
		if t.Failed() {
			t.Logf("%+v", s)
		}
	}()
	eventually(t, "nothing is held", func() bool {
		s = svc.Stats()
		return s.Busy == 0 && s.Queued == 0 && s.Waiting == 0 && s.RequestsInFlight == 0 && s.Streams == 0 &&
			s.BodyBytesInFlight == 0 && s.DecodedBytesInFlight == 0
	})
}

// TestBatch checks that each answer is sent when it is ready, with the index of its
// image.
func TestBatch(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.only(0)}, func(c *service.Config) { c.Workers, c.MaxImageBytes, c.MaxBatchBytes = 2, 1<<20, 10_000 })
	all := clients(t, url)
	// Browsers may use HTTP/1.1.
	all["connect, HTTP/1.1"] = inferencev1connect.NewInferenceClient(httpClient(t), url)
	all["grpc-web, HTTP/1.1"] = inferencev1connect.NewInferenceClient(httpClient(t), url, connect.WithGRPCWeb())
	for protocol, client := range all {
		t.Run(protocol, func(t *testing.T) {
			req := &inferencev1.PredictBatchRequest{}
			for i := range int32(100) {
				req.Images = append(req.Images, gray(i))
			}
			req.Images[7].RawData = nil
			stream, err := client.PredictBatch(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			got := map[int32]bool{}
			for stream.Receive() {
				res := stream.Msg()
				if i := res.GetIndex(); res.Index == nil || got[i] || res.GetImageId() != fmt.Sprint("image ", i) ||
					(res.GetError() != nil) != (i == 7) || (i == 7 && res.GetError().GetReason() != "EMPTY_IMAGE") {
					t.Errorf("%v", res)
				}
				got[res.GetIndex()] = true
				if len(got) == 99 {
					g.open <- struct{}{} // for the first image, which all others overtook
				}
			}
			if err := stream.Err(); err != nil || len(got) != 100 {
				t.Errorf("%d answers, %v", len(got), err)
			}
			_ = stream.Close()

			for _, c := range []struct {
				images, bytes int
				reason        string
			}{{101, 1, "TOO_MANY_IMAGES"}, {2, 5001, "TOO_MANY_BYTES"}, {1, 100_000, "TOO_MANY_BYTES"}} {
				req := &inferencev1.PredictBatchRequest{}
				for range c.images {
					req.Images = append(req.Images, &inferencev1.Image{RawData: make([]byte, c.bytes)})
				}
				err := rejectedBatch(t, client, req)
				if _, reason, _ := reasonOf(t, err); reason != c.reason {
					t.Errorf("%d images of %d bytes: %v", c.images, c.bytes, err)
				}
			}
			stream, err = client.PredictBatch(t.Context(), &inferencev1.PredictBatchRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if stream.Receive() || stream.Err() != nil {
				t.Errorf("nothing: %v, %v", stream.Msg(), stream.Err())
			}
			_ = stream.Close()
		})
	}
	idle(t, svc)
}

// longID makes requests and answers large. The answers are not compressed, because the
// clients do not accept compression.
var (
	longID       = strings.Repeat("x", 100_000)
	uncompressed = connect.WithAcceptCompression("gzip", nil, nil)
)

// TestStreamFeelsBackpressure checks that the server reads only a few more images while
// the client does not read answers.
func TestStreamFeelsBackpressure(t *testing.T) {
	var worked atomic.Int32
	svc, url := start(t, stub{detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) {
		worked.Add(1)
		return nil, nil
	}}, func(c *service.Config) { c.Workers = 2 })
	for protocol, client := range clientsWith(t, url, uncompressed) {
		t.Run(protocol, func(t *testing.T) {
			worked.Store(0)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := client.PredictStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sent := make(chan int)
			go func() {
				defer close(sent)
				req := gray(1)
				req.ImageId = longID
				for i := 0; stream.Send(req) == nil; i++ {
					sent <- i
				}
			}()
			n := 0
		sending:
			for {
				select {
				case n = <-sent:
				case <-time.After(time.Second):
					break sending
				}
			}
			// They fill the client's window of 4 MB, and the server's.
			if w := worked.Load(); w > 100 || n > 200 {
				t.Errorf("%d sent and %d worked on without an answer being taken", n, w)
			}
			if s := svc.Stats(); s.BodyBytesInFlight > 10*100_000 {
				t.Errorf("%d bytes in flight", s.BodyBytesInFlight)
			}
			cancel()
			// Otherwise net/http's client, which waits for the server to read more of
			// the request, would not notice the cancellation.
			_ = stream.CloseResponse()
			for range sent {
			}
			idle(t, svc)
		})
	}
}

// TestStreamsWait checks that images of streams wait where unary requests are refused.
func TestStreamsWait(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.detect}, func(c *service.Config) { c.Workers, c.Queue = 1, 1 })
	client := clients(t, url)["grpc"]
	single := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := client.Predict(t.Context(), gray(1))
			single <- err
		}()
	}
	eventually(t, "the queue is full", func() bool { s := svc.Stats(); return s.Busy == 1 && s.Queued == 1 })
	if _, err := client.Predict(t.Context(), gray(1)); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a single call: %v", err)
	}
	stream, err := client.PredictStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int32(3) {
		if err := stream.Send(gray(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	// Two images wait, one more than there are workers.
	eventually(t, "the stream waits", func() bool { s := svc.Stats(); return s.Waiting == 2 && s.Streams == 1 && s.RequestsInFlight == 3 })
	for range 5 {
		g.open <- struct{}{}
	}
	for range 2 {
		if err := <-single; err != nil {
			t.Error(err)
		}
	}
	for i := range int32(3) {
		if res, err := stream.Receive(); err != nil || res.GetIndex() != i || res.GetError() != nil {
			t.Errorf("%v, %v", res, err)
		}
	}
	_ = stream.CloseResponse()
	idle(t, svc)
}

// TestStreamsAreFair checks that a unary request does not wait for all images of open
// streams: the queues alternate.
func TestStreamsAreFair(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.detect}, func(c *service.Config) { c.Workers, c.Queue = 1, 4 })
	client := clients(t, url)["grpc"]
	ctx, cancel := context.WithCancel(t.Context())
	var streams sync.WaitGroup
	for range 3 {
		stream, err := client.PredictStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		streams.Go(func() {
			for range 1000 {
				if stream.Send(gray(1)) != nil {
					return
				}
			}
		})
		streams.Go(func() {
			for {
				if _, err := stream.Receive(); err != nil {
					_ = stream.CloseResponse()
					return
				}
			}
		})
	}
	eventually(t, "the streams wait", func() bool { s := svc.Stats(); return s.Busy == 1 && s.Waiting == 5 })
	<-g.arrived
	single := make(chan error, 4)
	for i := range 4 {
		go func() {
			_, err := client.Predict(t.Context(), gray(2))
			single <- err
		}()
		eventually(t, "the calls wait", func() bool { return svc.Stats().Queued == i+1 })
	}
	var order []int
	for range 8 {
		eventually(t, "the streams wait", func() bool { return svc.Stats().Waiting >= 1 })
		g.open <- struct{}{}
		order = append(order, <-g.arrived)
	}
	singles := 0
	for i, n := range order {
		if n == 2 {
			singles++
		}
		// Every second request is unary, whichever was first.
		if singles < i/2 {
			t.Errorf("order %v: 2 is a single call", order)
			break
		}
	}
	go func() {
		for {
			select {
			case g.open <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	for range 4 {
		if err := <-single; err != nil {
			t.Error(err)
		}
	}
	cancel()
	streams.Wait()
	idle(t, svc)
}

// TestStreamsPayByPixels checks that a stream of large images gets no more work than one of
// small images that waits beside it.
func TestStreamsPayByPixels(t *testing.T) {
	g := newGate()
	svc, url := start(t, stub{detect: g.detect}, func(c *service.Config) { c.Workers = 1 })
	client := clients(t, url)["grpc"]
	ctx, cancel := context.WithCancel(t.Context())
	const small, large, times = 1, 2, 16
	big := gray(large)
	big.Width, big.RawData = 8*times, make([]byte, 8*8*times)
	var streams sync.WaitGroup
	for _, img := range []*inferencev1.Image{big, gray(small)} {
		stream, err := client.PredictStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		streams.Go(func() {
			for stream.Send(img) == nil {
			}
		})
		streams.Go(func() {
			for {
				if _, err := stream.Receive(); err != nil {
					_ = stream.CloseResponse()
					return
				}
			}
		})
	}
	<-g.arrived
	served := map[int]int{}
	for range 4 * (times + 1) {
		// One is in work, and both wait.
		eventually(t, "the streams wait", func() bool { s := svc.Stats(); return s.Busy == 1 && s.Waiting == 3 })
		g.open <- struct{}{}
		served[<-g.arrived]++
	}
	if n := served[large]; n < 3 || n > 5 {
		t.Errorf("%d large images beside %d small ones, of which one takes %d times as many pixels", n, served[small], times)
	}
	cancel()
	streams.Wait()
	idle(t, svc)
}

// TestDrainStreams checks that an image sent before draining is answered, that one sent
// later is answered with DRAINING, and that the stream then ends, whether or not the
// client closes it. All images of an admitted batch are answered.
func TestDrainStreams(t *testing.T) {
	for _, protocol := range []string{"connect", "grpc", "grpc-web", "json"} {
		for _, closes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, closes %v", protocol, closes), func(t *testing.T) {
				g := newGate()
				svc, url := start(t, stub{detect: g.detect}, func(c *service.Config) { c.Workers = 1 })
				client := clients(t, url)[protocol]
				stream, err := client.PredictStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.Send(gray(1)); err != nil {
					t.Fatal(err)
				}
				<-g.arrived
				batched := make(chan int)
				go func() {
					n := 0
					batch, err := client.PredictBatch(t.Context(), &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{gray(2), gray(2), gray(2)}})
					if err != nil {
						t.Error(err)
						close(batched)
						return
					}
					for batch.Receive() {
						if e := batch.Msg().GetError(); e != nil {
							t.Error(e)
						}
						n++
					}
					if err := batch.Err(); err != nil {
						t.Error(err)
					}
					_ = batch.Close()
					batched <- n
				}()
				eventually(t, "the batch waits", func() bool { return svc.Stats().Waiting == 2 })
				svc.Drain()
				if err := stream.Send(gray(1)); err != nil {
					t.Fatal(err)
				}
				if closes {
					if err := stream.CloseRequest(); err != nil {
						t.Fatal(err)
					}
				}
				close(g.open)
				if res, err := stream.Receive(); err != nil || res.GetError() != nil {
					t.Errorf("before the drain: %v, %v", res, err)
				}
				if res, err := stream.Receive(); err != nil || res.GetError().GetReason() != "DRAINING" || res.GetError().GetCode() != int32(connect.CodeUnavailable) {
					t.Errorf("after it: %v, %v", res, err)
				}
				_, err = stream.Receive()
				if closes && !errors.Is(err, io.EOF) {
					t.Errorf("the end: %v", err)
				}
				if !closes {
					if code, reason, retry := reasonOf(t, err); code != connect.CodeUnavailable || reason != "DRAINING" || retry <= 0 {
						t.Errorf("the end: %v", err)
					}
				}
				_ = stream.CloseRequest()
				_ = stream.CloseResponse()
				if n := <-batched; n != 3 {
					t.Errorf("%d images of the batch were answered, want 3", n)
				}
				idle(t, svc)
			})
		}
	}
}

// TestSilentStreams checks that a stream on which the client neither sends nor reads is
// ended, and that an active stream is not, however long it lasts.
func TestSilentStreams(t *testing.T) {
	for protocol := range clients(t, "") {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel() // the cases wait
			svc, url := start(t, stub{}, func(c *service.Config) { c.StreamIdle = 5 * time.Second })
			client := clientsWith(t, url, uncompressed)[protocol]
			sends, err := client.PredictStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := sends.Send(gray(1)); err != nil {
				t.Fatal(err)
			}
			if _, err := sends.Receive(); err != nil {
				t.Fatal(err)
			}
			_, err = sends.Receive()
			if _, reason, _ := reasonOf(t, err); reason != "DEADLINE" || !strings.Contains(err.Error(), "no image was received for 5s") {
				t.Errorf("who sends nothing more: %v", err)
			}
			_ = sends.CloseRequest()
			_ = sends.CloseResponse()

			takes, err := client.PredictStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			req := gray(1)
			req.ImageId = longID
			for takes.Send(req) == nil {
			} // until the server stops reading
			_ = takes.CloseResponse()
			idle(t, svc)
		})
	}
}

// TestStreamDeadlines checks that the server's deadline applies to each image, and the
// client's to the whole stream.
func TestStreamDeadlines(t *testing.T) {
	for protocol := range clients(t, "") {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel() // the cases wait
			svc, url := start(t, stub{detect: func(ctx context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
				if opts.MaxResults == 1 {
					<-ctx.Done()
				}
				return nil, ctx.Err()
			}}, func(c *service.Config) { c.Workers, c.DefaultTimeout, c.Timeout = 1, 3*time.Second, time.Minute })
			client := clients(t, url)[protocol]
			stream, err := client.PredictStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range int32(4) { // together they take longer than one image may
				if err := stream.Send(gray(i % 2)); err != nil {
					t.Fatal(err)
				}
				res, err := stream.Receive()
				if err != nil {
					t.Fatal(err)
				}
				want := ""
				if i%2 == 1 {
					want = "DEADLINE"
				}
				if res.GetError().GetReason() != want {
					t.Errorf("image %d: %v", i, res)
				}
			}
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			stream, err = client.PredictStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(gray(1)) // Receive returns the error
			res, err := stream.Receive()
			if err == nil && res.GetError().GetReason() == "DEADLINE" { // the answer for the image arrived first
				_, err = stream.Receive()
			}
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
				t.Errorf("%v, %v", res, err)
			}
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()
			idle(t, svc)
		})
	}
}

// TestStreamMessageTooLarge checks that a message which is too large ends the stream
// with an error. An image that is too large in a message that is not does not end it.
func TestStreamMessageTooLarge(t *testing.T) {
	svc, url := start(t, stub{}, func(c *service.Config) { c.MaxImageBytes = 10_000 })
	for protocol, client := range clients(t, url) {
		for _, compressed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, compressed %v", protocol, compressed), func(t *testing.T) {
				if compressed {
					client = compressing(t, url)[protocol]
				}
				stream, err := client.PredictStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range []struct {
					bytes  int
					reason string
				}{{10_001, "TOO_MANY_BYTES"}, {10, "UNSUPPORTED_FORMAT"}} {
					if err := stream.Send(&inferencev1.Image{RawData: slices.Repeat([]byte{' '}, c.bytes)}); err != nil {
						t.Fatal(err)
					}
					if res, err := stream.Receive(); err != nil || res.GetError().GetReason() != c.reason {
						t.Errorf("%d bytes: %v, %v", c.bytes, res, err)
					}
				}
				_ = stream.Send(&inferencev1.Image{RawData: make([]byte, 200_000)}) // it may be rejected before all of it is sent
				_, err = stream.Receive()
				if _, reason, _ := reasonOf(t, err); reason != "TOO_MANY_BYTES" {
					t.Errorf("a message over the limit: %v", err)
				}
				_ = stream.CloseRequest()
				_ = stream.CloseResponse()
				idle(t, svc)
			})
		}
	}
}

// rejectedBatch returns the error of a batch that gets no answers.
func rejectedBatch(t *testing.T, client inferencev1connect.InferenceClient, req *inferencev1.PredictBatchRequest) error {
	t.Helper()
	stream, err := client.PredictBatch(t.Context(), req)
	if err != nil {
		return err
	}
	for stream.Receive() {
		t.Errorf("%v", stream.Msg())
	}
	err = stream.Err()
	_ = stream.Close()
	return err
}

// A batch of very many empty images is rejected before it is decoded.
func TestBatchOfNothing(t *testing.T) {
	_, url := start(t, stub{}, nil)
	req := &inferencev1.PredictBatchRequest{Images: make([]*inferencev1.Image, 200_000)}
	for i := range req.GetImages() {
		req.Images[i] = &inferencev1.Image{}
	}
	for protocol, client := range clients(t, url) {
		t.Run(protocol, func(t *testing.T) {
			err := rejectedBatch(t, client, req)
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "at most 100") {
				t.Errorf("got %v", err)
			}
		})
	}
}
