// Command peers measures Mien beside what people would pick instead, on this machine and on
// the same photographs, and writes docs/peers.md. "make peers" runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the photographs
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/klauspost/cpuid/v2"

	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/bench/server"
)

const description = `Measures Mien beside other servers that find faces: speed, memory, behavior under overload, and accuracy. Each round starts one server after another.

The machine must have nothing else to do. On a machine with many cores, "taskset -c 0,1" limits callers and servers to two of them.`

// options has the values of flags. Relative defaults start at bench/peers/, where the
// program runs.
type options struct {
	Faces    string        `default:"../../../shared/faces" placeholder:"DIR" help:"Folder of the labeled photographs (default ${default})."`
	Models   string        `default:"../../../shared/models" placeholder:"DIR" help:"Folder of the models' files (default ${default})."`
	Only     []string      `enum:"${names}" placeholder:"NAME,..." help:"Measure only these, of ${names}."`
	Rounds   int           `default:"5" placeholder:"N" help:"Number of rounds (default ${default})."`
	Photos   int           `default:"25" placeholder:"N" help:"Number of photographs: peoples.jpg, and WIDER originals (default ${default})."`
	Callers  []int         `default:"1,2,4,8" placeholder:"N,..." help:"Numbers of callers that wait for their answers (default ${default})."`
	Time     time.Duration `default:"3s" placeholder:"DURATION" help:"Time for each number of callers, at least; each photograph is sent equally often (default ${default})."`
	Rates    []int         `default:"1,3" placeholder:"N,..." help:"Multiples of the capacity, for callers that do not wait (default ${default})."`
	OpenTime time.Duration `default:"6s" placeholder:"DURATION" help:"Time for each multiple, at least (default ${default})."`
	Deadline time.Duration `default:"5s" placeholder:"DURATION" help:"How long a caller that comes at a multiple of the capacity waits for its answer (default ${default})."`
	Limit    int           `placeholder:"N" help:"Judge accuracy by the first N photographs of each subset only."`

	SkipSpeed    bool   `help:"Measure accuracy only, and keep the speed that was measured before."`
	SkipAccuracy bool   `help:"Measure speed only, and keep the accuracy that was measured before."`
	Results      string `default:"../../.bin/peers/results.json" placeholder:"FILE" help:"Where what was measured is kept (default ${default})."`
	Report       bool   `help:"Measure nothing: print the report of what is kept."`
	Write        bool   `help:"Write the report to docs/peers.md and docs/peers.svg."`

	// Cores is how many the servers may use.
	Cores int `kong:"-"`

	root, cascade string
}

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// execute is the whole program. It returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, done, err := parse(args, stdout)
	if done {
		return 0
	}
	var text string
	if err == nil {
		text, err = o.do(ctx, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
	}
	if err == nil {
		_, err = io.WriteString(stdout, text)
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "peers: %s\n", strings.TrimRight(line, "\n"))
		}
		return 1
	}
	return 0
}

// parse reads flags. done is true if --help was printed.
func parse(args []string, stdout io.Writer) (o options, done bool, err error) {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	parser, err := kong.New(&o,
		kong.Name("peers"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Writers(stdout, io.Discard), kong.Exit(func(int) { done = true }),
		kong.Vars{"names": strings.Join(names, ",")},
	)
	if err != nil {
		return o, false, err
	}
	if _, err = parser.Parse(args); done || err != nil {
		return o, done, err
	}
	o.root, o.Cores = server.Root(), runtime.NumCPU()
	return o, false, o.check()
}

// check returns all problems of the options, with their remedies, and makes paths absolute.
func (o *options) check() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Rounds > 0, "--rounds: %d must be above 0", o.Rounds)
	check(o.Photos > 0, "--photos: %d must be above 0", o.Photos)
	check(o.Limit >= 0, "--limit: %d is below 0", o.Limit)
	check(o.Time > 0 && o.OpenTime > 0 && o.Deadline > 0, "--time, --open-time and --deadline must be above 0, not %v, %v and %v", o.Time, o.OpenTime, o.Deadline)
	check(!o.SkipSpeed || !o.SkipAccuracy, "--skip-speed and --skip-accuracy: together they leave nothing to measure; --report prints what is kept")
	for name, levels := range map[string][]int{"--callers": o.Callers, "--rates": o.Rates} {
		check(len(levels) > 0, "%s: at least one is required", name)
		for _, n := range levels {
			check(n > 0, "%s: %d must be above 0", name, n)
		}
	}
	for _, path := range []*string{&o.Faces, &o.Models, &o.Results} {
		absolute, err := filepath.Abs(*path)
		check(err == nil, "%s: %v", *path, err)
		*path = absolute
	}
	return errors.Join(errs...)
}

// chosen returns the peers of --only, or all.
func (o *options) chosen() []*peer {
	var chosen []*peer
	for i := range peers {
		if len(o.Only) == 0 || slices.Contains(o.Only, peers[i].name) {
			chosen = append(chosen, &peers[i])
		}
	}
	return chosen
}

// do measures what the options ask for, and returns the report.
func (o *options) do(ctx context.Context, progress func(string, ...any)) (text string, err error) {
	r := &results{}
	if o.Report || o.SkipSpeed || o.SkipAccuracy {
		r, err = readResults(o.Results)
		if err != nil && (o.Report || !errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
		if r == nil {
			r = &results{}
		}
	}
	if !o.Report {
		if err := o.measure(ctx, r, progress); err != nil {
			return "", err
		}
	}
	if text, err = report(r); err != nil {
		return "", err
	}
	if !o.Write {
		return text, nil
	}
	svg, err := draw(r)
	if err != nil {
		return "", err
	}
	return text, page.Write(filepath.Join(o.root, "docs", "peers.md"), "make peers", text, "peers.svg", svg)
}

// measure fills the results.
func (o *options) measure(ctx context.Context, r *results, progress func(string, ...any)) (err error) {
	b := &bench{options: *o, progress: progress}
	if b.folder, err = os.MkdirTemp("", "mien-peers-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.folder)) }()
	chosen := o.chosen()
	if err := b.prepare(ctx, chosen); err != nil {
		return err
	}
	if r.Installed, err = b.install(chosen); err != nil {
		return err
	}
	if !o.SkipAccuracy {
		if err := b.evaluate(ctx, chosen, r); err != nil {
			return err
		}
	}
	if !o.SkipSpeed {
		r.Machine = machine{
			CPU: cpuid.CPU.BrandName, Cores: b.Cores, Go: runtime.Version(), AVX512: cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512VNNI),
			Date: time.Now().UTC().Format(time.DateOnly), Photos: len(b.photos), Time: b.Time, OpenTime: b.OpenTime, Deadline: b.Deadline,
		}
		if r.Machine.Pixels, err = megapixels(b.photos); err != nil {
			return err
		}
		if err := b.speed(ctx, chosen, r); err != nil {
			return err
		}
	}
	return r.keep(b.Results)
}

// prepare reads the photographs, finds the files of the peers, and builds servers.
func (b *bench) prepare(ctx context.Context, chosen []*peer) error {
	paths, err := filepath.Glob(filepath.Join(b.Faces, "wider_val_orig", "images", "*.jpg"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("the photographs are not part of the repository: put them beside it, in ../shared/faces, or name their folder with --faces: there are none in %s", b.Faces)
	}
	slices.Sort(paths)
	n := min(b.Photos-1, len(paths))
	chosenPaths := []string{filepath.Join(b.Faces, "peoples.jpg")}
	for i := range n {
		chosenPaths = append(chosenPaths, paths[i*len(paths)/n])
	}
	for _, path := range chosenPaths {
		data, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return err
		}
		b.photos = append(b.photos, data)
	}
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/esimov/pigo").Output()
	if err != nil {
		return fmt.Errorf("go list -m github.com/esimov/pigo: %w", err)
	}
	b.cascade = filepath.Join(strings.TrimSpace(string(module)), "cascade", "facefinder")
	for _, p := range chosen {
		switch _, err := os.Stat(filepath.Join(b.environment(p), "installed.txt")); {
		case p.folder == "" || p.folder == "pigo":
		case err != nil:
			return fmt.Errorf("%s is not installed: run bench/peers/setup.sh %s: %w", p.name, p.folder, err)
		}
		if model := p.file; model != "" || p.yunet {
			if model == "" {
				model = yunetFile
			}
			if _, err := os.Stat(filepath.Join(b.Models, model)); err != nil {
				return fmt.Errorf("the models are not part of the repository: put them beside it, in ../shared/models, or name their folder with --models: %w", err)
			}
		}
	}
	return b.build(ctx)
}

// megapixels returns the mean size of the photographs.
func megapixels(photos [][]byte) (float64, error) {
	sum := 0.0
	for _, photo := range photos {
		c, _, err := image.DecodeConfig(strings.NewReader(string(photo)))
		if err != nil {
			return 0, err
		}
		sum += float64(c.Width*c.Height) / 1e6
	}
	return sum / float64(len(photos)), nil
}
