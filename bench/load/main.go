// Command load sends more requests to a server than it can answer, and prints how it
// behaves. As in production, requests do not wait for the answers to earlier ones.
// "make load" runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mienproject/mien/bench/calls"
	"github.com/mienproject/mien/bench/server"
)

const description = `Measures the capacity of a server, sends photographs to it at multiples of that, and prints a table in Markdown. Calls are made at random times (Poisson) and do not wait for each other's answers.

Without --url, it builds and starts the server of this repository.`

// options has the values of flags.
type options struct {
	URL       string        `placeholder:"URL" help:"Server to measure, such as http://127.0.0.1:8080. It must be on this machine, unless --elsewhere is set."`
	Admin     string        `placeholder:"URL" help:"The server's address for operators, such as http://127.0.0.1:9464. Without it, memory and CPU are not measured."`
	Elsewhere bool          `help:"Allow --url to be on another machine. Use this only with the consent of its operator."`
	ServerArg []string      `placeholder:"ARG" sep:"none" help:"Argument for the started server, such as --server-arg=--workers=1. Repeatable."`
	Faces     string        `default:"${faces}" placeholder:"DIR" help:"Folder of the photographs (default: ../shared/faces, beside the repository)."`
	Photos    int           `default:"120" placeholder:"N" help:"Number of photographs, of all sizes (default ${default})."`
	Protocol  string        `default:"grpc" enum:"${protocols}" placeholder:"NAME" help:"Protocol: ${protocols} (default ${default})."`
	Model     string        `placeholder:"NAME" help:"Model to use (default: the server's default)."`
	Rates     []float64     `default:"1,2,5" placeholder:"N,..." help:"Multiples of the capacity (default ${default})."`
	Capacity  float64       `placeholder:"N" help:"Images per second that the server can answer (default: measured)."`
	Duration  time.Duration `default:"1m" placeholder:"DURATION" help:"Time for each rate (default ${default})."`
	Warmup    time.Duration `default:"10s" placeholder:"DURATION" help:"Time for measuring the capacity (default ${default})."`
	Deadline  time.Duration `placeholder:"DURATION" help:"Deadline of each call (default: none)."`
	Arrivals  string        `default:"poisson" enum:"poisson,constant" placeholder:"NAME" help:"Distribution of the calls: poisson (default) or constant."`
	Seed      uint64        `default:"1" placeholder:"N" help:"Seed for the times and the order of calls (default ${default})."`
	MaxOpen   int           `default:"2000" placeholder:"N" help:"Maximum number of open calls (default ${default}). Calls over the limit are not made, and count as unsent."`
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	fail := func(err error) int {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "load: %s\n", strings.TrimRight(line, "\n"))
		}
		return 1
	}
	var o options
	done := false
	parser, err := kong.New(&o,
		kong.Name("load"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Writers(stdout, io.Discard), kong.Exit(func(int) { done = true }),
		kong.Vars{
			"protocols": strings.Join(calls.Protocols, ","),
			"faces":     filepath.Join(server.Root(), "..", "shared", "faces"),
		})
	if err != nil {
		return fail(err)
	}
	_, err = parser.Parse(args)
	if done {
		return 0
	}
	if err := errors.Join(err, o.check()); err != nil {
		return fail(err)
	}
	r, err := measure(ctx, o, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
	if err != nil {
		return fail(err)
	}
	if _, err := io.WriteString(stdout, r.markdown()); err != nil {
		return fail(err)
	}
	return 0
}

// check returns all problems of the options, with their remedies.
func (o *options) check() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, s := range []struct{ flag, url string }{{"--url", o.URL}, {"--admin", o.Admin}} {
		if s.url == "" {
			continue
		}
		u, err := url.Parse(s.url)
		check(err == nil && u.Scheme == "http" && u.Host != "", "%s: %q is not a URL like http://127.0.0.1:8080", s.flag, s.url)
		check(o.Elsewhere || (err == nil && loopback(u.Hostname())), "%s: %q is not on this machine; use --elsewhere if its operator agrees", s.flag, s.url)
	}
	check(o.URL == "" || len(o.ServerArg) == 0, "--server-arg: it has no effect with --url")
	check(o.URL != "" || o.Admin == "", "--admin: it has no effect without --url")
	check(o.Photos > 0, "--photos: %d must be above 0", o.Photos)
	check(o.MaxOpen > 0, "--max-open: %d must be above 0", o.MaxOpen)
	check(o.Capacity >= 0, "--capacity: %v is below 0", o.Capacity)
	check(o.Duration > 0 && o.Warmup > 0 && o.Deadline >= 0, "--duration and --warmup must be above 0, and --deadline at least 0, not %v, %v and %v", o.Duration, o.Warmup, o.Deadline)
	check(len(o.Rates) > 0, "--rates: at least one is required")
	for _, rate := range o.Rates {
		check(rate > 0, "--rates: %v must be above 0", rate)
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.Unmap().IsLoopback())
}

// folders are the subsets whose photographs are used: crowds in full size, the same
// ones smaller, single faces, and no faces.
var folders = []string{"wider_val_orig", "wider_val_416", "lfw_5pt", "negatives"}

// photos reads n photographs, the same number from each folder, shuffled.
func photos(dir string, n int, seed uint64) ([][]byte, error) {
	var all [][]byte
	for i, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(dir, folder, "images", "*.jpg"))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("the photographs are not part of the repository: put them beside it, in ../shared/faces, or name their folder with --faces: there are none in %s", filepath.Join(dir, folder, "images"))
		}
		share := (n - len(all)) / (len(folders) - i)
		slices.Sort(paths)
		for k := range min(share, len(paths)) {
			data, err := os.ReadFile(filepath.Clean(paths[k*len(paths)/min(share, len(paths))]))
			if err != nil {
				return nil, err
			}
			all = append(all, data)
		}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // to be the same every time
	return all, nil
}

// measure makes all measurements that the options ask for.
func measure(ctx context.Context, o options, progress func(string, ...any)) (r *report, err error) {
	r = &report{options: o}
	images, err := photos(o.Faces, o.Photos, o.Seed)
	if err != nil {
		return nil, err
	}
	base, admin := strings.TrimSuffix(o.URL, "/"), strings.TrimSuffix(o.Admin, "/")
	if base == "" {
		s, err := server.Start(ctx, nil, o.ServerArg...)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		base, admin = s.URL, s.Admin
	}
	door, err := calls.Open(o.Protocol, base, calls.Options{Model: o.Model})
	if err != nil {
		return nil, err
	}
	defer door.Close()
	messages, err := calls.Messages(door, images)
	if err != nil {
		return nil, err
	}

	quiet, err := newCalm(ctx, door, messages[smallest(images)])
	if err != nil {
		return nil, fmt.Errorf("a single call fails: %w", err)
	}
	workers := 2.0
	var w *watcher
	if admin != "" {
		w = newWatcher(admin)
		s, err := w.look(ctx)
		if err != nil {
			return nil, err
		}
		workers = s.workers
	}
	if r.capacity = o.Capacity; r.capacity == 0 {
		progress("measuring the capacity for %v", o.Warmup)
		if r.capacity, err = capacity(ctx, door, messages, 2*int(workers), o.Warmup); err != nil {
			return nil, err
		}
	}
	for _, rate := range o.Rates {
		progress("%v × %.1f images a second for %v", rate, r.capacity, o.Duration)
		p := calls.Plan{
			Messages: messages, Rate: rate * r.capacity, Time: o.Duration, Constant: o.Arrivals == "constant",
			Seed: o.Seed, Deadline: o.Deadline, MaxOpen: o.MaxOpen,
		}
		st, err := measureStage(ctx, p, door, w, quiet)
		if err != nil {
			return nil, err
		}
		st.rate = rate
		r.stages = append(r.stages, st)
	}
	return r, nil
}

// measureStage makes the calls of a plan, watches the server if w is not nil, and waits
// until the server is quiet again.
func measureStage(ctx context.Context, p calls.Plan, door calls.Door, w *watcher, quiet *calm) (st stage, err error) {
	stop := func() ([]sample, error) { return nil, nil }
	if w != nil {
		stop = w.watch(ctx, min(250*time.Millisecond, p.Time/10))
	}
	st.tally, err = p.Run(ctx, door)
	var failed error
	st.samples, failed = stop()
	if err = errors.Join(err, failed); err != nil {
		return st, err
	}
	if st.recovered, err = quiet.returns(ctx); err != nil {
		return st, err
	}
	// Calls that were still open when the last call was due count as well.
	st.recovered += max(st.tally.Took-p.Time, 0)
	return st, nil
}

// smallest returns the index of the smallest photograph in bytes.
func smallest(photos [][]byte) int {
	best := 0
	for i, p := range photos {
		if len(p) < len(photos[best]) {
			best = i
		}
	}
	return best
}
