package cores

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// onCores runs the test with that many cores.
func onCores(t *testing.T, cores int) {
	t.Helper()
	old := runtime.GOMAXPROCS(cores)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// newGate returns a gate that some callers have entered, and checks at the end that
// nobody else has.
func newGate(t *testing.T, cores, callers int) *Gate {
	t.Helper()
	g := NewGate(cores)
	for range callers {
		g.Enter(t.Context())
	}
	t.Cleanup(func() {
		if left := g.busy.Load(); left != int64(callers) {
			t.Errorf("%d have entered, want %d", left, callers)
		}
	})
	return g
}

// TestEnterAlone checks that EnterAlone takes all cores or none.
func TestEnterAlone(t *testing.T) {
	g := newGate(t, 3, 0)
	if !g.EnterAlone(t.Context()) {
		t.Fatal("not alone in an empty gate")
	}
	if g.EnterAlone(t.Context()) {
		t.Error("two are alone")
	}
	g.Enter(t.Context())
	g.LeaveAlone(t.Context())
	if g.EnterAlone(t.Context()) {
		t.Error("alone beside another")
	}
	calls := 0 // not guarded: the race detector would report a second goroutine
	g.Leave(t.Context())
	if !g.EnterAlone(t.Context()) {
		t.Fatal("not alone once the other has left")
	}
	_ = g.Do(100, func(int) error { calls++; return nil })
	g.LeaveAlone(t.Context())
	if calls != 100 {
		t.Errorf("%d calls, want 100", calls)
	}
}

// TestWithin checks that the parts of what a goroutine does are counted once.
func TestWithin(t *testing.T) {
	g := newGate(t, 2, 0)
	g.Hold()
	within := g.Within(t.Context())
	g.Enter(within)
	if n := g.Idle(); n != 1 {
		t.Errorf("%d idle beside one goroutine, want 1", n)
	}
	g.Leave(within)
	if !g.EnterAlone(within) {
		t.Error("not alone")
	}
	if n := g.Idle(); n != 0 {
		t.Errorf("%d idle, want 0", n)
	}
	g.LeaveAlone(within)
	g.Hold() // another
	if g.EnterAlone(within) {
		t.Error("alone beside another")
	}
	g.Release()
	if other := NewGate(2); other.within(within) != 0 {
		t.Error("within another gate")
	}
	g.Release()
}

// TestIdle counts the cores that are left, also when more have entered than there are.
func TestIdle(t *testing.T) {
	g := NewGate(2)
	for _, want := range []int{2, 1, 0, 0} {
		if n := g.Idle(); n != want {
			t.Errorf("%d idle, want %d", n, want)
		}
		g.Enter(t.Context())
	}
}

func TestDoUsesIdleCores(t *testing.T) {
	onCores(t, 3)
	g := newGate(t, 3, 1)
	// All three calls must run at the same time.
	var together sync.WaitGroup
	together.Add(3)
	var calls [100]atomic.Int64
	err := g.Do(len(calls), func(i int) error {
		if calls[i].Add(1); i < 3 {
			together.Done()
			together.Wait()
		}
		if n := g.busy.Load(); n > 3 {
			t.Errorf("%d goroutines on three cores", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for i := range calls {
		if n := calls[i].Load(); n != 1 {
			t.Errorf("call %d was made %d times", i, n)
		}
	}
}

func TestDoLeavesBusyCores(t *testing.T) {
	onCores(t, 2)
	g := newGate(t, 2, 2)
	at := 0 // not guarded: the race detector would report a second goroutine
	err := g.Do(1000, func(i int) error {
		if i != at {
			t.Errorf("call %d, want %d", i, at)
		}
		at++
		return nil
	})
	if err != nil || at != 1000 {
		t.Errorf("%d calls, error %v", at, err)
	}
}

func TestHelpersGiveCoresBack(t *testing.T) {
	g := newGate(t, 2, 1)
	calls := 0
	w := &work{gate: g, n: 1000, do: func(int) error {
		if calls++; calls == 10 {
			g.Enter(t.Context()) // another call
		}
		return nil
	}}
	g.Enter(t.Context()) // the helper
	w.helpers.Add(1)
	w.help()
	if calls != 10 {
		t.Errorf("%d calls, want 10", calls)
	}
	g.Leave(t.Context())
}

func TestDoStopsAtErrors(t *testing.T) {
	g := newGate(t, runtime.GOMAXPROCS(0), 1)
	broken := errors.New("broken")
	var calls atomic.Int64
	err := g.Do(1_000_000, func(i int) error {
		calls.Add(1)
		if i >= 10 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if n := calls.Load(); n > 11+int64(runtime.GOMAXPROCS(0)) {
		t.Errorf("%d calls", n)
	}
}

func TestDoNothing(t *testing.T) {
	if err := newGate(t, 2, 1).Do(0, func(int) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
}

// TestDoPanics checks that a panic on any goroutine reaches the caller of Do, which can
// recover it.
func TestDoPanics(t *testing.T) {
	onCores(t, 2)
	g := newGate(t, 2, 1)
	for panics := range 2 {
		func() {
			defer func() {
				if p := recover(); p != "oh" {
					t.Errorf("recovered %v", p)
				}
			}()
			var both sync.WaitGroup
			both.Add(2)
			_ = g.Do(2, func(i int) error {
				both.Done()
				both.Wait()
				if i == panics {
					panic("oh")
				}
				return nil
			})
		}()
	}
}
