package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/reason"
)

// A door is one request that comes by plain HTTP and has one answer. It translates: the
// request into what the RPCs would have, and the outcome into an answer. doorHandler does
// the rest as for the RPCs.
type door interface {
	// read reads the request, whose body is within its limits, and returns its images.
	read(r *http.Request) ([]*inferencev1.Image, error)
	// answer has the service infer the results, and answers with them.
	answer(ctx context.Context, images []*inferencev1.Image) error
	// fail answers with an error of the service, of read or of answer.
	fail(ctx context.Context, err error)
}

// doorHandler returns the handler of the procedure at path, whose requests are opened by
// open. It expects a Record in the request's context.
func (s *Service) doorHandler(path string, open func(http.ResponseWriter, *http.Request, *request) door) http.Handler {
	return s.observed(procedureAt(path), func(w http.ResponseWriter, r *http.Request, rq *request) {
		rq.record.Procedure, rq.record.Protocol, rq.record.Handled = path, "http", true
		d := open(w, r, rq)
		rq.body = s.bounded(rq, w, r)
		defer rq.body.end()
		r.Body = rq.body
		err := s.throughDoor(d, r, rq)
		if err == nil {
			return
		}
		d.fail(r.Context(), err)
		rq.body.linger()
		if why := rq.record.Reason; why == reason.TooManyBytes || why == reason.UnsupportedEncoding {
			// Most clients do not look for an answer before they have sent all. It is no
			// request in flight any more.
			rq.body.end()
			rq.body.discard(4 * rq.body.limit)
		}
	})
}

// failPlainly sets the headers of a failed request of plain HTTP, and returns its status.
func failPlainly(header http.Header, record *Record, err *connect.Error) (status int) {
	header.Set(ReasonHeader, record.Reason)
	if after := err.Meta().Get("Retry-After"); after != "" {
		header.Set("Retry-After", after)
	}
	return outcomeOf(record.Reason).status
}

// content returns the body of r without its content coding. A compressed body is first
// read to its end, and is then inflated in turn with other compressed requests.
func (rq *request) content(w http.ResponseWriter, r *http.Request) (io.Reader, error) {
	switch encoding := encodingOf(r.Header, "Content-Encoding"); encoding {
	case "", identity:
		return r.Body, nil
	case gzipEncoding:
		rq.body.compressed = true
		packed, err := readAll(r.Body, r.ContentLength)
		if err != nil || len(packed) == 0 {
			return bytes.NewReader(nil), err
		}
		unpacked := &boundedGzip{limit: rq.body.limit}
		_ = unpacked.Reset(bytes.NewReader(packed)) // it reads nothing yet
		return unpacked, nil
	default:
		w.Header().Set("Accept-Encoding", gzipEncoding)
		return nil, fmt.Errorf("%w: Content-Encoding is %q; allowed are gzip and identity (no compression)", errEncoding, excerpt(encoding))
	}
}

// readAll reads a body, whose size is limited. declared is the Content-Length.
func readAll(body io.Reader, declared int64) ([]byte, error) {
	var b bytes.Buffer
	if declared > 0 {
		// Do not allocate much for a header alone.
		b.Grow(int(min(declared+bytes.MinRead, 1<<20)))
	}
	_, err := b.ReadFrom(body)
	if err != nil {
		return nil, unreadable(err, context.Canceled)
	}
	return b.Bytes(), nil
}

// unreadable wraps an error of reading the body in what, unless err already says what
// was wrong.
func unreadable(err, what error) error {
	if converted := new(connect.Error); errors.As(err, &converted) || errors.Is(err, errGzip) || errors.Is(err, errTooManyBytes) {
		return err
	}
	return fmt.Errorf("%w: reading it failed: %v", what, err) //nolint:errorlint // its text only
}

// throughDoor takes a request on the path of the RPCs: admit, read, set the deadline, infer.
func (s *Service) throughDoor(d door, r *http.Request, rq *request) error {
	if err := rq.body.admit(); err != nil {
		return err
	}
	rq.admitted = true
	images, err := d.read(r)
	if err != nil {
		return err
	}
	// As for the RPCs: from when the request has been read.
	ctx, cancel := context.WithTimeout(r.Context(), s.limit(r.Context()))
	defer cancel()
	return d.answer(ctx, images)
}
