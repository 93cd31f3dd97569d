// Package freelist keeps memory for its next use.
package freelist

import (
	"runtime"
	"slices"
	"sync"
	"weak"
)

// A List has values that are not in use. It is like a sync.Pool, but has one list for all of the
// runtime's processors, and gives what was returned last. So there are as many values as were in
// use at the same time, where a sync.Pool has some for each processor. Values that were not
// needed between two garbage collections are dropped. A List is safe for concurrent use, and
// must not be copied.
type List[T any] struct {
	// New makes a value if none is free.
	New func() T

	mu   sync.Mutex
	free []T
	// unused is how many were free all the time since the last garbage collection.
	unused  int
	watched bool
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

// collected drops what was not needed since the garbage collection before.
func (l *List[T]) collected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = slices.Delete(l.free, 0, l.unused)
	l.unused = len(l.free)
	if l.watched = len(l.free) > 0; l.watched {
		l.watch()
	}
}
