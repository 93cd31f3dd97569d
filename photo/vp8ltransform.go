package photo

import "context"

// vp8lTransform is a transform of the pixels of lossless WebP (RFC 9649, section 3.5).
type vp8lTransform struct {
	kind  uint32
	width int // of the image that invert returns
	bits  uint
	// pix is an image of the tiles, or the colors of a palette: four bytes for each.
	pix []byte
}

const vp8lPredictor, vp8lCrossColor, vp8lSubtractGreen, vp8lPalette = 0, 1, 2, 3

// transform reads t, and returns the width of the transformed image.
func (d *vp8lDecoder) transform(t *vp8lTransform, height int) (width int, err error) {
	switch t.kind {
	case vp8lPredictor, vp8lCrossColor:
		t.bits = uint(d.take(3)) + 2
		t.pix, err = d.pixels(tilesOf(t.width, t.bits), tilesOf(height, t.bits), false)
	case vp8lPalette:
		colors := int(d.take(8)) + 1
		switch {
		case colors <= 2:
			t.bits = 3
		case colors <= 4:
			t.bits = 2
		case colors <= 16:
			t.bits = 1
		}
		if t.pix, err = d.pixels(colors, 1, false); err != nil {
			return 0, err
		}
		for i := 4; i < len(t.pix); i++ {
			t.pix[i] += t.pix[i-4]
		}
		// Indices above the last color are transparent.
		t.pix = append(t.pix, make([]byte, 4*256-len(t.pix))...)
		return tilesOf(t.width, t.bits), nil
	}
	return t.width, err
}

// invert undoes the transform of pix, in place if it can.
func (t *vp8lTransform) invert(ctx context.Context, pix []byte, height int) ([]byte, error) {
	out := pix
	if t.kind == vp8lPalette && t.bits > 0 {
		out = make([]byte, 4*t.width*height)
	}
	for y := range height {
		if y%max(1, vp8lCheck/t.width) == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		row := out[4*t.width*y:][:4*t.width]
		switch t.kind {
		case vp8lPredictor:
			t.predict(out, y)
		case vp8lCrossColor:
			t.crossColor(row, y)
		case vp8lSubtractGreen:
			for p := 0; p < len(row); p += 4 {
				row[p] += row[p+1]
				row[p+2] += row[p+1]
			}
		case vp8lPalette:
			across := tilesOf(t.width, t.bits)
			t.colors(row, pix[4*across*y:][:4*across])
		}
	}
	return out, nil
}

// colors sets row to the colors of the palette. A pixel of packed has 1<<t.bits indices in
// its green, the first one lowest.
func (t *vp8lTransform) colors(row, packed []byte) {
	size := uint(8) >> t.bits
	for x := range t.width {
		green := uint(packed[4*(x>>t.bits)+1])
		index := green >> (uint(x) & (1<<t.bits - 1) * size) & (1<<size - 1)
		copy(row[4*x:4*x+4], t.pix[4*index:])
	}
}

// tile returns the four bytes of the tile at a pixel.
func (t *vp8lTransform) tile(x, y int) []byte {
	return t.pix[4*(y>>t.bits*tilesOf(t.width, t.bits)+x>>t.bits):]
}

func (t *vp8lTransform) crossColor(row []byte, y int) {
	delta := func(factor, color uint8) uint8 { return uint8(int(int8(factor)) * int(int8(color)) >> 5) }
	for from := 0; from < t.width; from += 1 << t.bits {
		factors := t.tile(from, y)
		redToBlue, greenToBlue, greenToRed := factors[0], factors[1], factors[2]
		for p := 4 * from; p < min(4*(from+1<<t.bits), len(row)); p += 4 {
			green := row[p+1]
			row[p] += delta(greenToRed, green)
			row[p+2] += delta(greenToBlue, green) + delta(redToBlue, row[p])
		}
	}
}

// predict adds the predictions for row y (section 3.5.1). The first row is predicted from
// the left, the first column from above, and the first pixel is opaque black. Right of the
// last column is the first pixel of the next row, as in memory.
func (t *vp8lTransform) predict(pix []byte, y int) {
	stride := 4 * t.width
	row := pix[y*stride:]
	if y == 0 {
		row[3] += 0xff
		for i := 4; i < stride; i++ {
			row[i] += row[i-4]
		}
		return
	}
	for i := range 4 {
		row[i] += pix[(y-1)*stride+i]
	}
	for from := 0; from < t.width; from += 1 << t.bits {
		mode := t.tile(from, y)[1] & 15
		first, last := max(1, from), min(from+1<<t.bits, t.width)
		at := y*stride + 4*first
		addPrediction(mode, pix[at-4:at+4*(last-first)], pix[at-stride-4:at-stride+4*(last-first+1)])
	}
}

// addPrediction adds predictions to row, which begins with the pixel to the left. above is
// the row above, from the pixel above that to one pixel further to the right.
func addPrediction(mode uint8, row, above []byte) {
	switch mode {
	case 11:
		addSelected(row, above)
		return
	case 0:
		for i := 7; i < len(row); i += 4 {
			row[i] += 0xff
		}
		return
	}
	for i := 4; i < len(row); i++ {
		left, topLeft, top, topRight := row[i-4], above[i-4], above[i], above[i+4]
		var p uint8
		switch mode {
		case 1:
			p = left
		case 2:
			p = top
		case 3:
			p = topRight
		case 4:
			p = topLeft
		case 5, 6, 7, 8, 9, 10:
			p = meanPrediction(mode, left, topLeft, top, topRight)
		case 12:
			p = clampByte(int(left) + int(top) - int(topLeft))
		case 13:
			m := int(mean(left, top))
			p = clampByte(m + (m-int(topLeft))/2)
		}
		row[i] += p
	}
}

// meanPrediction returns the prediction of the modes 5 to 10.
func meanPrediction(mode, left, topLeft, top, topRight uint8) uint8 {
	switch mode {
	case 5:
		return mean(mean(left, topRight), top)
	case 6:
		return mean(left, topLeft)
	case 7:
		return mean(left, top)
	case 8:
		return mean(topLeft, top)
	case 9:
		return mean(top, topRight)
	default:
		return mean(mean(left, topLeft), mean(top, topRight))
	}
}

// addSelected adds the pixel to the left or the one above: the one that is nearer to the
// sum of both less the pixel between them.
func addSelected(row, above []byte) {
	for p := 4; p < len(row); p += 4 {
		toLeft, toTop := 0, 0
		for i := p; i < p+4; i++ {
			corner := int(above[i-4])
			toLeft += abs(corner - int(above[i]))
			toTop += abs(corner - int(row[i-4]))
		}
		from := above[p : p+4]
		if toLeft < toTop {
			from = row[p-4 : p]
		}
		for i, v := range from {
			row[p+i] += v
		}
	}
}

func mean(a, b uint8) uint8 { return uint8((int(a) + int(b)) / 2) }

func clampByte(v int) uint8 { return uint8(min(max(v, 0), 255)) }

func abs(v int) int { return max(v, -v) }
