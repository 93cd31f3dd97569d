package client

import (
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/mienproject/mien/reason"
)

// The values of Error.Reason. docs/api.md explains when the server gives each of
// them, and what the client can do about it. Later servers may have more.
const (
	ReasonEmptyImage        = reason.EmptyImage
	ReasonUnsupportedFormat = reason.UnsupportedFormat
	ReasonCorruptImage      = reason.CorruptImage
	ReasonInvalidOptions    = reason.InvalidOptions
	ReasonInvalidPixels     = reason.InvalidPixels
	ReasonInvalidBody       = reason.InvalidBody
	ReasonTooManyPixels     = reason.TooManyPixels
	ReasonTooManyBytes      = reason.TooManyBytes
	ReasonTooManyImages     = reason.TooManyImages
	ReasonUnknownModel      = reason.UnknownModel
	ReasonOverloaded        = reason.Overloaded
	ReasonDraining          = reason.Draining
	ReasonDeadline          = reason.Deadline
	ReasonCanceled          = reason.Canceled
	ReasonInternal          = reason.Internal
)

// Error is why a call failed. errors.AsType[*Error] finds it; errors.Is finds
// context.Canceled and context.DeadlineExceeded when the caller's context ended
// the call, and through Unwrap the *connect.Error is there as well.
type Error struct {
	// Code is that of gRPC and Connect. Unavailable is also what a server has
	// that cannot be reached.
	Code connect.Code
	// Reason is the server's, one of the constants of this package. Empty: the
	// error is not Mien's but of the network, of a proxy or of this process.
	Reason string
	// Message is for people. It may change; do not match it.
	Message string
	// RetryAfter is how long the server asks to be left alone; 0 if it does not.
	RetryAfter time.Duration
	// RequestID is that of the failed request in the server's log; empty if none
	// came back.
	RequestID string
	// Metadata is what the server adds to the reason; nil for none.
	Metadata map[string]string

	cause error
}

// Error implements error: the reason, or the code where there is none, and the
// message.
func (e *Error) Error() string {
	what := e.Reason
	if what == "" {
		what = e.Code.String()
	}
	if e.Message == "" {
		return what
	}
	return what + ": " + e.Message
}

// Unwrap returns the *connect.Error.
func (e *Error) Unwrap() error { return e.cause }

// Reason returns the server's reason for err, or an empty string.
func Reason(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// refused is an error that this package raises itself.
func newLocalError(code connect.Code, err error) *Error {
	return newError(connect.NewError(code, err))
}

// newError keeps all that an error of Connect tells.
func newError(err error) *Error {
	e := &Error{Code: connect.CodeOf(err), Message: err.Error(), cause: err}
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return e
	}
	e.Message = ce.Message()
	e.RequestID = ce.Meta().Get("X-Request-Id")
	for _, d := range ce.Details() {
		value, err := d.Value()
		if err != nil {
			continue // of a kind that this package does not know
		}
		switch value := value.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata = value.GetReason(), value.GetMetadata()
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, value.GetRetryDelay().AsDuration())
		}
	}
	return e
}

// permanent tells that trying again will not help: the other end speaks, but not
// as the URL says, or is not who it should be.
func isPermanent(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || noTLS || errors.Is(err, http.ErrSchemeMismatch)
}
