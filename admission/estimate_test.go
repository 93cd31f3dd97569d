package admission

import (
	"testing"
	"time"
)

// TestEstimate: the estimate is low rather than right, and old or few measurements give
// none.
func TestEstimate(t *testing.T) {
	now := time.Now()
	const ms = time.Millisecond
	for _, c := range []struct {
		name           string
		took           []time.Duration // one after the other, each at once
		age            time.Duration   // of the last one
		ahead, workers int
		want           time.Duration
	}{
		{"nothing measured", nil, 0, 10, 1, 0},
		{"too little measured", repeat(7, 100*ms), 0, 10, 1, 0},
		{"enough", repeat(8, 100*ms), 0, 10, 1, 1000 * ms},
		{"two workers", repeat(8, 100*ms), 0, 10, 2, 500 * ms},
		{"nobody ahead", repeat(8, 100*ms), 0, 0, 1, 0},
		{"long ago", repeat(8, 100*ms), 11 * time.Second, 10, 1, 0},
		{"mostly small images", append(repeat(12, 10*ms), repeat(20, 1000*ms)...), 0, 10, 1, 100 * ms},
		{"the last ones count", append(repeat(32, time.Hour), repeat(32, ms)...), 0, 10, 1, 10 * ms},
	} {
		var e estimate
		for _, took := range c.took {
			e.add(now.Add(-c.age), took)
		}
		if got := e.wait(now, c.ahead, c.workers); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func repeat(n int, d time.Duration) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}
