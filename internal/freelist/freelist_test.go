package freelist

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestListReuses checks that a list gives what was returned last, and makes only what it lacks.
func TestListReuses(t *testing.T) {
	made := 0
	l := &List[*int]{New: func() *int { made++; return new(int) }}
	a, b := l.Get(), l.Get()
	l.Put(a)
	l.Put(b)
	if l.Get() != b || l.Get() != a {
		t.Error("not what was returned last")
	}
	if made != 2 {
		t.Errorf("%d were made, want 2", made)
	}
}

// TestListDrops checks that a garbage collection drops values which were not needed for long
// enough, and no others.
func TestListDrops(t *testing.T) {
	l := &List[*[1 << 10]int]{New: func() *[1 << 10]int { return new([1 << 10]int) }}
	first, second, third := l.Get(), l.Get(), l.Get()
	l.Put(third)
	l.Put(second)
	l.Put(first)
	left := func(want int) {
		t.Helper()
		l.mu.Lock()
		l.since = time.Now().Add(-keep)
		l.mu.Unlock()
		runtime.GC()
		n := -1
		for range 1000 {
			l.mu.Lock()
			n = len(l.free)
			l.mu.Unlock()
			if n == want {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("%d are left after a garbage collection, want %d", n, want)
	}
	collected := func(before int) {
		t.Helper()
		runtime.GC()
		for range 1000 {
			l.mu.Lock()
			unused := l.unused
			l.mu.Unlock()
			if unused == before {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("nobody noticed the garbage collection")
	}
	// All were in use since the start of the program.
	collected(3)
	a, b := l.Get(), l.Get()
	l.Put(b)
	l.Put(a)
	left(2)
	l.Put(l.Get())
	if l.collected(); len(l.free) != 2 {
		t.Errorf("%d are left after a garbage collection that came too soon, want 2", len(l.free))
	}
	left(1)
	left(0)
	if v := l.Get(); v == nil {
		t.Error("nothing from an empty list")
	}
}

func TestListIsConcurrent(*testing.T) {
	l := &List[*int]{New: func() *int { return new(int) }}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				v := l.Get()
				*v++ // the race detector reports a value that two have
				l.Put(v)
			}
		})
	}
	all.Wait()
}

// TestEmpty checks that Empty drops what is free, and nothing else.
func TestEmpty(t *testing.T) {
	made := 0
	l := &List[*int]{New: func() *int { made++; return new(int) }}
	for range 2 {
		a, b := l.Get(), l.Get()
		l.Put(a)
		Empty()
		l.Put(b)
		if l.Get() != b {
			t.Error("a value that was in use is gone")
		}
		l.Put(b)
		Empty()
	}
	if made != 4 {
		t.Errorf("%d were made, want 4: two in each turn", made)
	}
}
