package service

import (
	"container/list"
	"context"
	"fmt"
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
	// requests is how many are in flight; bodies is for the bytes of their bodies,
	// bodyBytes of which are taken.
	requests    atomic.Int64
	maxRequests int64
	bodies      *semaphore.Weighted
	bodyBytes   atomic.Int64
	// inflating is the part of bodies that compressed ones may take, which count
	// as more than they are, or a few bombs would keep all others out.
	inflating *semaphore.Weighted
	// memory is for decoding and looking, decoded of which is taken.
	memory  *semaphore.Weighted
	decoded atomic.Int64
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
	return &admission{
		maxRequests: int64(c.MaxRequests),
		bodies:      semaphore.NewWeighted(c.MaxBodyBytes),
		inflating:   semaphore.NewWeighted(max(c.MaxBodyBytes/2, c.largestMessage())),
		memory:      semaphore.NewWeighted(c.MaxInflightBytes),
		drained:     make(chan struct{}),
		workers:     c.Workers,
		queue:       c.Queue,
	}
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

// arrive counts a request in, which has to depart once, or tells why it is
// refused: cheap enough to ask before the request's body is read. Single calls
// are refused when there would be no place for them in the queue.
func (a *admission) arrive(single bool) error {
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
	// Streams may stay for long: half of the requests are for those that do not.
	if open := a.streams.Load(); !single && open > 0 && open >= a.maxRequests/2 {
		return fmt.Errorf("%w: %d streams are open; try again later", errOverloaded, open)
	}
	if a.requests.Add(1) > a.maxRequests {
		a.requests.Add(-1)
		return fmt.Errorf("%w: %d requests are in flight; try again later", errOverloaded, a.maxRequests)
	}
	return nil
}

func (a *admission) depart() { a.requests.Add(-1) }

// reserve takes n bytes for a request's body, or refuses at once.
func (a *admission) reserve(n int64) error {
	if !a.bodies.TryAcquire(n) {
		return fmt.Errorf("%w: the requests in flight have %d bytes, and there is no room for %d more; try again later", errOverloaded, a.bodyBytes.Load(), n)
	}
	a.bodyBytes.Add(n)
	return nil
}

// inflate takes of the part for compressed bodies.
func (a *admission) inflate(n int64) error {
	if !a.inflating.TryAcquire(n) {
		return fmt.Errorf("%w: too many compressed requests are in flight; try again later, or without compression", errOverloaded)
	}
	return nil
}

// await takes n bytes for a request's body when they come free.
func (a *admission) await(ctx context.Context, n int64) error {
	if err := a.bodies.Acquire(ctx, n); err != nil {
		return err
	}
	a.bodyBytes.Add(n)
	return nil
}

// release gives back n bytes of a request's body.
func (a *admission) release(n int64) {
	a.bodyBytes.Add(-n)
	a.bodies.Release(n)
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
	return func() {
		a.decoded.Add(-memory)
		a.memory.Release(memory)
		a.free(time.Since(granted))
	}, nil
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
