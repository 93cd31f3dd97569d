package mtcnn

import (
	"context"
	"encoding/binary"
	"image"
	"math"
	"slices"
)

// The Python package resamples with OpenCV's INTER_AREA. If both sides shrink, this is
// the mean over the area that an output pixel covers. Otherwise it is an interpolation
// between two pixels, with weights that are areas too. The code below gives the same
// results, except for the rounding of sums.

// kernel has the weights for one axis. Output i is the sum over k of weight[k] ×
// input[first[i]+k-start[i]], for k from start[i] to start[i+1].
type kernel struct {
	first, start []int
	weight       []float32
}

func (k *kernel) reset() {
	k.first, k.start, k.weight = k.first[:0], append(k.start[:0], 0), k.weight[:0]
}

// end completes an output that starts at input first.
func (k *kernel) end(first int) {
	k.first = append(k.first, first)
	k.start = append(k.start, len(k.weight))
}

// shrink sets k to scale size inputs to n outputs, where n is at most size.
func (k *kernel) shrink(size, n int) {
	// OpenCV computes the quotient and its inverse, and ignores areas of less than a
	// thousandth of a pixel as rounding errors.
	scale := 1 / (float64(n) / float64(size))
	const minPart = 1e-3
	k.reset()
	for i := range n {
		from := float64(float64(i) * scale)
		to := from + scale
		area := min(scale, float64(size)-from)
		last := min(int(math.Floor(to)), size-1)
		whole := min(int(math.Ceil(from)), last)
		first := whole
		if part := float64(whole) - from; part > minPart {
			first--
			k.weight = append(k.weight, float32(part/area))
		}
		for range last - whole {
			k.weight = append(k.weight, float32(1/area))
		}
		if part := to - float64(last); part > minPart {
			k.weight = append(k.weight, float32(min(part, 1, area)/area))
		}
		k.end(first)
	}
}

// stretch sets k to scale size inputs to n outputs, if there are more outputs than
// inputs on this axis or the other.
func (k *kernel) stretch(size, n int) {
	inverse := float64(n) / float64(size)
	scale := 1 / inverse
	k.reset()
	for i := range n {
		first := int(math.Floor(float64(i) * scale))
		// The part of output i that is after input first.
		part := float32(max(0, float64(i+1)-float64(float64(first+1)*inverse)))
		part -= float32(math.Floor(float64(part)))
		if first >= size-1 {
			first, part = size-1, 0
		}
		k.weight = append(k.weight, 1-part)
		if part > 0 {
			k.weight = append(k.weight, part)
		}
		k.end(first)
	}
}

// move makes the inputs of k start at offset on an axis of size pixels. Inputs outside
// of the axis count as zero.
func (k *kernel) move(offset, size int) {
	for i := range k.first {
		k.first[i] += offset
		w := k.weight[k.start[i]:k.start[i+1]]
		// If inputs are outside, their weights are removed, and those of the others
		// stay where they are: an output that begins outside gets a new first input.
		if n := min(-k.first[i], len(w)); n > 0 {
			copy(w, w[n:])
			clear(w[len(w)-n:])
			k.first[i] += n
		}
		for n := max(0, size-k.first[i]); n < len(w); n++ {
			w[n] = 0
		}
	}
}

// taps returns the first input of output i and its weights, without those at the end
// that move has cleared.
func (k *kernel) taps(i int) (first int, weight []float32) {
	w := k.weight[k.start[i]:k.start[i+1]]
	for len(w) > 0 && w[len(w)-1] == 0 {
		w = w[:len(w)-1]
	}
	return k.first[i], w
}

// rounding is how a mean is rounded to a pixel.
type rounding int

const (
	unrounded rounding = iota
	// halfEven rounds to a whole gray level, and halves to the even one.
	halfEven
	// halfUp rounds halves up, as OpenCV does if both sides are halved exactly.
	halfUp
)

// kernels sets w.across and w.down for scaling an image of width × height pixels to
// columns × rows. It reports whether OpenCV rounds the means of bytes up in this case.
func (w *workspace) kernels(width, height, columns, rows int) rounding {
	if width < columns || height < rows {
		w.across.stretch(width, columns)
		w.down.stretch(height, rows)
		return unrounded
	}
	w.across.shrink(width, columns)
	w.down.shrink(height, rows)
	if width == 2*columns && height == 2*rows {
		return halfUp
	}
	return unrounded
}

// rowBuffers has a row of the source that was resampled horizontally, and the sum of
// such rows.
type rowBuffers struct{ row, sum []float32 }

// normalized is the input value of the networks for a gray level.
func normalized(v float32) float32 { return (v - 127.5) * (1.0 / 128) }

// resample computes a part of the image that w.across and w.down make of src, in the
// format of the networks: column by column, three values per pixel.
func (w *workspace) resample(ctx context.Context, dst []float32, src *image.RGBA, part image.Rectangle, r rounding) error {
	n := 3 * part.Dx()
	w.rows.row = slices.Grow(w.rows.row[:0], n)[:n]
	w.rows.sum = slices.Grow(w.rows.sum[:0], n)[:n]
	row, sum := w.rows.row, w.rows.sum
	have := -1 // the index of the row of src that row has
	for y := range part.Dy() {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(sum)
		first, weights := w.down.taps(part.Min.Y + y)
		for k, weight := range weights {
			if have != first+k {
				have = first + k
				w.resampleRow(row, src.Pix[have*src.Stride:], part.Min.X)
			}
			for i, v := range row {
				sum[i] += weight * v
			}
		}
		round(sum, r)
		for x := range part.Dx() {
			to := dst[3*(x*part.Dy()+y):][:3]
			from := sum[3*x:][:3]
			to[0], to[1], to[2] = normalized(from[0]), normalized(from[1]), normalized(from[2])
		}
	}
	return nil
}

// resampleRow computes outputs of w.across, from the given one on, for a row of RGBA
// pixels.
func (w *workspace) resampleRow(dst []float32, pix []uint8, from int) {
	for x := range len(dst) / 3 {
		d := dst[3*x:][:3]
		first, weights := w.across.taps(from + x)
		if len(weights) == 0 {
			clear(d)
			continue
		}
		p := pix[4*first:][:4*len(weights)]
		weight := weights[0]
		r, g, b := weight*float32(p[0]), weight*float32(p[1]), weight*float32(p[2])
		if n := len(weights) - 1; n > 0 {
			if n > 1 {
				// Between the first and the last pixel are whole pixels with the same
				// weight.
				red, green, blue := total(p[4 : 4*n])
				weight = weights[1]
				r, g, b = r+weight*float32(red), g+weight*float32(green), b+weight*float32(blue)
			}
			weight = weights[n]
			p = p[4*n:][:4]
			r, g, b = r+weight*float32(p[0]), g+weight*float32(p[1]), b+weight*float32(p[2])
		}
		d[0], d[1], d[2] = r, g, b
	}
}

// total returns the sum of RGBA pixels. It adds two colors at once, each in 16 bits of
// a word.
func total(p []uint8) (r, g, b uint32) {
	const colors = 0x00ff00ff00ff00ff
	for len(p) >= 8 {
		// The number of pixels that cannot overflow.
		part := p[:min(len(p)&^7, 8*257)]
		p = p[len(part):]
		var redBlue, green uint64
		for ; len(part) >= 8; part = part[8:] {
			v := binary.LittleEndian.Uint64(part)
			redBlue += v & colors
			green += v >> 8 & colors
		}
		r += uint32(redBlue&0xffff + redBlue>>32&0xffff)
		g += uint32(green&0xffff + green>>32&0xffff)
		b += uint32(redBlue>>16&0xffff + redBlue>>48)
	}
	if len(p) >= 4 {
		r, g, b = r+uint32(p[0]), g+uint32(p[1]), b+uint32(p[2])
	}
	return r, g, b
}

func round(v []float32, r rounding) {
	switch r {
	case unrounded:
	case halfEven:
		// Above 2^23 a float32 has no fraction bits, so the processor rounds.
		const shift = 1 << 23
		for i := range v {
			v[i] = float32(v[i]+shift) - shift
		}
	case halfUp:
		for i := range v {
			v[i] = float32(int(v[i] + 0.5))
		}
	}
}
