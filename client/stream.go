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

// PredictStream finds the faces of many images in one call, several of which the
// server has in work at once. There is one answer for each image, in the images'
// order, and its index counts them from 0.
//
// An image that fails ends nothing: its answer comes with an *Error, and with the
// image's id. What ends the stream comes as the last pair, an *Error without an
// answer; images that were not answered by then have no results.
//
// A server that is overloaded, goes away or stops in the middle is asked again, as
// by Predict, for what it has not answered; each answer renews the attempts.
//
// The server bounds the time of each image. A deadline of ctx is for the stream as
// a whole, and WithTimeout is not for streams. It needs HTTP/2 to the server, in
// cleartext too.
//
// images is read in another goroutine, only as fast as answers are taken, and not
// beyond the end of the loop over them, which waits for the image that is being
// got: where that may take long, it should heed ctx. The images must not change
// until they are answered.
func (c *Client) PredictStream(ctx context.Context, images iter.Seq[*inferencev1.Image]) iter.Seq2[*inferencev1.InferResults, error] {
	return func(yield func(*inferencev1.InferResults, error) bool) {
		next, stop := iter.Pull(images)
		defer stop()
		s := stream{client: c, next: next, yield: yield}
		before := int32(0)
		err := c.withRetries(ctx, func() error { return s.attempt(ctx) }, func() bool {
			progressed := s.answered > before
			before = s.answered
			return progressed
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// stream is one call of PredictStream, whatever its attempts.
type stream struct {
	client   *Client
	next     func() (*inferencev1.Image, bool)
	yield    func(*inferencev1.InferResults, error) bool
	answered int32

	mu         sync.Mutex
	unanswered []*inferencev1.Image // read, and not answered yet
}

// attempt is one attempt. It returns nil when all are answered, or nobody wants to know
// more, and what ended it otherwise.
func (s *stream) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wire, err := s.client.streams.PredictStream(ctx)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer func() {
		cancel()
		_ = wire.CloseResponse() // it has told already how it ended
		sending.Wait()
	}()
	images := s.images(ctx)
	sending.Go(func() {
		for image := range images {
			if wire.Send(image) != nil {
				return // Receive tells why
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
			if connect.CodeOf(err) == connect.CodeInternal && !connect.IsWireError(err) {
				// What Connect takes for a bad message is a connection that broke in it.
				err = connect.NewError(connect.CodeUnavailable, err)
			}
			return err
		}
		failure := itemError(answer)
		if failure != nil && failure.Code == connect.CodeUnavailable {
			return failure
		}
		if !s.takeUnanswered() {
			return connect.NewError(connect.CodeInternal, errors.New("the server gave more answers than it got images"))
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

// images are those that an earlier attempt has left, and then the caller's.
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

// takeUnanswered takes the first image that is open, which is answered now, if there is one.
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

// checkAnswered is what an orderly checkAnswered of the stream says.
func (s *stream) checkAnswered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) > 0 {
		return connect.NewError(connect.CodeUnavailable, errors.New("the server ended the stream before it had answered all images"))
	}
	return nil
}

// itemError is the error that an answer has in place of results, or nil.
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
