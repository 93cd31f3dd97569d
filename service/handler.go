package service

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/felixge/httpsnoop"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	inference "github.com/mienproject/mien/gen/inference"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// Handler returns the path and the HTTP handler of the Inference service for all four
// protocols. It expects a Record in the context of requests.
func (s *Service) Handler() (path string, handler http.Handler) {
	return "/" + inferencev1connect.InferenceName + "/", s.serveRPCs(func(c *rpcs) http.Handler {
		_, h := inferencev1connect.NewInferenceHandler(c, c.options())
		return h
	})
}

// OldHandler returns a handler of Predict under its name in the system that Mien
// replaces, whose contract had no package.
func (s *Service) OldHandler() (path string, handler http.Handler) {
	return oldProcedure, s.serveRPCs(func(c *rpcs) http.Handler {
		return connect.NewUnaryHandlerSimple(oldProcedure, c.Predict, connect.WithIdempotency(connect.IdempotencyNoSideEffects), c.options())
	})
}

// rpcs are handlers of Connect that serve one request at a time. Connect hands its codecs
// and decompressors neither a context nor a header; those of an rpcs know the request that
// they work for, and so record what is wrong with its message. They are used again for
// other requests, since they take longer to make than to run.
type rpcs struct {
	*Service
	request *request
	handler http.Handler
}

// serveRPCs serves every request with one of the handlers that open returns, within the
// limits of its body. Connect passes an error of the body on to the client in its protocol,
// with its details.
func (s *Service) serveRPCs(open func(*rpcs) http.Handler) http.Handler {
	idle := sync.Pool{New: func() any {
		c := &rpcs{Service: s}
		c.handler = open(c)
		return c
	}}
	return Compat(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve := func(w http.ResponseWriter, r *http.Request, rq *request) {
			c := idle.Get().(*rpcs)
			c.request = rq
			c.handler.ServeHTTP(w, r)
			c.request = nil
			idle.Put(c) // not after a panic
		}
		p := procedureAt(r.URL.Path)
		if p == nil { // Connect answers that
			serve(w, r, nil)
			return
		}
		s.observed(p, func(w http.ResponseWriter, r *http.Request, rq *request) {
			rq.body = s.bounded(rq, w, r)
			defer rq.body.end()
			rq.body.connect(r)
			if err := rq.body.err; err != nil && rq.body.query { // the message in the URL
				rq.record.Procedure, rq.record.Protocol = p.path, connect.ProtocolConnect
				_ = s.errorWriter.Write(w, r, err) // the client may have disconnected
				return
			}
			r.Body = rq.body
			serve(w, r, rq)
			rq.body.linger()
		}).ServeHTTP(w, r)
	}))
}

// Predict implements inferencev1connect.InferenceHandler.
func (c *rpcs) Predict(ctx context.Context, req *inferencev1.Image) (*inferencev1.InferResults, error) {
	return c.infer(ctx, c.request, req, nil)
}

// PredictStream implements inferencev1connect.InferenceHandler.
func (c *rpcs) PredictStream(ctx context.Context, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
	return c.predictStream(ctx, c.request, stream)
}

// PredictBatch implements inferencev1connect.InferenceHandler.
func (c *rpcs) PredictBatch(ctx context.Context, req *inferencev1.PredictBatchRequest, stream *connect.ServerStream[inferencev1.InferResults]) error {
	return c.predictBatch(ctx, c.request, req, stream)
}

func (c *rpcs) options() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithRequestGate(c.gate),
		connect.WithInterceptors(errorInterceptor{c}),
		// This is inside of errorInterceptor, which converts the error.
		connect.WithRecover(func(_ context.Context, _ connect.Spec, _ http.Header, p any) error {
			return fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			p := procedureAt(spec.Procedure) // never nil: New has checked this
			limit := maxMessage(p.imageBytes(c.config))
			return []connect.HandlerOption{encodings(p.limits,
				func(codec messageCodec) connect.Codec { return recordingCodec{codec, c} },
				func() connect.Decompressor { return &decompressor{boundedGzip{limit: limit}, c} })}
		}),
	)
}

// Encodings returns the codecs and the compression of the RPCs, for handlers of other
// services. limit is the maximum number of bytes to which a message decompresses.
func Encodings(limit int64) connect.HandlerOption {
	return encodings(partLimits{},
		func(codec messageCodec) connect.Codec { return codec },
		func() connect.Decompressor { return &plainDecompressor{boundedGzip{limit: limit}} })
}

func encodings(limits partLimits, codec func(messageCodec) connect.Codec, decompressor func() connect.Decompressor) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(codec(protoCodec{limits})),
		connect.WithCodec(codec(jsonCodec{"json", limits})),
		connect.WithCodec(codec(jsonCodec{"json; charset=utf-8", limits})),
		connect.WithCompression("gzip", decompressor, func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
		// Most answers are small. Compression is worth it only for an image with many
		// faces.
		connect.WithCompressMinBytes(4<<10),
	)
}

// Recover prevents a panic in next from closing the connection. The client gets
// INTERNAL in its protocol, unless the answer has begun.
func (s *Service) Recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := false
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			// Handlers panic with this value to make net/http close the connection.
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares so
				panic(p)
			}
			record := RecordFrom(r.Context())
			record.fail(internal)
			s.config.Logger.LogAttrs(r.Context(), slog.LevelError, "panic",
				slog.String("request_id", record.ID),
				slog.Any("panic", p),
				slog.String("stack", string(debug.Stack())))
			if began {
				panic(http.ErrAbortHandler)
			}
			_ = s.errorWriter.Write(w, r, internal.connectError(nil, record.ID)) // the client may have disconnected
		}()
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) { began = true; f(code) }
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(p []byte) (int, error) { began = true; return f(p) }
			},
		}), r)
	})
}

// gate runs when the headers have been received, before the message is read.
func (c *rpcs) gate(ctx context.Context, spec connect.Spec, peer connect.Peer, _ http.Header) (context.Context, error) {
	rq := c.request
	rq.record.Procedure, rq.record.Protocol = spec.Procedure, peer.Protocol
	if rq.procedure.kind == noImages {
		return ctx, nil
	}
	rq.body.ctx = ctx // its deadline also limits the time for reading
	if err := rq.body.admit(); err != nil {
		return ctx, c.connectError(ctx, rq.record, err)
	}
	rq.admitted = true
	return ctx, nil
}

// errorInterceptor limits the time of unary requests, and converts the errors of all
// requests.
type errorInterceptor struct{ *rpcs }

// WrapUnary implements connect.Interceptor.
func (s errorInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		record := s.request.record
		record.Handled = true
		ctx, cancel := context.WithTimeout(ctx, s.limit(ctx))
		defer cancel()

		ignored := s.ignored(ctx, record, req.Any())
		res, err := next(ctx, req)
		if err != nil {
			converted := s.connectError(ctx, record, err)
			if ignored != "" {
				converted.Meta().Set(IgnoredFieldsHeader, ignored)
			}
			return nil, converted
		}
		if ignored != "" {
			res.Header().Set(IgnoredFieldsHeader, ignored)
		}
		return res, nil
	}
}

// ignored returns the list of fields of message that were ignored, and logs it.
func (s *Service) ignored(ctx context.Context, record *Record, message any) string {
	ignored := takeIgnored(message)
	if req, ok := message.(*inference.ModelInferRequest); ok {
		ignored = joinIgnored(ignored, ignoredByInfer(req))
	}
	s.logIgnored(ctx, record, ignored)
	return ignored
}

func (s *Service) logIgnored(ctx context.Context, record *Record, ignored string) {
	if ignored != "" {
		s.config.Logger.LogAttrs(ctx, slog.LevelDebug, "unknown fields are ignored",
			slog.String("request_id", record.ID),
			slog.String("procedure", record.Procedure),
			slog.String("fields", ignored))
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (s errorInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		record := s.request.record
		if err := next(ctx, receiver{conn, func(message any) { s.ignored(ctx, record, message) }}); err != nil {
			return s.connectError(ctx, record, err)
		}
		return nil
	}
}

// receiver calls received for each received message.
type receiver struct {
	connect.StreamingHandlerConn
	received func(message any)
}

// Receive implements connect.StreamingHandlerConn.
func (r receiver) Receive(message any) error {
	err := r.StreamingHandlerConn.Receive(message)
	if err == nil {
		r.received(message)
	}
	return err
}

// WrapStreamingClient implements connect.Interceptor.
func (s errorInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// limit returns the maximum time for an image. It depends on whether ctx has a
// deadline, which comes from the client.
func (s *Service) limit(ctx context.Context) time.Duration {
	if _, ok := ctx.Deadline(); ok {
		return s.config.Timeout
	}
	return s.config.DefaultTimeout
}

// connectError converts err for the client, records it, and logs it if it is internal.
// It returns errors of Connect, such as for an invalid message, and errors that were
// converted before, unchanged.
func (s *Service) connectError(ctx context.Context, record *Record, err error) *connect.Error {
	if converted := new(connect.Error); errors.As(err, &converted) {
		if record.Code == 0 {
			record.recordConnect(converted)
		}
		return converted
	}
	o := classify(err)
	record.fail(o)
	if o == internal {
		s.config.Logger.LogAttrs(ctx, slog.LevelError, "internal error",
			slog.String("request_id", record.ID),
			slog.String("procedure", record.Procedure),
			slog.String("error", err.Error()))
	}
	return o.connectError(err, record.ID)
}

// boundedGzip is a gzip reader that fails after limit bytes, so that a decompression
// bomb costs no more than an allowed message. Connect itself would read the bomb to its
// end to know its size. Its errors wrap errTooManyBytes or errGzip.
type boundedGzip struct {
	gzip.Reader
	source      io.Reader // whose header is still to be read, or nil
	limit, left int64
}

// Reset implements connect.Decompressor.
func (z *boundedGzip) Reset(r io.Reader) error {
	z.source, z.left = r, z.limit
	return nil
}

// Close implements connect.Decompressor. There is nothing to free.
func (*boundedGzip) Close() error { return nil }

func (z *boundedGzip) Read(p []byte) (int, error) {
	n, err := z.read(p)
	if z.left -= int64(n); z.left < 0 {
		return 0, fmt.Errorf("%w: the request decompresses to more than %d bytes", errTooManyBytes, z.limit)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %v", errGzip, err) //nolint:errorlint // its text only
	}
	return n, err
}

func (z *boundedGzip) read(p []byte) (int, error) {
	if r := z.source; r != nil {
		z.source = nil
		if err := z.Reader.Reset(r); err != nil {
			return 0, err
		}
	}
	return z.Reader.Read(p)
}

// decompressor is a boundedGzip that records how the message of a request fails.
type decompressor struct {
	boundedGzip
	rpcs *rpcs
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.boundedGzip.Read(p)
	rq := d.rpcs.request
	switch {
	case errors.Is(err, errTooManyBytes):
		return 0, d.rpcs.connectError(rq.body.ctx, rq.record, err)
	case errors.Is(err, errGzip):
		rq.unreadable()
	}
	return n, err
}

// plainDecompressor is a boundedGzip whose error for a bomb has the code that clients get.
type plainDecompressor struct{ boundedGzip }

func (d *plainDecompressor) Read(p []byte) (int, error) {
	n, err := d.boundedGzip.Read(p)
	if errors.Is(err, errTooManyBytes) {
		return 0, connect.NewError(classify(err).code, err)
	}
	return n, err
}

// messageCodec is what the codecs here implement: connect.Codec, and what spares Connect
// a copy.
type messageCodec interface {
	connect.Codec
	MarshalAppend(dst []byte, message any) ([]byte, error)
}

// recordingCodec records that the message of a request cannot be read.
type recordingCodec struct {
	messageCodec
	rpcs *rpcs
}

// Unmarshal implements connect.Codec.
func (c recordingCodec) Unmarshal(data []byte, message any) error {
	err := c.messageCodec.Unmarshal(data, message)
	if err != nil {
		c.rpcs.request.unreadable()
	}
	return err
}

// protobuf returns the message that Connect passes to a codec.
func protobuf(message any) (proto.Message, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	return m, nil
}

// protoCodec is like Connect's own codec, except that it stops reading a batch as soon
// as the batch has too many images, and that it rejects other messages with too many
// elements. Millions of empty images fit into a small message.
type protoCodec struct{ limits partLimits }

// Name implements connect.Codec.
func (protoCodec) Name() string { return "proto" }

// Marshal implements connect.Codec.
func (c protoCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend implements Connect's optional interface, which saves a copy.
func (protoCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, err := protobuf(message)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

// Unmarshal implements connect.Codec.
func (c protoCodec) Unmarshal(data []byte, message any) error {
	m, err := protobuf(message)
	if err != nil {
		return err
	}
	if c.limits.images > 0 {
		data = firstFields(data, c.limits.images+1)
	}
	if limit := c.limits.elements; limit > 0 && takeElements(data, m.ProtoReflect().Descriptor(), limit) < 0 {
		return errTooManyElements(limit)
	}
	return proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}

// firstFields returns the first n fields of a message. If the message is malformed
// before that, it returns all of it, and Unmarshal reports the error.
func firstFields(data []byte, n int) []byte {
	at := 0
	for range n {
		_, _, size := protowire.ConsumeField(data[at:])
		if size < 0 || at+size == len(data) {
			return data
		}
		at += size
	}
	return data[:at]
}

func errTooManyElements(limit int) error {
	return fmt.Errorf("the message has more than %d fields and elements", limit)
}

// takeElements returns what is left of limit after the fields of a message and of the
// messages in it. Each byte of a packed field counts, because it may be an element. If the
// message is malformed, Unmarshal reports the error.
func takeElements(data []byte, message protoreflect.MessageDescriptor, limit int) int {
	for len(data) > 0 && limit >= 0 {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return limit
		}
		size := protowire.ConsumeFieldValue(number, kind, data[tag:])
		if size < 0 {
			return limit
		}
		limit--
		if field := message.Fields().ByNumber(number); kind == protowire.BytesType && field != nil {
			value, _ := protowire.ConsumeBytes(data[tag:])
			switch {
			case field.Message() != nil:
				limit = takeElements(value, field.Message(), limit)
			case field.Kind() != protoreflect.BytesKind && field.Kind() != protoreflect.StringKind:
				limit -= len(value)
			}
		}
		data = data[tag+size:]
	}
	return limit
}

// itemsInJSON counts the objects in arrays of the outermost object, which in a batch
// are its images. It stops above limit. The result is undefined for malformed JSON.
func itemsInJSON(data []byte, limit int) (n int) {
	depth := 0
	for i := 0; i < len(data) && n <= limit; i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth == 2 && data[i] == '{' {
				n++
			}
			depth++
		case '}', ']':
			depth--
		}
	}
	return n
}

// jsonCodec is like Connect's own codec for JSON, except that it writes fields with
// default values, because browsers expect "results": [] and "x": 0, and that it ignores
// unknown fields, so that newer clients can call older servers.
type jsonCodec struct {
	name   string
	limits partLimits
}

var (
	jsonMarshal   = protojson.MarshalOptions{EmitDefaultValues: true}
	jsonUnmarshal = protojson.UnmarshalOptions{DiscardUnknown: true}
)

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend implements Connect's optional interface, which saves a copy.
func (c jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, err := protobuf(message)
	if err != nil {
		return nil, err
	}
	return jsonMarshal.MarshalAppend(dst, m)
}

// Unmarshal implements connect.Codec.
func (c jsonCodec) Unmarshal(data []byte, message any) error {
	m, err := protobuf(message)
	if err != nil {
		return err
	}
	data, ignored := prepareJSON(data, jsonShapes[m.ProtoReflect().Descriptor().FullName()])
	if len(data) == 0 {
		return errors.New("an empty body is not a JSON object")
	}
	// If there are only a few more, the handler rejects the batch with a reason.
	if limit := 10 * c.limits.images; limit > 0 && itemsInJSON(data, limit) > limit {
		return fmt.Errorf("a batch has at most %d images", c.limits.images)
	}
	if limit := c.limits.elements; limit > 0 && commasInJSON(data, limit) > limit {
		return errTooManyElements(limit)
	}
	if err = jsonUnmarshal.Unmarshal(data, m); err == nil {
		keepIgnored(m, ignored)
		return nil
	}
	text := err.Error()
	if strings.Contains(text, `"data:`) {
		return errors.New("a field of bytes begins with data: — send only the base64 after the comma")
	}
	// The text quotes the invalid value, which may be a whole image. That is too much
	// for a log, and for the headers in which gRPC sends errors.
	const shown = 200
	if len(text) > shown {
		text = strings.ToValidUTF8(text[:shown], "") + "…"
	}
	return errors.New(text)
}
