package main

import (
	_ "embed" // the report's text
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/face/facetest"
)

//go:embed report.md
var reportText string

// A reporter formats results.
type reporter struct {
	*results
	rounds int
}

// report returns the results in Markdown.
func report(r *results) (string, error) {
	rep := &reporter{results: r}
	for _, s := range r.Starts {
		rep.rounds = max(rep.rounds, s.Round+1)
	}
	text, err := template.New("report").Funcs(template.FuncMap{
		"number": number, "sees": rep.sees, "accuracy": rep.accuracy, "closed": rep.closed,
		"open": rep.open, "memory": rep.memory, "ratios": rep.ratios,
	}).Parse(reportText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = text.Execute(&b, map[string]any{
		"Machine": r.Machine, "Rounds": rep.rounds, "CountedFrom": facetest.CountedFrom, "Own": rep.ownRefusals(),
	})
	return b.String(), err
}

// measured returns the peers that were measured.
func (r *reporter) measured() []peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool {
		_, judged := r.Accuracy[p.name]
		return !judged && !slices.ContainsFunc(r.Starts, func(s start) bool { return s.Peer == p.name })
	})
}

// A series has a value for each round.
type series []float64

func (s series) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread formats the median, and the lowest and the highest value.
func (s series) spread() string {
	if len(s) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median()), number(slices.Min(s)), number(slices.Max(s)))
}

// over returns the ratios of values of the same round.
func (s series) over(other series) series {
	var ratios series
	for i := range min(len(s), len(other)) {
		ratios = append(ratios, s[i]/other[i])
	}
	return ratios
}

// each returns a value of those runs of a peer that are wanted, round by round.
func (r *reporter) each(peer string, want func(run) bool, value func(run) float64) series {
	var s series
	for _, one := range r.Runs {
		if one.Peer == peer && want(one) {
			s = append(s, value(one))
		}
	}
	return s
}

// loop wants the runs of a door at a level. The first door of a peer is the empty one.
func loop(kind, door string, level int) func(run) bool {
	return func(r run) bool { return r.Kind == kind && r.Level == level && r.Door == door }
}

// levels returns the levels of a kind of runs.
func (r *reporter) levels(kind string) []int {
	var all []int
	for _, one := range r.Runs {
		if one.Kind == kind && !slices.Contains(all, one.Level) {
			all = append(all, one.Level)
		}
	}
	slices.Sort(all)
	return all
}

// highest returns for each round the highest value of the runs that are wanted.
func (r *reporter) highest(peer string, want func(run) bool, value func(run) float64) series {
	var s series
	for round := range r.rounds {
		of := r.each(peer, func(one run) bool { return one.Round == round && want(one) }, value)
		if len(of) > 0 {
			s = append(s, slices.Max(of))
		}
	}
	return s
}

// best returns the highest rate of each round, through the first door.
func (r *reporter) best(p peer) series {
	return r.highest(p.name, func(one run) bool { return one.Kind == closedLoop && one.Door == p.doors[0].name }, run.rate)
}

func (r *reporter) sees() string {
	rows := [][]string{{"server", "what it looks at", "from confidence"}}
	for _, p := range r.measured() {
		rows = append(rows, []string{p.title, p.sees, strings.TrimPrefix(p.confidence, "0")})
		if p.confidence == "0" {
			rows[len(rows)-1][2] = "0"
		}
	}
	return page.Table(rows)
}

// cpu returns the milliseconds of processor time for an image, with as many callers as cores.
func (r *reporter) cpu(p peer) series {
	level := r.Machine.Cores
	if levels := r.levels(closedLoop); !slices.Contains(levels, level) && len(levels) > 0 {
		level = levels[0]
	}
	return r.each(p.name, loop(closedLoop, p.doors[0].name, level), run.processorTime)
}

func (r *reporter) accuracy() string {
	rows := [][]string{{"server", "AP, WIDER originals", "AP at 416 px", "recall", "false", "faces", "processor time, ms an image", "best images/s"}}
	for _, p := range r.measured() {
		row := []string{p.title, "–", "–", "–", "–"}
		if a, ok := r.Accuracy[p.name]; ok {
			row = []string{p.title, three(a.Originals), three(a.Small), page.Decimals(a.Recall, 2), page.Decimals(a.FalseFaces, 2)}
		}
		faces := "–"
		for _, s := range r.Starts {
			if s.Peer == p.name {
				faces = strconv.Itoa(s.Faces)
			}
		}
		rows = append(rows, append(row, faces, r.cpu(p).spread(), r.best(p).spread()))
	}
	return page.Table(rows)
}

func three(values [3]float64) string {
	var all []string
	for _, v := range values {
		all = append(all, page.Decimals(v, 3))
	}
	return strings.Join(all, " ")
}

func (r *reporter) closed() string {
	levels := r.levels(closedLoop)
	head := []string{"server", "by"}
	for _, n := range levels {
		head = append(head, fmt.Sprintf("images/s, %d callers", n))
	}
	for _, n := range levels {
		head = append(head, fmt.Sprintf("ms, %d callers", n))
	}
	rows := [][]string{append(head, "errors")}
	for _, p := range r.measured() {
		for _, d := range p.doors {
			row := []string{p.title, d.name}
			for _, n := range levels {
				row = append(row, r.each(p.name, loop(closedLoop, d.name, n), run.rate).spread())
			}
			for _, n := range levels {
				row = append(row, r.times(p, loop(closedLoop, d.name, n)))
			}
			failed, offered := r.sum(p, func(one run) bool { return one.Kind == closedLoop && one.Door == d.name })
			rows = append(rows, append(row, fmt.Sprintf("%d of %d", failed, offered)))
		}
	}
	return page.Table(rows)
}

// times formats the medians of p50 and p99.
func (r *reporter) times(p peer, want func(run) bool) string {
	p50 := r.each(p.name, want, func(one run) float64 { return one.P50 })
	p99 := r.each(p.name, want, func(one run) float64 { return one.P99 })
	return pair(p50, p99)
}

func pair(p50, p99 series) string {
	if len(p50) == 0 || p99.median() == 0 {
		return "–"
	}
	return number(p50.median()) + " / " + number(p99.median())
}

// sum adds up the calls that failed or were refused, and those that were made.
func (r *reporter) sum(p peer, want func(run) bool) (failed, offered int) {
	for _, one := range r.Runs {
		if one.Peer == p.name && want(one) {
			failed, offered = failed+one.Offered-one.Good, offered+one.Offered
		}
	}
	return failed, offered
}

// ofBest is the rate of good answers in an open loop, for each round, as the share of the rate
// with callers that wait: as many of them as the peer answered best, by the medians of all
// rounds.
func (r *reporter) ofBest(p peer, multiple int) series {
	var best series // of each round
	for _, n := range r.levels(closedLoop) {
		rates := r.each(p.name, loop(closedLoop, p.doors[0].name, n), run.rate)
		if len(best) == 0 || rates.median() > best.median() {
			best = rates
		}
	}
	lasting := r.each(p.name, loop(openLoop, p.doors[0].name, multiple), func(one run) float64 { return one.Lasting })
	var shares series
	for i := range min(len(lasting), len(best)) {
		shares = append(shares, lasting[i]/best[i])
	}
	return shares
}

func (r *reporter) open() string {
	rows := [][]string{{"server", "load", "offered/s", "good/s", "of its best", "processor time, ms an image", "good, ms", "refused", "refused, ms", "left", "memory, MB"}}
	for _, p := range r.measured() {
		for _, n := range r.levels(openLoop) {
			want := loop(openLoop, p.doors[0].name, n)
			each := func(value func(run) float64) series { return r.each(p.name, want, value) }
			share := func(count func(run) int) string {
				return fmt.Sprintf("%.0f %%", 100*each(func(one run) float64 { return float64(count(one)) / float64(max(one.Offered, 1)) }).median())
			}
			rows = append(rows, []string{
				p.title, fmt.Sprintf("%d ×", n),
				number(each(func(one run) float64 { return float64(one.Offered) / one.Seconds }).median()),
				each(func(one run) float64 { return one.Lasting }).spread(),
				r.ofBest(p, n).spread(),
				each(run.processorTime).spread(),
				r.times(p, want),
				share(func(one run) int { return one.Refused }),
				pair(each(func(one run) float64 { return one.RefusedP50 }), each(func(one run) float64 { return one.RefusedP99 })),
				share(run.failures),
				number(each(func(one run) float64 { return one.PSS / 1e6 }).median()),
			})
		}
	}
	return page.Table(rows)
}

// ownRefusals says how long Mien takes to refuse, by its own log, or is empty.
func (r *reporter) ownRefusals() string {
	levels := r.levels(openLoop)
	if len(levels) == 0 {
		return ""
	}
	var all []string
	for _, p := range r.measured() {
		own := r.each(p.name, func(one run) bool {
			return one.Kind == openLoop && one.Level == levels[len(levels)-1] && one.OwnRefusedP99 > 0
		}, func(one run) float64 { return one.OwnRefusedP99 })
		if len(own) > 0 {
			all = append(all, fmt.Sprintf("%s ms (`%s`)", own.spread(), p.model))
		}
	}
	return strings.Join(all, ", ")
}

func (r *reporter) starts(p peer, value func(start) float64) series {
	var s series
	for _, one := range r.Starts {
		if one.Peer == p.name {
			s = append(s, value(one))
		}
	}
	return s
}

func first(s start) float64 { return s.First }

// loaded is the highest PSS of each round with callers that wait, in MB.
func (r *reporter) loaded(p peer) series {
	return r.highest(p.name, func(one run) bool { return one.Kind == closedLoop }, func(one run) float64 { return one.PSS / 1e6 })
}

func (r *reporter) memory() string {
	rows := [][]string{{"server", "start, s", "at rest, MB", "under load, MB", "installed, MB"}}
	for _, p := range r.measured() {
		rows = append(rows, []string{
			p.title, r.starts(p, first).spread(),
			r.starts(p, func(s start) float64 { return s.Rest / 1e6 }).spread(),
			r.loaded(p).spread(), number(float64(r.Installed[p.name]) / 1e6),
		})
	}
	return page.Table(rows)
}

// ratios compares Mien with what the bars of docs/peers.md are about.
func (r *reporter) ratios() string {
	byName := map[string]peer{}
	for _, p := range r.measured() {
		byName[p.name] = p
	}
	rows := [][]string{{"", "best images/s", "processor time an image", "memory under load", "start"}}
	add := func(mine, other string) {
		a, ok1 := byName[mine]
		b, ok2 := byName[other]
		if !ok1 || !ok2 {
			return
		}
		rows = append(rows, []string{
			a.title + " : " + b.title,
			r.best(a).over(r.best(b)).spread(), r.cpu(a).over(r.cpu(b)).spread(),
			r.loaded(a).over(r.loaded(b)).spread(), r.starts(a, first).over(r.starts(b, first)).spread(),
		})
	}
	for _, other := range []string{replaced, "replaced-3", "replaced-front"} {
		add(bare, other)
	}
	for _, other := range []string{"opencv", "bentoml", "litserve", "mediapipe"} {
		add(mienOf+"yunet", other)
	}
	add(mienOf+"pigo", "pigo-server")
	add(mienOf+"pigo", "dlib")
	return page.Table(rows)
}

// number formats with three digits that count.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v == 0:
		return "0"
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return page.Decimals(v, min(digits, 4))
}
