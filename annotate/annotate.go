// Package annotate draws faces on images.
//
// Each face gets a box, dots for its landmarks, and a label with its confidence. The
// box is lime; it is amber and dashed if the confidence is below 0.5. The dots are blue
// on the viewer's left, pink on the right, and white on the nose. All of them are
// bright with a dark rim, so that they are visible on black, on white and on noise.
//
// Line widths and label sizes depend on the size of the image, because a large image
// is viewed scaled down, and on the size of the face. Lines run outside of the box, so
// that a small face stays visible, and labels do not cover other faces.
package annotate

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"slices"

	"golang.org/x/image/vector"

	"github.com/mienproject/mien/face"
)

var (
	lime  = image.NewUniform(color.RGBA{0xc6, 0xff, 0x00, 0xff})
	amber = image.NewUniform(color.RGBA{0xff, 0xb3, 0x00, 0xff})
	blue  = image.NewUniform(color.RGBA{0x00, 0xe5, 0xff, 0xff})
	pink  = image.NewUniform(color.RGBA{0xff, 0x6e, 0xdc, 0xff})
	white = image.NewUniform(color.RGBA{0xff, 0xff, 0xff, 0xff})
	black = image.NewUniform(color.RGBA{0x00, 0x00, 0x00, 0xff})
	// shadow is the rim of lines and labels. It is slightly transparent: softer than
	// black, and dark enough on white.
	shadow = image.NewUniform(color.RGBA{0x00, 0x00, 0x00, 0xc0})
)

const (
	// maxCoverage bounds the area of all lines, as a multiple of the image's area.
	// More lines could not be distinguished, and would take unbounded time.
	maxCoverage = 4
	// minLandmarkSide is the longer side in pixels of the smallest box whose landmarks
	// are drawn: in a smaller one the dots would touch, and hide the face.
	minLandmarkSide = 20
)

// Draw returns a copy of img with faces drawn on it. img must be upright. The copy has
// its origin at (0, 0) and takes 4 bytes for each pixel; little else is allocated. The
// coordinates of faces are in pixels relative to img.Bounds().Min, as in package face.
// What lies outside the image is not drawn.
//
// The most important faces come first: they are drawn over the others, and get their
// labels first. A label is left out if it would be wider than its face, too small to
// read, or on top of another face or label. Once lines have covered the image several
// times over, the remaining faces are left out.
//
// The result depends only on img and faces. Draw is safe for concurrent use, and does
// not modify img or faces.
func Draw(img image.Image, faces []face.Face) *image.RGBA {
	b := img.Bounds()
	out := image.NewRGBA(image.Rectangle{Max: b.Size()})
	draw.Draw(out, out.Rect, img, b.Min, draw.Src)

	marks := measure(out.Rect, faces)
	placeLabels(out.Rect, marks)
	c := canvas{dst: out}
	for _, m := range slices.Backward(marks) {
		c.box(m)
	}
	for _, m := range slices.Backward(marks) {
		c.landmarks(m)
	}
	for _, m := range marks {
		c.label(m)
	}
	return out
}

// mark describes how a face is drawn. Its lengths are in pixels.
type mark struct {
	landmarks *face.Landmarks
	paint     *image.Uniform
	dashed    bool
	// outer is the face's box, including its line and the two rims of the line.
	outer image.Rectangle
	// line is the width of the line, and rim the width of its dark rim on each side.
	line, rim int
	// dot is the radius of a landmark without its rim; 0 means that none are drawn.
	dot float64

	text   string
	label  image.Rectangle // including its rim; empty if there is no label
	digits int             // height of the digits in the label
}

// measure returns a mark without a label for each face in the image.
func measure(bounds image.Rectangle, faces []face.Face) []mark {
	longer := float64(max(bounds.Dx(), bounds.Dy()))
	budget := maxCoverage * bounds.Dx() * bounds.Dy()
	var marks []mark
	for _, f := range faces {
		b := f.Box.Clamp(bounds.Dx(), bounds.Dy())
		if !(b.Area() > 0) { // also excludes NaN
			continue
		}
		side := max(b.Width(), b.Height())
		m := mark{paint: lime, text: percent(f.Confidence)}
		if !(f.Confidence >= 0.5) {
			m.paint, m.dashed = amber, true
		}
		m.line = max(1, int(math.Round(min(side/14, longer/450))))
		m.rim = (m.line + 1) / 2
		m.outer = image.Rect(
			int(math.Floor(b.MinX)), int(math.Floor(b.MinY)),
			int(math.Ceil(b.MaxX)), int(math.Ceil(b.MaxY)),
		).Inset(-m.width()).Intersect(bounds)
		if f.Landmarks != nil && side >= minLandmarkSide {
			m.landmarks = f.Landmarks
			m.dot = max(1, min(side/26, max(1.6, longer/260)))
		}

		budget -= 2 * (m.outer.Dx() + m.outer.Dy()) * m.width()
		if budget < 0 {
			break
		}
		marks = append(marks, m)
	}
	return marks
}

// width returns the width of the line with its two rims.
func (m mark) width() int { return m.line + 2*m.rim }

// canvas draws on dst.
type canvas struct {
	dst *image.RGBA
	// z rasterizes one shape at a time. Its size is that of the shape, and its origin
	// is at in dst. It never covers a whole box, because its work depends on the area
	// that it covers.
	z  vector.Rasterizer
	at image.Point
}

func (c *canvas) box(m mark) {
	radius := m.width() + m.line - 1
	c.ring(m.outer, radius, m.width(), shadow, 0)
	gap := 0
	if m.dashed {
		gap = 2 * m.line
	}
	c.ring(m.outer.Inset(m.rim), radius-m.rim, m.line, m.paint, gap)
}

// ring draws a line along the inside of r, with rounded corners. Unless gap is 0, the
// sides between the corners are dashed.
func (c *canvas) ring(r image.Rectangle, radius, width int, paint *image.Uniform, gap int) {
	radius = min(radius, r.Dx()/2, r.Dy()/2)
	width = min(width, radius)
	inner := r.Inset(radius)
	for _, corner := range [...]image.Rectangle{
		{r.Min, inner.Min},
		{image.Pt(inner.Max.X, r.Min.Y), image.Pt(r.Max.X, inner.Min.Y)},
		{image.Pt(r.Min.X, inner.Max.Y), image.Pt(inner.Min.X, r.Max.Y)},
		{inner.Max, r.Max},
	} {
		// The corner is a quarter of a ring around the nearest corner of inner.
		x := float64(min(max(corner.Min.X, inner.Min.X), inner.Max.X))
		y := float64(min(max(corner.Min.Y, inner.Min.Y), inner.Max.Y))
		c.fill(corner, paint, func() {
			o, i := float64(radius), float64(radius-width)
			c.roundRect(x-o, y-o, x+o, y+o, o)
			c.roundRect(x+i, y-i, x-i, y+i, i) // counterclockwise, which makes a hole
		})
	}
	for _, x := range dashes(inner.Min.X, inner.Max.X, gap) {
		c.fillRect(image.Rect(x[0], r.Min.Y, x[1], r.Min.Y+width), paint)
		c.fillRect(image.Rect(x[0], r.Max.Y-width, x[1], r.Max.Y), paint)
	}
	for _, y := range dashes(inner.Min.Y, inner.Max.Y, gap) {
		c.fillRect(image.Rect(r.Min.X, y[0], r.Min.X+width, y[1]), paint)
		c.fillRect(image.Rect(r.Max.X-width, y[0], r.Max.X, y[1]), paint)
	}
}

// dashes divides a line into dashes, of which the first and the last touch the corners.
// Gaps are about gap pixels wide and three times that apart, from start to start. If
// gap is 0, the line is not divided.
func dashes(from, to, gap int) [][2]int {
	length, n := to-from, 0
	if gap > 0 {
		n = max(1, length/(3*gap))
	}
	list := make([][2]int, 0, n+1)
	start := from
	for i := range n {
		list = append(list, [2]int{start, from + length*(3*i+1)/(3*n)})
		start = from + length*(3*i+2)/(3*n)
	}
	return append(list, [2]int{start, to})
}

func (c *canvas) landmarks(m mark) {
	if m.landmarks == nil {
		return
	}
	for _, dot := range [...]struct {
		at    face.Point
		paint *image.Uniform
	}{
		{m.landmarks.LeftEye, blue},
		{m.landmarks.RightEye, pink},
		{m.landmarks.Nose, white},
		{m.landmarks.MouthLeft, blue},
		{m.landmarks.MouthRight, pink},
	} {
		c.disc(dot.at, m.dot+max(1, 0.4*m.dot), black)
		c.disc(dot.at, m.dot, dot.paint)
	}
}

func (c *canvas) disc(p face.Point, radius float64, paint *image.Uniform) {
	size := c.dst.Rect.Max
	if !(p.X >= 0 && p.Y >= 0 && p.X <= float64(size.X) && p.Y <= float64(size.Y)) { // also excludes NaN
		return
	}
	x0, y0, x1, y1 := p.X-radius, p.Y-radius, p.X+radius, p.Y+radius
	r := image.Rect(int(math.Floor(x0)), int(math.Floor(y0)), int(math.Ceil(x1)), int(math.Ceil(y1)))
	c.fill(r, paint, func() { c.roundRect(x0, y0, x1, y1, radius) })
}

func (c *canvas) fillRect(r image.Rectangle, paint *image.Uniform) {
	draw.Draw(c.dst, r, paint, image.Point{}, draw.Over)
}

// fill paints the area that path encloses within r.
func (c *canvas) fill(r image.Rectangle, paint *image.Uniform, path func()) {
	r = r.Intersect(c.dst.Rect)
	if r.Empty() {
		return
	}
	c.at = r.Min
	c.z.Reset(r.Dx(), r.Dy())
	path()
	c.z.Draw(c.dst, r, paint, image.Point{})
}

// roundRect adds a rectangle with rounded corners to the path: clockwise, or
// counterclockwise if x1 < x0.
func (c *canvas) roundRect(x0, y0, x1, y1, radius float64) {
	// A cubic Bézier curve whose control points are at this fraction of the way from
	// the corner is a quarter of a circle to within 0.03 %.
	const k = 1 - 0.5522847498
	rx, ry := math.Copysign(radius, x1-x0), radius
	c.moveTo(x0+rx, y0)
	c.lineTo(x1-rx, y0)
	c.cubeTo(x1-k*rx, y0, x1, y0+k*ry, x1, y0+ry)
	c.lineTo(x1, y1-ry)
	c.cubeTo(x1, y1-k*ry, x1-k*rx, y1, x1-rx, y1)
	c.lineTo(x0+rx, y1)
	c.cubeTo(x0+k*rx, y1, x0, y1-k*ry, x0, y1-ry)
	c.lineTo(x0, y0+ry)
	c.cubeTo(x0, y0+k*ry, x0+k*rx, y0, x0+rx, y0)
	c.z.ClosePath()
}

func (c *canvas) moveTo(x, y float64) { c.z.MoveTo(c.local(x, y)) }

func (c *canvas) lineTo(x, y float64) { c.z.LineTo(c.local(x, y)) }

func (c *canvas) quadTo(bx, by, x, y float64) {
	b0, b1 := c.local(bx, by)
	x0, y0 := c.local(x, y)
	c.z.QuadTo(b0, b1, x0, y0)
}

func (c *canvas) cubeTo(ax, ay, bx, by, x, y float64) {
	a0, a1 := c.local(ax, ay)
	b0, b1 := c.local(bx, by)
	x0, y0 := c.local(x, y)
	c.z.CubeTo(a0, a1, b0, b1, x0, y0)
}

func (c *canvas) local(x, y float64) (float32, float32) {
	return float32(x - float64(c.at.X)), float32(y - float64(c.at.Y))
}
