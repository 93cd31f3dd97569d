package pigo

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// onCores runs the test as on a machine with so many.
func onCores(t *testing.T, cores int) {
	t.Helper()
	old := runtime.GOMAXPROCS(cores)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// callers count as busy for as long as the test runs.
func callers(t *testing.T, n int64) {
	t.Helper()
	busy.Add(n)
	t.Cleanup(func() {
		if left := busy.Add(-n); left != 0 {
			t.Errorf("%d still count as busy", left)
		}
	})
}

func TestSpreadUsesIdleCores(t *testing.T) {
	onCores(t, 3)
	callers(t, 1)
	// All three have to be there at the same time.
	var together sync.WaitGroup
	together.Add(3)
	var calls [100]atomic.Int64
	err := spread(3, len(calls), func(i int) error {
		if calls[i].Add(1); i < 3 {
			together.Done()
			together.Wait()
		}
		if n := busy.Load(); n > 3 {
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

func TestSpreadLeavesBusyCores(t *testing.T) {
	onCores(t, 2)
	callers(t, 2)
	at := 0 // unguarded: the race detector would see a second goroutine
	err := spread(2, 1000, func(i int) error {
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
	callers(t, 1)
	calls := 0
	w := &work{n: 1000, cores: 2, do: func(int) error {
		if calls++; calls == 10 {
			busy.Add(1) // somebody else calls
		}
		return nil
	}}
	busy.Add(1) // the helper
	w.helpers.Add(1)
	w.help()
	if calls != 10 {
		t.Errorf("%d calls, want 10", calls)
	}
	busy.Add(-1)
}

func TestSpreadStopsAtErrors(t *testing.T) {
	callers(t, 1)
	broken := errors.New("broken")
	var calls atomic.Int64
	err := spread(runtime.GOMAXPROCS(0), 1_000_000, func(i int) error {
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

func TestSpreadOfNothing(t *testing.T) {
	if err := spread(2, 0, func(int) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
}

// TestSpreadPanics where its caller can recover, whichever goroutine it was.
func TestSpreadPanics(t *testing.T) {
	onCores(t, 2)
	callers(t, 1)
	for panics := range 2 {
		func() {
			defer func() {
				if p := recover(); p != "oh" {
					t.Errorf("recovered %v", p)
				}
			}()
			var both sync.WaitGroup
			both.Add(2)
			_ = spread(2, 2, func(i int) error {
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
