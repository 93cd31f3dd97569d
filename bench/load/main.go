// Command load asks a server for faces more often than it can answer, and prints
// how it takes that. Its calls do not wait for each other's answers, as those of
// the world's callers do not. "make load" runs it.
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

	"github.com/mienproject/mien/bench/server"
)

const description = `Asks a server for the faces of photographs at multiples of its capacity, which it measures first, and prints a table in Markdown. Calls come at random (Poisson) and do not wait for each other's answers.

Without --url it builds the server of this repository and starts it.`

// options is what flags say.
type options struct {
	URL       string        `placeholder:"URL" help:"Server to ask, such as http://127.0.0.1:8080. Only on this machine, unless --elsewhere says so."`
	Admin     string        `placeholder:"URL" help:"Its address for operators, such as http://127.0.0.1:9464, for memory and CPU. Without it, they are left out."`
	Elsewhere bool          `help:"Let --url be another machine. Load is an attack on whoever does not expect it."`
	ServerArg []string      `placeholder:"ARG" sep:"none" help:"Argument for the server that is started, such as --server-arg=--workers=1. Repeatable."`
	Faces     string        `default:"${faces}" placeholder:"DIR" help:"The photographs (default: those beside the repository, in ../shared/faces)."`
	Photos    int           `default:"120" placeholder:"N" help:"How many of them, of all sizes (default ${default})."`
	Protocol  string        `default:"grpc" enum:"${protocols}" placeholder:"NAME" help:"${protocols} (default ${default})."`
	Model     string        `placeholder:"NAME" help:"Model to ask for (default: the server's)."`
	Rates     []float64     `default:"1,2,5" placeholder:"N,..." help:"Multiples of the capacity (default ${default})."`
	Capacity  float64       `placeholder:"N" help:"Images a second that the server can do (default: measured)."`
	Duration  time.Duration `default:"1m" placeholder:"DURATION" help:"How long each rate is held (default ${default})."`
	Warmup    time.Duration `default:"10s" placeholder:"DURATION" help:"How long the capacity is measured (default ${default})."`
	Deadline  time.Duration `placeholder:"DURATION" help:"What each call may take, as its caller says (default: nothing said)."`
	Arrivals  string        `default:"poisson" enum:"poisson,constant" placeholder:"NAME" help:"poisson (default) or constant."`
	Seed      uint64        `default:"1" placeholder:"N" help:"Of the order of calls (default ${default}): the same one makes the same calls."`
	MostOpen  int           `default:"2000" placeholder:"N" help:"Calls that may be open; beyond that they are not made, and counted as unsent (default ${default})."`
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code.
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
			"protocols": strings.Join(protocols, ","),
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

// check tells everything that is wrong, and what to do about it.
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
		check(err == nil && u.Scheme == "http" && u.Host != "", "%s: %q is not written as http://127.0.0.1:8080", s.flag, s.url)
		check(o.Elsewhere || (err == nil && loopback(u.Hostname())), "%s: %q is not this machine; --elsewhere allows it, if whoever runs it does", s.flag, s.url)
	}
	check(o.URL == "" || len(o.ServerArg) == 0, "--server-arg: it is for the server that is started without --url")
	check(o.URL != "" || o.Admin == "", "--admin: it belongs to --url")
	check(o.Photos > 0, "--photos: %d is not above 0", o.Photos)
	check(o.MostOpen > 0, "--most-open: %d is not above 0", o.MostOpen)
	check(o.Capacity >= 0, "--capacity: %v is below 0", o.Capacity)
	check(o.Duration > 0 && o.Warmup > 0 && o.Deadline >= 0, "--duration, --warmup and --deadline: %v, %v and %v are not times to wait for", o.Duration, o.Warmup, o.Deadline)
	check(len(o.Rates) > 0, "--rates: at least one is needed")
	for _, rate := range o.Rates {
		check(rate > 0, "--rates: %v is not above 0", rate)
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.Unmap().IsLoopback())
}

// folders are those whose photographs are asked about: of crowds in full size, of
// the same smaller, of single faces, and of none.
var folders = []string{"wider_val_orig", "wider_val_416", "lfw_5pt", "negatives"}

// photos reads n photographs, as many from each folder as there are, mixed.
func photos(dir string, n int, seed uint64) ([][]byte, error) {
	var all [][]byte
	for i, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(dir, folder, "images", "*.jpg"))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("the photographs are no part of the repository: put them beside it, in ../shared/faces, or name them with --faces: there are none in %s", filepath.Join(dir, folder, "images"))
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

// measure does all that the options ask for.
func measure(ctx context.Context, o options, progress func(string, ...any)) (r *report, err error) {
	r = &report{options: o}
	pictures, err := photos(o.Faces, o.Photos, o.Seed)
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
	c, err := newCaller(o.Protocol, base, o.Model, pictures)
	if err != nil {
		return nil, err
	}
	defer c.close()

	quiet, err := newCalm(ctx, c, smallest(pictures))
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
		if r.capacity, err = capacity(ctx, c, len(pictures), 2*int(workers), o.Seed, o.Warmup); err != nil {
			return nil, err
		}
	}
	for _, rate := range o.Rates {
		progress("%v × %.1f images a second for %v", rate, r.capacity, o.Duration)
		st := stage{rate: rate}
		stop := func() ([]sample, error) { return nil, nil }
		if w != nil {
			stop = w.watch(ctx, min(250*time.Millisecond, o.Duration/10))
		}
		p := plan{
			photos: pictures, rate: rate * r.capacity, time: o.Duration, constant: o.Arrivals == "constant",
			seed: o.Seed, deadline: o.Deadline, most: o.MostOpen,
		}
		st.tally, err = p.run(ctx, c)
		var failed error
		st.samples, failed = stop()
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
		if st.recovered, err = quiet.returns(ctx); err != nil {
			return nil, err
		}
		// Those that were still open when the last call was due count as well.
		st.recovered += max(st.tally.took-o.Duration, 0)
		r.stages = append(r.stages, st)
	}
	return r, nil
}

// smallest is the photograph that takes the least time on the wire.
func smallest(photos [][]byte) int {
	best := 0
	for i, p := range photos {
		if len(p) < len(photos[best]) {
			best = i
		}
	}
	return best
}
