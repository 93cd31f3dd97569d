package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// numbered returns n images whose ids are their numbers.
func numbered(n int) iter.Seq[*inferencev1.Image] {
	return func(yield func(*inferencev1.Image) bool) {
		for i := range n {
			if !yield(&inferencev1.Image{ImageId: strconv.Itoa(i)}) {
				return
			}
		}
	}
}

// TestStream checks that every image is answered in order, whatever the configuration
// of the client, and that an invalid image does not end the stream.
func TestStream(t *testing.T) {
	photo, err := os.ReadFile(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	secure := newServer()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	const many = 30
	for name, c := range map[string]*client.Client{
		"connect":       newClient(t, serverURL),
		"connect, TLS":  newClient(t, secure.URL, client.WithHTTPClient(secure.Client())),
		"grpc":          newClient(t, serverURL, client.WithGRPC()),
		"a short limit": newClient(t, serverURL, client.WithTimeout(time.Nanosecond)), // applies to unary calls, not to streams
	} {
		t.Run(name, func(t *testing.T) {
			images := func(yield func(*inferencev1.Image) bool) {
				for img := range numbered(many) {
					switch img.GetImageId() {
					case "0":
						img.RawData = photo
					case "7":
						img.RawData = photo[:1000]
					default: // a small image without a face
						img.RawData, img.Width, img.Height = make([]byte, 64*64), 64, 64
						img.PixelFormat = inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8
					}
					if !yield(img) {
						return
					}
				}
			}
			n := 0
			for answer, err := range c.PredictStream(t.Context(), images) {
				if answer.GetImageId() != strconv.Itoa(n) || answer.Index == nil || answer.GetIndex() != int32(n) {
					t.Fatalf("%v, %v instead of answer %d", answer, err, n)
				}
				if n == 7 {
					e, ok := errors.AsType[*client.Error](err)
					if !ok || e.Reason != client.ReasonCorruptImage || e.Code != connect.CodeInvalidArgument || e.RequestID != "request-1" || e.Message == "" {
						t.Errorf("%#v", err)
					}
				} else if err != nil || len(answer.GetResults()) != max(1-n, 0) {
					t.Errorf("%d: %v, %v", n, answer, err)
				}
				n++
			}
			if n != many {
				t.Errorf("%d answers", n)
			}
			for answer, err := range c.PredictStream(t.Context(), numbered(0)) {
				t.Errorf("of no images: %v, %v", answer, err)
			}
		})
	}
}

// TestStreamLeft checks that the consumer can leave the loop, and that few images are
// read that it does not need.
func TestStreamLeft(t *testing.T) {
	for name, c := range map[string]*client.Client{"connect": newClient(t, serverURL), "grpc": newClient(t, serverURL, client.WithGRPC())} {
		t.Run(name, func(t *testing.T) {
			read, seen := 0, 0
			ended := false
			images := func(yield func(*inferencev1.Image) bool) {
				defer func() { ended = true }()
				for read = 1; yield(&inferencev1.Image{RawData: make([]byte, 64<<10)}); read++ {
				}
			}
			for answer, err := range c.PredictStream(t.Context(), images) {
				if answer == nil || client.Reason(err) != client.ReasonUnsupportedFormat {
					t.Fatalf("%v, %v", answer, err)
				}
				if seen++; seen == 3 {
					break
				}
			}
			if !ended || read < seen || read > 1000 { // far less than 64 MB of them
				t.Errorf("%d images were read for %d answers, ended: %v", read, seen, ended)
			}
		})
	}
}

// TestStreamContinues checks that each image is answered once and in order, whatever
// the server does in the middle.
func TestStreamContinues(t *testing.T) {
	const many = 20
	scriptedOver(t, 2, nil, nil, func(t *testing.T, c *client.Client, s *script) {
		s.stream = func(_ context.Context, n int, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
			if n == 1 {
				return unavailable(time.Second)
			}
			for i := 0; ; i++ {
				img, err := stream.Receive()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				answer := &inferencev1.InferResults{ImageId: img.GetImageId()}
				if i == 3 {
					switch n {
					case 2: // like a server that drains
						answer.Error = &inferencev1.ItemError{Code: int32(connect.CodeUnavailable), Reason: "DRAINING"}
					case 3:
						return unavailable(0)
					case 4:
						s.cut()
						return nil
					}
				}
				index := int32(i)
				answer.Index = &index
				if err := stream.Send(answer); err != nil {
					return err
				}
			}
		}
		n := 0
		for answer, err := range c.PredictStream(t.Context(), numbered(many)) {
			if err != nil || answer.GetImageId() != strconv.Itoa(n) || answer.GetIndex() != int32(n) {
				t.Fatalf("%v, %v instead of answer %d", answer, err, n)
			}
			n++
		}
		if n != many || s.requests() != 5 {
			t.Errorf("%d answers of %d requests", n, s.requests())
		}
	})
}

// TestStreamEnds checks that a failing stream ends with the reason, after the maximum
// number of attempts.
func TestStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		requests int
		reason   string
	}{
		"overloaded": {unavailable(time.Second), client.DefaultAttempts, client.ReasonOverloaded},
		"refused":    {connect.NewError(connect.CodeResourceExhausted, nil), 1, ""},
		"too early":  {nil, client.DefaultAttempts, ""},
	} {
		t.Run(name, func(t *testing.T) {
			scriptedOver(t, 2, nil, nil, func(t *testing.T, client1 *client.Client, s *script) {
				s.stream = func(_ context.Context, _ int, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
					if _, err := stream.Receive(); err != nil {
						return err
					}
					return c.err
				}
				want := connect.CodeUnavailable
				if c.err != nil {
					want = connect.CodeOf(c.err)
				}
				n := 0
				for answer, err := range client1.PredictStream(t.Context(), numbered(3)) {
					if n++; answer != nil || connect.CodeOf(err) != want || client.Reason(err) != c.reason {
						t.Errorf("%v, %v", answer, err)
					}
				}
				if n != 1 || s.requests() != c.requests {
					t.Errorf("%d answers, %d requests", n, s.requests())
				}
			})
		})
	}
}

// TestStreamCanceled checks that a canceled stream ends even if the server is silent.
func TestStreamCanceled(t *testing.T) {
	scriptedOver(t, 2, nil, nil, func(t *testing.T, c *client.Client, s *script) {
		s.stream = func(ctx context.Context, _ int, _ *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
			<-ctx.Done()
			return ctx.Err()
		}
		for code, end := range map[connect.Code]func(context.Context) (context.Context, context.CancelFunc){
			connect.CodeCanceled: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Hour, cancel)
				return ctx, cancel
			},
			connect.CodeDeadlineExceeded: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Hour)
			},
		} {
			ctx, cancel := end(t.Context())
			started, got := time.Now(), ""
			for answer, err := range c.PredictStream(ctx, numbered(3)) {
				got += fmt.Sprint(answer, connect.CodeOf(err))
			}
			if took := time.Since(started); got != "<nil> "+code.String() || took.Round(time.Second) != time.Hour {
				t.Errorf("%s after %v", got, took)
			}
			cancel()
		}
	})
}
