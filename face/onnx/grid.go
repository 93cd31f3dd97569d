//go:build cgo

package onnx

import (
	"context"
	"fmt"
	"image"
	"math"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/pigo"
)

// grid is a detector whose network looks at the whole image at once and answers
// for each cell of three grids, 8, 16 and 32 pixels wide: YuNet and SCRFD.
type grid struct {
	session *session
	// info.InputSize is the only input size that the network takes; zero: any
	// multiple of 32.
	info face.Info
	// outputs tells the shapes of the outputs for a grid of that many cells at
	// each stride, in the session's order.
	outputs func(cells [len(strides)]int64) []ort.Shape
	// order is which of blue, green and red the three input planes are.
	order [3]int
	// normalize changes an input of 0 to 255 in place; nil leaves it.
	normalize func([]float32)
	// faces calls yield for each face that the outputs tell, in pixels of the
	// input, with a raw score of at least rawLeast.
	faces func(outputs []*ort.Tensor[float32], cols [len(strides)]int, yield func(face.Face))
	// confidence turns a raw score into a probability.
	confidence func(raw float64) float64
	// landmarker refines the network's landmarks; nil leaves them.
	landmarker *pigo.Landmarker

	workspaces chan *workspace
}

var strides = [...]int{8, 16, 32}

// rawLeast is the raw score under which a cell is no candidate. It only saves
// work: what lies below ranks last.
const rawLeast = 0.02

// suppressIoU is the overlap above which two boxes are the same face.
const suppressIoU = 0.4

// workspace is what one call needs, kept for the next.
type workspace struct {
	tensors tensors
	row     []float32
}

// maxWorkspaces is how many are kept: more than a server has workers would lie
// idle.
const maxWorkspaces = 64

func (g *grid) Info() face.Info { return g.info }

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
			work.tensors.free()
		}
	}()

	var (
		p     = planesOf(img)
		faces []face.Face
	)
	for _, l := range g.looks(b.Dx(), b.Dy(), opts.MinFaceSize) {
		found, err := g.look(ctx, work, p, l)
		if err != nil {
			return nil, err
		}
		faces = append(faces, found...)
	}
	faces = face.Suppress(faces, face.IoU, suppressIoU)

	var luminance pigo.Luminance
	if g.landmarker != nil && !opts.SkipLandmarks {
		luminance = pigo.LuminanceOf(img)
	}
	kept := faces[:0]
	for _, f := range faces {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// Before clamping: a face is not smaller for being cut by the frame.
		if max(f.Box.Width(), f.Box.Height()) < float64(opts.MinFaceSize) {
			continue
		}
		f.Confidence = g.confidence(f.Confidence)
		if f.Confidence < opts.MinConfidence || (opts.MaxResults > 0 && len(kept) == opts.MaxResults) {
			break // they are sorted, and confidence grows with the raw score
		}
		if opts.SkipLandmarks {
			f.Landmarks = nil
		} else {
			l := *f.Landmarks
			if g.landmarker != nil {
				l = refine(g.landmarker, luminance, l)
			}
			l = clampLandmarks(l, b.Dx(), b.Dy())
			f.Landmarks = &l
		}
		f.Box = f.Box.Clamp(b.Dx(), b.Dy())
		kept = append(kept, f)
	}
	return kept, nil
}

// look is one pass of the network: over the image scaled by scale, for faces
// whose longer side is from smallest to largest pixels of the image.
type look struct {
	scale             float64
	smallest, largest float64
}

// The longer sides, in pixels, to which an image is brought. Of the pairs that
// docs/accuracy.md lists, this finds most.
const (
	coarseSide = 640
	fineSide   = 1120
	// Faces that fill the frame are seen best when they are small.
	tinySide = 256
	tinyFrom = 0.35
	// mostSide bounds what a caller's smallest face can ask for.
	mostSide = 2560
	// Faces of that many pixels of the fine input are taken from both.
	bandFrom, bandTo = 32, 128
	// smallestSeen is the smallest face that the networks find, in pixels of
	// their input.
	smallestSeen = 10
)

// looks chooses the passes for an image. Faces from a hundredth of its longer side
// on are looked for, unless the caller says how small they may be.
func (g *grid) looks(width, height, minFaceSize int) []look {
	longer := float64(max(width, height))
	if g.info.InputSize != (image.Point{}) {
		return []look{{min(float64(g.info.InputSize.X)/float64(width), float64(g.info.InputSize.Y)/float64(height)), 0, math.Inf(1)}}
	}
	fine := float64(fineSide)
	if minFaceSize > 0 {
		fine = min(max(longer*smallestSeen/float64(minFaceSize), coarseSide/2), mostSide)
	}
	if fine <= coarseSide {
		return []look{{fine / longer, 0, math.Inf(1)}}
	}
	scale := fine / longer
	return []look{
		{tinySide / longer, longer * tinyFrom, math.Inf(1)},
		{coarseSide / longer, bandFrom / scale, math.Inf(1)},
		{scale, 0, bandTo / scale},
	}
}

func (g *grid) look(ctx context.Context, work *workspace, p picture, l look) ([]face.Face, error) {
	w := max(1, int(math.Round(float64(p.width)*l.scale)))
	h := max(1, int(math.Round(float64(p.height)*l.scale)))
	padded := image.Pt((w+31)/32*32, (h+31)/32*32)
	if g.info.InputSize != (image.Point{}) {
		padded = g.info.InputSize
		w, h = min(w, padded.X), min(h, padded.Y)
	}
	var (
		cells [len(strides)]int64
		cols  [len(strides)]int
	)
	for i, stride := range strides {
		cols[i] = padded.X / stride
		cells[i] = int64(cols[i] * (padded.Y / stride))
	}
	t := &work.tensors
	if err := t.resize(ort.NewShape(1, 3, int64(padded.Y), int64(padded.X)), g.outputs(cells)); err != nil {
		return nil, err
	}
	if cap(work.row) < p.width {
		work.row = make([]float32, p.width)
	}
	data := t.input.GetData()
	clear(data)
	n := padded.X * padded.Y
	var planes [3][]float32 // blue, green, red
	for i, colour := range g.order {
		planes[colour] = data[i*n : (i+1)*n]
	}
	p.input(planes[0], planes[1], planes[2], w, h, padded.X, l.scale, work.row[:p.width])
	if g.normalize != nil {
		g.normalize(data)
	}
	if err := g.session.infer(ctx, t); err != nil {
		return nil, err
	}

	var faces []face.Face
	back := 1 / l.scale
	g.faces(t.outputs, cols, func(f face.Face) {
		f.Box = face.Box{MinX: f.Box.MinX * back, MinY: f.Box.MinY * back, MaxX: f.Box.MaxX * back, MaxY: f.Box.MaxY * back}
		// Written so that what is no number fails.
		if side := max(f.Box.Width(), f.Box.Height()); !(side > 0 && side >= l.smallest && side <= l.largest) {
			return
		}
		f.Landmarks = eachPoint(*f.Landmarks, func(q face.Point) face.Point { return face.Point{X: q.X * back, Y: q.Y * back} })
		faces = append(faces, f)
	})
	return face.Suppress(faces, face.IoU, suppressIoU), nil
}

func eachPoint(l face.Landmarks, f func(face.Point) face.Point) *face.Landmarks {
	return &face.Landmarks{
		LeftEye: f(l.LeftEye), RightEye: f(l.RightEye), Nose: f(l.Nose),
		MouthLeft: f(l.MouthLeft), MouthRight: f(l.MouthRight),
	}
}

func clampLandmarks(l face.Landmarks, width, height int) face.Landmarks {
	return *eachPoint(l, func(p face.Point) face.Point {
		return face.Point{X: min(max(p.X, 0), float64(width-1)), Y: min(max(p.Y, 0), float64(height-1))}
	})
}

// How far refined landmarks are trusted, by the spread of their walks: fully at
// trusted and less, and as much as the network's own from doubted on. Chosen on
// lfw_5pt and net_5pt: the mean error falls from .076 and .090 of the eye
// distance (the network's), .047 and .057 (refined) to .045 and .054 (so mixed).
const (
	trusted = 0.005
	doubted = 0.03
)

func refine(l *pigo.Landmarker, img pigo.Luminance, rough face.Landmarks) face.Landmarks {
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

// fixedSize returns the input size of a network of three planes; zero when it
// takes any.
func fixedSize(in ort.Shape) (image.Point, error) {
	if len(in) != 4 || in[1] != 3 {
		return image.Point{}, fmt.Errorf("input %v is not 1×3×height×width", in)
	}
	if in[2] <= 0 || in[3] <= 0 {
		return image.Point{}, nil
	}
	if in[2]%32 != 0 || in[3]%32 != 0 {
		return image.Point{}, fmt.Errorf("input %v is not of multiples of 32", in)
	}
	return image.Pt(int(in[3]), int(in[2])), nil
}
