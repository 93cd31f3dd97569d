package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/jpeg"
	"io"
	"math/bits"
)

// jpegDecoder decodes what nearly all JPEGs are: eight-bit grey or Y'CbCr,
// sequential or progressive, Huffman-coded. It takes and refuses what the
// standard library's decoder does, detail by detail, and gives the same samples,
// for it follows that decoder (Copyright 2009 The Go Authors; see LICENSE-go).
// What it has beyond that one: it is faster, leaves out chroma that nobody wants,
// gives pictures of an eighth to half the size without the full one in between,
// and looks at its context often.
type jpegDecoder struct {
	ctx  context.Context
	gray bool
	// shift is the logarithm of the reduction: a block becomes 8>>shift wide.
	shift uint

	jpegBits
	width, height         int
	baseline, progressive bool
	components            []jpegPlane
	jfif, adobe           bool
	adobeTransform        byte
	ratio                 image.YCbCrSubsampleRatio
	across, down          int // minimum coded units
	restart               int
	endOfBand             uint16 // blocks to come without coefficients (T.81, G.1.2.2)
	quant                 [4][64]int32
	dc, ac                [4]huffman
	block                 jpegBlock
}

// jpegBlock is the coefficients of 8×8 samples, row by row.
type jpegBlock [64]int32

// jpegPlane is a component, and its samples.
type jpegPlane struct {
	id, quant byte
	h, v      int // sampling factors
	wanted    bool
	pix       []byte
	stride    int
	dc        int32 // the last block's

	// For progressive files: the coefficients of all blocks, if they are wanted,
	// and which of a block's are not 0, in the file's order. That order has the
	// constant one in front, which is not told of here.
	blocks  []jpegBlock
	nonzero []uint64
}

// zigzag tells where a coefficient belongs in a block, by its place in the file.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

// decodeJPEG decodes data, which openJPEG has looked at. It returns an image of
// the picture's size divided by 1<<shift, rounded up.
func decodeJPEG(ctx context.Context, data []byte, gray bool, shift uint) (image.Image, error) {
	d := &jpegDecoder{ctx: ctx, gray: gray, shift: shift, jpegBits: jpegBits{data: data, pos: 2}}
	return d.decode()
}

func (d *jpegDecoder) decode() (image.Image, error) {
	for {
		marker, err := d.marker()
		switch {
		case err != nil:
			return nil, err
		case marker == jpegEOI:
			return d.image()
		case jpegRST0 <= marker && marker <= jpegRST7:
			continue // one too many at a scan's end
		}
		var process func([]byte) error
		switch {
		case marker == jpegSOF0, marker == jpegSOF1, marker == jpegSOF2:
			d.baseline, d.progressive = marker == jpegSOF0, marker == jpegSOF2
			process = d.frame
		case marker == jpegDHT:
			process = d.huffmanTables
		case marker == jpegDQT:
			process = d.quantTables
		case marker == jpegDRI:
			process = d.restartInterval
		case marker == jpegSOS:
			process = d.scan
		case marker == jpegAPP0, marker == jpegAPP14:
			process = func(p []byte) error { d.application(marker, p); return nil }
		case jpegAPP0 < marker && marker <= jpegAPP15, marker == jpegCOM:
			process = func([]byte) error { return nil }
		case marker < jpegSOF0:
			return nil, jpeg.FormatError("unknown marker")
		default:
			return nil, jpeg.UnsupportedError("unknown marker")
		}
		segment, err := d.segment()
		if err != nil {
			return nil, err
		}
		if err := process(segment); err != nil {
			return nil, err
		}
	}
}

// marker finds the next one, past whatever there is in front of it.
func (d *jpegDecoder) marker() (byte, error) {
	for {
		n := bytes.IndexByte(d.data[d.pos:], 0xff)
		if n < 0 {
			return 0, io.ErrUnexpectedEOF
		}
		first := d.pos + n
		for d.pos = first; d.pos < len(d.data) && d.data[d.pos] == 0xff; d.pos++ {
		}
		if d.pos == len(d.data) {
			return 0, io.ErrUnexpectedEOF
		}
		marker := d.data[d.pos]
		d.pos++
		// Behind one 0xff, zero is data; behind several, a marker that is none.
		if marker != 0 || d.pos-first > 2 {
			return marker, nil
		}
	}
}

func (d *jpegDecoder) segment() ([]byte, error) {
	rest := d.data[d.pos:]
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
	d.pos += size
	return rest[2:size], nil
}

func (d *jpegDecoder) application(marker byte, p []byte) {
	switch {
	case marker == jpegAPP0 && len(p) >= 5:
		d.jfif = string(p[:5]) == "JFIF\x00"
	case marker == jpegAPP14 && len(p) >= 12 && string(p[:5]) == "Adobe":
		d.adobe, d.adobeTransform = true, p[11]
	}
}

func (d *jpegDecoder) frame(p []byte) error {
	const fixed = 6
	switch {
	case d.components != nil:
		return jpeg.FormatError("multiple SOF markers")
	case len(p) != fixed+3 && len(p) != fixed+9:
		return jpeg.UnsupportedError("number of components")
	case p[0] != 8:
		return jpeg.UnsupportedError("precision")
	case int(p[5]) != len(p[fixed:])/3:
		return jpeg.FormatError("SOF has wrong length")
	}
	d.height = int(binary.BigEndian.Uint16(p[1:]))
	d.width = int(binary.BigEndian.Uint16(p[3:]))
	for p = p[fixed:]; len(p) > 0; p = p[3:] {
		c := jpegPlane{id: p[0], h: int(p[1] >> 4), v: int(p[1] & 15), quant: p[2]}
		for _, other := range d.components {
			if other.id == c.id {
				return jpeg.FormatError("repeated component identifier")
			}
		}
		switch {
		case c.quant > 3:
			return jpeg.FormatError("bad Tq value")
		case c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4:
			return jpeg.FormatError("luma/chroma subsampling ratio")
		case c.h == 3 || c.v == 3:
			return errSubsampling
		}
		c.wanted = !d.gray || len(d.components) == 0
		d.components = append(d.components, c)
	}
	y := &d.components[0]
	if len(d.components) == 1 {
		y.h, y.v = 1, 1 // a lone component is never subsampled
		return nil
	}
	cb, cr := &d.components[1], &d.components[2]
	if y.v == 4 || y.h%cb.h != 0 || y.v%cb.v != 0 || cb.h != cr.h || cb.v != cr.v {
		return errSubsampling
	}
	var ok bool
	if d.ratio, ok = subsampleRatios[image.Pt(y.h/cb.h, y.v/cb.v)]; !ok {
		return errSubsampling
	}
	return nil
}

const errSubsampling = jpeg.UnsupportedError("luma/chroma subsampling ratio")

// subsampleRatios tells the ratio by how many luma samples a chroma sample
// covers.
var subsampleRatios = map[image.Point]image.YCbCrSubsampleRatio{
	{X: 1, Y: 1}: image.YCbCrSubsampleRatio444, {X: 1, Y: 2}: image.YCbCrSubsampleRatio440,
	{X: 2, Y: 1}: image.YCbCrSubsampleRatio422, {X: 2, Y: 2}: image.YCbCrSubsampleRatio420,
	{X: 4, Y: 1}: image.YCbCrSubsampleRatio411, {X: 4, Y: 2}: image.YCbCrSubsampleRatio410,
}

func (d *jpegDecoder) quantTables(p []byte) error {
	for len(p) > 0 {
		id, wide := p[0]&15, p[0]>>4
		p = p[1:]
		switch {
		case id > 3:
			return jpeg.FormatError("bad Tq value")
		case wide > 1:
			return jpeg.FormatError("bad Pq value")
		case len(p) == 0: // the standard library lets this pass
			return nil
		case len(p) < 64<<wide:
			return jpeg.FormatError("DQT has wrong length")
		}
		for i := range 64 {
			if wide == 0 {
				d.quant[id][i] = int32(p[i])
			} else {
				d.quant[id][i] = int32(binary.BigEndian.Uint16(p[2*i:]))
			}
		}
		p = p[64<<wide:]
	}
	return nil
}

func (d *jpegDecoder) huffmanTables(p []byte) error {
	for len(p) > 0 {
		if len(p) < 1+maxCode {
			return jpeg.FormatError("DHT has wrong length")
		}
		class, id := p[0]>>4, p[0]&15
		if class > 1 {
			return jpeg.FormatError("bad Tc value")
		}
		if id > 3 || d.baseline && id > 1 {
			return jpeg.FormatError("bad Th value")
		}
		table := &d.dc[id]
		if class == 1 {
			table = &d.ac[id]
		}
		var err error
		if p, err = table.define(p[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (d *jpegDecoder) restartInterval(p []byte) error {
	if len(p) != 2 {
		return jpeg.FormatError("DRI has wrong length")
	}
	d.restart = int(binary.BigEndian.Uint16(p))
	return nil
}

// jpegScan is one pass over the picture.
type jpegScan struct {
	components []jpegScanComponent
	// The coefficients, in the file's order, and their bits, high and low: all
	// of them but in progressive files.
	first, last int
	high, low   uint
}

type jpegScanComponent struct {
	*jpegPlane
	dcTable, acTable *huffman
	quantTable       *[64]int32
}

func (d *jpegDecoder) scan(p []byte) error {
	s, err := d.scanHeader(p)
	if err != nil {
		return err
	}
	d.makePlanes()
	for _, c := range s.components {
		c.dcTable.hasten(true)
		c.acTable.hasten(false)
		if n := d.across * d.down * c.h * c.v; d.progressive && c.nonzero == nil {
			c.nonzero = make([]uint64, n)
			if c.wanted {
				c.blocks = make([]jpegBlock, n)
			}
		}
	}

	d.begin()
	d.forgetDC()
	units, due := 0, byte(jpegRST0)
	x, y := 0, 0 // of the next block, where there is one component only
	for row := range d.down {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		for column := range d.across {
			for i := range s.components {
				c := &s.components[i]
				for k := range c.h * c.v {
					if len(s.components) > 1 {
						err = d.decodeBlock(&s, c, c.h*column+k%c.h, c.v*row+k/c.h)
					} else {
						// From left to right, and none that is outside of the picture.
						if 8*x < d.width && 8*y < d.height {
							err = d.decodeBlock(&s, c, x, y)
						}
						if x++; x == d.across*c.h {
							x, y = 0, y+1
						}
					}
					if err != nil {
						return err
					}
				}
			}
			units++
			if d.restart > 0 && units%d.restart == 0 && units < d.across*d.down {
				d.end()
				if err := d.expect(due); err != nil {
					return err
				}
				due = jpegRST0 + (due-jpegRST0+1)%8
				d.begin()
				d.forgetDC()
				d.endOfBand = 0
			}
		}
	}
	d.end()
	return nil
}

func (d *jpegDecoder) forgetDC() {
	for i := range d.components {
		d.components[i].dc = 0
	}
}

func (d *jpegDecoder) scanHeader(p []byte) (s jpegScan, err error) {
	n := len(d.components)
	switch {
	case n == 0:
		return s, jpeg.FormatError("missing SOF marker")
	case len(p) < 6 || len(p) > 4+2*n || len(p) != 4+2*int(p[0]):
		return s, jpeg.FormatError("SOS has wrong length")
	}
	samples := 0
	for p = p[1:]; len(p) > 3; p = p[2:] {
		var c jpegScanComponent
		for i := range d.components {
			if d.components[i].id == p[0] {
				c.jpegPlane = &d.components[i]
			}
		}
		if c.jpegPlane == nil {
			return s, jpeg.FormatError("unknown component selector")
		}
		for _, other := range s.components {
			if other.jpegPlane == c.jpegPlane {
				return s, jpeg.FormatError("repeated component selector")
			}
		}
		samples += c.h * c.v
		dc, ac := p[1]>>4, p[1]&15
		if dc > 3 || ac > 3 || d.baseline && (dc > 1 || ac > 1) {
			return s, jpeg.FormatError("bad table selector")
		}
		c.dcTable, c.acTable, c.quantTable = &d.dc[dc], &d.ac[ac], &d.quant[c.quant]
		s.components = append(s.components, c)
	}
	if n > 1 && samples > 10 {
		return s, jpeg.FormatError("total sampling factors too large")
	}
	s.last = 63
	if !d.progressive {
		return s, nil
	}
	s.first, s.last, s.high, s.low = int(p[0]), int(p[1]), uint(p[2]>>4), uint(p[2]&15)
	switch {
	case s.first == 0 && s.last != 0 || s.first > s.last || s.last > 63:
		return s, jpeg.FormatError("bad spectral selection bounds")
	case s.first != 0 && len(s.components) != 1:
		return s, jpeg.FormatError("progressive AC coefficients for more than one component")
	case s.high != 0 && s.high != s.low+1:
		return s, jpeg.FormatError("bad successive approximation values")
	}
	return s, nil
}

// makePlanes makes the planes of wanted components, of whole minimum coded
// units.
func (d *jpegDecoder) makePlanes() {
	y := &d.components[0]
	if y.pix != nil {
		return
	}
	d.across = (d.width + 8*y.h - 1) / (8 * y.h)
	d.down = (d.height + 8*y.v - 1) / (8 * y.v)
	side := 8 >> d.shift
	for i := range d.components {
		if c := &d.components[i]; c.wanted {
			c.stride = side * c.h * d.across
			c.pix = make([]byte, c.stride*side*c.v*d.down)
		}
	}
}

// expect goes past a restart marker. In front of it there may be data too many,
// but no other marker.
func (d *jpegDecoder) expect(due byte) error {
	for {
		n := bytes.IndexByte(d.data[d.pos:], 0xff)
		if n < 0 || d.pos+n+1 == len(d.data) {
			return io.ErrUnexpectedEOF
		}
		d.pos += n + 1
		switch d.data[d.pos] {
		case due:
			d.pos++
			return nil
		case 0xff: // the marker may follow this one
		case 0:
			d.pos++
		default:
			return jpeg.FormatError("bad RST marker")
		}
	}
}

func (d *jpegDecoder) decodeBlock(s *jpegScan, c *jpegScanComponent, x, y int) error {
	if d.progressive {
		at := y*d.across*c.h + x
		b := &d.block
		if c.wanted {
			b = &c.blocks[at]
		}
		switch {
		case s.first == 0 && s.high == 0:
			err := d.difference(c)
			b[0] = c.dc << s.low
			return err
		case s.first == 0:
			bit, err := d.bits(1)
			b[0] |= int32(bit) << s.low
			return err
		case s.high == 0:
			return d.firstPass(s, c, b, &c.nonzero[at])
		default:
			return d.refine(s, c, b, &c.nonzero[at])
		}
	}
	if !c.wanted {
		_, err := d.sequential(c)
		return err
	}
	d.block = jpegBlock{}
	set, err := d.sequential(c)
	if err != nil {
		return err
	}
	d.reconstruct(c.jpegPlane, &d.block, set, x, y)
	return nil
}

// difference decodes a DC coefficient and adds it to the component's last.
func (d *jpegDecoder) difference(c *jpegScanComponent) error {
	if d.n < 32 {
		d.fill()
	}
	if e := c.dcTable.fast[d.acc>>(64-fastBits)]; e != 0 && d.n >= fastBits {
		d.drop(uint(e & 0xff))
		c.dc += int32(e >> 16)
		return nil
	}
	size, err := d.symbol(c.dcTable)
	if err != nil {
		return err
	}
	if size > 16 {
		return jpeg.UnsupportedError("excessive DC component")
	}
	v, err := d.extended(uint(size))
	c.dc += v
	return err
}

// sequential decodes a block of a sequential scan into d.block, multiplied by the
// quantization table, and returns which coefficients it has set, a bit for each.
func (d *jpegDecoder) sequential(c *jpegScanComponent) (set uint64, err error) {
	if err := d.difference(c); err != nil {
		return 0, err
	}
	b, table, quant := &d.block, c.acTable, c.quantTable
	b[0] = c.dc * quant[0]
	if d.endOfBand > 0 { // in no honest file
		d.endOfBand--
		return 0, nil
	}
	for k := 1; k < 64; k++ {
		if d.n < 32 {
			d.fill()
		}
		if e := table.fast[d.acc>>(64-fastBits)]; e != 0 && d.n >= fastBits {
			run := int(e >> 8 & 0xff)
			if run == endOfBlock {
				d.drop(uint(e & 0xff))
				return set, nil
			}
			if k+run < 64 {
				k += run
				d.drop(uint(e & 0xff))
				to := zigzag[k]
				b[to&63] = int32(e>>16) * quant[k]
				set |= 1 << to
				continue
			}
		}
		symbol, err := d.symbol(table)
		if err != nil {
			return 0, err
		}
		run, size := int(symbol>>4), uint(symbol&15)
		switch {
		case size > 0:
			if k += run; k > 63 {
				return set, nil
			}
			v, err := d.extended(size)
			if err != nil {
				return 0, err
			}
			to := zigzag[k]
			b[to&63] = v * quant[k]
			set |= 1 << to
		case run == 15:
			k += 15
		default:
			return set, d.band(run)
		}
	}
	return set, nil
}

// band reads how many blocks, from this one on, have no more coefficients.
func (d *jpegDecoder) band(run int) error {
	d.endOfBand = 1 << run
	v, err := d.bits(uint(run))
	d.endOfBand |= uint16(v)
	d.endOfBand--
	return err
}

// firstPass decodes the first bits of coefficients of a progressive scan.
func (d *jpegDecoder) firstPass(s *jpegScan, c *jpegScanComponent, b *jpegBlock, nonzero *uint64) error {
	if d.endOfBand > 0 {
		d.endOfBand--
		return nil
	}
	table := c.acTable
	for k := s.first; k <= s.last; k++ {
		if d.n < 32 {
			d.fill()
		}
		if e := table.fast[d.acc>>(64-fastBits)]; e != 0 && d.n >= fastBits {
			run := int(e >> 8 & 0xff)
			if run == endOfBlock {
				d.drop(uint(e & 0xff))
				return nil
			}
			if k+run <= s.last {
				k += run
				d.drop(uint(e & 0xff))
				b[zigzag[k&63]&63] = int32(e>>16) << s.low
				*nonzero |= 1 << k
				continue
			}
		}
		symbol, err := d.symbol(table)
		if err != nil {
			return err
		}
		run, size := int(symbol>>4), uint(symbol&15)
		switch {
		case size > 0:
			if k += run; k > s.last {
				return nil
			}
			v, err := d.extended(size)
			if err != nil {
				return err
			}
			b[zigzag[k&63]&63] = v << s.low
			*nonzero |= 1 << k
		case run == 15:
			k += 15
		default:
			return d.band(run)
		}
	}
	return nil
}

// refine decodes one more bit of coefficients of a progressive scan (T.81,
// G.1.2.3).
func (d *jpegDecoder) refine(s *jpegScan, c *jpegScanComponent, b *jpegBlock, nonzero *uint64) error {
	k, delta := s.first, int32(1)<<s.low
	before := *nonzero & (2<<s.last - 1) // those that are refined, once k has come to them
	if d.endOfBand == 0 {
	coefficients:
		for ; k <= s.last; k++ {
			symbol, err := d.symbol(c.acTable)
			if err != nil {
				return err
			}
			run, value := int(symbol>>4), int32(0)
			switch symbol & 15 {
			case 0:
				if run < 15 {
					if err := d.band(run); err != nil {
						return err
					}
					d.endOfBand++ // this block has yet to be refined
					break coefficients
				}
			case 1:
				bit, err := d.bits(1)
				if err != nil {
					return err
				}
				value = delta
				if bit == 0 {
					value = -delta
				}
			default:
				return jpeg.FormatError("unexpected Huffman code")
			}
			if k, err = d.refineNonZero(b, before, k, run, delta); err != nil {
				return err
			}
			if k > s.last {
				return jpeg.FormatError("too many coefficients")
			}
			if value != 0 {
				b[zigzag[k&63]&63] = value
				*nonzero |= 1 << k
			}
		}
	}
	if d.endOfBand == 0 {
		return nil
	}
	d.endOfBand--
	if before>>k == 0 {
		return nil
	}
	_, err := d.refineNonZero(b, before, k, 64, delta)
	return err
}

// refineNonZero refines the coefficients from k on up to the zero behind zeros
// others, if there is one, and returns where that is.
func (d *jpegDecoder) refineNonZero(b *jpegBlock, nonzero uint64, k, zeros int, delta int32) (int, error) {
	for {
		left := nonzero >> k
		next := bits.TrailingZeros64(left)
		if left == 0 || next > zeros {
			return k + zeros, nil
		}
		k += next
		zeros -= next
		v := &b[zigzag[k&63]&63]
		k++
		if d.n == 0 {
			if d.fill(); d.n == 0 {
				return 0, d.short()
			}
		}
		bit := d.acc >> 63
		d.drop(1)
		switch {
		case bit == 0:
		case *v >= 0:
			*v += delta
		default:
			*v -= delta
		}
	}
}

// reconstruct turns a block's coefficients, of which those may be set whose bits
// are, into samples. The coefficients are lost.
func (d *jpegDecoder) reconstruct(c *jpegPlane, b *jpegBlock, set uint64, x, y int) {
	side := 8 >> d.shift
	out := c.pix[side*(y*c.stride+x):]
	switch {
	case set&^1 == 0 || d.shift == 3:
		v := flat(b[0])
		for ; side > 0; side-- {
			row := out[:8>>d.shift]
			for i := range row {
				row[i] = v
			}
			if side > 1 {
				out = out[c.stride:]
			}
		}
	case d.shift == 2:
		inverse2(b, set, out, c.stride)
	case d.shift == 1:
		inverse4(b, set, out, c.stride)
	default:
		inverse8(b, set, out, c.stride)
	}
}

// image returns what has been decoded.
func (d *jpegDecoder) image() (image.Image, error) {
	if len(d.components) == 0 || d.components[0].pix == nil {
		return nil, jpeg.FormatError("missing SOS marker")
	}
	if d.isRGB() {
		return nil, jpeg.UnsupportedError("RGB") // openJPEG has looked
	}
	y := &d.components[0]
	for i := range d.components {
		c := &d.components[i]
		if c.blocks == nil || !c.wanted {
			continue
		}
		quant := &d.quant[c.quant]
		for row := 0; row*8*y.v/c.v < d.height; row++ {
			if err := d.ctx.Err(); err != nil {
				return nil, err
			}
			blocks := c.blocks[row*d.across*c.h:]
			for column := 0; column*8*y.h/c.h < d.width; column++ {
				b := &blocks[column]
				set := uint64(0)
				b[0] *= quant[0]
				for left := c.nonzero[row*d.across*c.h+column]; left != 0; left &= left - 1 {
					k := bits.TrailingZeros64(left)
					to := zigzag[k&63]
					b[to&63] *= quant[k&63]
					set |= 1 << to
				}
				d.reconstruct(c, b, set, column, row)
			}
		}
	}

	round := 1<<d.shift - 1
	r := image.Rect(0, 0, (d.width+round)>>d.shift, (d.height+round)>>d.shift)
	if len(d.components) == 1 || d.gray {
		return &image.Gray{Pix: y.pix, Stride: y.stride, Rect: r}, nil
	}
	cb, cr := &d.components[1], &d.components[2]
	return &image.YCbCr{
		Y: y.pix, Cb: cb.pix, Cr: cr.pix, YStride: y.stride, CStride: cb.stride,
		SubsampleRatio: d.ratio, Rect: r,
	}, nil
}

func (d *jpegDecoder) isRGB() bool {
	c := d.components
	return len(c) == 3 && !d.jfif &&
		(d.adobe && d.adobeTransform == 0 || c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B')
}
