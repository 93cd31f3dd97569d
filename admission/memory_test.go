package admission

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemory: those that wait are served in the order of arrival, and garbage is
// collected when it and the work under way could exceed the limit.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(100, nil)
		collected := 0
		m.collect = func() { collected++ }
		heap := int64(1000)
		m.heap = func() int64 { return heap }
		acquire := func(n int64) func() {
			t.Helper()
			release, err := m.Acquire(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first := acquire(60)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Acquire(ctx, 60); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		order := make(chan int64, 2)
		for _, n := range []int64{50, 30} { // 30 are there, but 50 were first
			go func() {
				release := acquire(n)
				order <- n
				release()
			}()
			synctest.Wait()
		}
		if len(order) > 0 || m.InUse() != 60 {
			t.Errorf("%d overtook; %d are in use", len(order), m.InUse())
		}
		first()
		synctest.Wait()
		if a, b := <-order, <-order; a+b != 80 || m.InUse() != 0 {
			t.Errorf("%d, %d; %d in use", a, b, m.InUse())
		}
		if collected == 0 {
			t.Error("60 bytes of garbage and 80 of work are more than 100, and nothing was collected")
		}
		before := collected
		acquire(10)()
		acquire(1)()
		if collected > before+1 {
			t.Errorf("collected %d times for 11 bytes", collected-before)
		}
		// What the runtime has collected by itself does not count as garbage.
		before, heap = collected, 5
		for range 1000 {
			acquire(90)()
		}
		if collected > before {
			t.Errorf("collected %d times for what is not in the heap", collected-before)
		}
		heap = 11
		if acquire(90)(); collected != before+1 {
			t.Errorf("collected %d times for 90 bytes beside 11 in the heap", collected-before)
		}
	})
}
