package service

import (
	"context"
	"time"

	"connectrpc.com/connect"
)

// Call is what one call was and did, for the access log. Whoever serves the
// request puts one into its context and reads it when the handler has returned;
// the service fills it. It is not safe for concurrent use.
type Call struct {
	// ID is the request id: set by whoever serves the request.
	ID string
	// Procedure and Protocol are those of the call, such as
	// "/inference.v1.Inference/Predict" and "grpc"; empty when it was none.
	Procedure, Protocol string
	// Handled tells that the message could be read and its handler was called.
	// Without it, and without a Code, Connect itself has refused the call.
	Handled bool
	// Code and Reason tell how it failed; 0 and empty when it did not.
	Code   connect.Code
	Reason string
	// Model is the one that was asked.
	Model string
	// Bytes is the size of the image as it came; Width and Height are those of
	// the upright image in pixels, 0 when it did not get so far.
	Bytes, Width, Height int
	// Faces is how many were returned.
	Faces int
	// Queue, Decode and Detect are where the time went.
	Queue, Decode, Detect time.Duration

	// setReadDeadline bounds the reading of the request's body.
	setReadDeadline func(time.Time) error
}

type callKey struct{}

// WithCall returns a context that carries call.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// CallFrom returns the call that ctx carries, or one that nobody reads.
func CallFrom(ctx context.Context) *Call {
	if call, ok := ctx.Value(callKey{}).(*Call); ok {
		return call
	}
	return &Call{}
}
