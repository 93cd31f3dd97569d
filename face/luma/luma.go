// Package luma has the luminance of images, and what detectors that compare pixels
// share: the conversion of an image, halving, and pairs of pixels.
package luma

import (
	"encoding/binary"
	"image"
	"image/color"

	"github.com/mienproject/mien/internal/freelist"
)

// Plane is a luminance plane. A row has Stride bytes, of which the first Width are
// pixels.
type Plane struct {
	Pix                   []uint8
	Width, Height, Stride int
}

// BytesPerPixel is the memory for the luminance of an image, if it has to be made, and for
// its copies at a half, a quarter and so on.
const BytesPerPixel = 4. / 3

// Of returns the luminance of img. Transparent pixels are black. The Y plane of JPEG
// and video frames already is luminance, and is shared; everything else is converted
// with the weights of image/color. The result of a conversion is in buffer, which grows
// to fit; nil means new memory.
func Of(img image.Image, buffer *[]uint8) Plane {
	if buffer == nil {
		buffer = new([]uint8)
	}
	b := img.Bounds()
	g := Plane{Width: b.Dx(), Height: b.Dy(), Stride: b.Dx()}
	if b.Empty() {
		return Plane{}
	}
	switch img := img.(type) {
	case *image.Gray:
		g.Pix, g.Stride = img.Pix[img.PixOffset(b.Min.X, b.Min.Y):], img.Stride
		return g
	case *image.YCbCr:
		g.Pix, g.Stride = img.Y[img.YOffset(b.Min.X, b.Min.Y):], img.YStride
		return g
	}
	*buffer = freelist.Resize(*buffer, g.Width*g.Height)
	g.Pix = *buffer
	switch img := img.(type) {
	case *image.RGBA:
		g.fillRows(img.Pix[img.PixOffset(b.Min.X, b.Min.Y):], img.Stride, rowOfRGBA)
	case *image.NRGBA:
		g.fillRows(img.Pix[img.PixOffset(b.Min.X, b.Min.Y):], img.Stride, rowOfNRGBA)
	case *image.Paletted:
		palette := paletteLuminance(img.Palette)
		g.fillRows(img.Pix[img.PixOffset(b.Min.X, b.Min.Y):], img.Stride, func(row, pixels []uint8) {
			for x := range row {
				row[x] = palette[pixels[x]]
			}
		})
	case *image.Gray16:
		g.fillRows(img.Pix[img.PixOffset(b.Min.X, b.Min.Y):], img.Stride, rowOfGray16)
	case image.RGBA64Image:
		g.fill(func(x, y int) uint8 { return weigh64(img.RGBA64At(b.Min.X+x, b.Min.Y+y)) })
	default: // this allocates for each color
		g.fill(func(x, y int) uint8 { return color.GrayModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.Gray).Y })
	}
	return g
}

// fillRows sets each row with convert, from the pixels of an image whose rows are
// stride bytes apart. convert gets all pixels up to the end of the image.
func (g Plane) fillRows(pixels []uint8, stride int, convert func(row, pixels []uint8)) {
	for y := range g.Height {
		convert(g.Pix[y*g.Stride:][:g.Width], pixels[y*stride:])
	}
}

func rowOfRGBA(row, pixels []uint8) {
	for x := range row {
		row[x] = weigh(uint32(pixels[4*x]), uint32(pixels[4*x+1]), uint32(pixels[4*x+2]))
	}
}

func rowOfNRGBA(row, pixels []uint8) {
	for x := range row {
		v := weigh(uint32(pixels[4*x]), uint32(pixels[4*x+1]), uint32(pixels[4*x+2]))
		if a := uint32(pixels[4*x+3]); a != 0xff {
			v = uint8((uint32(v)*a + 127) / 255)
		}
		row[x] = v
	}
}

func paletteLuminance(palette color.Palette) (luminance [256]uint8) {
	for i, c := range palette {
		luminance[i] = color.GrayModel.Convert(c).(color.Gray).Y
	}
	return luminance
}

func rowOfGray16(row, pixels []uint8) {
	for x := range row {
		row[x] = pixels[2*x] // the high byte
	}
}

// fill sets each pixel.
func (g Plane) fill(at func(x, y int) uint8) {
	for y := range g.Height {
		dst := g.Pix[y*g.Stride:][:g.Width]
		for x := range dst {
			dst[x] = at(x, y)
		}
	}
}

// weigh64 is like color.GrayModel, without allocations for the color and the result.
func weigh64(c color.RGBA64) uint8 {
	return uint8((19595*uint32(c.R) + 38470*uint32(c.G) + 7471*uint32(c.B) + 1<<15) >> 24)
}

// weigh is equal to color.GrayModel for opaque 8-bit colors, bit for bit. It has the
// JFIF weights 0.299, 0.587 and 0.114 in units of 1/65536. The factor 257 extends 8
// bits to 16.
func weigh(r, g, b uint32) uint8 {
	return uint8((257*(19595*r+38470*g+7471*b) + 1<<15) >> 24)
}

// Half returns g at half its width and height, where each pixel is the mean of four.
// The result is in buffer if it fits.
func (g Plane) Half(buffer []uint8) Plane {
	h := Plane{Width: g.Width / 2, Height: g.Height / 2, Stride: g.Width / 2}
	h.Pix = freelist.Resize(buffer, h.Width*h.Height)
	for y := range h.Height {
		HalveRow(h.Pix[y*h.Stride:][:h.Width], g.Pix[2*y*g.Stride:][:2*h.Width], g.Pix[(2*y+1)*g.Stride:][:2*h.Width])
	}
	return h
}

// HalveRow fills row with the rounded means of two by two values of the rows upper and
// lower, which are twice as long.
func HalveRow(row, upper, lower []uint8) {
	for len(row) >= 4 {
		binary.LittleEndian.PutUint32(row, means(binary.LittleEndian.Uint64(upper), binary.LittleEndian.Uint64(lower)))
		row, upper, lower = row[4:], upper[8:], lower[8:]
	}
	for x := range row {
		row[x] = uint8((uint(upper[2*x]) + uint(upper[2*x+1]) + uint(lower[2*x]) + uint(lower[2*x+1]) + 2) / 4)
	}
}

// means returns the means of four squares of four pixels, eight in a row.
func means(upper, lower uint64) uint32 {
	const even = 0x00ff_00ff_00ff_00ff
	sums := upper&even + upper>>8&even + lower&even + lower>>8&even
	m := (sums + 0x0002_0002_0002_0002) >> 2 & even
	m = (m | m>>8) & 0x0000_ffff_0000_ffff
	return uint32(m | m>>16)
}
