package photo_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/mienproject/mien/photo"
)

// TestHostileHeaders checks that small files whose headers claim a large image, or that
// would cause much work, are rejected early.
func TestHostileHeaders(t *testing.T) {
	const side = 8000
	for _, c := range []struct {
		name string
		data []byte
		text string
	}{
		{"JPEG", jpegOfSize(read(t, "420.jpg"), side, side), "JPEG: the header says 8000×8000 pixels"},
		{"progressive JPEG", jpegOfSize(read(t, "progressive.jpg"), side, side), "the header says"},
		{"PNG", pngOfSize(read(t, "rgb.png"), side, side), "the header says"},
		{"GIF", put16(read(t, "picture.gif"), 6, side, 8, side), "the header says"},
		{"BMP", put16(read(t, "rgb.bmp"), 18, side, 22, side), "less than 1 % of the image"},
		{"BMP of runs", put16(read(t, "rle.bmp"), 18, side, 22, side), "the header says"},
		{"lossy WebP", put16(read(t, "lossy.webp"), 26, side, 28, side), "the header says"},
		{"lossy WebP in a small container", put16(read(t, "exif6.webp"), 44, side, 46, side), "the container says (37,23) pixels"},
		{"frame outside of the canvas", put16(read(t, "animated.webp"), 52, 3), "is not within the canvas"},
		{"TIFF", tiffFile(map[uint16][]uint32{256: {side}, 257: {side}, 259: {8}, 278: {side}}, [][]byte{deflated(nil)}), "the header says"},
		{"TIFF without compression", tiffFile(map[uint16][]uint32{256: {side}, 257: {side}, 259: {1}, 278: {side}}, [][]byte{make([]byte, 3*side)}), "less than 1 % of the image"},
		{"no width", jpegOfSize(read(t, "420.jpg"), 0, 23), "0×23 pixels"},
		{"no height", jpegOfSize(read(t, "420.jpg"), 37, 0), "37×0 pixels"},
		{"scans", jpegOfSize(scanBomb(read(t, "progressive.jpg"), 5000), side, side), "more than 64 scans"},
		{"TIFF strips that share their data", sharedStrips(1000), "have more bytes than the file"},
		{"TIFF tiles larger than the image", tiffFile(map[uint16][]uint32{
			256: {1 << 16}, 257: {1}, 259: {1}, 322: {8}, 323: {1024},
		}, make([][]byte, 1<<13)), "tiles of 8×1024 pixels"},
		{"TIFF of too many strips", tiffFile(map[uint16][]uint32{
			256: {1}, 257: {1 << 17}, 259: {1}, 278: {1},
		}, make([][]byte, 1<<17)), "131072 strips"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			start := time.Now()
			used := allocated(func() { _, err = photo.Open(c.data, photo.Limits{}) })
			if !errors.Is(err, photo.ErrCorrupt) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want ErrCorrupt with %q in it", err, c.text)
			}
			// Decoding it would take minutes.
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("it took %v to find out", d)
			}
			if used > 1<<20 {
				t.Errorf("it took %d bytes of memory to find out", used)
			}
		})
	}
}

// TestLargestOfOneColor checks that the capacity check accepts what encoders make of an
// image of one color, which is the smallest file for its size.
func TestLargestOfOneColor(t *testing.T) {
	const side = 4096
	paper := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	var asPNG, asGIF bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&asPNG, paper); err != nil {
		t.Fatal(err)
	}
	if err := gif.Encode(&asGIF, paper, nil); err != nil {
		t.Fatal(err)
	}
	bits := func(compression uint32, data []byte) []byte {
		return tiffFile(map[uint16][]uint32{
			256: {side}, 257: {side}, 258: {1}, 259: {compression}, 278: {side},
		}, [][]byte{data})
	}
	packed := bytes.Repeat([]byte{0x81, 0}, side*side/8/128) // 128 times 0
	for name, data := range map[string][]byte{
		"PNG": asPNG.Bytes(), "GIF": asGIF.Bytes(),
		"TIFF, deflate":  bits(8, deflated(make([]byte, side*side/8))),
		"TIFF, PackBits": bits(32773, packed),
		"TIFF, fax":      bits(4, bytes.Repeat([]byte{0xff}, side/8)), // one bit for each row: same as the row above
	} {
		p, err := photo.Open(data, photo.Limits{})
		if err != nil {
			t.Errorf("%s of %d bytes: %v", name, len(data), err)
			continue
		}
		if img, err := p.Decode(t.Context()); err != nil || img.Bounds().Dx() != side {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPixelLimitComesFirst(t *testing.T) {
	for name, data := range map[string][]byte{
		"JPEG": jpegOfSize(read(t, "420.jpg"), 65535, 65535),
		"PNG":  pngOfSize(read(t, "rgb.png"), 1<<29, 1<<29),
		"GIF":  put16(read(t, "picture.gif"), 6, 65535, 8, 65535),
		"BMP":  put32(read(t, "rgb.bmp"), 18, 1<<30, 22, 1<<30),
		"TIFF": tiffFile(map[uint16][]uint32{256: {1 << 31}, 257: {1 << 28}}, [][]byte{{0}}),
		"WebP": put32(read(t, "animated.webp"), 24, 0xffffff, 26, 0x7fff),
	} {
		for _, limit := range []int64{0, 1, 64 << 20} {
			if _, err := photo.Open(data, photo.Limits{MaxPixels: limit}); !errors.Is(err, photo.ErrTooManyPixels) {
				t.Errorf("%s, limit %d: %v, want ErrTooManyPixels", name, limit, err)
			}
		}
	}
}

// TestBMPFromTheTop checks the negative height of a BMP whose first row is the top row.
func TestBMPFromTheTop(t *testing.T) {
	data := read(t, "rgb.bmp")
	img := decode(t, data)
	upside := decode(t, put32(data, 22, ^uint32(23)+1))
	for x := range 37 {
		if img.At(x, 0) != upside.At(x, 22) {
			t.Fatalf("column %d is not upside down", x)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples {
		f.Add(read(f, s.file))
		if data := withOrientation(read(f, s.file), 6); data != nil {
			f.Add(data)
		}
	}
	f.Add(sharedStrips(10))
	f.Add(scanBomb(read(f, "progressive.jpg"), 10))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		p, err := photo.Open(data, photo.Limits{MaxPixels: 1 << 16, MaxBytes: 64 << 20})
		if !known(err) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		img, err := p.Decode(t.Context())
		if !known(err) {
			t.Fatal(err)
		}
		again, err2 := p.Decode(t.Context())
		if (err == nil) != (err2 == nil) {
			t.Fatalf("first %v, then %v", err, err2)
		}
		if !bytes.Equal(data, before) {
			t.Fatal("the data have changed")
		}
		if err != nil {
			return
		}
		if want := image.Rect(0, 0, p.Width, p.Height); img.Bounds() != want {
			t.Fatalf("bounds %v, want %v", img.Bounds(), want)
		}
		if d := difference(img, again); d != 0 {
			t.Fatalf("decoded again, it differs by %f", d)
		}
	})
}

// scanBomb repeats the last scan of a progressive JPEG.
func scanBomb(data []byte, n int) []byte {
	at := bytes.LastIndex(data, []byte{0xff, 0xda})
	last := data[at : len(data)-2]
	return append(append(bytes.Clone(data[:at]), bytes.Repeat(last, n)...), 0xff, 0xd9)
}

func jpegOfSize(data []byte, w, h uint16) []byte {
	data = bytes.Clone(data)
	at := bytes.Index(data, []byte{0xff, 0xc0})
	if at < 0 {
		at = bytes.Index(data, []byte{0xff, 0xc2})
	}
	binary.BigEndian.PutUint16(data[at+5:], h)
	binary.BigEndian.PutUint16(data[at+7:], w)
	return data
}

func pngOfSize(data []byte, w, h uint32) []byte {
	data = bytes.Clone(data)
	binary.BigEndian.PutUint32(data[16:], w)
	binary.BigEndian.PutUint32(data[20:], h)
	binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
	return data
}

// put16 writes little-endian numbers: an offset, its value, and so on.
func put16(data []byte, pairs ...int) []byte {
	data = bytes.Clone(data)
	for i := 0; i < len(pairs); i += 2 {
		binary.LittleEndian.PutUint16(data[pairs[i]:], uint16(pairs[i+1]))
	}
	return data
}

func put32(data []byte, pairs ...uint32) []byte {
	data = bytes.Clone(data)
	for i := 0; i < len(pairs); i += 2 {
		binary.LittleEndian.PutUint32(data[pairs[i]:], pairs[i+1])
	}
	return data
}

// tiffFile makes a gray TIFF of the given tags and blocks.
func tiffFile(tags map[uint16][]uint32, blocks [][]byte) []byte {
	all := map[uint16][]uint32{258: {8}, 262: {1}}
	maps.Copy(all, tags)
	offsets, counts := uint16(273), uint16(279)
	if tags[322] != nil {
		offsets, counts = 324, 325
	}
	out := []byte("II*\x00\x00\x00\x00\x00")
	for _, b := range blocks {
		all[offsets] = append(all[offsets], uint32(len(out)))
		all[counts] = append(all[counts], uint32(len(b)))
		out = append(out, b...)
	}
	return tiffDirectory(out, all)
}

func tiffDirectory(out []byte, tags map[uint16][]uint32) []byte {
	var entries []byte
	n := 0
	for tag := range uint16(400) {
		values, ok := tags[tag]
		if !ok {
			continue
		}
		n++
		entries = binary.LittleEndian.AppendUint16(entries, tag)
		entries = binary.LittleEndian.AppendUint16(entries, 4)
		entries = binary.LittleEndian.AppendUint32(entries, uint32(len(values)))
		if len(values) == 1 {
			entries = binary.LittleEndian.AppendUint32(entries, values[0])
			continue
		}
		entries = binary.LittleEndian.AppendUint32(entries, uint32(len(out)))
		for _, v := range values {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
	}
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)))
	out = binary.LittleEndian.AppendUint16(out, uint16(n))
	return append(append(out, entries...), 0, 0, 0, 0)
}

// sharedStrips makes a TIFF whose n strips are all the same bytes.
func sharedStrips(n int) []byte {
	strip := deflated(make([]byte, 64))
	out := append([]byte("II*\x00\x00\x00\x00\x00"), strip...)
	tags := map[uint16][]uint32{256: {64}, 257: {uint32(n)}, 258: {8}, 259: {8}, 262: {1}, 278: {1}}
	for range n {
		tags[273] = append(tags[273], 8)
		tags[279] = append(tags[279], uint32(len(strip)))
	}
	return tiffDirectory(out, tags)
}

// deflateBomb makes a TIFF of one-bit pixels whose data expands to 64 times what it
// needs.
func deflateBomb(w, h int) []byte {
	return tiffFile(map[uint16][]uint32{
		256: {uint32(w)}, 257: {uint32(h)}, 258: {1}, 259: {8}, 278: {uint32(h)},
	}, [][]byte{deflated(make([]byte, 8*w*h))})
}

func deflated(data []byte) []byte {
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	_, _ = w.Write(data)
	_ = w.Close()
	return buf.Bytes()
}

func frameOnCanvas(t *testing.T, w, h int) []byte {
	palette := color.Palette{color.Black, color.White}
	var buf bytes.Buffer
	err := gif.EncodeAll(&buf, &gif.GIF{
		Image: []*image.Paletted{image.NewPaletted(image.Rect(1, 1, w, h), palette)}, Delay: []int{0},
		Config: image.Config{ColorModel: palette, Width: w, Height: h},
	})
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func bitmap(w, h int) []byte {
	head := put32(make([]byte, 54), 10, 54, 14, 40, 18, uint32(w), 22, uint32(h), 26, 1|24<<16)
	copy(head, "BM")
	return append(head, make([]byte, (3*w+3)/4*4*h)...)
}
