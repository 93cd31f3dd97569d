// Package mtcnn is the cascade of three networks of the Python package mtcnn. An engine
// runs the networks.
package mtcnn

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"maps"
	"math"
	"slices"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/mtcnn/area"
	"github.com/mienproject/mien/face/rgba"
	"github.com/mienproject/mien/internal/freelist"
)

// Detector is the cascade of Zhang, Zhang, Li and Qiao, "Joint Face Detection and
// Alignment using Multi-task Cascaded Convolutional Networks" (2016), as versions 0.1.0
// and 0.1.1 of the Python package mtcnn implement it: with the same thresholds, rounding,
// 1-based boxes and mistakes, so that users of the package get the same faces. It is
// not meant to be better than the package, but it has limits: networks see tiles and
// batches, and the largest level of the pyramid is bounded.
//
// The package returns whole numbers: it truncates (0.1.1 each edge, 0.1.0 the width and
// height of a box), and its boxes remain 1-based. Detect returns half a pixel less than
// the numbers that the package truncates, so that they round to the package's. For
// landmarks this is the coordinate frame of package face, because the package has (0, 0)
// at the corner of the first pixel. Boxes are half a pixel smaller on each side than what
// the networks found, as the package's are on average.
//
// It is immutable and therefore safe for concurrent use.
type Detector struct {
	pnet, rnet, onet engine.Engine
	// The positions of the networks' outputs: box offsets, probabilities, and the
	// points of O-net.
	pOffsets, pScores          int
	rOffsets, rScores          int
	oOffsets, oScores, oPoints int
	version                    string
	gate                       *cores.Gate
	workspaces                 freelist.List[*workspace]
}

var _ face.Detector = (*Detector)(nil)

// codeVersion changes whenever the same networks may give different faces.
const codeVersion = "+5"

// cutOff is the average difference between a number and the number truncated to an
// integer.
const cutOff = 0.5

// The constants of the package, which are those of the authors' own code for MATLAB.
const (
	// pnetWindow is the side of the area that one cell of P-net's output sees, and
	// pnetStride the distance to that of the next cell.
	pnetWindow = 12
	pnetStride = 2
	rnetSide   = 24
	onetSide   = 48
	// stockFace is the side of the smallest face that the package finds.
	stockFace = 20
	// pyramidFactor is the ratio of one level of the pyramid to the next: half the
	// area.
	pyramidFactor = 0.709
	// The minimum probabilities of a face after each network. For P-net, equal values
	// count; for the others, they do not.
	pnetMin, rnetMin, onetMin = 0.6, 0.7, 0.7
	// The overlaps above which the weaker of two boxes is dropped: within a level of
	// the pyramid, after R-net (both intersection over union), and at the end
	// (intersection over the smaller box).
	levelOverlap, rnetOverlap, onetOverlap = 0.5, 0.7, 0.7
)

// Limits of time and memory. The package has none.
const (
	// defaultLevel is the maximum number of pixels of the largest level of the pyramid
	// if the caller lets the detector choose the smallest face: up to an image of 12.5
	// megapixels this is the package's 20 pixels, and for larger images it grows with
	// their sides. largestLevel is the maximum if the caller sets a size. A level costs
	// about as much as all smaller ones together.
	defaultLevel = 4_500_000
	largestLevel = 16_000_000
	// tileCells is the side of the part of a level that P-net sees at once, in cells.
	// The network treats all positions alike, so tiles that share the margins of their
	// windows give the same results as the whole level. A tile takes 4 MB in the
	// network, which fits into caches.
	tileCells = 128
	// maxProposals is the number of cells of a level that may be faces, and maxRefined and
	// maxFinished are the numbers of boxes that R-net and O-net examine: the most probable
	// ones. On photographs of crowds they are at most 6000, 10,000 and 1100, and mostly
	// less than a tenth of that.
	maxProposals = 1 << 16
	maxRefined   = 10_000
	maxFinished  = 2_500
	// R-net takes 0.1 MB for each face in a batch, and O-net 0.5 MB.
	rnetBatch = 64
	onetBatch = 16
)

// Files are the names of the networks in a model's folder: P-net, R-net and O-net.
var Files = []string{"pnet.onnx", "rnet.onnx", "onet.onnx"}

// New returns a detector of MTCNN's three networks, in the order of Files. Channels
// come last, a batch may have any size, and the two spatial axes are swapped relative
// to the image's. New runs each network once, and rejects networks of another kind.
// version names these networks. A call uses a second core of the gate while one is idle, with
// the same faces. Nil is a gate to one core.
func New(networks []engine.Engine, version string, gate *cores.Gate) (*Detector, error) {
	if len(networks) != len(Files) {
		return nil, fmt.Errorf("%d networks; MTCNN has %d", len(networks), len(Files))
	}
	if gate == nil {
		gate = cores.NewGate(1)
	}
	d := &Detector{pnet: networks[0], rnet: networks[1], onet: networks[2], version: version + codeVersion, gate: gate}
	d.workspaces.New = func() *workspace { return &workspace{} }
	for i, n := range d.layout() {
		if err := n.check(networks[i]); err != nil {
			return nil, fmt.Errorf("%s is not MTCNN's %s: %w", Files[i], n.name, err)
		}
	}
	return d, nil
}

// layout describes one of the networks.
type layout struct {
	name  string
	input engine.Shape // -1 means any size
	// outputs has where to store the position of each output, by the size of its last
	// axis.
	outputs map[int64]*int
	// probe is the shape of an input, and cells the number of places in an output for
	// it.
	probe, cells engine.Shape
}

// layout returns the layouts of the three networks, which store the positions of
// outputs in d.
func (d *Detector) layout() []layout {
	const offsets, scores, points = 4, 2, 10
	return []layout{
		{
			"P-net",
			engine.Shape{-1, -1, -1, 3},
			map[int64]*int{offsets: &d.pOffsets, scores: &d.pScores},
			engine.Shape{1, 24, 16, 3},
			engine.Shape{1, int64(cellsOf(24)), int64(cellsOf(16))},
		},
		{
			"R-net",
			engine.Shape{-1, rnetSide, rnetSide, 3},
			map[int64]*int{offsets: &d.rOffsets, scores: &d.rScores},
			engine.Shape{2, rnetSide, rnetSide, 3},
			engine.Shape{2},
		},
		{
			"O-net",
			engine.Shape{-1, onetSide, onetSide, 3},
			map[int64]*int{offsets: &d.oOffsets, scores: &d.oScores, points: &d.oPoints},
			engine.Shape{2, onetSide, onetSide, 3},
			engine.Shape{2},
		},
	}
}

// check compares a network with l, and finds its outputs.
func (l layout) check(e engine.Engine) error {
	if len(e.Inputs()) != 1 || !slices.Equal(e.Inputs()[0].Shape, l.input) {
		return fmt.Errorf("its input is %s, not %s with the channels last", engine.Describe(e.Inputs()), l.input)
	}
	if err := engine.CheckFloat32(e); err != nil {
		return err
	}
	axes := len(l.cells) + 1
	found := map[int64]bool{}
	for i, o := range e.Outputs() {
		if len(o.Shape) != axes {
			continue
		}
		if at, ok := l.outputs[o.Shape[axes-1]]; ok {
			*at = i
			found[o.Shape[axes-1]] = true
		}
	}
	if len(e.Outputs()) != len(l.outputs) || len(found) != len(l.outputs) {
		return fmt.Errorf("its outputs are %s, not %d outputs of %d axes, the last of %d",
			engine.Describe(e.Outputs()), len(l.outputs), axes, slices.Sorted(maps.Keys(l.outputs)))
	}
	wanted := make([]engine.Shape, len(l.outputs))
	for values, at := range l.outputs {
		wanted[*at] = append(slices.Clone(l.cells), values)
	}
	return engine.CheckShapes(e, l.probe, wanted)
}

// Info implements face.Detector.
func (d *Detector) Info() face.Info {
	return face.Info{
		Family:        "mtcnn",
		Version:       d.version,
		Landmarks:     true,
		MinConfidence: minConfidence,
		MinFaceSize:   pnetWindow,
	}
}

// Input implements face.Detector. The Python package scales the whole image.
func (d *Detector) Input(width, height int, opts face.Options) face.Input {
	const (
		rgba = 4 // a copy in RGBA
		// tables are the candidates, at their limits, and what the networks take for a
		// tile of P-net on each of two cores, and for the batches of the others.
		tables = 14 << 20
	)
	side, _ := smallestFace(width, height, opts.MinFaceSize)
	scale := float64(pnetWindow) / float64(side)
	cells := float64(scale * scale / (pnetStride * pnetStride)) // a byte for each of the largest level
	return face.Input{Reduce: 1, Bytes: tables, BytesPerPixel: rgba + cells}
}

// workspace is the memory of one call.
type workspace struct {
	pixels              []uint8
	searches            [2]search
	rnet, onet          engine.Buffers
	scaler              area.Scaler
	candidates, batches []candidate
	// truncated is whether faces may be missing because of a limit.
	truncated bool
}

// search is the memory in which a goroutine searches levels of the pyramid with P-net.
type search struct {
	scaler     area.Scaler
	pnet       engine.Buffers
	proposals  []proposal
	kept       []bool
	candidates []candidate
	truncated  bool
}

// candidate is a box that may be a face. As in the package, it is 1-based, and both of
// its ends belong to it.
type candidate struct {
	x1, y1, x2, y2 float64
	score          float32
	points         [5]face.Point
}

// Products are rounded before they are added to others, on all processors alike.
func (c candidate) area() float64 { return float64((c.x2 - c.x1 + 1) * (c.y2 - c.y1 + 1)) }

// Detect implements face.Detector.
func (d *Detector) Detect(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := img.Bounds()
	if b.Empty() {
		return nil, nil
	}
	d.gate.Enter(ctx)
	defer d.gate.Leave(ctx)
	ctx = d.gate.Within(ctx)
	w := d.workspaces.Get()
	defer d.workspaces.Put(w)
	if err := d.cascade(ctx, w, img, opts.MinFaceSize); err != nil {
		return nil, err
	}
	if w.truncated && opts.Truncated != nil {
		opts.Truncated()
	}
	faces := make([]face.Face, 0, len(w.candidates))
	for _, c := range w.candidates {
		// The box for the smallest window may be somewhat smaller.
		if opts.MinFaceSize > pnetWindow && max(c.x2-c.x1, c.y2-c.y1) < opts.MinFaceSize {
			continue
		}
		f := face.Face{
			Box:        face.Box{MinX: c.x1 - cutOff, MinY: c.y1 - cutOff, MaxX: c.x2 - cutOff, MaxY: c.y2 - cutOff}.Clamp(b.Dx(), b.Dy()),
			Confidence: confidence(c.score),
		}
		if !(f.Confidence >= opts.MinConfidence) || f.Box.Area() == 0 {
			continue
		}
		if !opts.SkipLandmarks {
			p := c.points
			for i := range p {
				p[i].X = min(max(p[i].X-cutOff, 0), float64(b.Dx()-1))
				p[i].Y = min(max(p[i].Y-cutOff, 0), float64(b.Dy()-1))
			}
			f.Landmarks = &face.Landmarks{LeftEye: p[0], RightEye: p[1], Nose: p[2], MouthLeft: p[3], MouthRight: p[4]}
		}
		faces = append(faces, f)
	}
	slices.SortFunc(faces, face.Compare)
	if opts.MaxResults > 0 && len(faces) > opts.MaxResults {
		faces = faces[:opts.MaxResults:opts.MaxResults]
	}
	return faces, nil
}

// cascade finds the faces in img. The result is in w.candidates.
func (d *Detector) cascade(ctx context.Context, w *workspace, img image.Image, smallest float64) error {
	w.candidates = w.candidates[:0]
	width, height := img.Bounds().Dx(), img.Bounds().Dy()
	side, bounded := smallestFace(width, height, smallest)
	w.truncated = bounded
	levels := scales(width, height, side)
	if len(levels) == 0 {
		return nil
	}
	src, err := rgba.Of(ctx, img, &w.pixels)
	if err != nil {
		return err
	}
	if err := d.searchAll(ctx, w, src, levels); err != nil {
		return err
	}
	// At this point the package suppresses boxes across levels, above 0.7 of the union.
	// That never has an effect, because boxes of two levels differ by half in area. But
	// it leaves the boxes in the order of falling probability, of equal ones the last
	// first, and that order decides which of two remains that R-net gives the same
	// probability.
	slices.Reverse(w.candidates)
	slices.SortStableFunc(w.candidates, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	w.limit(maxRefined)
	if err := d.refine(ctx, w, src); err != nil {
		return err
	}
	// They are in the order of falling probability again.
	w.limit(maxFinished)
	return d.finish(ctx, w, src)
}

// limit keeps the first n candidates.
func (w *workspace) limit(n int) {
	if len(w.candidates) > n {
		w.candidates, w.truncated = w.candidates[:n], true
	}
}

// smallestFace returns the side of the smallest face to find, and whether the size of the
// image makes it larger. asked is the size that the caller set.
func smallestFace(width, height int, asked float64) (side int, bounded bool) {
	side = stockFace
	maxPixels := float64(defaultLevel)
	if asked > 0 {
		side, maxPixels = int(max(pnetWindow, min(asked, math.MaxInt32))), largestLevel
	}
	bound := math.Ceil(pnetWindow * math.Sqrt(float64(width)*float64(height)/maxPixels))
	if int(bound) > side {
		return int(bound), true
	}
	return side, false
}

// scales returns the scales of the levels of the pyramid: the first one at which a face
// of the smallest size is as large as P-net's window, and smaller ones as long as the
// image still has a window.
func scales(width, height, smallest int) []float64 {
	first := float64(pnetWindow) / float64(smallest)
	var all []float64
	side := float64(min(width, height)) * first
	for side >= pnetWindow {
		all = append(all, first*math.Pow(pyramidFactor, float64(len(all))))
		side *= pyramidFactor
	}
	return all
}

// level is one level of the pyramid: an image of width × height pixels, and P-net's
// output of columns × rows cells for it.
type level struct {
	width, height int
	columns, rows int
}

// cellsOf returns the number of P-net's cells along a side. P-net has a 3×3
// convolution, a pooling by two that rounds up, and two more 3×3 convolutions.
func cellsOf(side int) int { return (side-1)/2 - 4 }

// proposal is a cell of P-net that may be a face.
type proposal struct {
	x, y   int
	score  float32
	offset [4]float32
}

// searchAll runs P-net on all levels of the pyramid. What it finds is in w.candidates.
func (d *Detector) searchAll(ctx context.Context, w *workspace, src *image.RGBA, levels []float64) error {
	// The first level has as many pixels as all others together.
	parts := [][]float64{levels}
	if d.gate.Idle() > 0 {
		parts = [][]float64{levels[:1], levels[1:]}
	}
	err := d.gate.Do(len(parts), func(i int) error {
		s := &w.searches[i]
		s.candidates, s.truncated = s.candidates[:0], false
		for _, scale := range parts[i] {
			if err := d.propose(ctx, s, src, scale); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range parts {
		s := &w.searches[i]
		w.candidates = append(w.candidates, s.candidates...)
		w.truncated = w.truncated || s.truncated
	}
	return err
}

// propose runs P-net on one level of the pyramid, and appends what it finds to
// s.candidates: squares in whole pixels.
func (d *Detector) propose(ctx context.Context, s *search, src *image.RGBA, scale float64) error {
	l := level{
		width:  int(math.Ceil(float64(src.Rect.Dx()) * scale)),
		height: int(math.Ceil(float64(src.Rect.Dy()) * scale)),
	}
	l.columns, l.rows = cellsOf(l.width), cellsOf(l.height)
	s.scaler.Scale(src, src.Rect, image.Pt(l.width, l.height))
	s.proposals = s.proposals[:0]
	for y := 0; y < l.rows; y += tileCells {
		for x := 0; x < l.columns; x += tileCells {
			cells := image.Rect(x, y, min(x+tileCells, l.columns), min(y+tileCells, l.rows))
			offsets, scores, err := d.runPNet(ctx, s, l, cells)
			if err != nil {
				return err
			}
			for i := range cells.Dx() * cells.Dy() {
				// The output is ordered by columns, because the axes are swapped.
				score, offset := scores[2*i+1], offsets[4*i:][:4]
				if !engine.Finite(score) {
					return fmt.Errorf("in P-net: %w", engine.ErrNotFinite)
				}
				if score < pnetMin {
					continue
				}
				if !engine.Finite(offset...) {
					return fmt.Errorf("in P-net: %w", engine.ErrNotFinite)
				}
				s.proposals = append(s.proposals, proposal{x + i/cells.Dy(), y + i%cells.Dy(), score, [4]float32(offset)})
			}
			if len(s.proposals) > 2*maxProposals {
				s.sortProposals()
			}
		}
	}
	if len(s.proposals) == 1 {
		// If there is only one proposal, the package mirrors the map of offsets. Its
		// model in MATLAB had to transpose one there; in the package this is a mistake.
		// Without it, large faces would differ from the package's.
		p := &s.proposals[0]
		mirrored := image.Rect(l.columns-1-p.x, p.y, l.columns-p.x, p.y+1)
		offsets, _, err := d.runPNet(ctx, s, l, mirrored)
		if err != nil {
			return err
		}
		if p.offset = [4]float32(offsets); !engine.Finite(p.offset[:]...) {
			return fmt.Errorf("in P-net: %w", engine.ErrNotFinite)
		}
	}
	return s.squares(ctx, l, scale)
}

// runPNet returns the offsets and the probabilities of some of a level's cells, column
// by column.
func (d *Detector) runPNet(ctx context.Context, s *search, l level, cells image.Rectangle) (offsets, scores []float32, err error) {
	const margin = pnetWindow - pnetStride
	pixels := image.Rect(
		pnetStride*cells.Min.X, pnetStride*cells.Min.Y,
		min(pnetStride*cells.Max.X+margin, l.width), min(pnetStride*cells.Max.Y+margin, l.height),
	)
	columns, rows := int64(cells.Dx()), int64(cells.Dy())
	shapes := make([]engine.Shape, 2)
	shapes[d.pOffsets] = engine.Shape{1, columns, rows, 4}
	shapes[d.pScores] = engine.Shape{1, columns, rows, 2}
	s.pnet.Resize(engine.Shape{1, int64(pixels.Dx()), int64(pixels.Dy()), 3}, shapes)
	if err := s.scaler.Part(ctx, s.pnet.Input.Data, pixels, area.Rounded); err != nil {
		return nil, nil, err
	}
	if err := d.pnet.Run(ctx, s.pnet.Input, s.pnet.Outputs); err != nil {
		return nil, nil, err
	}
	return s.pnet.Outputs[d.pOffsets].Data, s.pnet.Outputs[d.pScores].Data, nil
}

// sortProposals sorts the proposals of a level, and keeps the first maxProposals. The
// package sorts by columns and processes the result from the end, with a sort that does not
// define the order of equal proposals. Here the last of them comes first.
func (s *search) sortProposals() {
	slices.SortFunc(s.proposals, func(a, b proposal) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.x, a.x), cmp.Compare(b.y, a.y))
	})
	if len(s.proposals) > maxProposals {
		s.proposals, s.truncated = s.proposals[:maxProposals], true
	}
}

// squares suppresses the weaker of proposals at the same place, moves the others by
// their offsets, and makes them square.
func (s *search) squares(ctx context.Context, l level, scale float64) error {
	s.sortProposals()
	box := func(x, y int) candidate {
		at := func(cell, pixel int) float64 { return math.Trunc(float64(pnetStride*cell+pixel) / scale) }
		return candidate{x1: at(x, 1), y1: at(y, 1), x2: at(x, pnetWindow), y2: at(y, pnetWindow)}
	}
	// All boxes have the same size, so boxes that are four cells apart do not overlap
	// by half. Checking only the kept proposals around each one makes this linear.
	const reach = 3
	n := l.columns * l.rows
	s.kept = freelist.Resize(s.kept, n)
	clear(s.kept)
	for i, p := range s.proposals {
		if i%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		c := box(p.x, p.y)
		if s.suppressed(l, p, c, box, reach) {
			continue
		}
		s.kept[p.y*l.columns+p.x] = true
		c = c.shifted(p.offset, c.x2-c.x1, c.y2-c.y1)
		c.score = p.score
		s.candidates = append(s.candidates, c.square().whole())
	}
	return nil
}

// suppressed reports whether a kept box covers the place of c, the box of p.
func (s *search) suppressed(l level, p proposal, c candidate, box func(x, y int) candidate, reach int) bool {
	for y := max(p.y-reach, 0); y <= min(p.y+reach, l.rows-1); y++ {
		for x := max(p.x-reach, 0); x <= min(p.x+reach, l.columns-1); x++ {
			if s.kept[y*l.columns+x] && overUnion(box(x, y), c) > levelOverlap {
				return true
			}
		}
	}
	return false
}

// refine runs R-net on w.candidates, and keeps those that may still be faces, as
// squares.
func (d *Detector) refine(ctx context.Context, w *workspace, src *image.RGBA) error {
	shapes := func(n int64) []engine.Shape {
		s := make([]engine.Shape, 2)
		s[d.rOffsets], s[d.rScores] = engine.Shape{n, 4}, engine.Shape{n, 2}
		return s
	}
	var offsets [][4]float32
	err := w.batch(ctx, d.rnet, &w.rnet, src, rnetSide, rnetBatch, shapes, func(c candidate, i int) error {
		c.score = w.rnet.Outputs[d.rScores].Data[2*i+1]
		offset := w.rnet.Outputs[d.rOffsets].Data[4*i:][:4]
		if !engine.Finite(c.score) || (c.score > rnetMin && !engine.Finite(offset...)) {
			return fmt.Errorf("in R-net: %w", engine.ErrNotFinite)
		}
		if c.score > rnetMin {
			w.candidates = append(w.candidates, c)
			offsets = append(offsets, [4]float32(offset))
		}
		return nil
	})
	if err != nil {
		return err
	}
	kept, err := suppress(ctx, w.candidates, overUnion, rnetOverlap)
	if err != nil {
		return err
	}
	// The result is in another order than the candidates, so it needs other memory.
	w.batches = w.batches[:0]
	for _, i := range kept {
		w.batches = append(w.batches, w.candidates[i].moved(offsets[i]).square().whole())
	}
	w.candidates, w.batches = w.batches, w.candidates
	return nil
}

// finish runs O-net on w.candidates, and keeps the faces.
func (d *Detector) finish(ctx context.Context, w *workspace, src *image.RGBA) error {
	shapes := func(n int64) []engine.Shape {
		s := make([]engine.Shape, 3)
		s[d.oOffsets], s[d.oScores], s[d.oPoints] = engine.Shape{n, 4}, engine.Shape{n, 2}, engine.Shape{n, 10}
		return s
	}
	err := w.batch(ctx, d.onet, &w.onet, src, onetSide, onetBatch, shapes, func(c candidate, i int) error {
		c.score = w.onet.Outputs[d.oScores].Data[2*i+1]
		if !engine.Finite(c.score) {
			return fmt.Errorf("in O-net: %w", engine.ErrNotFinite)
		}
		if c.score <= onetMin {
			return nil
		}
		offset := w.onet.Outputs[d.oOffsets].Data[4*i:][:4]
		// Five x, then five y, relative to the square.
		p := w.onet.Outputs[d.oPoints].Data[10*i:][:10]
		if !engine.Finite(offset...) || !engine.Finite(p...) {
			return fmt.Errorf("in O-net: %w", engine.ErrNotFinite)
		}
		for k := range c.points {
			c.points[k] = face.Point{
				X: float64((c.x2-c.x1+1)*float64(p[k])) + c.x1 - 1,
				Y: float64((c.y2-c.y1+1)*float64(p[5+k])) + c.y1 - 1,
			}
		}
		w.candidates = append(w.candidates, c.moved([4]float32(offset)))
		return nil
	})
	if err != nil {
		return err
	}
	kept, err := suppress(ctx, w.candidates, overSmaller, onetOverlap)
	if err != nil {
		return err
	}
	w.batches = w.batches[:0]
	for _, i := range kept {
		w.batches = append(w.batches, w.candidates[i])
	}
	w.candidates, w.batches = w.batches, w.candidates
	return nil
}

// batch runs a network, whose input is squares of side × side pixels, on the parts of
// the image in w.candidates. It calls done for each of them, which appends to
// w.candidates in place.
func (w *workspace) batch(
	ctx context.Context, e engine.Engine, b *engine.Buffers, src *image.RGBA, side, maxBatch int,
	shapes func(n int64) []engine.Shape, done func(c candidate, i int) error,
) error {
	// done never appends more candidates than were read.
	rest := w.candidates
	w.candidates = w.candidates[:0]
	for len(rest) > 0 {
		part := rest[:min(maxBatch, len(rest))]
		rest = rest[len(part):]
		n := int64(len(part))
		b.Resize(engine.Shape{n, int64(side), int64(side), 3}, shapes(n))
		data := b.Input.Data
		size := 3 * side * side
		for i, c := range part {
			if err := w.crop(ctx, data[i*size:][:size], src, c, side); err != nil {
				return err
			}
		}
		if err := e.Run(ctx, b.Input, b.Outputs); err != nil {
			return err
		}
		for i, c := range part {
			if err := done(c, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// crop resamples the part c of src, with black around the image, to side × side pixels.
// The package fails for boxes without area.
func (w *workspace) crop(ctx context.Context, dst []float32, src *image.RGBA, c candidate, side int) error {
	width, height := int(c.x2-c.x1)+1, int(c.y2-c.y1)+1
	// A box much larger than the image cannot be a face.
	if limit := 16 * max(src.Rect.Dx(), src.Rect.Dy(), side); width < 1 || height < 1 || width > limit || height > limit {
		for i := range dst {
			dst[i] = area.Black
		}
		return nil
	}
	from := image.Pt(int(c.x1)-1, int(c.y1)-1)
	w.scaler.Scale(src, image.Rectangle{from, from.Add(image.Pt(width, height))}, image.Pt(side, side))
	return w.scaler.Part(ctx, dst, image.Rect(0, 0, side, side), area.Unrounded)
}

// square makes c a square with the same middle and the longer side.
func (c candidate) square() candidate {
	width, height := c.x2-c.x1, c.y2-c.y1
	side := max(width, height)
	c.x1 += float64(width*0.5) - float64(side*0.5)
	c.y1 += float64(height*0.5) - float64(side*0.5)
	c.x2, c.y2 = c.x1+side, c.y1+side
	return c
}

// whole truncates the coordinates of c to whole pixels, toward zero.
func (c candidate) whole() candidate {
	c.x1, c.y1, c.x2, c.y2 = math.Trunc(c.x1), math.Trunc(c.y1), math.Trunc(c.x2), math.Trunc(c.y2)
	return c
}

// moved moves the sides of c by fractions of its size.
func (c candidate) moved(offset [4]float32) candidate {
	return c.shifted(offset, c.x2-c.x1+1, c.y2-c.y1+1)
}

// shifted moves the sides of c by fractions of width and height.
func (c candidate) shifted(offset [4]float32, width, height float64) candidate {
	c.x1 += float64(float64(offset[0]) * width)
	c.y1 += float64(float64(offset[1]) * height)
	c.x2 += float64(float64(offset[2]) * width)
	c.y2 += float64(float64(offset[3]) * height)
	return c
}

func shared(a, b candidate) float64 {
	w := min(a.x2, b.x2) - max(a.x1, b.x1) + 1
	h := min(a.y2, b.y2) - max(a.y1, b.y1) + 1
	return float64(max(0, w) * max(0, h))
}

func overUnion(a, b candidate) float64 {
	s := shared(a, b)
	return s / (a.area() + b.area() - s)
}

func overSmaller(a, b candidate) float64 { return shared(a, b) / min(a.area(), b.area()) }

// suppress is greedy non-maximum suppression. It returns the indices of the remaining
// boxes, by decreasing score. Of equal scores, the last comes first.
func suppress(ctx context.Context, candidates []candidate, overlap func(a, b candidate) float64, limit float64) ([]int, error) {
	order := make([]int, len(candidates))
	for i := range order {
		order[i] = i
	}
	return face.Suppress(ctx, order, func(i, k int) int {
		return cmp.Or(cmp.Compare(candidates[k].score, candidates[i].score), cmp.Compare(k, i))
	}, func(kept, i *int) bool { return overlap(candidates[*kept], candidates[*i]) > limit })
}

// minConfidence leaves about one false face in ten images without faces. This is what
// the package finds with its own thresholds.
const minConfidence = onetMin

// confidence converts O-net's probability to a confidence, without a change: on the
// labeled photographs its calibration error is .04. Therefore thresholds that were
// chosen for the package stay valid.
func confidence(score float32) float64 { return float64(score) }
