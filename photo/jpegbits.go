package photo

import (
	"bytes"
	"encoding/binary"
	"image/jpeg"
	"io"
)

// jpegBits reads entropy-coded data bit by bit. The next n bits are the highest bits of
// acc; the bits below them are undefined.
type jpegBits struct {
	data  []byte
	pos   int
	start int // where the entropy-coded segment begins
	acc   uint64
	n     uint
}

// marker returns the next marker and skips everything before it.
func (b *jpegBits) marker() (byte, error) {
	for {
		n := bytes.IndexByte(b.data[b.pos:], 0xff)
		if n < 0 {
			return 0, io.ErrUnexpectedEOF
		}
		first := b.pos + n
		for b.pos = first; b.pos < len(b.data) && b.data[b.pos] == 0xff; b.pos++ {
		}
		if b.pos == len(b.data) {
			return 0, io.ErrUnexpectedEOF
		}
		marker := b.data[b.pos]
		b.pos++
		// After one 0xff, zero means a data byte of 0xff. After several, it is an
		// unknown marker.
		if marker != 0 || b.pos-first > 2 {
			return marker, nil
		}
	}
}

func (b *jpegBits) segment() ([]byte, error) {
	rest := b.data[b.pos:]
	if len(rest) < 2 {
		return nil, io.ErrUnexpectedEOF
	}
	size := int(binary.BigEndian.Uint16(rest))
	if size < 2 {
		return nil, jpeg.FormatError("short segment length")
	}
	if size > len(rest) {
		return nil, io.ErrUnexpectedEOF
	}
	b.pos += size
	return rest[2:size], nil
}

// begin starts reading an entropy-coded segment at pos.
func (b *jpegBits) begin() { b.start, b.acc, b.n = b.pos, 0, 0 }

// end moves pos back before the whole bytes that were buffered and not used.
func (b *jpegBits) end() {
	for ; b.n >= 8; b.n -= 8 {
		b.pos--
		if b.pos > b.start && b.data[b.pos] == 0 && b.data[b.pos-1] == 0xff {
			b.pos--
		}
	}
	b.acc, b.n = 0, 0
}

// fill buffers at least 56 bits, or all bits up to the next marker or the end of the
// data.
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
		// Bits that the fast path has already written here have the same values.
		b.acc |= uint64(v) << (56 - b.n)
		b.n += 8
	}
}

func (b *jpegBits) drop(n uint) {
	b.acc <<= n
	b.n -= n
}

// endError returns the error for entropy-coded data that ends too early: at the end of
// the file, or at a marker.
func (b *jpegBits) endError() error {
	if b.pos+1 >= len(b.data) {
		return io.ErrUnexpectedEOF
	}
	return errEarlyMarker
}

// errEarlyMarker is returned for a marker inside of entropy-coded data.
const errEarlyMarker = jpeg.FormatError("missing 0xff00 sequence")

// bits returns the next n ≤ 16 bits.
func (b *jpegBits) bits(n uint) (uint32, error) {
	if b.n < n {
		if b.fill(); b.n < n {
			return 0, b.endError()
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
	// lutBits is the maximum length of codes in huffman.lut. It is the same as in the
	// standard library, so that malformed tables whose codes overlap decode to the same
	// symbols.
	lutBits = 8
	// fastBits is the maximum length of a code and its value together in huffman.fast.
	fastBits = 10
	maxCode  = 16
)

// huffman is a Huffman table (T.81, annex C).
type huffman struct {
	n int // number of codes; 0 if the table is not defined
	// lut maps the next lutBits bits to the symbol and the length of its code, or to 0
	// if the code is longer.
	lut     [1 << lutBits]uint16
	symbols [256]uint8
	// min and max are the first and the last code of each length, and index is the
	// position in symbols of the first one. max is -1 if there are no codes of that
	// length.
	min, max, index [maxCode]int32

	// fast maps the next fastBits bits to a value, the run of zeros before it, and the
	// length of code and value together; or to 0 if they are longer than fastBits.
	// buildFastTable fills it if it is stale.
	fast  [1 << fastBits]fastCode
	stale bool
}

// fastCode is value<<16 | run<<8 | length.
type fastCode int32

const endOfBlock = 64 // value of run that stands for the end of a block

// define reads the definition of a table, and returns the rest of p.
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
			// This wraps if there are more codes than fit, as in the standard library.
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

// findCode returns the symbol whose code is a prefix of v, and the length of the code.
// v has maxCode bits, of which only the first n are valid.
func (h *huffman) findCode(v uint32, n uint) (symbol uint8, length uint, ok bool) {
	for i := range min(n, maxCode) {
		code := int32(v >> (maxCode - 1 - i))
		if code <= h.max[i] {
			return h.symbols[h.index[i]+code-h.min[i]], i + 1, true
		}
	}
	return 0, 0, false
}

// buildFastTable fills h.fast. dc says that h is a DC table, whose symbols are the
// lengths of values.
func (h *huffman) buildFastTable(dc bool) {
	if !h.stale {
		return
	}
	h.stale = false
	for i := range h.fast {
		v := uint32(i) << (maxCode - fastBits)
		h.fast[i] = 0
		symbol, length, ok := h.findCode(v, fastBits)
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

// symbol decodes the next symbol.
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
	symbol, length, ok := h.findCode(uint32(b.acc>>(64-maxCode)), b.n)
	switch {
	case ok:
		b.drop(length)
		return symbol, nil
	case b.n < maxCode:
		return 0, b.endError()
	}
	return 0, jpeg.FormatError("bad Huffman code")
}

// The standard tables for luma and chroma (T.81, K.3.3) as they would be in a file: the
// number of codes of each length, and then the symbols.
var (
	standardDC = [2]string{
		"\x00\x01\x05\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00" +
			"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b",
		"\x00\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00" +
			"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b",
	}
	standardAC = [2]string{
		"\x00\x02\x01\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d" +
			"\x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71" +
			"\x14\x32\x81\x91\xa1\x08\x23\x42\xb1\xc1\x15\x52\xd1\xf0\x24\x33\x62\x72" +
			"\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\x29\x2a\x34\x35\x36\x37" +
			"\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58\x59" +
			"\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x83" +
			"\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3" +
			"\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3" +
			"\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe1\xe2" +
			"\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa",
		"\x00\x02\x01\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77" +
			"\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22" +
			"\x32\x81\x08\x14\x42\x91\xa1\xb1\xc1\x09\x23\x33\x52\xf0\x15\x62\x72\xd1" +
			"\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\x27\x28\x29\x2a\x35\x36" +
			"\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49\x4a\x53\x54\x55\x56\x57\x58" +
			"\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a" +
			"\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a" +
			"\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba" +
			"\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda" +
			"\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9\xfa",
	}
)
