package grid

import (
	"image"
	"math"
	"slices"

	"github.com/mienproject/mien/face"
)

// pass is one run of the network over a part of the image, scaled by scale, for faces
// whose longer side is from minSize to maxSize pixels of the image.
type pass struct {
	scale            float64
	minSize, maxSize float64
	part             image.Rectangle
	// core contains the centers of this pass's faces. Of the faces in the overlap of
	// two tiles, each tile takes those that are nearer to it.
	core face.Box
	// narrowed means that the pass is run only over the windows in which an earlier pass
	// has hints, and not at all if there are none. window is one of them, in pixels of the
	// input, if it is not empty.
	narrowed bool
	window   image.Rectangle
	// hintsTo is the size of the largest candidates, in pixels of the image, that are
	// hints for a narrowed pass. 0 means that there are no hints.
	hintsTo float64
	// input is the index into workspace.buffers. Passes with the same input size share
	// it.
	input int
}

// takes reports whether c, which the pass found, is one of its faces. It returns false
// for a box with a NaN.
func (p pass) takes(c detection) bool {
	x, y := (c.box.MinX+c.box.MaxX)/2, (c.box.MinY+c.box.MaxY)/2
	return c.size > 0 && c.size >= p.minSize && c.size <= p.maxSize &&
		x >= p.core.MinX && x < p.core.MaxX && y >= p.core.MinY && y < p.core.MaxY
}

// maxInputs is the maximum number of input sizes for one image.
const maxInputs = 3

// The sides, in pixels, to which the passes scale an image (see sideOf).
// docs/accuracy.md compares pairs of the coarse and the fine one.
const (
	coarseSide = 640
	fineSide   = 1128
	// Faces that fill the image are found best when they are small.
	tinySide = 256
	tinyFrom = 0.35
	// maxSide limits what a caller's smallest face can request.
	maxSide = 2560
	// Faces of this size, in pixels of the fine input, are taken from both passes.
	bandFrom, bandTo = 32, 128
	// smallestSeen is the smallest face that the networks find, in pixels of their
	// input.
	smallestSeen = 10
)

// aspect is the aspect ratio of a common photograph, 3:2.
const aspect = 1.5

// sideOf returns the longer side of a 3:2 photograph with as many pixels as an image of
// width × height. Passes are sized by it instead of the longer side of the image
// itself, so that faces in screenshots and panoramas are not reduced too far.
func sideOf(width, height int) float64 {
	return math.Sqrt(aspect * float64(width) * float64(height))
}

// minHint is the minimum raw score of a candidate that is a hint for a finer pass. On the
// WIDER images, the coarse pass has such a candidate at nearly each face of which the fine
// pass is sure (docs/accuracy.md).
const minHint = 0.1

// hintMargin is the margin around a hint that the network must see to find the same face
// as in the whole image, in sizes of the hint.
const hintMargin = 1

// alignment of inputs and of windows, in pixels: the width of the largest cells.
const alignment = 32

// windows returns the parts of p's input, in pixels, that show the hints, each of which is
// given with its surroundings, in pixels of the image. Parts that overlap are one. All are
// aligned to the largest cells, so that the network sees the same values there as in a pass
// over the whole image. They are appended to the given ones, of which there are none.
func (p pass) windows(hints []face.Box, windows []image.Rectangle) []image.Rectangle {
	down := func(v float64) int { return int(v*p.scale) / alignment * alignment }
	up := func(v float64) int { return aligned(int(math.Ceil(v * p.scale))) }
	for _, h := range hints {
		h = h.Clamp(p.part.Dx(), p.part.Dy())
		w := image.Rect(down(h.MinX), down(h.MinY), up(h.MaxX), up(h.MaxY))
		for i := 0; i < len(windows); i++ {
			if windows[i].Overlaps(w) {
				w = w.Union(windows[i])
				windows = slices.Delete(windows, i, i+1)
				i = -1 // it may overlap those before, now
			}
		}
		windows = append(windows, w)
	}
	return windows
}

// aligned rounds n up to a multiple of alignment.
func aligned(n int) int { return (n + alignment - 1) / alignment * alignment }

// passes returns the passes for an image of width × height pixels; the finest one is
// last. By default they find faces from a hundredth of the image's side on.
// minFaceSize, in pixels, overrides this.
func (g *Detector) passes(width, height int, minFaceSize float64) []pass {
	if g.info.InputSize != (image.Point{}) {
		return g.fixedPasses(width, height)
	}
	side := sideOf(width, height)
	over := func(input int, to, minSize, maxSize float64) pass {
		// Inputs are padded to multiples of 32 pixels. This limit prevents the padded
		// input for a very narrow image from having many times the pixels of other
		// inputs.
		scale := min(to/side, to*to/aspect/32/float64(max(width, height)))
		return pass{
			scale: scale, minSize: minSize, maxSize: maxSize,
			part: image.Rect(0, 0, width, height), core: everywhere, input: input,
		}
	}
	fine := min(fineFor(side, minFaceSize), maxSide)
	if fine <= coarseSide {
		return []pass{over(0, fine, 0, math.Inf(1))}
	}
	pixel := side / fine // the size of a pixel of the finest input, in pixels of the image
	passes := []pass{
		over(0, tinySide, side*tinyFrom, math.Inf(1)),
		over(1, coarseSide, bandFrom*pixel, math.Inf(1)),
		over(2, fine, 0, bandTo*pixel),
	}
	// In a still finer pass there are faces that are too small for hints.
	if fine <= fineSide {
		passes[1].hintsTo = passes[2].maxSize
		passes[2].narrowed = true
	}
	return passes
}

// fineFor returns the side of the finest pass for a smallest face, which may be more than
// maxSide.
func fineFor(side, minFaceSize float64) float64 {
	if minFaceSize > 0 {
		return max(side*smallestSeen/minFaceSize, coarseSide/2)
	}
	return fineSide
}

// bounded reports whether the passes over an image of that size find larger faces only than
// the caller asks for.
func (g *Detector) bounded(width, height int, minFaceSize float64) bool {
	return g.info.InputSize == (image.Point{}) && fineFor(sideOf(width, height), minFaceSize) > maxSide
}

var everywhere = face.Box{MinX: math.Inf(-1), MinY: math.Inf(-1), MaxX: math.Inf(1), MaxY: math.Inf(1)}

// How a long image is divided into tiles for a network with a fixed input size.
const (
	// tileFrom is the share of the input above which an image is not divided.
	tileFrom = 1. / 3
	// tileOverlap is the share of a tile's length that overlaps the next tile.
	tileOverlap = 1. / 4
	// maxTiles limits the time. Images that would need more tiles are scaled down.
	maxTiles = 16
)

// fixedPasses returns the passes of a network with a fixed input size: one over the
// whole image and, for a long image, one over each tile. In a tile, the image has as
// many pixels as a square image has in its only pass.
func (g *Detector) fixedPasses(width, height int) []pass {
	input := face.Point{X: float64(g.info.InputSize.X), Y: float64(g.info.InputSize.Y)}
	w, h := float64(width), float64(height)
	maxScale := max(1, g.maxEnlarged/sideOf(width, height))
	whole := pass{
		scale:   min(input.X/w, input.Y/h, maxScale),
		maxSize: math.Inf(1), part: image.Rect(0, 0, width, height), core: everywhere,
	}
	scale := min(math.Sqrt(input.X*input.Y/(w*h)), maxScale)
	if whole.scale >= scale*math.Sqrt(tileFrom) {
		return []pass{whole}
	}
	// The length along which the image is divided, and the length of a tile, in pixels
	// of the image.
	length, tile := w, input.X
	vertical := input.Y/h < input.X/w
	if vertical {
		length, tile = h, input.Y
	}
	scale = min(scale, tile*(maxTiles*(1-tileOverlap)+tileOverlap)/length)
	tile /= scale
	overlap := float64(tile * tileOverlap)
	tiles := int(math.Ceil((length - overlap) / (tile - overlap)))
	// Start at a chroma sample, which at most four pixels share in each direction.
	start := func(i int) float64 { return float64(4 * math.Ceil(float64(i)*(length-tile)/float64(tiles-1)/4)) }
	end := func(i int) float64 { return min(start(i)+tile, length) }
	between := func(from, to float64) face.Box {
		if vertical {
			return face.Box{MinX: math.Inf(-1), MinY: from, MaxX: math.Inf(1), MaxY: to}
		}
		return face.Box{MinX: from, MinY: math.Inf(-1), MaxX: to, MaxY: math.Inf(1)}
	}
	// The end of a tile may cut a face that is larger than the overlap. The pass over
	// the whole image finds such faces.
	whole.minSize = overlap / 2
	passes := []pass{whole}
	from := math.Inf(-1)
	for i := range tiles {
		to := math.Inf(1)
		if i < tiles-1 {
			to = float64((start(i+1) + end(i)) / 2)
		}
		part := between(start(i), end(i)).Clamp(width, height)
		passes = append(passes, pass{
			scale: scale, maxSize: overlap, core: between(from, to),
			part: image.Rect(int(part.MinX), int(part.MinY), int(part.MaxX), int(part.MaxY)),
		})
		from = to
	}
	return passes
}
