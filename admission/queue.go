package admission

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// Queue has a number of worker slots. Those that wait for one are served first come,
// first served. While single calls and images of streams both wait, they have slots for
// equal work: as many pixels of the ones as of the others.
type Queue struct {
	workers, limit int

	mu   sync.Mutex
	busy int // workers
	// calls and images are the lines of those that wait, of queueWaiter.
	calls, images list.List
	// balance is how many more pixels images of streams were given than single calls, since
	// both lines have had somebody. The next slot is for images if it is negative.
	balance int64
	times   estimate
}

type queueWaiter struct {
	pixels  int64
	granted chan struct{} // closed when its owner has a slot
}

// NewQueue returns a queue of that many workers, in which at most limit single calls
// may wait. Images of streams have no such limit: each stream has to bound its own.
func NewQueue(workers, limit int) *Queue { return &Queue{workers: workers, limit: limit} }

// A WaitError is returned to a call whose deadline is before the queue could serve it.
// It is a context.DeadlineExceeded.
type WaitError struct {
	// Deadline is the time until the call's deadline, Wait the shortest time that the
	// queue takes.
	Deadline, Wait time.Duration
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("the deadline is in %v, and the queue takes %v at least: no work was done",
		e.Deadline.Round(time.Millisecond), e.Wait.Round(time.Millisecond))
}

// Is makes the error a context.DeadlineExceeded.
func (e *WaitError) Is(target error) bool { return target == context.DeadlineExceeded }

// Full returns an error that wraps ErrOverloaded if a single call would be refused now,
// and nil otherwise.
func (q *Queue) Full() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full()
}

func (q *Queue) full() error {
	if q.busy < q.workers || q.calls.Len() < q.limit {
		return nil
	}
	return fmt.Errorf("%w: %d images are being worked on and %d wait; try again later", ErrOverloaded, q.workers, q.limit)
}

// Enter waits for a slot until ctx ends. A single call is refused at once when the
// queue is full (ErrOverloaded), or so long that ctx would end first (*WaitError); an
// image of a stream waits. pixels is the size of the image. Without an error, the caller has to call leave once, with
// false if it did no work in the slot.
func (q *Queue) Enter(ctx context.Context, streamed bool, pixels int64) (leave func(worked bool), err error) {
	if err := q.wait(ctx, streamed, pixels); err != nil {
		return nil, err
	}
	// The context may have ended at the same moment: work for a caller that has left
	// would be lost.
	if err := ctx.Err(); err != nil {
		q.free(0)
		return nil, err
	}
	began := time.Now()
	return func(worked bool) {
		if worked {
			q.free(time.Since(began))
		} else {
			q.free(0)
		}
	}, nil
}

// wait takes a slot, or waits in line for one until ctx ends.
func (q *Queue) wait(ctx context.Context, streamed bool, pixels int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.busy < q.workers {
		q.busy++
		q.mu.Unlock()
		return nil
	}
	line := &q.images
	if !streamed {
		line = &q.calls
		if err := q.refusal(ctx); err != nil {
			q.mu.Unlock()
			return err
		}
	}
	granted := make(chan struct{})
	place := line.PushBack(queueWaiter{pixels, granted})
	q.mu.Unlock()

	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-granted: // at the same moment
		return nil
	default:
		line.Remove(place)
		return ctx.Err()
	}
}

// refusal returns why a single call may not wait. The caller holds the lock.
func (q *Queue) refusal(ctx context.Context) error {
	if err := q.full(); err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	now := time.Now()
	if wait := q.times.wait(now, q.calls.Len(), q.workers); deadline.Before(now.Add(wait)) {
		return &WaitError{Deadline: deadline.Sub(now), Wait: wait}
	}
	return nil
}

// free hands a slot on to the next in line. took is how long it was worked in, 0 if it
// was not.
func (q *Queue) free(took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if took > 0 {
		q.times.add(time.Now(), took)
	}
	line := &q.calls
	if both := q.calls.Len() > 0 && q.images.Len() > 0; !both {
		q.balance = 0
	}
	if q.calls.Len() == 0 || (q.images.Len() > 0 && q.balance < 0) {
		line = &q.images
	}
	next := line.Front()
	if next == nil {
		q.busy--
		return
	}
	w := line.Remove(next).(queueWaiter)
	if line == &q.images {
		q.balance += w.pixels
	} else {
		q.balance -= w.pixels
	}
	close(w.granted)
}

// QueueStats is what a queue is doing at one moment.
type QueueStats struct {
	// Busy is how many of the Workers are taken.
	Busy, Workers int
	// Calls is how many single calls wait, of at most Limit, and Images how many images
	// of streams.
	Calls, Limit, Images int
}

// Stats returns what the queue is doing now.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return QueueStats{Busy: q.busy, Workers: q.workers, Calls: q.calls.Len(), Limit: q.limit, Images: q.images.Len()}
}
