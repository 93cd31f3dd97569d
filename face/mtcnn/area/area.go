// Package area scales images for MTCNN as OpenCV's INTER_AREA does, with the same bits on all
// processors.
//
// If both sides shrink, an output pixel is the mean over the area that it covers. Otherwise
// it is an interpolation between two pixels, with weights that are areas too. This gives the
// same results as OpenCV, except for the rounding of sums.
//
// An output is made of a first and a last row, of which it may cover a part, and of the whole
// rows between them, which are added first. Each of the three is scaled, and then added. In a
// row, it is made of a first and a last pixel, and of the whole pixels between them, whose sum
// is exact: it is the difference of two sums from the start of the row on. So the time does not
// depend on how many pixels an output covers. What computes a row is assembly that
// tools/nnkernels generates, or Go on other processors (rows.go).
package area

import (
	"context"
	"image"
	"math"
	"slices"
)

// Scaler scales parts of images. It keeps its memory for the next image. It is not safe for
// concurrent use. The zero value is ready.
type Scaler struct {
	src *image.RGBA
	// across and down have a span for each column and each row of the result.
	across, down []span
	// halved means that both sides shrink to exactly a half.
	halved bool
	pairs  []pair
	// rows has a sum of rows of src, and sums that of the pixels before each one.
	rows []uint16
	sums []int32
	// row has a row of src scaled horizontally, and sum a sum of such rows: four values for
	// each pixel, the last of which is not used.
	row, sum []float32
}

// span is what an output is made of, on one axis: of n inputs from first on.
type span struct {
	first, n int
	// weights are those of the first input, of each one between, and of the last. A single
	// input is the first.
	weights [3]float32
}

// last returns the last input.
func (s *span) last() int { return s.first + s.n - 1 }

// weight returns that of the k-th input.
func (s *span) weight(k int) float32 {
	switch k {
	case 0:
		return s.weights[0]
	case s.n - 1:
		return s.weights[2]
	}
	return s.weights[1]
}

// Rounding is what becomes of means.
type Rounding int

const (
	// Unrounded leaves them as they are.
	Unrounded Rounding = iota
	// Rounded makes them whole gray levels as OpenCV does for bytes.
	Rounded
)

// Scale prepares to scale a part of an image to size pixels. What the part has outside of the
// image is black. The image has to have its upper left corner at the origin, and must not
// change before the last call of Part for it.
func (s *Scaler) Scale(src *image.RGBA, part image.Rectangle, size image.Point) {
	s.src = src
	from := part.Size()
	axis := shrink
	if from.X < size.X || from.Y < size.Y {
		axis = stretch
	}
	s.across = axis(s.across[:0], from.X, size.X)
	s.down = axis(s.down[:0], from.Y, size.Y)
	s.halved = from == size.Mul(2)
	move(s.across, part.Min.X, src.Rect.Dx())
	move(s.down, part.Min.Y, src.Rect.Dy())
}

// shrink appends the spans of n outputs for size inputs, where n is at most size.
func shrink(spans []span, size, n int) []span {
	// OpenCV computes the quotient and its inverse, and ignores areas of less than a
	// thousandth of a pixel as rounding errors.
	scale := 1 / (float64(n) / float64(size))
	const minPart = 1e-3
	for i := range n {
		from := float64(float64(i) * scale)
		to := from + scale
		area := min(scale, float64(size)-from)
		last := min(int(math.Floor(to)), size-1)
		first := min(int(math.Ceil(from)), last)
		whole := float32(1 / area)
		w := [3]float32{whole, whole, whole}
		if part := float64(first) - from; part > minPart {
			first--
			w[0] = float32(part / area)
		}
		inputs := last - first
		if part := to - float64(last); part > minPart {
			rest := float32(min(part, 1, area) / area)
			if inputs++; inputs == 1 {
				w[0] = rest
			}
			w[2] = rest
		}
		spans = append(spans, span{first, inputs, w})
	}
	return spans
}

// stretch appends the spans of n outputs for size inputs, if there are more outputs than
// inputs on this axis or the other.
func stretch(spans []span, size, n int) []span {
	inverse := float64(n) / float64(size)
	scale := 1 / inverse
	for i := range n {
		first := int(math.Floor(float64(i) * scale))
		// The part of output i that is after input first.
		part := float32(max(0, float64(i+1)-float64(float64(first+1)*inverse)))
		part -= float32(math.Floor(float64(part)))
		if first >= size-1 {
			first, part = size-1, 0
		}
		inputs := 1
		if part > 0 {
			inputs = 2
		}
		spans = append(spans, span{first, inputs, [3]float32{1 - part, 0, part}})
	}
	return spans
}

// move makes the inputs start at offset on an axis of size pixels, and removes those that are
// outside of it.
func move(spans []span, offset, size int) {
	for i := range spans {
		s := &spans[i]
		s.first += offset
		before := min(max(-s.first, 0), s.n)
		after := min(max(s.first+s.n-size, 0), s.n)
		switch {
		case before+after >= s.n:
			*s = span{}
			continue
		case before > 0:
			s.weights[0] = s.weight(before)
		}
		if after > 0 {
			s.weights[2] = s.weight(s.n - 1 - after)
		}
		s.first += before
		s.n -= before + after
	}
}

// normalize makes an input of the networks of a gray level.
func normalize(v float32) float32 { return (v - 127.5) * (1.0 / 128) }

// Black is what Part makes of black.
const Black = -127.5 / 128

const (
	// band is how many rows of the source are processed between two checks of the context.
	band = 16
	// maxRows is how many rows of bytes may be added as uint16.
	maxRows = 256
)

// Part writes a part of the scaled image to dst in the format of MTCNN's networks: column by
// column, three values from -1 to 1 for each pixel. dst has 3·width·height values. It returns
// the error of ctx if that ends before.
func (s *Scaler) Part(ctx context.Context, dst []float32, part image.Rectangle, rounding Rounding) error {
	from, pixels := s.place(part.Min.X, part.Max.X)
	// Kernels take two pixels at once.
	n := 8 * ((part.Dx() + 1) / 2)
	s.row = slices.Grow(s.row[:0], n)[:n]
	s.sum = slices.Grow(s.sum[:0], n)[:n]
	s.sums = slices.Grow(s.sums[:0], 4*(pixels+1))[:4*(pixels+1)]
	r := unrounded
	switch {
	case rounding == Rounded && s.halved:
		r = halfUp
	case rounding == Rounded:
		r = halfEven
	}
	s.rows = slices.Grow(s.rows[:0], 4*pixels)[:4*pixels]
	source := func(at int) []uint8 { return s.src.Pix[at*s.src.Stride+4*from:] }
	have := -1 // which row of the image s.row is made of
	add := func(at int, weight float32) {
		if at != have {
			scaleBytes(s.row, source(at)[:4*pixels], s.pairs, s.sums)
			have = at
		}
		addRow(s.sum, s.row, weight)
	}
	done := band
	for y := range part.Dy() {
		clear(s.sum)
		down := s.down[part.Min.Y+y]
		if pixels == 0 {
			down.n = 0
		}
		if done += down.n; done > band {
			if err := ctx.Err(); err != nil {
				return err
			}
			done = 0
		}
		if down.n > 0 {
			add(down.first, down.weights[0])
		}
		for at := down.first + 1; at < down.last(); {
			n := min(down.last()-at, maxRows)
			if n == 1 {
				add(at, down.weights[1])
			} else {
				addRows(s.rows, source(at), s.src.Stride, n)
				scaleSums(s.row, s.rows, s.pairs, s.sums)
				have = -1
				addRow(s.sum, s.row, down.weights[1])
			}
			at += n
		}
		if down.n > 1 {
			add(down.last(), down.weights[2])
		}
		store(dst[3*y:], s.sum, 3*part.Dy(), part.Dx(), r)
	}
	return nil
}

// pair is how two outputs of a row that lie side by side are made: of a first pixel each, of
// those between, and of a last one.
type pair struct {
	// first and last are two times the positions of those pixels in the part of a row that is
	// read: an address is at most eight times an index, and a pixel's sums are 16 bytes.
	first, last [2]int32
	// weights are those of the first pixel, of each one between, and of the last: four times
	// for each output, as a pixel has values.
	weights [3][8]float32
}

// place sets s.pairs for some columns of the result, and returns which pixels of a row they
// are made of: the first, and how many.
func (s *Scaler) place(begin, end int) (from, pixels int) {
	to := 0
	from = math.MaxInt
	for _, c := range s.across[begin:end] {
		if c.n > 0 {
			from, to = min(from, c.first), max(to, c.first+c.n)
		}
	}
	s.pairs = s.pairs[:0]
	if to == 0 {
		return 0, 0
	}
	for x := begin; x < end; x += 2 {
		var p pair
		for i, c := range s.across[x:min(x+2, end)] {
			p.set(i, c, from)
		}
		s.pairs = append(s.pairs, p)
	}
	return from, to - from
}

// set sets one of the two outputs. An output without inputs stays as it is: its weights are 0.
func (p *pair) set(i int, c span, from int) {
	w := c.weights
	switch c.n {
	case 0:
		return
	case 1:
		w[1], w[2] = 0, 0
	}
	p.first[i], p.last[i] = int32(2*(c.first-from)), int32(2*(c.last()-from))
	for k, v := range w {
		for lane := range 4 {
			p.weights[k][4*i+lane] = v
		}
	}
}
