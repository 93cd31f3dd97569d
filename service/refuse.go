package service

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/authn"
	"connectrpc.com/connect"
)

// A refusal is an error of the code in front of the service, with its text, and with the
// outcome of is.
type refusal struct{ is, err error }

func (r refusal) Error() string   { return r.err.Error() }
func (r refusal) Unwrap() []error { return []error{r.is, r.err} }

// Unauthenticated returns an error for Refuse: err says why the sender of a request is not
// known.
func Unauthenticated(err error) error { return refusal{errUnauthenticated, err} }

// PermissionDenied returns an error for Refuse: err says why the sender of a request may not
// send it.
func PermissionDenied(err error) error { return refusal{errForbidden, err} }

// quotaError is a refusal that ends after a time.
type quotaError struct {
	refusal
	after time.Duration
}

// OverQuota returns an error for Refuse and for Config.Charge: err says which quota the sender
// of a request has used up, and after is the time until the same request fits.
func OverQuota(err error, after time.Duration) error {
	return quotaError{refusal{errQuota, err}, after}
}

// Refuse answers a request that the code in front of the service refuses, in the protocol
// of its door: an RPC's error, or that of PredictHandler or of OpenInference.REST. It answers before it reads anything
// of the body, and uses nothing of it. err is one of those that this package makes for it, such
// as Unauthenticated; the Record of the request's context then has it.
func (s *Service) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.ProtoMajor == 1 {
		// Otherwise net/http reads the body before it sends the answer. The error is that of
		// a writer that does not support it, which sends the answer later.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	record := RecordFrom(r.Context())
	p := procedureOf(r.URL.Path)
	if p != nil {
		record.Procedure, record.Protocol = p.path, "http"
		if protocol, ok := authn.InferProtocol(r); ok && !p.plain {
			record.Protocol = protocol
		}
	}
	converted := s.connectError(r.Context(), record, err)
	defer s.linger(w, r)
	switch {
	case p != nil && p.path == predictPath:
		writePrediction(w, failPlainly(w.Header(), record, converted), converted.Message(), nil)
	case isREST(r.URL.Path):
		writeError(w, failPlainly(w.Header(), record, converted), converted.Message())
	default:
		writeConverted(w, r, s.errorWriter, converted)
	}
	if p != nil && (&request{procedure: p, record: record}).isObserved() {
		s.observe(r.Context(), record)
	}
}

// writeConverted answers with an error in the protocol of the request. It sends the whole answer
// at once, which takes half the time for a client of gRPC: its status is a header, as gRPC
// allows for an answer without a message ("Trailers-Only").
func writeConverted(w http.ResponseWriter, r *http.Request, writer *connect.ErrorWriter, err *connect.Error) {
	answer := &delayed{header: w.Header(), status: http.StatusOK}
	_ = writer.Write(answer, r, err) // delayed returns no errors
	answer.header.Del("Trailer")     // otherwise it announces those that are headers now
	if len(answer.body) > 0 {        // otherwise net/http adds it where it belongs
		answer.header.Set("Content-Length", strconv.Itoa(len(answer.body)))
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body) // the client may have disconnected
}

// delayed keeps an answer whose header may still change.
type delayed struct {
	header http.Header
	status int
	body   []byte
}

func (d *delayed) Header() http.Header    { return d.header }
func (d *delayed) WriteHeader(status int) { d.status = status }
func (d *delayed) Write(p []byte) (int, error) {
	d.body = append(d.body, p...)
	return len(p), nil
}

// lingerTime is how long a client of HTTP/1.1 may take to send a body that is discarded.
const lingerTime = 5 * time.Second

// linger sends the answer, and then discards the body of a client of HTTP/1.1. Most of them
// do not look for an answer before they have sent everything, and if the connection is
// closed before, they report that instead of the answer. Clients that expect 100-continue
// send nothing.
func (s *Service) linger(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Header.Get("Expect") != "" {
		return
	}
	controller := http.NewResponseController(w)
	if controller.Flush() != nil || controller.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return // the client has disconnected
	}
	_, _ = io.CopyN(io.Discard, r.Body, 4*maxMessage(s.config.MaxImageBytes)) // the client may disconnect
}
