package photo

// vp8Filter says how the edges of a macroblock are filtered (RFC 6386, section 15).
type vp8Filter struct {
	limit    int // of the difference across an edge within the macroblock; 0 means no filter
	interior int // limit of the differences between neighbors on one side of an edge
	variance int // above this difference, only the pixels at the edge change
}

// vp8MacroblockEdge is added to the limit at the edges of a macroblock.
const vp8MacroblockEdge = 4

// newVP8Filter returns the parameters for a level, which may be outside of 0 to 63 (section
// 15.4).
func newVP8Filter(level, sharpness int) vp8Filter {
	level = min(level, 63)
	if level <= 0 {
		return vp8Filter{}
	}
	f := vp8Filter{interior: level}
	if sharpness > 0 {
		f.interior >>= 1
		if sharpness > 4 {
			f.interior >>= 1
		}
		f.interior = min(f.interior, 9-sharpness)
	}
	f.interior = max(f.interior, 1)
	f.limit = 2*level + f.interior
	if level >= 40 {
		f.variance = 2
	} else if level >= 15 {
		f.variance = 1
	}
	return f
}

// filterRow filters row y of macroblocks, and up to three rows of pixels above.
func (d *vp8Decoder) filterRow(y int) {
	luma, chroma := 16*y*d.img.YStride, 8*y*d.img.CStride
	for x := range d.columns {
		col := &d.columns[x]
		switch {
		case col.filter.limit == 0:
		case d.simple:
			d.filterSimple(&col.filter, col.inner, luma, x > 0, y > 0)
		default:
			col.filter.plane(d.img.Y, luma, d.img.YStride, 16, col.inner, x > 0, y > 0)
			col.filter.plane(d.img.Cb, chroma, d.img.CStride, 8, col.inner, x > 0, y > 0)
			col.filter.plane(d.img.Cr, chroma, d.img.CStride, 8, col.inner, x > 0, y > 0)
		}
		luma += 16
		chroma += 8
	}
}

// filterSimple filters the luma of the macroblock at that place (section 15.2).
func (d *vp8Decoder) filterSimple(f *vp8Filter, inner bool, at int, left, above bool) {
	stride := d.img.YStride
	if left {
		simpleEdge(d.img.Y, at, 1, stride, f.limit+vp8MacroblockEdge)
	}
	if inner {
		for i := 4; i < 16; i += 4 {
			simpleEdge(d.img.Y, at+i, 1, stride, f.limit)
		}
	}
	if above {
		simpleEdge(d.img.Y, at, stride, 1, f.limit+vp8MacroblockEdge)
	}
	if inner {
		for i := 4; i < 16; i += 4 {
			simpleEdge(d.img.Y, at+i*stride, stride, 1, f.limit)
		}
	}
}

// simpleEdge filters 16 pixels along an edge. across is the distance between pixels across
// the edge, along that along it.
func simpleEdge(pix []uint8, at, across, along, limit int) {
	for range 16 {
		p1, p0, q0, q1 := int(pix[at-2*across]), int(pix[at-across]), int(pix[at]), int(pix[at+across])
		if !aboveLimit(p1, p0, q0, q1, limit) {
			pix[at-across], pix[at] = narrow(p1, p0, q0, q1)
		}
		at += along
	}
}

// plane filters a macroblock in a plane, where it has size × size pixels (section 15.3).
func (f *vp8Filter) plane(pix []uint8, at, stride, size int, inner, left, above bool) {
	if left {
		f.vertical(pix, at, stride, size, f.limit+vp8MacroblockEdge, false)
	}
	if inner {
		for i := 4; i < size; i += 4 {
			f.vertical(pix, at+i, stride, size, f.limit, true)
		}
	}
	if above {
		f.horizontal(pix, at, stride, size, f.limit+vp8MacroblockEdge, false)
	}
	if inner {
		for i := 4; i < size; i += 4 {
			f.horizontal(pix, at+i*stride, stride, size, f.limit, true)
		}
	}
}

// vertical filters a vertical edge of size pixels. If inner is true, it is within a
// macroblock.
func (f *vp8Filter) vertical(pix []uint8, at, stride, size, limit int, inner bool) {
	for range size {
		w := (*[8]uint8)(pix[at-4:])
		at += stride
		p3, p2, p1, p0 := int(w[0]), int(w[1]), int(w[2]), int(w[3])
		q0, q1, q2, q3 := int(w[4]), int(w[5]), int(w[6]), int(w[7])
		if aboveLimit(p1, p0, q0, q1, limit) || rough(p3, p2, p1, p0, f.interior) || rough(q3, q2, q1, q0, f.interior) {
			continue
		}
		switch {
		case outside(p1-p0, f.variance) || outside(q1-q0, f.variance):
			w[3], w[4] = narrow(p1, p0, q0, q1)
		case inner:
			a := 3 * (q0 - p0)
			up, down := share(a+3), share(a+4)
			w[3], w[4] = pixel(p0+up), pixel(q0-down)
			down = (down + 1) >> 1
			w[2], w[5] = pixel(p1+down), pixel(q1-down)
		default:
			a := signed(3*(q0-p0) + signed(p1-q1))
			d := (27*a + 63) >> 7
			w[3], w[4] = pixel(p0+d), pixel(q0-d)
			d = (18*a + 63) >> 7
			w[2], w[5] = pixel(p1+d), pixel(q1-d)
			d = (9*a + 63) >> 7
			w[1], w[6] = pixel(p2+d), pixel(q2-d)
		}
	}
}

// horizontal is as vertical, for a horizontal edge.
func (f *vp8Filter) horizontal(pix []uint8, at, stride, size, limit int, inner bool) {
	for ; size > 0; size -= 8 {
		var rows [8]*[8]uint8
		for i := range rows {
			rows[i] = (*[8]uint8)(pix[at+(i-4)*stride:])
		}
		f.horizontal8(rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7], limit, inner)
		at += 8
	}
}

func (f *vp8Filter) horizontal8(r0, r1, r2, r3, r4, r5, r6, r7 *[8]uint8, limit int, inner bool) {
	for i := range 8 {
		p3, p2, p1, p0 := int(r0[i]), int(r1[i]), int(r2[i]), int(r3[i])
		q0, q1, q2, q3 := int(r4[i]), int(r5[i]), int(r6[i]), int(r7[i])
		if aboveLimit(p1, p0, q0, q1, limit) || rough(p3, p2, p1, p0, f.interior) || rough(q3, q2, q1, q0, f.interior) {
			continue
		}
		switch {
		case outside(p1-p0, f.variance) || outside(q1-q0, f.variance):
			r3[i], r4[i] = narrow(p1, p0, q0, q1)
		case inner:
			a := 3 * (q0 - p0)
			up, down := share(a+3), share(a+4)
			r3[i], r4[i] = pixel(p0+up), pixel(q0-down)
			down = (down + 1) >> 1
			r2[i], r5[i] = pixel(p1+down), pixel(q1-down)
		default:
			a := signed(3*(q0-p0) + signed(p1-q1))
			d := (27*a + 63) >> 7
			r3[i], r4[i] = pixel(p0+d), pixel(q0-d)
			d = (18*a + 63) >> 7
			r2[i], r5[i] = pixel(p1+d), pixel(q1-d)
			d = (9*a + 63) >> 7
			r1[i], r6[i] = pixel(p2+d), pixel(q2-d)
		}
	}
}

// aboveLimit returns true if the difference across an edge is so large that the image may
// have an edge there itself.
func aboveLimit(p1, p0, q0, q1, limit int) bool {
	return abs(p0-q0)<<1+abs(p1-q1)>>1 > limit
}

// rough returns true if neighbors on one side of an edge differ by more than the limit.
func rough(v3, v2, v1, v0, limit int) bool {
	return outside(v3-v2, limit) || outside(v2-v1, limit) || outside(v1-v0, limit)
}

// outside returns true if the absolute value of v is above the limit.
func outside(v, limit int) bool { return uint(v+limit) > uint(2*limit) }

// narrow returns the two pixels at an edge, after filtering only them.
func narrow(p1, p0, q0, q1 int) (uint8, uint8) {
	a := 3*(q0-p0) + signed(p1-q1)
	return pixel(p0 + share(a+3)), pixel(q0 - share(a+4))
}

// share returns an eighth of v, which is added to a pixel or subtracted.
func share(v int) int { return min(max(v>>3, -16), 15) }

// signed limits v to what a signed byte can hold.
func signed(v int) int { return min(max(v, -128), 127) }

// pixel is clampByte for values that rarely need it.
func pixel(v int) uint8 {
	if uint(v) > 255 {
		return uint8(^v >> 63)
	}
	return uint8(v)
}
