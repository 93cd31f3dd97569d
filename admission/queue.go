package admission

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// Queue has a number of worker slots. Single calls that wait for one are served first come,
// first served. While single calls and images of streams both wait, they have slots for
// equal work: as many pixels of the ones as of the others. The same is true of the streams
// among each other, by start-time fair queueing (Goyal, Vin and Cheng 1996).
type Queue struct {
	workers, limit int

	mu   sync.Mutex
	busy int // workers
	// calls and images are the lines of those that wait, of queueWaiter. That of images is
	// in the order of their starts.
	calls, images list.List
	// clock is the start of the last image of a stream that got a slot.
	clock int64
	// balance is how many more pixels images of streams were given than single calls, since
	// both lines have had somebody. The next slot is for images if it is negative.
	balance int64
	times   estimate
}

type queueWaiter struct {
	pixels int64
	// start is where in the work of its stream an image begins, in pixels.
	start   int64
	granted chan struct{} // closed when its owner has a slot
}

// A Stream is a stream or batch in a Queue, which gives as many pixels to each of those that
// wait. The zero value is a new one. It must not be used with several queues.
type Stream struct {
	// end is where the work that it has asked for ends, in pixels, on the queue's clock. The
	// queue's lock protects it.
	end int64
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

// Enter waits for a slot until ctx ends. stream is nil for a single call, which is refused at
// once when the queue is full (ErrOverloaded), or so long that ctx would end first
// (*WaitError); an image of a stream waits. pixels is the size of the image. Without an error,
// the caller has to call leave once, with false if it did no work in the slot.
func (q *Queue) Enter(ctx context.Context, stream *Stream, pixels int64) (leave func(worked bool), err error) {
	if err := q.wait(ctx, stream, pixels); err != nil {
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
func (q *Queue) wait(ctx context.Context, stream *Stream, pixels int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.busy < q.workers {
		q.busy++
		q.clock = q.charge(stream, pixels)
		q.mu.Unlock()
		return nil
	}
	line := &q.images
	if stream == nil {
		line = &q.calls
		if err := q.refusal(ctx); err != nil {
			q.mu.Unlock()
			return err
		}
	}
	w := queueWaiter{pixels, q.charge(stream, pixels), make(chan struct{})}
	place := insert(line, w)
	q.mu.Unlock()

	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.granted: // at the same moment
		return nil
	default:
		line.Remove(place)
		if stream != nil {
			stream.end -= pixels
		}
		return ctx.Err()
	}
}

// charge adds an image to the work of a stream, and returns its start. For a single call, it
// returns the clock. The caller holds the lock.
func (q *Queue) charge(stream *Stream, pixels int64) (start int64) {
	if stream == nil {
		return q.clock
	}
	start = max(stream.end, q.clock) // what it did not use while it was idle is lost
	stream.end = start + pixels
	return start
}

// insert puts w behind those that do not start later.
func insert(line *list.List, w queueWaiter) *list.Element {
	for e := line.Back(); e != nil; e = e.Prev() {
		if e.Value.(queueWaiter).start <= w.start {
			return line.InsertAfter(w, e)
		}
	}
	return line.PushFront(w)
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
		q.clock = w.start
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
