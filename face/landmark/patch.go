package landmark

import (
	"math"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/luma"
)

const (
	// patchWindow is the size of a face's window in a patch, in pixels. Larger windows,
	// up to 160, hardly improve the landmarks.
	patchWindow = 96
	// patchSide is the width and height of a patch, which contains all pixels that the
	// cascades read for usual positions of landmarks.
	patchSide = patchWindow * 3 / 2
)

// patch is a face cut out of an image: upright, in the middle, and of a fixed size.
// Walks move by whole pixels, so they are more precise if a face has more pixels, and
// faster if it has fewer.
type patch struct {
	// pix has the first patchSide pixels of each of the first patchSide rows.
	pix luma.Tile
	// middle is the position of the patch's middle in the image. cos and sin are the
	// distances, in pixels of the image, between neighboring pixels of a row, to the
	// right and down.
	middle   face.Point
	cos, sin float64
}

// cut fills the patch with the face in a square window around middle. across is the way
// from the upper left to the upper right corner of the window, in pixels of the image, so
// that the window may be turned. Outside of the image, its edges are repeated.
func (p *patch) cut(img luma.Plane, middle, across face.Point) {
	p.middle, p.cos, p.sin = middle, across.X/patchWindow, across.Y/patchWindow
	for row := range patchSide {
		first := p.toImage(guess{row: float32(row) + 0.5, col: 0.5})
		sample(img, p.pix[row*luma.TileStride:][:patchSide], first, p.cos, p.sin)
	}
}

// toImage converts a guess to image coordinates. In the patch, pixel n covers positions
// from n to n+1: a guess of 7.9 reads pixel 7. In the image, pixel n is at position n.
func (p *patch) toImage(g guess) face.Point {
	x, y := float64(g.col)-patchSide/2, float64(g.row)-patchSide/2
	return face.Point{
		X: p.middle.X + float64(x*p.cos) - float64(y*p.sin),
		Y: p.middle.Y + float64(x*p.sin) + float64(y*p.cos),
	}
}

// fromImage is the inverse of toImage.
func (p *patch) fromImage(q face.Point) (row, col float32) {
	x, y := q.X-p.middle.X, q.Y-p.middle.Y
	square := float64(p.cos*p.cos) + float64(p.sin*p.sin)
	down, right := float64(y*p.cos)-float64(x*p.sin), float64(x*p.cos)+float64(y*p.sin)
	return float32(down/square + patchSide/2), float32(right/square + patchSide/2)
}

// sample fills out with interpolated values of the image, from first on in steps of
// (right, down). Outside of the image, its edges are repeated.
func sample(g luma.Plane, out []uint8, first face.Point, right, down float64) {
	// Positions are in units of 1/65536 of a pixel.
	const one = 1 << 16
	fixed := func(v float64) int { return int(math.Round(v * one)) }
	x, y, dx, dy := fixed(first.X), fixed(first.Y), fixed(right), fixed(down)
	// From inside to outside, all four neighbors are within the image.
	inside, outside := 0, len(out)
	for _, axis := range [...]struct{ at, step, size int }{{x, dx, g.Width}, {y, dy, g.Height}} {
		at, step, limit := axis.at, axis.step, (axis.size-1)*one
		if step < 0 {
			at, step = limit-1-at, -step
		}
		if step == 0 {
			if at < 0 || at >= limit {
				outside = 0
			}
			continue
		}
		inside = max(inside, (-at+step-1)/step)
		outside = min(outside, (limit-at+step-1)/step)
	}
	outside = max(outside, 0)
	inside = min(inside, outside)
	sampleEdge(g, out[:inside], x, y, dx, dy)
	sampleEdge(g, out[outside:], x+outside*dx, y+outside*dy, dx, dy)
	x += inside * dx
	y += inside * dy
	out = out[inside:outside]
	for i := range out {
		at := (y>>16)*g.Stride + x>>16
		upper, lower := g.Pix[at:][:2], g.Pix[at+g.Stride:][:2]
		out[i] = interpolate(upper[0], upper[1], lower[0], lower[1], x, y)
		x += dx
		y += dy
	}
}

// sampleEdge is like sample for positions that may be outside of the image.
func sampleEdge(g luma.Plane, out []uint8, x, y, dx, dy int) {
	for i := range out {
		left, top := min(max(x>>16, 0), g.Width-1), min(max(y>>16, 0), g.Height-1)
		right, bottom := min(max(x>>16+1, 0), g.Width-1), min(max(y>>16+1, 0), g.Height-1)
		upper, lower := g.Pix[top*g.Stride:], g.Pix[bottom*g.Stride:]
		out[i] = interpolate(upper[left], upper[right], lower[left], lower[right], x, y)
		x += dx
		y += dy
	}
}

// interpolate returns the value between four neighbors. The fractions of x and y are in
// units of 1/65536.
func interpolate(upperLeft, upperRight, lowerLeft, lowerRight uint8, x, y int) uint8 {
	fx, fy := x>>8&0xff, y>>8&0xff
	upper := int(upperLeft)<<8 + (int(upperRight)-int(upperLeft))*fx
	lower := int(lowerLeft)<<8 + (int(lowerRight)-int(lowerLeft))*fx
	return uint8((upper<<8 + (lower-upper)*fy + 1<<15) >> 16)
}
