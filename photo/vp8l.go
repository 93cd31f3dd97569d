package photo

import (
	"context"
	"errors"
	"image"
	"io"
)

// vp8lDecoder decodes lossless WebP (RFC 9649, section 3), and returns the same pixels as
// golang.org/x/image/vp8l. Unlike that package, it checks its context often: codes may have
// no bits at all, so that some bytes are the work of a whole image.
type vp8lDecoder struct {
	ctx  context.Context
	data []byte
	// bits has the next n bits of the data, the first one lowest. They are followed by
	// zeros.
	bits uint64
	n    uint
	// ended is true once more bits were used than there are.
	ended bool
	// scratch is for the lengths of the codes of the largest alphabet.
	scratch [vp8lLiterals + vp8lLengths + 1<<vp8lMaxCache]uint8
}

const (
	vp8lMagic  = 0x2f
	vp8lHeader = 5
	// vp8lCheck is the number of pixels between two checks of the context. They take less
	// than a millisecond.
	vp8lCheck = 1 << 14

	vp8lLiterals  = 256
	vp8lLengths   = 24
	vp8lDistances = 40
	vp8lMaxCache  = 11 // the binary logarithm of the maximum size of the color cache
	// maxVP8LGroups is the limit of libwebp's encoder and of golang.org/x/image/vp8l.
	maxVP8LGroups = 2600
)

var errVP8L = errors.New("the lossless data is malformed")

// vp8lSize reads the size of the image from the header.
func vp8lSize(data []byte) (image.Point, error) {
	if len(data) < vp8lHeader {
		return image.Point{}, io.ErrUnexpectedEOF
	}
	d := vp8lDecoder{data: data[1:]}
	size := image.Pt(int(d.take(14))+1, int(d.take(14))+1)
	d.take(1) // whether alpha is used: only a hint
	if data[0] != vp8lMagic || d.take(3) != 0 {
		return image.Point{}, errors.New("the header of the lossless data is invalid")
	}
	return size, nil
}

// decodeVP8L decodes what follows the header. The result has four bytes for each pixel, in
// the order of image.NRGBA.
func decodeVP8L(ctx context.Context, data []byte, size image.Point) ([]byte, error) {
	d := &vp8lDecoder{ctx: ctx, data: data}
	var transforms []vp8lTransform
	var seen [4]bool
	width := size.X
	for d.take(1) == 1 {
		t := vp8lTransform{kind: d.take(2), width: width}
		if seen[t.kind] {
			return nil, errors.New("a transform of the lossless data is repeated")
		}
		seen[t.kind] = true
		var err error
		if width, err = d.transform(&t, size.Y); err != nil {
			return nil, err
		}
		transforms = append(transforms, t)
	}
	pix, err := d.pixels(width, size.Y, true)
	for i := len(transforms) - 1; i >= 0 && err == nil; i-- {
		pix, err = transforms[i].invert(ctx, pix, size.Y)
	}
	return pix, err
}

// take returns the next n bits, at most 32.
func (d *vp8lDecoder) take(n uint) uint32 {
	if d.n < n {
		d.fill()
	}
	v := uint32(d.bits & (1<<n - 1))
	d.skip(n)
	return v
}

func (d *vp8lDecoder) skip(n uint) {
	d.bits >>= n
	if n > d.n {
		d.ended, n = true, d.n
	}
	d.n -= n
}

func (d *vp8lDecoder) fill() {
	for d.n <= 56 && len(d.data) > 0 {
		d.bits |= uint64(d.data[0]) << d.n
		d.data = d.data[1:]
		d.n += 8
	}
}

// check returns an error if the data or the context has ended.
func (d *vp8lDecoder) check() error {
	if d.ended {
		return io.ErrUnexpectedEOF
	}
	return d.ctx.Err()
}

// vp8lCode is a canonical prefix code (section 3.7.2.1) of at most 15 bits.
type vp8lCode struct {
	// table has, for the next 8 bits, symbol<<4 | length. It is 0 for longer codes.
	table [1 << vp8lTableBits]uint16
	// symbols are sorted by the lengths of their codes; counts are the numbers of symbols
	// of each length.
	symbols []uint16
	counts  [vp8lMaxLength + 1]uint16
	// single is true if the code has one symbol, whose code has no bits.
	single bool
}

const (
	vp8lTableBits = 8
	vp8lMaxLength = 15
)

// set builds the code from the length of each symbol's code; 0 is for symbols that do not
// occur.
func (c *vp8lCode) set(lengths []uint8) error {
	used := 0
	for _, length := range lengths {
		if length > 0 {
			c.counts[length]++
			used++
		}
	}
	if used == 0 {
		return errVP8L
	}
	var next [vp8lMaxLength + 2]uint16
	left := 1 // codes of this length that are not taken
	for length := 1; length <= vp8lMaxLength; length++ {
		left = 2*left - int(c.counts[length])
		if left < 0 {
			return errVP8L
		}
		next[length+1] = next[length] + c.counts[length]
	}
	c.single = used == 1
	if left != 0 && !c.single {
		return errVP8L
	}
	c.symbols = make([]uint16, used)
	for symbol, length := range lengths {
		if length > 0 {
			c.symbols[next[length]] = uint16(symbol)
			next[length]++
		}
	}
	c.fillTable()
	return nil
}

// fillTable sets the entries for codes that are short enough. The first bit of a code is
// its highest, and the lowest of an index.
func (c *vp8lCode) fillTable() {
	code, i := 0, 0
	for length := 1; length <= vp8lTableBits; length++ {
		for range c.counts[length] {
			first := 0
			for bit := range length {
				first |= code >> (length - 1 - bit) & 1 << bit
			}
			for at := first; at < len(c.table); at += 1 << length {
				c.table[at] = c.symbols[i]<<4 | uint16(length)
			}
			i++
			code++
		}
		code <<= 1
	}
}

// symbol reads a symbol of the code c.
func (d *vp8lDecoder) symbol(c *vp8lCode) uint32 {
	if c.single {
		return uint32(c.symbols[0])
	}
	if d.n < vp8lMaxLength {
		d.fill()
	}
	if entry := c.table[d.bits&(1<<vp8lTableBits-1)]; entry != 0 {
		d.skip(uint(entry & 15))
		return uint32(entry >> 4)
	}
	code, first, before := 0, 0, 0
	for length := 1; length <= vp8lMaxLength; length++ {
		code |= int(d.bits >> (length - 1) & 1)
		count := int(c.counts[length])
		if code-first < count {
			d.skip(uint(length))
			return uint32(c.symbols[before+code-first])
		}
		before += count
		first = (first + count) << 1
		code <<= 1
	}
	panic("an incomplete code") // set refuses them
}

// code reads a code for an alphabet of that size (section 3.7.2.1). If c is nil, it only
// skips the code.
func (d *vp8lDecoder) code(c *vp8lCode, alphabet int) error {
	lengths := d.scratch[:alphabet]
	clear(lengths)
	if d.take(1) == 1 { // a simple code
		symbols := d.take(1) + 1
		bits := uint(1)
		if d.take(1) == 1 {
			bits = 8
		}
		for range symbols {
			symbol := d.take(bits)
			bits = 8
			if int(symbol) >= alphabet {
				return errVP8L
			}
			lengths[symbol] = 1
		}
	} else if err := d.lengths(lengths); err != nil {
		return err
	}
	if d.ended {
		return io.ErrUnexpectedEOF
	}
	if c == nil {
		return nil
	}
	return c.set(lengths)
}

// vp8lLengthOrder is the order of the lengths of the codes for lengths.
var vp8lLengthOrder = [...]uint8{17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// lengths reads the lengths of codes, which are coded themselves.
func (d *vp8lDecoder) lengths(lengths []uint8) error {
	var of [len(vp8lLengthOrder)]uint8
	given := int(d.take(4)) + 4
	if given > len(of) {
		return errVP8L
	}
	for _, symbol := range vp8lLengthOrder[:given] {
		of[symbol] = uint8(d.take(3))
	}
	var code vp8lCode
	if err := code.set(of[:]); err != nil {
		return err
	}
	most := len(lengths)
	if d.take(1) == 1 {
		if most = 2 + int(d.take(2+2*uint(d.take(3)))); most > len(lengths) {
			return errVP8L
		}
	}
	last := uint8(8) // the last length that is not 0
	for i := 0; i < len(lengths) && most > 0; most-- {
		length, repeat := uint8(d.symbol(&code)), 1
		switch length {
		case 16:
			length, repeat = last, 3+int(d.take(2))
		case 17:
			length, repeat = 0, 3+int(d.take(3))
		case 18:
			length, repeat = 0, 11+int(d.take(7))
		}
		if length > 0 {
			last = length
		}
		if i+repeat > len(lengths) {
			return errVP8L
		}
		for range repeat {
			lengths[i] = length
			i++
		}
	}
	return nil
}

// vp8lGroup has the codes for: green, lengths and the cache; red; blue; alpha; distances.
type vp8lGroup [5]vp8lCode

// vp8lGroups says which group of codes is for which pixels: those of tiles of 1<<bits
// pixels, or all pixels if tiles is nil.
type vp8lGroups struct {
	groups []*vp8lGroup
	tiles  []byte // four bytes for each tile; the first two are its group
	across int    // tiles in a row
	bits   uint
}

func (g *vp8lGroups) at(x, y int) *vp8lGroup {
	if g.tiles == nil {
		return g.groups[0]
	}
	return g.groups[groupOf(g.tiles[4*(y>>g.bits*g.across+x>>g.bits):])]
}

func groupOf(tile []byte) int { return int(tile[0])<<8 | int(tile[1]) }

// groups reads the codes for an image of width × height pixels. Only the pixels of the
// image itself may have several groups.
func (d *vp8lDecoder) groups(width, height int, top bool, cache int) (*vp8lGroups, error) {
	g := &vp8lGroups{}
	used := []bool{true}
	if top && d.take(1) == 1 {
		g.bits = uint(d.take(3)) + 2
		g.across = tilesOf(width, g.bits)
		var err error
		if g.tiles, err = d.pixels(g.across, tilesOf(height, g.bits), false); err != nil {
			return nil, err
		}
		used = used[:0]
		for p := 0; p < len(g.tiles); p += 4 {
			n := groupOf(g.tiles[p:])
			if n >= maxVP8LGroups {
				return nil, errors.New("the lossless data has too many prefix codes")
			}
			for len(used) <= n {
				used = append(used, false)
			}
			used[n] = true
		}
	}
	g.groups = make([]*vp8lGroup, len(used))
	for n := range used {
		if used[n] {
			g.groups[n] = &vp8lGroup{}
		}
		for i, alphabet := range [...]int{vp8lLiterals + vp8lLengths + cache, vp8lLiterals, vp8lLiterals, vp8lLiterals, vp8lDistances} {
			var code *vp8lCode
			if used[n] {
				code = &g.groups[n][i]
			}
			if err := d.code(code, alphabet); err != nil {
				return nil, err
			}
		}
		if err := d.check(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func tilesOf(n int, bits uint) int { return (n + 1<<bits - 1) >> bits }

// vp8lCache has colors by their hash (section 3.6.2.3). It is nil if it is not used.
type vp8lCache []uint32

// add adds the pixels of pix.
func (c vp8lCache) add(pix []byte, shift uint) {
	for ; len(pix) >= 4; pix = pix[4:] {
		argb := uint32(pix[3])<<24 | uint32(pix[0])<<16 | uint32(pix[1])<<8 | uint32(pix[2])
		c[argb*0x1e35a7bd>>shift] = argb
	}
}

// cache reads the size of the cache of colors, and how far hashes are shifted for it.
func (d *vp8lDecoder) cache() (c vp8lCache, shift uint, err error) {
	if d.take(1) == 0 {
		return nil, 0, nil
	}
	bits := uint(d.take(4))
	if bits < 1 || bits > vp8lMaxCache {
		return nil, 0, errVP8L
	}
	return make(vp8lCache, 1<<bits), 32 - bits, nil
}

// repeatPixels sets count pixels from byte p on to those that are distance pixels before. It
// returns false if they are not all within pix.
func repeatPixels(pix []byte, p, count, distance int) bool {
	if 4*distance > p || 4*count > len(pix)-p {
		return false
	}
	for i := p; i < p+4*count; i++ { // the two may overlap
		pix[i] = pix[i-4*distance]
	}
	return true
}

// pixels decodes an image of width × height pixels (section 3.6).
func (d *vp8lDecoder) pixels(width, height int, top bool) ([]byte, error) {
	cache, shift, err := d.cache()
	if err != nil {
		return nil, err
	}
	groups, err := d.groups(width, height, top, len(cache))
	if err != nil {
		return nil, err
	}
	pix := make([]byte, 4*width*height)
	mask := -1 // of columns in which another group may begin
	if groups.tiles != nil {
		mask = 1<<groups.bits - 1
	}
	var group *vp8lGroup
	x, y, cached, checked := 0, 0, 0, 0
	for p := 0; p < len(pix); {
		if p >= checked {
			if err := d.check(); err != nil {
				return nil, err
			}
			checked = p + 4*vp8lCheck
		}
		if group == nil || x&mask == 0 {
			group = groups.at(x, y)
		}
		count := 1
		switch symbol := d.symbol(&group[0]); {
		case symbol < vp8lLiterals:
			pix[p+1] = uint8(symbol)
			pix[p] = uint8(d.symbol(&group[1]))
			pix[p+2] = uint8(d.symbol(&group[2]))
			pix[p+3] = uint8(d.symbol(&group[3]))
		case symbol < vp8lLiterals+vp8lLengths:
			count = d.number(symbol - vp8lLiterals)
			distance := vp8lDistance(width, d.number(d.symbol(&group[4])))
			if !repeatPixels(pix, p, count, distance) {
				return nil, errVP8L
			}
			group = nil
		default:
			cache.add(pix[cached:p], shift)
			cached = p
			argb := cache[symbol-vp8lLiterals-vp8lLengths]
			pix[p], pix[p+1], pix[p+2], pix[p+3] = uint8(argb>>16), uint8(argb>>8), uint8(argb), uint8(argb>>24)
		}
		p += 4 * count
		for x += count; x >= width; x -= width {
			y++
		}
	}
	return pix, d.check()
}

// number reads what follows the symbol of a length or a distance (section 3.6.2.2).
func (d *vp8lDecoder) number(symbol uint32) int {
	if symbol < 4 {
		return int(symbol) + 1
	}
	bits := uint(symbol-2) >> 1
	return int((2+symbol&1)<<bits+d.take(bits)) + 1
}

// vp8lNear has the short distances, as rows above in the upper four bits, and as 8 minus
// columns to the left in the lower ones (section 3.6.2.2).
var vp8lNear = [...]uint8{
	0x18, 0x07, 0x17, 0x19, 0x28, 0x06, 0x27, 0x29, 0x16, 0x1a, 0x26, 0x2a, 0x38, 0x05, 0x37,
	0x39, 0x15, 0x1b, 0x36, 0x3a, 0x25, 0x2b, 0x48, 0x04, 0x47, 0x49, 0x14, 0x1c, 0x35, 0x3b,
	0x46, 0x4a, 0x24, 0x2c, 0x58, 0x45, 0x4b, 0x34, 0x3c, 0x03, 0x57, 0x59, 0x13, 0x1d, 0x56,
	0x5a, 0x23, 0x2d, 0x44, 0x4c, 0x55, 0x5b, 0x33, 0x3d, 0x68, 0x02, 0x67, 0x69, 0x12, 0x1e,
	0x66, 0x6a, 0x22, 0x2e, 0x54, 0x5c, 0x43, 0x4d, 0x65, 0x6b, 0x32, 0x3e, 0x78, 0x01, 0x77,
	0x79, 0x53, 0x5d, 0x11, 0x1f, 0x64, 0x6c, 0x42, 0x4e, 0x76, 0x7a, 0x21, 0x2f, 0x75, 0x7b,
	0x31, 0x3f, 0x63, 0x6d, 0x52, 0x5e, 0x00, 0x74, 0x7c, 0x41, 0x4f, 0x10, 0x20, 0x62, 0x6e,
	0x30, 0x73, 0x7d, 0x51, 0x5f, 0x40, 0x72, 0x7e, 0x61, 0x6f, 0x50, 0x71, 0x7f, 0x60, 0x70,
}

// vp8lDistance returns the distance in pixels for a distance code, 1 or above.
func vp8lDistance(width, code int) int {
	if code > len(vp8lNear) {
		return code - len(vp8lNear)
	}
	near := int(vp8lNear[code-1])
	return max(1, near>>4*width+8-near&15)
}
