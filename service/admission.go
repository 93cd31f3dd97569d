package service

import (
	"container/list"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// admission bounds what the service takes on: first the requests, before their
// bodies are read, then the images in them. An image takes a worker slot, then
// memory, and gives back both when its work has ended. Who waits for a slot is
// served in the order of arrival, single calls and images of streams in turn.
type admission struct {
	// requests is how many are in flight, and bodyBytes what their bodies have.
	requests, bodyBytes       atomic.Int64
	maxRequests, maxBodyBytes int64
	// streamed is the part of those bytes that streams and batches may take, so that
	// there is always one for single calls. Streams wait for it, batches do not.
	streamed *semaphore.Weighted
	// spare tells that a stream has the spare message.
	spare atomic.Bool
	// inflating is the part that compressed messages may take, which become many
	// times what they were: as many at once as there are workers.
	inflating    *semaphore.Weighted
	maxInflating int64
	// reading are the bodies that wait for their callers.
	reading struct {
		mu     sync.Mutex
		bodies map[*body]struct{}
	}
	// memory is for decoding and looking: maxDecoded bytes, of which decoded are taken.
	memory     *semaphore.Weighted
	maxDecoded int64
	decoded    atomic.Int64
	// garbage is what has been given back of it and may not have been collected yet.
	garbage    atomic.Int64
	collecting sync.Mutex
	// streams counts the streams and batches among the requests.
	streams atomic.Int64

	// drained is closed when draining begins.
	drained   chan struct{}
	drainOnce sync.Once

	workers, queue int

	mu   sync.Mutex
	busy int // workers
	// calls and images are the waiters: single calls, of which the queue holds so
	// many, and images of streams, of which each stream has at most as many as
	// there are workers.
	calls, images list.List
	// imagesTurn tells whose turn it is when both have waiters.
	imagesTurn bool
	recent     serviceTimes
}

func newAdmission(c Config) *admission {
	part := max(c.MaxBodyBytes/2, c.LargestMessage())
	a := &admission{
		maxRequests:  int64(c.MaxRequests),
		maxBodyBytes: c.MaxBodyBytes,
		streamed:     semaphore.NewWeighted(part),
		inflating:    semaphore.NewWeighted(part),
		maxInflating: part,
		memory:       semaphore.NewWeighted(c.MaxInflightBytes),
		maxDecoded:   c.MaxInflightBytes,
		drained:      make(chan struct{}),
		workers:      c.Workers,
		queue:        c.Queue,
	}
	a.reading.bodies = map[*body]struct{}{}
	return a
}

func (a *admission) drain() { a.drainOnce.Do(func() { close(a.drained) }) }

func (a *admission) draining() bool {
	select {
	case <-a.drained:
		return true
	default:
		return false
	}
}

// arrive counts b's request in, which has to depart once, or tells why it is
// refused: cheap enough to ask before the body is read. Single calls are refused
// when there would be no place for them in the queue.
func (a *admission) arrive(b *body, single bool) error {
	if a.draining() {
		return errDraining
	}
	if single {
		a.mu.Lock()
		full := a.full()
		a.mu.Unlock()
		if full {
			return a.overloaded()
		}
	}
	// Streams may stay for long: half of the requests are for those that do not. A
	// batch is a stream from here on, for its upload may take long as well.
	if b.many {
		if open := a.streams.Add(1); open > max(1, a.maxRequests/2) {
			a.streams.Add(-1)
			return fmt.Errorf("%w: %d streams and batches are open; try again later", errOverloaded, open-1)
		}
	}
	for a.requests.Add(1) > a.maxRequests {
		a.requests.Add(-1)
		if !a.makeRoom(0, false) {
			if b.many {
				a.streams.Add(-1)
			}
			return fmt.Errorf("%w: %d requests are in flight; try again later", errOverloaded, a.maxRequests)
		}
	}
	b.admitted = true
	return nil
}

// depart is the end of what arrive began.
func (a *admission) depart(many bool) {
	a.requests.Add(-1)
	if many {
		a.streams.Add(-1)
	}
}

// roomFor tells why there is no room for a body of n bytes, which are of the part
// of streams or not.
func (a *admission) roomFor(n int64, streamed bool) error {
	if streamed {
		if err := a.reserveShare(n); err != nil {
			return err
		}
		a.streamed.Release(n)
	}
	for {
		have := a.bodyBytes.Load()
		if have+n <= a.maxBodyBytes {
			return nil
		}
		if !a.makeRoom(have+n-a.maxBodyBytes, false) {
			return fmt.Errorf("%w: the requests in flight have %d bytes, and there is no room for %d more; try again later", errOverloaded, have, n)
		}
	}
}

// try takes n bytes if they are there.
func (a *admission) try(n int64) bool {
	for {
		have := a.bodyBytes.Load()
		if have+n > a.maxBodyBytes {
			return false
		}
		if a.bodyBytes.CompareAndSwap(have, have+n) {
			return true
		}
	}
}

// reserve takes n bytes for the body of a single call or, from the part of streams,
// of a batch, or refuses at once.
func (a *admission) reserve(n int64, streamed bool) error {
	if streamed {
		if err := a.reserveShare(n); err != nil {
			return err
		}
	}
	for !a.try(n) {
		if err := a.roomFor(n, false); err != nil {
			if streamed {
				a.streamed.Release(n)
			}
			return err
		}
	}
	return nil
}

// reserveShare takes n bytes of the part of streams, or refuses at once.
func (a *admission) reserveShare(n int64) error {
	for !a.streamed.TryAcquire(n) {
		if !a.makeRoom(n, true) {
			return fmt.Errorf("%w: the streams and batches in flight hold all of their part of --max-body-bytes, and there is no room for %d bytes more; try again later", errOverloaded, n)
		}
	}
	return nil
}

// A loan is what one body has of all requests' bytes.
type loan struct {
	bytes    int64
	streamed bool // of the part of streams
	spare    bool // and the spare message
}

// reserveStreamed takes n bytes for the body of a stream, and waits for them until
// ctx ends; wait is called before that, maybe more than once.
//
// Streams hold what has come of their next images while they wait for more. They
// might all wait for each other, so one after the other gets the spare message:
// leave to go on to the end of its image whatever is free.
func (a *admission) reserveStreamed(ctx context.Context, n int64, wait func()) (loan, error) {
	for began := time.Now(); !a.streamed.TryAcquire(n); {
		if a.makeRoom(1, true) {
			continue
		}
		wait()
		if time.Since(began) > slowTime && a.spare.CompareAndSwap(false, true) {
			return loan{streamed: true, spare: true}, nil
		}
		// By then others may have become slow.
		pass, cancel := context.WithTimeout(ctx, slowTime/4)
		err := a.streamed.Acquire(pass, n)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return loan{}, ctx.Err()
		}
	}
	// Nobody queues for these, or single calls could not have what is free.
	for !a.try(n) {
		if a.makeRoom(1, false) {
			continue
		}
		wait()
		select {
		case <-time.After(slowTime / 50):
		case <-ctx.Done():
			a.streamed.Release(n)
			return loan{}, ctx.Err()
		}
	}
	return loan{bytes: n, streamed: true}, nil
}

// release gives back what a body had.
func (a *admission) release(l loan) {
	a.bodyBytes.Add(-l.bytes)
	if l.streamed {
		a.streamed.Release(l.bytes)
	}
	if l.spare {
		a.spare.Store(false)
	}
}

// inflate waits for a turn to inflate a message to n bytes, and returns what it
// has taken of a.inflating, which has to be released.
func (a *admission) inflate(ctx context.Context, n int64) (turn int64, err error) {
	turn = max(n, a.maxInflating/int64(a.workers))
	if err := a.inflating.Acquire(ctx, turn); err != nil {
		return 0, err
	}
	return turn, nil
}

// makeRoom ends the slowest of the bodies that are read, of those of streams or of
// all, and frees what it held. It is false when none is slow, and when so many bytes
// are needed that all who are slow could not give them. 0 bytes are for a place.
func (a *admission) makeRoom(bytes int64, streams bool) bool {
	r := &a.reading
	r.mu.Lock()
	var slowest *body
	free, limit := int64(0), time.Now().Add(-slowTime).UnixNano()
	pace := limit
	for b := range r.bodies {
		p := b.pace.Load()
		if p >= limit || (streams && !b.many) || (bytes > 0 && b.held.bytes == 0) {
			continue
		}
		free += b.held.bytes
		if p < pace {
			slowest, pace = b, p
		}
	}
	if slowest == nil || free < bytes {
		r.mu.Unlock()
		return false
	}
	delete(r.bodies, slowest)
	held, admitted, many := slowest.held, slowest.admitted, slowest.many
	slowest.held, slowest.admitted, slowest.evicted = loan{}, false, true
	r.mu.Unlock()

	a.release(held)
	if admitted {
		a.depart(many)
	}
	slowest.interrupt()
	return true
}

// waiter waits for a worker slot. granted is closed when it has one.
type waiter struct{ granted chan struct{} }

// full tells that all workers are busy, and that nobody can wait for one.
func (a *admission) full() bool { return a.busy >= a.workers && a.calls.Len() >= a.queue }

// enter waits for a worker slot and for memory bytes of memory. A single call is
// refused at once when the queue is full, or so long that ctx would end first; an
// image of a stream waits. When ctx ends first, enter returns ctx.Err(). With an
// error, nothing is held; otherwise the caller has to call leave once.
func (a *admission) enter(ctx context.Context, memory int64, streamed bool) (leave func(), err error) {
	if err := a.slot(ctx, streamed); err != nil {
		return nil, err
	}
	granted := time.Now()
	// Memory comes after the slot, so that what waits in the queue holds none,
	// and those who hold some always have the slot that lets them finish.
	if err := a.memory.Acquire(ctx, memory); err != nil {
		a.free(0)
		return nil, err
	}
	a.decoded.Add(memory)
	a.collect()
	return func() {
		a.garbage.Add(memory)
		a.decoded.Add(-memory)
		a.memory.Release(memory)
		a.free(time.Since(granted))
	}, nil
}

// collect collects garbage when the pictures that are done, and those that are
// worked on, might take more than they may together. The runtime's own pace leaves
// room for hundreds of small objects, not for a picture of half the memory that
// there is: by the time the collector runs, the next one is there as well.
func (a *admission) collect() {
	a.collecting.Lock()
	defer a.collecting.Unlock()
	garbage := a.garbage.Load()
	if a.decoded.Load()+garbage <= a.maxDecoded {
		return
	}
	runtime.GC()
	runtime.GC() // a sync.Pool keeps what it has for one more round
	a.garbage.Add(-garbage)
}

func (a *admission) slot(ctx context.Context, streamed bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.mu.Lock()
	if a.busy < a.workers {
		a.busy++
		a.mu.Unlock()
		return nil
	}
	line := &a.images
	if !streamed {
		line = &a.calls
		if a.full() {
			a.mu.Unlock()
			return a.overloaded()
		}
		if deadline, ok := ctx.Deadline(); ok {
			now := time.Now()
			if wait := a.recent.least(now, a.calls.Len(), a.workers); deadline.Before(now.Add(wait)) {
				a.mu.Unlock()
				return deadlineError(fmt.Sprintf("the deadline is in %v, and the queue takes %v at least: no work was done",
					deadline.Sub(now).Round(time.Millisecond), wait.Round(time.Millisecond)))
			}
		}
	}
	w := waiter{make(chan struct{})}
	place := line.PushBack(w)
	a.mu.Unlock()

	select {
	case <-w.granted:
	case <-ctx.Done():
		a.mu.Lock()
		select {
		case <-w.granted:
			a.mu.Unlock()
		default:
			line.Remove(place)
			a.mu.Unlock()
			return ctx.Err()
		}
	}
	// Both may have come at once; work for somebody who left would be lost.
	if err := ctx.Err(); err != nil {
		a.free(0)
		return err
	}
	return nil
}

// free hands a slot on to whoever is next. took is how long it was worked in, 0
// when it was not.
func (a *admission) free(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if took > 0 {
		a.recent.add(time.Now(), took)
	}
	line, other := &a.calls, &a.images
	if a.imagesTurn {
		line, other = other, line
	}
	if line.Len() == 0 {
		line = other
	}
	next := line.Front()
	if next == nil {
		a.busy--
		return
	}
	// Who was served now is second next time.
	a.imagesTurn = line == &a.calls
	close(line.Remove(next).(waiter).granted)
}

func (a *admission) overloaded() error {
	return fmt.Errorf("%w: %d images are being worked on and %d wait; try again later", errOverloaded, a.workers, a.queue)
}

// serviceTimes are how long the last images took in their slots.
type serviceTimes struct {
	samples [32]serviceTime
	next    int
}

type serviceTime struct {
	at   time.Time
	took time.Duration
}

const (
	// What was measured longer ago than this says nothing about now.
	serviceTimeAge = 10 * time.Second
	// Fewer than these say nothing at all.
	serviceTimeLeast = 8
)

func (s *serviceTimes) add(now time.Time, took time.Duration) {
	s.samples[s.next] = serviceTime{now, took}
	s.next = (s.next + 1) % len(s.samples)
}

// least estimates how long somebody waits at least who has so many ahead in the
// queue and finds all workers busy. It has to be low rather than right, for it
// refuses calls: it takes what a quarter of the last images undercut, and counts
// as nothing both what the workers are at and the call's own work. Without recent
// measurements it is 0.
func (s *serviceTimes) least(now time.Time, ahead, workers int) time.Duration {
	var took []time.Duration
	for _, t := range s.samples {
		if !t.at.IsZero() && now.Sub(t.at) < serviceTimeAge {
			took = append(took, t.took)
		}
	}
	if len(took) < serviceTimeLeast {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/4] * time.Duration(ahead) / time.Duration(workers)
}
