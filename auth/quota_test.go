package auth_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mienproject/mien/auth"
)

// retryAfter returns the time of a QuotaError, and 0 if err is nil.
func retryAfter(t *testing.T, err error) time.Duration {
	t.Helper()
	if err == nil {
		return 0
	}
	quota, ok := errors.AsType[*auth.QuotaError](err)
	if !ok || quota.RetryAfter <= 0 || quota.What == "" {
		t.Fatalf("not a quota error: %v", err)
	}
	return quota.RetryAfter
}

// TestRequestQuota checks that a caller may send a second's worth of requests at once, then as
// many as the quota says, and that others are not affected.
func TestRequestQuota(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		burst int
		next  time.Duration
	}{
		{10, 10, 100 * time.Millisecond},
		{2.5, 3, 400 * time.Millisecond},
		{1, 1, time.Second},
		{0.1, 1, 10 * time.Second},
	} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quotas := auth.NewQuotas(auth.Quota{Requests: c.rate})
				a := quotas.Account("a")
				begin := func() error {
					err := a.Begin()
					if err == nil {
						a.End()
					}
					return err
				}
				for i := range c.burst {
					if err := begin(); err != nil {
						t.Errorf("request %d: %v", i, err)
					}
				}
				if got := retryAfter(t, begin()); (got - c.next).Abs() > time.Microsecond {
					t.Errorf("retry after %v, want %v", got, c.next)
				}
				if err := quotas.Account("b").Begin(); err != nil {
					t.Errorf("another caller: %v", err)
				}
				if quotas.Account("a") != a {
					t.Error("another account for the same caller")
				}
				// What the error says is true, and refusals cost nothing.
				time.Sleep(c.next - time.Millisecond)
				if begin() == nil {
					t.Error("too early")
				}
				time.Sleep(2 * time.Millisecond)
				if err := begin(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Hour)
				n := 0
				for begin() == nil {
					n++
				}
				if n != c.burst {
					t.Errorf("after an hour %d at once, want %d", n, c.burst)
				}
			})
		})
	}
}

func TestConcurrencyQuota(t *testing.T) {
	a := auth.NewQuotas(auth.Quota{Concurrency: 2}).Account("a")
	for range 2 {
		if err := a.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	if retryAfter(t, a.Begin()) != time.Second {
		t.Error("a third request")
	}
	a.End()
	if err := a.Begin(); err != nil {
		t.Error(err)
	}
}

func TestPixelQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewQuotas(auth.Quota{Pixels: 1000, LargestItem: 5000}).Account("a")
		if err := a.Charge(5000); err != nil {
			t.Fatal(err)
		}
		if got := retryAfter(t, a.Charge(2000)); got != 2*time.Second {
			t.Errorf("retry after %v", got)
		}
		time.Sleep(2 * time.Second)
		if err := a.Charge(2000); err != nil {
			t.Error(err)
		}
		// An item above the largest, such as one that is searched several times, takes all.
		time.Sleep(time.Hour)
		if err := a.Charge(math.MaxInt64); err != nil {
			t.Error(err)
		}
		if got := retryAfter(t, a.Charge(1000)); got != time.Second {
			t.Errorf("retry after %v", got)
		}
	})
}

// TestWaitingQuota checks that items of streams wait for the quota, unless that would take
// longer than they may.
func TestWaitingQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewQuotas(auth.Quota{Requests: 10, Pixels: 1000, LargestItem: 1000}).Account("a")
		began := time.Now()
		for range 30 {
			if err := a.ChargeWaiting(t.Context(), 50); err != nil {
				t.Fatal(err)
			}
		}
		// Ten at once, and twenty more at ten a second.
		if took := time.Since(began); (took - 2*time.Second).Abs() > 10*time.Millisecond {
			t.Errorf("30 items took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		at := time.Now()
		if err := a.ChargeWaiting(ctx, 1000); retryAfter(t, err) < 50*time.Millisecond || time.Since(at) != 0 {
			t.Errorf("%v after %v", err, time.Since(at))
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		if err := a.ChargeWaiting(ctx, 1000); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestManyAccounts checks that idle accounts are forgotten and those in use are not, and that
// any number of callers takes bounded memory.
func TestManyAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quotas := auth.NewQuotas(auth.Quota{Requests: 1, Concurrency: 1})
		busy := quotas.Account("busy")
		if err := busy.Begin(); err != nil {
			t.Fatal(err)
		}
		for i := range 8000 {
			quotas.Account(fmt.Sprint("idle ", i))
		}
		idle, used := quotas.Account("idle 7999"), quotas.Account("used")
		time.Sleep(2 * time.Second)
		if err := used.Begin(); err != nil {
			t.Fatal(err)
		}
		used.End()
		for i := range 5000 { // enough for a sweep
			quotas.Account(fmt.Sprint("more ", i))
		}
		if quotas.Account("busy") != busy || quotas.Account("used") != used {
			t.Error("an account in use was forgotten")
		}
		if quotas.Account("idle 7999") == idle {
			t.Error("an idle account was kept")
		}
		shared := map[*auth.Account]int{}
		for i := range 70_000 {
			a := quotas.Account(fmt.Sprint("crowd ", i))
			_ = a.Begin() // so that it is in use
			shared[a]++
		}
		most := 0
		for _, n := range shared {
			most = max(most, n)
		}
		if len(shared) > 65_600 || most < 4000 {
			t.Errorf("%d accounts, and %d callers share one", len(shared), most)
		}
	})
}

// TestQuotaConcurrently is for the race detector.
func TestQuotaConcurrently(t *testing.T) {
	quotas := auth.NewQuotas(auth.Quota{Requests: 1e6, Concurrency: 8, Pixels: 1e9, LargestItem: 1})
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for range 200 {
				a := quotas.Account(fmt.Sprint(i % 3))
				if a.Begin() == nil {
					_ = a.Charge(10)
					_ = a.ChargeWaiting(t.Context(), 10)
					a.End()
				}
			}
		})
	}
	callers.Wait()
}
