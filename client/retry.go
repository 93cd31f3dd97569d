package client

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// withRetries calls do, which calls a server, until it succeeds, fails with a
// code other than Unavailable and not for a quota, or there are no attempts, budget or time
// left. An attempt on a server that was not tried yet begins at once, and counts neither as
// one of the attempts nor against the budget: a refusal costs a server little, and one that is
// lost nothing. A prediction changes nothing on the server, so it may always be tried again.
// progressed, if not nil, reports whether the failed attempt got answers; then the
// attempts are counted anew. The error is an *Error.
func (c *Client) withRetries(ctx context.Context, do func(*endpoint) error, progressed func() bool) error {
	first := 0
	var tried []*endpoint
	next, _ := c.servers.pick(ctx, nil)
	interrupted, err := retry(ctx,
		func() error {
			next.calls.Add(1)
			defer next.calls.Add(-1)
			err := do(next)
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
				first, tried = attempt, nil
			}
			failure, _ := errors.AsType[*Error](err)
			if !canRetry(failure) {
				return 0, false
			}
			tried = append(tried, next)
			c.servers.failed(ctx, next, failure)
			lost := next
			var fresh bool
			next, fresh = c.servers.pick(ctx, tried)
			if fresh && lost.lost.Load() {
				if e := c.servers.alive(ctx, tried); e != nil {
					next = e
				}
			}
			if fresh && failure.Code == connect.CodeUnavailable && c.config.attempts > 1 {
				first++
				return 0, true
			}
			tried = nil
			return c.pauseAfter(ctx, attempt-first, failure)
		})
	if interrupted {
		return newLocalError(connect.CodeCanceled, fmt.Errorf("%w, while waiting to try again after %w", ctx.Err(), err))
	}
	return err
}

// canRetry reports whether another attempt can help.
func canRetry(failure *Error) bool {
	return (failure.Code == connect.CodeUnavailable || failure.Reason == ReasonQuota) && !isPermanent(failure)
}

// pauseAfter returns the pause after an attempt that failed, and whether there may be another
// one.
func (c *Client) pauseAfter(ctx context.Context, attempt int, failure *Error) (pause time.Duration, again bool) {
	if !c.budget.failed() || attempt+1 >= c.config.attempts {
		return 0, false
	}
	pause = failure.RetryAfter + backoff(attempt)
	// If the deadline would pass in the pause, return the error at once.
	deadline, ok := ctx.Deadline()
	return pause, !ok || time.Until(deadline) > pause
}

// call makes a unary call with retries. ctx gets the client's timeout if it has
// no deadline.
func call[T any](ctx context.Context, c *Client, do func(context.Context, *endpoint) (T, error)) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.config.timeout)
		defer cancel()
	}
	var result T
	err := c.withRetries(ctx, func(e *endpoint) error {
		attempt := ctx
		if c.config.attemptTimeout > 0 {
			var cancel context.CancelFunc
			attempt, cancel = context.WithTimeout(ctx, c.config.attemptTimeout)
			defer cancel()
		}
		res, err := do(attempt, e)
		if err != nil {
			return endedAttempt(ctx, attempt, err)
		}
		c.budget.succeeded()
		result = res
		return nil
	}, nil)
	return result, err
}

// endedAttempt makes an error Unavailable that the server has sent because the time of the
// attempt was over, while the call has more.
func endedAttempt(ctx, attempt context.Context, err error) error {
	deadline, _ := ctx.Deadline()
	end, _ := attempt.Deadline()
	// The server may be a moment ahead.
	if !connect.IsWireError(err) || connect.CodeOf(err) != connect.CodeDeadlineExceeded || !end.Before(deadline) || time.Until(end) > backoff(0) {
		return err
	}
	return connect.NewWireError(connect.CodeUnavailable, fmt.Errorf("there was no answer within the time for an attempt: %w", err))
}

// lostConnection gives a connection that broke, or could not be made in time,
// the code Unavailable. Connect reports a reset as if the client had canceled the
// call, the dialer's timeout as if the deadline of the call had passed, and the end of a
// connection or stream within an answer as a bad answer.
func lostConnection(ctx context.Context, err error) error {
	code := connect.CodeOf(err)
	if connect.IsWireError(err) || ctx.Err() != nil {
		return err
	}
	// Some proxies end the stream without trailers when the server behind them is killed.
	cut := code == connect.CodeUnknown && errors.Is(err, io.ErrUnexpectedEOF)
	if code != connect.CodeCanceled && code != connect.CodeDeadlineExceeded && code != connect.CodeInternal && !cut {
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
