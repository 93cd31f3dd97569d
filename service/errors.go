package service

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mienproject/mien/admission"
	"github.com/mienproject/mien/photo"
)

// The service's own sentinels; others come from the packages photo, admission and context.
var (
	errOptions      = errors.New("invalid options")
	errUnknownModel = errors.New("unknown model")
	errNoJSON       = errors.New("this is not what was to be posted")
	errForm         = errors.New("this form cannot be used")
	errEncoding     = errors.New("unsupported encoding")
	errGzip         = errors.New("the body is not valid gzip")
	errBody         = errors.New("the body is not as HTTP has it")
	errTooManyBytes = errors.New("too many bytes")
	errTooManyItems = errors.New("too many images")
	errDraining     = errors.New("this server is shutting down; try another one")
)

// deadlineError is a deadline that passed, or that would, and more to tell about
// it than that.
type deadlineError string

func (e deadlineError) Error() string        { return string(e) }
func (e deadlineError) Is(target error) bool { return target == context.DeadlineExceeded }

// errorDomain is the domain of every google.rpc.ErrorInfo that Mien sends.
const errorDomain = "mien"

// retryAfter is what callers of an overloaded server are asked to wait: longer
// than the queue of a healthy one takes.
const retryAfter = time.Second

// table is what the world sees of what went wrong. The first row that fits
// counts. docs/api.md explains the reasons to callers.
var table = []struct {
	is     error
	reason string
	code   connect.Code
	// retry tells that the same request may well succeed soon, or elsewhere.
	retry bool
}{
	{is: photo.ErrEmpty, reason: "EMPTY_IMAGE", code: connect.CodeInvalidArgument},
	{is: photo.ErrUnsupportedFormat, reason: "UNSUPPORTED_FORMAT", code: connect.CodeInvalidArgument},
	{is: photo.ErrCorrupt, reason: "CORRUPT_IMAGE", code: connect.CodeInvalidArgument},
	{is: errOptions, reason: "INVALID_OPTIONS", code: connect.CodeInvalidArgument},
	{is: errNoJSON, reason: "INVALID_JSON", code: connect.CodeInvalidArgument},
	{is: errForm, reason: "INVALID_FORM", code: connect.CodeInvalidArgument},
	{is: errBody, reason: "INVALID_BODY", code: connect.CodeInvalidArgument},
	{is: errGzip, reason: "INVALID_BODY", code: connect.CodeInvalidArgument},
	{is: errEncoding, reason: "UNSUPPORTED_ENCODING", code: connect.CodeUnimplemented},
	{is: photo.ErrPixels, reason: "INVALID_PIXELS", code: connect.CodeInvalidArgument},
	{is: photo.ErrTooManyPixels, reason: "TOO_MANY_PIXELS", code: connect.CodeInvalidArgument},
	{is: errTooManyItems, reason: "TOO_MANY_IMAGES", code: connect.CodeInvalidArgument},
	{is: errTooManyBytes, reason: "TOO_MANY_BYTES", code: connect.CodeResourceExhausted},
	{is: errUnknownModel, reason: "UNKNOWN_MODEL", code: connect.CodeNotFound},
	{is: admission.ErrOverloaded, reason: "OVERLOADED", code: connect.CodeUnavailable, retry: true},
	{is: errDraining, reason: "DRAINING", code: connect.CodeUnavailable, retry: true},
	{is: context.DeadlineExceeded, reason: "DEADLINE", code: connect.CodeDeadlineExceeded},
	{is: context.Canceled, reason: "CANCELED", code: connect.CodeCanceled},
}

// tell turns err into what the caller sees, and notes it in call. Anything that
// the table does not know is a bug: the caller gets the request id and no
// detail, and internal is true.
func tell(call *Call, err error) (told *connect.Error, internal bool) {
	reason, code, retry, message := "INTERNAL", connect.CodeInternal, false, err
	internal = true
	for _, row := range table {
		if errors.Is(err, row.is) {
			reason, code, retry, internal = row.reason, row.code, row.retry, false
			break
		}
	}
	switch {
	case internal:
		message = fmt.Errorf("internal error; the server's log has more under request id %s", call.ID)
	case errors.As(err, new(deadlineError)), errors.As(err, new(*admission.WaitError)):
	case code == connect.CodeDeadlineExceeded:
		message = errors.New("the deadline passed before the answer was ready")
	case code == connect.CodeCanceled:
		message = errors.New("the caller left")
	}
	call.Code, call.Reason = code, reason

	told = connect.NewError(code, message)
	addDetail(told, &errdetails.ErrorInfo{Reason: reason, Domain: errorDomain})
	if retry {
		addDetail(told, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
		told.Meta().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	return told, internal
}

func addDetail(err *connect.Error, detail proto.Message) {
	// Only fails for messages that cannot be marshalled, which these can.
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
