// Package freelist keeps memory for its next use.
package freelist

import (
	"runtime"
	"slices"
	"sync"
	"time"
	"weak"
)

// keep is for how long a List keeps values that are not needed, at least. Under load, garbage
// collections can follow each other sooner than the values are needed again.
const keep = 2 * time.Second

// A List has values that are not in use. It is like a sync.Pool, but has one list for all of the
// runtime's processors, and gives what was returned last. So there are as many values as were in
// use at the same time, where a sync.Pool has some for each processor. Values that were not
// needed for some seconds are dropped by the next garbage collection, and Empty drops all at
// once. A List is safe for concurrent use, and must not be copied.
type List[T any] struct {
	// New makes a value if none is free.
	New func() T

	mu   sync.Mutex
	free []T
	// unused is how many were free all the time since a point in time.
	unused  int
	since   time.Time
	watched bool
	known   bool // to Empty
}

// Get returns a free value, or a new one.
func (l *List[T]) Get() T {
	l.mu.Lock()
	n := len(l.free) - 1
	if n < 0 {
		l.mu.Unlock()
		return l.New()
	}
	defer l.mu.Unlock()
	v := l.free[n]
	l.free = slices.Delete(l.free, n, n+1)
	l.unused = min(l.unused, n)
	return v
}

// Put returns a value.
func (l *List[T]) Put(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, v)
	if !l.known { // so Empty cannot wait for l's lock here
		l.known = true
		lists.add(weakList[T]{weak.Make(l)})
	}
	if !l.watched {
		l.watched = true
		l.watch()
	}
}

// A sentinel is collected by the next garbage collection. It has a pointer, because the runtime
// may keep tiny values without any.
type sentinel struct{ _ *byte }

// watch calls collected after the next garbage collection, unless the list is collected too.
func (l *List[T]) watch() {
	list := weak.Make(l)
	runtime.AddCleanup(new(sentinel), func(list weak.Pointer[List[T]]) {
		if l := list.Value(); l != nil {
			l.collected()
		}
	}, list)
}

// collected drops what was not needed for long enough.
func (l *List[T]) collected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.since) >= keep {
		l.free = slices.Delete(l.free, 0, l.unused)
		l.unused, l.since = len(l.free), time.Now()
	}
	if l.watched = len(l.free) > 0; l.watched {
		l.watch()
	}
}

// lists are those that Empty empties.
var lists registry

type registry struct {
	mu  sync.Mutex
	all []emptier
}

type emptier interface{ empty() (gone bool) }

func (r *registry) add(l emptier) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, l)
}

// weakList is a list, unless it has been collected.
type weakList[T any] struct{ weak.Pointer[List[T]] }

func (w weakList[T]) empty() (gone bool) {
	l := w.Value()
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.free)
	l.free, l.unused = l.free[:0], 0
	return false
}

// Empty drops the values of all lists that are not in use, so that the next garbage collection
// frees them.
func Empty() {
	lists.mu.Lock()
	defer lists.mu.Unlock()
	lists.all = slices.DeleteFunc(lists.all, emptier.empty)
}
