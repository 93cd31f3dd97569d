package photo

import (
	"context"
	"encoding/binary"
	"errors"
	"image"
	"io"
)

// vp8Decoder decodes a key frame of VP8 (RFC 6386), which is lossy WebP, and returns the same
// samples as golang.org/x/image/vp8. Unlike that package, it checks its context often, copies
// no data, and filters a row of macroblocks as soon as it is decoded.
type vp8Decoder struct {
	ctx  context.Context
	img  *image.YCbCr // whole macroblocks
	rows int          // of macroblocks

	modes vp8Reader
	// coefficients are the partitions of the coefficients, which rows take in turn.
	coefficients []vp8Reader

	segmented bool // segments have parameters of their own
	// newSegments is true if macroblocks say which segment they are in.
	newSegments  bool
	segmentProbs [3]uint8
	segments     [4]vp8Segment
	simple       bool // the simple filter
	filtered     bool
	probs        vp8Probs
	// maySkip is true if macroblocks say whether they have coefficients.
	maySkip  bool
	skipProb uint8

	columns []vp8Column
	left    vp8Column
	block   vp8Macroblock
	work    vp8Work
}

// vp8Segment has the parameters of the macroblocks of a segment.
type vp8Segment struct {
	// quantizer and level are those of the header, and relative is true if they are to be
	// added to those of the frame.
	quantizer, level int
	relative         bool
	// The factors of the first coefficient and of the others.
	luma, lumaDC, chroma [2]int32
	// filters are for macroblocks of one mode, and for those with a mode for each block.
	filters [2]vp8Filter
}

// vp8Column is what a macroblock leaves to the one below, or to the one to its right.
type vp8Column struct {
	// The lowest pixels, before they are filtered.
	y      [16]uint8
	cb, cr [8]uint8
	// modes are those of the blocks at the edge.
	modes [4]uint8
	// coded has a 1 for blocks at the edge that have coefficients: four of luma, two each of
	// Cb and Cr, and the one of the first coefficients of luma.
	coded [9]uint8

	filter vp8Filter
	inner  bool // whether edges within the macroblock are filtered
}

// vp8Macroblock is the macroblock that is being decoded.
type vp8Macroblock struct {
	segment uint8
	skip    bool // it has no coefficients
	split   bool // each block of luma has a mode of its own
	luma    uint8
	chroma  uint8
	blocks  [16]uint8 // the modes if split is true
	// coefficients are those of 16 blocks of luma, and of four each of Cb and Cr.
	coefficients [24][16]int16
	dc           [16]int16
	last         [24]uint8 // the position after the last coefficient, 0 if there is none
	dirty        bool      // some of coefficients may not be 0
}

const (
	vp8Tag    = 3  // bytes
	vp8Header = 10 // with the tag
	// vp8Check is the number of macroblocks between two checks of the context. They take
	// less than a millisecond.
	vp8Check = 64
)

// vp8Size reads the size of the image from the header.
func vp8Size(data []byte) (image.Point, error) {
	if len(data) < vp8Tag {
		return image.Point{}, io.ErrUnexpectedEOF
	}
	if data[0]&1 != 0 {
		return image.Point{}, errors.New("not a key frame")
	}
	if len(data) < vp8Header {
		return image.Point{}, io.ErrUnexpectedEOF
	}
	if string(data[vp8Tag:6]) != "\x9d\x01\x2a" {
		return image.Point{}, errors.New("the header of the lossy data is invalid")
	}
	// The upper two bits say how the image should be scaled, which nobody does.
	const sides = 1<<14 - 1
	return image.Pt(int(binary.LittleEndian.Uint16(data[6:]))&sides, int(binary.LittleEndian.Uint16(data[8:]))&sides), nil
}

// vp8Memory returns an upper bound of what decodeVP8 holds, in bytes, and of the image alone.
func vp8Memory(w, h int64) (decode, img int64) {
	columns := (w + 15) / 16
	img = columns * ((h + 15) / 16) * 16 * 16 * 3 / 2
	const column, decoder = 128, 8 << 10
	return img + columns*column + decoder, img
}

// decodeVP8 decodes a key frame. The planes of the result have whole macroblocks.
//
// Data that no encoder writes may give other samples than in other decoders: a partition that
// begins with 255, coefficients whose products overflow 32 bits, and levels of the filter
// whose sum is not within a signed byte.
func decodeVP8(ctx context.Context, data []byte) (*image.YCbCr, error) {
	size, err := vp8Size(data)
	if err != nil {
		return nil, err
	}
	columns, rows := (size.X+15)/16, (size.Y+15)/16
	d := &vp8Decoder{ctx: ctx, rows: rows, columns: make([]vp8Column, columns)}
	if err := d.headers(data); err != nil {
		return nil, err
	}
	d.img = image.NewYCbCr(image.Rect(0, 0, 16*columns, 16*rows), image.YCbCrSubsampleRatio420)
	for y := range rows {
		if err := d.row(y); err != nil {
			return nil, err
		}
		if d.filtered {
			d.filterRow(y)
		}
	}
	d.img.Rect.Max = size
	return d.img, nil
}

// headers reads all that is before the macroblocks (sections 9.2 to 9.11).
func (d *vp8Decoder) headers(data []byte) error {
	first := int(data[0])>>5 | int(data[1])<<3 | int(data[2])<<11
	data = data[vp8Header:]
	if first > len(data) {
		return io.ErrUnexpectedEOF
	}
	d.modes = newVP8Reader(data[:first])
	r := &d.modes
	r.number(2) // the color space, and whether values need clamping: both are ignored
	d.readSegments(r)
	d.readFilters(r)
	if err := d.partition(data[first:], 1<<r.number(2)); err != nil {
		return err
	}
	d.readFactors(r)
	r.flag() // whether the probabilities are kept for the next frame
	d.probs = vp8DefaultProbs
	for i := range d.probs {
		for j := range d.probs[i] {
			for k := range d.probs[i][j] {
				for l := range d.probs[i][j][k] {
					if r.bit(vp8UpdateProbs[i][j][k][l]) {
						d.probs[i][j][k][l] = uint8(r.number(8))
					}
				}
			}
		}
	}
	if d.maySkip = r.flag(); d.maySkip {
		d.skipProb = uint8(r.number(8))
	}
	if r.ended() {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// readSegments reads the parameters of segments (section 9.3).
func (d *vp8Decoder) readSegments(r *vp8Reader) {
	d.segmented = r.flag()
	if !d.segmented {
		return
	}
	d.newSegments = r.flag()
	relative := false
	if r.flag() {
		relative = !r.flag()
		for i := range d.segments {
			d.segments[i].quantizer = r.optional(7)
		}
		for i := range d.segments {
			d.segments[i].level = r.optional(6)
		}
	}
	for i := range d.segments {
		d.segments[i].relative = relative
	}
	if !d.newSegments {
		return
	}
	for i := range d.segmentProbs {
		d.segmentProbs[i] = 255
		if r.flag() {
			d.segmentProbs[i] = uint8(r.number(8))
		}
	}
}

// readFilters reads the parameters of the loop filter (section 9.4). Of the differences
// for kinds of macroblocks, those count that a key frame has.
func (d *vp8Decoder) readFilters(r *vp8Reader) {
	d.simple = r.flag()
	frame, sharpness := r.number(6), r.number(3)
	d.filtered = frame > 0
	keyFrame, split := 0, 0
	if r.flag() {
		var deltas [8]int
		if r.flag() {
			for i := range deltas {
				deltas[i] = r.optional(6)
			}
		}
		keyFrame, split = deltas[0], deltas[4]
	}
	for i := range d.segments {
		s := &d.segments[i]
		level := frame
		if d.segmented {
			level = s.level
			if s.relative {
				level += frame
			}
		}
		s.filters[0] = newVP8Filter(level+keyFrame, sharpness)
		s.filters[1] = newVP8Filter(level+keyFrame+split, sharpness)
	}
}

// readFactors reads the indices of the quantization factors (section 9.6).
func (d *vp8Decoder) readFactors(r *vp8Reader) {
	frame := r.number(7)
	var deltas [5]int
	for i := range deltas {
		deltas[i] = r.optional(4)
	}
	for i := range d.segments {
		s := &d.segments[i]
		q := frame
		if d.segmented {
			q = s.quantizer
			if s.relative {
				q += frame
			}
		}
		factor := func(table *[128]int32, delta int) int32 { return table[min(max(q+delta, 0), 127)] }
		s.luma = [2]int32{factor(&vp8DC, deltas[0]), factor(&vp8AC, 0)}
		s.lumaDC = [2]int32{2 * factor(&vp8DC, deltas[1]), max(factor(&vp8AC, deltas[2])*155/100, 8)}
		s.chroma = [2]int32{min(factor(&vp8DC, deltas[3]), 132), factor(&vp8AC, deltas[4])}
	}
}

// partition splits data into n partitions, the sizes of all but the last of which are at the
// beginning (section 9.5).
func (d *vp8Decoder) partition(data []byte, n int) error {
	sizes := 3 * (n - 1)
	if len(data) < sizes {
		return io.ErrUnexpectedEOF
	}
	d.coefficients = make([]vp8Reader, n)
	rest := data[sizes:]
	for i := range n - 1 {
		size := uint24(data[3*i:])
		if size > len(rest) {
			return io.ErrUnexpectedEOF
		}
		d.coefficients[i] = newVP8Reader(rest[:size])
		rest = rest[size:]
	}
	d.coefficients[n-1] = newVP8Reader(rest)
	return nil
}

// row decodes row y of macroblocks.
func (d *vp8Decoder) row(y int) error {
	d.left = vp8Column{}
	coefficients := &d.coefficients[y%len(d.coefficients)]
	for x := range d.columns {
		if x%vp8Check == 0 {
			if err := d.ctx.Err(); err != nil {
				return err
			}
		}
		above := &d.columns[x]
		var next *vp8Column
		if x+1 < len(d.columns) {
			next = &d.columns[x+1]
		}
		d.readModes(above)
		coded := d.readCoefficients(coefficients, above)
		d.work.start(x, y == 0, above, next)
		d.reconstruct(x > 0, y > 0)
		d.work.finish(d, 16*(y*d.img.YStride+x), 8*(y*d.img.CStride+x), above)

		above.filter = d.segments[d.block.segment].filters[toInt(d.block.split)]
		above.inner = coded || d.block.split
	}
	if d.modes.ended() || coefficients.ended() {
		return truncated(int64(y), int64(d.rows))
	}
	return nil
}

// The trees of sections 10 and 11.2. A leaf is the complement of a mode, or of a segment. The
// mode vp8Modes of luma means that each block has its own.
var (
	vp8LumaTree = []int8{^vp8Modes, 2, 4, 6, ^vp8ModeDC, ^vp8ModeVE, ^vp8ModeHE, ^vp8ModeTM}
	vp8ModeTree = []int8{
		^vp8ModeDC, 2, ^vp8ModeTM, 4, ^vp8ModeVE, 6, 8, 12, ^vp8ModeHE, 10, ^vp8ModeRD, ^vp8ModeVR,
		^vp8ModeLD, 14, ^vp8ModeVL, 16, ^vp8ModeHD, ^vp8ModeHU,
	}
	vp8ChromaTree  = []int8{^vp8ModeDC, 2, ^vp8ModeVE, 4, ^vp8ModeHE, ^vp8ModeTM}
	vp8SegmentTree = []int8{2, 4, ^0, ^1, ^2, ^3}

	vp8LumaProbs   = []uint8{145, 156, 163, 128}
	vp8ChromaProbs = []uint8{142, 114, 183}
)

// readModes reads the header of a macroblock (section 19.3).
func (d *vp8Decoder) readModes(above *vp8Column) {
	r, b := &d.modes, &d.block
	if d.newSegments {
		b.segment = r.tree(vp8SegmentTree, d.segmentProbs[:])
	}
	b.skip = d.maySkip && r.bit(d.skipProb)
	b.luma = r.tree(vp8LumaTree, vp8LumaProbs)
	b.split = b.luma == vp8Modes
	if b.split {
		for i := range b.blocks {
			up, left := &above.modes[i&3], &d.left.modes[i>>2]
			mode := r.tree(vp8ModeTree, vp8ModeProbs[*up][*left][:])
			b.blocks[i], *up, *left = mode, mode, mode
		}
	} else {
		mode := b.luma
		above.modes = [4]uint8{mode, mode, mode, mode}
		d.left.modes = above.modes
	}
	b.chroma = r.tree(vp8ChromaTree, vp8ChromaProbs)
}

// The kinds of blocks, for the probabilities of coefficients.
const (
	vp8LumaAC = iota // without the first coefficient
	vp8LumaDC        // the first coefficients of 16 blocks
	vp8Chroma
	vp8LumaAll
)

// readCoefficients reads the coefficients of a macroblock, and returns true if some are not
// 0.
func (d *vp8Decoder) readCoefficients(r *vp8Reader, above *vp8Column) bool {
	b, left := &d.block, &d.left
	if b.dirty {
		b.coefficients = [24][16]int16{}
		b.dirty = false
	}
	b.last = [24]uint8{}
	if b.skip {
		clear(left.coded[:8])
		clear(above.coded[:8])
		if !b.split { // otherwise there is no block of first coefficients
			left.coded[8], above.coded[8] = 0, 0
		}
		return false
	}
	b.dirty = true
	s := &d.segments[b.segment]
	kind, first := vp8LumaAll, 0
	if !b.split {
		kind, first = vp8LumaAC, 1
		b.dc = [16]int16{}
		n := r.block(&d.probs[vp8LumaDC], int(left.coded[8]+above.coded[8]), 0, &s.lumaDC, &b.dc)
		left.coded[8] = uint8(min(n, 1))
		above.coded[8] = left.coded[8]
		vp8SpreadDC(&b.dc, (*[16][16]int16)(b.coefficients[:16]))
	}
	coded := false
	for i := range b.coefficients {
		up, across, factors := i&3, i>>2&3, &s.luma
		if i >= 16 {
			kind, first, factors = vp8Chroma, 0, &s.chroma
			plane := i >> 2 & 1
			up, across = 4+2*plane+i&1, 4+2*plane+i>>1&1
		}
		c := &b.coefficients[i]
		n := r.block(&d.probs[kind], int(above.coded[up]+left.coded[across]), first, factors, c)
		above.coded[up] = uint8(min(n, 1))
		left.coded[across] = above.coded[up]
		b.last[i] = uint8(n)
		coded = coded || n > 0 || c[0] != 0
	}
	return coded
}

// reconstruct predicts the pixels of the macroblock and adds what the coefficients describe.
func (d *vp8Decoder) reconstruct(left, above bool) {
	b, w := &d.block, &d.work
	if !b.split {
		vp8Predict(w.luma[:], vp8Luma, 16, b.luma, above, left)
	}
	for i := range 16 {
		block := (*vp8Block)(w.luma[vp8Luma-vp8Stride-1+i>>2*4*vp8Stride+i&3*4:])
		if b.split {
			block.predict(b.blocks[i])
		}
		b.add(block, i)
	}
	for i, at := range [...]int{vp8Cb, vp8Cr} {
		vp8Predict(w.chroma[:], at, 8, b.chroma, above, left)
		for j := range 4 {
			block := (*vp8Block)(w.chroma[at-vp8Stride-1+j>>1*4*vp8Stride+j&1*4:])
			b.add(block, 16+4*i+j)
		}
	}
}

// add adds to a block what the coefficients of block i describe.
func (b *vp8Macroblock) add(block *vp8Block, i int) {
	c := &b.coefficients[i]
	if b.last[i] > 1 {
		block.add(c)
	} else if c[0] != 0 {
		block.addDC(c[0])
	}
}
