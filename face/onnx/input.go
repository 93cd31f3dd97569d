package onnx

import (
	"image"
	"image/draw"
	"math"
)

// plane is one channel of an image: height rows of stride bytes, of which every
// step-th counts.
type plane struct {
	pix           []uint8
	width, height int
	stride, step  int
}

// picture is an image as planes that can be resampled: Y, Cb and Cr, whose
// chroma may be smaller, or R, G and B, or luminance alone.
type picture struct {
	planes        [3]plane
	kind          pictureKind
	width, height int
}

type pictureKind int

const (
	grayPicture pictureKind = iota
	rgbPicture
	yCbCrPicture
)

// planesOf shares the pixels of the image types that decoders give, and converts
// the others. Transparent pixels are black.
func planesOf(img image.Image) picture {
	b := img.Bounds()
	p := picture{width: b.Dx(), height: b.Dy()}
	switch m := img.(type) {
	case *image.YCbCr:
		p.kind = yCbCrPicture
		p.planes[0] = plane{m.Y[m.YOffset(b.Min.X, b.Min.Y):], p.width, p.height, m.YStride, 1}
		// The chroma samples that belong to the first and the last pixel.
		first, last := m.COffset(b.Min.X, b.Min.Y), m.COffset(b.Max.X-1, b.Max.Y-1)
		rows := (last - first) / m.CStride
		cols := (last-first)%m.CStride + 1
		p.planes[1] = plane{m.Cb[first:], cols, rows + 1, m.CStride, 1}
		p.planes[2] = plane{m.Cr[first:], cols, rows + 1, m.CStride, 1}
		return p
	case *image.Gray:
		p.planes[0] = plane{m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], p.width, p.height, m.Stride, 1}
		return p
	}
	m, ok := img.(*image.RGBA)
	if !ok {
		m = image.NewRGBA(image.Rect(0, 0, p.width, p.height))
		draw.Draw(m, m.Rect, img, b.Min, draw.Src)
		b = m.Rect
	}
	p.kind = rgbPicture
	for i := range p.planes {
		p.planes[i] = plane{m.Pix[m.PixOffset(b.Min.X, b.Min.Y)+i:], p.width, p.height, m.Stride, 4}
	}
	return p
}

// taps are the weights of a triangle filter for one axis: output i is the sum
// of weight[k] × input[first[i]+k], for k from 0 to count-1, of its own weights.
// The filter is as wide as the reduction, so that nothing is skipped.
type taps struct {
	first  []int32
	weight []float32 // count for each output
	count  int
}

// tapsFor scales size inputs by scale onto n outputs; outputs beyond the scaled
// input repeat nothing: callers leave them alone.
func tapsFor(size, n int, scale float64) taps {
	support := max(1, 1/scale)
	count := min(size, int(math.Ceil(2*support))) // whole numbers within the filter
	t := taps{make([]int32, n), make([]float32, n*count), count}
	for i := range n {
		centre := (float64(i)+0.5)/scale - 0.5
		first := int(math.Floor(centre-support)) + 1
		first = min(max(first, 0), size-count)
		var sum float64
		w := t.weight[i*count:][:count]
		for k := range w {
			v := max(0, 1-math.Abs(float64(first+k)-centre)/support)
			w[k] = float32(v)
			sum += v
		}
		if sum == 0 {
			// Beyond the last input by more than the filter reaches.
			w[count-1], sum = 1, 1
		}
		for k := range w {
			w[k] /= float32(sum)
		}
		t.first[i] = int32(first)
	}
	return t
}

// resample scales a plane by scale into the top left corner of dst, w × h
// values in rows of stride, and returns nothing else of dst changed. row is
// scratch of at least the plane's width.
func (p plane) resample(dst []float32, w, h, stride int, scaleX, scaleY float64, row []float32) {
	if scaleX == 1 && scaleY == 1 && w == p.width && h == p.height {
		for y := range h {
			src, out := p.pix[y*p.stride:], dst[y*stride:][:w]
			for x := range out {
				out[x] = float32(src[x*p.step])
			}
		}
		return
	}
	across, down := tapsFor(p.width, w, scaleX), tapsFor(p.height, h, scaleY)
	row = row[:p.width]
	for y := range h {
		clear(row)
		for k, weight := range down.weight[y*down.count:][:down.count] {
			if weight == 0 {
				continue
			}
			src := p.pix[(int(down.first[y])+k)*p.stride:]
			if p.step == 1 {
				src = src[:len(row)]
				for x, v := range src {
					row[x] += weight * float32(v)
				}
			} else {
				for x := range row {
					row[x] += weight * float32(src[x*p.step])
				}
			}
		}
		out := dst[y*stride:][:w]
		if across.count == 2 {
			// Enlarging, the usual case of the finest look: without the loop over
			// the taps it takes half the time.
			for x, first := range across.first {
				pair, weights := row[first:][:2], across.weight[2*x:][:2]
				out[x] = weights[0]*pair[0] + weights[1]*pair[1]
			}
			continue
		}
		for x := range out {
			var sum float32
			from := row[across.first[x]:][:across.count]
			for k, weight := range across.weight[x*across.count:][:across.count] {
				sum += weight * from[k]
			}
			out[x] = sum
		}
	}
}

// input fills planes of w × h values in rows of stride with the picture, scaled,
// in the order blue, green, red, from 0 to 255.
func (p picture) input(blue, green, red []float32, w, h, stride int, scale float64, row []float32) {
	order := [3][]float32{red, green, blue}
	if p.kind == yCbCrPicture {
		order = [3][]float32{blue, green, red} // Y, Cb and Cr, until they are turned into colours
	}
	for i, dst := range order {
		if i > 0 && p.kind == grayPicture {
			for y := range h {
				copy(dst[y*stride:][:w], order[0][y*stride:][:w])
			}
			continue
		}
		c := p.planes[i]
		// Chroma has half the samples, rounded up, or all.
		ratioX := math.Round(float64(p.width) / float64(c.width))
		ratioY := math.Round(float64(p.height) / float64(c.height))
		c.resample(dst, w, h, stride, scale*ratioX, scale*ratioY, row)
	}
	if p.kind != yCbCrPicture {
		return
	}
	for y := range h {
		b, g, r := blue[y*stride:][:w], green[y*stride:][:w], red[y*stride:][:w]
		for x, luma := range b {
			// JFIF, as image/color has it.
			cb, cr := g[x]-128, r[x]-128
			r[x] = min(max(luma+1.402*cr, 0), 255)
			g[x] = min(max(luma-0.344136*cb-0.714136*cr, 0), 255)
			b[x] = min(max(luma+1.772*cb, 0), 255)
		}
	}
}
