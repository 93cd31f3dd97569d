package luma

import (
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"testing"
)

// odd is an image of a type that this package does not know.
type odd struct{ image.Image }

// images returns images of noise of every type, whose bounds do not begin at the
// origin.
func pictures(size int) []image.Image {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	r := image.Rect(-3, 5, size-3, size+5)
	var palette color.Palette
	for range 256 {
		b := noise(make([]byte, 4))
		palette = append(palette, color.NRGBA{b[0], b[1], b[2], b[3]})
	}
	gray, gray16, paletted := image.NewGray(r), image.NewGray16(r), image.NewPaletted(r, palette)
	rgba, rgba64, nrgba, nrgba64, cmyk := image.NewRGBA(r), image.NewRGBA64(r), image.NewNRGBA(r), image.NewNRGBA64(r), image.NewCMYK(r)
	nycbcra := image.NewNYCbCrA(r, image.YCbCrSubsampleRatio420)
	for _, pix := range [][]byte{
		gray.Pix, gray16.Pix, paletted.Pix, rgba.Pix, rgba64.Pix, nrgba.Pix, nrgba64.Pix, cmyk.Pix, nycbcra.Y, nycbcra.Cb, nycbcra.Cr, nycbcra.A,
	} {
		noise(pix)
	}
	for i := 0; i < len(rgba.Pix); i += 4 { // no color exceeds its alpha
		for c := range 3 {
			rgba.Pix[i+c] = min(rgba.Pix[i+c], rgba.Pix[i+3])
		}
	}
	return []image.Image{gray, gray16, paletted, rgba, rgba64, nrgba, nrgba64, cmyk, nycbcra}
}

// TestLuminance checks that the luminance of every type of image is that of package color,
// except for the rounding of colors that are premultiplied with eight bits.
func TestLuminance(t *testing.T) {
	for _, img := range append(pictures(40), odd{pictures(40)[6]}) {
		g := Of(img, nil)
		b := img.Bounds()
		if g.Width != b.Dx() || g.Height != b.Dy() {
			t.Fatalf("%T: %d×%d", img, g.Width, g.Height)
		}
		off := 0
		for y := range g.Height {
			for x := range g.Width {
				got, want := g.Pix[y*g.Stride+x], color.GrayModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.Gray).Y
				if got != want {
					off++
				}
				if max(got, want)-min(got, want) > 1 {
					t.Fatalf("%T: (%d, %d) is %d, want %d", img, x, y, got, want)
				}
			}
		}
		if _, premultiplied := img.(*image.NRGBA); off > 0 && !premultiplied {
			t.Errorf("%T: %d pixels differ by one", img, off)
		}
	}
}

// TestLuminanceMemory checks that no type allocates for each pixel, but only for the
// luminance itself.
func TestLuminanceMemory(t *testing.T) {
	const size = 200
	for _, img := range pictures(size) {
		var room []uint8
		Of(img, &room)
		if n := testing.AllocsPerRun(3, func() { Of(img, &room) }); n > 512 { // two allocations for each color of a palette
			t.Errorf("%T: %.0f allocations for %d pixels", img, n, size*size)
		}
	}
}

func BenchmarkLuminance(b *testing.B) {
	for _, img := range pictures(1000) {
		b.Run(fmt.Sprintf("%T", img), func(b *testing.B) {
			b.ReportAllocs()
			var room []uint8
			for b.Loop() {
				Of(img, &room)
			}
		})
	}
}

// TestHalf checks that each pixel is the rounded mean of four, and that an odd last row
// or column is left out.
func TestHalf(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, size := range []image.Point{{0, 0}, {1, 7}, {2, 2}, {7, 5}, {8, 6}, {19, 4}, {33, 33}} {
		g := Plane{Width: size.X, Height: size.Y, Stride: size.X + 3, Pix: make([]uint8, (size.X+3)*size.Y)}
		for i := range g.Pix {
			g.Pix[i] = uint8(random.Uint32())
		}
		h := g.Half(make([]uint8, 0, 5))
		if h.Width != size.X/2 || h.Height != size.Y/2 || len(h.Pix) != h.Width*h.Height {
			t.Fatalf("half of %v is %d×%d in %d bytes", size, h.Width, h.Height, len(h.Pix))
		}
		for y := range h.Height {
			for x := range h.Width {
				at := func(dx, dy int) int { return int(g.Pix[(2*y+dy)*g.Stride+2*x+dx]) }
				if got, want := int(h.Pix[y*h.Stride+x]), (at(0, 0)+at(1, 0)+at(0, 1)+at(1, 1)+2)/4; got != want {
					t.Fatalf("%v: (%d, %d) is %d, want %d", size, x, y, got, want)
				}
			}
		}
	}
}
