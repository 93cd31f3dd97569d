package service

import (
	"context"
	"net/http"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/reason"
)

// A door is one request of one image that comes by plain HTTP. It translates: the request
// into what the RPCs would have, and the outcome into an answer. doorHandler does the rest
// as for the RPCs.
type door interface {
	// read reads the request, whose body is within its limits.
	read(r *http.Request) (*inferencev1.Image, error)
	// answer has the service infer the result, and answers with it.
	answer(ctx context.Context, req *inferencev1.Image) error
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

// throughDoor takes a request on the path of the RPCs: admit, read, set the deadline, infer.
func (s *Service) throughDoor(d door, r *http.Request, rq *request) error {
	if err := rq.body.admit(); err != nil {
		return err
	}
	rq.admitted = true
	req, err := d.read(r)
	if err != nil {
		return err
	}
	// As for the RPCs: from when the request has been read.
	ctx, cancel := context.WithTimeout(r.Context(), s.limit(r.Context()))
	defer cancel()
	return d.answer(ctx, req)
}
