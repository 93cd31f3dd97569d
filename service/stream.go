package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/admission"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

const (
	// streamWindow is the maximum number of unsent answers of a stream for each worker,
	// in progress or waiting to be sent in order. While a large image delays the
	// answers after it, work on those images continues.
	streamWindow = 4
	// drainTime is how long a stream continues to read when the server drains, so that
	// images that were already sent get an answer, with DRAINING.
	drainTime = time.Second
)

// predictStream finds the faces in each image of a stream, and answers in order. It
// reads at most one image more than there are workers, so that one waits for its turn
// whatever the workers are doing. It stops reading while the client does not read answers.
func (s *Service) predictStream(ctx context.Context, rq *request, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
	ctx, items := s.items(ctx, rq)
	defer items.end()
	body := items.request.body
	// Receive ignores ctx, so interrupt the reading of the body.
	stopInterrupt := context.AfterFunc(ctx, body.conn.interrupt)
	items.work.Go(func() {
		select {
		case <-s.drained:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(drainTime):
			body.conn.interrupt()
		case <-ctx.Done():
		}
	})

	pending := make(chan (<-chan *inferencev1.InferResults), streamWindow*s.config.Workers)
	var failed error // the error of Receive; nil at the end of the stream
	items.work.Go(func() {
		defer close(pending)
		slots := make(chan struct{}, s.config.Workers+1)
		for index := int32(0); ; index++ {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			req, err := stream.Receive()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failed = err
					items.lost(err)
				}
				// Release memory even if the client stops reading answers.
				body.drop()
				return
			}
			draining := s.draining()
			body.settle(int64(len(req.GetRawData())))
			held := body.next()
			answer := make(chan *inferencev1.InferResults, 1)
			items.work.Go(func() {
				answer <- items.predict(ctx, req, index, !draining)
				held.Close()
				<-slots
			})
			select {
			case pending <- answer:
			case <-ctx.Done():
				return
			}
		}
	})
	for answer := range pending {
		if err := items.send(ctx, stream.Send, <-answer); err != nil {
			return err
		}
	}
	stopInterrupt()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return failed
}

// predictBatch finds the faces in several images, and sends each answer when it is
// ready.
func (s *Service) predictBatch(ctx context.Context, rq *request, req *inferencev1.PredictBatchRequest, stream *connect.ServerStream[inferencev1.InferResults]) error {
	ctx, items := s.items(ctx, rq)
	defer items.end()
	images := req.GetImages()
	size, err := s.checkBatch(images)
	items.request.body.settle(size)
	items.held = items.request.body.next()
	if err != nil {
		return err
	}

	indices := make(chan int, len(images))
	for i := range images {
		indices <- i
	}
	close(indices)
	// Release the images even if the client stops reading answers.
	answers := make(chan *inferencev1.InferResults, len(images))
	for range min(s.config.Workers+1, len(images)) { // one more waits for its turn
		items.work.Go(func() {
			for i := range indices {
				if ctx.Err() != nil {
					return
				}
				image := images[i]
				images[i] = nil
				answers <- items.predict(ctx, image, int32(i), true)
				items.held.Release(int64(len(image.GetRawData())))
			}
		})
	}
	for range images {
		select {
		case answer := <-answers:
			if err := items.send(ctx, stream.Send, answer); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// items are the images of one stream or batch.
type items struct {
	service *Service
	// request is the request that all images belong to, and ctx is its context.
	request *request
	// stream has the turns of the images in the queue.
	stream admission.Stream
	ctx    context.Context //nolint:containedctx // for Observe, which is called even after the work is canceled
	// stop cancels everything in work.
	stop context.CancelFunc
	work sync.WaitGroup
	// had and failed count all images, and those with an error.
	had, failed atomic.Int64
	// held is the lease for the images of a batch; it is nil on a stream.
	held *admission.Lease
	// timer closes the connection of a client that does not read answers, and sets
	// idle.
	timer *time.Timer
	idle  atomic.Bool
}

// items starts a stream or batch. Its work must use the returned context, and the
// caller must call end.
func (s *Service) items(ctx context.Context, rq *request) (context.Context, *items) {
	it := &items{service: s, request: rq, ctx: ctx}
	rq.record.Handled = true
	// The server's timeouts are for unary requests. Streams and batches have timeouts
	// for each image.
	it.request.body.conn.setReadDeadline(time.Time{})
	it.request.body.conn.setWriteDeadline(time.Time{})
	it.timer = time.AfterFunc(time.Hour, func() {
		it.idle.Store(true)
		it.request.body.conn.setWriteDeadline(time.Now())
	})
	it.timer.Stop()
	ctx, it.stop = context.WithCancel(ctx)
	it.request.body.ctx = ctx
	return ctx, it
}

// end waits until all work has ended.
func (it *items) end() {
	it.timer.Stop()
	it.stop()
	it.work.Wait()
	if it.held != nil {
		it.held.Close()
	}
	it.request.record.Images, it.request.record.Failures = int(it.had.Load()), int(it.failed.Load())
}

// lost observes the image that was being received when a stream broke off.
func (it *items) lost(err error) {
	converted := new(connect.Error)
	if it.request.body.began.IsZero() || !errors.As(err, &converted) {
		return
	}
	record := it.request.image(&it.stream, false).record
	record.recordConnect(converted)
	it.service.observe(it.ctx, record)
}

// predict returns the answer for one image. An admitted image is not refused when the
// server drains.
func (it *items) predict(ctx context.Context, req *inferencev1.Image, index int32, admitted bool) *inferencev1.InferResults {
	s := it.service
	rq := it.request.image(&it.stream, admitted)
	ctx, cancel := context.WithTimeout(ctx, s.limit(ctx))
	defer cancel()
	answer, err := s.recovered(ctx, rq, req)
	if err != nil {
		converted := s.connectError(ctx, rq.record, err)
		answer = &inferencev1.InferResults{
			ImageId:  req.GetImageId(),
			MetaData: s.metaData(rq.record.ID),
			Error:    &inferencev1.ItemError{Code: int32(converted.Code()), Reason: rq.record.Reason, Message: converted.Message()},
		}
		it.failed.Add(1)
	}
	answer.Index = &index
	it.had.Add(1)
	s.observe(it.ctx, rq.record)
	return answer
}

// recovered calls infer, and returns a panic as an error. No handler would recover it in the
// goroutine of an image, or answer it in the form of a door.
func (s *Service) recovered(ctx context.Context, rq *request, req *inferencev1.Image) (res *inferencev1.InferResults, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.infer(ctx, rq, req, nil)
}

// send sends an answer. It returns an error if the client reads none for StreamIdle.
func (it *items) send(ctx context.Context, send func(*inferencev1.InferResults) error, answer *inferencev1.InferResults) error {
	idle := it.service.config.StreamIdle
	it.timer.Reset(idle)
	err := send(answer)
	it.timer.Stop()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case it.idle.Load():
		return deadlineError(fmt.Sprintf("the client read no answer for %v", idle))
	default:
		return fmt.Errorf("%w: %v", context.Canceled, err) //nolint:errorlint // the connection is gone, whatever the error says
	}
}
