package photo_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"math"
	"strings"
	"testing"

	"github.com/mienproject/mien/photo"
)

func TestOpenRaw(t *testing.T) {
	for _, c := range []struct {
		format photo.PixelFormat
		name   string
		w, h   int
		data   []byte
		want   [][]color.Color // rows
	}{
		{photo.Gray8, "gray8", 2, 2, []byte{1, 2, 3, 4}, [][]color.Color{
			{color.Gray{1}, color.Gray{2}},
			{color.Gray{3}, color.Gray{4}},
		}},
		{photo.RGB24, "rgb24", 1, 2, []byte{1, 2, 3, 4, 5, 6}, [][]color.Color{
			{color.RGBA{1, 2, 3, 255}},
			{color.RGBA{4, 5, 6, 255}},
		}},
		{photo.RGBA32, "rgba32", 2, 1, []byte{1, 2, 3, 4, 5, 6, 7, 8}, [][]color.Color{
			{color.NRGBA{1, 2, 3, 4}, color.NRGBA{5, 6, 7, 8}},
		}},
		{photo.I420, "i420", 3, 3, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 22, 23}, [][]color.Color{
			{color.YCbCr{1, 10, 20}, color.YCbCr{2, 10, 20}, color.YCbCr{3, 11, 21}},
			{color.YCbCr{4, 10, 20}, color.YCbCr{5, 10, 20}, color.YCbCr{6, 11, 21}},
			{color.YCbCr{7, 12, 22}, color.YCbCr{8, 12, 22}, color.YCbCr{9, 13, 23}},
		}},
		{photo.NV12, "nv12", 3, 3, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 11, 21, 12, 22, 13, 23}, [][]color.Color{
			{color.YCbCr{1, 10, 20}, color.YCbCr{2, 10, 20}, color.YCbCr{3, 11, 21}},
			{color.YCbCr{4, 10, 20}, color.YCbCr{5, 10, 20}, color.YCbCr{6, 11, 21}},
			{color.YCbCr{7, 12, 22}, color.YCbCr{8, 12, 22}, color.YCbCr{9, 13, 23}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.data)
			p, err := photo.OpenRaw(c.data, c.format, c.w, c.h, photo.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if p.Format != c.name || p.Width != c.w || p.Height != c.h || p.Orientation != 1 {
				t.Errorf("%+v", p)
			}
			img, err := p.Decode(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if img.Bounds() != image.Rect(0, 0, c.w, c.h) {
				t.Errorf("bounds %v", img.Bounds())
			}
			for y, row := range c.want {
				for x, want := range row {
					if got := img.At(x, y); got != want {
						t.Errorf("(%d, %d) is %v, want %v", x, y, got, want)
					}
				}
			}
			if !bytes.Equal(c.data, before) {
				t.Error("the data have changed")
			}
		})
	}
}

func TestOpenRawErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		format photo.PixelFormat
		w, h   int
		l      photo.Limits
		want   error
		text   string
	}{
		{"nothing", 0, photo.Gray8, 2, 2, photo.Limits{}, photo.ErrEmpty, ""},
		{"no width", 4, photo.Gray8, 0, 2, photo.Limits{}, photo.ErrPixels, "needs a width and a height, not 0×2"},
		{"negative height", 4, photo.Gray8, 2, -2, photo.Limits{}, photo.ErrPixels, "not 2×-2"},
		{"no format", 4, 0, 2, 2, photo.Limits{}, photo.ErrPixels, "unknown pixel format 0"},
		{"short", 11, photo.RGB24, 2, 2, photo.Limits{}, photo.ErrPixels, "rgb24 of 2×2 pixels is 12 bytes, not 11"},
		{"long", 17, photo.RGBA32, 2, 2, photo.Limits{}, photo.ErrPixels, "rgba32 of 2×2 pixels is 16 bytes, not 17"},
		{"odd", 13, photo.NV12, 3, 3, photo.Limits{}, photo.ErrPixels, "nv12 of 3×3 pixels is 17 bytes, not 13"},
		{"many", 4, photo.Gray8, 2, 2, photo.Limits{MaxPixels: 3}, photo.ErrTooManyPixels, "2×2 = 4 pixels, the limit is 3"},
		{"much", 1 << 20 * 3, photo.RGB24, 1 << 10, 1 << 10, photo.Limits{MaxBytes: 1 << 20}, photo.ErrTooManyPixels, "the limit is 1048576"},
		{"overflow", 4, photo.RGBA32, math.MaxInt32, math.MaxInt32, photo.Limits{}, photo.ErrTooManyPixels, "2147483647×2147483647"},
		{"overflow of int", 4, photo.I420, math.MaxInt, math.MaxInt, photo.Limits{MaxPixels: math.MaxInt64}, photo.ErrTooManyPixels, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := photo.OpenRaw(make([]byte, c.n), c.format, c.w, c.h, c.l)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q in it", err, c.want, c.text)
			}
		})
	}
}

func FuzzOpenRaw(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, 1, 2, 2)
	f.Add(make([]byte, 27), 2, 3, 3)
	f.Add(make([]byte, 36), 3, 3, 3)
	f.Add(make([]byte, 17), 4, 3, 3)
	f.Add(make([]byte, 17), 5, 3, 3)
	f.Add(make([]byte, 17), 5, math.MaxInt32, math.MaxInt32)
	f.Fuzz(func(t *testing.T, data []byte, format, w, h int) {
		p, err := photo.OpenRaw(data, photo.PixelFormat(format), w, h, photo.Limits{})
		if err != nil {
			if !errors.Is(err, photo.ErrPixels) && !errors.Is(err, photo.ErrTooManyPixels) && !errors.Is(err, photo.ErrEmpty) {
				t.Fatal(err)
			}
			return
		}
		if want := rawSize(photo.PixelFormat(format), w, h); len(data) != want {
			t.Fatalf("%d bytes taken for %d", len(data), want)
		}
		img, err := p.Decode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if img.Bounds() != image.Rect(0, 0, w, h) {
			t.Fatalf("bounds %v, want %d×%d", img.Bounds(), w, h)
		}
		img.At(w-1, h-1).RGBA() // the planes reach this far
	})
}

func rawSize(f photo.PixelFormat, w, h int) int {
	switch f {
	case photo.Gray8:
		return w * h
	case photo.RGB24:
		return 3 * w * h
	case photo.RGBA32:
		return 4 * w * h
	}
	return w*h + 2*((w+1)/2)*((h+1)/2)
}
