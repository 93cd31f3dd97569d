package service

import (
	"bytes"
	"context"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/felixge/httpsnoop"
)

// Call is what one call was and did, for the access log and for Config.Observe.
// Whoever serves the request puts one into its context and reads it when the
// handler has returned; the service fills it. It is not safe for concurrent use.
//
// Each image of a stream or batch has a Call of its own, which Config.Observe
// gets, with the ID, Procedure and Protocol of the request's. The request's then
// counts them and tells how the stream ended; its Model, sizes and times are
// zero.
type Call struct {
	// ID is the request id: set by whoever serves the request.
	ID string
	// Procedure and Protocol are those of the call, such as
	// "/inference.v1.Inference/Predict" and "grpc"; empty when it was none.
	Procedure, Protocol string
	// Handled tells that the message could be read and its handler was called.
	// Without it, and without a Reason, Connect itself has refused the call.
	Handled bool
	// Code and Reason tell how it failed; 0 and empty when it did not. A refusal
	// by Connect itself has a Code alone.
	Code   connect.Code
	Reason string
	// Model is the one that was asked.
	Model string
	// Bytes is the size of the image as it came; Width and Height are those of
	// the upright image in pixels, 0 when it did not get so far.
	Bytes, Width, Height int
	// Pixels is how many pixels were decoded and looked at: 0 when it did not get
	// so far, and fewer than Width times Height when the model needs no more.
	Pixels int64
	// Faces is how many were returned.
	Faces int
	// Arrived is when the image had been read; zero when it never was.
	Arrived time.Time
	// Queue, Decode and Detect are where the time went from Arrived on, one after
	// the other.
	Queue, Decode, Detect time.Duration
	// Images is how many images a stream or batch has had, and Failures how many
	// of them were answered with an error.
	Images, Failures int

	// body is the request's; nil when there is no request.
	body *body
	// streamed tells an image of a stream or batch, which waits where single calls
	// are refused; admitted one that was taken on, so that a drain waits for it.
	streamed, admitted bool
}

type callKey struct{}

// WithCall returns a context that carries call.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// CallFrom returns the call that ctx carries, or one that nobody reads.
func CallFrom(ctx context.Context) *Call {
	if call, ok := ctx.Value(callKey{}).(*Call); ok {
		return call
	}
	return &Call{}
}

// observed tells Config.Observe of each call that next has answered, but for
// streams and batches that got to their images.
func (s *Service) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call, ok := r.Context().Value(callKey{}).(*Call)
		if !ok {
			call = &Call{}
			r = r.WithContext(WithCall(r.Context(), call))
		}
		var start []byte // of the answer
		defer func() {
			p := recover()
			if p != nil && call.Code == 0 { // Recover has yet to tell it
				call.fail(internal)
			}
			if call.Procedure != "" && !call.Handled && call.Code == 0 {
				if call.Code = refusal(w.Header(), start); call.Code == connect.CodeResourceExhausted {
					call.Reason = reasonTooManyBytes // by boundedGzip, which knows no call
				}
			}
			if isAboutImage(call) {
				s.observe(r.Context(), call)
			}
			if p != nil {
				panic(p)
			}
		}()
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(p []byte) (int, error) {
					if start == nil {
						start = bytes.Clone(p[:min(len(p), 64)])
					}
					return f(p)
				}
			},
		}), r)
	})
}

// isAboutImage reports whether call is one for Config.Observe. The images of streams and
// batches are observed one by one, unless the request did not get to them.
func isAboutImage(call *Call) bool {
	k := kindAt(call.Procedure)
	return k == oneImage || (k.many() && !call.Handled)
}

func (s *Service) observe(ctx context.Context, call *Call) {
	if s.config.Observe != nil {
		s.config.Observe(ctx, call)
	}
}

// errorStart is how the JSON of Connect's errors begins.
var errorStart = regexp.MustCompile(`^\{"code":"([a-z_]+)"`)

// refusal reads, from the answer, the code with which Connect has refused a call
// whose message it could not read: it tells nobody else.
func refusal(header http.Header, start []byte) connect.Code {
	if m := errorStart.FindSubmatch(start); m != nil {
		var code connect.Code
		if code.UnmarshalText(m[1]) == nil {
			return code
		}
	}
	// As a header, or as a trailer that was not announced.
	for _, key := range []string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		if n, err := strconv.ParseUint(header.Get(key), 10, 32); err == nil {
			return connect.Code(n)
		}
	}
	return connect.CodeUnknown
}
