// Package resample scales rows of bytes by linear interpolation, and converts rows in the
// Y'CbCr of JFIF to red, green and blue, for the inputs of the networks of package grid. It
// gives the same bits on all processors.
//
// What computes a row is assembly that tools/nnkernels generates, or Go on other processors and
// for the last outputs of a row (rows.go).
package resample

import "github.com/mienproject/mien/internal/freelist"

// Axis has the outputs of a linear interpolation along one axis. It keeps its memory for the next
// use. It is not safe for concurrent use. The zero value has no outputs.
type Axis struct {
	// First is the first of the two inputs of each output.
	First []int32
	// Weight, from 0 to 1, is that of the input after it.
	Weight []float32

	size    int
	windows []window
}

// window is where eight outputs find their inputs, if these are close to each other.
type window struct {
	at int32 // the first of 16 inputs
	// places has the places of the first inputs among those 16, and then of the second ones.
	places [2 * vector]uint8
}

// vector is how many outputs the assembly computes at once.
const vector = 8

// Fit sets the axis to scale size inputs by scale, and to n of the outputs, the first of which
// is from. Positions are those of the middles of pixels. Outputs outside of the inputs are the
// first or the last input.
func (a *Axis) Fit(size, from, n int, scale float64) {
	a.size = size
	a.First, a.Weight = freelist.Resize(a.First, n), freelist.Resize(a.Weight, n)
	for i := range n {
		at := min(max((float64(from+i)+0.5)/scale-0.5, 0), float64(size-1))
		first := min(int(at), max(size-2, 0))
		a.First[i], a.Weight[i] = int32(first), float32(at-float64(first))
	}
	a.windows = a.windows[:0]
	if !assembly {
		return
	}
	for first := a.First; len(first) >= vector; first = first[vector:] {
		var w window
		w.at = min(first[0], int32(size-len(w.places)))
		if w.at < 0 || int(first[vector-1]-w.at)+1 >= len(w.places) {
			return // the rest is computed in Go
		}
		for i, f := range first[:vector] {
			w.places[i], w.places[vector+i] = uint8(f-w.at), uint8(f-w.at+1)
		}
		a.windows = append(a.windows, w)
	}
}

// Row scales the inputs src, as many as Fit was given, to all outputs.
func (a *Axis) Row(out []float32, src []uint8) {
	src, out = src[:a.size], out[:len(a.First)]
	if a.size == 1 {
		for x := range out {
			out[x] = float32(src[0])
		}
		return
	}
	done := a.vectors(out, src)
	scaleGo(out[done:], src, a.First[done:], a.Weight[done:])
}

// Blend computes what lies between two rows: upper + (lower-upper)·weight.
func Blend(out, upper, lower []float32, weight float32) {
	upper, lower = upper[:len(out)], lower[:len(out)]
	done := blend(out, upper, lower, weight)
	blendGo(out[done:], upper[done:], lower[done:], weight)
}

// Chroma is a row of the contributions of chroma to red, green and blue. Each is that of two
// pixels.
type Chroma struct{ Red, Green, Blue []float32 }

// Resize makes room for a number of contributions.
func (c *Chroma) Resize(n int) {
	c.Red, c.Green, c.Blue = freelist.Resize(c.Red, n), freelist.Resize(c.Green, n), freelist.Resize(c.Blue, n)
}

// from returns the contributions from the n-th on.
func (c Chroma) from(n int) Chroma { return Chroma{c.Red[n:], c.Green[n:], c.Blue[n:]} }

// Set sets the contributions, from what lies between two rows of Cb and of Cr as in Blend.
func (c Chroma) Set(cb, cbBelow, cr, crBelow []float32, weight float32) {
	n := len(c.Red)
	cb, cbBelow, cr, crBelow = cb[:n], cbBelow[:n], cr[:n], crBelow[:n]
	done := c.set(cb, cbBelow, cr, crBelow, weight)
	c.from(done).setGo(cb[done:], cbBelow[done:], cr[done:], crBelow[done:], weight)
}

// Colors writes a row of an image, from 0 to 255. Its luminance lies between upper and lower as
// in Blend. The rows have two values for each contribution of c.
func (c Chroma) Colors(red, green, blue, upper, lower []float32, weight float32) {
	n := 2 * len(c.Red)
	red, green, blue, upper, lower = red[:n], green[:n], blue[:n], upper[:n], lower[:n]
	done := c.colors(red, green, blue, upper, lower, weight)
	c.from(done/2).colorsGo(red[done:], green[done:], blue[done:], upper[done:], lower[done:], weight)
}
