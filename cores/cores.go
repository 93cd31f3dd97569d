// Package cores shares the cores of a process among its models: a call that computes
// alone uses all of them, and concurrent calls use one core each.
package cores

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// A Gate counts the goroutines that compute, and starts more while cores are free. All
// models of a process share one. It is safe for concurrent use.
type Gate struct {
	cores int64
	busy  atomic.Int64
}

// NewGate returns a gate for that many cores; fewer than 1 means 1.
func NewGate(cores int) *Gate { return &Gate{cores: int64(max(1, cores))} }

// Cores returns the number of cores.
func (g *Gate) Cores() int { return int(g.cores) }

// Idle returns the number of cores on which nothing computes.
func (g *Gate) Idle() int { return int(max(0, g.cores-g.busy.Load())) }

// Enter counts the calling goroutine until Leave, whether or not a core is free. It does
// nothing if ctx is of Within.
func (g *Gate) Enter(ctx context.Context) { g.busy.Add(1 - g.within(ctx)) }

// Leave undoes Enter with the same context.
func (g *Gate) Leave(ctx context.Context) { g.busy.Add(g.within(ctx) - 1) }

// EnterAlone takes all cores for the calling goroutine until LeaveAlone, and returns
// true, if nothing else computes. Otherwise it returns false.
func (g *Gate) EnterAlone(ctx context.Context) bool {
	return g.busy.CompareAndSwap(g.within(ctx), g.cores)
}

// LeaveAlone undoes EnterAlone with the same context.
func (g *Gate) LeaveAlone(ctx context.Context) { g.busy.Add(g.within(ctx) - g.cores) }

// Hold counts the calling goroutine until Release. Parts of its work that enter with a context
// of Within are not counted again.
func (g *Gate) Hold() { g.busy.Add(1) }

// Release undoes Hold.
func (g *Gate) Release() { g.busy.Add(-1) }

// Within returns a context for the parts of what a goroutine does between Hold and Release.
func (g *Gate) Within(ctx context.Context) context.Context {
	return context.WithValue(ctx, entry{g}, true)
}

// entry is the key of a context of Within.
type entry struct{ gate *Gate }

// within returns 1 if ctx is of Within, and 0 otherwise.
func (g *Gate) within(ctx context.Context) int64 {
	if ctx.Value(entry{g}) == nil {
		return 0
	}
	return 1
}

// Do calls do with each number from 0 to n-1, until a call fails, and returns its
// error. It uses the calling goroutine, which must have entered, and helper goroutines
// while cores are free. Helpers end when others enter. After each call of do, which
// should take about a millisecond at most, a helper lets other goroutines run first. If
// a call panics, Do panics.
func (g *Gate) Do(n int, do func(i int) error) (err error) {
	w := works.Get().(*work)
	w.gate, w.do, w.n = g, do, int64(n)
	w.next.Store(0)
	defer func() {
		w.helpers.Wait()
		var panicked any
		err, panicked = w.err, w.panicked
		w.gate, w.do, w.err, w.panicked, w.failed = nil, nil, nil, nil, sync.Once{}
		works.Put(w)
		if panicked != nil {
			// Panic here, where the caller can recover.
			panic(panicked)
		}
	}()
	for more := n > 0; more; more = w.one() {
		for now := g.busy.Load(); now < g.cores && w.next.Load()+1 < w.n; now = g.busy.Load() {
			if g.busy.CompareAndSwap(now, now+1) {
				w.helpers.Add(1)
				go w.helper()
			}
		}
	}
	return nil
}

// work is a set of independent calls. It is reused together with its helper, so that Do
// allocates nothing.
type work struct {
	gate   *Gate
	do     func(i int) error
	n      int64
	next   atomic.Int64 // the next call
	helper func()       // the method help

	helpers sync.WaitGroup
	// failed makes err and panicked those of the first failed call.
	failed   sync.Once
	err      error
	panicked any
}

var works = sync.Pool{New: func() any {
	w := new(work)
	w.helper = w.help
	return w
}}

// one makes the next call, and reports whether there may be more.
func (w *work) one() bool {
	i := w.next.Add(1) - 1
	if i >= w.n {
		return false
	}
	err := w.do(int(i))
	if err != nil {
		w.next.Store(w.n)
		w.failed.Do(func() { w.err = err })
	}
	return err == nil
}

func (w *work) help() {
	defer w.helpers.Done()
	defer w.gate.Release()
	defer func() {
		if p := recover(); p != nil {
			w.next.Store(w.n)
			w.failed.Do(func() { w.panicked = p })
		}
	}()
	for w.gate.busy.Load() <= w.gate.cores && w.one() {
		runtime.Gosched()
	}
}
