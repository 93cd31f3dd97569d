package client

import (
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"testing"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
)

// TestPixels checks that the server sees the colors that At returns, with transparency
// on black.
func TestPixels(t *testing.T) {
	noise := rand.NewChaCha8([32]byte{})
	fill := func(pix []byte) { noise.Read(pix) }
	r := image.Rect(2, 4, 39, 27)
	gray, nrgba, rgba := image.NewGray(r), image.NewNRGBA(r), image.NewRGBA(r)
	c420, c422 := image.NewYCbCr(r, image.YCbCrSubsampleRatio420), image.NewYCbCr(r, image.YCbCrSubsampleRatio422)
	for _, pix := range [][]byte{gray.Pix, nrgba.Pix, c420.Y, c420.Cb, c420.Cr, c422.Y, c422.Cb, c422.Cr} {
		fill(pix)
	}
	draw.Draw(rgba, r, nrgba, r.Min, draw.Src) // colors premultiplied by alpha
	gray16, paletted := image.NewGray16(r), image.NewPaletted(r, color.Palette{color.Black, color.RGBA{200, 30, 10, 255}})
	fill(gray16.Pix)
	for i := range paletted.Pix {
		paletted.Pix[i] = byte(i % 2)
	}
	type part interface {
		image.Image
		SubImage(part image.Rectangle) image.Image
	}
	for name, c := range map[string]struct {
		img    part
		format inferencev1.PixelFormat
	}{
		"gray":     {gray, inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8},
		"nrgba":    {nrgba, inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32},
		"rgba":     {rgba, inferencev1.PixelFormat_PIXEL_FORMAT_RGB24},
		"4:2:0":    {c420, inferencev1.PixelFormat_PIXEL_FORMAT_I420},
		"4:2:2":    {c422, inferencev1.PixelFormat_PIXEL_FORMAT_RGB24},
		"gray16":   {gray16, inferencev1.PixelFormat_PIXEL_FORMAT_RGB24},
		"paletted": {paletted, inferencev1.PixelFormat_PIXEL_FORMAT_RGB24},
	} {
		t.Run(name, func(t *testing.T) {
			assertPixels(t, c.img, c.format)
			assertPixels(t, c.img.SubImage(image.Rect(4, 6, 21, 22)), c.format)
			odd := c.format
			if name == "4:2:0" {
				odd = inferencev1.PixelFormat_PIXEL_FORMAT_RGB24
			}
			assertPixels(t, c.img.SubImage(image.Rect(3, 7, 20, 21)), odd)
		})
	}
}

// TestNegativeCoordinates checks YCbCr images with negative coordinates, which package
// image rounds toward zero.
func TestNegativeCoordinates(t *testing.T) {
	m := image.NewYCbCr(image.Rect(-4, -2, 9, 7), image.YCbCrSubsampleRatio420)
	for i := range m.Cb {
		m.Cb[i], m.Cr[i] = byte(11*i), byte(7*i)
	}
	assertPixels(t, m, inferencev1.PixelFormat_PIXEL_FORMAT_RGB24)
}

func assertPixels(t *testing.T, img image.Image, format inferencev1.PixelFormat) {
	t.Helper()
	req, err := newRequest(img)
	if err != nil {
		t.Fatal(err)
	}
	if req.GetPixelFormat() != format {
		t.Fatalf("%v, want %v", req.GetPixelFormat(), format)
	}
	p, err := photo.OpenRaw(req.GetRawData(), photo.PixelFormat(format), int(req.GetWidth()), int(req.GetHeight()), photo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Decode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := img.Bounds()
	if got.Bounds().Size() != b.Size() {
		t.Fatalf("%v, want %v", got.Bounds().Size(), b.Size())
	}
	for y := range b.Dy() {
		for x := range b.Dx() {
			wr, wg, wb, _ := img.At(b.Min.X+x, b.Min.Y+y).RGBA()
			gr, gg, gb, _ := got.At(x, y).RGBA()
			if gr>>8 != wr>>8 || gg>>8 != wg>>8 || gb>>8 != wb>>8 {
				t.Fatalf("at %d,%d: %d,%d,%d, want %d,%d,%d", x, y, gr>>8, gg>>8, gb>>8, wr>>8, wg>>8, wb>>8)
			}
		}
	}
}

// TestLargeImage checks that an image which is over the server's limit as raw pixels is
// sent as a JPEG.
func TestLargeImage(t *testing.T) {
	req, err := newRequest(image.NewGray(image.Rect(0, 0, 4097, 4096)))
	if err != nil || req.GetPixelFormat() != inferencev1.PixelFormat_PIXEL_FORMAT_ENCODED || len(req.GetRawData()) > 1<<20 {
		t.Fatalf("%v, %v, %d bytes", err, req.GetPixelFormat(), len(req.GetRawData()))
	}
	p, err := photo.Open(req.GetRawData(), photo.Limits{})
	if err != nil || p.Format != "jpeg" || p.Width != 4097 || p.Height != 4096 {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"http://localhost:8080", "localhost:8080", "unix:///run/mien.sock", "unix:x", "https://a/b/", "[::1]:80", "://", "http://%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base, _, err := parseAddress(s)
		if err != nil {
			return
		}
		// Decoding and encoding a parsed message again gives the same message.
		if again, _, err := parseAddress(base); err != nil || again != base {
			t.Errorf("%q became %q, and that %q, %v", s, base, again, err)
		}
	})
}
