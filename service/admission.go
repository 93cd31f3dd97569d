package service

import (
	"context"

	"github.com/mienproject/mien/admission"
)

func newLedger(c Config) *admission.Ledger {
	// Half of the bytes is for streams and batches, and for messages that are inflated.
	part := max(c.MaxBodyBytes/2, c.LargestMessage())
	return admission.NewLedger(admission.Limits{
		Requests:     int64(c.MaxRequests),
		Bytes:        c.MaxBodyBytes,
		StreamBytes:  part,
		InflateBytes: part,
		Inflaters:    c.Workers,
	})
}

// enter waits for a worker slot, and then for n bytes of memory: what waits in the
// queue holds no memory, and what holds some has the slot that lets it finish. An image
// of a stream waits where a single call is refused. Without an error, the caller has to
// call leave once when the work has ended.
func (s *Service) enter(ctx context.Context, n int64, streamed bool) (leave func(), err error) {
	leaveQueue, err := s.queue.Enter(ctx, streamed)
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
