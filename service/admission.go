package service

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// admission bounds what is worked on at once. A call takes a place, then a
// worker slot, then memory, and gives back all three when its work has ended.
// Who waits is served in the order of arrival.
type admission struct {
	// places are the workers and the queue in front of them.
	places atomic.Int64
	slots  *semaphore.Weighted
	memory *semaphore.Weighted

	// decoded is what is taken of memory.
	decoded atomic.Int64

	workers, queue int
	draining       atomic.Bool
}

func newAdmission(c Config) *admission {
	return &admission{
		slots:   semaphore.NewWeighted(int64(c.Workers)),
		memory:  semaphore.NewWeighted(c.MaxInflightBytes),
		workers: c.Workers,
		queue:   c.Queue,
	}
}

func (a *admission) limit() int64 { return int64(a.workers + a.queue) }

func (a *admission) drain() { a.draining.Store(true) }

// refuses tells, without taking a place, whether a call that came now would be
// refused: cheap enough to ask before the request's body is read.
func (a *admission) refuses() error {
	if a.draining.Load() {
		return errDraining
	}
	if a.places.Load() >= a.limit() {
		return a.overloaded()
	}
	return nil
}

// enter waits for a worker slot and for memory bytes of memory. It refuses at
// once when the queue is full, and returns ctx.Err() when ctx ends first: then
// nothing is held. Otherwise the caller has to call leave once.
func (a *admission) enter(ctx context.Context, memory int64) (leave func(), err error) {
	if a.draining.Load() {
		return nil, errDraining
	}
	if a.places.Add(1) > a.limit() {
		a.places.Add(-1)
		return nil, a.overloaded()
	}
	if err := a.slots.Acquire(ctx, 1); err != nil {
		a.places.Add(-1)
		return nil, err
	}
	// Memory comes after the slot, so that what waits in the queue holds none,
	// and those who hold some always have the slot that lets them finish.
	if err := a.memory.Acquire(ctx, memory); err != nil {
		a.slots.Release(1)
		a.places.Add(-1)
		return nil, err
	}
	a.decoded.Add(memory)
	return func() {
		a.decoded.Add(-memory)
		a.memory.Release(memory)
		a.slots.Release(1)
		a.places.Add(-1)
	}, nil
}

func (a *admission) overloaded() error {
	return fmt.Errorf("%w: %d images are being worked on and %d wait; try again later", errOverloaded, a.workers, a.queue)
}
