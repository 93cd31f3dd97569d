package service

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
)

// TestMemory checks that all that is allocated while an image is decoded and its faces
// are found, including garbage, stays below what the service reserves for it, and that
// the service does not reserve much more.
func TestMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's build allocates more: make memory runs it")
	}
	const width, height = 1600, 1200
	r := image.Rect(0, 0, width, height)
	palette := color.Palette{color.Black, color.White, color.Transparent}
	images := map[string][]byte{}
	add := func(name string, encode func(*bytes.Buffer) error) {
		var buf bytes.Buffer
		if err := encode(&buf); err != nil {
			t.Fatal(name, err)
		}
		images[name] = buf.Bytes()
	}
	for name, img := range map[string]image.Image{
		"gray": image.NewGray(r), "16-bit gray": image.NewGray16(r), "RGBA": image.NewNRGBA(r),
		"16-bit RGB": opaque64(r), "16-bit RGBA": image.NewNRGBA64(r), "palette": image.NewPaletted(r, palette),
	} {
		add("PNG, "+name, func(b *bytes.Buffer) error { return png.Encode(b, img) })
		add("TIFF, "+name, func(b *bytes.Buffer) error {
			return tiff.Encode(b, img, &tiff.Options{Compression: tiff.Deflate})
		})
	}
	add("BMP", func(b *bytes.Buffer) error { return bmp.Encode(b, image.NewRGBA(r)) })
	add("JPEG, gray", func(b *bytes.Buffer) error { return jpeg.Encode(b, image.NewGray(r), nil) })
	add("JPEG, color", func(b *bytes.Buffer) error { return jpeg.Encode(b, image.NewRGBA(r), nil) })
	add("GIF", func(b *bytes.Buffer) error { return gif.Encode(b, image.NewPaletted(r, palette), nil) })
	add("GIF, a frame on a canvas", func(b *bytes.Buffer) error {
		return gif.EncodeAll(b, &gif.GIF{
			Image: []*image.Paletted{image.NewPaletted(image.Rect(1, 1, width, height), palette)}, Delay: []int{0},
			Config: image.Config{ColorModel: palette, Width: width, Height: height},
		})
	})
	large, err := filepath.Glob("../photo/testdata/large/*")
	if err != nil || len(large) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, file := range large {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		images[filepath.Base(file)] = data
	}

	d, err := pigo.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig()
	config.Models = []Model{{Name: "pigo", Detector: d}}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	predict := func(data []byte) {
		t.Helper()
		if _, err := s.Predict(t.Context(), &inferencev1.Image{RawData: data}); err != nil {
			t.Fatal(err)
		}
	}
	predict(images["PNG, RGBA"]) // includes work that is done only once
	predict(images["PNG, RGBA"])
	for name, data := range images {
		p, err := photo.Open(data, photo.Limits{})
		if err != nil {
			t.Fatal(name, err)
		}
		needs := d.Input(p.Width, p.Height, face.Options{MinConfidence: d.Info().MinConfidence})
		want := memoryOf(p.Reduced(photo.Options{Gray: needs.Gray, Reduce: needs.Reduce}), needs)
		used := facetest.Allocated(func() { predict(data) })
		const slack = 192 << 10 // the answer, the detector's tables
		if used > want+slack || float64(want) > 1.8*float64(used) {
			t.Errorf("%s of %d×%d pixels: %d bytes allocated, %d counted", name, p.Width, p.Height, used, want)
		}
		t.Logf("%-28s %9d of %9d bytes (%.2f)", name, used, want, float64(want)/float64(used))
	}
}

// opaque64 returns an image of 16 bits that is stored without alpha.
func opaque64(r image.Rectangle) image.Image {
	img := image.NewRGBA64(r)
	for i := 6; i < len(img.Pix); i += 8 {
		img.Pix[i], img.Pix[i+1] = 0xff, 0xff
	}
	return img
}
