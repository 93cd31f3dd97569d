package rgba

import (
	"context"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"testing"
)

// TestOf compares with the colors of the pixels, for each type of image that decoders
// return, and for parts of images.
func TestOf(t *testing.T) {
	whole := image.Rect(-3, 5, 38, 145)
	random := rand.New(rand.NewPCG(1, 2))
	paletted := image.NewPaletted(whole, color.Palette{color.NRGBA{200, 100, 50, 128}, color.White, color.Transparent})
	for i := range paletted.Pix {
		paletted.Pix[i] = uint8(random.IntN(len(paletted.Palette)))
	}
	yCbCr := image.NewYCbCr(whole, image.YCbCrSubsampleRatio420)
	for _, plane := range [][]uint8{yCbCr.Y, yCbCr.Cb, yCbCr.Cr} {
		for i := range plane {
			plane[i] = uint8(random.IntN(256))
		}
	}
	images := []image.Image{paletted, yCbCr}
	for _, img := range []draw.Image{
		image.NewRGBA(whole), image.NewNRGBA(whole), image.NewGray(whole), image.NewGray16(whole), image.NewCMYK(whole), image.NewNRGBA64(whole),
	} {
		for y := whole.Min.Y; y < whole.Max.Y; y++ {
			for x := whole.Min.X; x < whole.Max.X; x++ {
				img.Set(x, y, color.NRGBA64{
					R: uint16(random.IntN(1 << 16)), G: uint16(random.IntN(1 << 16)), B: uint16(random.IntN(1 << 16)), A: uint16(random.IntN(1 << 16)),
				})
			}
		}
		images = append(images, img)
	}
	buffer := make([]uint8, 7)
	for _, img := range images {
		part := img.(interface {
			SubImage(r image.Rectangle) image.Image
		}).SubImage(image.Rect(1, 7, 30, 141))
		for _, img := range []image.Image{img, part, struct{ image.Image }{img}} {
			got, err := Of(t.Context(), img, &buffer)
			if err != nil {
				t.Fatal(err)
			}
			b := img.Bounds()
			if got.Rect != image.Rect(0, 0, b.Dx(), b.Dy()) {
				t.Fatalf("%T: bounds %v, want the origin and the size of %v", img, got.Rect, b)
			}
			for y := range b.Dy() {
				for x := range b.Dx() {
					want := color.RGBAModel.Convert(img.At(b.Min.X+x, b.Min.Y+y))
					if got := got.RGBAAt(x, y); got != want {
						t.Fatalf("%T: %v at (%d, %d), want %v", img, got, x, y, want)
					}
				}
			}
		}
	}
	if got, err := Of(t.Context(), image.NewGray(image.Rectangle{}), &buffer); err != nil || !got.Rect.Empty() {
		t.Errorf("no pixels: %v, %v", got, err)
	}
}

// TestOfEnds checks that the conversion ends with its context.
func TestOfEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var buffer []uint8
	if _, err := Of(ctx, image.NewGray(image.Rect(0, 0, 100, 100)), &buffer); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
