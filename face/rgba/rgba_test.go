package rgba

import (
	"bytes"
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
	images := []image.Image{paletted, randomYCbCr(random, whole, image.YCbCrSubsampleRatio420)}
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

// randomYCbCr returns an image with random samples.
func randomYCbCr(random *rand.Rand, r image.Rectangle, ratio image.YCbCrSubsampleRatio) *image.YCbCr {
	m := image.NewYCbCr(r, ratio)
	for _, plane := range [][]uint8{m.Y, m.Cb, m.Cr} {
		for i := range plane {
			plane[i] = uint8(random.IntN(256))
		}
	}
	return m
}

// TestParts compares with image/draw, for parts of images in Y'CbCr of all ratios.
func TestParts(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var buffer []uint8
	for ratio := range image.YCbCrSubsampleRatio410 + 1 {
		for _, at := range []image.Point{{}, {1, 1}, {-3, -5}} {
			whole := randomYCbCr(random, image.Rect(0, 0, 45, 11).Add(at), ratio)
			for range 200 {
				corner := at.Add(image.Pt(random.IntN(45), random.IntN(11)))
				part := whole.SubImage(image.Rectangle{corner, corner.Add(image.Pt(1+random.IntN(45), 1+random.IntN(11)))})
				got, err := Of(t.Context(), part, &buffer)
				if err != nil {
					t.Fatal(err)
				}
				b := part.Bounds()
				want := image.NewRGBA(image.Rectangle{Max: b.Size()})
				draw.Draw(want, want.Rect, part, b.Min, draw.Src)
				for y := range b.Dy() {
					if got, want := got.Pix[y*got.Stride:][:4*b.Dx()], want.Pix[y*want.Stride:][:4*b.Dx()]; !bytes.Equal(got, want) {
						t.Fatalf("%v, %v, row %d: %v, want %v", ratio, b, y, got, want)
					}
				}
			}
		}
	}
}

// TestColors compares all colors that there are with those of image/color.
func TestColors(t *testing.T) {
	// A row for each Y and Cb, with all Cr. The second image has each sample twice.
	for _, ratio := range []image.YCbCrSubsampleRatio{image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422} {
		perSample := 1
		if ratio == image.YCbCrSubsampleRatio422 {
			perSample = 2
		}
		var buffer []uint8
		row := image.NewYCbCr(image.Rect(0, 0, 256*perSample, 256), ratio)
		for cb := range 256 {
			for cr := range 256 {
				row.Cb[cb*row.CStride+cr], row.Cr[cb*row.CStride+cr] = uint8(cb), uint8(cr)
			}
		}
		for y := range 256 {
			for i := range row.Y {
				row.Y[i] = uint8(y)
			}
			got, err := Of(t.Context(), row, &buffer)
			if err != nil {
				t.Fatal(err)
			}
			for cb := range 256 {
				for x := range row.Rect.Dx() {
					r, g, b := color.YCbCrToRGB(uint8(y), uint8(cb), uint8(x/perSample))
					if c := [4]uint8(got.Pix[cb*got.Stride+4*x:][:4]); c != [4]uint8{r, g, b, 255} {
						t.Fatalf("%v, Y %d, Cb %d, Cr %d: %v, want %d %d %d", ratio, y, cb, x/perSample, c, r, g, b)
					}
				}
			}
		}
	}
}

// BenchmarkYCbCr takes the same image with the assembly, and without. Few of its colors have to
// be limited, as in photographs: with any samples, image/draw takes several times as long.
func BenchmarkYCbCr(b *testing.B) {
	img := randomYCbCr(rand.New(rand.NewPCG(5, 6)), image.Rect(0, 0, 1024, 768), image.YCbCrSubsampleRatio420)
	for _, plane := range [][]uint8{img.Y, img.Cb, img.Cr} {
		for i, v := range plane {
			plane[i] = 96 + v/4
		}
	}
	var buffer []uint8
	for _, name := range []string{"assembly", "draw"} {
		b.Run(name, func(b *testing.B) {
			if name == "draw" {
				defer setAssembly(setAssembly(false))
			}
			for b.Loop() {
				if _, err := Of(b.Context(), img, &buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
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
