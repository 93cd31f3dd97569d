package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// PredictStream finds the faces in many images with one call. The server works on
// several of them at a time. There is one result for each image, in the order of
// the images; its index counts from 0.
//
// If an image fails, its result comes with an *Error and with the image's id, and
// the stream continues. If the stream fails, the last pair is nil and an *Error;
// the remaining images have no results.
//
// If the server is overloaded or stops, the client retries, as Predict does, with
// the images that have no result yet. Each result resets the count of attempts.
//
// The server limits the time for each image. A deadline of ctx applies to the whole
// stream; WithTimeout does not apply. A stream needs HTTP/2 to the server, in
// cleartext too.
//
// Another goroutine reads images, only as fast as results are consumed. When the
// loop over the results ends, it waits for the image that is being read; if that may
// take long, images should stop when ctx ends. An image must not change until it has
// its result.
func (c *Client) PredictStream(ctx context.Context, images iter.Seq[*inferencev1.Image]) iter.Seq2[*inferencev1.InferResults, error] {
	return func(yield func(*inferencev1.InferResults, error) bool) {
		next, stop := iter.Pull(images)
		defer stop()
		s := stream{client: c, next: next, yield: yield}
		before := int32(0)
		err := c.withRetries(ctx, func(e *endpoint) error { return s.attempt(ctx, e) }, func() bool {
			progressed := s.answered > before
			before = s.answered
			return progressed
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// stream is one call of PredictStream, with all its attempts.
type stream struct {
	client   *Client
	next     func() (*inferencev1.Image, bool)
	yield    func(*inferencev1.InferResults, error) bool
	answered int32

	mu         sync.Mutex
	unanswered []*inferencev1.Image // read from next, without a result yet
}

// attempt makes one attempt. It returns nil when all images have a result or the
// consumer has stopped, and otherwise the error that ended the attempt.
func (s *stream) attempt(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wire, err := e.streams.PredictStream(ctx)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer func() {
		cancel()
		_ = wire.CloseResponse() // Receive has returned the error
		sending.Wait()
	}()
	images := s.images(ctx)
	sending.Go(func() {
		for image := range images {
			if wire.Send(image) != nil {
				return // Receive returns the cause
			}
		}
		if ctx.Err() == nil {
			_ = wire.CloseRequest()
		}
	})
	for {
		answer, err := wire.Receive()
		if errors.Is(err, io.EOF) {
			return s.checkAnswered()
		}
		if err != nil {
			return err
		}
		failure := itemError(answer)
		if failure != nil && failure.Code == connect.CodeUnavailable {
			return failure
		}
		if !s.takeUnanswered() {
			return connect.NewError(connect.CodeInternal, errors.New("the server sent more results than there were images"))
		}
		index := s.answered // over all attempts
		answer.Index = &index
		s.answered++
		s.client.budget.succeeded()
		if failure != nil {
			err = failure
		}
		if !s.yield(answer, err) {
			return nil
		}
	}
}

// images returns the images without a result from earlier attempts, and then new
// ones.
func (s *stream) images(ctx context.Context) iter.Seq[*inferencev1.Image] {
	left := append([]*inferencev1.Image(nil), s.unanswered...)
	return func(yield func(*inferencev1.Image) bool) {
		for _, image := range left {
			if !yield(image) {
				return
			}
		}
		for ctx.Err() == nil {
			image, ok := s.next()
			if !ok {
				return
			}
			s.mu.Lock()
			s.unanswered = append(s.unanswered, image)
			s.mu.Unlock()
			if !yield(image) {
				return
			}
		}
	}
}

// takeUnanswered removes the first image without a result. It returns false if there
// is none.
func (s *stream) takeUnanswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) == 0 {
		return false
	}
	s.unanswered[0] = nil
	s.unanswered = s.unanswered[1:]
	return true
}

// checkAnswered returns an error if the server has ended the stream before all images
// have results.
func (s *stream) checkAnswered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) > 0 {
		return connect.NewError(connect.CodeUnavailable, errors.New("the server ended the stream without results for all images"))
	}
	return nil
}

// itemError returns the error of a result, or nil.
func itemError(answer *inferencev1.InferResults) *Error {
	item := answer.GetError()
	if item == nil {
		return nil
	}
	code := connect.Code(item.GetCode())
	e := newError(connect.NewWireError(code, errors.New(item.GetMessage())))
	e.Reason, e.RequestID = item.GetReason(), answer.GetMetaData().GetUuid()
	return e
}
