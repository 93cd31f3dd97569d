//go:build linux

package enginetest

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Clock returns the time since some moment.
type Clock func() time.Duration

// ThreadTime is the time that the calling thread has computed, which other processes do not
// add to. It does not count what a function hands to other threads.
func ThreadTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}

// Compare times two functions on one thread, and reports the median times of both, in
// milliseconds, and the median of the ratio of the first one's time to the second one's. An
// iteration of the benchmark calls both for each case from 0 to cases-1, in turns.
func Compare(b *testing.B, now Clock, cases int, first, second func(i int)) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	of := func(f func(int), i int) float64 {
		start := now()
		f(i)
		return (now() - start).Seconds() * 1e3
	}
	for i := range cases {
		first(i) // the first call allocates memory
		second(i)
	}
	var firsts, seconds, ratios []float64
	for turn := 0; b.Loop(); turn++ {
		var x, y float64
		for i := range cases {
			if (turn+i)%2 == 0 {
				x += of(first, i)
				y += of(second, i)
			} else {
				y += of(second, i)
				x += of(first, i)
			}
		}
		firsts, seconds, ratios = append(firsts, x), append(seconds, y), append(ratios, x/y)
	}
	b.ReportMetric(0, "ns/op") // it would be the sum of both
	b.ReportMetric(median(firsts), "ms")
	b.ReportMetric(median(seconds), "other-ms")
	b.ReportMetric(median(ratios), "ratio")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
