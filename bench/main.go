// Command bench evaluates every detector on the labeled photographs, through the
// service as a client would and in this process, and prints the tables of
// docs/accuracy.md. With --peer, it evaluates other servers. "make eval" runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/mienproject/mien/bench/calls"
	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/bench/server"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/networks"
	"github.com/mienproject/mien/face/pigo"
	"github.com/mienproject/mien/onnx"
)

// options has the values of flags. Relative defaults start at bench/, where the program
// runs.
type options struct {
	Faces         string   `default:"../../shared/faces" placeholder:"DIR" help:"Folder of the labeled photographs (default ${default})."`
	Models        string   `default:"../../shared/models" placeholder:"DIR" help:"Folder of the models' files (default ${default})."`
	ONNXRuntime   string   `name:"onnxruntime" default:"../.bin/libonnxruntime.so.1" placeholder:"FILE" help:"Shared library of ONNX Runtime (default ${default})."`
	Only          []string `enum:"${names}" placeholder:"NAME,..." help:"Evaluate only these detectors, of ${names}."`
	Limit         int      `placeholder:"N" help:"Use only the first N photographs of each subset."`
	SkipService   bool     `help:"Do not measure through the service."`
	SkipInProcess bool     `help:"Do not measure in this process."`
	Peer          []peer   `sep:"none" placeholder:"NAME=PROTOCOL+URL#MINCONFIDENCE" help:"Evaluate only this server, which is already running, such as opencv=file+http://127.0.0.1:9001/predict#0.9. Protocols: ${protocols}. MINCONFIDENCE is the server's default confidence (0 if absent). Repeatable."`
	JSON          string   `name:"json" placeholder:"FILE" help:"Write a summary of the tables to this file, as JSON."`
	Write         bool     `help:"Write the result to docs/accuracy.md and docs/accuracy-curves.svg. This needs the whole evaluation."`
}

// A detector is a detector to evaluate, with its name in the service.
type detector struct {
	name string
	// file is the model's file below --models. builtIn makes a detector that needs no file.
	file    string
	builtIn func() (face.Detector, error)
	// onRuntime means that it needs ONNX Runtime.
	onRuntime bool
	// The style of its curve. Detectors of a family share a color.
	color  color.RGBA
	dashed bool
}

// The detectors with whose speed the others are compared.
const (
	recommended = "yunet"
	oldSystem   = "mtcnn"
	reference   = "pigo-reference"
)

var detectors = []detector{
	{name: recommended, file: "yunet_n_dynamic.onnx", color: page.Blue},
	{name: "yunet-s", file: "yunet_s_dynamic.onnx", color: page.Blue, dashed: true},
	{name: oldSystem, builtIn: func() (face.Detector, error) { return networks.MTCNN(nil, options{}.network) }, color: page.Orange},
	{name: "scrfd-2.5g", file: "scrfd_2.5g_kps_640.onnx", onRuntime: true, color: page.Green},
	{name: "scrfd-500m", file: "scrfd_500m_kps_640.onnx", onRuntime: true, color: page.Green, dashed: true},
	{name: "pigo", builtIn: func() (face.Detector, error) { return pigo.New(nil) }, color: page.Purple},
	{name: reference, builtIn: func() (face.Detector, error) { return pigo.NewReference() }, color: page.Purple, dashed: true},
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
			fmt.Fprintf(stderr, "bench: %s\n", strings.TrimRight(line, "\n"))
		}
		return 1
	}
	opts, done, err := parse(args, stdout)
	if done {
		return 0
	}
	if err != nil {
		return fail(err)
	}
	measured, err := evaluate(ctx, opts, progress(stderr))
	if err != nil {
		return fail(err)
	}
	text, err := report(measured)
	if err != nil {
		return fail(err)
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return fail(err)
	}
	if err := measured.disagreement(); err != nil {
		return fail(err)
	}
	if err := write(opts, measured, text); err != nil {
		return fail(err)
	}
	return 0
}

// parse reads flags. done is true if --help was printed.
func parse(args []string, stdout io.Writer) (opts options, done bool, err error) {
	var names []string
	for _, d := range detectors {
		names = append(names, d.name)
	}
	parser, err := kong.New(&opts,
		kong.Name("bench"),
		kong.Description("Evaluates every detector on the labeled photographs, through the service and in process."),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { done = true }), // called after --help
		kong.Vars{
			"names":     strings.Join(names, ","),
			"protocols": strings.Join(slices.Concat(calls.Protocols, calls.Others), ", "),
		},
	)
	if err != nil {
		return opts, false, err
	}
	_, err = parser.Parse(args)
	if done || err != nil {
		return opts, done, err
	}
	return opts, false, opts.check()
}

// check returns all problems of the options, with their remedies.
func (o *options) check() error {
	return errors.Join(o.checkFlags(), o.checkPeers(), o.checkFiles())
}

// checkFlags returns an error for flags that cannot be combined.
func (o *options) checkFlags() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Limit < 0 {
		fail("--limit: %d is below 0", o.Limit)
	}
	if o.SkipService && o.SkipInProcess {
		fail("--skip-service and --skip-in-process: together they leave nothing to measure")
	}
	if o.Write && (len(o.Only) > 0 || o.Limit > 0 || o.SkipService || o.SkipInProcess) {
		fail("--write: the docs have the whole evaluation: omit --only, --limit and --skip-...")
	}
	return errors.Join(errs...)
}

// checkPeers returns an error if there are peers that cannot be evaluated.
func (o *options) checkPeers() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Peer) > 0 && (o.Write || len(o.Only) > 0 || o.SkipService || o.SkipInProcess) {
		fail("--peer: only other servers are evaluated then: omit --only, --skip-... and --write")
	}
	names := map[string]bool{}
	for _, p := range o.Peer {
		if names[p.name] {
			fail("--peer: the name %q is used twice", p.name)
		}
		names[p.name] = true
	}
	return errors.Join(errs...)
}

// checkFiles returns an error for missing files, and makes the path of ONNX Runtime's
// library absolute.
func (o *options) checkFiles() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range subsets {
		if _, err := os.Stat(filepath.Join(o.Faces, name)); err != nil {
			fail("the labeled photographs are not part of the repository: put them beside it, in ../shared/faces, or name their folder with --faces: %w", err)
			break
		}
	}
	needsRuntime := false
	for _, d := range o.detectors() {
		if d.file == "" {
			continue
		}
		needsRuntime = needsRuntime || d.onRuntime
		if _, err := os.Stat(filepath.Join(o.Models, d.file)); err != nil {
			fail("the models are not part of the repository: put them beside it, in ../shared/models, or name their folder with --models: %w", err)
			break
		}
	}
	if needsRuntime {
		library, err := onnx.FindLibrary(o.ONNXRuntime)
		if err != nil {
			fail("--onnxruntime: %w; \"make onnxruntime\" fetches the library", err)
		}
		o.ONNXRuntime = library
	}
	return errors.Join(errs...)
}

// detectors returns the servers of --peer, the detectors of --only, or all detectors.
func (o *options) detectors() []detector {
	if len(o.Peer) > 0 {
		var rows []detector
		for _, p := range o.Peer {
			rows = append(rows, detector{name: p.name})
		}
		return rows
	}
	return slices.DeleteFunc(slices.Clone(detectors), func(d detector) bool {
		return len(o.Only) > 0 && !slices.Contains(o.Only, d.name)
	})
}

// photos reads the labels of one subset.
func (o *options) photos(subset string) ([]facetest.Photo, error) {
	photos, err := facetest.Read(filepath.Join(o.Faces, subset))
	if o.Limit > 0 && len(photos) > o.Limit {
		photos = photos[:o.Limit]
	}
	return photos, err
}

// write writes the files that the options ask for.
func write(o options, m *measurement, text string) error {
	if o.JSON != "" {
		data, err := summarize(m)
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.JSON, data, readable); err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	if !o.Write {
		return nil
	}
	svg, err := drawCurves(m)
	if err != nil {
		return err
	}
	return page.Write(filepath.Join(server.Root(), "docs", "accuracy.md"), "make eval", text, "accuracy-curves.svg", svg)
}

const readable fs.FileMode = 0o644
