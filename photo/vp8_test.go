package photo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/vp8"
)

// lossyData returns the VP8 data of a file.
func lossyData(data []byte) []byte {
	if len(data) < webpHeader || string(data[8:12]) != "WEBP" {
		return nil
	}
	var f webpFile
	f.read(data[webpHeader:])
	return f.lossy
}

// decodeByLibrary decodes with golang.org/x/image/vp8.
func decodeByLibrary(data []byte) (*image.YCbCr, error) {
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(data), len(data))
	if _, err := d.DecodeFrameHeader(); err != nil {
		return nil, err
	}
	return d.DecodeFrame()
}

// samplesDiffer returns a sample in which two images differ.
func samplesDiffer(a, b *image.YCbCr) (string, image.Point, bool) {
	if a.Rect != b.Rect {
		return "bounds", image.Point{}, true
	}
	for y := a.Rect.Min.Y; y < a.Rect.Max.Y; y++ {
		for x := a.Rect.Min.X; x < a.Rect.Max.X; x++ {
			at := image.Pt(x, y)
			if a.Y[a.YOffset(x, y)] != b.Y[b.YOffset(x, y)] {
				return "Y", at, true
			}
			if a.Cb[a.COffset(x, y)] != b.Cb[b.COffset(x, y)] {
				return "Cb", at, true
			}
			if a.Cr[a.COffset(x, y)] != b.Cr[b.COffset(x, y)] {
				return "Cr", at, true
			}
		}
	}
	return "", image.Point{}, false
}

// TestVP8AsLibrary checks that the samples are those that golang.org/x/image/vp8 decodes.
// MIEN_WEBP may name a folder with more files.
func TestVP8AsLibrary(t *testing.T) {
	var files []string
	for _, pattern := range []string{
		"testdata/*.webp", "testdata/large/*.webp", "../../shared/cases/*.webp",
		filepath.Join(os.Getenv("MIEN_WEBP"), "*.webp"),
	} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	n := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data = lossyData(data)
		if data == nil {
			continue
		}
		want, err := decodeByLibrary(data)
		got, err2 := decodeVP8(t.Context(), data)
		if err != nil || err2 != nil {
			t.Errorf("%s: %v, %v", file, err, err2)
			continue
		}
		n++
		if what, at, differ := samplesDiffer(got, want); differ {
			t.Errorf("%s: %s at %v", file, what, at)
		}
	}
	if t.Logf("%d files", n); n < 5 {
		t.Errorf("only %d files are lossy", n)
	}
}

// TestVP8AsLibwebp compares checksums of the samples with those of dwebp -nodither -yuv, of
// libwebp 1.2.4.
func TestVP8AsLibwebp(t *testing.T) {
	for file, want := range map[string]uint32{
		"lossy.webp":          0x559b4ac1,
		"vp8_simple.webp":     0x08ada25c,
		"vp8_partitions.webp": 0x8b561d5b,
		"vp8_sharp.webp":      0x76ee51d9,
		"vp8_unfiltered.webp": 0xd42a28db,
	} {
		data, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeVP8(t.Context(), lossyData(data))
		if err != nil {
			t.Fatal(err)
		}
		size := m.Rect.Size()
		sum := crc32.NewIEEE()
		for y := range size.Y {
			sum.Write(m.Y[y*m.YStride:][:size.X])
		}
		for _, plane := range [][]uint8{m.Cb, m.Cr} {
			for y := range (size.Y + 1) / 2 {
				sum.Write(plane[y*m.CStride:][:(size.X+1)/2])
			}
		}
		if sum.Sum32() != want {
			t.Errorf("%s: the checksum is %#08x, want %#08x", file, sum.Sum32(), want)
		}
	}
}

// frameOf returns a key frame of width × height pixels whose first partition is followed by
// the rest of its data. Any bytes are booleans.
func frameOf(width, height int, first, rest []byte) []byte {
	tag := uint32(1<<4) | uint32(len(first))<<5
	data := []byte{byte(tag), byte(tag >> 8), byte(tag >> 16), 0x9d, 0x01, 0x2a}
	data = binary.LittleEndian.AppendUint16(data, uint16(width))
	data = binary.LittleEndian.AppendUint16(data, uint16(height))
	return append(append(data, first...), rest...)
}

// compareVP8 decodes data by this package and by the library. It returns false if both
// reject it, or if the result is undefined. Otherwise it fails unless the results are the
// same, or the library has the defect of levelsOverflow.
func compareVP8(t *testing.T, data []byte) bool {
	t.Helper()
	got, err := decodeVP8(t.Context(), data)
	if outOfInterval(data) {
		return false
	}
	want, other := decodeByLibrary(data)
	if (err == nil) != (other == nil) {
		t.Fatalf("%v; x/image: %v", err, other)
	}
	if err != nil {
		return false
	}
	if what, at, differ := samplesDiffer(got, want); differ && !levelsOverflow(data) {
		t.Fatalf("%s differs from x/image at %v", what, at)
	}
	return true
}

// outOfInterval returns true if a partition begins with 255. The first interval of a boolean
// encoder is 255 wide, so that no encoder writes this, and decoders read different booleans.
func outOfInterval(data []byte) bool {
	d := &vp8Decoder{}
	if _, err := vp8Size(data); err != nil || d.headers(data) != nil {
		return false
	}
	for _, r := range append(d.coefficients, d.modes) {
		if len(r.data) > 0 && r.data[0] == 255 {
			return true
		}
	}
	return false
}

// levelsOverflow returns true if the sum of the levels of the filter is outside of a signed
// byte. x/image lets it wrap around; libwebp limits it to 0 to 63, as this package does.
func levelsOverflow(data []byte) bool {
	d := &vp8Decoder{}
	r := newVP8Reader(data[vp8Header:])
	r.number(2)
	d.readSegments(&r)
	r.flag()
	frame := r.number(6)
	r.number(3)
	var deltas [8]int
	if r.flag() { // there are deltas
		if r.flag() { // and here they are
			for i := range deltas {
				deltas[i] = r.optional(6)
			}
		}
	}
	for _, s := range d.segments {
		level := frame
		if d.segmented {
			level = s.level
			if s.relative {
				level += frame
			}
		}
		level += deltas[0]
		if level != int(int8(level)) || level+deltas[4] != int(int8(level+deltas[4])) {
			return true
		}
	}
	return false
}

// TestVP8Random decodes frames of random booleans. Together they have all that a frame can
// have.
func TestVP8Random(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	decoded := 0
	for range 1500 {
		width, height := 1+rng.IntN(70), 1+rng.IntN(70)
		first := make([]byte, 400+rng.IntN(400))
		for i := range first {
			first[i] = byte(rng.Uint32())
		}
		// The frame begins with the color space, clamping, and the segments.
		first[0] &= byte(rng.Uint32())
		rest := make([]byte, 3*7+8*(20+rng.IntN(6000)))
		sparse := rng.IntN(3) > 0 // zeros are few coefficients
		for i := range rest {
			if !sparse || rng.IntN(8) == 0 {
				rest[i] = byte(rng.Uint32())
			}
		}
		for i := range 7 { // the sizes of partitions
			binary.LittleEndian.PutUint16(rest[3*i:], uint16(len(rest)-21)/8)
			rest[3*i+2] = 0
		}
		if compareVP8(t, frameOf(width, height, first, rest)) {
			decoded++
		}
	}
	if t.Logf("%d of 1500 frames are complete", decoded); decoded < 300 {
		t.Errorf("only %d of 1500 frames could be decoded", decoded)
	}
}

// TestVP8Broken checks the errors for headers that are wrong, and for partitions that end
// before the image does.
func TestVP8Broken(t *testing.T) {
	data, err := os.ReadFile("testdata/vp8_partitions.webp")
	if err != nil {
		t.Fatal(err)
	}
	data = lossyData(data)
	first := int(data[0])>>5 | int(data[1])<<3 | int(data[2])<<11
	sizes := vp8Header + first // of the partitions
	changed := func(at int, b byte) []byte {
		d := bytes.Clone(data)
		d[at] = b
		return d
	}
	for _, c := range []struct {
		name, text string
		data       []byte
		ended      bool
	}{
		{"nothing", "", nil, true},
		{"a tag", "", data[:5], true},
		{"another kind of frame", "not a key frame", changed(0, data[0]|1), false},
		{"another start code", "the header of the lossy data is invalid", changed(4, 2), false},
		{"a part of the first partition", "", data[:sizes-1], true},
		{"a part of the sizes", "", data[:sizes+20], true},
		{"a partition that is too long", "", changed(sizes+2, 1), true},
		{"half of the last partition", "70 % of the image", data[:len(data)-400], true},
		{"nothing of the coefficients", "", append(bytes.Clone(data[:sizes]), make([]byte, 21)...), true},
	} {
		_, err := decodeVP8(t.Context(), c.data)
		if err == nil || !strings.Contains(err.Error(), c.text) || errors.Is(err, io.ErrUnexpectedEOF) != c.ended {
			t.Errorf("%s: %v, want %q; the data ends early: %t", c.name, err, c.text, c.ended)
		}
		if _, other := decodeByLibrary(c.data); other == nil {
			t.Errorf("%s: x/image accepts it", c.name)
		}
	}
}

// FuzzVP8 compares the decoder with golang.org/x/image/vp8.
func FuzzVP8(f *testing.F) {
	files, err := filepath.Glob("testdata/*.webp")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if data = lossyData(data); data != nil {
			f.Add(data)
		}
	}
	f.Add(frameOf(16, 16, make([]byte, 100), make([]byte, 100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if size, err := vp8Size(data); err == nil && (size.X*size.Y > 1<<14 || size.X*size.Y == 0) {
			return // Open rejects images without pixels
		}
		compareVP8(t, data)
	})
}

// BenchmarkVP8 decodes a file, the one that MIEN_WEBP_FILE names if it is set, in turn by this
// package and by golang.org/x/image/vp8.
func BenchmarkVP8(b *testing.B) {
	data, err := os.ReadFile(cmp.Or(os.Getenv("MIEN_WEBP_FILE"), "testdata/vp8_partitions.webp"))
	if err != nil {
		b.Fatal(err)
	}
	data = lossyData(data)
	var own, library time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		if _, err := decodeVP8(b.Context(), data); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if _, err := decodeByLibrary(data); err != nil {
			b.Fatal(err)
		}
		own, library, n = own+between.Sub(start), library+time.Since(between), n+1
	}
	b.ReportMetric(float64(own.Microseconds())/float64(n), "µs/own")
	b.ReportMetric(float64(library.Microseconds())/float64(n), "µs/library")
}

// BenchmarkVP8Stops measures the time from a random moment at which a context ends to the end
// of decoding 16 megapixels with as many coefficients as there can be.
func BenchmarkVP8Stops(b *testing.B) {
	const side, blocks = 4096, 4096 / 16 * 4096 / 16
	rng := rand.New(rand.NewPCG(3, 4))
	rest := make([]byte, 400*blocks)
	for i := range rest {
		rest[i] = byte(rng.Uint32())
	}
	rest[0] = 0
	data := frameOf(side, side, make([]byte, blocks+64), rest)
	var total, worst time.Duration
	n := 0
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan time.Time)
		go func() {
			_, _ = decodeVP8(ctx, data) // it is canceled
			ended <- time.Now()
		}()
		time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		start := time.Now()
		cancel()
		took := max(0, (<-ended).Sub(start))
		total, worst, n = total+took, max(worst, took), n+1
	}
	b.ReportMetric(float64(total.Microseconds())/float64(n), "µs/stopped")
	b.ReportMetric(float64(worst.Microseconds()), "µs/worst")
}
