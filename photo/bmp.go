package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math"
	"math/bits"
	"slices"
)

// bmpFile has what the headers of a BMP say. The package reads the formats of Windows
// (BITMAPINFOHEADER and later), and those of OS/2 as far as they have the same
// features.
type bmpFile struct {
	width, height int
	fromTop       bool // the first row of the file is the top row
	bits          int  // per pixel
	compression   uint32
	// masks are the bits of red, green, blue and alpha in a pixel of 16 or 32 bits. If
	// the mask of alpha is 0, the image is opaque.
	masks   [4]uint32
	palette color.Palette
	pixels  []byte
}

const (
	bmpFileHeader = 14

	// Sizes of the header that follows.
	bmpCore    = 12 // OS/2 1.x
	bmpOS2     = 64 // OS/2 2.x
	bmpInfo    = 40
	bmpInfo3   = 56  // with four color masks
	bmpInfoMax = 124 // version 5

	// Compressions.
	bmpNone           = 0
	bmpRLE8           = 1
	bmpRLE4           = 2
	bmpBitFields      = 3
	bmpAlphaBitFields = 6
)

// bmpCompressions maps the unsupported compressions to their names.
var bmpCompressions = map[uint32]string{4: "JPEG", 5: "PNG", 11: "CMYK", 12: "CMYK", 13: "CMYK"}

func bmpFeature(format string, a ...any) error {
	return fmt.Errorf("%w: this BMP has an unsupported feature: %s", ErrUnsupportedFormat, fmt.Sprintf(format, a...))
}

func openBMP(data []byte) (header, error) {
	f, err := readBMP(data)
	if err != nil {
		return header{}, err
	}
	h := header{width: f.width, height: f.height, capacity: math.MaxInt64}
	width, height := int64(f.width), int64(f.height)
	if width*height > math.MaxInt32 {
		return h, nil // Open rejects this size
	}
	if f.compression == bmpRLE8 || f.compression == bmpRLE4 {
		// Two bytes encode a run of up to 255 pixels.
		h.capacity = int64(len(f.pixels)) / 2 * 255
	} else if rows := int64(len(f.pixels)) / f.rowBytes(); rows < height {
		h.truncated = truncated(rows, height)
	}
	each := int64(4)
	if f.palette != nil {
		each = 1
	}
	h.memory = width * height * each
	h.decode = func(ctx context.Context) (image.Image, error) {
		return catchPanics(func() (image.Image, error) { return f.decode(ctx) })
	}
	return h, nil
}

func readBMP(data []byte) (*bmpFile, error) {
	if len(data) < bmpFileHeader+4 {
		return nil, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint32(data[bmpFileHeader:]))
	if size < bmpCore || size > bmpInfoMax {
		return nil, bmpFeature("a header of %d bytes", size)
	}
	if int64(len(data)) < bmpFileHeader+size {
		return nil, io.ErrUnexpectedEOF
	}
	// Fields that a short header does not have are 0.
	var head [bmpInfoMax]byte
	copy(head[:], data[bmpFileHeader:bmpFileHeader+size])
	short := func(at int) int { return int(binary.LittleEndian.Uint16(head[at:])) }
	long := func(at int) uint32 { return binary.LittleEndian.Uint32(head[at:]) }

	f := &bmpFile{}
	var planes int
	var colors uint32
	colorBytes := 4
	if size == bmpCore {
		f.width, f.height, planes, f.bits = short(4), short(6), short(8), short(10)
		colorBytes = 3
	} else {
		f.width, f.height = int(int32(long(4))), int(int32(long(8)))
		planes, f.bits, f.compression, colors = short(12), short(14), long(16), long(32)
	}
	if f.height < 0 {
		f.height, f.fromTop = -f.height, true
	}
	if f.width <= 0 || f.height <= 0 {
		return nil, fmt.Errorf("%d×%d pixels", f.width, f.height)
	}
	if planes != 1 {
		return nil, fmt.Errorf("%d planes; a BMP always has 1", planes)
	}
	rest, err := f.readMasks(head[:], size, data[bmpFileHeader+size:])
	if err != nil {
		return nil, err
	}
	if f.bits <= 8 {
		rest = f.readPalette(rest, colors, colorBytes)
	}
	offset := int64(binary.LittleEndian.Uint32(data[10:]))
	if offset == 0 { // the pixels follow the headers
		offset = int64(len(data) - len(rest))
	}
	f.pixels = data[min(offset, int64(len(data))):]
	return f, nil
}

// readMasks reads how pixels are stored. It returns what follows the masks, which come
// after the header if that is a short one.
func (f *bmpFile) readMasks(head []byte, size int64, rest []byte) ([]byte, error) {
	if err := f.checkCompression(size); err != nil {
		return nil, err
	}
	switch {
	case f.hasMasks():
		return f.readBitFields(head, size, rest)
	case f.bits == 16:
		f.masks = [4]uint32{0x7c00, 0x3e0, 0x1f}
	case f.bits == 32:
		// The fourth byte is reserved. Some programs write other values than 0 there.
		f.masks = [4]uint32{0xff0000, 0xff00, 0xff}
	}
	return rest, nil
}

// checkCompression returns an error unless the package reads pixels with that
// compression and number of bits. size is the size of the header, which tells the
// compressions of Windows from those of OS/2.
func (f *bmpFile) checkCompression(size int64) error {
	if name, ok := bmpCompressions[f.compression]; ok && size != bmpOS2 {
		return bmpFeature("compression %d (%s)", f.compression, name)
	}
	if size == bmpOS2 && f.compression > bmpRLE4 {
		return bmpFeature("compression %d of OS/2", f.compression)
	}
	if !slices.Contains(bmpBits[f.compression], f.bits) {
		return bmpFeature("compression %d of %d bits a pixel", f.compression, f.bits)
	}
	return nil
}

// bmpBits has the supported numbers of bits per pixel for each compression.
var bmpBits = map[uint32][]int{
	bmpNone:           {1, 2, 4, 8, 16, 24, 32},
	bmpRLE8:           {8},
	bmpRLE4:           {4},
	bmpBitFields:      {16, 32},
	bmpAlphaBitFields: {16, 32},
}

// hasMasks reports whether the file contains color masks.
func (f *bmpFile) hasMasks() bool {
	return f.compression == bmpBitFields || f.compression == bmpAlphaBitFields
}

// readBitFields reads the color masks from the header, or from what follows a short
// one, and returns what follows the masks.
func (f *bmpFile) readBitFields(head []byte, size int64, rest []byte) ([]byte, error) {
	n := 3
	if size >= bmpInfo3 || f.compression == bmpAlphaBitFields {
		n = 4
	}
	masks := head[bmpInfo:]
	if size < bmpInfo3 {
		masks = append(bytes.Clone(head[bmpInfo:size]), rest[:min(16, len(rest))]...)
		rest = rest[max(0, min(4*n-int(size-bmpInfo), len(rest))):]
	}
	if len(masks) < 4*n {
		return nil, io.ErrUnexpectedEOF
	}
	for i := range n {
		f.masks[i] = binary.LittleEndian.Uint32(masks[4*i:])
	}
	return rest, f.checkMasks()
}

func (f *bmpFile) checkMasks() error {
	seen := uint32(0)
	for _, m := range f.masks {
		contiguous := m>>bits.TrailingZeros32(m)&(m>>bits.TrailingZeros32(m)+1) == 0
		if !contiguous || m&seen != 0 || uint64(m)>>f.bits != 0 {
			return fmt.Errorf("invalid color masks %#x", f.masks)
		}
		seen |= m
	}
	if seen == 0 {
		return errors.New("no color masks")
	}
	return nil
}

// readPalette reads the palette, and returns what follows it. Indices without a color
// are black. colors is their number in the header, and size is the bytes of each.
func (f *bmpFile) readPalette(data []byte, colors uint32, size int) []byte {
	maxColors := uint32(1) << f.bits
	if colors == 0 || colors > maxColors {
		colors = maxColors
	}
	f.palette = make(color.Palette, maxColors)
	for i := range f.palette {
		c := color.RGBA{A: 0xff}
		if at := i * size; i < int(colors) && at+size <= len(data) {
			c.R, c.G, c.B = data[at+2], data[at+1], data[at]
		}
		f.palette[i] = c
	}
	return data[min(int(colors)*size, len(data)):]
}

// rowBytes returns the length of a row without compression.
func (f *bmpFile) rowBytes() int64 { return (int64(f.width)*int64(f.bits) + 31) / 32 * 4 }

func (f *bmpFile) decode(ctx context.Context) (image.Image, error) {
	r := image.Rect(0, 0, f.width, f.height)
	if f.palette != nil {
		out := image.NewPaletted(r, f.palette)
		if f.compression != bmpNone {
			return out, f.decodeRuns(ctx, out)
		}
		return out, f.eachRow(ctx, func(row []byte, y int) { f.indices(out.Pix[y*out.Stride:][:f.width], row) })
	}
	pix, stride := make([]byte, 4*f.width*f.height), 4*f.width
	seen := byte(0) // all alpha values, combined by OR
	decode := f.bgr
	if f.bits != 24 {
		decode = f.masked()
	}
	err := f.eachRow(ctx, func(row []byte, y int) { seen |= decode(pix[y*stride:][:stride], row) })
	if err != nil {
		return nil, err
	}
	if f.masks[3] == 0 {
		return &image.RGBA{Pix: pix, Stride: stride, Rect: r}, nil
	}
	if seen == 0 { // written by programs that do not support alpha
		opaque(pix, 4, 1)
	}
	return &image.NRGBA{Pix: pix, Stride: stride, Rect: r}, nil
}

// eachRow calls row for each row of the file, with its bytes and its number from the
// top.
func (f *bmpFile) eachRow(ctx context.Context, row func(row []byte, y int)) error {
	n := int(f.rowBytes())
	for i := range f.height {
		if err := ctx.Err(); err != nil {
			return err
		}
		row(f.pixels[i*n:][:n], f.line(i))
	}
	return nil
}

// line returns the number from the top of the i-th row of the file.
func (f *bmpFile) line(i int) int {
	if f.fromTop {
		return i
	}
	return f.height - 1 - i
}

func (f *bmpFile) indices(out, row []byte) {
	each := 8 / f.bits
	mask := byte(1<<f.bits - 1)
	for x := range out {
		out[x] = row[x/each] >> ((each - 1 - x%each) * f.bits) & mask
	}
}

func (f *bmpFile) bgr(out, row []byte) byte {
	for ; len(out) >= 4; out, row = out[4:], row[3:] {
		out[0], out[1], out[2], out[3] = row[2], row[1], row[0], 0xff
	}
	return 0xff
}

// masked returns a function that decodes a row of pixels of 16 or 32 bits, and returns
// all alpha values, combined by OR.
func (f *bmpFile) masked() func(out, row []byte) byte {
	var shift, highest [4]uint32
	for i, m := range f.masks {
		if m != 0 {
			shift[i] = uint32(bits.TrailingZeros32(m))
			highest[i] = m >> shift[i]
		}
	}
	bytes := f.bits / 8
	return func(out, row []byte) byte {
		seen := byte(0)
		for ; len(out) >= 4; out, row = out[4:], row[bytes:] {
			pixel := uint32(binary.LittleEndian.Uint16(row))
			if bytes == 4 {
				pixel = binary.LittleEndian.Uint32(row)
			}
			for i, m := range f.masks {
				switch {
				case highest[i] == 0xff:
					out[i] = byte(pixel >> shift[i])
				case m != 0:
					out[i] = byte((uint64(pixel&m>>shift[i])*0xff + uint64(highest[i]/2)) / uint64(highest[i]))
				case i == 3:
					out[i] = 0xff
				}
			}
			seen |= out[3]
		}
		return seen
	}
}

// decodeRuns decodes RLE8 or RLE4. Pixels that are not in a run have index 0.
func (f *bmpFile) decodeRuns(ctx context.Context, out *image.Paletted) error {
	const endOfLine, endOfBitmap, delta = 0, 1, 2
	data, x, y := f.pixels, 0, 0
	for step := 0; y < f.height; step++ {
		if len(data) < 2 {
			if x >= f.width {
				y++ // the last end-of-line may be missing
			}
			return f.truncated(y)
		}
		if step%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		n, code := int(data[0]), data[1]
		data = data[2:]
		line := out.Pix[f.line(y)*out.Stride:][:f.width]
		switch {
		case n > 0:
			x = f.fillRun(line, x, n, code)
		case code == endOfLine:
			x, y = 0, y+1
		case code == endOfBitmap:
			return nil
		case code == delta:
			if len(data) < 2 {
				return f.truncated(y)
			}
			x, y = x+int(data[0]), y+int(data[1])
			data = data[2:]
		default: // code literal indices, padded to 16 bits
			n = int(code)
			length := (n*f.bits + 7) / 8
			if len(data) < length {
				return f.truncated(y)
			}
			x = f.copyIndices(line, x, data, n)
			data = data[min((length+1)&^1, len(data)):]
		}
	}
	return nil
}

// truncated returns the error for runs that end after y rows, or nil if no row is
// missing.
func (f *bmpFile) truncated(y int) error {
	if y >= f.height {
		return nil
	}
	return truncated(int64(y), int64(f.height))
}

// fillRun writes a run of n pixels at x, or fewer if the line ends, and returns the x
// after them. code is one index of 8 bits, or two of 4 bits that alternate.
func (f *bmpFile) fillRun(line []byte, x, n int, code byte) int {
	run := [2]byte{code, code}
	if f.bits == 4 {
		run = [2]byte{code >> 4, code & 0xf}
	}
	for i := 0; i < n && x < len(line); i++ {
		line[x] = run[i%2]
		x++
	}
	return x
}

// copyIndices writes n indices at x, or fewer if the line ends, and returns the x after
// them.
func (f *bmpFile) copyIndices(line []byte, x int, data []byte, n int) int {
	for i := 0; i < n && x < len(line); i++ {
		if f.bits == 8 {
			line[x] = data[i]
		} else {
			line[x] = data[i/2] >> (4 - i%2*4) & 0xf
		}
		x++
	}
	return x
}
