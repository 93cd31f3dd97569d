// Package cores lets the models of one process share its cores: a call that is alone
// runs on all of them, and calls beside each other run on one core each.
package cores

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A Gate counts the goroutines that compute, and lets more start while cores are free. All
// models of a process share one. It is safe for concurrent use.
type Gate struct {
	cores int64
	busy  atomic.Int64
}

// NewGate returns a gate to that many cores, at least 1.
func NewGate(cores int) *Gate { return &Gate{cores: int64(max(1, cores))} }

// Cores returns the number of cores.
func (g *Gate) Cores() int { return int(g.cores) }

// Idle returns the number of cores on which nothing computes.
func (g *Gate) Idle() int { return int(max(0, g.cores-g.busy.Load())) }

// Enter counts the calling goroutine, whether or not a core is free, until Leave.
func (g *Gate) Enter() { g.busy.Add(1) }

// Leave ends what Enter has begun.
func (g *Gate) Leave() { g.busy.Add(-1) }

// EnterAlone takes all cores for the calling goroutine, until LeaveAlone, and reports
// whether it has: it does so only while nothing else computes.
func (g *Gate) EnterAlone() bool { return g.busy.CompareAndSwap(0, g.cores) }

// LeaveAlone ends what EnterAlone has begun.
func (g *Gate) LeaveAlone() { g.busy.Add(-g.cores) }

// Do calls do with 0 to n-1, until a call fails, and returns its error. It does so on the
// calling goroutine, which has to have entered, and on helpers while cores are free. The
// helpers end when others enter, and after each call of do, which should not take much
// more than a millisecond, they let whatever else waits for a core go first. When a call
// panics, Do does.
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
			// The caller may recover.
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

// work is a number of calls that do not depend on each other. It is kept for the
// next ones, with its helper, so that they allocate nothing.
type work struct {
	gate   *Gate
	do     func(i int) error
	n      int64
	next   atomic.Int64 // call to make
	helper func()       // help

	helpers sync.WaitGroup
	// failed guards what the first call that failed left.
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
	defer w.gate.Leave()
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
