package pigo

import (
	"image"
	"image/color"
	"slices"
)

// luminance returns the luminance of img, with transparent pixels as black. The
// Y plane of JPEG and video frames is it already and is shared; everything else
// is converted by the weights of image/color.
func luminance(img image.Image) gray { return luminanceIn(img, new([]uint8)) }

// luminanceIn is luminance with a place for what is converted, which grows to fit.
func luminanceIn(img image.Image, room *[]uint8) gray {
	b := img.Bounds()
	g := gray{width: b.Dx(), height: b.Dy(), stride: b.Dx()}
	if b.Empty() {
		return gray{}
	}
	switch img := img.(type) {
	case *image.Gray:
		g.pix, g.stride = img.Pix[img.PixOffset(b.Min.X, b.Min.Y):], img.Stride
		return g
	case *image.YCbCr:
		g.pix, g.stride = img.Y[img.YOffset(b.Min.X, b.Min.Y):], img.YStride
		return g
	}
	*room = slices.Grow((*room)[:0], g.width*g.height)[:g.width*g.height]
	g.pix = *room
	switch img := img.(type) {
	case *image.RGBA:
		for y := range g.height {
			src := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			dst := g.pix[y*g.stride:][:g.width]
			for x := range dst {
				dst[x] = weigh(uint32(src[4*x]), uint32(src[4*x+1]), uint32(src[4*x+2]))
			}
		}
	case *image.NRGBA:
		for y := range g.height {
			src := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			dst := g.pix[y*g.stride:][:g.width]
			for x := range dst {
				v := weigh(uint32(src[4*x]), uint32(src[4*x+1]), uint32(src[4*x+2]))
				if a := uint32(src[4*x+3]); a != 0xff {
					v = uint8((uint32(v)*a + 127) / 255)
				}
				dst[x] = v
			}
		}
	case *image.Paletted:
		var palette [256]uint8
		for i, c := range img.Palette {
			palette[i] = color.GrayModel.Convert(c).(color.Gray).Y
		}
		for y := range g.height {
			src := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			dst := g.pix[y*g.stride:][:g.width]
			for x := range dst {
				dst[x] = palette[src[x]]
			}
		}
	case *image.Gray16:
		for y := range g.height {
			src := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			dst := g.pix[y*g.stride:][:g.width]
			for x := range dst {
				dst[x] = src[2*x] // the high byte
			}
		}
	case image.RGBA64Image:
		g.fill(func(x, y int) uint8 { return weigh64(img.RGBA64At(b.Min.X+x, b.Min.Y+y)) })
	default: // each color becomes garbage
		g.fill(func(x, y int) uint8 { return color.GrayModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.Gray).Y })
	}
	return g
}

// fill sets each pixel.
func (g gray) fill(at func(x, y int) uint8) {
	for y := range g.height {
		dst := g.pix[y*g.stride:][:g.width]
		for x := range dst {
			dst[x] = at(x, y)
		}
	}
}

// weigh64 is color.GrayModel, without an allocation for the color and the result.
func weigh64(c color.RGBA64) uint8 {
	return uint8((19595*uint32(c.R) + 38470*uint32(c.G) + 7471*uint32(c.B) + 1<<15) >> 24)
}

// weigh is color.GrayModel for opaque eight-bit colours, to the bit: the JFIF
// weights 0.299, 0.587 and 0.114 in 1/65536. The factor 257 makes 16 bits of 8.
func weigh(r, g, b uint32) uint8 {
	return uint8((257*(19595*r+38470*g+7471*b) + 1<<15) >> 24)
}
