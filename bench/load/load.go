package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A plan says what is asked, how often, and for how long.
type plan struct {
	photos [][]byte
	rate   float64 // a second
	time   time.Duration
	// constant: at even distances, not at random ones.
	constant bool
	seed     uint64
	deadline time.Duration // of a call; 0: none
	// most is how many calls may be open.
	most int
}

// arrivals returns when calls come, from the beginning on, and which photograph
// each brings: the same ones for the same seed.
func (p plan) arrivals() (at []time.Duration, photo []int) {
	r := rand.New(rand.NewPCG(p.seed, 0)) //nolint:gosec // to be the same every time
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

// A tally is what became of the calls of a plan. Times are from when a call was
// due, so that what holds up the caller counts.
type tally struct {
	offered int
	good    []time.Duration
	refused map[string][]time.Duration // by reason
	failed  map[string]int             // by error
	// unsent are those for which too many were open.
	unsent int
	took   time.Duration // from the first arrival to the last answer
}

// A caller asks for the faces of a photograph.
type caller interface {
	// call returns a *refusal when the server gave a reason.
	call(ctx context.Context, photo int) error
	close()
}

// refusal is what the server says when it does not answer.
type refusal struct{ code, reason string }

func (r *refusal) Error() string { return r.reason + " (" + r.code + ")" }

// run carries out a plan. Calls are made when they are due, whether or not those
// before were answered.
func (p plan) run(ctx context.Context, c caller) (*tally, error) {
	t := &tally{refused: map[string][]time.Duration{}, failed: map[string]int{}}
	var (
		mu   sync.Mutex
		open = make(chan struct{}, p.most)
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

// capacity measures how many images a second are answered when callers do wait:
// as many of them as keep every worker busy, for that long.
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
			r := rand.New(rand.NewPCG(seed, uint64(i)+1)) //nolint:gosec // to be the same every time
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
		return 0, fmt.Errorf("its capacity cannot be measured: of %d callers that wait for their answers, one got %w", callers, failed)
	}
	return float64(good) / time.Since(began).Seconds(), nil
}

// A calm is how the server answers somebody who is alone.
type calm struct {
	caller caller
	photo  int
	usual  time.Duration // the longest of some answers
}

const inARow = 5

func newCalm(ctx context.Context, c caller, photo int) (*calm, error) {
	quiet := &calm{caller: c, photo: photo}
	for range 4 * inARow {
		began := time.Now()
		if err := c.call(ctx, photo); err != nil {
			return nil, err
		}
		quiet.usual = max(quiet.usual, time.Since(began))
	}
	return quiet, nil
}

// notBack is when returns gives up.
const notBack = time.Minute

// returns waits until some calls in a row are answered as fast as usual, with as
// much again for the machine's other work, and tells how long it took until the
// first of them was made: notBack at most.
func (q *calm) returns(ctx context.Context) (time.Duration, error) {
	began, first, n := time.Now(), time.Now(), 0
	for n < inARow && time.Since(began) < notBack {
		if n == 0 {
			first = time.Now()
		}
		asked := time.Now()
		err := q.caller.call(ctx, q.photo)
		if n++; err != nil || time.Since(asked) > 2*q.usual {
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
