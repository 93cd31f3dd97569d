package photo

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/bits"

	"golang.org/x/image/ccitt"
	"golang.org/x/image/tiff/lzw"
)

// tiffDecoder decodes the blocks of a TIFF one after another into pix.
type tiffDecoder struct {
	*tiffFile
	ctx context.Context

	pix         []byte
	stride      int
	pixelStep   int // bytes for each pixel in pix
	sampleBytes int // bytes for each sample in pix

	buf    []byte        // a decompressed block
	rgb    []byte        // a block of Y'CbCr, converted to RGB
	row    []byte        // a row of samples of less than 8 bits, expanded to bytes
	in     *bufio.Reader // reads compressed data
	zlib   io.ReadCloser
	memory int64 // memory for the JPEG of the first block, which no other may exceed
}

// decodeTIFF decodes the image whose directory openTIFF has read.
func decodeTIFF(ctx context.Context, f *tiffFile) (image.Image, error) {
	d := &tiffDecoder{tiffFile: f, ctx: ctx, pixelStep: int(f.pixelBytes()), sampleBytes: 1}
	if f.bits == 16 && f.photometric != tiffCMYK {
		d.sampleBytes = 2
	}
	d.stride = f.width * d.pixelStep
	d.pix = make([]byte, d.stride*f.height)
	if d.pixelStep/d.sampleBytes == 4 && f.alpha == 0 && f.photometric != tiffCMYK {
		opaque(d.pix, d.pixelStep, d.sampleBytes)
	}
	for i := range f.blocks() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, err := d.decodeBlock(i)
		if err != nil {
			return nil, err
		}
		if err := d.placeBlock(i, data); err != nil {
			return nil, err
		}
	}
	return d.image(), nil
}

// opaque sets the alpha of all pixels to its maximum. Pixels have step bytes, and alpha
// is the last n of them.
func opaque(pix []byte, step, n int) {
	for at := step - n; at < len(pix); at += step {
		for i := range n {
			pix[at+i] = 0xff
		}
	}
}

func (d *tiffDecoder) image() image.Image {
	r := image.Rect(0, 0, d.width, d.height)
	switch {
	case d.photometric == tiffPalette:
		// Indices that the palette does not have are black.
		palette := append(make(color.Palette, 0, 256), d.palette...)
		for len(palette) < 256 {
			palette = append(palette, color.RGBA64{0, 0, 0, 0xffff})
		}
		return &image.Paletted{Pix: d.pix, Stride: d.stride, Rect: r, Palette: palette}
	case d.photometric == tiffCMYK:
		return &image.CMYK{Pix: d.pix, Stride: d.stride, Rect: r}
	case d.pixelStep == 1:
		return &image.Gray{Pix: d.pix, Stride: d.stride, Rect: r}
	case d.pixelStep == 2:
		return &image.Gray16{Pix: d.pix, Stride: d.stride, Rect: r}
	case d.alpha > 0 && !d.premultiplied && d.sampleBytes == 1:
		return &image.NRGBA{Pix: d.pix, Stride: d.stride, Rect: r}
	case d.alpha > 0 && !d.premultiplied:
		return &image.NRGBA64{Pix: d.pix, Stride: d.stride, Rect: r}
	case d.sampleBytes == 1:
		return &image.RGBA{Pix: d.pix, Stride: d.stride, Rect: r}
	}
	return &image.RGBA64{Pix: d.pix, Stride: d.stride, Rect: r}
}

// decodeBlock decompresses block i. The result has rows of samples, or of units of
// Y'CbCr if chroma is subsampled.
func (d *tiffDecoder) decodeBlock(i int) ([]byte, error) {
	data, whole := d.block(i)
	if d.compression == tiffJPEG {
		return d.decodeJPEGBlock(i)
	}
	if d.reversed && d.compression != tiffGroup3 && d.compression != tiffGroup4 {
		data = reversedBits(data)
	}
	want := d.blockBytes(i)
	if d.compression == tiffNone {
		return data, nil // Open has checked that it is complete
	}
	possible := want
	if ratio, ok := tiffRatios[d.compression]; ok {
		possible = min(want, int64(len(data))*ratio)
	}
	if int64(cap(d.buf)) < possible {
		d.buf = make([]byte, possible)
	}
	n, err := d.decompress(d.buf[:possible], data, d.rows(i))
	if int64(n) == want {
		return d.buf[:want], nil
	}
	if err == nil || !whole || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, d.truncated(i, int64(n))
	}
	return nil, err
}

// decompress decompresses data to buf, and returns the number of bytes written.
func (d *tiffDecoder) decompress(buf, data []byte, rows int) (int, error) {
	var r io.Reader
	source := bytes.NewReader(data)
	in := contextReader{d.ctx, source}
	if d.in == nil {
		d.in = bufio.NewReader(in)
	} else {
		d.in.Reset(in)
	}
	switch d.compression {
	case tiffGroup3, tiffGroup4:
		format, order := ccitt.Group4, ccitt.MSB
		if d.compression == tiffGroup3 {
			format = ccitt.Group3
		}
		if d.reversed {
			order = ccitt.LSB
		}
		// The specification encodes white as 0, whatever PhotometricInterpretation
		// says.
		r = ccitt.NewReader(in, order, format, d.blockWidth, rows, &ccitt.Options{Invert: true})
	case tiffLZW:
		l := lzw.NewReader(d.in, lzw.MSB, 8)
		defer func() { _ = l.Close() }()
		r = l
	case tiffDeflate, tiffDeflateOld:
		var err error
		if d.zlib == nil {
			d.zlib, err = zlib.NewReader(d.in)
		} else {
			err = d.zlib.(zlib.Resetter).Reset(d.in, nil)
		}
		if err != nil {
			return 0, err
		}
		r = d.zlib
	case tiffPackBits:
		return unpackBits(buf, data), nil
	}
	n, err := io.ReadFull(r, buf)
	if err != nil && d.compression <= tiffGroup4 && source.Len() == 0 {
		err = io.ErrUnexpectedEOF // the fax decoder has several errors for this
	}
	return n, err
}

// unpackBits decompresses src to dst (TIFF 6.0, section 9), and returns the number of
// bytes written.
func unpackBits(dst, src []byte) int {
	n := 0
	for len(src) >= 2 && n < len(dst) {
		code := int(int8(src[0]))
		switch {
		case code >= 0: // code + 1 literal bytes
			literal := src[1:min(code+2, len(src))]
			n += copy(dst[n:], literal)
			src = src[1+len(literal):]
		case code == -128: // no operation
			src = src[1:]
		default: // the next byte, repeated 1 - code times
			run := dst[n:min(n+1-code, len(dst))]
			for i := range run {
				run[i] = src[1]
			}
			n += len(run)
			src = src[2:]
		}
	}
	return n
}

func reversedBits(data []byte) []byte {
	out := make([]byte, len(data))
	for i, b := range data {
		out[i] = bits.Reverse8(b)
	}
	return out
}

// placeBlock copies the samples of block i to their position in the image.
func (d *tiffDecoder) placeBlock(i int, data []byte) error {
	blockWidth, rows, rowBytes := d.blockWidth, d.rows(i), int(d.rowBytes())
	samples, bits := d.samples, d.bits
	if d.separate {
		samples = 1
	}
	if d.photometric == tiffYCbCr && d.compression != tiffJPEG {
		data = d.toRGB(data, rows)
		rowBytes = 3 * blockWidth
	}
	plane, at := i/(d.across*d.down), i%(d.across*d.down)
	x0, y0 := at%d.across*blockWidth, at/d.across*d.blockHeight
	width := min(blockWidth, d.width-x0)
	for y := range min(rows, d.height-y0) {
		if y%64 == 0 {
			if err := d.ctx.Err(); err != nil {
				return err
			}
		}
		row := data[y*rowBytes:][:rowBytes]
		if d.predict {
			d.undoPrediction(row, samples)
		}
		if bits < 8 {
			row = d.expandBits(row, width)
		}
		out := d.pix[(y0+y)*d.stride+x0*d.pixelStep:][:width*d.pixelStep]
		for s := range samples {
			sample := s
			if d.separate {
				sample = plane
			}
			d.copySamples(out, row, samples, s, sample)
		}
	}
	return nil
}

// copySamples copies one sample of each pixel from row to its channels in out. The
// sample is the s-th of the samples in row, and has the index sample in the file.
func (d *tiffDecoder) copySamples(out, row []byte, samples, s, sample int) {
	first, last := d.channels(sample)
	// In pix, the high byte of a sample comes first.
	in, high, low := 1, 0, 0
	if d.bits == 16 {
		in, low = 2, 1
		if d.order == binary.LittleEndian {
			high, low = 1, 0
		}
	}
	invert := byte(0)
	if d.photometric == tiffWhiteIsZero && first < 3 {
		invert = 0xff
	}
	for channel := first; channel <= last; channel++ {
		from, to := s*in, channel*d.sampleBytes
		for ; to < len(out); from, to = from+samples*in, to+d.pixelStep {
			out[to] = row[from+high] ^ invert
			if d.sampleBytes == 2 {
				out[to+1] = row[from+low] ^ invert
			}
		}
	}
}

// channels returns the first and the last channel of the image that have the values of
// a sample. For an extra sample, which the image does not have, last is less than
// first.
func (d *tiffDecoder) channels(sample int) (first, last int) {
	colors := tiffColors[d.photometric].colors
	switch {
	case d.alpha > 0 && sample == d.alpha:
		return 3, 3
	case sample >= colors:
		return 0, -1
	case colors == 1 && d.alpha > 0:
		return 0, 2 // gray is copied to red, green and blue
	}
	return sample, sample
}

// undoPrediction adds to each sample that of the previous pixel (TIFF 6.0, section 14).
func (d *tiffDecoder) undoPrediction(row []byte, samples int) {
	if d.bits == 8 {
		for i := samples; i < len(row); i++ {
			row[i] += row[i-samples]
		}
		return
	}
	for i := 2 * samples; i+1 < len(row); i += 2 {
		d.order.PutUint16(row[i:], d.order.Uint16(row[i:])+d.order.Uint16(row[i-2*samples:]))
	}
}

// expandBits expands n samples of less than 8 bits to bytes: to gray values from 0 to
// 255, or to palette indices.
func (d *tiffDecoder) expandBits(row []byte, n int) []byte {
	if cap(d.row) < n {
		d.row = make([]byte, n)
	}
	out := d.row[:n]
	highest := byte(1<<d.bits - 1)
	scale := 0xff / highest
	if d.photometric == tiffPalette {
		scale = 1
	}
	each := 8 / d.bits
	for x := range out {
		shift := (each - 1 - x%each) * d.bits
		out[x] = row[x/each] >> shift & highest * scale
	}
	return out
}

// toRGB converts a block of subsampled Y'CbCr to RGB. The block consists of units of
// subX × subY pixels: their luma samples, then one sample of Cb and one of Cr (TIFF
// 6.0, section 21).
func (d *tiffDecoder) toRGB(data []byte, rows int) []byte {
	luma, chroma := d.referenceBlackWhite()
	if need := 3 * d.blockWidth * rows; cap(d.rgb) < need {
		d.rgb = make([]byte, need)
	}
	out := d.rgb[:3*d.blockWidth*rows]
	unit := d.subX*d.subY + 2
	across := (d.blockWidth + d.subX - 1) / d.subX
	for y := range rows {
		row := out[3*y*d.blockWidth:][:3*d.blockWidth]
		units := data[y/d.subY*across*unit:]
		for x := range d.blockWidth {
			u := units[x/d.subX*unit:][:unit]
			yy := luma[u[y%d.subY*d.subX+x%d.subX]]
			row[3*x], row[3*x+1], row[3*x+2] = color.YCbCrToRGB(yy, chroma[0][u[unit-2]], chroma[1][u[unit-1]])
		}
	}
	return out
}

// referenceBlackWhite returns tables that map luma and chroma to full range, as the tag
// ReferenceBlackWhite says. Files with the limited range of video have this tag.
func (d *tiffDecoder) referenceBlackWhite() (luma [256]byte, chroma [2][256]byte) {
	reference := [6]float64{0, 255, 128, 255, 128, 255}
	const rational = 5
	if e := d.entry(tiffReferenceBW); e != nil && d.order.Uint16(e[2:]) == rational && d.order.Uint32(e[4:]) == 6 {
		values := d.data[min(int64(d.order.Uint32(e[8:])), int64(len(d.data))):]
		for i := range reference {
			if len(values) < 8*(i+1) {
				break
			}
			if below := d.order.Uint32(values[8*i+4:]); below != 0 {
				reference[i] = float64(d.order.Uint32(values[8*i:])) / float64(below)
			}
		}
	}
	scaled := func(v int, black, white, low, span float64) byte {
		if white <= black {
			return byte(v)
		}
		return byte(min(max((float64(v)-black)*span/(white-black)+low+0.5, 0), 255))
	}
	for v := range 256 {
		luma[v] = scaled(v, reference[0], reference[1], 0, 255)
		chroma[0][v] = scaled(v, reference[2], reference[3], 128, 127)
		chroma[1][v] = scaled(v, reference[4], reference[5], 128, 127)
	}
	return luma, chroma
}

// jpegStream returns block i as a complete JPEG, including the tables that all blocks
// share.
func (f *tiffFile) jpegStream(i int) []byte {
	data, _ := f.block(i)
	const start, end = "\xff\xd8", "\xff\xd9"
	tables := bytes.TrimSuffix(bytes.TrimPrefix(f.jpegTables, []byte(start)), []byte(end))
	stream := append(make([]byte, 0, 2+len(adobeCMYK)+len(tables)+len(data)), start...)
	if f.samples == 4 && !f.separate {
		stream = append(stream, adobeCMYK...)
	}
	return append(append(stream, tables...), bytes.TrimPrefix(data, []byte(start))...)
}

// adobeCMYK is the Adobe marker, without which a JPEG decoder rejects four components.
// It says that they are CMYK, so that they are not converted.
const adobeCMYK = "\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"

// openJPEG reads the header of the JPEG in block i, and checks its size.
func (f *tiffFile) openJPEG(i int) (header, error) {
	const maxTables = 1 << 13 // more than twice the size of all tables that a JPEG can have
	if len(f.jpegTables) > maxTables {
		return header{}, fmt.Errorf("JPEGTables of %d bytes", len(f.jpegTables))
	}
	h, err := openJPEG(f.jpegStream(i))
	if err != nil {
		return header{}, err
	}
	// Encoders may pad the last strip to the full height, and may leave out what is
	// outside of the image.
	if h.width < min(f.blockWidth, f.width) || h.height < min(f.rows(i), f.height) ||
		h.width > f.blockWidth || h.height > f.blockHeight {
		return header{}, fmt.Errorf("a JPEG of %d×%d pixels in a strip or tile of %d×%d", h.width, h.height, f.blockWidth, f.rows(i))
	}
	return h, nil
}

// decodeJPEGBlock decodes the JPEG in block i to rows of samples.
func (d *tiffDecoder) decodeJPEGBlock(i int) ([]byte, error) {
	h, err := d.openJPEG(i)
	if err != nil {
		return nil, err
	}
	if i == 0 {
		d.memory = h.memory
	} else if h.memory > d.memory {
		return nil, fmt.Errorf("the JPEG of strip or tile %d takes more memory than the first", i)
	}
	img, err := h.decode(d.ctx)
	if err != nil {
		return nil, err
	}
	rowBytes, rows := int(d.rowBytes()), d.rows(i)
	if cap(d.buf) < rowBytes*rows {
		d.buf = make([]byte, rowBytes*rows)
	}
	out := d.buf[:rowBytes*rows]
	clear(out)
	channels := 1
	if !d.separate {
		channels = d.samples
	}
	b := img.Bounds()
	for y := range min(rows, b.Dy()) {
		if err := d.copyRow(out[y*rowBytes:][:b.Dx()*channels], img, y, channels); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// copyRow writes row y of the JPEG of a block as samples, with the given number of
// channels for each pixel.
func (d *tiffDecoder) copyRow(row []byte, img image.Image, y, channels int) error {
	width := img.Bounds().Dx()
	switch m := img.(type) {
	case *image.Gray:
		if channels != 1 {
			return fmt.Errorf("a gray JPEG for %d samples", channels)
		}
		copy(row, m.Pix[y*m.Stride:])
	case *image.YCbCr:
		if channels != 3 {
			return fmt.Errorf("a JPEG of 3 samples for %d", channels)
		}
		d.copyYCbCr(row, m, y)
	case *image.RGBA:
		if channels != 3 {
			return fmt.Errorf("a JPEG of 3 samples for %d", channels)
		}
		for x := range width {
			copy(row[3*x:3*x+3], m.Pix[y*m.Stride+4*x:])
		}
	case *image.CMYK:
		if channels != 4 {
			return fmt.Errorf("a JPEG of 4 samples for %d", channels)
		}
		// decodeJPEG inverts CMYK, because Adobe stores it inverted. TIFF does not.
		for x, v := range m.Pix[y*m.Stride:][:4*width] {
			row[x] = ^v
		}
	default:
		return fmt.Errorf("a JPEG of %T", img)
	}
	return nil
}

// copyYCbCr writes row y of m. It converts to RGB if the TIFF says that the samples are
// Y'CbCr. Otherwise the samples are what the TIFF says, such as RGB, and
// are copied unchanged.
func (d *tiffDecoder) copyYCbCr(row []byte, m *image.YCbCr, y int) {
	for x := range m.Rect.Dx() {
		c := m.COffset(x, y)
		r, g, b := m.Y[m.YOffset(x, y)], m.Cb[c], m.Cr[c]
		if d.photometric == tiffYCbCr {
			r, g, b = color.YCbCrToRGB(r, g, b)
		}
		row[3*x], row[3*x+1], row[3*x+2] = r, g, b
	}
}
