package service

import (
	"context"

	"github.com/mienproject/mien/admission"
)

func newLedger(c Config) *admission.Ledger {
	// Streams and batches may hold half of the bytes, and so may messages being inflated.
	part := max(c.MaxBodyBytes/2, c.LargestMessage())
	return admission.NewLedger(admission.Limits{
		Requests:     int64(c.MaxRequests),
		Bytes:        c.MaxBodyBytes,
		StreamBytes:  part,
		InflateBytes: part,
		Inflaters:    c.Workers,
	})
}

// enter waits for a worker slot, and then for n bytes of memory. In this order,
// requests in the queue hold no memory, and a request that holds memory has the slot
// that it needs to finish. Images of a stream wait where unary requests are refused, and pay
// for their pixels with their turns. If err is nil, the caller must call leave once when the
// work has ended.
func (s *Service) enter(ctx context.Context, n, pixels int64, stream *admission.Stream) (leave func(), err error) {
	leaveQueue, err := s.queue.Enter(ctx, stream, pixels)
	if err != nil {
		return nil, err
	}
	release, err := s.memory.Acquire(ctx, n)
	if err != nil {
		leaveQueue(false)
		return nil, err
	}
	return func() {
		release()
		leaveQueue(true)
	}, nil
}

func (s *Service) draining() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}
