package photo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/mienproject/mien/photo"
)

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// tiffTags are the entries of a directory, by their type: numbers, bytes, and pairs of
// numbers.
type tiffTags struct {
	order     byteOrder
	numbers   map[uint16][]uint32
	bytes     map[uint16][]byte
	rationals map[uint16][]uint32
}

// tiffWith makes a TIFF with one directory after data, which starts with 8 bytes for
// the header.
func tiffWith(data []byte, tags tiffTags) []byte {
	o := tags.order
	copy(data, "MM\x00*")
	if o == byteOrder(binary.LittleEndian) {
		copy(data, "II*\x00")
	}
	entries := map[uint16][]byte{}
	add := func(tag, kind uint16, n int, values []byte) {
		e := o.AppendUint32(o.AppendUint16(o.AppendUint16(nil, tag), kind), uint32(n))
		if len(values) <= 4 {
			entries[tag] = append(append(e, values...), make([]byte, 4-len(values))...)
			return
		}
		entries[tag] = o.AppendUint32(e, uint32(len(data)))
		data = append(data, values...)
	}
	for tag, values := range tags.numbers {
		var b []byte
		for _, v := range values {
			b = o.AppendUint32(b, v)
		}
		add(tag, 4, len(values), b)
	}
	for tag, values := range tags.rationals {
		var b []byte
		for _, v := range values {
			b = o.AppendUint32(b, v)
		}
		add(tag, 5, len(values)/2, b)
	}
	for tag, values := range tags.bytes {
		add(tag, 7, len(values), values)
	}
	o.PutUint32(data[4:], uint32(len(data)))
	data = o.AppendUint16(data, uint16(len(entries)))
	for _, tag := range slices.Sorted(maps.Keys(entries)) {
		data = append(data, entries[tag]...)
	}
	return append(data, 0, 0, 0, 0)
}

// tiffKind is how a TIFF stores an image.
type tiffKind struct {
	bits, samples, photometric, compression int
	extra                                   []uint32
	separate, tiled, predict, big, reversed bool
	size                                    image.Point // 0 means tiffWidth × tiffHeight
}

const tiffWidth, tiffHeight = 37, 23

// tiffOf stores an image. at returns its samples, 0 to 1<<bits - 1.
func tiffOf(k tiffKind, at func(x, y, s int) uint16) []byte {
	width, height := tiffWidth, tiffHeight
	if k.size != (image.Point{}) {
		width, height = k.size.X, k.size.Y
	}
	order := byteOrder(binary.LittleEndian)
	if k.big {
		order = binary.BigEndian
	}
	blockWidth, blockHeight := width, 5
	if height > 1000 {
		blockHeight = height // one strip
	}
	if k.tiled {
		blockWidth, blockHeight = 16, 16
	}
	planes, each := 1, k.samples
	if k.separate {
		planes, each = k.samples, 1
	}
	tags := tiffTags{order: order, numbers: map[uint16][]uint32{
		256: {uint32(width)}, 257: {uint32(height)}, 258: slices.Repeat([]uint32{uint32(k.bits)}, k.samples),
		259: {uint32(k.compression)}, 262: {uint32(k.photometric)}, 277: {uint32(k.samples)},
	}}
	out := make([]byte, 8)
	var offsets, counts []uint32
	for plane := range planes {
		for y0 := 0; y0 < height; y0 += blockHeight {
			for x0 := 0; x0 < width; x0 += blockWidth {
				rows := blockHeight
				if !k.tiled {
					rows = min(rows, height-y0)
				}
				var block []byte
				for y := range rows {
					var row []uint16
					for x := range blockWidth {
						for s := range each {
							v := uint16(0)
							if x0+x < width && y0+y < height {
								v = at(x0+x, y0+y, plane+s)
							}
							row = append(row, v)
						}
					}
					if k.predict {
						for i := len(row) - 1; i >= each; i-- {
							row[i] -= row[i-each]
						}
					}
					block = append(block, packed(row, k.bits, order)...)
				}
				block = tiffCompressed(block, k.compression)
				if k.reversed {
					for i, b := range block {
						block[i] = b&1<<7 | b&2<<5 | b&4<<3 | b&8<<1 | b&16>>1 | b&32>>3 | b&64>>5 | b&128>>7
					}
				}
				offsets, counts = append(offsets, uint32(len(out))), append(counts, uint32(len(block)))
				out = append(out, block...)
			}
		}
	}
	tags.numbers[278], tags.numbers[273], tags.numbers[279] = []uint32{uint32(blockHeight)}, offsets, counts
	if k.tiled {
		delete(tags.numbers, 278)
		delete(tags.numbers, 273)
		delete(tags.numbers, 279)
		tags.numbers[322], tags.numbers[323], tags.numbers[324], tags.numbers[325] = []uint32{16}, []uint32{16}, offsets, counts
	}
	if k.separate {
		tags.numbers[284] = []uint32{2}
	}
	if k.predict {
		tags.numbers[317] = []uint32{2}
	}
	if k.reversed {
		tags.numbers[266] = []uint32{2}
	}
	if k.extra != nil {
		tags.numbers[338] = k.extra
	}
	if k.photometric == 3 {
		for i := range uint32(3 << k.bits) {
			tags.numbers[320] = append(tags.numbers[320], i*i%251<<8)
		}
	}
	return tiffWith(out, tags)
}

func packed(row []uint16, bits int, order byteOrder) (out []byte) {
	switch bits {
	case 16:
		for _, v := range row {
			out = order.AppendUint16(out, v)
		}
		return out
	case 8:
		for _, v := range row {
			out = append(out, byte(v))
		}
		return out
	}
	out = make([]byte, (len(row)*bits+7)/8)
	for i, v := range row {
		out[i*bits/8] |= byte(v) << (8 - bits - i*bits%8)
	}
	return out
}

func tiffCompressed(block []byte, compression int) (out []byte) {
	switch compression {
	case 8:
		return deflated(block)
	case 32773: // all literals, except for one run
		out = []byte{0x80}
		for part := range slices.Chunk(block, 100) {
			out = append(append(out, byte(len(part)-1)), part...)
		}
		return out
	case 5: // codes of nine bits: the table is cleared before it needs more
		bits, n := uint32(0), 0
		put := func(code uint32) {
			bits, n = bits<<9|code, n+9
			for ; n >= 8; n -= 8 {
				out = append(out, byte(bits>>(n-8)))
			}
		}
		for i, b := range block {
			if i%200 == 0 {
				put(256)
			}
			put(uint32(b))
		}
		put(257)
		put(0)
		return out
	}
	return block
}

// TestTIFF compares every way to store every kind of pixel with the definition.
func TestTIFF(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	noise := make([]uint16, tiffWidth*tiffHeight*6)
	for i := range noise {
		noise[i] = uint16(random.Uint32())
	}
	type pixel struct {
		bits, samples, photometric int
		extra                      []uint32
		kind                       image.Image
		color                      func(s func(i int) uint16) color.Color
	}
	half := func(s func(int) uint16, i int) uint8 { return uint8(s(i) >> 8) }
	byteOf := func(s func(int) uint16, i int) uint8 { return uint8(s(i)) }
	var kinds []pixel
	for _, bits := range []int{1, 2, 4, 8} {
		scale := uint8(0xff / (1<<bits - 1))
		kinds = append(
			kinds,
			pixel{bits, 1, 1, nil, &image.Gray{}, func(s func(int) uint16) color.Color { return color.Gray{byteOf(s, 0) * scale} }},
			pixel{bits, 1, 0, nil, &image.Gray{}, func(s func(int) uint16) color.Color { return color.Gray{255 - byteOf(s, 0)*scale} }},
			pixel{bits, 1, 3, nil, &image.Paletted{}, func(s func(int) uint16) color.Color {
				c := func(plane int) uint16 { i := uint32(plane<<bits) + uint32(s(0)); return uint16(i * i % 251 << 8) }
				return color.RGBA64{c(0), c(1), c(2), 0xffff}
			}},
		)
	}
	kinds = append(
		kinds,
		pixel{16, 1, 1, nil, &image.Gray16{}, func(s func(int) uint16) color.Color { return color.Gray16{s(0)} }},
		pixel{16, 1, 0, nil, &image.Gray16{}, func(s func(int) uint16) color.Color { return color.Gray16{0xffff - s(0)} }},
		pixel{8, 2, 1, []uint32{2}, &image.NRGBA{}, func(s func(int) uint16) color.Color {
			return color.NRGBA{byteOf(s, 0), byteOf(s, 0), byteOf(s, 0), byteOf(s, 1)}
		}},
		pixel{8, 2, 0, []uint32{1}, &image.RGBA{}, func(s func(int) uint16) color.Color {
			return color.RGBA{255 - byteOf(s, 0), 255 - byteOf(s, 0), 255 - byteOf(s, 0), byteOf(s, 1)}
		}},
		pixel{8, 2, 1, []uint32{0}, &image.Gray{}, func(s func(int) uint16) color.Color { return color.Gray{byteOf(s, 0)} }},
		pixel{16, 3, 1, []uint32{0, 2}, &image.NRGBA64{}, func(s func(int) uint16) color.Color {
			return color.NRGBA64{s(0), s(0), s(0), s(2)}
		}},
		pixel{8, 2, 3, []uint32{0}, &image.Paletted{}, func(s func(int) uint16) color.Color {
			c := func(plane int) uint16 { i := uint32(plane<<8) + uint32(s(0)); return uint16(i * i % 251 << 8) }
			return color.RGBA64{c(0), c(1), c(2), 0xffff}
		}},
		pixel{8, 3, 2, nil, &image.RGBA{}, func(s func(int) uint16) color.Color {
			return color.RGBA{byteOf(s, 0), byteOf(s, 1), byteOf(s, 2), 255}
		}},
		pixel{16, 3, 2, nil, &image.RGBA64{}, func(s func(int) uint16) color.Color {
			return color.RGBA64{s(0), s(1), s(2), 0xffff}
		}},
	)
	for _, extra := range [][]uint32{nil, {0}, {1}, {2}, {0, 2}, {2, 1}} {
		alpha := -1
		samples := 3 + max(1, len(extra))
		k8, k16 := image.Image(&image.RGBA{}), image.Image(&image.RGBA64{})
		for i, kind := range extra {
			if kind != 0 {
				if alpha = 3 + i; kind == 2 {
					k8, k16 = &image.NRGBA{}, &image.NRGBA64{}
				}
				break
			}
		}
		kinds = append(kinds, pixel{8, samples, 2, extra, k8, func(s func(int) uint16) color.Color {
			a := uint8(255)
			if alpha > 0 {
				a = byteOf(s, alpha)
			}
			if _, ok := k8.(*image.NRGBA); ok {
				return color.NRGBA{byteOf(s, 0), byteOf(s, 1), byteOf(s, 2), a}
			}
			return color.RGBA{byteOf(s, 0), byteOf(s, 1), byteOf(s, 2), a}
		}}, pixel{16, samples, 2, extra, k16, func(s func(int) uint16) color.Color {
			a := uint16(0xffff)
			if alpha > 0 {
				a = s(alpha)
			}
			if _, ok := k16.(*image.NRGBA64); ok {
				return color.NRGBA64{s(0), s(1), s(2), a}
			}
			return color.RGBA64{s(0), s(1), s(2), a}
		}})
	}
	for _, extra := range [][]uint32{nil, {1}} {
		kinds = append(kinds, pixel{8, 4 + len(extra), 5, extra, &image.CMYK{}, func(s func(int) uint16) color.Color {
			return color.CMYK{byteOf(s, 0), byteOf(s, 1), byteOf(s, 2), byteOf(s, 3)}
		}}, pixel{16, 4 + len(extra), 5, extra, &image.CMYK{}, func(s func(int) uint16) color.Color {
			return color.CMYK{half(s, 0), half(s, 1), half(s, 2), half(s, 3)}
		}})
	}

	n := 0
	for _, p := range kinds {
		at := func(x, y, s int) uint16 {
			return noise[(y*tiffWidth+x)*6+s] >> (16 - p.bits)
		}
		for _, way := range []tiffKind{
			{compression: 1},
			{compression: 1, big: true},
			{compression: 1, tiled: true},
			{compression: 1, separate: true},
			{compression: 8, separate: true, tiled: true},
			{compression: 8, predict: true},
			{compression: 8, predict: true, tiled: true, big: true},
			{compression: 8, predict: true, separate: true},
			{compression: 5},
			{compression: 5, predict: true, separate: true, tiled: true, big: true},
			{compression: 32773},
			{compression: 32773, separate: true, tiled: true},
			{compression: 1, reversed: true},
			{compression: 8, reversed: true, tiled: true},
		} {
			if p.bits < 8 && way.predict {
				continue
			}
			k := way
			k.bits, k.samples, k.photometric, k.extra = p.bits, p.samples, p.photometric, p.extra
			data := tiffOf(k, at)
			name := fmt.Sprintf("%+v", k)
			img := decode(t, data)
			if got, want := kind(img), kind(p.kind); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
				continue
			}
			n++
			for y := range tiffHeight {
				for x := range tiffWidth {
					got, want := img.At(x, y), p.color(func(i int) uint16 { return at(x, y, i) })
					if got != want {
						t.Fatalf("%s: (%d, %d) is %v, want %v", name, x, y, got, want)
					}
				}
			}
			// TestTIFFAsInLibrary compares with golang.org/x/image where that reads the
			// file.
			if want, err := tiff.Decode(bytes.NewReader(data)); err == nil && !way.separate && !way.reversed && !asLibrary(img, want) {
				t.Errorf("%s: not as golang.org/x/image has it", name)
			}
		}
	}
	if n < 300 {
		t.Errorf("only %d files were compared", n)
	}
}

func asLibrary(got, want image.Image) bool {
	if p, ok := got.(*image.Paletted); ok {
		w := want.(*image.Paletted)
		return bytes.Equal(p.Pix, w.Pix) && reflect.DeepEqual(p.Palette[:len(w.Palette)], w.Palette)
	}
	return reflect.DeepEqual(got, want)
}

func TestTIFFAsInLibrary(t *testing.T) {
	for _, file := range []string{
		"none.tif", "lzw.tif", "deflate.tif", "packbits.tif", "tiled.tif", "paletted.tif", "alpha16.tif", "g4.tif",
		"large/deflate.tif", "large/lzw.tif", "large/packbits.tif", "large/tiled.tif", "large/g4.tif",
	} {
		data := read(t, file)
		want, err := tiff.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(file, err)
		}
		if got := decode(t, data); !asLibrary(got, want) {
			t.Errorf("%s: the image differs", file)
		}
	}
}

// White runs of a fax are white with PhotometricInterpretation 0, which nearly all
// files have, and black with 1.
func TestTIFFFax(t *testing.T) {
	data := read(t, "g4.tif")
	usual := decode(t, data).(*image.Gray)
	inverted := decode(t, withTag(t, data, 262, func(photometric uint32) uint32 { return 1 - photometric })).(*image.Gray)
	for i, v := range usual.Pix {
		if inverted.Pix[i] != 255-v {
			t.Fatalf("pixel %d is %d, want %d", i, inverted.Pix[i], 255-v)
		}
	}
	reversed := bytes.Clone(data)
	d := newTestDirectory(reversed)
	offset, count := d.get(273), d.get(279)
	for i, b := range reversed[offset : offset+count] {
		reversed[int(offset)+i] = b&1<<7 | b&2<<5 | b&4<<3 | b&8<<1 | b&16>>1 | b&32>>3 | b&64>>5 | b&128>>7
	}
	reversed = withTag(t, reversed, 266, func(uint32) uint32 { return 2 })
	if !reflect.DeepEqual(decode(t, reversed), image.Image(usual)) {
		t.Error("with the lowest bit first, the image differs")
	}
}

// testDirectory has the little-endian entries of the first directory of a TIFF.
type testDirectory map[uint16][]byte

func newTestDirectory(data []byte) testDirectory {
	d := testDirectory{}
	at := binary.LittleEndian.Uint32(data[4:])
	for i := range int(binary.LittleEndian.Uint16(data[at:])) {
		e := data[int(at)+2+12*i:][:12]
		d[binary.LittleEndian.Uint16(e)] = e
	}
	return d
}

func (d testDirectory) get(tag uint16) uint32 {
	if binary.LittleEndian.Uint16(d[tag][2:]) == 3 {
		return uint32(binary.LittleEndian.Uint16(d[tag][8:]))
	}
	return binary.LittleEndian.Uint32(d[tag][8:])
}

func withTag(t *testing.T, data []byte, tag uint16, change func(uint32) uint32) []byte {
	t.Helper()
	data = bytes.Clone(data)
	d := newTestDirectory(data)
	if d[tag] == nil {
		t.Fatalf("no tag %d", tag)
	}
	v := change(d.get(tag))
	if binary.LittleEndian.Uint16(d[tag][2:]) == 3 {
		binary.LittleEndian.PutUint16(d[tag][8:], uint16(v))
	} else {
		binary.LittleEndian.PutUint32(d[tag][8:], v)
	}
	return data
}

// yCbCrTIFF is a TIFF of Y'CbCr with a gradient in each component.
type yCbCrTIFF struct {
	// subX and subY are the pixels that share a chroma sample. If subX is 0, the tag is
	// missing, which means 2×2.
	subX, subY  int
	tiled       bool
	compression int
	limited     bool // in the limited range of video
}

// sub returns the subsampling factors that the file means.
func (f yCbCrTIFF) sub() (x, y int) {
	if f.subX == 0 {
		return 2, 2
	}
	return f.subX, f.subY
}

// pixel returns the stored values of a pixel.
func (f yCbCrTIFF) pixel(x, y int) (luma, cb, cr byte) {
	subX, subY := f.sub()
	return byte(16 + 5*x%200 + y), byte(60 + x/subX*7%100), byte(70 + y/subY*9%100)
}

func (f yCbCrTIFF) encode() []byte {
	tags := tiffTags{order: binary.LittleEndian, numbers: map[uint16][]uint32{
		256: {tiffWidth}, 257: {tiffHeight}, 258: {8, 8, 8}, 259: {uint32(f.compression)}, 262: {6}, 277: {3},
	}}
	if f.subX > 0 {
		tags.numbers[530] = []uint32{uint32(f.subX), uint32(f.subY)}
	}
	if f.limited {
		tags.rationals = map[uint16][]uint32{532: {16, 1, 235, 1, 256, 2, 240, 1, 128, 1, 240, 1}}
	}
	width, height := tiffWidth, 8
	offsets, counts := uint16(273), uint16(279)
	if f.tiled {
		width, height = 16, 16
		offsets, counts = 324, 325
		tags.numbers[322], tags.numbers[323] = []uint32{16}, []uint32{16}
	} else {
		tags.numbers[278] = []uint32{8}
	}
	out := make([]byte, 8)
	for y := 0; y < tiffHeight; y += height {
		for x := 0; x < tiffWidth; x += width {
			block := image.Rect(x, y, x+width, y+height)
			if !f.tiled {
				block.Max.Y = min(block.Max.Y, tiffHeight)
			}
			data := tiffCompressed(f.units(block), f.compression)
			tags.numbers[offsets] = append(tags.numbers[offsets], uint32(len(out)))
			tags.numbers[counts] = append(tags.numbers[counts], uint32(len(data)))
			out = append(out, data...)
		}
	}
	return tiffWith(out, tags)
}

// units returns the samples of a strip or tile.
func (f yCbCrTIFF) units(block image.Rectangle) (data []byte) {
	subX, subY := f.sub()
	for y := block.Min.Y; y < block.Max.Y; y += subY {
		for x := block.Min.X; x < block.Max.X; x += subX {
			for i := range subX * subY {
				luma, _, _ := f.pixel(x+i%subX, y+i/subX)
				data = append(data, luma)
			}
			_, cb, cr := f.pixel(x, y)
			data = append(data, cb, cr)
		}
	}
	return data
}

// want returns the color of a pixel.
func (f yCbCrTIFF) want(x, y int) color.RGBA {
	luma, cb, cr := f.pixel(x, y)
	if f.limited {
		full := func(v byte, black, white, low, span float64) byte {
			return byte(min(max((float64(v)-black)*span/(white-black)+low+0.5, 0), 255))
		}
		luma, cb, cr = full(luma, 16, 235, 0, 255), full(cb, 128, 240, 128, 127), full(cr, 128, 240, 128, 127)
	}
	r, g, b := color.YCbCrToRGB(luma, cb, cr)
	return color.RGBA{r, g, b, 255}
}

// TestTIFFYCbCr compares subsampled Y'CbCr with the conversion of each pixel.
func TestTIFFYCbCr(t *testing.T) {
	var files []yCbCrTIFF
	for _, sub := range [][2]int{{1, 1}, {2, 1}, {2, 2}, {1, 2}, {4, 1}, {4, 2}, {4, 4}, {0, 0}} {
		for i := range 8 {
			files = append(files, yCbCrTIFF{sub[0], sub[1], i&1 != 0, []int{1, 8}[i>>1&1], i&4 != 0})
		}
	}
	for _, f := range files {
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			img := decode(t, f.encode())
			for y := range tiffHeight {
				for x := range tiffWidth {
					if got, want := img.At(x, y), f.want(x, y); got != want {
						t.Fatalf("(%d, %d) is %v, want %v", x, y, got, want)
					}
				}
			}
		})
	}
}

// TestTIFFJPEG decodes JPEGs in strips and tiles, with the tables in a tag of their
// own.
func TestTIFFJPEG(t *testing.T) {
	picture := image.NewRGBA(image.Rect(0, 0, 48, 40))
	for y := range 40 {
		for x := range 48 {
			picture.Set(x, y, color.RGBA{uint8(5 * x), uint8(6 * y), uint8(2 * (x + y)), 255})
		}
	}
	gray := image.NewGray(picture.Rect)
	for y := range 40 {
		for x := range 48 {
			gray.Set(x, y, picture.At(x, y))
		}
	}
	store := func(photometric, samples uint32, tiled, separate, apart bool, part func(plane int, r image.Rectangle) image.Image) []byte {
		tags := tiffTags{order: binary.LittleEndian, numbers: map[uint16][]uint32{
			256: {48}, 257: {40}, 258: slices.Repeat([]uint32{8}, int(samples)), 259: {7}, 262: {photometric}, 277: {samples},
		}, bytes: map[uint16][]byte{}}
		width, height, offsets, counts := 48, 16, uint16(273), uint16(279)
		if tiled {
			width, height, offsets, counts = 32, 32, 324, 325
			tags.numbers[322], tags.numbers[323] = []uint32{32}, []uint32{32}
		} else {
			tags.numbers[278] = []uint32{16}
		}
		planes := 1
		if separate {
			planes = int(samples)
			tags.numbers[284] = []uint32{2}
		}
		out := make([]byte, 8)
		for plane := range planes {
			for y := 0; y < 40; y += height {
				for x := 0; x < 48; x += width {
					r := image.Rect(x, y, x+width, y+height)
					if !tiled {
						r = r.Intersect(picture.Rect)
					}
					var buf bytes.Buffer
					if err := jpeg.Encode(&buf, part(plane, r), &jpeg.Options{Quality: 98}); err != nil {
						t.Fatal(err)
					}
					block := buf.Bytes()
					if apart {
						var tables []byte
						tables, block = jpegTables(block)
						tags.bytes[347] = tables
					}
					tags.numbers[offsets] = append(tags.numbers[offsets], uint32(len(out)))
					tags.numbers[counts] = append(tags.numbers[counts], uint32(len(block)))
					out = append(out, block...)
				}
			}
		}
		return tiffWith(out, tags)
	}
	channel := func(plane int, r image.Rectangle) image.Image {
		out := image.NewGray(r)
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				c := picture.RGBAAt(min(x, 47), min(y, 39))
				out.SetGray(x, y, color.Gray{[]uint8{c.R, c.G, c.B}[plane]})
			}
		}
		return out
	}
	whole := func(_ int, r image.Rectangle) image.Image {
		out := image.NewRGBA(r)
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				out.Set(x, y, picture.At(min(x, 47), min(y, 39)))
			}
		}
		return out
	}
	grays := func(_ int, r image.Rectangle) image.Image {
		out := image.NewGray(r)
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				out.Set(x, y, gray.At(min(x, 47), min(y, 39)))
			}
		}
		return out
	}
	for _, tiled := range []bool{false, true} {
		for _, apart := range []bool{false, true} {
			for _, c := range []struct {
				name                 string
				photometric, samples uint32
				separate             bool
				part                 func(int, image.Rectangle) image.Image
				want                 image.Image
			}{
				{"Y'CbCr", 6, 3, false, whole, picture},
				{"planes", 2, 3, true, channel, picture},
				{"gray", 1, 1, false, grays, gray},
			} {
				name := fmt.Sprintf("%s, tiled %v, tables apart %v", c.name, tiled, apart)
				img := decode(t, store(c.photometric, c.samples, tiled, c.separate, apart, c.part))
				if reflect.TypeOf(img) != reflect.TypeOf(c.want) {
					t.Errorf("%s: %T", name, img)
				}
				if d := difference(img, c.want); d > 4 {
					t.Errorf("%s: differs by %.1f", name, d)
				}
			}
		}
	}
	// Components that are RGB without a conversion: the JPEG encoder took them for Y',
	// Cb and Cr.
	raw := store(2, 3, false, false, true, whole)
	img := decode(t, raw).(*image.RGBA)
	y, cb, cr := color.RGBToYCbCr(picture.RGBAAt(20, 20).R, picture.RGBAAt(20, 20).G, picture.RGBAAt(20, 20).B)
	if c := img.RGBAAt(20, 20); max(diff(c.R, y), diff(c.G, cb), diff(c.B, cr)) > 6 {
		t.Errorf("%v, want about %d, %d, %d", c, y, cb, cr)
	}

	four := store(5, 4, false, true, true, func(plane int, r image.Rectangle) image.Image { return channel(plane%3, r) })
	if img, ok := decode(t, four).(*image.CMYK); !ok || diff(img.CMYKAt(20, 20).C, picture.RGBAAt(20, 20).R) > 6 {
		t.Errorf("%T", img)
	}
}

func diff(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }

// jpegTables removes the tables from a JPEG.
func jpegTables(data []byte) (tables, rest []byte) {
	tables, rest = []byte{0xff, 0xd8}, []byte{0xff, 0xd8}
	for at := 2; ; {
		size := 2 + int(binary.BigEndian.Uint16(data[at+2:]))
		segment := data[at : at+size]
		switch data[at+1] {
		case 0xdb, 0xc4:
			tables = append(tables, segment...)
		case 0xda:
			return append(tables, 0xff, 0xd9), append(rest, data[at:]...)
		default:
			rest = append(rest, segment...)
		}
		at += size
	}
}

func TestTIFFErrors(t *testing.T) {
	k := tiffKind{bits: 8, samples: 3, photometric: 2, compression: 1}
	at := func(x, y, s int) uint16 { return uint16(x*y + s) }
	plain := tiffOf(k, at)
	deflate, tiled, separate, lzw, packbits := k, k, k, k, k
	deflate.compression, lzw.compression, packbits.compression = 8, 5, 32773
	tiled.tiled, separate.separate = true, true
	change := func(data []byte, tag uint16, v uint32) []byte {
		return withTag(t, data, tag, func(uint32) uint32 { return v })
	}
	tagged := func(tag uint16, values ...uint32) []byte {
		return tiffFileWith(map[uint16][]uint32{256: {2}, 257: {2}, 258: {8}, 259: {1}, 262: {1}, tag: values})
	}
	// The file without the second half of the third strip and what follows. The
	// directory comes first in such files.
	truncated := func(k tiffKind, rows float64) []byte {
		data := tiffOf(k, at)
		first := uint32(len(data))
		data = append(data, data...)
		d := newTestDirectory(data)
		offsets := d[273]
		if k.tiled {
			offsets = d[324]
		}
		list := data[binary.LittleEndian.Uint32(offsets[8:]):]
		n := int(binary.LittleEndian.Uint32(offsets[4:]))
		for i := range n {
			binary.LittleEndian.PutUint32(list[4*i:], binary.LittleEndian.Uint32(list[4*i:])+first)
		}
		end := binary.LittleEndian.Uint32(list[4*(n-1):])
		return data[:first+uint32(float64(end-first)*rows)]
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"a tenth missing", truncated(k, .9), photo.ErrCorrupt, "TIFF: the file ends early: it contains 78 % of the image"},
		{"a tenth missing of deflate", truncated(deflate, .9), photo.ErrCorrupt, "% of the image"},
		{"a tenth missing of LZW", truncated(lzw, .9), photo.ErrCorrupt, "78 % of the image"},
		{"a tenth missing of PackBits", truncated(packbits, .9), photo.ErrCorrupt, "78 % of the image"},
		{"a tenth missing of tiles", truncated(tiled, .9), photo.ErrCorrupt, "74 % of the image"},
		{"a tenth missing of planes", truncated(separate, .9), photo.ErrCorrupt, "86 % of the image"},
		{"no directory", plain[:len(plain)/2], photo.ErrCorrupt, "TIFF: the file ends early"},
		{"a header", plain[:6], photo.ErrCorrupt, "TIFF: the file ends early"},
		{"no samples", change(plain, 277, 2), photo.ErrCorrupt, "2 samples per pixel, but PhotometricInterpretation 2 needs 3"},
		{"BitsPerSample of 0", change(change(tagged(258, 0), 258, 0), 262, 1), photo.ErrCorrupt, "BitsPerSample of 0"},
		{"12 bits", tagged(258, 12), photo.ErrUnsupportedFormat, "this TIFF has an unsupported feature: BitsPerSample of 12"},
		{"32 bits", tagged(258, 32), photo.ErrUnsupportedFormat, "BitsPerSample of 32"},
		{"5, 6 and 5 bits", tagged(258, 5, 6, 5), photo.ErrUnsupportedFormat, "BitsPerSample of 5 and 6"},
		{"floating point", tagged(339, 3), photo.ErrUnsupportedFormat, "SampleFormat 3 (floating point"},
		{"signed", tagged(339, 2), photo.ErrUnsupportedFormat, "SampleFormat 2 (signed integers)"},
		{"Zstandard", tagged(259, 50000), photo.ErrUnsupportedFormat, "compression 50000 (Zstandard)"},
		{"old JPEG", tagged(259, 6), photo.ErrUnsupportedFormat, "compression 6 (JPEG as in TIFF 6.0)"},
		{"unknown compression", tagged(259, 12345), photo.ErrUnsupportedFormat, "compression 12345"},
		{"L*a*b*", tagged(262, 8), photo.ErrUnsupportedFormat, "PhotometricInterpretation 8 (CIE L*a*b*)"},
		{"no palette", tagged(262, 3), photo.ErrCorrupt, "a ColorMap of 0 values"},
		{"PlanarConfiguration 3", tagged(284, 3), photo.ErrCorrupt, "PlanarConfiguration 3"},
		{"predictor of floats", change(tiffOf(tiffKind{bits: 8, samples: 3, photometric: 2, compression: 8, predict: true}, at), 317, 3), photo.ErrUnsupportedFormat, "Predictor 3"},
		{"Y'CbCr in planes", change(tiffOf(separate, at), 262, 6), photo.ErrUnsupportedFormat, "Y'CbCr of 3 samples, in separate planes"},
		{"fax of eight bits", change(plain, 259, 4), photo.ErrCorrupt, "fax compression of 3 samples of 8 bits"},
		{"a JPEG that is none", change(plain, 259, 7), photo.ErrCorrupt, "TIFF: "},
		{"bad deflate", change(plain, 259, 8), photo.ErrCorrupt, "TIFF: "},
		{"missing strips", change(plain, 278, 1), photo.ErrCorrupt, "5 offsets for 23 strips or tiles"},
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

func tiffFileWith(numbers map[uint16][]uint32) []byte {
	numbers[273], numbers[279] = []uint32{8}, []uint32{4}
	return tiffWith(append(make([]byte, 8), 1, 2, 3, 4), tiffTags{order: binary.LittleEndian, numbers: numbers})
}

func TestCameraRaw(t *testing.T) {
	preview := map[uint16][]uint32{256: {2}, 257: {2}, 258: {8}, 262: {1}}
	with := func(tag uint16, values ...uint32) map[uint16][]uint32 {
		tags := maps.Clone(preview)
		tags[tag] = values
		return tags
	}
	nef := with(330, 8)
	nef[254] = []uint32{1}
	for name, c := range map[string]struct {
		data []byte
		text string
	}{
		"DNG":                   {tiffFileWith(with(50706, 0x01040000)), "camera raw (DNG) is not supported; send JPEG"},
		"a preview and SubIFDs": {tiffFileWith(nef), "camera raw is not supported"},
		"a sensor's pixels":     {tiffFileWith(with(262, 32803)), "camera raw is not supported"},
		"linear raw":            {tiffFileWith(with(262, 34892)), "camera raw is not supported"},
		"CR2":                   {append([]byte("II*\x00\x10\x00\x00\x00CR\x02\x00\x00\x00\x00\x00"), tiffFileWith(preview)[:0]...), "camera raw (Canon's CR2)"},
	} {
		data := c.data
		if name == "CR2" {
			data = append(data, make([]byte, 100)...)
		}
		_, err := photo.Open(data, photo.Limits{})
		if !errors.Is(err, photo.ErrUnsupportedFormat) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %q", name, err, c.text)
		}
	}
	// An image with smaller copies of itself is not raw.
	pyramid := with(330, 8)
	pyramid[254] = []uint32{0}
	decode(t, tiffFileWith(pyramid))
	decode(t, tiffFileWith(with(254, 1)))
}

// FuzzDecodeTIFF compares with golang.org/x/image where that decodes the data
// correctly.
func FuzzDecodeTIFF(f *testing.F) {
	for _, file := range []string{"none.tif", "lzw.tif", "deflate.tif", "packbits.tif", "tiled.tif", "paletted.tif", "alpha16.tif", "g4.tif", "jpeg.tif"} {
		f.Add(read(f, file))
	}
	f.Add(tiffOf(tiffKind{bits: 8, samples: 4, photometric: 5, compression: 8, separate: true, tiled: true}, func(x, y, s int) uint16 { return uint16(x * y * s) }))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := photo.Open(data, photo.Limits{MaxPixels: 1 << 16, MaxBytes: 64 << 20})
		if !known(err) {
			t.Fatal(err)
		}
		if err != nil || p.Format != "tiff" {
			return
		}
		if _, err := p.Decode(t.Context()); !known(err) {
			t.Fatal(err)
		}
	})
}
