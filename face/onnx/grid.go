//go:build cgo

package onnx

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
	"github.com/mienproject/mien/face/luma"
)

// grid is a detector whose network looks at the whole image at once and answers
// for each cell of three grids, 8, 16 and 32 pixels wide: YuNet and SCRFD.
type grid struct {
	session *session
	// info.InputSize is the only input size that the network takes; zero: any
	// multiple of 32.
	info face.Info
	// maxEnlarged is the side up to which a network of a fixed size gets an image
	// enlarged: a face that fills a small image would be too large for it to see.
	maxEnlarged float64
	// outputs tells the shapes of the outputs for a grid of that many cells at
	// each stride, in the session's order.
	outputs func(cells [len(strides)]int64) []ort.Shape
	// order is which of blue, green and red the three input planes are.
	order [3]int
	// normalize changes an input of 0 to 255 in place; nil leaves it.
	normalize func([]float32)
	// faces calls yield for each face that the outputs tell, in pixels of the
	// input, with a raw score of at least rawLeast. It returns errNotFinite for a score
	// that is not finite, and else the first error of yield.
	faces func(outputs []*ort.Tensor[float32], cols [len(strides)]int, yield func(detection) error) error
	// confidence turns a raw score into a probability.
	confidence func(raw float64) float64
	// landmarker refines the network's landmarks; nil leaves them.
	landmarker *landmark.Landmarker

	workspaces chan *workspace
}

var strides = [...]int{8, 16, 32}

// rawLeast is the raw score under which a cell is no candidate. It only saves
// work: what lies below ranks last.
const rawLeast = 0.02

// suppressIoU is the overlap above which two boxes are the same face.
const suppressIoU = 0.4

// detection is what a network takes for a face. Its landmarks are by value, so that
// thousands of candidates are no thousands of allocations.
type detection struct {
	box       face.Box
	size      float64 // the longer side of the box before it was cut by the image's frame
	landmarks face.Landmarks
	raw       float64
}

// workspace is what one call needs, kept for the next.
type workspace struct {
	source     source
	tensors    [maxInputs]tensors // one for each size of an input
	candidates []detection
}

func (w *workspace) free() {
	for i := range w.tensors {
		w.tensors[i].free()
	}
}

// maxWorkspaces is how many are kept: more than a server has workers would lie
// idle.
const maxWorkspaces = 64

func (g *grid) Info() face.Info { return g.info }

// Input implements face.Detector. An image that the finest pass would halve may be
// reduced before.
func (g *grid) Input(width, height int, opts face.Options) face.Input {
	passes := g.passes(width, height, opts.MinFaceSize)
	n := face.Input{Reduce: 1}
	for scale := passes[len(passes)-1].scale; scale <= halveFrom && n.Reduce < mostReduced; scale *= 2 {
		n.Reduce *= 2
	}
	return n
}

// mostReduced is by how much an image may be reduced. Boxes would stay as they are
// at a quarter of the size and less, but landmarks would be a third farther off
// (docs/performance.md), and reading a file takes hardly less time than for half.
const mostReduced = 2

// Detect implements face.Detector.
func (g *grid) Detect(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	b := img.Bounds()
	if b.Empty() {
		return nil, ctx.Err()
	}
	var work *workspace
	select {
	case work = <-g.workspaces:
	default:
		work = &workspace{}
	}
	defer func() {
		select {
		case g.workspaces <- work:
		default:
			work.free()
		}
	}()
	work.source.set(img)
	defer work.source.release()

	work.candidates = work.candidates[:0]
	for _, p := range g.passes(b.Dx(), b.Dy(), opts.MinFaceSize) {
		first := len(work.candidates)
		if err := g.pass(ctx, work, p, opts.MinConfidence); err != nil {
			return nil, err
		}
		// Most of them are the same few faces.
		kept := suppressDetections(work.candidates[first:])
		work.candidates = work.candidates[:first+len(kept)]
	}

	var luminance luma.Plane
	if g.landmarker != nil && !opts.SkipLandmarks {
		luminance = luma.Of(img, nil)
	}
	var faces []face.Face
	for _, c := range suppressDetections(work.candidates) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c.size < opts.MinFaceSize {
			continue
		}
		if opts.MaxResults > 0 && len(faces) == opts.MaxResults {
			break // they are sorted, and confidence grows with the raw score
		}
		f := face.Face{Box: c.box, Confidence: g.confidence(c.raw)}
		if !opts.SkipLandmarks {
			l := c.landmarks
			if g.landmarker != nil {
				l = refine(g.landmarker, luminance, l)
			}
			f.Landmarks = clampLandmarks(l, b.Dx(), b.Dy())
		}
		faces = append(faces, f)
	}
	// What differs in raw score may have one confidence.
	slices.SortFunc(faces, face.Compare)
	return faces, nil
}

// suppressDetections is face.Suppress for detections.
func suppressDetections(candidates []detection) []detection {
	slices.SortFunc(candidates, func(a, b detection) int {
		return face.Compare(face.Face{Box: a.box, Confidence: a.raw}, face.Face{Box: b.box, Confidence: b.raw})
	})
	kept := candidates[:0]
	for _, c := range candidates {
		if !slices.ContainsFunc(kept, func(k detection) bool {
			// Most lie apart.
			return k.box.MinX < c.box.MaxX && c.box.MinX < k.box.MaxX && k.box.MinY < c.box.MaxY && c.box.MinY < k.box.MaxY &&
				face.IoU(k.box, c.box) > suppressIoU
		}) {
			kept = append(kept, c)
		}
	}
	return kept
}

// cellsIn is how many cells a row has at each stride, and how many there are, in an
// input of that size.
func cellsIn(size image.Point) (cols [len(strides)]int, cells [len(strides)]int64) {
	for i, stride := range strides {
		cols[i] = size.X / stride
		cells[i] = int64(cols[i] * (size.Y / stride))
	}
	return cols, cells
}

// try tells whether the network gives what it has to, by running it once.
func (g *grid) try() error {
	size := g.info.InputSize
	if size == (image.Point{}) {
		size = image.Pt(96, 64)
	}
	_, cells := cellsIn(size)
	return g.session.try(ort.NewShape(1, 3, int64(size.Y), int64(size.X)), g.outputs(cells))
}

// prepare fills the input of pass p, and returns the number of cells in a row at each
// stride.
func (g *grid) prepare(work *workspace, p pass) (cols [len(strides)]int, err error) {
	work.source.crop(p.part)
	w := max(1, int(math.Round(float64(p.part.Dx())*p.scale)))
	h := max(1, int(math.Round(float64(p.part.Dy())*p.scale)))
	padded := image.Pt((w+31)/32*32, (h+31)/32*32)
	if g.info.InputSize != (image.Point{}) {
		padded = g.info.InputSize
		w, h = min(w, padded.X), min(h, padded.Y)
	}
	cols, cells := cellsIn(padded)
	t := &work.tensors[p.input]
	if err := t.resize(ort.NewShape(1, 3, int64(padded.Y), int64(padded.X)), g.outputs(cells)); err != nil {
		return cols, err
	}
	data := t.input.GetData()
	n := padded.X * padded.Y
	var planes [3][]float32 // blue, green, red
	for i, colour := range g.order {
		planes[colour] = data[i*n : (i+1)*n]
	}
	work.source.input(planes[0], planes[1], planes[2], w, h, padded.X, p.scale)
	if g.normalize != nil {
		g.normalize(data)
	}
	return cols, nil
}

// pass runs p and adds what it finds to the candidates, in coordinates of the image:
// faces with a confidence of at least minConfidence.
func (g *grid) pass(ctx context.Context, work *workspace, p pass, minConfidence float64) error {
	cols, err := g.prepare(work, p)
	if err != nil {
		return err
	}
	t := &work.tensors[p.input]
	if err := g.session.infer(ctx, t); err != nil {
		return err
	}

	size := work.source.size()
	at := func(q face.Point) face.Point {
		return face.Point{X: q.X/p.scale + float64(p.part.Min.X), Y: q.Y/p.scale + float64(p.part.Min.Y)}
	}
	return g.faces(t.outputs, cols, func(c detection) error {
		if !c.finite() {
			return errNotFinite
		}
		lower, upper := at(face.Point{X: c.box.MinX, Y: c.box.MinY}), at(face.Point{X: c.box.MaxX, Y: c.box.MaxY})
		c.box = face.Box{MinX: lower.X, MinY: lower.Y, MaxX: upper.X, MaxY: upper.Y}
		// Before the box is clamped: a face is not smaller for being cut by the frame.
		c.size = max(c.box.Width(), c.box.Height())
		if !p.takes(c) {
			return nil
		}
		// None of these suppresses a better one.
		if !(g.confidence(c.raw) >= minConfidence) {
			return nil
		}
		// Boxes are compared as they are answered: two that differ outside of the image may
		// be the same within it.
		c.box = c.box.Clamp(size.X, size.Y)
		if c.box.Area() == 0 {
			return nil // it is in the padding
		}
		// The network's have the corner of the first pixel at 0, as boxes have.
		c.landmarks = eachPoint(c.landmarks, func(q face.Point) face.Point {
			q = at(q)
			return face.Point{X: q.X - 0.5, Y: q.Y - 0.5}
		})
		work.candidates = append(work.candidates, c)
		return nil
	})
}

func eachPoint(l face.Landmarks, f func(face.Point) face.Point) face.Landmarks {
	return face.Landmarks{
		LeftEye: f(l.LeftEye), RightEye: f(l.RightEye), Nose: f(l.Nose),
		MouthLeft: f(l.MouthLeft), MouthRight: f(l.MouthRight),
	}
}

func clampLandmarks(l face.Landmarks, width, height int) *face.Landmarks {
	l = eachPoint(l, func(p face.Point) face.Point {
		return face.Point{X: min(max(p.X, 0), float64(width-1)), Y: min(max(p.Y, 0), float64(height-1))}
	})
	return &l
}

// How far refined landmarks are trusted, by the spread of their walks: fully at
// trusted and less, and as much as the network's own from doubted on. Chosen on
// lfw_5pt and net_5pt: the mean error falls from .076 and .090 of the eye
// distance (the network's), .047 and .057 (refined) to .045 and .054 (so mixed).
const (
	trusted = 0.005
	doubted = 0.03
)

func refine(l *landmark.Landmarker, img luma.Plane, rough face.Landmarks) face.Landmarks {
	fine, spread := l.Refine(img, rough)
	w := 0.5 + 0.5*min(max((doubted-spread)/(doubted-trusted), 0), 1)
	mix := func(a, b face.Point) face.Point {
		return face.Point{X: w*a.X + (1-w)*b.X, Y: w*a.Y + (1-w)*b.Y}
	}
	return face.Landmarks{
		LeftEye: mix(fine.LeftEye, rough.LeftEye), RightEye: mix(fine.RightEye, rough.RightEye),
		Nose:      mix(fine.Nose, rough.Nose),
		MouthLeft: mix(fine.MouthLeft, rough.MouthLeft), MouthRight: mix(fine.MouthRight, rough.MouthRight),
	}
}

// logistic returns the probability for a raw score in (0, 1): a logistic
// regression on its logit.
func logistic(raw, intercept, slope float64) float64 {
	raw = min(max(raw, 1e-6), 1-1e-6)
	return 1 / (1 + math.Exp(-intercept-slope*math.Log(raw/(1-raw))))
}

// mostFixed is the area of the largest input of a fixed size: what a network of any
// size is given at most.
const mostFixed = maxSide * maxSide

// fixedSize returns the input size of a network of three planes; zero when it
// takes any.
func fixedSize(s *session) (image.Point, error) {
	if err := allFloat32(s); err != nil {
		return image.Point{}, err
	}
	in := s.inputs[0].Dimensions
	found := fmt.Sprintf("its input is %s; ", describe(s.inputs[0]))
	if len(in) != 4 || in[1] != 3 {
		return image.Point{}, errors.New(found + "known is [1×3×height×width]: three planes of one image")
	}
	height, width := in[2], in[3]
	switch {
	case in[0] != 1 && in[0] >= 0:
		return image.Point{}, errors.New(found + "Mien gives it one image at a time: export it for a batch of 1 or of any size")
	case height < 0 && width < 0:
		return image.Point{}, nil
	case height < 0 || width < 0:
		return image.Point{}, errors.New(found + "known are networks of any height and width, or of a fixed height and width: export it with both or neither")
	case height%32 != 0 || width%32 != 0 || height == 0 || width == 0:
		return image.Point{}, errors.New(found + "height and width have to be multiples of 32")
	case height > mostFixed/width:
		return image.Point{}, fmt.Errorf("%sheight times width may be %d (%d×%d) at most", found, mostFixed, maxSide, maxSide)
	}
	return image.Pt(int(width), int(height)), nil
}
