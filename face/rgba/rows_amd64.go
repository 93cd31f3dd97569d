//go:build amd64 && !purego

package rgba

import (
	"image"
	"image/color"

	"golang.org/x/sys/cpu"
)

// assembly reports whether rows are converted by the assembly. Tests change it.
var assembly = cpu.X86.HasAVX2

// drawYCbCr sets some rows of out to those of img, whose upper left corners are the same pixel.
// It returns false, and sets nothing, without the assembly, and for images that the kernels do
// not support.
func drawYCbCr(out *image.RGBA, rows image.Rectangle, img *image.YCbCr) bool {
	convert, perSample := convertAVX2, 1
	switch img.SubsampleRatio {
	case image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio440:
	case image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420:
		convert, perSample = convertHalvedAVX2, 2
	default:
		return false
	}
	// Left of 0, the pixels that share a sample begin at odd ones.
	if !assembly || img.Rect.Min.X < 0 {
		return false
	}
	for y := rows.Min.Y; y < rows.Max.Y; y++ {
		to := out.Pix[y*out.Stride:][:4*rows.Dx()]
		x, from := img.Rect.Min.X, img.Rect.Min.Y+y
		single := func() {
			c := img.COffset(x, from)
			r, g, b := color.YCbCrToRGB(img.Y[img.YOffset(x, from)], img.Cb[c], img.Cr[c])
			to[0], to[1], to[2], to[3] = r, g, b, 255
			to = to[4:]
			x++
		}
		if x%perSample != 0 {
			single()
		}
		if n := (img.Rect.Max.X - x) / 8; n > 0 {
			samples := 8 * n / perSample
			c := img.COffset(x, from)
			luma, cb, cr := img.Y[img.YOffset(x, from):][:8*n], img.Cb[c:][:samples], img.Cr[c:][:samples]
			convert(&to[0], &luma[0], &cb[0], &cr[0], n)
			to = to[32*n:]
			x += 8 * n
		}
		for x < img.Rect.Max.X {
			single()
		}
	}
	return true
}
