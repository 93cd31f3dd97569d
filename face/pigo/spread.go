package pigo

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// busy counts the goroutines of this process that are in Detect, or help one that
// is.
var busy atomic.Int64

// work is a number of calls that do not depend on each other. It is kept for the
// next ones, with its helper, so that they allocate nothing.
type work struct {
	do     func(i int) error
	n      int64
	next   atomic.Int64 // call to make
	cores  int64
	helper func() // help

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

// spread calls do with 0 to n-1, until a call fails, and returns its error. It does
// so on this goroutine, which busy has counted, and on others while busy leaves
// some of the cores free. These helpers go when others call Detect, and after
// each call of do, which should not take much more than a millisecond, they let
// whatever else waits for a core go first.
func spread(cores, n int, do func(i int) error) (err error) {
	w := works.Get().(*work)
	w.do, w.n, w.cores = do, int64(n), int64(cores)
	w.next.Store(0)
	defer func() {
		w.helpers.Wait()
		var panicked any
		err, panicked = w.err, w.panicked
		w.do, w.err, w.panicked, w.failed = nil, nil, nil, sync.Once{}
		works.Put(w)
		if panicked != nil {
			// It is the caller's, who may know what to do.
			panic(panicked)
		}
	}()
	for more := n > 0; more; more = w.one() {
		for now := busy.Load(); now < w.cores && w.next.Load()+1 < w.n; now = busy.Load() {
			if busy.CompareAndSwap(now, now+1) {
				w.helpers.Add(1)
				go w.helper()
			}
		}
	}
	return nil
}

// one makes the next call, and tells whether there may be more.
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
	defer busy.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			w.next.Store(w.n)
			w.failed.Do(func() { w.panicked = p })
		}
	}()
	for busy.Load() <= w.cores && w.one() {
		runtime.Gosched()
	}
}
