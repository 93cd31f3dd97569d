package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"
)

const (
	// The pause before the second attempt is up to baseDelay, before each further
	// one up to twice as long as before the last, and never above maxDelay; plus
	// what the server asks for.
	baseDelay = 100 * time.Millisecond
	maxDelay  = 2 * time.Second
)

// call tries do until it succeeds, fails with anything but Unavailable, or there
// are no attempts, budget or time left. Asking for faces changes nothing on the
// server, so it may be tried again whatever became of the last attempt.
func call[T any](ctx context.Context, c *Client, do func(context.Context) (T, error)) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	var none T
	for attempt := 0; ; attempt++ {
		res, err := do(ctx)
		if err == nil {
			c.budget.succeeded()
			return res, nil
		}
		if err := c.again(ctx, attempt, err); err != nil {
			return none, err
		}
	}
}

// again returns nil when it is time for another attempt after one that ended with
// err, the first of which is 0, and otherwise the *Error to give up with.
func (c *Client) again(ctx context.Context, attempt int, err error) error {
	failure, ok := errors.AsType[*Error](err)
	if !ok {
		failure = newError(lost(ctx, err))
	}
	if failure.Code != connect.CodeUnavailable || permanent(failure) {
		return failure
	}
	if !c.budget.failed() || attempt+1 >= c.attempts {
		return failure
	}
	if !connect.IsWireError(err) {
		// What else is connected to a server that went is lost as well.
		c.CloseIdleConnections()
	}
	pause := failure.RetryAfter + backoff(attempt)
	// The error is worth more now than a deadline that passes later.
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return failure
	}
	if err := wait(ctx, pause); err != nil {
		return refused(connect.CodeCanceled, fmt.Errorf("%w, while waiting to try again after %w", err, failure))
	}
	return nil
}

// lost gives a connection that broke, or could not be made in time, the code
// Unavailable. Connect takes a reset for the caller's own leaving, and the
// dialler's time-out for the deadline of the call.
func lost(ctx context.Context, err error) error {
	code := connect.CodeOf(err)
	if connect.IsWireError(err) || ctx.Err() != nil || (code != connect.CodeCanceled && code != connect.CodeDeadlineExceeded) {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && code == connect.CodeDeadlineExceeded && time.Until(deadline) <= 0 {
		return err // ctx is about to end as well
	}
	if e, ok := errors.AsType[*connect.Error](err); ok {
		err = e.Unwrap()
	}
	return connect.NewError(connect.CodeUnavailable, err)
}

// backoff returns the pause after an attempt, the first of which is 0. Half of it
// is random, so that callers who were refused together do not come back
// together; the other half is there because a process that is killed lets go of
// its connections a moment before its port.
func backoff(attempt int) time.Duration {
	half := min(baseDelay<<min(attempt, 10), maxDelay) / 2
	return half + rand.N(half) //nolint:gosec // spreads load, guards nothing
}

// wait returns early, with ctx's error, when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// budget keeps the calls of a client from multiplying the load of a server that
// has too much of it already, as gRPC's retry throttling does (proposal A6): a
// failure costs a token, a success gives a tenth back, and while not more than
// half of the tokens are there nothing is tried again.
type budget struct {
	mu     sync.Mutex
	tokens float64
}

const (
	maxTokens    = 10
	successToken = 0.1
)

func newBudget() budget { return budget{tokens: maxTokens} }

func (b *budget) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+successToken, maxTokens)
}

// failed tells whether another attempt may be made.
func (b *budget) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = max(b.tokens-1, 0)
	return b.tokens > maxTokens/2
}
