package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/mienproject/mien/bench/calls"
)

// A bench has what all measurements need.
type bench struct {
	options
	folder   string // for binaries and logs
	binaries map[string]string
	photos   [][]byte
	progress func(format string, args ...any)
}

// An opened door of a running peer.
type opened struct {
	door
	calls.Door
	messages [][]byte
	// faces is how many each photograph has, as the first answers said.
	faces []int
}

// build builds the servers that are written in Go.
func (b *bench) build(ctx context.Context) error {
	b.binaries = map[string]string{}
	for name, build := range map[string]struct{ folder, what string }{
		bare:   {b.root, "./cmd/server"},
		"pigo": {filepath.Join(b.root, "bench", "peers"), "./servers/pigo"},
	} {
		b.binaries[name] = filepath.Join(b.folder, name+"-server")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.binaries[name], build.what) //nolint:gosec // the two above
		cmd.Dir, cmd.Env = build.folder, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", build.what, err, out)
		}
	}
	return nil
}

// launch starts a peer. scores is for MIN_SCORE, if it is not empty.
func (b *bench) launch(ctx context.Context, p *peer, scores string) (*program, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(b.folder, p.name+".log")
	if p.folder == "" {
		started, err := launch(p.name, b.folder, log, "", nil, b.mienCommand(p, port))
		if err != nil {
			return nil, err
		}
		started.port = port
		return started, nil
	}
	backend, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	env := []string{
		"PORT=" + strconv.Itoa(port), "BACKEND_PORT=" + strconv.Itoa(backend), "CORES=" + strconv.Itoa(b.Cores),
		"YUNET=" + filepath.Join(b.Models, yunetFile), "CASCADE=" + b.cascade,
	}
	if scores != "" {
		env = append(env, "MIN_SCORE="+scores)
	}
	command := p.command
	if command == nil {
		command = []string{b.binaries[p.folder]}
	}
	started, err := launch(p.name, filepath.Join(b.root, "bench", "peers", "servers", p.folder), log, filepath.Join(b.environment(p), "bin"), env, command)
	if err != nil {
		return nil, err
	}
	started.port = port
	return started, nil
}

// mienCommand starts Mien with a model. The bare start names none.
func (b *bench) mienCommand(p *peer, port int) []string {
	command := []string{b.binaries[bare], "--listen", "127.0.0.1:" + strconv.Itoa(port), "--admin-listen", "off", "--log-format", "json", "--drain-delay", "0s"}
	switch {
	case p.name == bare:
	case p.file != "":
		command = append(command, "--model", p.model+"="+filepath.Join(b.Models, p.file))
	default:
		command = append(command, "--model", p.model)
	}
	return command
}

// environment is the folder of a peer's Python environment.
func (b *bench) environment(p *peer) string { return filepath.Join(b.root, ".bin", "peers", p.folder) }

// open opens a door of a running peer, and makes the messages.
func (b *bench) open(p *program, d door) (*opened, error) {
	o := &opened{door: d}
	var err error
	if o.Door, err = calls.Open(d.protocol, fmt.Sprintf("http://127.0.0.1:%d%s", p.port, d.path), calls.Options{}); err != nil {
		return nil, err
	}
	o.messages, err = calls.Messages(o, b.photos)
	return o, err
}

// startPatience is for the slowest peer on a slow machine.
const startPatience = 3 * time.Minute

// firstAnswer asks until there is an answer, and returns the time since the start.
func firstAnswer(ctx context.Context, p *program, o *opened) (seconds float64, err error) {
	for {
		a, err := o.Call(ctx, o.messages[0])
		if err == nil {
			took := time.Since(p.started)
			_, err := a.Faces()
			return took.Seconds(), err
		}
		if ended := p.ended(); ended != nil {
			return 0, ended
		}
		if time.Since(p.started) > startPatience {
			return 0, fmt.Errorf("%s: no answer after %v: %w", p.name, startPatience, err)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// speed makes all rounds, and keeps the results after each peer.
func (b *bench) speed(ctx context.Context, chosen []*peer, r *results) error {
	r.Starts, r.Runs = nil, nil
	for round := range b.Rounds {
		for _, p := range chosen {
			began := time.Now()
			if err := b.once(ctx, p, round, r); err != nil {
				return fmt.Errorf("%s, round %d: %w", p.name, round+1, err)
			}
			if err := r.keep(b.Results); err != nil {
				return err
			}
			b.progress("round %d of %d: %s took %v", round+1, b.Rounds, p.name, time.Since(began).Round(time.Second))
		}
	}
	return nil
}

// patience is how long a peer may go on working after its callers have left.
const patience = 20 * time.Second

// once measures one peer once.
func (b *bench) once(ctx context.Context, p *peer, round int, r *results) error {
	running, err := b.launch(ctx, p, "")
	if err != nil {
		return err
	}
	defer running.stop()
	var doors []*opened
	for _, d := range p.doors {
		o, err := b.open(running, d)
		if err != nil {
			return err
		}
		defer o.Close()
		doors = append(doors, o)
	}
	s := start{Peer: p.name, Round: round}
	if s.First, err = firstAnswer(ctx, running, doors[0]); err != nil {
		return err
	}
	if err := running.settle(ctx, patience); err != nil {
		return err
	}
	s.Rest = running.usage().pss
	best, err := b.closedLoops(ctx, running, doors, func(one run) {
		one.Peer, one.Round = p.name, round
		r.Runs = append(r.Runs, one)
	})
	if err != nil {
		return err
	}
	for _, n := range doors[0].faces {
		s.Faces += n
	}
	r.Starts = append(r.Starts, s)
	for _, multiple := range b.Rates {
		if err := running.settle(ctx, patience); err != nil {
			return err
		}
		one, err := b.overload(ctx, running, doors[0], multiple, best, round)
		if err != nil {
			return err
		}
		one.Peer, one.Round = p.name, round
		r.Runs = append(r.Runs, one)
	}
	return running.ended()
}

// closedLoops measures all numbers of callers by each door, and returns the highest rate by the
// first one.
func (b *bench) closedLoops(ctx context.Context, running *program, doors []*opened, keep func(run)) (best float64, err error) {
	for i, o := range doors {
		if err := b.warmUp(ctx, o); err != nil {
			return 0, err
		}
		for _, callers := range b.Callers {
			one, err := b.closed(ctx, running, o, callers)
			if err != nil {
				return 0, err
			}
			keep(one)
			if i == 0 {
				best = max(best, one.rate())
			}
		}
	}
	return best, nil
}

// warmUp sends every photograph once, from twice as many callers as there are cores, and
// remembers how many faces each has.
func (b *bench) warmUp(ctx context.Context, o *opened) error {
	o.faces = make([]int, len(o.messages))
	l := calls.Loop{Messages: o.messages, Callers: 2 * b.Cores, Check: func(i int, a calls.Answer) error {
		found, err := a.Faces()
		o.faces[i] = len(found)
		return err
	}}
	t, err := l.Run(ctx, o)
	if err == nil && len(t.Good) < t.Offered {
		err = fmt.Errorf("%d of %d photographs were not answered: %v %v", t.Offered-len(t.Good), t.Offered, t.Failed, t.Refused)
	}
	return err
}

// closed measures callers that wait for their answers. Another number of faces than before
// is an error.
func (b *bench) closed(ctx context.Context, p *program, o *opened, callers int) (run, error) {
	r := run{Door: o.name, Kind: closedLoop, Level: callers}
	l := calls.Loop{Messages: o.messages, Callers: callers, Time: b.Time, Check: func(i int, a calls.Answer) error {
		found, err := a.Faces()
		if err == nil && len(found) != o.faces[i] {
			err = fmt.Errorf("another number of faces than before: %d instead of %d", len(found), o.faces[i])
		}
		return err
	}}
	t, err := p.metered(&r, func() (*calls.Tally, error) { return l.Run(ctx, o) })
	if err != nil {
		return r, err
	}
	return r.of(t), nil
}

// metered makes the calls of a run, and notes what the program uses for them.
func (p *program) metered(r *run, makeCalls func() (*calls.Tally, error)) (*calls.Tally, error) {
	const every = 700 * time.Millisecond
	before := p.usage().cpu
	stop := p.watch(every)
	t, err := makeCalls()
	r.PSS, r.CPU = stop(), p.usage().cpu-before
	return t, errors.Join(err, p.ended())
}

// overload measures callers that come at random times, at a multiple of what the peer
// answered at best, and leave after the deadline.
func (b *bench) overload(ctx context.Context, p *program, o *opened, multiple int, best float64, round int) (run, error) {
	r := run{Door: o.name, Kind: openLoop, Level: multiple}
	logged, err := os.Stat(p.log)
	if err != nil {
		return r, err
	}
	// A slow peer has more time, for enough calls.
	const enough = 12
	plan := calls.Plan{
		Messages: o.messages, Rate: float64(multiple) * best, Time: max(b.OpenTime, time.Duration(enough/best*float64(time.Second))),
		Seed: uint64(round) + 1, Deadline: b.Deadline, MaxOpen: 2000,
	}
	t, err := p.metered(&r, func() (*calls.Tally, error) { return plan.Run(ctx, o) })
	if err != nil {
		return r, err
	}
	r = r.of(t)
	r.Lasting = t.RateIn(plan.Time/4, plan.Time)
	r.OwnRefusedP99, err = refusalsOf(p.log, logged.Size())
	return r, err
}

// refusalsOf reads the log of Mien from a place on, and returns the 99th percentile of the
// milliseconds that it took to refuse requests because of overload; 0 if there are none.
func refusalsOf(log string, from int64) (float64, error) {
	text, err := os.ReadFile(filepath.Clean(log))
	if err != nil {
		return 0, err
	}
	var times []time.Duration
	for line := range bytes.Lines(text[min(from, int64(len(text))):]) {
		var record struct {
			Msg    string  `json:"msg"`
			Reason string  `json:"reason"`
			MS     float64 `json:"ms"`
		}
		if json.Unmarshal(line, &record) == nil && record.Msg == "request" && record.Reason == "OVERLOADED" {
			times = append(times, time.Duration(record.MS*float64(time.Millisecond)))
		}
	}
	_, p99 := calls.Percentiles(times)
	return p99, nil
}

// install returns the bytes of what is installed for each peer: its environment, or its
// binary, and its model. Python itself is not counted.
func (b *bench) install(chosen []*peer) (map[string]int64, error) {
	installed := map[string]int64{}
	for _, p := range chosen {
		var paths []string
		switch p.folder {
		case "":
			paths = append(paths, b.binaries[bare])
			if p.file != "" {
				paths = append(paths, filepath.Join(b.Models, p.file))
			}
		case "pigo":
			paths = append(paths, b.binaries["pigo"], b.cascade)
		default:
			paths = append(paths, b.environment(p))
		}
		if p.yunet {
			paths = append(paths, filepath.Join(b.Models, yunetFile))
		}
		n, err := size(paths...)
		if err != nil {
			return nil, err
		}
		installed[p.name] = n
	}
	return installed, nil
}

// evaluate lets "make eval" judge each peer.
func (b *bench) evaluate(ctx context.Context, chosen []*peer, r *results) error {
	if r.Accuracy == nil {
		r.Accuracy = map[string]accuracy{}
	}
	for i, p := range chosen {
		b.progress("accuracy: %s, %d of %d", p.name, i+1, len(chosen))
		// Several doors and processes of one folder find the same faces.
		same := slices.IndexFunc(chosen[:i], func(other *peer) bool { return p.folder != "" && other.folder == p.folder })
		if same >= 0 {
			r.Accuracy[p.name] = r.Accuracy[chosen[same].name]
			continue
		}
		a, err := b.judge(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.Accuracy[p.name] = a
		if err := r.keep(b.Results); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) judge(ctx context.Context, p *peer) (accuracy, error) {
	running, err := b.launch(ctx, p, p.scores)
	if err != nil {
		return accuracy{}, err
	}
	defer running.stop()
	o, err := b.open(running, p.doors[0])
	if err != nil {
		return accuracy{}, err
	}
	defer o.Close()
	if _, err := firstAnswer(ctx, running, o); err != nil {
		return accuracy{}, err
	}
	summary := filepath.Join(b.folder, p.name+".json")
	peer := fmt.Sprintf("%s=%s+http://127.0.0.1:%d%s#%s", p.name, o.protocol, running.port, o.path, p.confidence)
	cmd := exec.CommandContext(ctx, "go", "run", ".", "--peer", peer, "--json", summary, "--faces", b.Faces, "--limit", strconv.Itoa(b.Limit)) //nolint:gosec // of the table
	cmd.Dir = filepath.Join(b.root, "bench")
	if out, err := cmd.CombinedOutput(); err != nil {
		return accuracy{}, fmt.Errorf("make eval: %w\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Clean(summary))
	if err != nil {
		return accuracy{}, err
	}
	var rows []accuracy
	if err := json.Unmarshal(text, &rows); err != nil || len(rows) != 1 {
		return accuracy{}, fmt.Errorf("%s: %d rows, %w", summary, len(rows), err)
	}
	return rows[0], nil
}
