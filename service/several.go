package service

import (
	"context"
	"fmt"
	"sync"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/admission"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// checkBatch returns the bytes of all images together, or an error if there are too many
// images or bytes.
func (s *Service) checkBatch(images []*inferencev1.Image) (size int64, err error) {
	for _, img := range images {
		size += int64(len(img.GetRawData()))
	}
	if len(images) > maxItems {
		return size, fmt.Errorf("%w: at most %d are allowed in a batch", errTooManyItems, maxItems)
	}
	if size > s.config.MaxBatchBytes {
		return size, fmt.Errorf("%w: the images have %d bytes together; the limit of this server for a batch is %d", errTooManyBytes, size, s.config.MaxBatchBytes)
	}
	return size, nil
}

// inferTogether finds the faces in the images of a unary request. A single image is like
// that of Predict. Several images wait for workers as those of a batch do, within the
// deadline of the request, and if one of them fails, the request fails.
func (s *Service) inferTogether(ctx context.Context, rq *request, images []*inferencev1.Image) ([]*inferencev1.InferResults, error) {
	if len(images) == 1 {
		res, err := s.recovered(ctx, rq, images[0])
		return []*inferencev1.InferResults{res}, err
	}
	size, err := s.checkBatch(images)
	rq.body.settle(size)
	if err != nil {
		return nil, err
	}
	rq.itemized = true
	stream := new(admission.Stream)
	items := &together{results: make([]*inferencev1.InferResults, len(images)), errs: make([]*connect.Error, len(images))}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	indices := make(chan int, len(images))
	for i := range images {
		indices <- i
	}
	close(indices)
	var work sync.WaitGroup
	for range min(s.config.Workers, len(images)) {
		work.Go(func() {
			for i := range indices {
				if working.Err() != nil {
					return
				}
				item := rq.image(stream, true)
				res, err := s.recovered(working, item, images[i])
				images[i] = nil
				if err != nil {
					items.errs[i] = s.connectError(ctx, item.record, fmt.Errorf("%s[%d]: %w", rq.procedure.image, i, err))
					cancel()
				}
				items.results[i] = res
				s.observe(ctx, item.record)
			}
		})
	}
	work.Wait()
	return items.outcome(ctx, rq.record)
}

// together are the results of several images, and their errors.
type together struct {
	results []*inferencev1.InferResults
	errs    []*connect.Error
}

// outcome returns the results, or the error of the first image that failed by itself, and
// records how many images there were.
func (t *together) outcome(ctx context.Context, record *Record) ([]*inferencev1.InferResults, error) {
	var first *connect.Error
	for i, err := range t.errs {
		if err != nil {
			record.Failures++
			if first == nil || (first.Code() == connect.CodeCanceled && err.Code() != connect.CodeCanceled) {
				first = err
			}
		}
		if err != nil || t.results[i] != nil {
			record.Images++
		}
	}
	switch {
	case record.Images == len(t.results) && record.Failures == 0:
		return t.results, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, first
	}
}
