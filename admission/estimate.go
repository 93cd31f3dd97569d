package admission

import (
	"slices"
	"time"
)

// estimate predicts how long the queue takes, from how long the last images took in
// their slots. The zero value is ready to use. It is not safe for concurrent use.
type estimate struct {
	samples [32]sample
	next    int
}

type sample struct {
	at   time.Time
	took time.Duration
}

const (
	// maxSampleAge is when a measurement says nothing about now any more.
	maxSampleAge = 10 * time.Second
	// minSamples is how many measurements there have to be for an estimate.
	minSamples = 8
)

// add adds a measurement.
func (e *estimate) add(now time.Time, took time.Duration) {
	e.samples[e.next] = sample{now, took}
	e.next = (e.next + 1) % len(e.samples)
}

// wait estimates how long somebody waits who has ahead others before them and finds
// all workers busy. It refuses calls, so that it has to be low rather than right: it
// takes the 25th percentile of the recent times, and counts neither the rest of what
// the workers are doing nor the call's own work. Without recent measurements it is 0.
func (e *estimate) wait(now time.Time, ahead, workers int) time.Duration {
	var took []time.Duration
	for _, s := range e.samples {
		if !s.at.IsZero() && now.Sub(s.at) < maxSampleAge {
			took = append(took, s.took)
		}
	}
	if len(took) < minSamples {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/4] * time.Duration(ahead) / time.Duration(workers)
}
