package service

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mienproject/mien/admission"
	"github.com/mienproject/mien/photo"
	"github.com/mienproject/mien/reason"
)

// The service's own sentinels; others come from the packages photo, admission and context.
var (
	errOptions         = errors.New("invalid options")
	errUnknownModel    = errors.New("unknown model")
	errTensor          = errors.New("invalid tensor")
	errNoJSON          = errors.New("request body is not the expected JSON")
	errForm            = errors.New("request body is not the expected form")
	errEncoding        = errors.New("unsupported encoding")
	errGzip            = errors.New("request body is not valid gzip")
	errBody            = errors.New("malformed HTTP body")
	errBase64          = errors.New("the message in the URL is not base64 for URLs")
	errTooManyBytes    = errors.New("too many bytes")
	errTooManyItems    = errors.New("too many images")
	errQuota           = errors.New("quota exceeded")
	errForbidden       = errors.New("permission denied")
	errUnauthenticated = errors.New("unauthenticated")
	errDraining        = errors.New("this server is shutting down; try another server")
)

// deadlineError is a context.DeadlineExceeded whose text says more than that.
type deadlineError string

func (e deadlineError) Error() string        { return string(e) }
func (e deadlineError) Is(target error) bool { return target == context.DeadlineExceeded }

// errorDomain is the domain of every google.rpc.ErrorInfo that Mien sends.
const errorDomain = "mien"

// retryAfter is how long clients of an overloaded server are asked to wait: longer than
// the queue of a healthy one takes.
const retryAfter = time.Second

// An outcome is how a request failed, as its caller sees it.
type outcome struct {
	// is is the error that has this outcome.
	is error
	// reason is that of google.rpc.ErrorInfo, and of ReasonHeader.
	reason string
	code   connect.Code
	// status is that of HTTP at /predict and /v2. In the other protocols, Connect derives
	// one from the code.
	status int
	// retry is true if the same request may well succeed soon, or on another server.
	retry bool
}

// statusCanceled is what nginx and Connect answer to a client that has closed its request.
const statusCanceled = 499

// outcomes is the one table of what can go wrong. The first row that fits counts.
// docs/api.md explains the reasons to callers.
var outcomes = []outcome{
	{is: photo.ErrEmpty, reason: reason.EmptyImage, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: photo.ErrUnsupportedFormat, reason: reason.UnsupportedFormat, code: connect.CodeInvalidArgument, status: http.StatusUnsupportedMediaType},
	{is: photo.ErrCorrupt, reason: reason.CorruptImage, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errOptions, reason: reason.InvalidOptions, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errTensor, reason: reason.InvalidTensor, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errNoJSON, reason: reason.InvalidJSON, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errForm, reason: reason.InvalidForm, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errBody, reason: reason.InvalidBody, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errBase64, reason: reason.InvalidBody, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errGzip, reason: reason.InvalidBody, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errEncoding, reason: reason.UnsupportedEncoding, code: connect.CodeUnimplemented, status: http.StatusUnsupportedMediaType},
	{is: photo.ErrPixels, reason: reason.InvalidPixels, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: photo.ErrTooManyPixels, reason: reason.TooManyPixels, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errTooManyItems, reason: reason.TooManyImages, code: connect.CodeInvalidArgument, status: http.StatusBadRequest},
	{is: errTooManyBytes, reason: reason.TooManyBytes, code: connect.CodeResourceExhausted, status: http.StatusRequestEntityTooLarge},
	{is: errUnknownModel, reason: reason.UnknownModel, code: connect.CodeNotFound, status: http.StatusNotFound},
	{is: errUnauthenticated, reason: reason.Unauthenticated, code: connect.CodeUnauthenticated, status: http.StatusUnauthorized},
	{is: errForbidden, reason: reason.PermissionDenied, code: connect.CodePermissionDenied, status: http.StatusForbidden},
	{is: errQuota, reason: reason.Quota, code: connect.CodeResourceExhausted, status: http.StatusTooManyRequests, retry: true},
	{is: admission.ErrOverloaded, reason: reason.Overloaded, code: connect.CodeUnavailable, status: http.StatusServiceUnavailable, retry: true},
	{is: errDraining, reason: reason.Draining, code: connect.CodeUnavailable, status: http.StatusServiceUnavailable, retry: true},
	{is: context.DeadlineExceeded, reason: reason.Deadline, code: connect.CodeDeadlineExceeded, status: http.StatusGatewayTimeout},
	{is: context.Canceled, reason: reason.Canceled, code: connect.CodeCanceled, status: statusCanceled},
}

// internal is the outcome of every other error: a bug. Its caller gets the request id and
// no detail, and the log has the detail.
var internal = outcome{reason: reason.Internal, code: connect.CodeInternal, status: http.StatusInternalServerError}

// classify returns the outcome of err.
func classify(err error) outcome {
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			return o
		}
	}
	return internal
}

// outcomeOf returns the outcome with the reason of that name.
func outcomeOf(name string) outcome {
	for _, o := range outcomes {
		if o.reason == name {
			return o
		}
	}
	return internal
}

// connectError returns the error that the caller of the request with that id gets for err.
func (o outcome) connectError(err error, id string) *connect.Error {
	message := err
	switch {
	case o.code == connect.CodeInternal:
		message = fmt.Errorf("internal error; the server's log has more under request id %s", id)
	case errors.As(err, new(deadlineError)), errors.As(err, new(*admission.WaitError)):
	case o.code == connect.CodeDeadlineExceeded:
		message = errors.New("the deadline passed before the answer was ready")
	case o.code == connect.CodeCanceled:
		message = errors.New("request canceled by the client")
	}
	converted := connect.NewError(o.code, message)
	addDetail(converted, &errdetails.ErrorInfo{Reason: o.reason, Domain: errorDomain})
	if o.retry {
		after := retryAfter
		if quota, ok := errors.AsType[quotaError](err); ok {
			after = quota.after
		}
		addDetail(converted, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
		converted.Meta().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	return converted
}

func addDetail(err *connect.Error, detail proto.Message) {
	// Only fails for messages that cannot be marshaled, which these can.
	if d, e := connect.NewErrorDetail(detail); e == nil {
		err.AddDetail(d)
	}
}

// reasonOf returns the reason that err carries, empty when it has none.
func reasonOf(err *connect.Error) string {
	for _, d := range err.Details() {
		if v, e := d.Value(); e == nil {
			if info, ok := v.(*errdetails.ErrorInfo); ok {
				return info.GetReason()
			}
		}
	}
	return ""
}
