package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/draw"
	"image/jpeg"
	"io"
	"math/bits"

	"github.com/mienproject/mien/photo/dct"
)

// jpegDecoder decodes 8-bit, Huffman-coded JPEGs, sequential or progressive. It follows
// the decoder of the standard library (Copyright 2009 The Go Authors; see LICENSE-go),
// and returns the same samples, bit for bit. It is faster, can skip chroma, can decode
// directly to a half, a quarter or an eighth of the size, and checks its context often.
//
// It also reads files that libjpeg reads and the standard library does not: with any
// sampling factors, restart intervals in scans of one component, frames without Huffman
// tables, files without an end marker, and lost restart markers.
type jpegDecoder struct {
	*jpegFile
	ctx  context.Context
	gray bool
	// shift is the binary logarithm of the reduction.
	shift uint

	jpegBits
	planes    []jpegPlane // one for each component; nil before the first scan
	seenFrame bool
	damaged   bool   // a restart interval was lost
	restart   int    // restart interval in MCUs; 0 if there are no restart markers
	endOfBand uint16 // number of following blocks without coefficients (T.81, G.1.2.2)
	quant     [4][64]int32
	dc, ac    [4]huffman
	block     jpegBlock
	unneeded  quantizedBlock // of a component that is decoded, but not needed
}

// jpegBlock holds the coefficients of 8×8 samples, row by row, multiplied by the quantization
// table.
type jpegBlock [64]int32

// A quantizedBlock holds coefficients as a progressive file has them, row by row. Valid ones
// need 12 bits; larger ones lose their high bits, as in libjpeg.
type quantizedBlock [64]int16

// jpegPlane is a component and its samples.
type jpegPlane struct {
	*jpegComponent
	needed bool
	shift  uint // the reduction of this component: a block becomes 8>>shift samples wide
	pix    []byte
	stride int
	lastDC int32

	// For progressive files only: the coefficients of all blocks, if the component is
	// needed, and a bit for each coefficient of a block that is not 0, in the order of
	// the file. The DC coefficient, which is the first one in that order, has no bit.
	blocks  []quantizedBlock
	nonzero []uint64

	// decoded is the number of blocks that have been decoded, out of total. In
	// progressive files, a block counts once its DC coefficient has been decoded.
	decoded, total int
	// passes is for progressive files only. It counts the passes over each coefficient:
	// how many have been decoded, and how many the first pass announced.
	passes [64]struct{ decoded, total float64 }
}

// zigzag maps the position of a coefficient in the file to its position in a block.
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

// decodeJPEG decodes data, whose headers readJPEG has read into f. The sides of the
// result are those of the image divided by 1<<shift, rounded up.
func decodeJPEG(ctx context.Context, data []byte, f *jpegFile, gray bool, shift uint) (image.Image, error) {
	d := &jpegDecoder{ctx: ctx, jpegFile: f, gray: gray, shift: shift, jpegBits: jpegBits{data: data, pos: 2}}
	err := d.decode()
	if errors.Is(err, io.ErrUnexpectedEOF) && d.planes != nil {
		err = d.checkComplete() // perhaps only the end marker is missing
	}
	if err != nil {
		return nil, err
	}
	return d.image()
}

// decode reads the file up to its end marker.
func (d *jpegDecoder) decode() error {
	for {
		marker, err := d.marker()
		if err != nil {
			return err
		}
		switch {
		case marker == jpegEOI:
			return nil
		case jpegRST0 <= marker && marker <= jpegRST7:
			continue // an extra marker at the end of a scan
		}
		process, err := d.processor(marker)
		if err != nil {
			return err
		}
		segment, err := d.segment()
		if err != nil {
			return err
		}
		if err := process(segment); err != nil {
			return err
		}
	}
}

// processor returns the function that processes the segment of marker.
func (d *jpegDecoder) processor(marker byte) (func([]byte) error, error) {
	skip := func([]byte) error { return nil }
	switch marker {
	case jpegSOF0, jpegSOF1, jpegSOF2:
		if d.seenFrame {
			return nil, jpeg.FormatError("multiple SOF markers")
		}
		d.seenFrame = true // readJPEG has read it
		return skip, nil
	case jpegDHT:
		return d.huffmanTables, nil
	case jpegDQT:
		return d.quantTables, nil
	case jpegDRI:
		return d.restartInterval, nil
	case jpegSOS:
		return d.scan, nil
	}
	switch {
	case jpegAPP0 <= marker && marker <= jpegAPP15, marker == jpegCOM:
		return skip, nil
	case marker < jpegSOF0:
		return nil, jpeg.FormatError("unknown marker")
	}
	if name, ok := unsupportedJPEG[marker]; ok {
		return nil, name
	}
	return nil, jpeg.UnsupportedError("unknown marker")
}

// checkComplete returns an error if the file ends before the image is complete, and nil
// if only the end marker is missing.
func (d *jpegDecoder) checkComplete() error {
	decoded, total := 0, 0
	passes, totalPasses := 0.0, 0.0 // over the coefficients of all blocks
	for i := range d.planes {
		p := &d.planes[i]
		decoded += p.decoded
		total += p.total
		for _, c := range p.passes {
			share := 0.0
			if c.total > 0 {
				share = min(c.decoded/c.total, 1)
			}
			passes += float64(share * float64(p.total))
			totalPasses += float64(p.total)
		}
	}
	switch {
	case decoded < total:
		return truncated(int64(decoded), int64(total))
	case d.progressive && passes < totalPasses:
		return truncatedError{"it contains all of the image, with " + percent(int64(passes), int64(totalPasses)) + " of its detail"}
	}
	return nil
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
		case len(p) == 0: // the standard library accepts this
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

// jpegScan is one scan over the image.
type jpegScan struct {
	components []jpegScanComponent
	// across and down are the size of the scan in units. A unit is an MCU, except in a
	// scan of one component: there it is a block, whatever the sampling factors, and
	// blocks outside of the image are left out (T.81, A.2). Restart intervals count
	// units.
	across, down int
	// The range of coefficients, in the order of the file, and of their bits.
	// Sequential files have all of them in one scan.
	first, last int
	high, low   uint
}

type jpegScanComponent struct {
	*jpegPlane
	across, down     int // number of blocks in a unit
	dcTable, acTable *huffman
	quantTable       *[64]int32
}

func (d *jpegDecoder) scan(p []byte) error {
	s, err := d.scanHeader(p)
	if err != nil {
		return err
	}
	if !d.progressive {
		d.standardTables()
	}
	for _, c := range s.components {
		c.dcTable.buildFastTable(true)
		c.acTable.buildFastTable(false)
		if n := d.across * d.down * c.h * c.v; d.progressive && c.nonzero == nil {
			c.nonzero = make([]uint64, n)
			if c.needed {
				c.blocks = make([]quantizedBlock, n)
			}
		}
	}
	n, err := d.decodeUnits(&s)
	s.count(n)
	return err
}

// decodeUnits decodes the units of a scan, and returns how many were decoded.
func (d *jpegDecoder) decodeUnits(s *jpegScan) (n int, err error) {
	d.begin()
	d.resetDC()
	expected, lost := byte(jpegRST0), false
	for y := range s.down {
		if err := d.ctx.Err(); err != nil {
			return n, err
		}
		for x := range s.across {
			if d.restart > 0 && n > 0 && n%d.restart == 0 {
				d.end()
				if lost, err = d.skipRestartMarker(expected, s.across*s.down-n <= d.restart); err != nil {
					return n, err
				}
				expected = jpegRST0 + (expected-jpegRST0+1)%8
				d.begin()
				d.resetDC()
				d.endOfBand = 0
			}
			if lost, err = d.decodeUnit(s, x, y, lost); err != nil {
				return n, err
			}
			n++
		}
	}
	d.end()
	return n, nil
}

// decodeUnit decodes the blocks of a scan's unit in column x and row y. It makes them gray
// from where data are lost, and reports whether they are.
func (d *jpegDecoder) decodeUnit(s *jpegScan, x, y int, lost bool) (bool, error) {
	for i := range s.components {
		c := &s.components[i]
		for k := range c.across * c.down {
			x, y := c.across*x+k%c.across, c.down*y+k/c.across
			if lost {
				d.fillGray(c.jpegPlane, x, y)
			} else if err := d.decodeBlock(s, c, x, y); err != nil {
				if !d.causedByLoss(err) {
					return false, d.endsEarly(err)
				}
				lost = true
			}
		}
	}
	return lost, nil
}

// count records that n units of the scan were decoded.
func (s *jpegScan) count(n int) {
	for _, c := range s.components {
		if s.first == 0 && s.high == 0 {
			c.decoded, c.total = n*c.across*c.down, s.across*s.down*c.across*c.down
		}
		for k := s.first; k <= s.last; k++ {
			pass := &c.passes[k]
			if s.high == 0 {
				pass.decoded, pass.total = 0, float64(s.low)+1
			}
			pass.decoded += float64(n) / float64(s.across*s.down)
		}
	}
}

func (d *jpegDecoder) resetDC() {
	for i := range d.planes {
		d.planes[i].lastDC = 0
	}
}

func (d *jpegDecoder) scanHeader(p []byte) (s jpegScan, err error) {
	n := len(d.components)
	switch {
	case !d.seenFrame:
		return s, jpeg.FormatError("missing SOF marker")
	case len(p) < 6 || len(p) > 4+2*n || len(p) != 4+2*int(p[0]):
		return s, jpeg.FormatError("SOS has wrong length")
	}
	d.makePlanes()
	blocks := 0
	for p = p[1:]; len(p) > 3; p = p[2:] {
		c, err := d.scanComponent(&s, p[0], p[1])
		if err != nil {
			return s, err
		}
		blocks += c.h * c.v
		s.components = append(s.components, c)
	}
	s.across, s.down = d.across, d.down
	if len(s.components) == 1 {
		c := &s.components[0]
		s.across, s.down, c.across, c.down = c.columns, c.rows, 1, 1
	} else if blocks > 10 {
		return s, jpeg.FormatError("total sampling factors too large")
	}
	s.last = 63
	if !d.progressive {
		return s, nil
	}
	return s, s.readProgression(p)
}

// scanComponent returns the component with that identifier, and the tables that it
// uses. It is an error if s already has that component.
func (d *jpegDecoder) scanComponent(s *jpegScan, id, tables byte) (c jpegScanComponent, err error) {
	for i := range d.planes {
		if d.planes[i].id == id {
			c.jpegPlane = &d.planes[i]
		}
	}
	if c.jpegPlane == nil {
		return c, jpeg.FormatError("unknown component selector")
	}
	for _, other := range s.components {
		if other.jpegPlane == c.jpegPlane {
			return c, jpeg.FormatError("repeated component selector")
		}
	}
	c.across, c.down = c.h, c.v
	dc, ac := tables>>4, tables&15
	if dc > 3 || ac > 3 || d.baseline && (dc > 1 || ac > 1) {
		return c, jpeg.FormatError("bad table selector")
	}
	c.dcTable, c.acTable, c.quantTable = &d.dc[dc], &d.ac[ac], &d.quant[c.quant]
	return c, nil
}

// readProgression reads which coefficients, and which of their bits, a progressive scan
// contains.
func (s *jpegScan) readProgression(p []byte) error {
	s.first, s.last, s.high, s.low = int(p[0]), int(p[1]), uint(p[2]>>4), uint(p[2]&15)
	switch {
	case s.first == 0 && s.last != 0 || s.first > s.last || s.last > 63:
		return jpeg.FormatError("bad spectral selection bounds")
	case s.first != 0 && len(s.components) != 1:
		return jpeg.FormatError("progressive AC coefficients for more than one component")
	case s.high != 0 && s.high != s.low+1:
		return jpeg.FormatError("bad successive approximation values")
	}
	return nil
}

// makePlanes makes the planes. Needed components get room for the samples of whole
// MCUs.
func (d *jpegDecoder) makePlanes() {
	if d.planes != nil {
		return
	}
	d.planes = make([]jpegPlane, len(d.components))
	for i := range d.planes {
		p := &d.planes[i]
		p.jpegComponent = &d.components[i]
		p.total = p.columns * p.rows
		if p.needed = d.needs(i, d.gray); !p.needed {
			continue
		}
		p.shift, _ = d.componentShift(i, d.shift)
		side := 8 >> p.shift
		p.stride = side * p.h * d.across
		p.pix = make([]byte, p.stride*side*p.v*d.down)
	}
}

// standardTables defines the tables that the file leaves out as in T.81, K.3.3. Frames
// of Motion JPEG need this.
func (d *jpegDecoder) standardTables() {
	for id := range 2 {
		for _, t := range []struct {
			table    *huffman
			standard string
		}{{&d.dc[id], standardDC[id]}, {&d.ac[id], standardAC[id]}} {
			if t.table.n == 0 {
				_, _ = t.table.define([]byte(t.standard))
			}
		}
	}
}

// skipRestartMarker skips the expected restart marker, and surplus data before it. last
// says that the interval after the marker is the last one.
//
// If the marker is missing, the interval after it is lost too, because its data cannot
// be distinguished from surplus data. Then skipRestartMarker returns true and stops
// before the marker that follows the lost interval. As in libjpeg, that is one of the
// next two restart markers or, if the lost interval is the last one, any other marker.
func (d *jpegDecoder) skipRestartMarker(expected byte, last bool) (lost bool, err error) {
	from := d.pos
	for {
		n := bytes.IndexByte(d.data[d.pos:], 0xff)
		if n < 0 || d.pos+n+1 == len(d.data) {
			return false, io.ErrUnexpectedEOF
		}
		at := d.pos + n
		d.pos = at + 1
		marker := d.data[d.pos]
		switch ahead := (marker - expected) % 8; {
		case marker == expected:
			d.pos++
			return false, nil
		case marker == 0xff: // a fill byte before a marker
		case marker == 0:
			d.pos++
		case jpegRST0 <= marker && marker <= jpegRST7 && ahead <= 2,
			last && at > from && (marker < jpegRST0 || marker > jpegRST7):
			d.pos, d.damaged = at, true
			return true, nil
		case marker == jpegEOI:
			return false, io.ErrUnexpectedEOF
		default:
			return false, jpeg.FormatError("bad RST marker")
		}
	}
}

// causedByLoss reports whether err may be the consequence of a lost interval. Later
// scans of a progressive file refine coefficients that were lost, so their data cannot
// be decoded up to the next restart marker.
func (d *jpegDecoder) causedByLoss(err error) bool {
	var broken jpeg.FormatError
	return d.progressive && d.damaged && errors.As(err, &broken)
}

// endsEarly returns io.ErrUnexpectedEOF instead of err if the data ends at the end
// marker of the file.
func (d *jpegDecoder) endsEarly(err error) error {
	if errors.Is(err, errEarlyMarker) && d.data[d.pos+1] == jpegEOI {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fillGray fills a lost block with gray.
func (d *jpegDecoder) fillGray(p *jpegPlane, x, y int) {
	if !d.progressive && p.needed {
		d.block = jpegBlock{}
		d.reconstruct(p, &d.block, 0, x, y)
	}
}

func (d *jpegDecoder) decodeBlock(s *jpegScan, c *jpegScanComponent, x, y int) error {
	if d.progressive {
		at := y*d.across*c.h + x
		b := &d.unneeded
		if c.needed {
			b = &c.blocks[at]
		}
		switch {
		case s.first == 0 && s.high == 0:
			err := d.decodeDC(c)
			b[0] = int16(c.lastDC << s.low)
			return err
		case s.first == 0:
			bit, err := d.bits(1)
			b[0] |= int16(bit) << s.low
			return err
		case s.high == 0:
			return d.firstPass(s, c, b, &c.nonzero[at])
		default:
			return d.refine(s, c, b, &c.nonzero[at])
		}
	}
	if !c.needed {
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

// decodeDC decodes a DC coefficient, which is stored as the difference from the
// previous one, and updates c.lastDC.
func (d *jpegDecoder) decodeDC(c *jpegScanComponent) error {
	if d.n < 32 {
		d.fill()
	}
	if e := c.dcTable.fast[d.acc>>(64-fastBits)]; e != 0 && d.n >= fastBits {
		d.drop(uint(e & 0xff))
		c.lastDC += int32(e >> 16)
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
	c.lastDC += v
	return err
}

// sequential decodes a block of a sequential scan into d.block, and multiplies it by
// the quantization table. set has a bit for each coefficient that was decoded.
func (d *jpegDecoder) sequential(c *jpegScanComponent) (set uint64, err error) {
	if err := d.decodeDC(c); err != nil {
		return 0, err
	}
	b, table, quant := &d.block, c.acTable, c.quantTable
	b[0] = c.lastDC * quant[0]
	if d.endOfBand > 0 { // only in malformed files
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
			return set, d.readEndOfBand(run)
		}
	}
	return set, nil
}

// readEndOfBand reads for how many blocks, this one included, the band has ended.
func (d *jpegDecoder) readEndOfBand(run int) error {
	d.endOfBand = 1 << run
	v, err := d.bits(uint(run))
	d.endOfBand |= uint16(v)
	d.endOfBand--
	return err
}

// firstPass decodes the first pass over the coefficients of a block in a progressive
// scan.
func (d *jpegDecoder) firstPass(s *jpegScan, c *jpegScanComponent, b *quantizedBlock, nonzero *uint64) error {
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
				b[zigzag[k&63]&63] = int16(e>>16) << s.low
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
			b[zigzag[k&63]&63] = int16(v << s.low)
			*nonzero |= 1 << k
		case run == 15:
			k += 15
		default:
			return d.readEndOfBand(run)
		}
	}
	return nil
}

// refine decodes one more bit of each coefficient of a block in a progressive scan
// (T.81, G.1.2.3).
func (d *jpegDecoder) refine(s *jpegScan, c *jpegScanComponent, b *quantizedBlock, nonzero *uint64) error {
	k, delta := s.first, int16(1)<<s.low
	before := *nonzero & (2<<s.last - 1) // coefficients that this scan refines
	if d.endOfBand == 0 {
		var err error
		if k, err = d.refineBand(s, c, b, nonzero, before); err != nil {
			return err
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

// refineBand reads the new coefficients of a block, and refines those between them. It
// returns the position at which it stopped. If d.endOfBand is then above 0, the rest of
// the block has yet to be refined.
func (d *jpegDecoder) refineBand(s *jpegScan, c *jpegScanComponent, b *quantizedBlock, nonzero *uint64, before uint64) (int, error) {
	k, delta := s.first, int16(1)<<s.low
	for ; k <= s.last; k++ {
		symbol, err := d.symbol(c.acTable)
		if err != nil {
			return k, err
		}
		run, value := int(symbol>>4), int16(0)
		switch symbol & 15 {
		case 0:
			if run < 15 {
				err := d.readEndOfBand(run)
				d.endOfBand++ // the caller refines the rest of this block
				return k, err
			}
		case 1:
			bit, err := d.bits(1)
			if err != nil {
				return k, err
			}
			value = delta
			if bit == 0 {
				value = -delta
			}
		default:
			return k, jpeg.FormatError("unexpected Huffman code")
		}
		if k, err = d.refineNonZero(b, before, k, run, delta); err != nil {
			return k, err
		}
		if k > s.last {
			return k, jpeg.FormatError("too many coefficients")
		}
		if value != 0 {
			b[zigzag[k&63]&63] = value
			*nonzero |= 1 << k
		}
	}
	return k, nil
}

// refineNonZero refines the nonzero coefficients from k on until it has passed the
// given number of zeros. It returns the position of the next zero.
func (d *jpegDecoder) refineNonZero(b *quantizedBlock, nonzero uint64, k, zeros int, delta int16) (int, error) {
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
				return 0, d.endError()
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

// reconstruct converts the coefficients of a block to samples. set has a bit for each
// coefficient that may not be 0. The coefficients are overwritten.
func (d *jpegDecoder) reconstruct(c *jpegPlane, b *jpegBlock, set uint64, x, y int) {
	side := 8 >> c.shift
	out := c.pix[side*(y*c.stride+x):]
	switch {
	case set&^1 == 0 || c.shift == 3:
		v := flat(b[0])
		for ; side > 0; side-- {
			row := out[:8>>c.shift]
			for i := range row {
				row[i] = v
			}
			if side > 1 {
				out = out[c.stride:]
			}
		}
	case c.shift == 2:
		inverse2(b, set, out, c.stride)
	case c.shift == 1:
		inverse4(b, set, out, c.stride)
	default:
		dct.Inverse((*[64]int32)(b), set, out, c.stride)
	}
}

// image returns the decoded image.
func (d *jpegDecoder) image() (image.Image, error) {
	if d.planes == nil {
		return nil, jpeg.FormatError("missing SOS marker")
	}
	if d.progressive {
		if err := d.reconstructAll(); err != nil {
			return nil, err
		}
	}
	r := image.Rectangle{Max: d.size(d.shift)}
	switch colors := d.colors(); {
	case colors == jpegGray, colors == jpegYCbCr && d.gray:
		y, err := d.atImageSize(0)
		return &image.Gray{Pix: y, Stride: d.fullStride(d.shift), Rect: r}, err
	case colors == jpegYCbCr:
		return d.yCbCr()
	case colors == jpegYCCK:
		return d.ycck()
	case colors == jpegCMYK:
		out := image.NewCMYK(r)
		return out, d.interleave(out.Pix, r, []int{0, 1, 2, 3}, 0xff)
	default:
		out := image.NewRGBA(r)
		opaque(out.Pix, 4, 1)
		return out, d.interleave(out.Pix, r, []int{0, 1, 2}, 0)
	}
}

// ycck converts Y'CbCr and black to CMYK. Adobe stores ink inverted: 255 means no ink.
// Therefore Y'CbCr converted to RGB is already CMY as image.CMYK has it, and only black
// has to be inverted.
func (d *jpegDecoder) ycck() (*image.CMYK, error) {
	m, err := d.yCbCr()
	if err != nil {
		return nil, err
	}
	r := m.Rect
	out := &image.RGBA{Pix: make([]byte, 4*r.Dx()*r.Dy()), Stride: 4 * r.Dx(), Rect: r}
	for y := range r.Dy() {
		if err := d.ctx.Err(); err != nil {
			return nil, err
		}
		draw.Draw(out, image.Rect(0, y, r.Dx(), y+1), m, image.Pt(0, y), draw.Src)
	}
	return &image.CMYK{Pix: out.Pix, Stride: out.Stride, Rect: r}, d.interleave(out.Pix, r, []int{3}, 0xff)
}

// reconstructAll converts the coefficients of a progressive file to samples.
func (d *jpegDecoder) reconstructAll() error {
	for i := range d.planes {
		p := &d.planes[i]
		if p.blocks == nil {
			continue
		}
		quant := &d.quant[p.quant]
		for row := range p.rows {
			if err := d.ctx.Err(); err != nil {
				return err
			}
			first := row * d.across * p.h
			for column := range p.columns {
				quantized, b := &p.blocks[first+column], &d.block
				*b = jpegBlock{int32(quantized[0]) * quant[0]}
				set := uint64(0)
				for left := p.nonzero[first+column]; left != 0; left &= left - 1 {
					k := bits.TrailingZeros64(left)
					to := zigzag[k&63]
					b[to&63] = int32(quantized[to&63]) * quant[k&63]
					set |= 1 << to
				}
				d.reconstruct(p, b, set, column, row)
			}
		}
	}
	return nil
}

// yCbCr returns the first three components as an image.
func (d *jpegDecoder) yCbCr() (*image.YCbCr, error) {
	m := &image.YCbCr{Rect: image.Rectangle{Max: d.size(d.shift)}}
	if ratio, ok := d.subsampleRatio(); ok {
		y, cb, cr := &d.planes[0], &d.planes[1], &d.planes[2]
		m.Y, m.Cb, m.Cr, m.YStride, m.CStride = y.pix, cb.pix, cr.pix, y.stride, cb.stride
		m.SubsampleRatio = ratio
		return m, nil
	}
	m.YStride = d.fullStride(d.shift)
	m.CStride, m.SubsampleRatio = m.YStride, image.YCbCrSubsampleRatio444
	for i, pix := range []*[]byte{&m.Y, &m.Cb, &m.Cr} {
		var err error
		if *pix, err = d.atImageSize(i); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// interleave writes each of the components to its byte of every four bytes of pix,
// XORed with mask.
func (d *jpegDecoder) interleave(pix []byte, r image.Rectangle, components []int, mask byte) error {
	stride := d.fullStride(d.shift)
	for _, i := range components {
		from, err := d.atImageSize(i)
		if err != nil {
			return err
		}
		for y := range r.Dy() {
			if err := d.ctx.Err(); err != nil {
				return err
			}
			row := pix[4*r.Dx()*y:][:4*r.Dx()]
			for x, v := range from[y*stride:][:r.Dx()] {
				row[4*x+i] = v ^ mask
			}
		}
	}
	return nil
}

// atImageSize returns the samples of component i at the size of the image. Each is the
// mean over the pixels at full size that it covers, where a subsampled component has
// the same sample for several pixels.
func (d *jpegDecoder) atImageSize(i int) ([]byte, error) {
	p := &d.planes[i]
	_, direct := d.componentShift(i, d.shift)
	if direct {
		return p.pix, nil
	}
	size, stride := d.size(d.shift), d.fullStride(d.shift)
	out := make([]byte, stride*size.Y)
	// A pixel of the image covers side × side pixels of the size that p would have
	// without subsampling.
	side := 1 << (d.shift - p.shift)
	from := make([]int, size.X*side) // the column of p for each of those pixels
	for x := range from {
		from[x] = x * p.h / d.h
	}
	half := side * side / 2
	for y := range size.Y {
		if err := d.ctx.Err(); err != nil {
			return nil, err
		}
		row := out[y*stride:][:size.X]
		if side == 1 {
			in := p.pix[y*p.v/d.v*p.stride:]
			for x := range row {
				row[x] = in[from[x]]
			}
			continue
		}
		for x := range row {
			sum := half
			for v := range side {
				in := p.pix[(y*side+v)*p.v/d.v*p.stride:]
				for _, at := range from[x*side:][:side] {
					sum += int(in[at])
				}
			}
			row[x] = byte(sum / (side * side))
		}
	}
	return out, nil
}
