package photo_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"testing"

	"github.com/mienproject/mien/photo"
)

// TestOrientation compares every color model in every orientation with the definition
// in the EXIF standard, pixel by pixel.
func TestOrientation(t *testing.T) {
	for _, s := range samples {
		data := read(t, s.file)
		if s.file == "exif6.webp" || withOrientation(data, 1) == nil {
			continue
		}
		stored := decode(t, data)
		for o := 1; o <= 8; o++ {
			t.Run(fmt.Sprintf("%s/%d", s.file, o), func(t *testing.T) {
				p, err := photo.Open(withOrientation(data, o), photo.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				width, height := s.width, s.height
				if o >= 5 {
					width, height = height, width
				}
				if p.Width != width || p.Height != height || p.Orientation != o {
					t.Fatalf("%d×%d, orientation %d, want %d×%d, %d", p.Width, p.Height, p.Orientation, width, height, o)
				}
				img, err := p.Decode(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got, want := kind(img), transposedKind(kind(stored), o); got != want {
					t.Errorf("the image is %s, want %s", got, want)
				}
				compare(t, img, stored, o)
			})
		}
	}
}

// origin is the definition: it returns the stored pixel that goes to (x, y) of the
// upright image.
func origin(o int, stored image.Point, x, y int) (int, int) {
	right, bottom := stored.X-1, stored.Y-1
	switch o { // the sides to which row 0 and column 0 of the stored image go:
	case 2: // top, right
		return right - x, y
	case 3: // bottom, right
		return right - x, bottom - y
	case 4: // bottom, left
		return x, bottom - y
	case 5: // left, top
		return y, x
	case 6: // right, top
		return y, bottom - x
	case 7: // right, bottom
		return right - y, bottom - x
	case 8: // left, bottom
		return right - y, x
	}
	return x, y
}

func transposedKind(kind string, o int) string {
	if o >= 5 {
		switch kind {
		case "*image.YCbCr YCbCrSubsampleRatio422":
			return "*image.YCbCr YCbCrSubsampleRatio440"
		case "*image.YCbCr YCbCrSubsampleRatio440":
			return "*image.YCbCr YCbCrSubsampleRatio422"
		case "*image.YCbCr YCbCrSubsampleRatio411", "*image.YCbCr YCbCrSubsampleRatio410":
			return "*image.YCbCr YCbCrSubsampleRatio444"
		}
	}
	return kind
}

func compare(t *testing.T, img, stored image.Image, o int) {
	t.Helper()
	got, isYCbCr := yCbCr(img)
	from, _ := yCbCr(stored)
	size := stored.Bounds().Size()
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			sx, sy := origin(o, size, x, y)
			if !isYCbCr {
				if img.At(x, y) != stored.At(sx, sy) {
					t.Fatalf("(%d, %d) is %v, want %v", x, y, img.At(x, y), stored.At(sx, sy))
				}
				continue
			}
			if a, ok := img.(*image.NYCbCrA); ok && a.NYCbCrAAt(x, y).A != stored.(*image.NYCbCrA).NYCbCrAAt(sx, sy).A {
				t.Fatalf("alpha at (%d, %d) is wrong", x, y)
			}
			if got.YCbCrAt(x, y).Y != from.YCbCrAt(sx, sy).Y {
				t.Fatalf("luma at (%d, %d) is %d, want %d", x, y, got.YCbCrAt(x, y).Y, from.YCbCrAt(sx, sy).Y)
			}
			if !chromaNear(got, x, y, from, sx, sy) {
				t.Fatalf("chroma at (%d, %d) is not that of (%d, %d)", x, y, sx, sy)
			}
		}
	}
}

func yCbCr(img image.Image) (*image.YCbCr, bool) {
	switch m := img.(type) {
	case *image.YCbCr:
		return m, true
	case *image.NYCbCrA:
		return &m.YCbCr, true
	}
	return nil, false
}

// chromaNear checks the chroma of a pixel. If the stored size is a multiple of the
// chroma sample's, it must be exact. Otherwise it may be that of a pixel less than one
// sample away.
func chromaNear(got *image.YCbCr, x, y int, from *image.YCbCr, sx, sy int) bool {
	sample := map[image.YCbCrSubsampleRatio]image.Point{
		image.YCbCrSubsampleRatio444: {1, 1}, image.YCbCrSubsampleRatio422: {2, 1}, image.YCbCrSubsampleRatio420: {2, 2},
		image.YCbCrSubsampleRatio440: {1, 2}, image.YCbCrSubsampleRatio411: {4, 1}, image.YCbCrSubsampleRatio410: {4, 2},
	}[from.SubsampleRatio]
	dx, dy := sample.X-1, sample.Y-1
	if from.Rect.Dx()%sample.X == 0 {
		dx = 0
	}
	if from.Rect.Dy()%sample.Y == 0 {
		dy = 0
	}
	want := got.YCbCrAt(x, y)
	for ny := sy - dy; ny <= sy+dy; ny++ {
		for nx := sx - dx; nx <= sx+dx; nx++ {
			if c := from.YCbCrAt(nx, ny); image.Pt(nx, ny).In(from.Rect) && c.Cb == want.Cb && c.Cr == want.Cr {
				return true
			}
		}
	}
	return false
}

func TestBrokenOrientationIsIgnored(t *testing.T) {
	plain := read(t, "420.jpg")
	entry := func(kind uint16, count, value uint32) []byte {
		b := []byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01")
		b = binary.LittleEndian.AppendUint16(b, kind)
		b = binary.LittleEndian.AppendUint32(b, count)
		b = binary.LittleEndian.AppendUint32(b, value)
		return append(b, 0, 0, 0, 0)
	}
	endless := []byte("MM\x00*\x00\x00\x00\x08\xff\xff") // directories that refer to themselves
	for len(endless) < 65000 {
		endless = append(endless, 0x87, 0x69, 0, 4, 0, 0, 0, 1, 0, 0, 0, 8)
		endless = append(endless, 0x01, 0x4a, 0, 4, 0, 0, 0xff, 0xff, 0, 0, 0, 8)
	}
	// Other entries before and after the orientation.
	among := func(entries ...[]byte) []byte {
		b := []byte("MM\x00*\x00\x00\x00\x08")
		b = binary.BigEndian.AppendUint16(b, uint16(len(entries)))
		for _, e := range entries {
			b = append(b, e...)
		}
		return append(b, 0, 0, 0, 0)
	}
	right := []byte{1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0}
	other := func(tag, kind uint16, count, value uint32) []byte {
		b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tag), kind)
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, count), value)
	}
	swapped := entry(3, 1, 6)
	swapped[2], swapped[3] = 0, '*'
	for _, c := range []struct {
		name string
		exif []byte
		want int
	}{
		{"good", entry(3, 1, 6), 6},
		{"an unknown type in front", among(other(0x10e, 77, 1, 0), right), 6},
		{"type 0 in front", among(other(0x10e, 0, 0, 0), right), 6},
		{"type 13 in front", among(other(0x10e, 13, 1, 8), right), 6},
		{"type 65535 in front", among(other(0x10e, 0xffff, 0xffffffff, 0xffffffff), right), 6},
		{"text that is not there in front", among(other(0x10f, 2, 1000, 0xfffffff0), right), 6},
		{"the camera's name after", among(right, other(0x131, 77, 1, 0)), 6},
		{"not sorted", among(other(0x8769, 4, 1, 8), right), 6},
		{"the first of two", among(right, other(0x112, 3, 1, 3<<16)), 6},
		{"a signed short", entry(8, 1, 6), 6},
		{"a signed long", entry(9, 1, 6), 6},
		{"minus six", entry(9, 1, ^uint32(5)), 1},
		{"a byte", entry(1, 1, 6), 6},
		{"a signed byte", entry(6, 1, 6), 6},
		{"a number whose bytes are swapped", swapped, 6},
		{"a long for a short", entry(4, 1, 6), 6},
		{"zero", entry(3, 1, 0), 1},
		{"nine", entry(3, 1, 9), 1},
		{"huge", entry(4, 1, 1<<32-1), 1},
		{"text", entry(2, 1, '6'), 1},
		{"rational, elsewhere", entry(5, 1, 8), 1},
		{"a hundred", entry(3, 100, 6), 1},
		{"none", entry(3, 0, 6), 1},
		{"unknown type", entry(77, 1, 6), 1},
		{"cut off", entry(3, 1, 6)[:18], 1},
		{"empty", nil, 1},
		{"garbage", bytes.Repeat([]byte{0xa5}, 1000), 1},
		{"endless", endless, 1},
	} {
		p, err := photo.Open(withEXIF(plain, c.exif), photo.Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if p.Orientation != c.want {
			t.Errorf("%s: orientation %d, want %d", c.name, p.Orientation, c.want)
		}
	}
}

// withOrientation returns the file with an EXIF orientation, or nil if its format
// cannot have one.
func withOrientation(data []byte, o int) []byte {
	if bytes.HasPrefix(data, []byte("II*\x00")) { // TIFF has the tag in its own directory
		data = bytes.Clone(data)
		at := int(binary.LittleEndian.Uint32(data[4:]))
		for n := int(binary.LittleEndian.Uint16(data[at:])); n > 0; n-- {
			if e := data[at+2+12*(n-1):]; binary.LittleEndian.Uint16(e) == 274 {
				e[8] = byte(o)
				return data
			}
		}
		return nil
	}
	return withEXIF(data, []byte{
		'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1,
		1, 18, 0, 3, 0, 0, 0, 1, 0, byte(o), 0, 0,
		0, 0, 0, 0,
	})
}

func withEXIF(data, exif []byte) []byte {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xd8")):
		app1 := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(exif)+8))
		app1 = append(append(app1, "Exif\x00\x00"...), exif...)
		return append(append(bytes.Clone(data[:2]), app1...), data[2:]...)
	case bytes.HasPrefix(data, []byte("\x89PNG")):
		return insertChunk(data, "eXIf", exif)
	case bytes.HasPrefix(data, []byte("RIFF")):
		chunk := binary.LittleEndian.AppendUint32([]byte("EXIF"), uint32(len(exif)))
		out := append(append(bytes.Clone(data), chunk...), exif...)
		binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
		return out
	}
	return nil
}

// insertChunk inserts a chunk after the header of a PNG.
func insertChunk(data []byte, name string, payload []byte) []byte {
	const header = 8 + 25
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	chunk = append(append(chunk, name...), payload...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
	return append(append(bytes.Clone(data[:header]), chunk...), data[header:]...)
}
