package calls

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Plan describes calls that do not wait for each other's answers.
type Plan struct {
	Messages [][]byte // each call sends one of these, of the door
	Rate     float64  // calls per second
	Time     time.Duration
	// Constant means equal distances between calls instead of random ones.
	Constant bool
	Seed     uint64
	Deadline time.Duration // of each call; 0 for none
	// MaxOpen is the maximum number of open calls.
	MaxOpen int
}

// arrivals returns the times of the calls, from the beginning on, and the message for
// each. The same seed gives the same calls.
func (p Plan) arrivals() (at []time.Duration, message []int) {
	r := rand.New(rand.NewPCG(p.Seed, 0)) //nolint:gosec // it must be reproducible
	for t := 0.0; ; {
		if p.Constant {
			t += 1 / p.Rate
		} else {
			t += r.ExpFloat64() / p.Rate
		}
		if t >= p.Time.Seconds() {
			return at, message
		}
		at = append(at, time.Duration(t*float64(time.Second)))
		message = append(message, r.IntN(len(p.Messages)))
	}
}

// A Tally counts the outcomes of calls. Times start when a call was due, so that they
// include delays of the caller.
type Tally struct {
	Offered int
	Good    []time.Duration
	// Came has, for each good answer, the time from the first arrival on.
	Came    []time.Duration
	Refused map[string][]time.Duration // by reason
	Failed  map[string]int             // by error
	// Unsent counts the calls that were not made because too many were open.
	Unsent int
	Took   time.Duration // from the first arrival to the last answer
}

// add counts one call, which ended that long after the first arrival.
func (t *Tally) add(took, ended time.Duration, err error) {
	var r *RefusedError
	switch {
	case err == nil:
		t.Good = append(t.Good, took)
		t.Came = append(t.Came, ended)
	case errors.As(err, &r) && r.Reason != "":
		t.Refused[r.Reason] = append(t.Refused[r.Reason], took)
	default:
		t.Failed[shorten(err.Error())]++
	}
}

// Run makes the calls of a plan when they are due, whether or not earlier calls have
// been answered.
func (p Plan) Run(ctx context.Context, d Door) (*Tally, error) {
	t := newTally()
	var (
		mu   sync.Mutex
		open = make(chan struct{}, p.MaxOpen)
		all  sync.WaitGroup
	)
	at, message := p.arrivals()
	began := time.Now()
	for i := range at {
		due := began.Add(at[i])
		select {
		case <-ctx.Done():
			all.Wait()
			return nil, ctx.Err()
		case <-time.After(time.Until(due)):
		}
		t.Offered++
		select {
		case open <- struct{}{}:
		default:
			t.Unsent++
			continue
		}
		all.Go(func() {
			defer func() { <-open }()
			ctx, cancel := ctx, context.CancelFunc(func() {})
			if p.Deadline > 0 {
				ctx, cancel = context.WithDeadline(ctx, due.Add(p.Deadline))
			}
			defer cancel()
			_, err := d.Call(ctx, p.Messages[message[i]])
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			t.add(took, time.Since(began), err)
		})
	}
	all.Wait()
	t.Took = time.Since(began)
	return t, nil
}

func newTally() *Tally {
	return &Tally{Refused: map[string][]time.Duration{}, Failed: map[string]int{}}
}

func shorten(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// A Loop describes callers that each wait for their answer before the next call. They
// share a list of messages, and send it again from the start, each message as often as any
// other, until Time has passed.
type Loop struct {
	Messages [][]byte
	Callers  int
	Time     time.Duration
	// Check gets each answer and the index of its message, if it is not nil; the call
	// fails with its error.
	Check func(message int, a Answer) error
}

// Run makes the calls.
func (l Loop) Run(ctx context.Context, d Door) (*Tally, error) {
	t := newTally()
	var (
		mu  sync.Mutex
		all sync.WaitGroup
	)
	began := time.Now()
	// next returns the next message, or -1 after the last one.
	next := func() int {
		mu.Lock()
		defer mu.Unlock()
		i := t.Offered % len(l.Messages)
		if ctx.Err() != nil || (i == 0 && t.Offered > 0 && time.Since(began) >= l.Time) {
			return -1
		}
		t.Offered++
		return i
	}
	for range l.Callers {
		all.Go(func() {
			for i := next(); i >= 0; i = next() {
				asked := time.Now()
				a, err := d.Call(ctx, l.Messages[i])
				took := time.Since(asked)
				if err == nil && l.Check != nil {
					err = l.Check(i, a)
				}
				mu.Lock()
				t.add(took, time.Since(began), err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Took = time.Since(began)
	return t, ctx.Err()
}

// RateIn returns the good answers per second that came in a part of the run: without its
// beginning, when callers find nobody before them, and its end, when nobody comes any more, it is
// the rate that lasts.
func (t *Tally) RateIn(from, to time.Duration) float64 {
	n := 0
	for _, at := range t.Came {
		if at >= from && at < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

// Rate returns the good answers per second.
func (t *Tally) Rate() float64 { return float64(len(t.Good)) / t.Took.Seconds() }

// Failures returns the number of calls that were neither answered nor refused.
func (t *Tally) Failures() int {
	n := t.Unsent
	for _, count := range t.Failed {
		n += count
	}
	return n
}

// Refusals returns the times of all refusals, in no order.
func (t *Tally) Refusals() []time.Duration {
	return slices.Concat(slices.Collect(maps.Values(t.Refused))...)
}

// Percentiles sorts times and returns the median and the 99th percentile in milliseconds,
// or 0 of nothing.
func Percentiles(times []time.Duration) (p50, p99 float64) {
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	ms := func(q float64) float64 { return float64(quantile(times, q)) / float64(time.Millisecond) }
	return ms(.5), ms(.99)
}

// quantile returns the smallest value that at least a share q of sorted, which must not
// be empty, does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q * float64(len(sorted)))
	if float64(i) == q*float64(len(sorted)) {
		i--
	}
	return sorted[min(max(i, 0), len(sorted)-1)]
}
