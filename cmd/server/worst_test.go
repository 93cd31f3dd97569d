package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"io"
	"math"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/photo"
)

// worst has valid images of each format that take the most memory for their pixels, or
// have the most pixels for their bytes: small files of one color, of side × side
// pixels, where side is a multiple of 64.
var worst = []struct {
	name string
	make func(side int) []byte
}{
	{"PNG, gray of 1 bit", func(side int) []byte { return pngOf(side, 1, 0, side/8, false) }},
	{"PNG, RGBA of 8 bits", func(side int) []byte { return pngOf(side, 8, 6, 4*side, false) }},
	{"PNG, RGB of 16 bits", func(side int) []byte { return pngOf(side, 16, 2, 6*side, false) }},
	{"PNG, RGBA of 16 bits, interlaced", func(side int) []byte { return pngOf(side, 16, 6, 8*side, true) }},
	{"GIF, canvas larger than its frame", gifOf},
	{"BMP of 1 bit", bmpOf},
	{"TIFF, RGBA of 16 bits, deflate", func(side int) []byte { return tiffOf(side, 16, 4) }},
	{"TIFF, RGB of 8 bits, deflate", func(side int) []byte { return tiffOf(side, 8, 3) }},
	{"WebP, lossless", losslessOf},
	{"WebP, lossy", lossyOf},
	{"JPEG, three components without subsampling", func(side int) []byte { return jpegOf(side, 0xc0, 3, 1) }},
	{"JPEG, progressive", func(side int) []byte { return jpegOf(side, 0xc2, 3, 1) }},
	{"JPEG, progressive, CMYK, turned", func(side int) []byte { return jpegOf(side, 0xc2, 4, 6) }},
}

// memoryOf returns the memory that the service reserves for an image and a model.
func memoryOf(t *testing.T, model string, data []byte) int64 {
	t.Helper()
	p, err := photo.Open(data, photo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	detector, err := (&opener{config: &config{}}).open(foundModel{name: model})
	if err != nil {
		t.Fatal(err)
	}
	needs := detector.Input(p.Width, p.Height, face.Options{})
	looked := p.Reduced(photo.Options{Gray: needs.Gray, Reduce: needs.Reduce})
	return looked.MemoryBytes + needs.Memory(looked.Width, looked.Height)
}

// largestWithin returns the largest image, within a few percent, that takes at most
// budget bytes. It has at most 64 megapixels.
func largestWithin(t *testing.T, model string, encode func(side int) []byte, budget int64) []byte {
	t.Helper()
	// Except for a constant, memory grows with the pixels.
	const small, large = 1024, 2048
	constant := memoryOf(t, model, encode(small))
	perPixel := float64(memoryOf(t, model, encode(large))-constant) / (large*large - small*small)
	constant -= int64(perPixel * small * small)
	side := min(8000, 64*int(math.Sqrt(max(0, float64(budget-constant))/perPixel)/64))
	for ; ; side -= 64 {
		if data := encode(side); memoryOf(t, model, data) <= budget {
			return data
		}
	}
}

// TestWorst checks that the images are valid and have the expected size.
func TestWorst(t *testing.T) {
	for _, w := range worst {
		p, err := photo.Open(w.make(192), photo.Limits{})
		if err != nil {
			t.Errorf("%s: %v", w.name, err)
			continue
		}
		img, err := p.Decode(t.Context())
		if err != nil || img.Bounds() != image.Rect(0, 0, 192, 192) {
			t.Errorf("%s: %v", w.name, err)
			continue
		}
		// One color, except for the artifacts of a lossy codec.
		first := color.GrayModel.Convert(img.At(100, 100)).(color.Gray).Y
		for i := range 191 {
			if c := color.GrayModel.Convert(img.At(i, 190-i)).(color.Gray).Y; max(c, first)-min(c, first) > 2 {
				t.Errorf("%s: %v at %d and %v", w.name, c, i, first)
				break
			}
		}
	}
}

// deflated returns n bytes of zeros as zlib data.
func deflated(n int) []byte {
	var b bytes.Buffer
	w, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	_, _ = io.CopyN(w, zeros{}, int64(n))
	_ = w.Close()
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func pngOf(side, depth, colorType, rowBytes int, interlaced bool) []byte {
	size, pass := side*(1+rowBytes), byte(0)
	if interlaced {
		pass, size = 1, 0
		// Each 8 × 8 pixels have 1, 1, 2, 4, 8, 16 and 32 pixels in the seven passes,
		// whose rows start with a filter byte.
		for _, p := range [][2]int{{8, 8}, {8, 8}, {8, 4}, {4, 4}, {4, 2}, {2, 2}, {2, 1}} {
			size += side / p[0] * (1 + rowBytes/p[1])
		}
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(side)), uint32(side))
	header = append(header, byte(depth), byte(colorType), 0, 0, pass)
	out := []byte("\x89PNG\r\n\x1a\n")
	for _, c := range []struct {
		name string
		data []byte
	}{{"IHDR", header}, {"IDAT", deflated(size)}, {"IEND", nil}} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(c.data)))
		body := append([]byte(c.name), c.data...)
		out = binary.BigEndian.AppendUint32(append(out, body...), crc32.ChecksumIEEE(body))
	}
	return out
}

// gifOf returns a GIF whose frame leaves out the last row, so that it differs from the
// image.
func gifOf(side int) []byte {
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.Gray{}
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, &gif.GIF{
		Image: []*image.Paletted{image.NewPaletted(image.Rect(0, 0, side, side-1), palette)}, Delay: []int{0},
		Config: image.Config{ColorModel: palette, Width: side, Height: side},
	}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func bmpOf(side int) []byte {
	row := (side/8 + 3) / 4 * 4
	out := append([]byte("BM"), make([]byte, 52+8)...)
	for at, v := range map[int]int{10: 62, 14: 40, 18: side, 22: side, 26: 1 | 1<<16, 46: 2} {
		binary.LittleEndian.PutUint32(out[at:], uint32(v))
	}
	return append(out, make([]byte, row*side)...)
}

func tiffOf(side, bits, samples int) []byte {
	data := deflated(side * side * samples * bits / 8)
	tags := [][3]uint32{ // tag, count, value or offset
		{256, 1, uint32(side)},
		{257, 1, uint32(side)},
		{258, uint32(samples), 0},
		{259, 1, 8},
		{262, 1, 2},
		{273, 1, 0},
		{277, 1, uint32(samples)},
		{278, 1, uint32(side)},
		{279, 1, uint32(len(data))},
	}
	if samples == 4 {
		tags = append(tags, [3]uint32{338, 1, 2})
	}
	end := uint32(8 + 2 + 12*len(tags) + 4)
	tags[2][2], tags[5][2] = end, end+4*uint32(samples)
	out := append([]byte("II*\x00\x08\x00\x00\x00"), byte(len(tags)), 0)
	for _, tag := range tags {
		out = binary.LittleEndian.AppendUint16(out, uint16(tag[0]))
		out = binary.LittleEndian.AppendUint16(out, 4) // all are LONG
		out = binary.LittleEndian.AppendUint32(out, tag[1])
		out = binary.LittleEndian.AppendUint32(out, tag[2])
	}
	out = append(out, 0, 0, 0, 0)
	for range samples {
		out = binary.LittleEndian.AppendUint32(out, uint32(bits))
	}
	return append(out, data...)
}

func webpOf(chunk string, data []byte) []byte {
	if len(data)%2 == 1 {
		data = append(data, 0)
	}
	out := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(12+len(data)))
	out = binary.LittleEndian.AppendUint32(append(out, "WEBP"+chunk...), uint32(len(data)))
	return append(out, data...)
}

// losslessOf returns a lossless WebP whose prefix codes have one symbol each, so that
// pixels take no bits.
func losslessOf(side int) []byte {
	var out []byte
	var have uint
	bits := func(value, n uint) {
		for range n {
			if have%8 == 0 {
				out = append(out, 0)
			}
			out[len(out)-1] |= byte(value&1) << (have % 8)
			value >>= 1
			have++
		}
	}
	bits(0x2f, 8) // signature
	bits(uint(side-1), 14)
	bits(uint(side-1), 14)
	bits(1, 1) // alpha is used
	bits(0, 3) // version
	bits(0, 1) // no transform
	bits(0, 1) // no color cache
	bits(0, 1) // one group of prefix codes
	for range 5 {
		bits(1, 1) // a simple code
		bits(0, 1) // with one symbol
		bits(1, 1) // of 8 bits
		bits(7, 8)
	}
	// Bytes that nobody reads, so that there are not too many pixels for the bytes.
	return webpOf("VP8L", append(out, make([]byte, 2+side*side>>16)...))
}

// lossyOf returns a key frame of zero bytes, which decode to false for any probability.
// Each macroblock has the first of all modes, and no coefficients.
func lossyOf(side int) []byte {
	blocks := (side/16 + 1) * (side/16 + 1)
	first := blocks + 64 // 4 bits each, and some more
	tag := uint32(1<<4) | uint32(first)<<5
	data := []byte{byte(tag), byte(tag >> 8), byte(tag >> 16), 0x9d, 0x01, 0x2a}
	data = binary.LittleEndian.AppendUint16(data, uint16(side))
	data = binary.LittleEndian.AppendUint16(data, uint16(side))
	return webpOf("VP8 ", append(data, make([]byte, first+6*blocks+64)...))
}

// jpegOf returns a JPEG in which all DC differences are 0 and, if it is not
// progressive, there are no other coefficients. Each difference takes one bit, which is
// 0.
func jpegOf(side int, sof byte, components, orientation int) []byte {
	out := []byte("\xff\xd8")
	segment := func(marker byte, data ...byte) {
		out = binary.BigEndian.AppendUint16(append(out, 0xff, marker), uint16(2+len(data)))
		out = append(out, data...)
	}
	if orientation > 1 {
		segment(0xe1, append([]byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00"), byte(orientation), 0, 0, 0, 0, 0, 0)...)
	}
	if components == 4 {
		segment(0xee, []byte("Adobe\x00\x64\x00\x00\x00\x00\x00")...)
	}
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	frame := []byte{8, byte(side >> 8), byte(side), byte(side >> 8), byte(side), byte(components)}
	scan := []byte{byte(components)}
	for c := range components {
		frame = append(frame, byte(c+1), 0x11, 0)
		scan = append(scan, byte(c+1), 0)
	}
	segment(sof, frame...)
	code := append([]byte{1}, make([]byte, 16)...) // one code of one bit, for the symbol 0
	segment(0xc4, append([]byte{0x00}, code...)...)
	segment(0xc4, append([]byte{0x10}, code...)...)
	bits, last := side/8*side/8*components, byte(63)
	if sof == 0xc0 {
		bits *= 2
	} else {
		last = 0 // only DC
	}
	segment(0xda, append(scan, 0, last, 0)...)
	return append(append(out, make([]byte, bits/8)...), 0xff, 0xd9)
}
