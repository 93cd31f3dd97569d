package grid

import (
	"context"
	"image"
	"math"

	"github.com/mienproject/mien/face/grid/resample"
	"github.com/mienproject/mien/face/luma"
	"github.com/mienproject/mien/face/rgba"
	"github.com/mienproject/mien/internal/freelist"
)

// plane is one channel of an image: height rows of stride bytes, of which every step-th
// byte belongs to the channel.
type plane struct {
	pix           []uint8
	width, height int
	stride, step  int
}

// planarImage is an image as planes that can be resampled: Y, Cb and Cr, whose chroma
// may be smaller; or R, G and B; or only luminance.
type planarImage struct {
	planes        [3]plane
	kind          colorKind
	width, height int
}

type colorKind int

const (
	grayKind colorKind = iota
	rgbKind
	yCbCrKind
)

// source converts an image to inputs of the network, one pass after another. It has all
// the memory that this takes, and is kept for the next image.
type source struct {
	whole planarImage
	part  image.Rectangle // the part of whole that levels show
	// levels has the part, its half, its quarter and so on, as far as they were needed.
	// Each pixel is the mean of four pixels of the previous level.
	levels  []planarImage
	buffers [][]uint8 // memory of all levels except the first
	rgba    []uint8   // memory for images of other types
	// ratioX and ratioY are the numbers of pixels that share a chroma sample.
	ratioX, ratioY int

	luma, red, green, blue channel // red and blue have Cr and Cb for images in Y'CbCr
	chroma                 resample.Chroma
}

// set sets the image. It shares the pixels of the types that decoders return, and
// converts other types. Transparent pixels become black. The error is that of ctx.
func (s *source) set(ctx context.Context, img image.Image) error {
	b := img.Bounds()
	p := planarImage{width: b.Dx(), height: b.Dy()}
	s.ratioX, s.ratioY = 1, 1
	switch m := img.(type) {
	case *image.YCbCr:
		p.kind = yCbCrKind
		p.planes[0] = plane{m.Y[m.YOffset(b.Min.X, b.Min.Y):], p.width, p.height, m.YStride, 1}
		// The chroma samples of the first and the last pixel.
		first, last := m.COffset(b.Min.X, b.Min.Y), m.COffset(b.Max.X-1, b.Max.Y-1)
		rows := (last-first)/m.CStride + 1
		cols := (last-first)%m.CStride + 1
		p.planes[1] = plane{m.Cb[first:], cols, rows, m.CStride, 1}
		p.planes[2] = plane{m.Cr[first:], cols, rows, m.CStride, 1}
		s.ratioX = int(math.Round(float64(p.width) / float64(cols)))
		s.ratioY = int(math.Round(float64(p.height) / float64(rows)))
	case *image.Gray:
		p.planes[0] = plane{m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], p.width, p.height, m.Stride, 1}
	default:
		rgb, err := rgba.Of(ctx, img, &s.rgba)
		if err != nil {
			return err
		}
		p.kind = rgbKind
		for i := range p.planes {
			p.planes[i] = plane{rgb.Pix[i:], p.width, p.height, rgb.Stride, 4}
		}
	}
	s.whole, s.levels = p, s.levels[:0]
	s.crop(image.Rectangle{Max: s.size()})
	return nil
}

// size is the size of the whole image.
func (s *source) size() image.Point { return image.Pt(s.whole.width, s.whole.height) }

// crop sets the part that input reads. Its upper left corner must be at the corner of a
// chroma sample.
func (s *source) crop(part image.Rectangle) {
	if len(s.levels) > 0 && part == s.part {
		return
	}
	p := planarImage{kind: s.whole.kind, width: part.Dx(), height: part.Dy()}
	for i, from := range s.whole.planes {
		r := part
		if i > 0 && p.kind == yCbCrKind {
			r.Min.X, r.Min.Y = r.Min.X/s.ratioX, r.Min.Y/s.ratioY
			r.Max.X, r.Max.Y = (r.Max.X+s.ratioX-1)/s.ratioX, (r.Max.Y+s.ratioY-1)/s.ratioY
		}
		p.planes[i] = from.crop(r)
	}
	s.part, s.levels = part, append(s.levels[:0], p)
}

// crop returns the part of p in r, which shares its samples.
func (p plane) crop(r image.Rectangle) plane {
	r = r.Intersect(image.Rect(0, 0, p.width, p.height))
	if r.Empty() {
		return plane{}
	}
	return plane{p.pix[r.Min.Y*p.stride+r.Min.X*p.step:], r.Dx(), r.Dy(), p.stride, p.step}
}

// release drops the references to the pixels of the image.
func (s *source) release() {
	s.whole = planarImage{}
	clear(s.levels)
	s.levels = s.levels[:0]
}

// halveFrom is the scale below which an image is halved before it is interpolated.
const halveFrom = 0.7

// level returns the level for an image scaled by scale, and the scale that remains.
// That is more than a half, so interpolation has to read only two pixels in each
// direction.
func (s *source) level(scale float64) (planarImage, float64) {
	at := 0
	for ; scale <= halveFrom; at++ {
		if at+1 == len(s.levels) && !s.halve() {
			break
		}
		scale *= 2
	}
	return s.levels[at], scale
}

// halve adds a level, unless the last one is too small.
func (s *source) halve() bool {
	from := s.levels[len(s.levels)-1]
	half := planarImage{kind: from.kind, width: from.width / 2, height: from.height / 2}
	size := 0
	for _, p := range from.planes {
		if p.pix != nil && min(p.width, p.height) < 2 {
			return false
		}
		size += (p.width / 2) * (p.height / 2)
	}
	at := len(s.levels) - 1
	if at == len(s.buffers) {
		s.buffers = append(s.buffers, nil)
	}
	s.buffers[at] = freelist.Resize(s.buffers[at], size)
	into := s.buffers[at]
	for i, p := range from.planes {
		n := (p.width / 2) * (p.height / 2)
		half.planes[i] = p.half(into[:n:n])
		into = into[n:]
	}
	s.levels = append(s.levels, half)
	return true
}

// half writes the means of four pixels each to out.
func (p plane) half(out []uint8) plane {
	if p.pix == nil {
		return plane{}
	}
	h := plane{out, p.width / 2, p.height / 2, p.width / 2, 1}
	for y := range h.height {
		upper, lower := p.pix[2*y*p.stride:], p.pix[(2*y+1)*p.stride:]
		row := out[y*h.width:][:h.width]
		if p.step == 1 {
			luma.HalveRow(row, upper[:2*h.width], lower[:2*h.width])
			continue
		}
		for x := range row {
			l, r := 2*x*p.step, (2*x+1)*p.step
			row[x] = uint8((uint(upper[l]) + uint(upper[r]) + uint(lower[l]) + uint(lower[r]) + 2) / 4)
		}
	}
	return h
}

// channel scales a plane, row by row.
type channel struct {
	plane
	across, down resample.Axis
	// rows has the last even and the last odd row of the plane, scaled horizontally. at
	// has their numbers.
	rows [2][]float32
	at   [2]int
}

// fit prepares for scaling p by scaleX and scaleY, to the values in window.
func (c *channel) fit(p plane, window image.Rectangle, scaleX, scaleY float64) {
	c.plane = p
	c.across.Fit(p.width, window.Min.X, window.Dx(), scaleX)
	c.down.Fit(p.height, window.Min.Y, window.Dy(), scaleY)
	for i := range c.rows {
		c.rows[i], c.at[i] = freelist.Resize(c.rows[i], window.Dx()), -1
	}
}

// row returns the two rows, scaled horizontally, between which row y of the output is,
// and the weight of the second one.
func (c *channel) row(y int) (upper, lower []float32, weight float32) {
	first := int(c.down.First[y])
	if c.down.Weight[y] == 0 {
		upper = c.scaled(first)
		return upper, upper, 0
	}
	return c.scaled(first), c.scaled(min(first+1, c.height-1)), c.down.Weight[y]
}

func (c *channel) scaled(y int) []float32 {
	out := c.rows[y&1]
	if c.at[y&1] == y {
		return out
	}
	c.at[y&1] = y
	src := c.pix[y*c.stride:]
	if c.step == 1 {
		c.across.Row(out, src[:c.width])
		return out
	}
	next := c.step
	if c.width == 1 {
		next = 0
	}
	weights := c.across.Weight[:len(out)]
	for x, first := range c.across.First[:len(out)] {
		pair := src[int(first)*c.step:][:next+1]
		left := float32(pair[0])
		out[x] = left + float32((float32(pair[next])-left)*weights[x])
	}
	return out
}

// fill writes row y of the output.
func (c *channel) fill(out []float32, y int) {
	upper, lower, weight := c.row(y)
	resample.Blend(out, upper, lower, weight)
}

// input fills planes of stride × height values with a window of the image scaled by
// scale. The window, in pixels of the scaled image, begins at even coordinates. It is in
// the top left corner of the planes; the rest is zero. The planes are in the order blue,
// green, red, from 0 to 255. stride must be even.
func (s *source) input(blue, green, red []float32, window image.Rectangle, stride int, scale float64) {
	p, scale := s.level(scale)
	w, h := window.Dx(), window.Dy()
	// Colors are written in pairs. Clear the value after an odd width.
	pairs := (w + 1) / 2
	even := 2 * pairs
	window.Max.X = window.Min.X + even
	var write func(b, g, r []float32, y int)
	switch p.kind {
	case grayKind:
		s.luma.fit(p.planes[0], window, scale, scale)
		write = func(b, g, r []float32, y int) {
			s.luma.fill(b, y)
			copy(g, b)
			copy(r, b)
		}
	case rgbKind:
		s.red.fit(p.planes[0], window, scale, scale)
		s.green.fit(p.planes[1], window, scale, scale)
		s.blue.fit(p.planes[2], window, scale, scale)
		write = func(b, g, r []float32, y int) {
			s.blue.fill(b, y)
			s.green.fill(g, y)
			s.red.fill(r, y)
		}
	case yCbCrKind:
		// Four pixels share a chroma sample, as in nearly all photographs.
		scaleX, scaleY := scale*float64(s.ratioX)/2, scale*float64(s.ratioY)/2
		chroma := image.Rectangle{Min: window.Min.Div(2)}
		chroma.Max = chroma.Min.Add(image.Pt(pairs, (h+1)/2))
		s.luma.fit(p.planes[0], window, scale, scale)
		s.blue.fit(p.planes[1], chroma, scaleX, scaleY)
		s.red.fit(p.planes[2], chroma, scaleX, scaleY)
		s.chroma.Resize(pairs)
		write = s.colors
	}
	for y := range h {
		b, g, r := blue[y*stride:][:stride], green[y*stride:][:stride], red[y*stride:][:stride]
		write(b[:even], g[:even], r[:even], y)
		clear(b[w:])
		clear(g[w:])
		clear(r[w:])
	}
	clear(blue[h*stride:])
	clear(green[h*stride:])
	clear(red[h*stride:])
}

// colors writes row y of an image in the Y'CbCr of JFIF.
func (s *source) colors(b, g, r []float32, y int) {
	if y%2 == 0 {
		blue, blueBelow, weight := s.blue.row(y / 2)
		red, redBelow, _ := s.red.row(y / 2)
		s.chroma.Set(blue, blueBelow, red, redBelow, weight)
	}
	upper, lower, weight := s.luma.row(y)
	s.chroma.Colors(r, g, b, upper, lower, weight)
}
