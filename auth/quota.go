package auth

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Quota is what each caller may use. 0 means no limit.
type Quota struct {
	// Requests is the number of requests in a second. Each item of a stream or batch counts
	// as one too. A caller that was idle may send as many at once, and at least one.
	Requests float64
	// Concurrency is the number of requests at the same time.
	Concurrency int
	// Pixels is the number of pixels in a second, and LargestItem that of the largest item. A
	// caller that was idle may send the larger of the two at once.
	Pixels, LargestItem int64
}

// IsLimited reports whether q limits anything.
func (q Quota) IsLimited() bool { return q.Requests > 0 || q.Concurrency > 0 || q.Pixels > 0 }

// QuotaError says that a caller has used up its quota.
type QuotaError struct {
	// What is the exceeded limit, in words.
	What string
	// RetryAfter is the time after which the same request fits.
	RetryAfter time.Duration
}

// Error implements error.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("your quota is used up: %s; try again in %v", e.What, max(e.RetryAfter, time.Millisecond).Round(time.Millisecond))
}

const (
	// sweepAt is the number of accounts from which those are forgotten that are as good as
	// new, at most once in sweepEvery.
	sweepAt    = 4096
	sweepEvery = time.Second
	// maxAccounts bounds the memory, about 500 bytes for each. Callers beyond it share one
	// account.
	maxAccounts = 65536
)

// Quotas has the accounts of all callers. It is safe for concurrent use.
type Quotas struct {
	quota Quota

	mu       sync.Mutex
	accounts map[string]*Account
	shared   *Account
	swept    time.Time
}

// NewQuotas returns accounts that all have the same quota.
func NewQuotas(q Quota) *Quotas {
	quotas := &Quotas{quota: q, accounts: map[string]*Account{}}
	quotas.shared = quotas.open()
	return quotas
}

// Account returns the account of a caller.
func (q *Quotas) Account(caller string) *Account {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a := q.accounts[caller]; a != nil {
		return a
	}
	if now := time.Now(); len(q.accounts) >= sweepAt && now.Sub(q.swept) >= sweepEvery {
		q.swept = now
		for name, a := range q.accounts {
			if a.isNew() {
				delete(q.accounts, name)
			}
		}
	}
	if len(q.accounts) >= maxAccounts {
		return q.shared
	}
	a := q.open()
	q.accounts[caller] = a
	return a
}

func (q *Quotas) open() *Account {
	a := &Account{quota: q.quota}
	if r := q.quota.Requests; r > 0 {
		a.requests = rate.NewLimiter(rate.Limit(r), max(1, int(min(math.Ceil(r), math.MaxInt32))))
	}
	if p := q.quota.Pixels; p > 0 {
		a.pixels = rate.NewLimiter(rate.Limit(p), int(min(max(p, q.quota.LargestItem), math.MaxInt64>>1)))
	}
	return a
}

// An Account is what one caller has used. It is safe for concurrent use.
type Account struct {
	quota            Quota
	requests, pixels *rate.Limiter // nil if there is no limit

	mu      sync.Mutex
	running int
}

// isNew reports whether forgetting the account changes nothing for its caller.
func (a *Account) isNew() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	isFull := func(l *rate.Limiter) bool { return l == nil || l.Tokens() >= float64(l.Burst()) }
	return a.running == 0 && isFull(a.requests) && isFull(a.pixels)
}

// Begin begins a request, or returns a *QuotaError. After a nil error, the caller must call
// End.
func (a *Account) Begin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit := a.quota.Concurrency; limit > 0 && a.running >= limit {
		return &QuotaError{What: fmt.Sprintf("%d requests at the same time", limit), RetryAfter: time.Second}
	}
	if err := take(a.requests, 1, a.whatRequests()); err != nil {
		return err
	}
	a.running++
	return nil
}

// End ends a request.
func (a *Account) End() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
}

// Charge takes the pixels of an item from the account, or returns a *QuotaError.
func (a *Account) Charge(pixels int64) error {
	return take(a.pixels, pixels, a.whatPixels())
}

// ChargeWaiting is Charge for an item of a stream or batch, which counts as a request too. It
// waits until the quota allows the item. It returns a *QuotaError at once if the deadline of
// ctx is earlier, and the error of ctx if that ends.
func (a *Account) ChargeWaiting(ctx context.Context, pixels int64) error {
	if err := wait(ctx, a.requests, 1, a.whatRequests()); err != nil {
		return err
	}
	return wait(ctx, a.pixels, pixels, a.whatPixels())
}

func (a *Account) whatRequests() string { return fmt.Sprintf("%g requests a second", a.quota.Requests) }
func (a *Account) whatPixels() string   { return fmt.Sprintf("%d pixels a second", a.quota.Pixels) }

// reserve takes n tokens, and returns when they are there. What never fits counts as the
// maximum.
func reserve(l *rate.Limiter, n int64, now time.Time) *rate.Reservation {
	return l.ReserveN(now, int(min(n, int64(l.Burst()))))
}

// take takes n tokens if they are there.
func take(l *rate.Limiter, n int64, what string) error {
	if l == nil {
		return nil
	}
	now := time.Now()
	r := reserve(l, n, now)
	if delay := r.DelayFrom(now); delay > 0 {
		r.CancelAt(now)
		return &QuotaError{What: what, RetryAfter: delay}
	}
	return nil
}

// wait takes n tokens, and waits until they are there.
func wait(ctx context.Context, l *rate.Limiter, n int64, what string) error {
	if l == nil {
		return nil
	}
	now := time.Now()
	r := reserve(l, n, now)
	delay := r.DelayFrom(now)
	if delay <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(now.Add(delay)) {
		r.CancelAt(now)
		return &QuotaError{What: what, RetryAfter: delay}
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		r.Cancel()
		return ctx.Err()
	}
}

type accountKey struct{}

// WithAccount returns a context that carries the account of the caller of a request.
func WithAccount(ctx context.Context, a *Account) context.Context {
	return context.WithValue(ctx, accountKey{}, a)
}

// AccountOf returns the account that ctx carries, or nil.
func AccountOf(ctx context.Context) *Account {
	a, _ := ctx.Value(accountKey{}).(*Account)
	return a
}
