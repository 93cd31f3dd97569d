package photo

import "encoding/binary"

// The modes of prediction, in the order of RFC 6386. Blocks of 16×16 and 8×8 pixels have the
// first four.
const (
	vp8ModeDC = iota
	vp8ModeTM
	vp8ModeVE
	vp8ModeHE
	vp8ModeLD
	vp8ModeRD
	vp8ModeVR
	vp8ModeVL
	vp8ModeHD
	vp8ModeHU
	vp8Modes
)

const (
	// vp8Stride is the distance between two rows of the planes of a vp8Work.
	vp8Stride = 32
	// The places of the upper left pixels of a macroblock.
	vp8Luma = vp8Stride + 8
	vp8Cb   = vp8Stride + 8
	vp8Cr   = vp8Stride + 24
)

// vp8Work has the pixels of a macroblock, with a row above and a column to the left, which
// are those of its neighbors before they are filtered.
//
// Luma also has four pixels above and to the right of the macroblock. All blocks at the right
// edge use them, therefore rows 4, 8 and 12 repeat them.
type vp8Work struct {
	luma   [17 * vp8Stride]uint8
	chroma [9 * vp8Stride]uint8
}

// start moves the work to column x of the macroblocks of a row. If first is true, it is the
// first row of all. next is the column to the right, or nil.
func (w *vp8Work) start(x int, first bool, above, next *vp8Column) {
	for i := 0; i < len(w.luma); i += vp8Stride {
		if x == 0 {
			w.luma[i+7] = 129
		} else {
			w.luma[i+7] = w.luma[i+23]
		}
	}
	for i := 0; i < len(w.chroma); i += vp8Stride {
		if x == 0 {
			w.chroma[i+7], w.chroma[i+23] = 129, 129
		} else {
			w.chroma[i+7], w.chroma[i+23] = w.chroma[i+15], w.chroma[i+31]
		}
	}
	if first {
		for i := range 21 {
			w.luma[7+i] = 127
		}
		for i := range 9 {
			w.chroma[7+i], w.chroma[23+i] = 127, 127
		}
	} else {
		*(*[16]uint8)(w.luma[8:]) = above.y
		*(*[8]uint8)(w.chroma[8:]) = above.cb
		*(*[8]uint8)(w.chroma[24:]) = above.cr
		if next != nil {
			copy(w.luma[24:28], next.y[:4])
		} else {
			binary.LittleEndian.PutUint32(w.luma[24:], uint32(above.y[15])*0x01010101)
		}
	}
	for _, y := range [...]int{4, 8, 12} {
		copy(w.luma[y*vp8Stride+24:][:4], w.luma[24:28])
	}
}

// finish copies the pixels to the planes, and the lowest row to below. luma and chroma are
// the places of the macroblock in the planes.
func (w *vp8Work) finish(d *vp8Decoder, luma, chroma int, below *vp8Column) {
	for y := range 16 {
		*(*[16]uint8)(d.img.Y[luma:]) = *(*[16]uint8)(w.luma[vp8Luma+y*vp8Stride:])
		luma += d.img.YStride
	}
	for y := range 8 {
		*(*[8]uint8)(d.img.Cb[chroma:]) = *(*[8]uint8)(w.chroma[vp8Cb+y*vp8Stride:])
		*(*[8]uint8)(d.img.Cr[chroma:]) = *(*[8]uint8)(w.chroma[vp8Cr+y*vp8Stride:])
		chroma += d.img.CStride
	}
	below.y = *(*[16]uint8)(w.luma[vp8Luma+15*vp8Stride:])
	below.cb = *(*[8]uint8)(w.chroma[vp8Cb+7*vp8Stride:])
	below.cr = *(*[8]uint8)(w.chroma[vp8Cr+7*vp8Stride:])
}

// vp8Predict predicts a block of size × size pixels at place at (section 12.2). above and
// left say whether it has neighbors there.
func vp8Predict(plane []uint8, at, size int, mode uint8, above, left bool) {
	top := plane[at-vp8Stride:][:size]
	switch mode {
	case vp8ModeDC:
		v := vp8Mean(plane, at, size, above, left)
		for y := range size {
			row := plane[at+y*vp8Stride:][:size]
			for x := range row {
				row[x] = v
			}
		}
	case vp8ModeTM:
		corner := int(plane[at-vp8Stride-1])
		for y := range size {
			place := at + y*vp8Stride
			add := int(plane[place-1]) - corner
			row := plane[place:][:len(top)]
			for x, v := range top {
				row[x] = clampByte(int(v) + add)
			}
		}
	case vp8ModeVE:
		for y := range size {
			copy(plane[at+y*vp8Stride:][:size], top)
		}
	case vp8ModeHE:
		for y := range size {
			place := at + y*vp8Stride
			v := plane[place-1]
			row := plane[place:][:size]
			for x := range row {
				row[x] = v
			}
		}
	}
}

// vp8Mean returns the mean of the pixels above and to the left of a block.
func vp8Mean(plane []uint8, at, size int, above, left bool) uint8 {
	sum, n := 0, 0
	if above {
		for _, v := range plane[at-vp8Stride:][:size] {
			sum += int(v)
		}
		n = size
	}
	if left {
		for y := range size {
			sum += int(plane[at-1+y*vp8Stride])
		}
		n += size
	}
	switch n {
	case 0:
		return 128
	case 8:
		return uint8((sum + 4) / 8)
	case 16:
		return uint8((sum + 8) / 16)
	}
	return uint8((sum + 16) / 32)
}

// vp8Block is a block of 4×4 pixels in a plane of a vp8Work, with what is around it: it
// begins at the pixel above and to the left of the block.
type vp8Block [4*vp8Stride + 5]uint8

// row sets row y, the first pixel lowest.
func (b *vp8Block) row(y int, v uint32) {
	binary.LittleEndian.PutUint32(b[(y+1)*vp8Stride+1:], v)
}

// The names of the pixels around a block of 4×4, clockwise from the lower left one: L3 to L0,
// the corner, and A0 to A7.
const (
	vp8L3 = iota
	vp8L2
	vp8L1
	vp8L0
	vp8Corner
	vp8A0
	vp8A1
	vp8A2
	vp8A3
	vp8A4
	vp8A5
	vp8A6
	vp8A7
	vp8Around
)

// vp8Edge has the pixels around a block.
type vp8Edge [vp8Around]uint64

// two and three return the means of two or three pixels from i on.
func (e *vp8Edge) two(i int) uint64   { return (e[i] + e[i+1] + 1) >> 1 }
func (e *vp8Edge) three(i int) uint64 { return (e[i] + 2*e[i+1] + e[i+2] + 2) >> 2 }

// around returns the pixels around the block.
func (b *vp8Block) around() (e vp8Edge) {
	e[vp8L3] = uint64(b[4*vp8Stride])
	e[vp8L2] = uint64(b[3*vp8Stride])
	e[vp8L1] = uint64(b[2*vp8Stride])
	e[vp8L0] = uint64(b[1*vp8Stride])
	e[vp8Corner] = uint64(b[0])
	e[vp8A0], e[vp8A1], e[vp8A2], e[vp8A3] = uint64(b[1]), uint64(b[2]), uint64(b[3]), uint64(b[4])
	e[vp8A4], e[vp8A5], e[vp8A6], e[vp8A7] = uint64(b[5]), uint64(b[6]), uint64(b[7]), uint64(b[8])
	return e
}

// predict predicts the block (section 12.3).
func (b *vp8Block) predict(mode uint8) {
	e := b.around()
	switch mode {
	case vp8ModeDC:
		v := e[vp8L0] + e[vp8L1] + e[vp8L2] + e[vp8L3] + e[vp8A0] + e[vp8A1] + e[vp8A2] + e[vp8A3]
		v = (v + 4) >> 3 * 0x01010101
		for y := range 4 {
			b.row(y, uint32(v))
		}
	case vp8ModeTM:
		for y := range 4 {
			add := int(e[vp8L0-y]) - int(e[vp8Corner])
			for x := range 4 {
				b[(y+1)*vp8Stride+1+x] = clampByte(int(e[vp8A0+x]) + add)
			}
		}
	case vp8ModeVE:
		v := uint32(e.three(vp8Corner) | e.three(vp8A0)<<8 | e.three(vp8A1)<<16 | e.three(vp8A2)<<24)
		for y := range 4 {
			b.row(y, v)
		}
	case vp8ModeHE:
		last := (e[vp8L2] + 3*e[vp8L3] + 2) >> 2
		for y, v := range [...]uint64{e.three(vp8L1), e.three(vp8L2), e.three(vp8L3), last} {
			b.row(y, uint32(v)*0x01010101)
		}
	default:
		b.predictDiagonal(mode, &e)
	}
}

// predictDiagonal predicts the block in a direction that is not of rows or columns. A row is
// one near to it, moved by pixels, so that all rows are parts of one or two sequences.
func (b *vp8Block) predictDiagonal(mode uint8, e *vp8Edge) {
	switch mode {
	case vp8ModeLD:
		last := (e[vp8A6] + 3*e[vp8A7] + 2) >> 2
		v := e.three(vp8A0) | e.three(vp8A1)<<8 | e.three(vp8A2)<<16 | e.three(vp8A3)<<24 |
			e.three(vp8A4)<<32 | e.three(vp8A5)<<40 | last<<48
		for y := range 4 {
			b.row(y, uint32(v>>(8*y)))
		}
	case vp8ModeRD:
		v := e.three(vp8L3) | e.three(vp8L2)<<8 | e.three(vp8L1)<<16 | e.three(vp8L0)<<24 |
			e.three(vp8Corner)<<32 | e.three(vp8A0)<<40 | e.three(vp8A1)<<48
		for y := range 4 {
			b.row(y, uint32(v>>(8*(3-y))))
		}
	case vp8ModeVR:
		even := e.three(vp8L1) | e.two(vp8Corner)<<8 | e.two(vp8A0)<<16 | e.two(vp8A1)<<24 | e.two(vp8A2)<<32
		odd := e.three(vp8L2) | e.three(vp8L0)<<8 | e.three(vp8Corner)<<16 | e.three(vp8A0)<<24 | e.three(vp8A1)<<32
		b.row(0, uint32(even>>8))
		b.row(1, uint32(odd>>8))
		b.row(2, uint32(even))
		b.row(3, uint32(odd))
	case vp8ModeVL:
		even := e.two(vp8A0) | e.two(vp8A1)<<8 | e.two(vp8A2)<<16 | e.two(vp8A3)<<24 | e.three(vp8A4)<<32
		odd := e.three(vp8A0) | e.three(vp8A1)<<8 | e.three(vp8A2)<<16 | e.three(vp8A3)<<24 | e.three(vp8A5)<<32
		b.row(0, uint32(even))
		b.row(1, uint32(odd))
		b.row(2, uint32(even>>8))
		b.row(3, uint32(odd>>8))
	case vp8ModeHD:
		low := e.two(vp8L3) | e.three(vp8L3)<<8 | e.two(vp8L2)<<16 | e.three(vp8L2)<<24 |
			e.two(vp8L1)<<32 | e.three(vp8L1)<<40 | e.two(vp8L0)<<48 | e.three(vp8L0)<<56
		b.row(0, uint32(low>>48|e.three(vp8Corner)<<16|e.three(vp8A0)<<24))
		b.row(1, uint32(low>>32))
		b.row(2, uint32(low>>16))
		b.row(3, uint32(low))
	case vp8ModeHU:
		last := e[vp8L3]
		v := e.two(vp8L1) | e.three(vp8L2)<<8 | e.two(vp8L2)<<16 | e.three(vp8L3)<<24 |
			e.two(vp8L3)<<32 | (e[vp8L2]+3*last+2)>>2<<40 | last<<48 | last<<56
		b.row(0, uint32(v))
		b.row(1, uint32(v>>16))
		b.row(2, uint32(v>>32))
		b.row(3, uint32(last)*0x01010101)
	}
}

// add adds to the block what the coefficients describe (section 14.4).
//
// The products may overflow for coefficients that no encoder writes, with the same result as
// in golang.org/x/image/vp8.
func (b *vp8Block) add(c *[16]int16) {
	var m [16]int32
	for i := range 4 {
		c0, c1, c2, c3 := int32(c[i]), int32(c[i+4]), int32(c[i+8]), int32(c[i+12])
		m[i], m[i+4], m[i+8], m[i+12] = vp8IDCT(c0, c1, c2, c3)
	}
	for y := range 4 {
		row := b[(y+1)*vp8Stride+1:][:4]
		v0, v1, v2, v3 := vp8IDCT(m[4*y]+4, m[4*y+1], m[4*y+2], m[4*y+3])
		row[0] = clampByte(int(int32(row[0]) + v0>>3))
		row[1] = clampByte(int(int32(row[1]) + v1>>3))
		row[2] = clampByte(int(int32(row[2]) + v2>>3))
		row[3] = clampByte(int(int32(row[3]) + v3>>3))
	}
}

// vp8IDCT is the inverse transform of four coefficients.
func vp8IDCT(c0, c1, c2, c3 int32) (v0, v1, v2, v3 int32) {
	const (
		cos = 85627 // √2·cos(π/8)·2¹⁶
		sin = 35468 // √2·sin(π/8)·2¹⁶
	)
	even0, even1 := c0+c2, c0-c2
	odd0 := c1*cos>>16 + c3*sin>>16
	odd1 := c1*sin>>16 - c3*cos>>16
	return even0 + odd0, even1 + odd1, even1 - odd1, even0 - odd0
}

// addDC is as add for a block whose other coefficients are 0.
func (b *vp8Block) addDC(c int16) {
	v := (int(c) + 4) >> 3
	for y := range 4 {
		row := b[(y+1)*vp8Stride+1:][:4]
		for x := range row {
			row[x] = clampByte(int(row[x]) + v)
		}
	}
}

// vp8SpreadDC sets the first coefficients of 16 blocks to the inverse Walsh-Hadamard
// transform of c (section 14.3).
func vp8SpreadDC(c *[16]int16, blocks *[16][16]int16) {
	var m [16]int32
	for i := range 4 {
		c0, c1, c2, c3 := int32(c[i]), int32(c[i+4]), int32(c[i+8]), int32(c[i+12])
		m[i], m[i+4], m[i+8], m[i+12] = vp8WHT(c0, c1, c2, c3)
	}
	for i := 0; i < 16; i += 4 {
		row := m[i:][:4]
		v0, v1, v2, v3 := vp8WHT(row[0]+3, row[1], row[2], row[3])
		blocks[i][0] = int16(v0 >> 3)
		blocks[i+1][0] = int16(v1 >> 3)
		blocks[i+2][0] = int16(v2 >> 3)
		blocks[i+3][0] = int16(v3 >> 3)
	}
}

func vp8WHT(c0, c1, c2, c3 int32) (v0, v1, v2, v3 int32) {
	outer0, outer1 := c0+c3, c0-c3
	inner0, inner1 := c1+c2, c1-c2
	return outer0 + inner0, outer1 + inner1, outer0 - inner0, outer1 - inner1
}
