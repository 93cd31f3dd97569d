package annotate

import (
	"image"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// minDigits is the height in pixels of the smallest digits that can be read.
const minDigits = 6

// placeLabels gives each mark a label if there is room for one.
func placeLabels(bounds image.Rectangle, marks []mark) {
	occupied := newGrid(bounds, marks)
	maxDigits := max(minDigits, max(bounds.Dx(), bounds.Dy())/100)
	for i := range marks {
		m := &marks[i]
		m.digits = min(maxDigits, int(float64(m.outer.Dx()-2*m.rim)/(textWidth(m.text)+2*padX)))
		if m.digits < minDigits {
			continue
		}
		for _, r := range places(*m) {
			if r.In(bounds) && occupied.free(r, m.outer) {
				occupied.add(r)
				m.label = r
				break
			}
		}
	}
}

// The padding around the text of a label, relative to the height of its digits.
const padX, padY = 0.55, 0.4

// places returns the possible places for a label, the best first. A label is at most
// as wide as outer.
func places(m mark) []image.Rectangle {
	digits := float64(m.digits)
	w := int(digits*(textWidth(m.text)+2*padX)) + 2*m.rim
	h := m.digits + 2*int(digits*padY) + 2*m.rim
	o := m.outer
	at := func(x, y int) image.Rectangle { return image.Rect(x, y, x+w, y+h) }

	// Above and below, the label and the line share a rim.
	above, below := o.Min.Y+m.rim-h, o.Max.Y-m.rim
	list := []image.Rectangle{
		at(o.Min.X, above), at(o.Max.X-w, above),
		at(o.Min.X, below), at(o.Max.X-w, below),
	}
	// Inside, the label must leave most of the face visible.
	if in := o.Inset(m.rim + m.line); w <= in.Dx() && 4*h <= in.Dy() {
		list = append(list, at(in.Min.X, in.Min.Y), at(in.Min.X, in.Max.Y-h))
	}
	return list
}

func (c *canvas) label(m mark) {
	if m.label.Empty() {
		return
	}
	pill := m.label.Inset(m.rim)
	for _, layer := range [...]struct {
		image.Rectangle
		paint *image.Uniform
	}{{m.label, shadow}, {pill, m.paint}} {
		c.fill(layer.Rectangle, layer.paint, func() {
			r := layer.Rectangle
			c.roundRect(float64(r.Min.X), float64(r.Min.Y), float64(r.Max.X), float64(r.Max.Y), float64(r.Dy())/3)
		})
	}

	scale := float64(m.digits) / goBold().height
	x := float64(pill.Min.X) + (float64(pill.Dx())-float64(m.digits)*textWidth(m.text))/2
	y := float64(pill.Max.Y - (pill.Dy()-m.digits)/2) // a whole pixel keeps the bottom of the digits sharp
	c.fill(pill, black, func() {
		for _, char := range m.text {
			g := goBold().glyphs[char]
			c.outline(g.outline, x, y, scale)
			x += scale * g.advance
		}
	})
}

// outline adds a glyph to the path, with its origin at (x, y).
func (c *canvas) outline(outline sfnt.Segments, x, y, scale float64) {
	for _, s := range outline {
		var p [3]struct{ x, y float64 }
		for i, a := range s.Args {
			p[i].x, p[i].y = x+scale*float64(a.X), y+scale*float64(a.Y)
		}
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			c.moveTo(p[0].x, p[0].y)
		case sfnt.SegmentOpLineTo:
			c.lineTo(p[0].x, p[0].y)
		case sfnt.SegmentOpQuadTo:
			c.quadTo(p[0].x, p[0].y, p[1].x, p[1].y)
		case sfnt.SegmentOpCubeTo:
			c.cubeTo(p[0].x, p[0].y, p[1].x, p[1].y, p[2].x, p[2].y)
		}
	}
}

// percent rounds down, so that 99.9 % does not become 100 %.
func percent(confidence float64) string {
	if !(confidence >= 0) {
		confidence = 0
	}
	// 0.29 * 100 is a little less than 29.
	return strconv.Itoa(int(100*min(confidence, 1)+1e-6)) + "%"
}

// typeface has the glyphs for labels. Its lengths are in font units.
type typeface struct {
	height float64 // of a digit
	glyphs map[rune]glyph
}

type glyph struct {
	outline sfnt.Segments // closed, y pointing down, relative to the left end of the baseline
	advance float64       // to the next glyph
}

// goBold is unpacked once, and is read-only after that.
var goBold = sync.OnceValue(func() typeface {
	t, err := unpack(gobold.TTF)
	if err != nil {
		panic(err) // the font is part of the binary
	}
	return t
})

func unpack(ttf []byte) (typeface, error) {
	f, err := sfnt.Parse(ttf)
	if err != nil {
		return typeface{}, err
	}
	// With this many pixels per em, lengths are in font units.
	em := fixed.Int26_6(f.UnitsPerEm())
	var buf sfnt.Buffer
	metrics, err := f.Metrics(&buf, em, font.HintingNone)
	if err != nil {
		return typeface{}, err
	}
	t := typeface{height: float64(metrics.CapHeight), glyphs: map[rune]glyph{}}
	for _, char := range "0123456789%" {
		index, err := f.GlyphIndex(&buf, char)
		if err != nil {
			return typeface{}, err
		}
		advance, err := f.GlyphAdvance(&buf, index, em, font.HintingNone)
		if err != nil {
			return typeface{}, err
		}
		outline, err := f.LoadGlyph(&buf, index, em, nil)
		if err != nil {
			return typeface{}, err
		}
		// The outline belongs to buf, which the next glyph overwrites.
		t.glyphs[char] = glyph{slices.Clone(outline), float64(advance)}
	}
	return t, nil
}

// textWidth returns the width of text relative to the height of a digit.
func textWidth(text string) float64 {
	t := goBold()
	width := 0.0
	for _, char := range text {
		width += t.glyphs[char].advance
	}
	return width / t.height
}

// grid counts the faces and labels that touch each cell of an image. With it, finding a
// place for a label takes time proportional to the area of the label, whatever the
// number and the size of the faces.
type grid struct {
	side   int // of a cell in pixels
	stride int
	count  []int32
}

func newGrid(bounds image.Rectangle, marks []mark) *grid {
	g := &grid{side: max(4, max(bounds.Dx(), bounds.Dy())/256)}
	size := g.cells(bounds).Max.Add(image.Pt(1, 1)) // one more for the ends of differences
	g.stride = size.X
	g.count = make([]int32, size.X*size.Y)
	// Each face adds four differences. The counts are their running sums over both
	// axes.
	for _, m := range marks {
		r := g.cells(m.outer)
		*g.at(r.Min.X, r.Min.Y)++
		*g.at(r.Max.X, r.Min.Y)--
		*g.at(r.Min.X, r.Max.Y)--
		*g.at(r.Max.X, r.Max.Y)++
	}
	for y := range size.Y {
		for x := 1; x < size.X; x++ {
			*g.at(x, y) += *g.at(x-1, y)
		}
	}
	for y := 1; y < size.Y; y++ {
		for x := range size.X {
			*g.at(x, y) += *g.at(x, y-1)
		}
	}
	return g
}

func (g *grid) at(x, y int) *int32 { return &g.count[y*g.stride+x] }

// cells returns the cells that r touches.
func (g *grid) cells(r image.Rectangle) image.Rectangle {
	return image.Rect(r.Min.X/g.side, r.Min.Y/g.side, (r.Max.X+g.side-1)/g.side, (r.Max.Y+g.side-1)/g.side)
}

// free reports whether nothing is in r, except for the label's own face, whose outer
// box is own.
func (g *grid) free(r, own image.Rectangle) bool {
	r, own = g.cells(r), g.cells(own)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			n := *g.at(x, y)
			if (image.Point{x, y}).In(own) {
				n--
			}
			if n > 0 {
				return false
			}
		}
	}
	return true
}

func (g *grid) add(r image.Rectangle) {
	r = g.cells(r)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			*g.at(x, y)++
		}
	}
}
