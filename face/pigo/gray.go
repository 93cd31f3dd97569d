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
	default:
		at := func(x, y int) color.Color { return img.At(x, y) }
		if img, ok := img.(image.RGBA64Image); ok {
			at = func(x, y int) color.Color { return img.RGBA64At(x, y) }
		}
		for y := range g.height {
			dst := g.pix[y*g.stride:][:g.width]
			for x := range dst {
				dst[x] = color.GrayModel.Convert(at(b.Min.X+x, b.Min.Y+y)).(color.Gray).Y
			}
		}
	}
	return g
}

// weigh is color.GrayModel for opaque eight-bit colours, to the bit: the JFIF
// weights 0.299, 0.587 and 0.114 in 1/65536. The factor 257 makes 16 bits of 8.
func weigh(r, g, b uint32) uint8 {
	return uint8((257*(19595*r+38470*g+7471*b) + 1<<15) >> 24)
}
