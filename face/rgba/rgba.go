// Package rgba converts images for detectors whose networks take red, green and blue. What
// converts most photographs is assembly that tools/nnkernels generates, or image/draw, with the
// same colors.
package rgba

import (
	"context"
	"image"
	"image/color"
	"image/draw"

	"github.com/mienproject/mien/internal/freelist"
)

// band is the number of rows between two checks of the context.
const band = 64

// Of returns img as RGBA, with its upper left corner at the origin. Transparent pixels
// are black. The pixels of an [image.RGBA] are shared; everything else is converted. The
// result of a conversion is in buffer, which grows to fit. If ctx ends before the
// conversion, Of returns its error.
func Of(ctx context.Context, img image.Image, buffer *[]uint8) (*image.RGBA, error) {
	b := img.Bounds()
	r := image.Rect(0, 0, b.Dx(), b.Dy())
	if b.Empty() {
		return &image.RGBA{}, nil
	}
	if m, ok := img.(*image.RGBA); ok {
		return &image.RGBA{Pix: m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], Stride: m.Stride, Rect: r}, nil
	}
	n := 4 * b.Dx() * b.Dy()
	*buffer = freelist.Resize(*buffer, n)
	out := &image.RGBA{Pix: *buffer, Stride: 4 * b.Dx(), Rect: r}
	yCbCr, _ := img.(*image.YCbCr)
	// image/draw has fast paths for all types that decoders return, except for this one.
	paletted, _ := img.(*image.Paletted)
	var colors [256][4]uint8
	if paletted != nil {
		colors = paletteColors(paletted.Palette)
	}
	for y := 0; y < b.Dy(); y += band {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows := image.Rect(0, y, b.Dx(), min(y+band, b.Dy()))
		switch {
		case paletted != nil:
			drawPaletted(out, rows, paletted, &colors)
		case yCbCr == nil || !drawYCbCr(out, rows, yCbCr):
			draw.Draw(out, rows, img, b.Min.Add(rows.Min), draw.Src)
		}
	}
	return out, nil
}

func paletteColors(palette color.Palette) (colors [256][4]uint8) {
	for i, c := range palette[:min(len(palette), len(colors))] {
		r, g, b, a := c.RGBA()
		colors[i] = [4]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), uint8(a >> 8)}
	}
	return colors
}

// drawPaletted sets some rows of out.
func drawPaletted(out *image.RGBA, rows image.Rectangle, img *image.Paletted, colors *[256][4]uint8) {
	for y := rows.Min.Y; y < rows.Max.Y; y++ {
		from := img.Pix[img.PixOffset(img.Rect.Min.X, img.Rect.Min.Y+y):][:rows.Dx()]
		to := out.Pix[y*out.Stride:]
		for x, i := range from {
			copy(to[4*x:4*x+4], colors[i][:])
		}
	}
}
