package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// pipes is a network in memory, which time in a synctest bubble can wait for.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	last   atomic.Pointer[net.Conn]
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		p.last.Store(&there)
		return here, nil
	case <-p.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// script is a server that calls a function of the test.
type script struct {
	inferencev1connect.UnimplementedInferenceHandler
	// predict gets the number of the request, from 1 on.
	predict func(ctx context.Context, n int) error
	stream  func(ctx context.Context, n int, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error
	// cut closes the connection that was dialed last.
	cut func()
	mu  sync.Mutex
	n   int
}

func (s *script) Predict(ctx context.Context, _ *inferencev1.Image) (*inferencev1.InferResults, error) {
	if err := s.predict(ctx, s.next()); err != nil {
		return nil, err
	}
	return &inferencev1.InferResults{Model: "script"}, nil
}

func (s *script) PredictStream(ctx context.Context, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
	return s.stream(ctx, s.next(), stream)
}

func (s *script) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.n
}

func (s *script) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// scripted calls test for both protocols, with a client of a real HTTP server in a
// bubble, where time passes only while everything waits for it.
func scripted(t *testing.T, opts []client.Option, wrap func(http.Handler) http.Handler, test func(t *testing.T, c *client.Client, s *script)) {
	t.Helper()
	scriptedOver(t, 1, opts, wrap, test)
}

// scriptedOver is scripted, with Connect over that version of HTTP.
func scriptedOver(t *testing.T, version int, opts []client.Option, wrap func(http.Handler) http.Handler, test func(t *testing.T, c *client.Client, s *script)) {
	t.Helper()
	for name, grpc := range map[string]bool{"connect": false, "grpc": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{}
				mux := http.NewServeMux()
				mux.Handle(inferencev1connect.NewInferenceHandler(s))
				mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(inferencev1connect.InferenceName)))
				var handler http.Handler = mux
				if wrap != nil {
					handler = wrap(mux)
				}
				network := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				protocols := new(http.Protocols)
				s.cut = func() { (*network.last.Load()).Close() }
				transport := &http.Transport{Protocols: protocols, DialContext: network.dial}
				all := append([]client.Option{client.WithHTTPClient(&http.Client{Transport: transport})}, opts...)
				if grpc {
					all = append(all, client.WithGRPC())
				}
				protocols.SetUnencryptedHTTP2(grpc || version == 2)
				protocols.SetHTTP1(!grpc && version == 1)
				server := &http.Server{Handler: handler, Protocols: protocols}
				go server.Serve(network)
				c, err := client.New("http://server", all...)
				if err != nil {
					t.Fatal(err)
				}
				test(t, c, s)
				transport.CloseIdleConnections()
				server.Close()
				synctest.Wait()
			})
		})
	}
}

// unavailable is the error of an overloaded server.
func unavailable(retryAfter time.Duration) error {
	err := connect.NewError(connect.CodeUnavailable, errors.New("overloaded"))
	details := []proto.Message{&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "mien"}}
	if retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	for _, m := range details {
		if d, e := connect.NewErrorDetail(m); e == nil {
			err.AddDetail(d)
		}
	}
	return err
}

// TestRetryQuota checks that a call over the quota of its caller is sent again after the time
// that the server names, and that other errors of the same code are not.
func TestRetryQuota(t *testing.T) {
	failure := func(reason string) error {
		err := connect.NewError(connect.CodeResourceExhausted, errors.New("too much"))
		for _, m := range []proto.Message{&errdetails.ErrorInfo{Reason: reason, Domain: "mien"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)}} {
			if d, e := connect.NewErrorDetail(m); e == nil {
				err.AddDetail(d)
			}
		}
		return err
	}
	for reason, want := range map[string]int{client.ReasonQuota: 2, client.ReasonTooManyBytes: 1} {
		scripted(t, nil, nil, func(t *testing.T, c *client.Client, s *script) {
			s.predict = func(_ context.Context, n int) error {
				if n == 1 {
					return failure(reason)
				}
				return nil
			}
			started := time.Now()
			_, err := c.Predict(t.Context(), image1)
			if (err == nil) != (want == 2) || s.requests() != want {
				t.Errorf("%s: %v after %d requests", reason, err, s.requests())
			}
			if took := time.Since(started); want == 2 && took < 3*time.Second {
				t.Errorf("tried again after %v", took)
			}
		})
	}
}

var image1 = &inferencev1.Image{RawData: []byte{1}}

// TestRetry checks that a call is retried until it succeeds, and not before the server
// allows it.
func TestRetry(t *testing.T) {
	for failures := 1; failures <= 3; failures++ {
		for _, asked := range []time.Duration{0, time.Second} {
			scripted(t, nil, nil, func(t *testing.T, c *client.Client, s *script) {
				s.predict = func(_ context.Context, n int) error {
					if n <= failures {
						return unavailable(asked)
					}
					return nil
				}
				started := time.Now()
				res, err := c.Predict(t.Context(), image1)
				if err != nil || res.GetModel() != "script" || s.requests() != failures+1 {
					t.Errorf("%v, %v after %d requests", res, err, s.requests())
				}
				// Plus up to 100, 200 and 400 ms.
				least := time.Duration(failures) * asked
				if took := time.Since(started); took < least || took > least+700*time.Millisecond {
					t.Errorf("took %v, want %v or a little more", took, least)
				}
			})
		}
	}
}

// TestRetryEnds checks that retries end when the attempts or the time are used up, or a
// retry cannot help.
func TestRetryEnds(t *testing.T) {
	for _, c := range []struct {
		name     string
		opts     []client.Option
		err      error
		deadline time.Duration // of the call; 0 for none
		requests int
		reason   string
		most     time.Duration
	}{
		{"attempts", nil, unavailable(time.Second), 0, 4, "OVERLOADED", 4 * time.Second},
		{"fewer attempts", []client.Option{client.WithAttempts(2)}, unavailable(time.Second), 0, 2, "OVERLOADED", 2 * time.Second},
		{"one attempt", []client.Option{client.WithAttempts(1)}, unavailable(time.Second), 0, 1, "OVERLOADED", 0},
		{"deadline", nil, unavailable(time.Second), 900 * time.Millisecond, 1, "OVERLOADED", 0},
		{"default deadline", nil, unavailable(11 * time.Second), 0, 1, "OVERLOADED", 0},
		{"chosen deadline", []client.Option{client.WithTimeout(time.Second)}, unavailable(2 * time.Second), 0, 1, "OVERLOADED", 0},
		{"an hour", nil, unavailable(time.Hour), time.Minute, 1, "OVERLOADED", 0},
		{"refused", nil, connect.NewError(connect.CodeInvalidArgument, nil), 0, 1, "", 0},
		{"exhausted", nil, connect.NewError(connect.CodeResourceExhausted, nil), 0, 1, "", 0},
		{"a bug", nil, connect.NewError(connect.CodeInternal, nil), 0, 1, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripted(t, c.opts, nil, func(t *testing.T, client1 *client.Client, s *script) {
				s.predict = func(context.Context, int) error { return c.err }
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				started := time.Now()
				_, err := client1.Predict(ctx, image1)
				if connect.CodeOf(err) != connect.CodeOf(c.err) || client.Reason(err) != c.reason || s.requests() != c.requests {
					t.Errorf("%v after %d requests", err, s.requests())
				}
				if took := time.Since(started); took > c.most {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	scripted(t, nil, nil, func(t *testing.T, c *client.Client, s *script) {
		s.predict = func(context.Context, int) error { return unavailable(1500 * time.Millisecond) }
		_, err := c.Predict(t.Context(), image1)
		if e, ok := errors.AsType[*client.Error](err); !ok || e.RetryAfter != 1500*time.Millisecond {
			t.Errorf("%#v", err)
		}
	})
}

// TestBudget checks that a server which always fails gets hardly more than one request
// for each call, and that retries resume after successes.
func TestBudget(t *testing.T) {
	scripted(t, nil, nil, func(t *testing.T, c *client.Client, s *script) {
		failing := true
		s.predict = func(context.Context, int) error {
			if failing {
				return unavailable(0)
			}
			return nil
		}
		for range 20 {
			if _, err := c.Predict(t.Context(), image1); client.Reason(err) != client.ReasonOverloaded {
				t.Fatal(err)
			}
		}
		// Four attempts of the first call, and one of each other call.
		if s.requests() != 23 {
			t.Errorf("%d requests", s.requests())
		}
		failing = false
		for range 61 { // until there are 6.1 tokens
			if _, err := c.Predict(t.Context(), image1); err != nil {
				t.Fatal(err)
			}
		}
		failing = true
		before := s.requests()
		_, _ = c.Predict(t.Context(), image1)
		if n := s.requests() - before; n != 2 {
			t.Errorf("%d requests after recovery, want 2", n)
		}
	})
}

// TestConnectionLost checks that a call is retried however its connection was lost.
func TestConnectionLost(t *testing.T) {
	scripted(t, nil, nil, func(t *testing.T, c *client.Client, s *script) {
		s.predict = func(_ context.Context, n int) error {
			if n <= 2 {
				s.cut()
			}
			return nil
		}
		if _, err := c.Predict(t.Context(), image1); err != nil || s.requests() != 3 {
			t.Errorf("%v after %d requests", err, s.requests())
		}
	})
}

// TestHang checks that a call to a server which does not answer ends at its deadline.
func TestHang(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []client.Option
		want time.Duration
	}{
		{"default", nil, client.DefaultTimeout},
		{"chosen", []client.Option{client.WithTimeout(3 * time.Second)}, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripted(t, c.opts, nil, func(t *testing.T, client1 *client.Client, s *script) {
				s.predict = func(context.Context, int) error {
					time.Sleep(time.Minute)
					return nil
				}
				started := time.Now()
				_, err := client1.Predict(t.Context(), image1)
				if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				if took := time.Since(started); took.Round(10*time.Millisecond) != c.want {
					t.Errorf("took %v, want %v", took, c.want)
				}
				time.Sleep(time.Minute) // until the server's goroutine has ended too
			})
		})
	}
}

// TestDialTimeout checks that a host which drops packets counts as unreachable.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dials++
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}}
		c, err := client.New("http://server", client.WithHTTPClient(&http.Client{Transport: transport}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Predict(t.Context(), image1); connect.CodeOf(err) != connect.CodeUnavailable || dials != client.DefaultAttempts {
			t.Errorf("%v after %d attempts", err, dials)
		}
	})
}

// TestCancel checks that a canceled call does not wait for the next attempt.
func TestCancel(t *testing.T) {
	scripted(t, nil, nil, func(t *testing.T, c *client.Client, s *script) {
		s.predict = func(context.Context, int) error { return unavailable(5 * time.Second) }
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		started := time.Now()
		_, err := c.Predict(ctx, image1)
		if connect.CodeOf(err) != connect.CodeCanceled || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "OVERLOADED") {
			t.Errorf("%v", err)
		}
		if took := time.Since(started); took != time.Second || s.requests() != 1 {
			t.Errorf("took %v and %d requests", took, s.requests())
		}
	})
}

func TestWaitReady(t *testing.T) {
	// ready after so long, never if it is negative.
	after := func(wait time.Duration) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			started := time.Now()
			checker := grpchealth.NewStaticChecker()
			checker.SetStatus(inferencev1connect.InferenceName, grpchealth.StatusNotServing)
			_, notYet := grpchealth.NewHandler(checker)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if wait < 0 || time.Since(started) < wait {
					notYet.ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	}
	scripted(t, nil, after(3*time.Second), func(t *testing.T, c *client.Client, _ *script) {
		started := time.Now()
		err := c.WaitReady(t.Context())
		if took := time.Since(started); err != nil || took < 3*time.Second || took > 5*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
	scripted(t, nil, after(-1), func(t *testing.T, c *client.Client, _ *script) {
		started := time.Now()
		err := c.WaitReady(t.Context())
		if took := time.Since(started); took.Round(time.Millisecond) != client.DefaultReadyTimeout ||
			connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "starting or stopping") {
			t.Errorf("%v after %v", err, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		started = time.Now()
		if err := c.WaitReady(ctx); !errors.Is(err, context.Canceled) || time.Since(started) != time.Second {
			t.Errorf("%v after %v", err, time.Since(started))
		}
	})
	hang := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) })
	}
	scripted(t, nil, hang, func(t *testing.T, c *client.Client, _ *script) {
		started := time.Now()
		err := c.WaitReady(t.Context())
		if took := time.Since(started); took.Round(time.Millisecond) != client.DefaultReadyTimeout || connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%v after %v", err, took)
		}
		time.Sleep(2 * time.Minute)
	})
}
