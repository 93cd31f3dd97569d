package luma

// TileStride is the bytes of a row in a Tile. The row is the high byte of a place, so
// no place of 16 bits is outside of the array.
const TileStride = 256

// Tile is a piece of an image: up to 256 rows of TileStride pixels.
type Tile [1 << 16]uint8

// Pair is two places relative to a guess, in units of 1/256 of the scale. From the
// lowest 16 bits on, it has row, row, column, column, each plus 128.
type Pair uint64

// NewPair returns the pair of these two places.
func NewPair(row1, col1, row2, col2 int8) Pair {
	u := func(v int8) Pair { return Pair(int(v) + 128) }
	return u(row1) | u(row2)<<16 | u(col1)<<32 | u(col2)<<48
}

// Places is the inverse of NewPair.
func (p Pair) Places() (row1, col1, row2, col2 int) {
	at := func(shift int) int { return int(p>>shift&0xff) - 128 }
	return at(0), at(32), at(16), at(48)
}

// Scaled returns the positions of the two pixels on a Tile, at a scale of up to 256
// pixels, as offsets (row·TileStride + column) from the place (scale+1)/2 rows and
// columns before the guess. The first is in the low 16 bits, the second in the high
// ones.
func (p Pair) Scaled(scale int) uint32 { return p.Times(uint64(scale), Rounding(scale)) }

// Rounding returns what makes products with an odd scale round down relative to the
// guess, instead of relative to the origin of Scaled: half a pixel for each of the
// four.
func Rounding(scale int) uint64 { return uint64(scale&1) * 0x0080_0080_0080_0080 }

// Times is Scaled for a scale whose Rounding has been computed.
func (p Pair) Times(scale, round uint64) uint32 {
	product := uint64(p)*scale + round
	return uint32(product)&0xff00_ff00 + uint32(product>>40)&0x00ff_00ff
}
