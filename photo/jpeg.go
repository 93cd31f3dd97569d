package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
)

// maxScans is the maximum number of scans in a JPEG. Each progressive scan makes the
// decoder visit every block of the image, even if the scan has only a few dozen bytes,
// so a file of some kilobytes could keep the decoder busy for hours. libjpeg writes 10
// scans, and encoders that search for the best script stay below 20.
const maxScans = 64

func openJPEG(data []byte) (header, error) {
	f, err := readJPEG(data)
	if err != nil {
		return header{}, err
	}
	if f.scans > maxScans {
		return header{}, fmt.Errorf("more than %d scans, where encoders write about 10", maxScans)
	}
	reduce := func(o Options) header {
		shift := uint(0)
		for shift < 3 && 2<<shift <= o.Reduce {
			shift++
		}
		size := f.size(shift)
		h := header{
			width: size.X, height: size.Y,
			capacity:  f.capacity(len(data)),
			reduction: 1 << shift,
			overhang:  size.Mul(1 << shift).Sub(image.Pt(f.width, f.height)),
			exif:      f.exif,
			decode: func(ctx context.Context) (image.Image, error) {
				return catchPanics(func() (image.Image, error) { return decodeJPEG(ctx, data, f, o.Gray, shift) })
			},
		}
		h.memory, h.orientMemory = f.memory(o.Gray, shift)
		return h
	}
	h := reduce(Options{})
	if f.colors() <= jpegYCbCr {
		h.reduce = reduce
	}
	return h, nil
}

// jpegFile has what the segments before the image data say.
type jpegFile struct {
	width, height         int
	baseline, progressive bool
	components            []jpegComponent
	h, v                  int // the largest sampling factors of all components
	across, down          int // size in minimum coded units (MCUs) of 8h × 8v pixels

	jfif, adobe    bool
	adobeTransform byte
	scans          int // counting stops above maxScans
	exif           []byte
}

type jpegComponent struct {
	id, quant     byte
	h, v          int // sampling factors
	columns, rows int // number of blocks that the image covers
}

const (
	jpegSOF0, jpegSOF1, jpegSOF2 = 0xc0, 0xc1, 0xc2
	jpegDHT, jpegDQT, jpegDRI    = 0xc4, 0xdb, 0xdd
	jpegRST0, jpegRST7           = 0xd0, 0xd7
	jpegEOI, jpegSOS, jpegCOM    = 0xd9, 0xda, 0xfe
	jpegAPP0, jpegAPP1           = 0xe0, 0xe1
	jpegAPP14, jpegAPP15         = 0xee, 0xef
)

// unsupportedJPEG maps the markers of unsupported kinds of JPEG to their names.
// Browsers do not support them either.
var unsupportedJPEG = map[byte]jpeg.UnsupportedError{
	0xc3: "lossless coding (SOF3)",
	0xc5: "hierarchical coding (SOF5)",
	0xc6: "hierarchical coding (SOF6)",
	0xc7: "hierarchical lossless coding (SOF7)",
	0xc9: "arithmetic coding (SOF9)",
	0xca: "arithmetic coding (SOF10)",
	0xcb: "lossless arithmetic coding (SOF11)",
	0xcc: "arithmetic coding (DAC)",
	0xcd: "hierarchical arithmetic coding (SOF13)",
	0xce: "hierarchical arithmetic coding (SOF14)",
	0xcf: "hierarchical lossless arithmetic coding (SOF15)",
	0xde: "hierarchical coding (DHP)",
	0xf7: "JPEG-LS (SOF55)",
}

// readJPEG reads all segments up to the end of the image. Like the decoder, it searches
// for the next marker by its 0xff after entropy-coded data or garbage, so that both see
// the same markers. If the file is damaged after the frame header, readJPEG stops there
// without an error, and the decoder reports the damage.
func readJPEG(data []byte) (*jpegFile, error) {
	f := &jpegFile{}
	b := jpegBits{data: data, pos: 2}
	for f.scans <= maxScans {
		marker, err := b.marker()
		switch {
		case err != nil:
			return f.result(err)
		case marker == 0, jpegRST0 <= marker && marker <= jpegRST7:
			continue // part of entropy-coded data
		case marker == jpegEOI:
			return f.result(jpeg.FormatError("missing SOF marker"))
		}
		if name, ok := unsupportedJPEG[marker]; ok && f.components == nil {
			return nil, name
		}
		segment, err := b.segment()
		if err != nil {
			return f.result(err)
		}
		switch marker {
		case jpegSOF0, jpegSOF1, jpegSOF2:
			if f.components == nil {
				f.baseline, f.progressive = marker == jpegSOF0, marker == jpegSOF2
				if err := f.frame(segment); err != nil {
					return nil, err
				}
			}
		case jpegSOS:
			f.scans++
		default:
			f.application(marker, segment)
		}
	}
	return f, nil
}

// application reads the application segments for JFIF, EXIF and Adobe, and ignores all
// others.
func (f *jpegFile) application(marker byte, segment []byte) {
	switch marker {
	case jpegAPP0:
		if len(segment) >= 5 {
			f.jfif = string(segment[:5]) == "JFIF\x00"
		}
	case jpegAPP1:
		if f.exif == nil && bytes.HasPrefix(segment, exifPrefix) {
			f.exif = trimEXIF(segment)
		}
	case jpegAPP14:
		if len(segment) >= 12 && string(segment[:5]) == "Adobe" {
			f.adobe, f.adobeTransform = true, segment[11]
		}
	}
}

// result returns f if a frame header was read, and err otherwise.
func (f *jpegFile) result(err error) (*jpegFile, error) {
	if f.components == nil {
		return nil, err
	}
	if len(f.components) == 4 && !f.adobe {
		return nil, jpeg.UnsupportedError("four components without an Adobe marker, so their colors are unknown")
	}
	return f, nil
}

// frame reads a frame header.
func (f *jpegFile) frame(p []byte) error {
	const fixed = 6
	switch {
	case len(p) < fixed:
		return jpeg.FormatError("SOF has wrong length")
	case p[0] != 8:
		return jpeg.UnsupportedError(fmt.Sprintf("%d-bit samples", p[0]))
	case p[5] != 1 && p[5] != 3 && p[5] != 4:
		return jpeg.UnsupportedError(fmt.Sprintf("%d components", p[5]))
	case len(p) != fixed+3*int(p[5]):
		return jpeg.FormatError("SOF has wrong length")
	}
	f.height = int(binary.BigEndian.Uint16(p[1:]))
	f.width = int(binary.BigEndian.Uint16(p[3:]))
	for p = p[fixed:]; len(p) > 0; p = p[3:] {
		if err := f.addComponent(p); err != nil {
			return err
		}
	}
	return f.countBlocks()
}

// addComponent reads the first component of p.
func (f *jpegFile) addComponent(p []byte) error {
	c := jpegComponent{id: p[0], h: int(p[1] >> 4), v: int(p[1] & 15), quant: p[2]}
	for _, other := range f.components {
		if other.id == c.id {
			return jpeg.FormatError("repeated component identifier")
		}
	}
	switch {
	case c.quant > 3:
		return jpeg.FormatError("bad Tq value")
	case c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4:
		return jpeg.FormatError(fmt.Sprintf("sampling factors of %d×%d; the format allows 1 to 4", c.h, c.v))
	}
	f.h, f.v = max(f.h, c.h), max(f.v, c.v)
	f.components = append(f.components, c)
	return nil
}

// countBlocks computes the numbers of MCUs and blocks from the size of the image.
func (f *jpegFile) countBlocks() error {
	if len(f.components) == 1 {
		// A single component is never subsampled.
		f.h, f.v, f.components[0].h, f.components[0].v = 1, 1, 1, 1
	}
	f.across = (f.width + 8*f.h - 1) / (8 * f.h)
	f.down = (f.height + 8*f.v - 1) / (8 * f.v)
	for i := range f.components {
		c := &f.components[i]
		if f.h%c.h != 0 || f.v%c.v != 0 {
			return jpeg.UnsupportedError(fmt.Sprintf("sampling factors of %d×%d that do not divide the largest ones, %d×%d", c.h, c.v, f.h, f.v))
		}
		c.columns = (f.width*c.h + 8*f.h - 1) / (8 * f.h)
		c.rows = (f.height*c.v + 8*f.v - 1) / (8 * f.v)
	}
	return nil
}

// jpegColors is the color space of a JPEG.
type jpegColors int

const (
	jpegGray jpegColors = iota
	jpegYCbCr
	jpegRGB
	jpegCMYK
	jpegYCCK // CMY as Y'CbCr, and black
)

func (f *jpegFile) colors() jpegColors {
	c := f.components
	switch {
	case len(c) == 1:
		return jpegGray
	case len(c) == 4 && f.adobeTransform == 0:
		return jpegCMYK
	case len(c) == 4:
		return jpegYCCK
	case !f.jfif && (f.adobe && f.adobeTransform == 0 || c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B'):
		return jpegRGB
	}
	return jpegYCbCr
}

// subsampleRatio returns the chroma subsampling as package image names it. ok is false
// if package image has no name for it; then all components are scaled to the size of
// the image.
func (f *jpegFile) subsampleRatio() (ratio image.YCbCrSubsampleRatio, ok bool) {
	y, cb, cr := f.components[0], f.components[1], f.components[2]
	if y.h != f.h || y.v != f.v || cb.h != cr.h || cb.v != cr.v {
		return 0, false
	}
	ratio, ok = subsampleRatios[image.Pt(y.h/cb.h, y.v/cb.v)]
	return ratio, ok
}

// subsampleRatios maps the number of luma samples for each chroma sample, horizontally
// and vertically, to the ratio.
var subsampleRatios = map[image.Point]image.YCbCrSubsampleRatio{
	{X: 1, Y: 1}: image.YCbCrSubsampleRatio444, {X: 1, Y: 2}: image.YCbCrSubsampleRatio440,
	{X: 2, Y: 1}: image.YCbCrSubsampleRatio422, {X: 2, Y: 2}: image.YCbCrSubsampleRatio420,
	{X: 4, Y: 1}: image.YCbCrSubsampleRatio411, {X: 4, Y: 2}: image.YCbCrSubsampleRatio410,
}

// size returns the size of the image with sides divided by 1<<shift, rounded up.
func (f *jpegFile) size(shift uint) image.Point {
	round := 1<<shift - 1
	return image.Pt((f.width+round)>>shift, (f.height+round)>>shift)
}

// capacity returns the maximum number of pixels that a file of that many bytes can
// hold. Each 8×8 block of luma takes at least one bit, because no end-of-band run
// covers its DC coefficient.
func (f *jpegFile) capacity(bytes int) int64 {
	y := f.components[0]
	return int64(bytes) * 8 * 64 * int64(f.h*f.v) / int64(y.h*y.v)
}

// needs reports whether samples of component i are needed for the result.
func (f *jpegFile) needs(i int, gray bool) bool {
	return i == 0 || !gray || f.colors() != jpegYCbCr
}

// componentShift returns by which shift component i is reduced while it is decoded, if
// the image is reduced by shift. direct reports whether the resulting samples are those
// of the image. If not, atImageSize averages them, and own is as large as possible
// while a pixel of the image still covers whole samples.
func (f *jpegFile) componentShift(i int, shift uint) (own uint, direct bool) {
	if colors := f.colors(); colors == jpegYCbCr || colors == jpegYCCK && i < 3 {
		if _, ok := f.subsampleRatio(); ok {
			return shift, true
		}
	}
	across, down := f.h/f.components[i].h, f.v/f.components[i].v
	for own = shift; own > 0 && ((1<<shift)%(across<<own) != 0 || (1<<shift)%(down<<own) != 0); own-- {
	}
	return own, across<<own == 1<<shift && down<<own == 1<<shift
}

// memory returns upper bounds in bytes: for decoding with sides divided by 1<<shift,
// and for what applying the orientation adds.
func (f *jpegFile) memory(gray bool, shift uint) (decode, orient int64) {
	units := int64(f.across) * int64(f.down)
	size := f.size(shift)
	pixels := int64(size.X) * int64(size.Y)
	for i, c := range f.components {
		blocks := units * int64(c.h*c.v)
		wanted := f.needs(i, gray)
		if f.progressive {
			decode += 8 * blocks // jpegPlane.nonzero
			if wanted {
				decode += 2 * 64 * blocks // jpegPlane.blocks
			}
		}
		if !wanted {
			continue
		}
		own, direct := f.componentShift(i, shift)
		decode += blocks * 64 >> (2 * own)
		if !direct {
			decode += int64(f.fullStride(shift)) * int64(size.Y)
		}
	}
	switch colors := f.colors(); {
	case colors == jpegGray, colors == jpegYCbCr && gray:
		return decode, pixels
	case colors == jpegYCbCr:
		ratio, ok := f.subsampleRatio()
		switch {
		case !ok:
			return decode, 3 * pixels
		case ratio == image.YCbCrSubsampleRatio411, ratio == image.YCbCrSubsampleRatio410:
			return decode, 5 * pixels // see transposable
		}
		chroma := chromaSize(size, ratio)
		return decode, pixels + 2*int64(chroma.X)*int64(chroma.Y)
	}
	return decode + 4*pixels, 4 * pixels // interleaved into RGBA or CMYK
}

// fullStride returns the stride of a plane without subsampling.
func (f *jpegFile) fullStride(shift uint) int { return 8 * f.h * f.across >> shift }
