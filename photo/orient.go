package photo

import (
	"bytes"
	"fmt"
	"image"
)

var exifPrefix = []byte("Exif\x00\x00")

// trimEXIF removes the prefix that belongs in JPEGs only, but that some programs write
// in other formats too.
func trimEXIF(exif []byte) []byte { return bytes.TrimPrefix(exif, exifPrefix) }

// orientation reads the EXIF orientation, 1 to 8, from a TIFF structure. It returns 1
// if the orientation is missing or cannot be read, because broken metadata is not a
// reason to reject an image. It ignores all other entries.
func orientation(exif []byte) int {
	d, err := readTIFFDirectory(exif)
	if err != nil {
		return 1
	}
	entry := d.entry(tiffOrientation)
	if entry == nil || d.order.Uint32(entry[4:]) != 1 {
		return 1
	}
	value := uint32(0)
	switch d.order.Uint16(entry[2:]) {
	case tiffShort, tiffSignedShort:
		value = uint32(d.order.Uint16(entry[8:]))
	// Some programs write these types, although the specification has only SHORT.
	case tiffLong, tiffSignedLong:
		value = d.order.Uint32(entry[8:])
	case tiffByte, tiffSignedByte:
		value = uint32(entry[8])
	}
	if value < 1 || value > 8 {
		return 1
	}
	return int(value)
}

// upright applies an EXIF orientation to an image whose bounds begin at the origin. The
// result has the same type as img.
func upright(img image.Image, orientation int) image.Image {
	if orientation == 1 {
		return img
	}
	size := img.Bounds().Size()
	t := transform{orientation}
	r := image.Rectangle{Max: t.size(size)}
	switch m := img.(type) {
	case *image.Gray:
		out := image.NewGray(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 1)
		return out
	case *image.Gray16:
		out := image.NewGray16(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 2)
		return out
	case *image.Paletted:
		out := image.NewPaletted(r, m.Palette)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 1)
		return out
	case *image.RGBA:
		out := image.NewRGBA(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 4)
		return out
	case *image.NRGBA:
		out := image.NewNRGBA(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 4)
		return out
	case *image.CMYK:
		out := image.NewCMYK(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 4)
		return out
	case *image.RGBA64:
		out := image.NewRGBA64(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 8)
		return out
	case *image.NRGBA64:
		out := image.NewNRGBA64(r)
		t.plane(out.Pix, out.Stride, m.Pix, m.Stride, size, 8)
		return out
	case *image.YCbCr:
		return t.yCbCr(m)
	case *image.NYCbCrA:
		out := &image.NYCbCrA{YCbCr: *t.yCbCr(&m.YCbCr), A: make([]byte, r.Dx()*r.Dy()), AStride: r.Dx()}
		t.plane(out.A, out.AStride, m.A, m.AStride, size, 1)
		return out
	}
	panic(fmt.Sprintf("photo: no decoder makes images of type %T", img))
}

// Turn returns an image that Decode has returned, turned clockwise by quarters: 1, 2 or 3.
// The result has the same type as img, and its origin at (0, 0).
func Turn(img image.Image, quarters int) image.Image {
	return upright(img, [4]int{1, 6, 3, 8}[quarters])
}

// transform is an EXIF orientation, 2 to 8: it maps the stored image to the upright
// one.
type transform struct{ orientation int }

func (t transform) transposes() bool { return t.orientation >= 5 }

func (t transform) size(p image.Point) image.Point {
	if t.transposes() {
		return image.Pt(p.Y, p.X)
	}
	return p
}

// inset returns how much of the first column and row of the upright image is outside of
// the image, if overhang is how much of the last column and row of the stored image is.
func (t transform) inset(overhang image.Point) image.Point {
	p := t.size(overhang)
	switch t.orientation { // where the right and the lower edge of the stored image go
	case 2, 6: // left
		return image.Pt(p.X, 0)
	case 3, 7: // left and upper
		return p
	case 4, 8: // upper
		return image.Pt(0, p.Y)
	}
	return image.Point{}
}

// steps returns the offset to which the stored origin goes in a plane of the upright
// image, and the steps in that plane for one element to the right and one down in the
// stored plane. right and bottom are the offsets of the last column and row of the
// upright plane. Elements have n bytes.
func (t transform) steps(right, bottom, n, stride int) (origin, dx, dy int) {
	switch t.orientation {
	case 2: // mirrored
		return right, -n, stride
	case 3: // upside down
		return right + bottom, -n, -stride
	case 4: // mirrored, upside down
		return bottom, n, -stride
	case 5: // mirrored, lying on its left side
		return 0, stride, n
	case 6: // lying on its left side
		return right, stride, -n
	case 7: // mirrored, lying on its right side
		return right + bottom, -stride, -n
	case 8: // lying on its right side
		return bottom, -stride, n
	}
	return 0, n, stride
}

// plane copies the elements of a plane, whose stored size is given, from src to their
// upright positions in dst. Elements have n bytes.
func (t transform) plane(dst []byte, dstStride int, src []byte, srcStride int, size image.Point, n int) {
	w, h := size.X, size.Y
	origin, dx, dy := t.steps((t.size(size).X-1)*n, (t.size(size).Y-1)*dstStride, n, dstStride)
	// Copying in squares keeps the written columns in the cache.
	const square = 64
	for y0 := 0; y0 < h; y0 += square {
		for x0 := 0; x0 < w; x0 += square {
			x1 := min(x0+square, w)
			for y := y0; y < min(y0+square, h); y++ {
				copyStrided(dst, origin+y*dy+x0*dx, dx, src[y*srcStride+x0*n:y*srcStride+x1*n], n)
			}
		}
	}
}

// copyStrided copies the elements of row, of n bytes each, to dst: the first one to the
// offset to, each following one step bytes after the previous one.
func copyStrided(dst []byte, to, step int, row []byte, n int) {
	switch {
	case step == n:
		copy(dst[to:], row)
	case n == 1:
		for _, v := range row {
			dst[to] = v
			to += step
		}
	case n == 4:
		for ; len(row) >= 4; row = row[4:] {
			*(*[4]byte)(dst[to:]) = [4]byte(row)
			to += step
		}
	default:
		for ; len(row) > 0; row = row[n:] {
			copy(dst[to:to+n], row)
			to += step
		}
	}
}

func (t transform) yCbCr(m *image.YCbCr) *image.YCbCr {
	ratio := m.SubsampleRatio
	if t.transposes() {
		m, ratio = transposable(m)
	}
	size := m.Bounds().Size()
	out := image.NewYCbCr(image.Rectangle{Max: t.size(size)}, ratio)
	t.plane(out.Y, out.YStride, m.Y, m.YStride, size, 1)
	chroma := chromaSize(size, m.SubsampleRatio)
	t.plane(out.Cb, out.CStride, m.Cb, m.CStride, chroma, 1)
	t.plane(out.Cr, out.CStride, m.Cr, m.CStride, chroma, 1)
	return out
}

// transposable returns an image that can be transposed, and the subsampling ratio that
// it has after that. If package image has no ratio for the transposed chroma of m, the
// result is a copy of m with chroma at full size.
func transposable(m *image.YCbCr) (*image.YCbCr, image.YCbCrSubsampleRatio) {
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio420:
		return m, m.SubsampleRatio
	case image.YCbCrSubsampleRatio422:
		return m, image.YCbCrSubsampleRatio440
	case image.YCbCrSubsampleRatio440:
		return m, image.YCbCrSubsampleRatio422
	case image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410:
	}
	size := m.Bounds().Size()
	full := &image.YCbCr{
		Y: m.Y, YStride: m.YStride,
		Cb: make([]byte, size.X*size.Y), Cr: make([]byte, size.X*size.Y), CStride: size.X,
		SubsampleRatio: image.YCbCrSubsampleRatio444, Rect: m.Rect,
	}
	for y := range size.Y {
		for x := range size.X {
			from, to := m.COffset(x, y), y*size.X+x
			full.Cb[to], full.Cr[to] = m.Cb[from], m.Cr[from]
		}
	}
	return full, image.YCbCrSubsampleRatio444
}

// chromaSize returns the size of the chroma planes of an image whose bounds begin at
// the origin.
func chromaSize(luma image.Point, ratio image.YCbCrSubsampleRatio) image.Point {
	w, h := 1, 1
	switch ratio {
	case image.YCbCrSubsampleRatio444:
	case image.YCbCrSubsampleRatio422:
		w = 2
	case image.YCbCrSubsampleRatio420:
		w, h = 2, 2
	case image.YCbCrSubsampleRatio440:
		h = 2
	case image.YCbCrSubsampleRatio411:
		w = 4
	case image.YCbCrSubsampleRatio410:
		w, h = 4, 2
	}
	return image.Pt((luma.X+w-1)/w, (luma.Y+h-1)/h)
}
