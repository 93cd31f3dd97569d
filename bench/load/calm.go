package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mienproject/mien/bench/calls"
)

// capacity measures how many images per second are answered to callers that wait for
// their answers. There are enough of them to keep every worker busy.
func capacity(ctx context.Context, d calls.Door, messages [][]byte, callers int, t time.Duration) (float64, error) {
	tally, err := calls.Loop{Messages: messages, Callers: callers, Time: t}.Run(ctx, d)
	if err != nil {
		return 0, err
	}
	if len(tally.Good) < tally.Offered {
		return 0, fmt.Errorf("measuring the capacity: %d callers that wait for their answers got %d of %d: %v, and refused: %d", callers, len(tally.Good), tally.Offered, tally.Failed, len(tally.Refusals()))
	}
	return tally.Rate(), nil
}

// A calm measures how fast the server answers when there is no load.
type calm struct {
	door    calls.Door
	message []byte
	longest time.Duration // the longest of several calls without load
}

const inARow = 5

func newCalm(ctx context.Context, d calls.Door, message []byte) (*calm, error) {
	quiet := &calm{door: d, message: message}
	for range 4 * inARow {
		began := time.Now()
		if _, err := d.Call(ctx, message); err != nil {
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
		_, err := q.door.Call(ctx, q.message)
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
