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
	// The pause before the second attempt is at most baseDelay. Each further pause
	// may be twice as long as the one before, up to maxDelay. What the server asks
	// for in Error.RetryAfter is added.
	baseDelay = 100 * time.Millisecond
	maxDelay  = 2 * time.Second
)

// retry calls do until it succeeds, until pauseAfter says that another attempt
// is of no use, or until ctx ends in a pause, which is interrupted. Attempts are
// counted from 0. The error is that of the last attempt.
func retry(ctx context.Context, do func() error, pauseAfter func(attempt int, err error) (pause time.Duration, again bool)) (interrupted bool, err error) {
	for attempt := 0; ; attempt++ {
		if err = do(); err == nil {
			return false, nil
		}
		pause, again := pauseAfter(attempt, err)
		if !again {
			return false, err
		}
		if !sleep(ctx, pause) {
			return true, err
		}
	}
}

// sleep pauses for d. It returns false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// withRetries calls do, which calls the server, until it succeeds, fails with a
// code other than Unavailable and not for a quota, or there are no attempts, budget or time left. A
// prediction changes nothing on the server, so it may always be tried again.
// progressed, if not nil, reports whether the failed attempt got answers; then the
// attempts are counted anew. The error is an *Error.
func (c *Client) withRetries(ctx context.Context, do func() error, progressed func() bool) error {
	first := 0
	interrupted, err := retry(ctx,
		func() error {
			err := do()
			if err == nil {
				return nil
			}
			if failure, ok := errors.AsType[*Error](err); ok {
				return failure
			}
			return newError(lostConnection(ctx, err))
		},
		func(attempt int, err error) (time.Duration, bool) {
			if progressed != nil && progressed() {
				first = attempt
			}
			return c.pauseAfter(ctx, attempt-first, err)
		})
	if interrupted {
		return newLocalError(connect.CodeCanceled, fmt.Errorf("%w, while waiting to try again after %w", ctx.Err(), err))
	}
	return err
}

// pauseAfter returns the pause after an attempt that ended with err, and whether
// there may be another attempt. err is an *Error.
func (c *Client) pauseAfter(ctx context.Context, attempt int, err error) (pause time.Duration, again bool) {
	failure, _ := errors.AsType[*Error](err)
	if (failure.Code != connect.CodeUnavailable && failure.Reason != ReasonQuota) || isPermanent(failure) {
		return 0, false
	}
	if !c.budget.failed() || attempt+1 >= c.attempts {
		return 0, false
	}
	if !connect.IsWireError(err) {
		// The server did not answer: other connections to it are probably lost too.
		c.CloseIdleConnections()
	}
	pause = failure.RetryAfter + backoff(attempt)
	// If the deadline would pass in the pause, return the error at once.
	deadline, ok := ctx.Deadline()
	return pause, !ok || time.Until(deadline) > pause
}

// call makes a unary call with retries. ctx gets the client's timeout if it has
// no deadline.
func call[T any](ctx context.Context, c *Client, do func(context.Context) (T, error)) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	var result T
	err := c.withRetries(ctx, func() error {
		res, err := do(ctx)
		if err != nil {
			return err
		}
		c.budget.succeeded()
		result = res
		return nil
	}, nil)
	return result, err
}

// lostConnection gives a connection that broke, or could not be made in time,
// the code Unavailable. Connect reports a reset as if the client had canceled the
// call, and the dialer's timeout as if the deadline of the call had passed.
func lostConnection(ctx context.Context, err error) error {
	code := connect.CodeOf(err)
	if connect.IsWireError(err) || ctx.Err() != nil || (code != connect.CodeCanceled && code != connect.CodeDeadlineExceeded) {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && code == connect.CodeDeadlineExceeded && time.Until(deadline) <= 0 {
		return err // the deadline of ctx has passed, and ctx ends in a moment
	}
	if e, ok := errors.AsType[*connect.Error](err); ok {
		err = e.Unwrap()
	}
	return connect.NewError(connect.CodeUnavailable, err)
}

// backoff returns the pause after an attempt, the first of which is 0. Half of
// it is random, so that clients that failed together do not come back together.
// The other half is fixed, because a process that is killed closes its
// connections a moment before it frees its port.
func backoff(attempt int) time.Duration {
	half := min(baseDelay<<min(attempt, 10), maxDelay) / 2
	return half + rand.N(half) //nolint:gosec // spreads load, protects nothing
}

// budget limits the retries of a client, so that they do not multiply the load of
// a server that is overloaded already. It works like gRPC's retry throttling
// (proposal A6): a failure takes a token, a success gives a tenth back, and there
// is no retry unless more than half of the tokens are left. It is safe for
// concurrent use.
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

// failed takes a token and reports whether another attempt may be made.
func (b *budget) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = max(b.tokens-1, 0)
	return b.tokens > maxTokens/2
}
