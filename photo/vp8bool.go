package photo

import (
	"encoding/binary"
	"math/bits"
)

// vp8Bits is the state of the boolean decoder (RFC 6386, section 7). It is passed by value,
// so that it can be in registers.
type vp8Bits struct {
	// value has the next bits of the data, the first one highest, followed by zeros.
	value uint64
	// size is the size of the interval. It is normalized, so that it is 128 or more, only
	// before the next boolean is decoded. It is 255 before the first boolean, and never
	// afterwards.
	size uint64
	// n is how many bits of value are from the data. It was 8 or more before the last
	// boolean was decoded, unless the data has ended.
	n int
}

// vp8Reader reads booleans from a partition of the data.
type vp8Reader struct {
	vp8Bits
	data []byte
	at   int // of the next byte
}

func newVP8Reader(data []byte) vp8Reader {
	return vp8Reader{vp8Bits: vp8Bits{size: 255}, data: data}
}

// ended returns true once more bits were used than there are.
func (r *vp8Reader) ended() bool { return r.n < 8 && r.size != 255 }

// fill returns b with 56 to 63 bits, or all that are left. A boolean takes up to 7 bits, and 8
// have to be there before it.
func (r *vp8Reader) fill(b vp8Bits) vp8Bits {
	if rest := r.data[r.at:]; len(rest) >= 8 {
		b.value |= binary.BigEndian.Uint64(rest) >> (uint(b.n) & 63)
		taken := (63 - b.n) >> 3
		b.n += 8 * taken
		r.at += taken
		return b
	}
	for b.n < 56 && r.at < len(r.data) {
		b.value |= uint64(r.data[r.at]) << (uint(56-b.n) & 63)
		b.n += 8
		r.at++
	}
	return b
}

// next decodes a boolean, which is false with a probability of prob/256.
func (b vp8Bits) next(prob uint8) (vp8Bits, bool) {
	shift := uint(bits.LeadingZeros8(uint8(b.size))) & 7
	b.value <<= shift
	b.size <<= shift
	b.n -= int(shift)
	split := 1 + (b.size-1)*uint64(prob)>>8
	if b.value>>56 < split {
		b.size = split
		return b, false
	}
	b.value -= split << 56
	b.size -= split
	return b, true
}

// sign decodes a sign and applies it to v, without a branch: it cannot be predicted.
func (b vp8Bits) sign(v int32) (vp8Bits, int32) {
	shift := uint(bits.LeadingZeros8(uint8(b.size))) & 7
	b.value <<= shift
	b.size <<= shift
	b.n -= int(shift)
	split := (b.size + 1) >> 1
	_, positive := bits.Sub64(b.value, split<<56, 0)
	negative := positive - 1 // all bits are set
	b.value -= split << 56 & negative
	b.size = split + (b.size-2*split)&negative
	return b, (v ^ int32(negative)) - int32(negative)
}

func (r *vp8Reader) bit(prob uint8) bool {
	b := r.vp8Bits
	if b.n < 15 {
		b = r.fill(b)
	}
	var v bool
	r.vp8Bits, v = b.next(prob)
	return v
}

// flag decodes a boolean of a header.
func (r *vp8Reader) flag() bool { return r.bit(128) }

// number decodes an unsigned number of that many bits, the highest one first.
func (r *vp8Reader) number(n int) int {
	v := 0
	for range n {
		v = 2*v + toInt(r.flag())
	}
	return v
}

// optional decodes a number that may be absent, which means 0. The sign follows the n bits.
func (r *vp8Reader) optional(n int) int {
	if !r.flag() {
		return 0
	}
	v := r.number(n)
	if r.flag() {
		return -v
	}
	return v
}

// tree decodes a leaf of a tree (section 8.1). A node has two entries: the index of another
// node, or the complement of a leaf.
func (r *vp8Reader) tree(tree []int8, probs []uint8) uint8 {
	i := 0
	for {
		next := tree[i+toInt(r.bit(probs[i>>1]))]
		if next < 0 {
			return uint8(^next)
		}
		i = int(next)
	}
}

func toInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// vp8Bands has the band of each position of a coefficient (section 13.3), and of the one
// after the last. vp8Zigzag has the positions' places in the block.
var (
	vp8Bands  = [17]uint8{0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 0}
	vp8Zigzag = [16]uint8{0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15}
)

// vp8Extra has the probabilities of the extra bits of large values (section 13.2).
var vp8Extra = [4][]uint8{
	{173, 148, 140},
	{176, 155, 140, 135},
	{180, 157, 141, 134, 130},
	{254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129},
}

// block decodes the coefficients of a block of 4×4 pixels (section 13), from position first
// on. It returns the position after the last one that is coded, or 0 if none is.
func (r *vp8Reader) block(probs *[8][3][11]uint8, context, first int, factors *[2]int32, out *[16]int16) int {
	b := r.vp8Bits
	if b.n < 15 {
		b = r.fill(b)
	}
	p := &probs[vp8Bands[first]&7][context]
	b, more := b.next(p[0])
	if !more {
		r.vp8Bits = b
		return 0
	}
	n := first
	for n < 16 {
		if b.n < 36 { // four booleans
			b = r.fill(b)
		}
		var nonzero, large bool
		b, nonzero = b.next(p[1])
		band := &probs[vp8Bands[n+1]&7]
		if !nonzero {
			p = &band[0]
			n++
			continue
		}
		v := int32(1)
		b, large = b.next(p[2])
		if large {
			b, v = r.large(b, p)
			p = &band[2]
		} else {
			p = &band[1]
		}
		b, v = b.sign(v)
		out[vp8Zigzag[n&15]&15] = int16(v * factors[min(n, 1)])
		n++
		if n == 16 {
			break
		}
		if b, more = b.next(p[0]); !more {
			break
		}
	}
	r.vp8Bits = b
	return n
}

// large decodes a value of 2 or more (section 13.2). It leaves enough bits for two more
// booleans.
func (r *vp8Reader) large(b vp8Bits, p *[11]uint8) (vp8Bits, int32) {
	b = r.fill(b)
	var one, two bool
	if b, one = b.next(p[3]); !one {
		if b, one = b.next(p[4]); !one {
			return b, 2
		}
		b, one = b.next(p[5])
		return b, 3 + int32(toInt(one))
	}
	if b, one = b.next(p[6]); !one {
		if b, one = b.next(p[7]); !one {
			b, one = b.next(159)
			return b, 5 + int32(toInt(one))
		}
		b, two = b.next(165)
		b, one = b.next(145)
		return b, 7 + 2*int32(toInt(two)) + int32(toInt(one))
	}
	b, two = b.next(p[8])
	b, one = b.next(p[9+toInt(two)])
	category := 2*toInt(two) + toInt(one)
	v := 0
	for _, prob := range vp8Extra[category] {
		if b.n < 15 {
			b = r.fill(b)
		}
		b, one = b.next(prob)
		v = 2*v + toInt(one)
	}
	return r.fill(b), int32(3 + 8<<category + v)
}
