package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// The subsets of the labeled photographs that are used.
const (
	original  = "wider_val_orig" // speed is measured on this one
	small     = "wider_val_416"
	negatives = "negatives"
	lfw       = "lfw_5pt"
	net       = "net_5pt"
)

var subsets = append(slices.Clone(facetest.DefaultsFrom), lfw, net)

// rounds is how many times speed is measured. The fastest time counts, because other
// work of the machine can only add time.
const rounds = 2

// A measurement has what was found, and the times.
type measurement struct {
	detectors []detector
	// peers means that the detectors are other servers. Their time is not measured, and
	// their confidence need not be a probability.
	peers  bool
	ways   []*measuredWay
	photos map[string][]facetest.Photo // by subset
	// turned has the results for rotated faces, by the name of the detector and in the
	// order of turns. It is empty if nothing was measured in process.
	turned map[string][]turnedResult
	// differences has an error for each photograph in which two ways, or two calls,
	// found different faces.
	differences []error
}

// A measuredWay has the results of one way, by the name of the detector.
type measuredWay struct {
	Title   string
	remote  bool // a call takes longer than the detector
	results map[string]*result
}

// A result has the results of one detector in one way.
type result struct {
	minConfidence float64                  // the default confidence
	found         map[string][][]face.Face // all faces, by subset, in the order of its photographs
	// Milliseconds per photograph of original with default options: for the detector,
	// and for the whole call.
	detect, call float64
}

// evaluate runs every detector on every photograph in every way.
func evaluate(ctx context.Context, o options, progress func(format string, args ...any)) (m *measurement, err error) {
	m = &measurement{detectors: o.detectors(), peers: len(o.Peer) > 0, photos: map[string][]facetest.Photo{}}
	for _, subset := range subsets {
		if m.photos[subset], err = o.photos(subset); err != nil {
			return nil, err
		}
	}
	defer progress("")
	progress("starting")
	ways, err := openWays(ctx, o)
	defer func() {
		for _, w := range ways {
			err = errors.Join(err, w.close())
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, w := range ways {
		_, remote := w.(*throughService)
		measured := &measuredWay{Title: w.title(), remote: remote, results: map[string]*result{}}
		for _, d := range m.detectors {
			measured.results[d.name] = &result{minConfidence: w.minConfidence(d.name), found: map[string][][]face.Face{}}
		}
		m.ways = append(m.ways, measured)
	}
	if err := m.askAll(ctx, ways, progress); err != nil {
		return nil, err
	}
	if opened, ok := ways[len(ways)-1].(inProcess); ok {
		progress("turned faces")
		photos := slices.Concat(first(m.photos[lfw], maxTurned), first(m.photos[net], maxTurned))
		if m.turned, err = findTurned(ctx, m.detectors, opened, photos); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// openWays opens the ways that the options ask for, those in another process first. The
// caller has to close the ways, even if there is an error.
func openWays(ctx context.Context, o options) (ways []way, err error) {
	if len(o.Peer) > 0 {
		w, err := openPeers(o.Peer)
		return []way{w}, err
	}
	if !o.SkipService {
		w, err := startService(ctx, o)
		if err != nil {
			return nil, err
		}
		ways = append(ways, w)
	}
	if !o.SkipInProcess {
		w, err := openInProcess(o)
		if err != nil {
			return ways, err
		}
		ways = append(ways, w)
	}
	return ways, nil
}

// askAll finds the faces of every photograph, and measures the time on the originals,
// except that of peers.
func (m *measurement) askAll(ctx context.Context, ways []way, progress func(format string, args ...any)) error {
	for _, subset := range subsets {
		for i, photo := range m.photos[subset] {
			progress("%s: %d of %d", subset, i+1, len(m.photos[subset]))
			p, err := openPhotograph(photo.Path)
			if err != nil {
				return err
			}
			if err := m.find(ctx, ways, subset, p); err != nil {
				return err
			}
			if subset != original || m.peers {
				continue
			}
			if err := m.time(ctx, ways, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// first returns the first n values, or all if there are fewer.
func first[T any](values []T, n int) []T { return values[:min(n, len(values))] }

// find finds all faces in p, in all ways at the same time.
func (m *measurement) find(ctx context.Context, ways []way, subset string, p *photograph) error {
	// With landmarks, the many candidates in a crowd would take most of the time.
	labeled := slices.ContainsFunc(m.photos[subset], func(p facetest.Photo) bool {
		return slices.ContainsFunc(p.Faces, func(l facetest.Label) bool { return l.Landmarks != nil })
	})
	group, ctx := errgroup.WithContext(ctx)
	for k, w := range ways {
		group.Go(func() error {
			for _, d := range m.detectors {
				a, err := w.ask(ctx, d.name, p, question{everything: true, skipLandmarks: !labeled})
				if err != nil {
					return err
				}
				found := m.ways[k].results[d.name].found
				found[subset] = append(found[subset], a.faces)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(ways) == 1 {
		return nil
	}
	for _, d := range m.detectors {
		m.compare(d, p, "everything", m.last(0, d, subset), m.last(len(ways)-1, d, subset))
	}
	return nil
}

// last returns what was found in the most recent photograph.
func (m *measurement) last(way int, d detector, subset string) []face.Face {
	all := m.ways[way].results[d.name].found[subset]
	return all[len(all)-1]
}

// time finds the faces in p with default options. It makes one call at a time, and
// calls one detector after another with the same p, so that other work of the machine
// affects all alike. Go runs on one thread in both processes, so that the work of the
// garbage collector counts on any machine.
func (m *measurement) time(ctx context.Context, ways []way, p *photograph) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	fastest := map[*result]answer{}
	for range rounds {
		for _, d := range m.detectors {
			answers := make([]answer, len(ways))
			for k, w := range ways {
				a, err := w.ask(ctx, d.name, p, question{})
				if err != nil {
					return err
				}
				r := m.ways[k].results[d.name]
				if before, ok := fastest[r]; ok {
					a.detect, a.call = min(a.detect, before.detect), min(a.call, before.call)
				}
				fastest[r], answers[k] = a, a

				// The curves assume that the default confidence only leaves faces out,
				// and changes nothing else.
				m.compare(d, p, "the default and everything from there on, "+w.title(),
					withoutLandmarks(a.faces), reaching(r.minConfidence, m.last(k, d, original)))
			}
			m.compare(d, p, "the default options", answers[0].faces, answers[len(ways)-1].faces)
		}
	}
	for r, a := range fastest {
		n := float64(len(m.photos[original]))
		r.detect += a.detect.Seconds() * 1e3 / n
		r.call += a.call.Seconds() * 1e3 / n
	}
	return nil
}

func withoutLandmarks(faces []face.Face) []face.Face {
	faces = slices.Clone(faces)
	for i := range faces {
		faces[i].Landmarks = nil
	}
	return faces
}

// compare records an error if two results for p differ.
func (m *measurement) compare(d detector, p *photograph, what string, a, b []face.Face) {
	if err := sameFaces(a, b, p.img.Bounds().Size()); err != nil {
		m.differences = append(m.differences, fmt.Errorf("%s: %s: %s: %w", p.path, d.name, what, err))
	}
}

// disagreement returns an error if there are differences.
func (m *measurement) disagreement() error {
	const maxShown = 10 // one cause can make hundreds of differences
	shown := m.differences[:min(maxShown, len(m.differences))]
	if rest := len(m.differences) - len(shown); rest > 0 {
		return errors.Join(append(slices.Clone(shown), fmt.Errorf("… and %d more differences", rest))...)
	}
	return errors.Join(shown...)
}

// sameFaces returns an error that describes how two results for an image of that size
// differ. The service returns whole pixels, and moves landmarks on the right and lower
// edges into the last pixel.
func sameFaces(a, b []face.Face, size image.Point) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d faces, and %d", len(a), len(b))
	}
	const (
		rounding = 1e-5 // rounding error of float32, relative to 1
		halfAway = 0.5 + 1e-3
	)
	near := func(p, q face.Point) bool { return math.Abs(p.X-q.X) <= halfAway && math.Abs(p.Y-q.Y) <= halfAway }
	inside := func(p face.Point) face.Point {
		return face.Point{X: min(p.X, float64(size.X-1)), Y: min(p.Y, float64(size.Y-1))}
	}
	for i, f := range a {
		g := b[i]
		same := math.Abs(f.Confidence-g.Confidence) <= rounding && (f.Landmarks == nil) == (g.Landmarks == nil)
		for k, p := range corners(f.Box) {
			same = same && near(p, corners(g.Box)[k])
		}
		if same && f.Landmarks != nil {
			for k, p := range points(*f.Landmarks) {
				same = same && near(inside(p), inside(points(*g.Landmarks)[k]))
			}
		}
		if !same {
			return fmt.Errorf("face %d of %d is %s, and %s", i+1, len(a), describe(f), describe(g))
		}
	}
	return nil
}

func describe(f face.Face) string {
	s := fmt.Sprintf("%.7f at %v", f.Confidence, f.Box)
	if f.Landmarks != nil {
		s += fmt.Sprintf(" with %v", points(*f.Landmarks))
	}
	return s
}

func corners(b face.Box) [2]face.Point {
	return [2]face.Point{{X: b.MinX, Y: b.MinY}, {X: b.MaxX, Y: b.MaxY}}
}

func points(l face.Landmarks) [5]face.Point {
	return [5]face.Point{l.LeftEye, l.RightEye, l.Nose, l.MouthLeft, l.MouthRight}
}

// progress returns a function that shows progress on one line of a terminal, and does
// nothing if w is not a terminal. An empty format ends the line.
func progress(w io.Writer) func(format string, args ...any) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(string, ...any) {}
	}
	return func(format string, args ...any) {
		const clearLine = "\r\x1b[K"
		fmt.Fprintf(w, clearLine+format, args...)
	}
}
