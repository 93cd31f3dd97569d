package photo

import (
	"encoding/binary"
	"image/jpeg"
	"io"
)

// jpegBits reads entropy-coded data. Its accumulator holds the next bits at its
// top; bits below the first n are not to be relied upon.
type jpegBits struct {
	data  []byte
	pos   int
	start int // where the entropy-coded segment begins
	acc   uint64
	n     uint
}

// begin starts a segment of entropy-coded data at pos.
func (b *jpegBits) begin() { b.start, b.acc, b.n = b.pos, 0, 0 }

// end puts back the whole bytes that were not used.
func (b *jpegBits) end() {
	for ; b.n >= 8; b.n -= 8 {
		b.pos--
		if b.pos > b.start && b.data[b.pos] == 0 && b.data[b.pos-1] == 0xff {
			b.pos--
		}
	}
	b.acc, b.n = 0, 0
}

// fill gets at least 56 bits, or all up to the next marker or the end.
func (b *jpegBits) fill() {
	if b.pos+8 <= len(b.data) {
		// Eight bytes at once, if none of them is 0xff.
		next := binary.BigEndian.Uint64(b.data[b.pos:])
		if (^next-0x0101010101010101)&next&0x8080808080808080 == 0 {
			b.acc |= next >> b.n
			whole := (63 - b.n) / 8
			b.pos += int(whole)
			b.n += 8 * whole
			return
		}
	}
	for b.n <= 56 && b.pos < len(b.data) {
		v := b.data[b.pos]
		if v == 0xff {
			if b.pos+1 >= len(b.data) || b.data[b.pos+1] != 0 {
				return
			}
			b.pos++
		}
		b.pos++
		// What was there already, from eight bytes at once, is the same.
		b.acc |= uint64(v) << (56 - b.n)
		b.n += 8
	}
}

func (b *jpegBits) drop(n uint) {
	b.acc <<= n
	b.n -= n
}

// short is the error when data end before they should.
func (b *jpegBits) short() error {
	if b.pos+1 >= len(b.data) {
		return io.ErrUnexpectedEOF
	}
	return jpeg.FormatError("missing 0xff00 sequence")
}

// bits returns the next n ≤ 16 bits.
func (b *jpegBits) bits(n uint) (uint32, error) {
	if b.n < n {
		if b.fill(); b.n < n {
			return 0, b.short()
		}
	}
	v := uint32(b.acc >> 32 >> (32 - n))
	b.drop(n)
	return v, nil
}

// extended returns the next n ≤ 16 bits as the signed number that they stand
// for (T.81, F.2.2.1).
func (b *jpegBits) extended(n uint) (int32, error) {
	v, err := b.bits(n)
	return extend(v, n), err
}

func extend(v uint32, n uint) int32 {
	if n > 0 && v < 1<<(n-1) {
		return int32(v) - 1<<n + 1
	}
	return int32(v)
}

const (
	// lutBits is the length of the codes that a symbol's table answers. It is
	// that of the standard library, so that tables which overlap themselves mean
	// the same.
	lutBits = 8
	// fastBits is the length of code and value together that the fast table
	// answers.
	fastBits = 10
	maxCode  = 16
)

// huffman is a Huffman table (T.81, annex C).
type huffman struct {
	n int // of codes; 0: not defined
	// lut has, for the next lutBits, the symbol and the length of its code, or 0.
	lut     [1 << lutBits]uint16
	symbols [256]uint8
	// min and max are the codes of each length, index where their symbols begin.
	// A max of -1 says that there are none.
	min, max, index [maxCode]int32

	// fast has, for the next fastBits, all that is to know when a code and its
	// value fit in: the value, the run of zeros before it, the length of both;
	// or 0. It is made for a scan that needs it.
	fast  [1 << fastBits]fastCode
	stale bool
}

// fastCode is value<<16 | run<<8 | length.
type fastCode int32

const endOfBlock = 64 // as a run

// define reads a table's definition, and returns what is behind it.
func (h *huffman) define(p []byte) ([]byte, error) {
	var counts [maxCode]int
	h.n = 0
	for i := range counts {
		counts[i] = int(p[i])
		h.n += counts[i]
	}
	p = p[maxCode:]
	switch {
	case h.n == 0:
		return nil, jpeg.FormatError("Huffman table has zero length")
	case h.n > len(h.symbols):
		return nil, jpeg.FormatError("Huffman table has excessive length")
	case h.n > len(p):
		return nil, jpeg.FormatError("DHT has wrong length")
	}
	copy(h.symbols[:], p[:h.n])

	clear(h.lut[:])
	var code uint32
	symbol := 0
	for i := range lutBits {
		code <<= 1
		for range counts[i] {
			// Wraps where there are more codes than fit, as in the standard library.
			first := uint8(code << (lutBits - 1 - i))
			for k := range 1 << (lutBits - 1 - i) {
				h.lut[first|uint8(k)] = uint16(h.symbols[symbol])<<8 | uint16(i+1)
			}
			code++
			symbol++
		}
	}
	var next, index int32
	for i, n := range counts {
		h.min[i], h.max[i], h.index[i] = next, next+int32(n)-1, index
		if n == 0 {
			h.max[i] = -1
		}
		next = (next + int32(n)) << 1
		index += int32(n)
	}
	h.stale = true
	return p[h.n:], nil
}

// long looks for the code of at most n bits that v, of maxCode bits, begins with.
func (h *huffman) long(v uint32, n uint) (symbol uint8, length uint, ok bool) {
	for i := range min(n, maxCode) {
		code := int32(v >> (maxCode - 1 - i))
		if code <= h.max[i] {
			return h.symbols[h.index[i]+code-h.min[i]], i + 1, true
		}
	}
	return 0, 0, false
}

// hasten makes the fast table. Of DC tables a symbol is the length of its value.
func (h *huffman) hasten(dc bool) {
	if !h.stale {
		return
	}
	h.stale = false
	for i := range h.fast {
		v := uint32(i) << (maxCode - fastBits)
		h.fast[i] = 0
		symbol, length, ok := h.long(v, fastBits)
		if e := h.lut[v>>(maxCode-lutBits)]; e != 0 {
			symbol, length = uint8(e>>8), uint(e&0xff)
		} else if !ok {
			continue
		}
		run, size := symbol>>4, uint(symbol&15)
		switch {
		case dc:
			run, size = 0, uint(symbol)
		case symbol == 0:
			run = endOfBlock
		case size == 0:
			continue
		}
		if length+size > fastBits {
			continue
		}
		value := extend(v>>(maxCode-length-size)&(1<<size-1), size)
		h.fast[i] = fastCode(value<<16 | int32(run)<<8 | int32(length+size))
	}
}

// symbol decodes the next one.
func (b *jpegBits) symbol(h *huffman) (uint8, error) {
	if h.n == 0 {
		return 0, jpeg.FormatError("uninitialized Huffman table")
	}
	if b.n < maxCode {
		b.fill()
	}
	if b.n >= lutBits {
		if e := h.lut[b.acc>>(64-lutBits)]; e != 0 {
			b.drop(uint(e & 0xff))
			return uint8(e >> 8), nil
		}
	}
	symbol, length, ok := h.long(uint32(b.acc>>(64-maxCode)), b.n)
	switch {
	case ok:
		b.drop(length)
		return symbol, nil
	case b.n < maxCode:
		return 0, b.short()
	}
	return 0, jpeg.FormatError("bad Huffman code")
}
