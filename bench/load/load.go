package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A plan describes the calls of a measurement.
type plan struct {
	photos [][]byte
	rate   float64 // calls per second
	time   time.Duration
	// constant means equal distances between calls instead of random ones.
	constant bool
	seed     uint64
	deadline time.Duration // of each call; 0 for none
	// maxOpen is the maximum number of open calls.
	maxOpen int
}

// arrivals returns the times of the calls, from the beginning on, and the photograph
// for each. The same seed gives the same calls.
func (p plan) arrivals() (at []time.Duration, photo []int) {
	r := rand.New(rand.NewPCG(p.seed, 0)) //nolint:gosec // it must be reproducible
	for t := 0.0; ; {
		if p.constant {
			t += 1 / p.rate
		} else {
			t += r.ExpFloat64() / p.rate
		}
		if t >= p.time.Seconds() {
			return at, photo
		}
		at = append(at, time.Duration(t*float64(time.Second)))
		photo = append(photo, r.IntN(len(p.photos)))
	}
}

// A tally counts the outcomes of the calls of a plan. Times start when a call was due,
// so that they include delays of the caller.
type tally struct {
	offered int
	good    []time.Duration
	refused map[string][]time.Duration // by reason
	failed  map[string]int             // by error
	// unsent counts the calls that were not made because too many were open.
	unsent int
	took   time.Duration // from the first arrival to the last answer
}

// A caller finds the faces in a photograph.
type caller interface {
	// call returns a *refusal if the server gave a reason.
	call(ctx context.Context, photo int) error
	close()
}

// refusal is the error of a call that the server refused.
type refusal struct{ code, reason string }

func (r *refusal) Error() string { return r.reason + " (" + r.code + ")" }

// run makes the calls of a plan when they are due, whether or not earlier calls have
// been answered.
func (p plan) run(ctx context.Context, c caller) (*tally, error) {
	t := &tally{refused: map[string][]time.Duration{}, failed: map[string]int{}}
	var (
		mu   sync.Mutex
		open = make(chan struct{}, p.maxOpen)
		all  sync.WaitGroup
	)
	at, photo := p.arrivals()
	began := time.Now()
	for i := range at {
		due := began.Add(at[i])
		select {
		case <-ctx.Done():
			all.Wait()
			return nil, ctx.Err()
		case <-time.After(time.Until(due)):
		}
		t.offered++
		select {
		case open <- struct{}{}:
		default:
			t.unsent++
			continue
		}
		all.Go(func() {
			defer func() { <-open }()
			ctx, cancel := ctx, context.CancelFunc(func() {})
			if p.deadline > 0 {
				ctx, cancel = context.WithDeadline(ctx, due.Add(p.deadline))
			}
			defer cancel()
			err := c.call(ctx, photo[i])
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			var r *refusal
			switch {
			case err == nil:
				t.good = append(t.good, took)
			case errors.As(err, &r) && r.reason != "":
				t.refused[r.reason] = append(t.refused[r.reason], took)
			default:
				t.failed[shorten(err.Error())]++
			}
		})
	}
	all.Wait()
	t.took = time.Since(began)
	return t, nil
}

func shorten(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// capacity measures how many images per second are answered to callers that wait for
// their answers. There are enough of them to keep every worker busy.
func capacity(ctx context.Context, c caller, photos, callers int, seed uint64, d time.Duration) (float64, error) {
	var (
		mu     sync.Mutex
		good   int
		failed error
		all    sync.WaitGroup
	)
	began := time.Now()
	for i := range callers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)+1)) //nolint:gosec // it must be reproducible
			for time.Since(began) < d && ctx.Err() == nil {
				err := c.call(ctx, r.IntN(photos))
				mu.Lock()
				if err == nil {
					good++
				} else {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if failed != nil || good == 0 {
		return 0, fmt.Errorf("measuring the capacity: of %d callers that wait for their answers, one got %w", callers, failed)
	}
	return float64(good) / time.Since(began).Seconds(), nil
}

// A calm measures how fast the server answers when there is no load.
type calm struct {
	caller  caller
	photo   int
	longest time.Duration // the longest of several calls without load
}

const inARow = 5

func newCalm(ctx context.Context, c caller, photo int) (*calm, error) {
	quiet := &calm{caller: c, photo: photo}
	for range 4 * inARow {
		began := time.Now()
		if err := c.call(ctx, photo); err != nil {
			return nil, err
		}
		quiet.longest = max(quiet.longest, time.Since(began))
	}
	return quiet, nil
}

// notBack is the time after which returns gives up.
const notBack = time.Minute

// returns waits until several calls in a row are answered as fast as without load, with
// as much again for other work of the machine. It returns the time until the first of
// these calls was made, at most notBack.
func (q *calm) returns(ctx context.Context) (time.Duration, error) {
	began, first, n := time.Now(), time.Now(), 0
	for n < inARow && time.Since(began) < notBack {
		if n == 0 {
			first = time.Now()
		}
		asked := time.Now()
		err := q.caller.call(ctx, q.photo)
		if n++; err != nil || time.Since(asked) > 2*q.longest {
			n = 0
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	if n < inARow {
		return notBack, nil
	}
	return first.Sub(began), nil
}
