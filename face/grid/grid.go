// Package grid detects faces with networks that see a whole image at once and have
// outputs for each cell of three grids: YuNet and SCRFD. It chooses the passes over an
// image, fills the inputs of the network, and converts its outputs to faces. An engine
// runs the network.
package grid

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
	"github.com/mienproject/mien/face/luma"
	"github.com/mienproject/mien/internal/exact"
	"github.com/mienproject/mien/internal/freelist"
)

// Detector is a face.Detector whose network has outputs for each cell of three grids,
// whose cells are 8, 16 and 32 pixels wide. It is safe for concurrent use.
type Detector struct {
	engine engine.Engine
	// info.InputSize is the only input size of the network. Zero means any multiple of
	// 32.
	info face.Info
	// maxEnlarged is the maximum side to which an image is enlarged for a network with
	// a fixed input size, because the network cannot find faces that nearly fill its
	// input.
	maxEnlarged float64
	// outputs returns the shapes of the outputs for grids with that many cells at each
	// stride, in the order of the engine.
	outputs func(cells [len(strides)]int64) []engine.Shape
	// order assigns blue, green and red to the three input planes.
	order [3]int
	// normalize changes inputs of 0 to 255 in place. If it is nil, they are not
	// changed.
	normalize func([]float32)
	// faces calls yield for each face in the outputs with a raw score of at least
	// minRaw, in pixels of the input. It returns engine.ErrNotFinite for a score that
	// is not finite, and otherwise the first error of yield.
	faces func(outputs []engine.Tensor, cols [len(strides)]int, yield func(detection) error) error
	// confidence converts a raw score to a probability.
	confidence func(raw float64) float64
	// landmarker refines the landmarks of the network. If it is nil, they are not
	// refined.
	landmarker *landmark.Landmarker

	workspaces freelist.List[*workspace]
}

// codeVersion changes whenever this package finds different faces in the same outputs.
const codeVersion = "+7"

var strides = [...]int{8, 16, 32}

// minRaw is the minimum raw score of candidates. It only saves work, because weaker
// candidates would rank last.
const minRaw = 0.02

// suppressIoU is the IoU above which two boxes are the same face.
const suppressIoU = 0.4

// detection is a face as the network found it. Its landmarks are a value, not a
// pointer, so that thousands of candidates do not cause thousands of allocations.
type detection struct {
	box       face.Box
	size      float64 // the longer side of the box before it was clamped to the image
	landmarks face.Landmarks
	raw       float64
}

// workspace is the memory of one call, which is kept for the next.
type workspace struct {
	source     source
	buffers    [maxInputs]engine.Buffers // one for each input size
	candidates []detection
	// truncated is whether there were more than maxCandidates.
	truncated bool
	// hints are the surroundings of this image's hints; see pass.hintsTo. windows are those
	// of the pass that follows them.
	hints   []face.Box
	windows []image.Rectangle
}

// Info implements face.Detector.
func (g *Detector) Info() face.Info { return g.info }

// Input implements face.Detector. An image may be reduced if even the finest pass would
// halve it.
func (g *Detector) Input(width, height int, opts face.Options) face.Input {
	passes := g.passes(width, height, opts.MinFaceSize)
	n := face.Input{Reduce: 1}
	for scale := passes[len(passes)-1].scale; scale <= halveFrom && n.Reduce < maxReduced; scale *= 2 {
		n.Reduce *= 2
	}
	// A copy of an image in other colors than Y'CbCr, its luminance, and each plane at a half,
	// a quarter and so on.
	n.BytesPerPixel = 4 + 1 + 4./3
	var inputs [maxInputs]int64
	var network int64 // keeps its memory for the next pass
	few := int64(fewCandidates)
	for _, p := range passes {
		_, padded := g.inputOf(p)
		_, cells := cellsIn(padded)
		input := inputShape(padded)
		values := int64(input.Size())
		for _, output := range g.outputs(cells) {
			values += int64(output.Size())
		}
		for _, n := range cells {
			few -= scrfdAnchors * n // YuNet has one candidate in each cell
		}
		inputs[p.input] = max(inputs[p.input], 4*values)
		network = max(network, g.engine.Memory(input))
	}
	n.Bytes = fewCandidateBytes + network
	if few < 0 {
		n.Bytes += candidateBytes
	}
	for _, bytes := range inputs {
		n.Bytes += bytes
	}
	return n
}

// Limits of time and memory: those with the highest scores are examined. An image of small
// faces, repeated, has one in each cell.
const (
	// maxCandidates is the number of cells in a pass that may be faces. Suppression compares
	// each with each.
	maxCandidates = 1 << 14
	// maxFaces is the number of faces in the result. Photographs of crowds have at most 5400,
	// whatever their confidence, and then nearly all of them are none.
	maxFaces = 1 << 13
	// maxRefined is the number of faces whose landmarks are refined, which takes up to half a
	// millisecond for each. The others have those of the network.
	maxRefined = 2000
)

// Memory of the candidates of an image, of 128 bytes each. Up to fewCandidates, the slice of
// them grows as append makes it; then it grows once, to manyCandidates. A pass collects
// up to twice as many candidates as it examines, and follows two others.
const (
	fewCandidates, manyCandidates     = 4096, 4 * maxCandidates
	fewCandidateBytes, candidateBytes = 1 << 20, 128 * manyCandidates
)

// maxReduced is the maximum reduction. At a quarter of the size or less, boxes would be
// as precise, but the error of landmarks would be a third larger (docs/performance.md),
// and decoding is hardly faster than at a half.
const maxReduced = 2

// Detect implements face.Detector.
func (g *Detector) Detect(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	b := img.Bounds()
	if b.Empty() {
		return nil, ctx.Err()
	}
	work := g.workspaces.Get()
	defer g.workspaces.Put(work)
	if err := work.source.set(ctx, img); err != nil {
		return nil, err
	}
	defer work.source.release()

	candidates, err := g.candidates(ctx, work, b.Size(), opts)
	if err != nil {
		return nil, err
	}
	if opts.Truncated != nil && (work.truncated || g.bounded(b.Dx(), b.Dy(), opts.MinFaceSize)) {
		opts.Truncated()
	}
	faces, err := g.convert(ctx, img, candidates, opts)
	if err != nil {
		return nil, err
	}
	// Different raw scores may have the same confidence.
	slices.SortFunc(faces, face.Compare)
	return faces, nil
}

// convert converts the candidates of img to faces, the best first.
func (g *Detector) convert(ctx context.Context, img image.Image, candidates []detection, opts face.Options) ([]face.Face, error) {
	var luminance luma.Plane
	if g.landmarker != nil && !opts.SkipLandmarks {
		luminance = luma.Of(img, nil)
	}
	var faces []face.Face
	for _, c := range candidates {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c.size < opts.MinFaceSize {
			continue
		}
		if opts.MaxResults > 0 && len(faces) == opts.MaxResults {
			break // detections are sorted, and confidence increases with the raw score
		}
		f := face.Face{Box: c.box, Confidence: g.confidence(c.raw)}
		if !opts.SkipLandmarks {
			l := c.landmarks
			if g.landmarker != nil && len(faces) < maxRefined {
				l = refine(g.landmarker, luminance, l)
			}
			f.Landmarks = clampLandmarks(l, img.Bounds().Dx(), img.Bounds().Dy())
		}
		faces = append(faces, f)
	}
	return faces, nil
}

// candidates runs all passes over an image of that size, and returns the candidates,
// the best first. The result is in the memory of work.
func (g *Detector) candidates(ctx context.Context, work *workspace, size image.Point, opts face.Options) ([]detection, error) {
	work.candidates, work.hints, work.truncated = work.candidates[:0], work.hints[:0], false
	for _, p := range g.passes(size.X, size.Y, opts.MinFaceSize) {
		work.windows = append(work.windows[:0], image.Rectangle{})
		if p.narrowed {
			work.windows = p.windows(work.hints, work.windows[:0])
		}
		first := len(work.candidates)
		for _, p.window = range work.windows {
			if err := g.pass(ctx, work, p, opts.MinConfidence); err != nil {
				return nil, err
			}
		}
		// Most candidates are the same few faces.
		kept, err := suppress(ctx, work.candidates[first:])
		if err != nil {
			return nil, err
		}
		work.candidates = work.candidates[:first+len(kept)]
	}
	work.bound(0, maxCandidates)
	kept, err := suppress(ctx, work.candidates)
	if len(kept) > maxFaces {
		kept, work.truncated = kept[:maxFaces], true
	}
	return kept, err
}

// add adds a candidate to those of a pass, which begin at first.
func (w *workspace) add(c detection, first int) {
	if len(w.candidates)-first >= 2*maxCandidates {
		w.bound(first, maxCandidates)
	}
	if n := len(w.candidates); n >= fewCandidates && n == cap(w.candidates) {
		w.candidates = slices.Grow(w.candidates, manyCandidates-n)
	}
	w.candidates = append(w.candidates, c)
}

// bound keeps the best limit candidates of those from first on.
func (w *workspace) bound(first, limit int) {
	if len(w.candidates)-first <= limit {
		return
	}
	slices.SortFunc(w.candidates[first:], compare)
	w.candidates, w.truncated = w.candidates[:first+limit], true
}

// compare orders candidates, the best first.
func compare(a, b detection) int {
	return face.Compare(face.Face{Box: a.box, Confidence: a.raw}, face.Face{Box: b.box, Confidence: b.raw})
}

// suppress drops candidates that cover the same face as a better one; see
// face.Suppress.
func suppress(ctx context.Context, candidates []detection) ([]detection, error) {
	return face.Suppress(ctx, candidates, compare, func(kept, c *detection) bool { return face.IoUAbove(kept.box, c.box, suppressIoU) })
}

// cellsIn returns the number of cells in a row at each stride, and the number of all
// cells, for an input of that size.
func cellsIn(size image.Point) (cols [len(strides)]int, cells [len(strides)]int64) {
	for i, stride := range strides {
		cols[i] = size.X / stride
		cells[i] = int64(cols[i] * (size.Y / stride))
	}
	return cols, cells
}

// check returns an error unless the outputs of the network have the expected shapes.
func (g *Detector) check() error {
	size := g.info.InputSize
	if size == (image.Point{}) {
		size = image.Pt(96, 64)
	}
	_, cells := cellsIn(size)
	return engine.CheckShapes(g.engine, inputShape(size), g.outputs(cells))
}

// checked returns g, or the error of check.
func checked(g *Detector) (*Detector, error) {
	g.workspaces.New = func() *workspace { return &workspace{} }
	if err := g.check(); err != nil {
		return nil, err
	}
	return g, nil
}

func inputShape(size image.Point) engine.Shape {
	return engine.Shape{1, 3, int64(size.Y), int64(size.X)}
}

// inputOf returns the size of the input of pass p, and the window of the scaled image that
// it shows in its upper left corner.
func (g *Detector) inputOf(p pass) (window image.Rectangle, padded image.Point) {
	w := max(1, int(math.Round(float64(p.part.Dx())*p.scale)))
	h := max(1, int(math.Round(float64(p.part.Dy())*p.scale)))
	padded = image.Pt(aligned(w), aligned(h))
	window = image.Rect(0, 0, w, h)
	if !p.window.Empty() {
		window = window.Intersect(p.window)
		padded = p.window.Intersect(image.Rectangle{Max: padded}).Size()
	}
	if g.info.InputSize != (image.Point{}) {
		padded = g.info.InputSize
		window = window.Intersect(image.Rectangle{Max: padded})
	}
	return window, padded
}

// prepare fills the input of pass p, and returns the number of cells in a row at each
// stride.
func (g *Detector) prepare(work *workspace, p pass) (cols [len(strides)]int) {
	work.source.crop(p.part)
	window, padded := g.inputOf(p)
	cols, cells := cellsIn(padded)
	buffers := &work.buffers[p.input]
	buffers.Resize(inputShape(padded), g.outputs(cells))
	data := buffers.Input.Data
	n := padded.X * padded.Y
	var planes [3][]float32 // blue, green, red
	for i, color := range g.order {
		planes[color] = data[i*n : (i+1)*n]
	}
	work.source.input(planes[0], planes[1], planes[2], window, padded.X, p.scale)
	if g.normalize != nil {
		g.normalize(data)
	}
	return cols
}

// pass runs p, and adds the faces with a confidence of at least minConfidence to the
// candidates, in coordinates of the image.
func (g *Detector) pass(ctx context.Context, work *workspace, p pass, minConfidence float64) error {
	cols := g.prepare(work, p)
	buffers := &work.buffers[p.input]
	if err := g.engine.Run(ctx, buffers.Input, buffers.Outputs); err != nil {
		return err
	}

	size := work.source.size()
	corner := face.Point{X: float64(p.window.Min.X), Y: float64(p.window.Min.Y)}
	at := func(q face.Point) face.Point {
		return face.Point{X: (q.X+corner.X)/p.scale + float64(p.part.Min.X), Y: (q.Y+corner.Y)/p.scale + float64(p.part.Min.Y)}
	}
	// The highest raw score that was too low. Most scores are lower, and so are their
	// confidences, which need not be computed.
	tooLow := -1.0
	first := len(work.candidates)
	defer func() { work.bound(first, maxCandidates) }()
	return g.faces(buffers.Outputs, cols, func(c detection) error {
		if !c.finite() {
			return engine.ErrNotFinite
		}
		lower, upper := at(face.Point{X: c.box.MinX, Y: c.box.MinY}), at(face.Point{X: c.box.MaxX, Y: c.box.MaxY})
		c.box = face.Box{MinX: lower.X, MinY: lower.Y, MaxX: upper.X, MaxY: upper.Y}
		// The size counts before clamping, because a face does not become smaller when
		// the edge of the image cuts it.
		c.size = max(c.box.Width(), c.box.Height())
		clamped := c.box.Clamp(size.X, size.Y)
		if clamped.Area() == 0 {
			return nil // the box is in the padding
		}
		if c.raw >= minHint && c.size <= p.hintsTo {
			work.hint(c)
		}
		if !p.takes(c) {
			return nil
		}
		// These cannot suppress a better one.
		if c.raw <= tooLow {
			return nil
		}
		if !(g.confidence(c.raw) >= minConfidence) {
			tooLow = c.raw
			return nil
		}
		// Clamp before boxes are compared: two boxes that differ only outside of the
		// image are the same.
		c.box = clamped
		// The network's landmarks have (0, 0) at the corner of the first pixel, like
		// boxes.
		c.landmarks = eachPoint(c.landmarks, func(q face.Point) face.Point {
			q = at(q)
			return face.Point{X: q.X - 0.5, Y: q.Y - 0.5}
		})
		work.add(c, first)
		return nil
	})
}

// hint adds the surroundings of c to the hints.
func (w *workspace) hint(c detection) {
	margin := float64(hintMargin * c.size)
	w.hints = append(w.hints, face.Box{MinX: c.box.MinX - margin, MinY: c.box.MinY - margin, MaxX: c.box.MaxX + margin, MaxY: c.box.MaxY + margin})
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

// Weights of refined landmarks, by the spread of their walks. Up to trusted they count
// fully, and from doubted on as much as the network's own. Chosen on lfw_5pt and
// net_5pt: the mean error is .076 and .090 of the eye distance for the network's
// landmarks, .047 and .057 for refined ones, and .045 and .054 for this combination.
const (
	trusted = 0.005
	doubted = 0.03
)

func refine(l *landmark.Landmarker, img luma.Plane, rough face.Landmarks) face.Landmarks {
	fine, spread := l.Refine(img, rough)
	w := 0.5 + float64(0.5*min(max((doubted-spread)/(doubted-trusted), 0), 1))
	mix := func(a, b face.Point) face.Point {
		return face.Point{X: float64(w*a.X) + float64((1-w)*b.X), Y: float64(w*a.Y) + float64((1-w)*b.Y)}
	}
	return face.Landmarks{
		LeftEye: mix(fine.LeftEye, rough.LeftEye), RightEye: mix(fine.RightEye, rough.RightEye),
		Nose:      mix(fine.Nose, rough.Nose),
		MouthLeft: mix(fine.MouthLeft, rough.MouthLeft), MouthRight: mix(fine.MouthRight, rough.MouthRight),
	}
}

// logistic returns the probability for a raw score in (0, 1) by logistic regression on
// its logit.
func logistic(raw, intercept, slope float64) float64 {
	raw = min(max(raw, 1e-6), 1-1e-6)
	return exact.Logistic(intercept + float64(slope*exact.Log(raw/(1-raw))))
}

// maxFixed is the maximum area of a fixed input: the largest area that networks of any
// size are given.
const maxFixed = maxSide * maxSide

// fixedSize returns the fixed input size of a network with three planes, or zero if it
// accepts any size.
func fixedSize(e engine.Engine) (image.Point, error) {
	if err := engine.CheckFloat32(e); err != nil {
		return image.Point{}, err
	}
	input := e.Inputs()[0]
	in := input.Shape
	found := fmt.Sprintf("its input is %s; ", input)
	if len(in) != 4 || in[1] != 3 {
		return image.Point{}, errors.New(found + "the supported shape is [1×3×height×width]: three planes of one image")
	}
	height, width := in[2], in[3]
	switch {
	case in[0] != 1 && in[0] >= 0:
		return image.Point{}, errors.New(found + "only batches of one image are supported: export it for a batch of 1 or of any size")
	case height < 0 && width < 0:
		return image.Point{}, nil
	case height < 0 || width < 0:
		return image.Point{}, errors.New(found + "height and width must both be fixed, or both have any size: export it in one of these ways")
	case height%32 != 0 || width%32 != 0 || height == 0 || width == 0:
		return image.Point{}, errors.New(found + "height and width must be multiples of 32")
	case height > maxFixed/width:
		return image.Point{}, fmt.Errorf("%sheight times width must be at most %d (%d×%d)", found, maxFixed, maxSide, maxSide)
	}
	return image.Pt(int(width), int(height)), nil
}

// finite reports whether the box and the landmarks are finite. The score has been
// checked before.
func (d *detection) finite() bool {
	b, l := &d.box, &d.landmarks
	return engine.Finite(
		b.MinX, b.MinY, b.MaxX, b.MaxY, l.LeftEye.X, l.LeftEye.Y, l.RightEye.X, l.RightEye.Y,
		l.Nose.X, l.Nose.Y, l.MouthLeft.X, l.MouthLeft.Y, l.MouthRight.X, l.MouthRight.Y,
	)
}
