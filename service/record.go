package service

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/felixge/httpsnoop"

	"github.com/mienproject/mien/admission"
	"github.com/mienproject/mien/reason"
)

// Record is what one request was and how it went, for the access log, for metrics and
// traces. The code that serves the request puts one into its context (WithRecord) and
// reads it when the handler has returned; the service fills it in and reads nothing but its ID. It
// is not safe for concurrent use.
//
// Each image of a stream, a batch or a unary request with several images has a Record of its
// own, which Config.Observe gets, with the ID, Procedure and Protocol of the request's. That
// of the request then counts the images and says how the request ended; its Model, sizes and
// times are zero.
type Record struct {
	// ID is the request id, set by the code that serves the request.
	ID string
	// Identity is the name of the authenticated caller, set by the code that serves the
	// request; empty if there is none.
	Identity string
	// Procedure and Protocol are those of the request, such as
	// "/inference.v1.Inference/Predict" and "grpc"; empty if it was for no procedure.
	Procedure, Protocol string
	// Handled is true if the message could be read and its handler was called. If it is
	// false and there is no Reason, Connect itself has refused the request.
	Handled bool
	// Code and Reason say how the request failed; 0 and empty if it did not. A refusal by
	// Connect itself has a Code alone.
	Code   connect.Code
	Reason string
	// Model is the one that was asked.
	Model string
	// AnyOrientation is true if the image was also searched in its quarter turns.
	AnyOrientation bool
	// Bytes is the size of the image as it came. Width and Height are those of the upright
	// image in pixels, 0 if it did not get so far.
	Bytes, Width, Height int
	// Pixels is how many pixels were decoded and searched: 0 if it did not get so far, and
	// fewer than Width times Height if the model needs no more.
	Pixels int64
	// Faces is how many were returned. Truncated is true if others may be missing, because
	// the model limits its time and memory.
	Faces     int
	Truncated bool
	// Arrived is when the image had been read; zero if it never was.
	Arrived time.Time
	// Queue, Decode and Detect are where the time went from Arrived on, one after the
	// other.
	Queue, Decode, Detect time.Duration
	// Images is how many images a request of several has had, and Failures how many of
	// them failed.
	Images, Failures int
}

type recordKey struct{}

// WithRecord returns a context that carries record.
func WithRecord(ctx context.Context, record *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, record)
}

// RecordFrom returns the record that ctx carries, or one that nobody reads.
func RecordFrom(ctx context.Context) *Record {
	if record, ok := ctx.Value(recordKey{}).(*Record); ok {
		return record
	}
	return &Record{}
}

// fail records how the request failed.
func (r *Record) fail(o outcome) { r.Code, r.Reason = o.code, o.reason }

// A request is the state of one request, or of one image of a stream or batch, while the
// service works on it.
type request struct {
	procedure *procedure
	record    *Record
	// body is nil for an image of a stream or batch, and if there is no HTTP request.
	body *body
	// stream is nil for a single call. An image of a stream or batch waits where a single
	// call is refused.
	stream *admission.Stream
	// admitted is true if the request was admitted, so that draining does not refuse it.
	admitted bool
	// itemized is true if the images of a unary request were observed one by one.
	itemized bool
}

// unreadable records that the message could not be read, as Connect tells the client.
func (rq *request) unreadable() {
	if rq.record.Code == 0 {
		rq.record.Code = connect.CodeInvalidArgument
	}
}

// image returns the request of one image of a stream or batch.
func (rq *request) image(stream *admission.Stream, admitted bool) *request {
	return &request{
		procedure: rq.procedure,
		record:    &Record{ID: rq.record.ID, Procedure: rq.record.Procedure, Protocol: rq.record.Protocol, Handled: true},
		stream:    stream,
		admitted:  admitted,
	}
}

// A handler answers the request rq.
type handler func(w http.ResponseWriter, r *http.Request, rq *request)

// observed serves a request of that procedure with next, and then hands its record to
// Config.Observe, unless that has had the records of its images.
func (s *Service) observed(p *procedure, next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rq := &request{procedure: p, record: RecordFrom(r.Context())}
		status := http.StatusOK
		defer func() {
			p := recover()
			if p != nil && rq.record.Code == 0 { // Recover answers later
				rq.record.fail(internal)
			}
			rq.recordRefusal(w.Header(), status)
			if rq.isObserved() {
				s.observe(r.Context(), rq.record)
			}
			if p != nil {
				panic(p)
			}
		}()
		next(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(code int) {
					status = code
					s.beforeAnswer(w, r, rq)
					f(code)
				}
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (int, error) {
					s.beforeAnswer(w, r, rq)
					return f(b)
				}
			},
			Flush: func(f httpsnoop.FlushFunc) httpsnoop.FlushFunc {
				return func() {
					s.beforeAnswer(w, r, rq)
					f()
				}
			},
		}), r, rq)
		s.beforeAnswer(w, r, rq) // without a body
	})
}

// beforeAnswer calls Config.Overloaded for a request that was refused so.
func (s *Service) beforeAnswer(w http.ResponseWriter, r *http.Request, rq *request) {
	// Streams and batches write their record while they send answers.
	if s.config.Overloaded != nil && !rq.procedure.kind.many() && rq.record.Reason == reason.Overloaded {
		s.config.Overloaded(w.Header(), r)
	}
}

// isObserved reports whether the record of the request is one for Config.Observe. The
// images of streams and batches, and several images of a unary request, are observed one by
// one, unless the request did not get to them.
func (rq *request) isObserved() bool {
	if rq.record.Procedure == "" { // it was not a call that Connect knows
		return false
	}
	k := rq.procedure.kind
	return (k.unary() && !rq.itemized) || (k.many() && !rq.record.Handled)
}

// recordRefusal records that Connect itself has refused a request before anything here saw
// its message: the envelope was broken, or there were several messages or none. Connect
// reports that nowhere but in the answer: the status of gRPC, or that of HTTP.
func (rq *request) recordRefusal(header http.Header, status int) {
	record := rq.record
	if record.Procedure == "" || record.Handled || record.Code != 0 {
		return
	}
	// As a header, or as a trailer that was not announced.
	for _, key := range []string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		if n, err := strconv.ParseUint(header.Get(key), 10, 32); err == nil {
			record.Code = refusalCode(connect.Code(n))
			return
		}
	}
	switch status {
	case http.StatusBadRequest, http.StatusInternalServerError:
		record.Code = connect.CodeInvalidArgument // see refusalCode
	case http.StatusNotImplemented:
		record.Code = connect.CodeUnimplemented
	default:
		record.Code = connect.CodeUnknown
	}
}

// refusalCode returns the code to record for a refusal by Connect itself. Connect answers some
// broken envelopes, such as those with unknown flags, with INTERNAL. They are mistakes of the
// client: operators are alerted to INTERNAL, which means a bug here.
func refusalCode(code connect.Code) connect.Code {
	if code == connect.CodeInternal {
		return connect.CodeInvalidArgument
	}
	return code
}

// recordConnect records an error of Connect, or one that was converted before.
func (r *Record) recordConnect(err *connect.Error) {
	r.Code, r.Reason = err.Code(), reasonOf(err)
	if r.Reason == "" {
		r.Code = refusalCode(r.Code)
	}
}

func (s *Service) observe(ctx context.Context, record *Record) {
	s.statistics.add(record, time.Now())
	if s.config.Observe != nil {
		s.config.Observe(ctx, record)
	}
}
