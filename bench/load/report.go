package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mienproject/mien/bench/calls"
)

// A stage is the measurement at one rate.
type stage struct {
	rate    float64 // multiple of the capacity
	tally   *calls.Tally
	samples []sample
	// recovered is the time after the last call was due until a single call is answered
	// as fast as before.
	recovered time.Duration
}

// goodput returns the answered images per second.
func (s stage) goodput() float64 { return s.tally.Rate() }

// A report has everything that was measured.
type report struct {
	options  options
	capacity float64 // images per second
	stages   []stage
}

// markdown returns the report in Markdown.
func (r *report) markdown() string {
	var b strings.Builder
	o := r.options
	deadline := "callers that set no deadline"
	if o.Deadline > 0 {
		deadline = fmt.Sprintf("a deadline of %v", o.Deadline)
	}
	origin := "measured with callers that wait for their answers"
	if o.Capacity > 0 {
		origin = "as given"
	}
	fmt.Fprintf(&b, "By %s, with %s, %s arrivals for %v each. The capacity is %.1f images a second, %s.\n\n",
		o.Protocol, deadline, o.Arrivals, o.Duration, r.capacity, origin)

	b.WriteString("| load | offered/s | good/s | of the best | good, p50 / p99 | refused/s | refused, p50 / p99 | failed | back to normal after |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	best := 0.0
	for _, s := range r.stages {
		best = max(best, s.goodput())
	}
	for _, s := range r.stages {
		t, seconds := s.tally, s.tally.Took.Seconds()
		var refused []time.Duration
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(t.Refused)) {
			all := t.Refused[reason]
			refused = append(refused, all...)
			reasons = append(reasons, fmt.Sprintf("%.1f %s", float64(len(all))/seconds, reason))
		}
		fmt.Fprintf(&b, "| %v × | %.1f | %.1f | %s | %s | %s | %s | %d | %s |\n",
			s.rate, float64(t.Offered)/seconds, s.goodput(), share(s.goodput(), best), quantiles(t.Good),
			dash(strings.Join(reasons, ", ")), quantiles(refused), t.Failures(), back(s.recovered))
	}
	for _, s := range r.stages {
		for _, err := range slices.Sorted(maps.Keys(s.tally.Failed)) {
			fmt.Fprintf(&b, "\n%d calls at %v × failed: %s\n", s.tally.Failed[err], s.rate, err)
		}
		if s.tally.Unsent > 0 {
			fmt.Fprintf(&b, "\n%d calls at %v × were not made, because --max-open %d were open.\n", s.tally.Unsent, s.rate, o.MaxOpen)
		}
	}
	if slices.ContainsFunc(r.stages, func(s stage) bool { return len(s.samples) > 1 }) {
		b.WriteString("\n| load | CPU in each quarter, cores | resident memory at the start, ¼, ½, ¾ and end, MB | most |\n|---|---|---|---|\n")
		for _, s := range r.stages {
			if len(s.samples) > 1 {
				fmt.Fprintf(&b, "| %v × | %s | %s |\n", s.rate, cores(s.samples), memory(s.samples))
			}
		}
	}
	return b.String()
}

func back(d time.Duration) string {
	if d >= notBack {
		return "> " + notBack.String()
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func share(of, best float64) string {
	if best == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*of/best)
}

// quantiles sorts d and formats its median and 99th percentile.
func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "–"
	}
	p50, p99 := calls.Percentiles(d)
	return fmt.Sprintf("%.1f / %.1f ms", p50, p99)
}

// quarter returns the sample after n quarters of the time.
func quarter(s []sample, n int) sample { return s[n*(len(s)-1)/4] }

func cores(s []sample) string {
	var used []string
	for i := range 4 {
		from, to := quarter(s, i), quarter(s, i+1)
		used = append(used, fmt.Sprintf("%.1f", (to.cpu-from.cpu)/max(to.at.Sub(from.at).Seconds(), .001)))
	}
	return strings.Join(used, ", ")
}

func memory(s []sample) string {
	var at []string
	most := 0.0
	for i := range 5 {
		at = append(at, fmt.Sprintf("%.0f", quarter(s, i).memory/1e6))
	}
	for _, one := range s {
		most = max(most, one.memory)
	}
	return fmt.Sprintf("%s | %.0f", strings.Join(at, ", "), most/1e6)
}
