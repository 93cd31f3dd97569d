package admission

import (
	"container/list"
	"context"
	"sync"
)

// pool is an amount that is taken in parts and given back. Those that wait are served
// in the order of arrival, so that large parts are not starved by small ones.
type pool struct {
	limit int64

	mu      sync.Mutex
	used    int64
	waiters list.List // of poolWaiter
}

type poolWaiter struct {
	n     int64
	ready chan struct{} // closed when the waiter has its part
}

// acquire takes n, and waits for it until ctx ends. More than the limit is never there.
func (p *pool) acquire(ctx context.Context, n int64) error {
	p.mu.Lock()
	if p.waiters.Len() == 0 && p.used+n <= p.limit {
		p.used += n
		p.mu.Unlock()
		return nil
	}
	w := poolWaiter{n: n, ready: make(chan struct{})}
	place := p.waiters.PushBack(w)
	p.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.ready: // at the same moment
		p.used -= n
	default:
		p.waiters.Remove(place)
	}
	p.serve()
	return ctx.Err()
}

// release gives n back.
func (p *pool) release(n int64) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= n
	p.serve()
}

// serve gives those that wait what is there. The caller holds the lock.
func (p *pool) serve() {
	for next := p.waiters.Front(); next != nil; next = p.waiters.Front() {
		w := next.Value.(poolWaiter)
		if p.used+w.n > p.limit {
			return
		}
		p.used += w.n
		p.waiters.Remove(next)
		close(w.ready)
	}
}

// inUse returns how much is taken.
func (p *pool) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}
