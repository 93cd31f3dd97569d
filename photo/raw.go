package photo

import (
	"context"
	"fmt"
	"image"
)

// PixelFormat is a layout of raw pixels: rows from top to bottom, without
// padding between rows or planes.
type PixelFormat int

const (
	// Gray8 is one byte for each pixel.
	Gray8 PixelFormat = iota + 1
	// RGB24 is red, green and blue, one byte each.
	RGB24
	// RGBA32 is red, green, blue and alpha, one byte each. Colors are not premultiplied
	// by alpha. The getImageData of an HTML canvas returns this format.
	RGBA32
	// I420 is a plane of full-range Y' (as in JPEG), then a plane of Cb and one of Cr,
	// each (width+1)/2 × (height+1)/2.
	I420
	// NV12 is I420 with alternating Cb and Cr samples in one plane.
	NV12
)

var pixelFormatNames = map[PixelFormat]string{
	Gray8: "gray8", RGB24: "rgb24", RGBA32: "rgba32", I420: "i420", NV12: "nv12",
}

// String returns the name that Photo.Format has: "gray8", "rgb24", "rgba32", "i420" or
// "nv12".
func (f PixelFormat) String() string {
	if name, ok := pixelFormatNames[f]; ok {
		return name
	}
	return fmt.Sprintf("PixelFormat(%d)", int(f))
}

// OpenRaw returns a Photo of raw pixels, which must be upright. The image that Decode
// returns shares memory with data, except for RGB24 and the chroma of NV12, which are
// copied.
//
// The error wraps ErrEmpty, ErrPixels or ErrTooManyPixels.
func OpenRaw(data []byte, f PixelFormat, width, height int, l Limits) (*Photo, error) {
	if len(data) == 0 {
		return nil, ErrEmpty
	}
	if _, ok := pixelFormatNames[f]; !ok {
		return nil, fmt.Errorf("%w: unknown pixel format %d", ErrPixels, int(f))
	}
	if width <= 0 || height <= 0 {
		return nil, fmt.Errorf("%w: %v needs a width and a height, not %d×%d", ErrPixels, f, width, height)
	}
	if err := l.checkPixels(width, height); err != nil {
		return nil, err
	}
	// There are at most 2³¹−1 pixels, so the following products fit in int64.
	pixels := int64(width) * int64(height)
	chroma := (int64(width) + 1) / 2 * ((int64(height) + 1) / 2)
	p := &Photo{Format: f.String(), title: f.String(), Width: width, Height: height, Orientation: 1, Reduction: 1}
	var want int64
	switch f {
	case Gray8:
		want = pixels
	case RGB24:
		want, p.MemoryBytes = 3*pixels, 4*pixels
	case RGBA32:
		want = 4 * pixels
	case I420:
		want = pixels + 2*chroma
	case NV12:
		want, p.MemoryBytes = pixels+2*chroma, 2*chroma
	}
	p.MemoryBytes += 1 << 10 // the struct of the image, with a margin
	if int64(len(data)) != want {
		return nil, fmt.Errorf("%w: %v of %d×%d pixels is %d bytes, not %d", ErrPixels, f, width, height, want, len(data))
	}
	if err := l.checkMemory(p); err != nil {
		return nil, err
	}
	p.header = header{width: width, height: height, decode: func(context.Context) (image.Image, error) {
		return rawImage(data, f, width, height), nil
	}}
	return p, nil
}

// rawImage returns the image of data, which must have the right length.
func rawImage(data []byte, f PixelFormat, width, height int) image.Image {
	r := image.Rect(0, 0, width, height)
	switch f {
	case Gray8:
		return &image.Gray{Pix: data, Stride: width, Rect: r}
	case RGB24:
		out := image.NewRGBA(r)
		for i, o := 0, 0; i < len(data); i, o = i+3, o+4 {
			rgb := data[i : i+3 : i+3]
			rgba := out.Pix[o : o+4 : o+4]
			rgba[0], rgba[1], rgba[2], rgba[3] = rgb[0], rgb[1], rgb[2], 0xff
		}
		return out
	case RGBA32:
		return &image.NRGBA{Pix: data, Stride: 4 * width, Rect: r}
	case I420, NV12:
	}
	luma, stride := width*height, (width+1)/2
	chroma := stride * ((height + 1) / 2)
	out := &image.YCbCr{
		Y: data[:luma:luma], YStride: width, CStride: stride,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: r,
	}
	if f == I420 {
		out.Cb, out.Cr = data[luma:luma+chroma:luma+chroma], data[luma+chroma:]
		return out
	}
	planes := make([]byte, 2*chroma)
	out.Cb, out.Cr = planes[:chroma:chroma], planes[chroma:]
	for i := range chroma {
		out.Cb[i], out.Cr[i] = data[luma+2*i], data[luma+2*i+1]
	}
	return out
}
