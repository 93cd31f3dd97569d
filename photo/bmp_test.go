package photo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/image/bmp"

	"github.com/mienproject/mien/photo"
)

// bmpOf makes a BMP with a header of size bytes. between is what comes between the
// header and the pixels: masks or colors.
func bmpOf(size, w, h, bits, compression int, between, pixels []byte) []byte {
	le := binary.LittleEndian
	header := make([]byte, size)
	le.PutUint32(header, uint32(size))
	if size == 12 {
		le.PutUint16(header[4:], uint16(w))
		le.PutUint16(header[6:], uint16(h))
		le.PutUint16(header[8:], 1)
		le.PutUint16(header[10:], uint16(bits))
	} else {
		le.PutUint32(header[4:], uint32(w))
		le.PutUint32(header[8:], uint32(h))
		le.PutUint16(header[12:], 1)
		le.PutUint16(header[14:], uint16(bits))
		if size >= 40 {
			le.PutUint32(header[16:], uint32(compression))
		}
		if size >= 52 && compression == 3 {
			between = between[copy(header[40:min(size, 56)], between):]
		}
	}
	out := le.AppendUint32([]byte("BM"), uint32(14+size+len(between)+len(pixels)))
	out = le.AppendUint32(append(out, 0, 0, 0, 0), uint32(14+size+len(between)))
	return append(append(append(out, header...), between...), pixels...)
}

func long(values ...uint32) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// TestBMP checks the four pixels of 2×2 images of every kind.
func TestBMP(t *testing.T) {
	red, green, blue, white := color.RGBA{255, 0, 0, 255}, color.RGBA{0, 255, 0, 255}, color.RGBA{0, 0, 255, 255}, color.RGBA{255, 255, 255, 255}
	black := color.RGBA{0, 0, 0, 255}
	short := func(values ...uint16) (b []byte) {
		for _, v := range values {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b
	}
	four := []color.RGBA{red, green, blue, white}
	table := []byte{0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0}
	rgb555, rgb565 := short(31<<10, 31<<5, 31, 0x7fff), short(31<<11, 63<<5, 31, 0xffff)
	reserved := long(0x00ff0000, 0x0000ff00, 0x000000ff, 0x00ffffff)
	for _, c := range []struct {
		name           string
		size, w, h     int
		bits, compress int
		between        []byte
		pixels         []byte
		want           []color.RGBA // from the bottom: left, right, left, right
	}{
		{"1 bit", 40, 2, 2, 1, 0, table[:8], []byte{0x40, 0, 0, 0, 0x80, 0, 0, 0}, []color.RGBA{red, green, green, red}},
		{"2 bits", 40, 2, 2, 2, 0, table, []byte{0x10, 0, 0, 0, 0xb0, 0, 0, 0}, four},
		{"4 bits, few colors", 40, 2, 2, 4, 0, table, []byte{0x01, 0, 0, 0, 0x23, 0, 0, 0}, four},
		{"8 bits", 40, 2, 2, 8, 0, append(table, make([]byte, 4*252)...), []byte{0, 1, 0, 0, 2, 3, 0, 0}, four},
		{"8 bits, an index too high", 40, 2, 2, 8, 0, append(table, make([]byte, 4*252)...), []byte{0, 1, 0, 0, 2, 200, 0, 0}, []color.RGBA{red, green, blue, black}},
		{"8 bits of OS/2", 12, 2, 2, 8, 0, append([]byte{0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255, 255}, make([]byte, 3*252)...), []byte{0, 1, 0, 0, 2, 3, 0, 0}, four},
		{"24 bits", 40, 2, 2, 24, 0, nil, []byte{0, 0, 255, 0, 255, 0, 0, 0, 255, 0, 0, 255, 255, 255, 0, 0}, four},
		{"24 bits of OS/2", 12, 2, 2, 24, 0, nil, []byte{0, 0, 255, 0, 255, 0, 0, 0, 255, 0, 0, 255, 255, 255, 0, 0}, four},
		{"24 bits of OS/2 2", 64, 2, 2, 24, 0, nil, []byte{0, 0, 255, 0, 255, 0, 0, 0, 255, 0, 0, 255, 255, 255, 0, 0}, four},
		{"24 bits of OS/2 2, short", 16, 2, 2, 24, 0, nil, []byte{0, 0, 255, 0, 255, 0, 0, 0, 255, 0, 0, 255, 255, 255, 0, 0}, four},
		{"from the top", 40, 2, -2, 24, 0, nil, []byte{255, 0, 0, 255, 255, 255, 0, 0, 0, 0, 255, 0, 255, 0, 0, 0}, four},
		{"16 bits", 40, 2, 2, 16, 0, nil, rgb555, four},
		{"16 bits, version 5", 124, 2, 2, 16, 0, nil, rgb555, four},
		{"16 bits of 565", 40, 2, 2, 16, 3, long(0xf800, 0x7e0, 0x1f), rgb565, four},
		{"16 bits of 565, version 5", 124, 2, 2, 16, 3, long(0xf800, 0x7e0, 0x1f), rgb565, four},
		{"16 bits of 565, version 2", 52, 2, 2, 16, 3, long(0xf800, 0x7e0, 0x1f), rgb565, four},
		{"16 bits of 1555", 56, 2, 2, 16, 3, long(0x7c00, 0x3e0, 0x1f, 0x8000), short(0x8000|31<<10, 0x8000|31<<5, 0x8000|31, 0xffff), four},
		{"16 bits of 555 and alpha 0", 56, 2, 2, 16, 3, long(0x7c00, 0x3e0, 0x1f, 0x8000), rgb555, four},
		{"16 bits of 444", 124, 2, 2, 16, 3, long(0xf00, 0xf0, 0xf), short(0xf00, 0xf0, 0xf, 0xfff), four},
		{"32 bits", 40, 2, 2, 32, 0, nil, reserved, four},
		{"32 bits, version 4", 108, 2, 2, 32, 0, nil, reserved, four},
		{"32 bits, version 5", 124, 2, 2, 32, 0, nil, reserved, four},
		{"32 bits, version 5, with something in the fourth byte", 124, 2, 2, 32, 0, nil, long(0x11ff0000, 0x2200ff00, 0x330000ff, 0x44ffffff), four},
		{"32 bits of masks", 40, 2, 2, 32, 3, long(0xff, 0xff00, 0xff0000), long(0xff, 0xff00, 0xff0000, 0xffffff), four},
		{"32 bits of masks of 10 bits", 40, 2, 2, 32, 3, long(0x3ff00000, 0xffc00, 0x3ff), long(0x3ff00000, 0xffc00, 0x3ff, 0x3fffffff), four},
		{"32 bits of masks, alpha 0", 124, 2, 2, 32, 3, long(0xff0000, 0xff00, 0xff, 0xff000000), reserved, four},
		{"32 bits of masks, some alpha", 124, 2, 2, 32, 3, long(0xff0000, 0xff00, 0xff, 0xff000000), long(0xffff0000, 0xff00ff00, 0xff0000ff, 0x00ffffff), []color.RGBA{red, green, blue, {}}},
		{"32 bits of four masks after the header", 40, 2, 2, 32, 6, long(0xff0000, 0xff00, 0xff, 0xff000000), long(0xffff0000, 0xff00ff00, 0xff0000ff, 0x00ffffff), []color.RGBA{red, green, blue, {}}},
		{"runs of 8 bits", 40, 2, 2, 8, 1, append(table, make([]byte, 4*252)...), []byte{1, 0, 1, 1, 0, 0, 1, 2, 1, 3, 0, 1}, four},
		{"runs of 8 bits, as they are", 40, 4, 2, 8, 1, append(table, make([]byte, 4*252)...), []byte{0, 3, 0, 1, 2, 0, 1, 3, 0, 0, 0, 4, 3, 2, 1, 0, 0, 1}, []color.RGBA{red, green, white, blue}},
		{"runs of 8 bits that leave out pixels", 40, 2, 2, 8, 1, append(table, make([]byte, 4*252)...), []byte{0, 2, 1, 1, 1, 3, 0, 1}, []color.RGBA{red, red, red, white}},
		{"runs of 8 bits that end early", 40, 2, 2, 8, 1, append(table, make([]byte, 4*252)...), []byte{2, 1, 0, 1}, []color.RGBA{green, green, red, red}},
		{"runs of 8 bits that are too long", 40, 2, 2, 8, 1, append(table, make([]byte, 4*252)...), []byte{200, 1, 0, 0, 200, 2, 0, 1}, []color.RGBA{green, green, blue, blue}},
		{"runs of 4 bits", 40, 2, 2, 4, 2, append(table, make([]byte, 4*12)...), []byte{2, 0x01, 0, 0, 2, 0x23, 0, 1}, four},
		{"runs of 4 bits, as they are", 40, 4, 2, 4, 2, append(table, make([]byte, 4*12)...), []byte{0, 4, 0x01, 0x23, 0, 0, 0, 3, 0x23, 0x00, 0, 1}, four},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := bmpOf(c.size, c.w, c.h, c.bits, c.compress, c.between, c.pixels)
			for _, change := range []string{"", "reserved words", "no offset", "longer"} {
				switch change {
				case "reserved words":
					data = put16(data, 6, 0x1234, 8, 0xffff)
				case "no offset":
					if c.name == "4 bits, few colors" {
						data = put32(data, 46, 4)
					}
					data = put32(data, 10, 0)
				case "longer":
					data = append(data, 1, 2, 3)
				}
				img := decode(t, data)
				if img.Bounds().Dx() != c.w || img.Bounds().Dy() != 2 {
					t.Fatal(img.Bounds())
				}
				for i, want := range c.want {
					if got := color.RGBAModel.Convert(img.At(i%2, 1-i/2)); got != want {
						t.Errorf("%s: pixel %d is %v, want %v", change, i, got, want)
					}
				}
			}
		})
	}
}

func TestBMPErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"half", bmpOf(40, 2, 4, 24, 0, nil, make([]byte, 17)), photo.ErrCorrupt, "BMP: the file ends early: it contains 50 % of the image"},
		{"half, of runs", bmpOf(40, 20, 4, 8, 1, nil, []byte{20, 0, 0, 0, 20, 1, 0, 0, 5, 0}), photo.ErrCorrupt, "50 % of the image"},
		{"a run of which the last byte is missing", bmpOf(40, 20, 4, 8, 1, nil, []byte{20, 0, 0, 0, 0, 20, 1, 2}), photo.ErrCorrupt, "25 % of the image"},
		{"a header", bmpOf(40, 2, 4, 24, 0, nil, nil)[:30], photo.ErrCorrupt, "BMP: the file ends early"},
		{"no pixels", bmpOf(40, 0, 4, 24, 0, nil, nil), photo.ErrCorrupt, "0×4 pixels"},
		{"negative width", bmpOf(40, -2, 4, 24, 0, nil, nil), photo.ErrCorrupt, "-2×4 pixels"},
		{"three planes", put16(bmpOf(40, 2, 4, 24, 0, nil, make([]byte, 100)), 26, 3), photo.ErrCorrupt, "3 planes"},
		{"overlapping masks", bmpOf(40, 2, 2, 32, 3, long(0xff, 0xff, 0xff0000), make([]byte, 100)), photo.ErrCorrupt, "color masks"},
		{"masks with holes", bmpOf(40, 2, 2, 32, 3, long(0xf0f, 0xf000, 0xff0000), make([]byte, 100)), photo.ErrCorrupt, "color masks"},
		{"masks out of the pixel", bmpOf(40, 2, 2, 16, 3, long(0xf, 0xf0, 0xff0000), make([]byte, 100)), photo.ErrCorrupt, "color masks"},
		{"no masks", bmpOf(40, 2, 2, 16, 3, long(0, 0, 0), make([]byte, 100)), photo.ErrCorrupt, "no color masks"},
		{"JPEG", bmpOf(40, 2, 2, 0, 4, nil, make([]byte, 100)), photo.ErrUnsupportedFormat, "this BMP has an unsupported feature: compression 4 (JPEG)"},
		{"PNG", bmpOf(40, 2, 2, 0, 5, nil, make([]byte, 100)), photo.ErrUnsupportedFormat, "compression 5 (PNG)"},
		{"Huffman codes of OS/2", bmpOf(64, 2, 2, 1, 3, nil, make([]byte, 100)), photo.ErrUnsupportedFormat, "compression 3 of OS/2"},
		{"runs of 24 bits", bmpOf(40, 2, 2, 24, 1, nil, make([]byte, 100)), photo.ErrUnsupportedFormat, "compression 1 of 24 bits a pixel"},
		{"64 bits", bmpOf(40, 2, 2, 64, 0, nil, make([]byte, 100)), photo.ErrUnsupportedFormat, "compression 0 of 64 bits a pixel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := photo.Open(c.data, photo.Limits{})
			if err == nil {
				_, err = p.Decode(t.Context())
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %q, want %q with %q in it", err, c.want, c.text)
			}
		})
	}
}

// asBMP compares the result with that of golang.org/x/image, if that can decode data.
// It reads the fourth byte of a pixel as alpha.
func asBMP(data []byte) (compared bool, difference string) {
	cfg, err := bmp.DecodeConfig(bytes.NewReader(data))
	if err != nil || cfg.Width*cfg.Height == 0 || cfg.Width*cfg.Height > 1<<16 {
		return false, ""
	}
	want, err := bmp.Decode(bytes.NewReader(data))
	if err != nil {
		return false, ""
	}
	p, err := photo.Open(data, photo.Limits{})
	if err != nil {
		return true, err.Error()
	}
	got, err := p.Decode(context.Background())
	if err != nil {
		return true, err.Error()
	}
	for y := range cfg.Height {
		for x := range cfg.Width {
			a, b := got.At(x, y), want.At(x, y)
			if m, ok := want.(*image.NRGBA); ok {
				c := m.NRGBAAt(x, y)
				switch got := got.(type) {
				case *image.RGBA:
					a, b = got.RGBAAt(x, y), color.RGBA{c.R, c.G, c.B, 255}
				case *image.NRGBA:
					if a = got.NRGBAAt(x, y); c.A == 0 && got.NRGBAAt(x, y).A == 255 {
						c.A = 255 // opaque, because all alpha is 0
					}
					b = c
				}
			}
			if a != b {
				return true, "the image differs"
			}
		}
	}
	return true, ""
}

func TestBMPAsInLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	n := 0
	for _, bits := range []int{1, 2, 4, 8, 24, 32} {
		for _, size := range []int{40, 108, 124} {
			for w := 1; w < 40; w++ {
				pixels := make([]byte, (w*bits+31)/32*4*9)
				for i := range pixels {
					pixels[i] = byte(random.Uint32())
				}
				var colors []byte
				if bits <= 8 {
					colors = make([]byte, 4<<bits)
					for i := range colors {
						colors[i] = byte(random.Uint32())
					}
				}
				for _, h := range []int{9, -9} {
					compared, difference := asBMP(bmpOf(size, w, h, bits, 0, colors, pixels))
					if difference != "" {
						t.Errorf("%d bits, header of %d, %d×%d: %s", bits, size, w, h, difference)
					}
					if compared {
						n++
					}
				}
			}
		}
	}
	if want := 6 * 3 * 39 * 2; n != want {
		t.Errorf("%d files compared, want %d", n, want)
	}
}

func FuzzDecodeBMP(f *testing.F) {
	for _, file := range []string{"rgb.bmp", "paletted.bmp", "v5.bmp", "rle.bmp"} {
		f.Add(read(f, file))
	}
	f.Add(bmpOf(40, 2, 2, 16, 3, long(0xf800, 0x7e0, 0x1f), make([]byte, 8)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, difference := asBMP(data); difference != "" {
			t.Fatal(difference)
		}
	})
}
