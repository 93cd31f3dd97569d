package photo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image/png"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/photo"
)

type pngChunk struct {
	name    string
	payload []byte
}

func pngOf(chunks ...pngChunk) []byte {
	out := []byte("\x89PNG\r\n\x1a\n")
	for _, c := range chunks {
		out = binary.BigEndian.AppendUint32(out, uint32(len(c.payload)))
		from := len(out)
		out = append(append(out, c.name...), c.payload...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[from:]))
	}
	return out
}

// randomPNG returns the chunks of an image of random bytes and filters, and its rows
// before compression.
func randomPNG(w, h, depth, colorType int, interlaced bool) (chunks []pngChunk, rows []byte) {
	random := rand.New(rand.NewPCG(uint64(depth), uint64(colorType)))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	passes := [][4]int{{0, 0, 1, 1}}
	ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(w)), uint32(h))
	ihdr = append(ihdr, byte(depth), byte(colorType), 0, 0, 0)
	if interlaced {
		passes = [][4]int{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}
		ihdr[12] = 1
	}
	channels := map[int]int{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colorType]
	for _, p := range passes {
		width, height := (w-p[0]+p[2]-1)/p[2], (h-p[1]+p[3]-1)/p[3]
		if width <= 0 {
			continue
		}
		for range height {
			rows = append(append(rows, byte(random.IntN(5))), noise((width*depth*channels+7)/8)...)
		}
	}
	chunks = []pngChunk{{"IHDR", ihdr}}
	if colorType == 3 {
		chunks = append(chunks, pngChunk{"PLTE", noise(3 << depth)}, pngChunk{"tRNS", noise(1 << depth)})
	}
	return chunks, rows
}

// idats compresses rows, and divides the result into chunks of n bytes.
func idats(rows []byte, n int) (chunks []pngChunk) {
	for part := range slices.Chunk(deflated(rows), n) {
		chunks = append(chunks, pngChunk{"IDAT", part})
	}
	return append(chunks, pngChunk{"IEND", nil})
}

// TestPNGAsInStandardLibrary compares every color type with the standard library, pixel
// by pixel.
func TestPNGAsInStandardLibrary(t *testing.T) {
	n := 0
	for _, kind := range [][2]int{
		{1, 0},
		{2, 0},
		{4, 0},
		{8, 0},
		{16, 0},
		{8, 2},
		{16, 2},
		{1, 3},
		{2, 3},
		{4, 3},
		{8, 3},
		{8, 4},
		{16, 4},
		{8, 6},
		{16, 6},
	} {
		for _, interlaced := range []bool{false, true} {
			for _, size := range [][2]int{{37, 23}, {1, 1}, {3, 9}, {200, 150}} {
				chunks, rows := randomPNG(size[0], size[1], kind[0], kind[1], interlaced)
				if kind[1] == 0 || kind[1] == 2 {
					chunks = append(chunks, pngChunk{"tRNS", make([]byte, 2+kind[1]*2)})
				}
				for _, cut := range []int{1 << 20, 100} {
					data := pngOf(append(chunks, idats(rows, cut)...)...)
					want, err := png.Decode(bytes.NewReader(data))
					if err != nil {
						t.Fatal(err)
					}
					if got := decode(t, data); !reflect.DeepEqual(got, want) {
						t.Errorf("depth %d, color type %d, interlaced %v, %v: the image differs", kind[0], kind[1], interlaced, size)
					}
					n++
				}
			}
		}
	}
	if n != 240 {
		t.Errorf("%d images compared", n)
	}
}

// TestMendedPNG checks files with defects that libpng ignores.
func TestMendedPNG(t *testing.T) {
	for _, interlaced := range []bool{false, true} {
		for _, colorType := range []int{2, 3} {
			chunks, rows := randomPNG(37, 23, 8, colorType, interlaced)
			whole := pngOf(append(chunks, idats(rows, 100)...)...)
			want, err := png.Decode(bytes.NewReader(whole))
			if err != nil {
				t.Fatal(err)
			}
			wrong := func(data []byte, name string) []byte { // checksum
				at := bytes.Index(data, []byte(name))
				return flip(data, at+4+int(binary.BigEndian.Uint32(data[at-4:])))
			}
			with := func(extra ...pngChunk) []byte {
				all := append(append(slices.Clone(chunks[:1]), extra...), chunks[1:]...)
				return pngOf(append(all, idats(rows, 100)...)...)
			}
			more := func(extra []byte) []byte {
				return pngOf(append(slices.Clone(chunks), idats(append(slices.Clone(rows), extra...), 100)...)...)
			}
			for name, data := range map[string][]byte{
				"a wrong checksum of a text": wrong(with(pngChunk{"tEXt", []byte("Comment\x00Hello")}), "tEXt"),
				"a wrong checksum of a text after the pixels": wrong(append(whole[:len(whole)-12:len(whole)-12],
					pngOf(pngChunk{"tEXt", []byte("Comment\x00Hello")}, pngChunk{"IEND", nil})[8:]...), "tEXt"),
				"a wrong checksum of a profile":      wrong(with(pngChunk{"iCCP", []byte("sRGB\x00\x00xxx")}), "iCCP"),
				"a wrong checksum of its own name":   wrong(with(pngChunk{"prVt", bytes.Repeat([]byte{1}, 1000)}), "prVt"),
				"no end":                             whole[:len(whole)-12],
				"half an end":                        whole[:len(whole)-5],
				"a wrong checksum of the end":        flip(whole, len(whole)-1),
				"no checksum of the last pixels":     whole[:len(whole)-16],
				"no checksum in the last pixels":     whole[:len(whole)-20],
				"garbage after the end":              append(slices.Clone(whole), "GARBAGE"...),
				"too much data":                      more(make([]byte, 50)),
				"much too much data":                 more(make([]byte, 50_000)),
				"a second tRNS":                      pngOf(append(append(slices.Clone(chunks), pngChunk{"tRNS", []byte{1}}), idats(rows, 100)...)...),
				"an empty IDAT":                      pngOf(append(append(slices.Clone(chunks), pngChunk{"IDAT", nil}), idats(rows, 100)...)...),
				"trailing IDATs with wrong checksum": append(whole[:len(whole)-12:len(whole)-12], flip(pngOf(pngChunk{"IDAT", []byte("more")}), 8+12+3)[8:]...),
			} {
				if colorType == 2 && name == "a second tRNS" {
					continue // there it is the first one, and its length is wrong
				}
				if got := decode(t, data); !reflect.DeepEqual(got, want) {
					t.Errorf("color type %d, interlaced %v, %s: the image differs", colorType, interlaced, name)
				}
			}
		}
	}

	// A tRNS with a wrong checksum or length is ignored, and so is a PLTE that is not
	// needed.
	chunks, rows := randomPNG(37, 23, 8, 2, false)
	whole := pngOf(append(chunks, idats(rows, 1000)...)...)
	for name, data := range map[string][]byte{
		"wrong checksum": flip(insertChunk(whole, "tRNS", []byte{0, 1, 0, 2, 0, 3}), 33+8+6),
		"wrong length":   insertChunk(whole, "tRNS", []byte{0, 1}),
		"PLTE":           flip(insertChunk(whole, "PLTE", []byte{0, 1, 2}), 33+8+3),
		"wrong eXIf":     flip(withOrientation(whole, 6), 33+8+2),
	} {
		if got := decode(t, data); !reflect.DeepEqual(got, decode(t, whole)) {
			t.Errorf("%s: the image differs", name)
		}
	}
}

func TestBrokenPNG(t *testing.T) {
	chunks, rows := randomPNG(37, 23, 8, 2, false)
	pixels := deflated(rows)
	file := func(chunks []pngChunk, idat []byte) []byte {
		return pngOf(append(slices.Clone(chunks), pngChunk{"IDAT", idat}, pngChunk{"IEND", nil})...)
	}
	whole := file(chunks, pixels)
	const rowBytes = 1 + 3*37
	palette, paletteRows := randomPNG(37, 23, 8, 3, false)
	adam7, adam7Rows := randomPNG(37, 23, 8, 2, true)
	for _, c := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"eleven rows", file(chunks, deflated(rows[:11*rowBytes])), photo.ErrCorrupt, "PNG: the file ends early: it contains 47 % of the image"},
		{"eleven rows and a half", file(chunks, deflated(rows[:11*rowBytes+50])), photo.ErrCorrupt, "49 % of the image"},
		{"a byte too little", file(chunks, deflated(rows[:len(rows)-1])), photo.ErrCorrupt, "99 % of the image"},
		{"half the data", whole[:len(whole)/2], photo.ErrCorrupt, "% of the image"},
		{"a header", whole[:8+25], photo.ErrCorrupt, "less than 1 % of the image"},
		{"half a header", whole[:20], photo.ErrCorrupt, "PNG: the file ends early"},
		{"half an interlaced image", file(adam7, deflated(adam7Rows[:len(adam7Rows)/2])), photo.ErrCorrupt, "49 % of the image"},
		{"wrong checksum of the header", flip(whole, 8+8+13), photo.ErrCorrupt, "PNG: invalid checksum"},
		{"wrong checksum of the pixels", flip(whole, len(whole)-13), photo.ErrCorrupt, "PNG: the checksum of the pixels is wrong"},
		{"wrong checksum of the palette", flip(file(palette, deflated(paletteRows)), 33+8+3*256), photo.ErrCorrupt, "the palette's checksum is wrong"},
		{"no palette", file(palette[:1], deflated(paletteRows)), photo.ErrCorrupt, "the palette is missing before the pixels"},
		{"no zlib", file(chunks, rows), photo.ErrCorrupt, "PNG: the pixels are not valid zlib data"},
		{"bad deflate", file(chunks, append([]byte{0x78, 0x01}, bytes.Repeat([]byte{0xff}, 1000)...)), photo.ErrCorrupt, "PNG: "},
		{"a chunk between the pixels", pngOf(append(slices.Clone(chunks), pngChunk{"IDAT", pixels[:500]}, pngChunk{"tEXt", []byte("a\x00b")}, pngChunk{"IDAT", pixels[500:]})...), photo.ErrCorrupt, "% of the image"},
		{"unknown filter", file(chunks, deflated(bytes.Repeat([]byte{9}, len(rows)))), photo.ErrCorrupt, "PNG: bad filter type"},
		{"Apple's", pngOf(append([]pngChunk{{"CgBI", make([]byte, 4)}}, chunks...)...), photo.ErrUnsupportedFormat, "CgBI"},
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

// FuzzDecodePNG compares with the standard library where that decodes the data.
func FuzzDecodePNG(f *testing.F) {
	for _, colorType := range []int{2, 3} {
		for _, interlaced := range []bool{false, true} {
			chunks, rows := randomPNG(9, 7, 8, colorType, interlaced)
			f.Add(pngOf(append(chunks, idats(rows, 50)...)...))
		}
	}
	f.Add(read(f, "paletted.png"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const signature = "\x89PNG\r\n\x1a\n"
		if len(data) > 1<<16 || !bytes.HasPrefix(data, []byte(signature)) {
			return
		}
		cfg, err := png.DecodeConfig(bytes.NewReader(data))
		if err != nil || cfg.Width*cfg.Height > 1<<16 {
			return
		}
		want, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		p, err := photo.Open(data, photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Decode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p.Orientation == 1 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%T differs", got)
		}
	})
}
