package landmark

import (
	"math"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/luma"
)

const (
	// patchWindow is the size in a patch of the window around its face, in pixels.
	// Of 64 to 160, this is where the landmarks hardly get better.
	patchWindow = 96
	// patchSide is the width and height of a patch: all that the cascades read
	// from where landmarks usually are.
	patchSide = patchWindow * 3 / 2
)

// patch is a face cut out of an image: upright, in the middle, and of one size.
// Walks go by whole pixels, so that they are the more exact the more pixels a
// face has, and the faster the fewer there are in all.
type patch struct {
	// pix has the first patchSide pixels of each of the first patchSide rows.
	pix luma.Tile
	// middle is where the middle of the patch lies in the image, and cos and sin,
	// in pixels of the image, are how far it is from one pixel of a row to the next,
	// to the right and down.
	middle   face.Point
	cos, sin float64
}

// cut fills the patch with the face in a window of that size around middle, turned
// by tilt, in radians clockwise. Outside of the image its edges are repeated.
func (p *patch) cut(img luma.Plane, middle face.Point, size, tilt float64) {
	sin, cos := math.Sincos(tilt)
	p.middle, p.cos, p.sin = middle, cos*size/patchWindow, sin*size/patchWindow
	for row := range patchSide {
		first := p.toImage(guess{row: float32(row) + 0.5, col: 0.5})
		sample(img, p.pix[row*luma.TileStride:][:patchSide], first, p.cos, p.sin)
	}
}

// toImage returns where a guess lies in the image. Pixels of the patch cover the
// places from their number to the next: a guess of 7.9 reads pixel 7. Those of
// the image are where their number is.
func (p *patch) toImage(g guess) face.Point {
	x, y := float64(g.col)-patchSide/2, float64(g.row)-patchSide/2
	return face.Point{X: p.middle.X + x*p.cos - y*p.sin, Y: p.middle.Y + x*p.sin + y*p.cos}
}

// fromImage is the inverse of toImage.
func (p *patch) fromImage(q face.Point) (row, col float32) {
	x, y := q.X-p.middle.X, q.Y-p.middle.Y
	square := p.cos*p.cos + p.sin*p.sin
	return float32((y*p.cos-x*p.sin)/square + patchSide/2), float32((x*p.cos+y*p.sin)/square + patchSide/2)
}

// sample fills out with the image's values, interpolated, at first and each
// (right, down) further. Outside of the image its edges are repeated.
func sample(g luma.Plane, out []uint8, first face.Point, right, down float64) {
	// In 1/65536 of a pixel.
	const one = 1 << 16
	fixed := func(v float64) int { return int(math.Round(v * one)) }
	x, y, dx, dy := fixed(first.X), fixed(first.Y), fixed(right), fixed(down)
	// From inside to outside all four neighbors are pixels of the image.
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

// sampleEdge is sample where the image may end.
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

// interpolate returns the value between four neighbors, by the fractions of x
// and y in 1/65536.
func interpolate(upperLeft, upperRight, lowerLeft, lowerRight uint8, x, y int) uint8 {
	fx, fy := x>>8&0xff, y>>8&0xff
	upper := int(upperLeft)<<8 + (int(upperRight)-int(upperLeft))*fx
	lower := int(lowerLeft)<<8 + (int(lowerRight)-int(lowerLeft))*fx
	return uint8((upper<<8 + (lower-upper)*fy + 1<<15) >> 16)
}
