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
	ReasonUnauthenticated   = reason.Unauthenticated
	ReasonPermissionDenied  = reason.PermissionDenied
	ReasonQuota             = reason.Quota
	ReasonOverloaded        = reason.Overloaded
	ReasonDraining          = reason.Draining
	ReasonDeadline          = reason.Deadline
	ReasonCanceled          = reason.Canceled
	ReasonInternal          = reason.Internal
)

// Error says why a call failed. errors.AsType[*Error] finds it. If the context ended
// the call, errors.Is finds context.Canceled or context.DeadlineExceeded. Unwrap
// leads to the *connect.Error.
type Error struct {
	// Code is the code of gRPC and Connect. It is Unavailable if the server cannot
	// be reached.
	Code connect.Code
	// Reason is the server's reason, one of the constants of this package. It is
	// empty if the error comes from the network, a proxy or this process.
	Reason string
	// Message is for people. It may change; do not match it.
	Message string
	// RetryAfter is how long the server asks the client to wait; 0 if it does not.
	RetryAfter time.Duration
	// RequestID identifies the failed request in the server's log. It is empty if
	// the server sent none.
	RequestID string
	// Metadata is the metadata of the server's ErrorInfo; nil if there is none.
	Metadata map[string]string

	cause error
}

// Error implements error. It returns the reason, or the code if there is no reason,
// and the message.
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

// newLocalError returns an error that does not come from the server.
func newLocalError(code connect.Code, err error) *Error {
	return newError(connect.NewError(code, err))
}

// newError converts an error of Connect with all its details.
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
			continue // a type that this package does not know
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

// isPermanent reports whether a retry cannot help: the server does not use the
// protocol of the URL, or its certificate is not trusted.
func isPermanent(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || noTLS || errors.Is(err, http.ErrSchemeMismatch)
}
