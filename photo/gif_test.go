package photo_test

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/photo"
)

// gifFile is a GIF of one frame.
type gifFile struct {
	screen     image.Point
	frame      image.Rectangle
	flags      byte // of the frame
	global     []byte
	local      []byte
	extensions []byte
	codeSize   byte
	blocks     []byte
}

const (
	gifWidth, gifHeight = 37, 23
	gifFrameAt          = 13 + 3*256 + 8
)

// noisyGIF has 256 colors, a transparent one, and random indices.
func noisyGIF() (f gifFile, indices []byte) {
	random := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 3*256+gifWidth*gifHeight)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	f = gifFile{
		screen: image.Pt(gifWidth, gifHeight), frame: image.Rect(0, 0, gifWidth, gifHeight),
		global: noise[:3*256], codeSize: 8, extensions: []byte{0x21, 0xf9, 4, 1, 0, 0, 7, 0},
	}
	indices = noise[3*256:]
	f.blocks = gifBlocks(indices, 8)
	return f, indices
}

func gifBlocks(indices []byte, codeSize int) (blocks []byte) {
	var buf bytes.Buffer
	w := lzw.NewWriter(&buf, lzw.LSB, codeSize)
	_, _ = w.Write(indices)
	_ = w.Close()
	for part := range slices.Chunk(buf.Bytes(), 255) {
		blocks = append(append(blocks, byte(len(part))), part...)
	}
	return append(blocks, 0)
}

func (f gifFile) bytes() []byte {
	table := func(colors []byte) (flags byte) {
		if len(colors) == 0 {
			return 0
		}
		for flags = 0x80; 3*2<<(flags&7) < len(colors); flags++ {
		}
		return flags
	}
	le := binary.LittleEndian
	out := []byte("GIF89a")
	out = le.AppendUint16(le.AppendUint16(out, uint16(f.screen.X)), uint16(f.screen.Y))
	out = append(append(out, table(f.global), 0, 0), f.global...)
	out = append(append(out, f.extensions...), 0x2c)
	for _, v := range []int{f.frame.Min.X, f.frame.Min.Y, f.frame.Dx(), f.frame.Dy()} {
		out = le.AppendUint16(out, uint16(v))
	}
	out = append(append(out, f.flags|table(f.local)), f.local...)
	return append(append(append(out, f.codeSize), f.blocks...), 0x3b)
}

func TestGIFAsInStandardLibrary(t *testing.T) {
	f, _ := noisyGIF()
	interlaced := f
	interlaced.flags = 0x40
	local := f
	local.local = bytes.Repeat([]byte{1, 2, 3}, 256)
	comment := f
	comment.extensions = append([]byte("\x21\xfe\x05Hello\x03all\x00\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"), f.extensions...)
	for name, f := range map[string]gifFile{"plain": f, "interlaced": interlaced, "local colors": local, "extensions": comment} {
		want, err := gif.Decode(bytes.NewReader(f.bytes()))
		if err != nil {
			t.Fatal(name, err)
		}
		if got := decode(t, f.bytes()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the image differs", name)
		}
	}
}

// TestMendedGIF checks files with defects that other decoders ignore.
func TestMendedGIF(t *testing.T) {
	f, indices := noisyGIF()
	want := decode(t, f.bytes())
	for name, mend := range map[string]func(*gifFile){
		"too much data":          func(f *gifFile) { f.blocks = gifBlocks(append(slices.Clone(indices), indices...), 8) },
		"a little too much data": func(f *gifFile) { f.blocks = gifBlocks(append(slices.Clone(indices), 1, 2), 8) },
		"blocks after the data":  func(f *gifFile) { f.blocks = append(f.blocks[:len(f.blocks)-1], "\x03abc\x04more\x00"...) },
		"no end of the blocks":   func(f *gifFile) { f.blocks = f.blocks[:len(f.blocks)-1] },
		"no end of the compression": func(f *gifFile) {
			last := 0 // block
			for at := 0; f.blocks[at] > 0; at += 1 + int(f.blocks[at]) {
				last = at
			}
			f.blocks[last]--
			f.blocks = append(f.blocks[:len(f.blocks)-2], 0)
		},
		"a screen of size zero":      func(f *gifFile) { f.screen = image.Point{} },
		"a screen without height":    func(f *gifFile) { f.screen.Y = 0 },
		"a smaller screen":           func(f *gifFile) { f.screen = image.Pt(gifWidth-3, gifHeight-20) },
		"a stray byte":               func(f *gifFile) { f.extensions = append(f.extensions, 0) },
		"stray bytes":                func(f *gifFile) { f.extensions = append([]byte{0, 1, 2, 0xff}, f.extensions...) },
		"an unknown extension":       func(f *gifFile) { f.extensions = append(f.extensions, "\x21\x77\x02ab\x01c\x00"...) },
		"a long control":             func(f *gifFile) { f.extensions = []byte("\x21\xf9\x05\x01\x00\x00\x07\x00\x00") },
		"an application of 10 bytes": func(f *gifFile) { f.extensions = append(f.extensions, "\x21\xff\x0aABCDEFGHIJ\x01c\x00"...) },
	} {
		broken := f
		broken.extensions, broken.blocks = slices.Clone(f.extensions), slices.Clone(f.blocks)
		mend(&broken)
		if got := decode(t, broken.bytes()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the image differs", name)
		}
	}

	// A frame that extends past the screen.
	moved := f
	moved.frame = f.frame.Add(image.Pt(5, 4))
	got := decode(t, moved.bytes())
	if got.Bounds() != image.Rect(0, 0, gifWidth+5, gifHeight+4) {
		t.Fatalf("bounds %v", got.Bounds())
	}
	if d := difference(got.(*image.RGBA).SubImage(moved.frame), want); d != 0 {
		t.Errorf("moved, it differs by %v", d)
	}
	if c := got.At(0, 0); c != (color.RGBA{}) {
		t.Errorf("%v outside of the frame", c)
	}

	// Indices without a color are black.
	few := f
	few.global, few.codeSize, few.extensions = []byte{10, 10, 10, 20, 20, 20}, 8, nil
	few.blocks = gifBlocks(bytes.Repeat([]byte{0, 1, 2, 255}, gifWidth*gifHeight/4+1), 8)
	if got := decode(t, few.bytes()); got.At(0, 0) != (color.RGBA{10, 10, 10, 255}) || got.At(2, 0) != (color.RGBA{A: 255}) || got.At(3, 0) != (color.RGBA{A: 255}) {
		t.Errorf("%v, %v, %v", got.At(0, 0), got.At(2, 0), got.At(3, 0))
	}
}

func TestBrokenGIF(t *testing.T) {
	f, indices := noisyGIF()
	for _, c := range []struct {
		name   string
		change func(*gifFile)
		cut    int
		text   string
	}{
		{"eleven rows", func(f *gifFile) { f.blocks = gifBlocks(indices[:11*gifWidth], 8) }, 0, "GIF: the file ends early: it contains 47 % of the image"},
		{"eleven rows and a half", func(f *gifFile) { f.blocks = gifBlocks(indices[:11*gifWidth+18], 8) }, 0, "47 % of the image"},
		{"a pixel too little", func(f *gifFile) { f.blocks = gifBlocks(indices[:len(indices)-1], 8) }, 0, "95 % of the image"},
		{"interlaced", func(f *gifFile) { f.flags, f.blocks = 0x40, gifBlocks(indices[:11*gifWidth], 8) }, 0, "47 % of the image"},
		{"cut", func(*gifFile) {}, gifFrameAt + 500, "% of the image"},
		{"cut in the frame's header", func(*gifFile) {}, gifFrameAt + 5, "GIF: the file ends early"},
		{"cut in the colors", func(*gifFile) {}, 100, "GIF: the file ends early"},
		{"no frame", func(f *gifFile) { f.extensions = []byte{0x3b} }, 0, "the file contains no image"},
		{"no colors", func(f *gifFile) { f.global = nil }, 0, "no color table"},
		{"a code size of 12", func(f *gifFile) { f.codeSize = 12 }, 0, "a code size of 12 bits"},
		{"bad codes", func(f *gifFile) { f.blocks = append(append([]byte{200}, bytes.Repeat([]byte{0xff}, 200)...), 0) }, 0, "GIF: invalid code"},
		{"no pixels", func(f *gifFile) { f.screen, f.frame = image.Point{}, image.Rectangle{} }, 0, "0×0 pixels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := f
			c.change(&broken)
			data := broken.bytes()
			if c.cut > 0 {
				data = data[:c.cut]
			}
			p, err := photo.Open(data, photo.Limits{})
			if err == nil {
				_, err = p.Decode(t.Context())
			}
			if !errors.Is(err, photo.ErrCorrupt) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %q, want %q with %q in it", err, photo.ErrCorrupt, c.text)
			}
		})
	}
}

// FuzzDecodeGIF compares with the standard library where that decodes the data.
func FuzzDecodeGIF(f *testing.F) {
	noisy, _ := noisyGIF()
	f.Add(noisy.bytes())
	noisy.flags, noisy.local = 0x40, []byte{1, 2, 3, 4, 5, 6}
	f.Add(noisy.bytes())
	f.Add(read(f, "picture.gif"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := gif.DecodeConfig(bytes.NewReader(data))
		if err != nil || cfg.Width*cfg.Height > 1<<16 || cfg.Width*cfg.Height == 0 || len(data) > 1<<16 {
			return
		}
		want, err := gif.Decode(bytes.NewReader(data))
		if err != nil || cfg.Width*cfg.Height > len(data)*1000 {
			return
		}
		got := decode(t, data)
		whole := image.NewRGBA(image.Rect(0, 0, cfg.Width, cfg.Height))
		for y := range cfg.Height {
			for x := range cfg.Width {
				if image.Pt(x, y).In(want.Bounds()) {
					whole.Set(x, y, want.At(x, y))
				}
			}
		}
		if d := difference(got, whole); d != 0 {
			t.Fatalf("differs by %v", d)
		}
	})
}
