package service

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/felixge/httpsnoop"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// Handler returns the path and the HTTP handler of the Inference service in its
// four protocols. It expects a Call in the request's context.
func (s *Service) Handler() (path string, handler http.Handler) {
	path, handler = inferencev1connect.NewInferenceHandler(s, s.handlerOptions())
	return path, s.boundBody(handler)
}

// OldHandler returns the same Predict under the name that it had in the system
// which Mien replaces, whose contract had no package.
func (s *Service) OldHandler() (path string, handler http.Handler) {
	path = "/Inference/Predict"
	return path, s.boundBody(connect.NewUnaryHandlerSimple(path, s.Predict,
		connect.WithIdempotency(connect.IdempotencyNoSideEffects), s.handlerOptions()))
}

func (s *Service) handlerOptions() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithRequestGate(s.gate),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(s.edge)),
		// Inside the edge, which then tells the caller.
		connect.WithRecover(func(_ context.Context, _ connect.Spec, _ http.Header, p any) error {
			return fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		connect.WithCompression("gzip",
			func() connect.Decompressor { return &boundedGzip{limit: s.maxBody()} },
			func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
		// Answers are small: an image full of faces is worth compressing, one
		// face is not.
		connect.WithCompressMinBytes(4<<10),
	)
}

// Recover keeps a panic of any handler behind it from ending the connection: the
// caller gets INTERNAL, in its protocol, unless its answer has begun.
func (s *Service) Recover(next http.Handler) http.Handler {
	errorWriter := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := false
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			// How a handler asks net/http to cut the connection.
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares so
				panic(p)
			}
			call := CallFrom(r.Context())
			told, _ := tell(call, fmt.Errorf("panic: %v", p))
			s.config.Logger.LogAttrs(r.Context(), slog.LevelError, "panic",
				slog.String("request_id", call.ID),
				slog.Any("panic", p),
				slog.String("stack", string(debug.Stack())))
			if begun {
				panic(http.ErrAbortHandler)
			}
			_ = errorWriter.Write(w, r, told) // the caller may have left
		}()
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) { begun = true; f(code) }
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(p []byte) (int, error) { begun = true; return f(p) }
			},
		}), r)
	})
}

// gate runs when the headers are there, before the message is read.
func (s *Service) gate(ctx context.Context, spec connect.Spec, peer connect.Peer, _ http.Header) (context.Context, error) {
	call := CallFrom(ctx)
	call.Procedure, call.Protocol = spec.Procedure, peer.Protocol
	// A body that does not come must not keep a caller past its deadline. The
	// second more leaves the deadline itself to whoever looks at ctx.
	if deadline, ok := ctx.Deadline(); ok && call.setReadDeadline != nil && time.Until(deadline) < s.config.Timeout {
		_ = call.setReadDeadline(deadline.Add(time.Second)) // not every writer can; then the server's own time holds
	}
	if spec.Procedure == inferencev1connect.InferenceListModelsProcedure {
		return ctx, nil
	}
	if err := s.admission.refuses(); err != nil {
		told, _ := tell(call, err)
		return ctx, told
	}
	return ctx, nil
}

// edge bounds a call's time, and tells the caller what went wrong.
func (s *Service) edge(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		call := CallFrom(ctx)
		call.Handled = true
		limit := s.config.DefaultTimeout
		if _, ok := ctx.Deadline(); ok {
			limit = s.config.Timeout
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()

		res, err := next(ctx, req)
		if err == nil {
			return res, nil
		}
		told, internal := tell(call, err)
		if internal {
			s.config.Logger.LogAttrs(ctx, slog.LevelError, "internal error",
				slog.String("request_id", call.ID),
				slog.String("procedure", req.Spec().Procedure),
				slog.String("error", err.Error()))
		}
		return nil, told
	}
}

// maxBody is the size of a message that holds the largest image in base64.
func (s *Service) maxBody() int64 { return s.config.MaxImageBytes/3*4 + 64<<10 }

// boundBody stops reading a request's body at the limit. Connect passes the
// error on to the caller in its protocol, with its details.
func (s *Service) boundBody(next http.Handler) http.Handler {
	return s.observed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = s.bounded(w, r)
		next.ServeHTTP(w, r)
	}))
}

// bounded returns the request's body, which ends in an error at the limit.
func (s *Service) bounded(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	call := CallFrom(r.Context())
	body := &boundedBody{ReadCloser: r.Body, left: s.maxBody()}
	call.setReadDeadline = http.NewResponseController(w).SetReadDeadline
	body.over = func() error {
		told, _ := tell(call, fmt.Errorf("%w: the request is larger than %d bytes, which hold an image of %d bytes in base64",
			errTooManyBytes, s.maxBody(), s.config.MaxImageBytes))
		return told
	}
	body.late = func() error {
		told, _ := tell(call, context.DeadlineExceeded)
		return told
	}
	// Said to be too large: nothing has to be read to refuse it.
	if r.ContentLength > body.left {
		body.err = body.over()
	}
	return body
}

// boundedBody fails for good once more than left bytes were read, and when the
// connection's time for reading is over.
type boundedBody struct {
	io.ReadCloser
	left       int64
	over, late func() error
	err        error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than allowed tells a body that is too large from one that
	// just fits.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) <= b.left {
		b.left -= int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			b.err = b.late()
			return n, b.err
		}
		return n, err
	}
	n, b.left = int(b.left), 0
	b.err = b.over()
	return n, b.err
}

// boundedGzip is a gzip reader that fails once it has produced more than limit
// bytes, so that a bomb costs no more than an honest message. Connect itself
// would read it to its end to tell its size.
type boundedGzip struct {
	gzip.Reader
	limit, left int64
}

// Reset implements connect.Decompressor.
func (z *boundedGzip) Reset(r io.Reader) error {
	z.left = z.limit
	return z.Reader.Reset(r)
}

func (z *boundedGzip) Read(p []byte) (int, error) {
	n, err := z.Reader.Read(p)
	if z.left -= int64(n); z.left >= 0 {
		return n, err
	}
	told, _ := tell(&Call{}, fmt.Errorf("%w: the request decompresses to more than %d bytes", errTooManyBytes, z.limit))
	return 0, told
}

// jsonCodec is Connect's JSON, with fields at their default values spelt out:
// a browser expects "results": [] and "x": 0. Fields that it does not know are
// ignored, so that newer clients can talk to older servers.
type jsonCodec struct{ name string }

var (
	jsonMarshal   = protojson.MarshalOptions{EmitDefaultValues: true}
	jsonUnmarshal = protojson.UnmarshalOptions{DiscardUnknown: true}
)

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend spares Connect a copy.
func (c jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", message)
	}
	return jsonMarshal.MarshalAppend(dst, m)
}

// Unmarshal implements connect.Codec.
func (c jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}
	if len(data) == 0 {
		return errors.New("an empty body is no JSON object")
	}
	err := jsonUnmarshal.Unmarshal(data, m)
	if err == nil {
		return nil
	}
	text := err.Error()
	if strings.Contains(text, `"data:`) {
		return errors.New("a field of bytes begins with data: — send the base64 that follows the comma, without the prefix")
	}
	// It quotes the value that it cannot read, and that may be a whole picture:
	// too much for a log, and for the headers in which gRPC carries errors.
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return errors.New(text)
}
