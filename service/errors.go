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

	"github.com/mienproject/mien/photo"
	"github.com/mienproject/mien/reason"
)

// The service's own sentinels; others come from package photo and the context.
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
	errOverloaded   = errors.New("overloaded")
	errSlow         = fmt.Errorf("%w: the request came slower than %d KiB/s, and others needed its place; try again later", errOverloaded, slowBytes*time.Second/slowTime>>10)
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
	{is: photo.ErrEmpty, reason: reason.EmptyImage, code: connect.CodeInvalidArgument},
	{is: photo.ErrUnsupportedFormat, reason: reason.UnsupportedFormat, code: connect.CodeInvalidArgument},
	{is: photo.ErrCorrupt, reason: reason.CorruptImage, code: connect.CodeInvalidArgument},
	{is: errOptions, reason: reason.InvalidOptions, code: connect.CodeInvalidArgument},
	{is: errNoJSON, reason: reason.InvalidJSON, code: connect.CodeInvalidArgument},
	{is: errForm, reason: reason.InvalidForm, code: connect.CodeInvalidArgument},
	{is: errBody, reason: reason.InvalidBody, code: connect.CodeInvalidArgument},
	{is: errGzip, reason: reason.InvalidBody, code: connect.CodeInvalidArgument},
	{is: errEncoding, reason: reason.UnsupportedEncoding, code: connect.CodeUnimplemented},
	{is: photo.ErrPixels, reason: reason.InvalidPixels, code: connect.CodeInvalidArgument},
	{is: photo.ErrTooManyPixels, reason: reason.TooManyPixels, code: connect.CodeInvalidArgument},
	{is: errTooManyItems, reason: reason.TooManyImages, code: connect.CodeInvalidArgument},
	{is: errTooManyBytes, reason: reason.TooManyBytes, code: connect.CodeResourceExhausted},
	{is: errUnknownModel, reason: reason.UnknownModel, code: connect.CodeNotFound},
	{is: errOverloaded, reason: reason.Overloaded, code: connect.CodeUnavailable, retry: true},
	{is: errDraining, reason: reason.Draining, code: connect.CodeUnavailable, retry: true},
	{is: context.DeadlineExceeded, reason: reason.Deadline, code: connect.CodeDeadlineExceeded},
	{is: context.Canceled, reason: reason.Canceled, code: connect.CodeCanceled},
}

// tell turns err into what the caller sees, and notes it in call. Anything that
// the table does not know is a bug: the caller gets the request id and no
// detail, and internal is true.
func tell(call *Call, err error) (told *connect.Error, internal bool) {
	why, code, retry, message := reason.Internal, connect.CodeInternal, false, err
	internal = true
	for _, row := range table {
		if errors.Is(err, row.is) {
			why, code, retry, internal = row.reason, row.code, row.retry, false
			break
		}
	}
	switch {
	case internal:
		message = fmt.Errorf("internal error; the server's log has more under request id %s", call.ID)
	case errors.As(err, new(deadlineError)):
	case code == connect.CodeDeadlineExceeded:
		message = errors.New("the deadline passed before the answer was ready")
	case code == connect.CodeCanceled:
		message = errors.New("the caller left")
	}
	call.Code, call.Reason = code, why

	told = connect.NewError(code, message)
	addDetail(told, &errdetails.ErrorInfo{Reason: why, Domain: errorDomain})
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
