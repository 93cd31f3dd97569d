package photo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"testing"
	"time"

	"golang.org/x/image/webp"

	"github.com/mienproject/mien/photo"
)

// losslessOfOneColor returns a lossless WebP of width × height pixels, in which no pixel
// takes a bit.
func losslessOfOneColor(width, height int) []byte {
	var b bitWriter
	b.put(0x2f, 8)
	b.put(uint64(width-1), 14)
	b.put(uint64(height-1), 14)
	b.put(0, 4) // no alpha, version
	b.put(0, 1) // no transform
	b.put(0, 1) // no color cache
	b.put(0, 1) // one group
	for range 5 {
		b.put(1, 4) // a simple code of one symbol, which is 0
	}
	return webPFile(riffChunk("VP8L", b.bytes()))
}

// bitWriter writes numbers, the lowest bit first.
type bitWriter struct {
	bits []byte
	n    int
}

func (b *bitWriter) put(v uint64, n int) {
	for i := range n {
		if b.n%8 == 0 {
			b.bits = append(b.bits, 0)
		}
		b.bits[b.n/8] |= byte(v>>i&1) << (b.n % 8)
		b.n++
	}
}

func (b *bitWriter) bytes() []byte { return b.bits }

// padded adds a chunk that readers ignore, so that the file is long enough for its pixels.
func padded(file []byte, bytes int) []byte {
	return append(file, riffChunk("JUNK", make([]byte, bytes))...)
}

// TestPixelsPerByte checks that an image of more than a megapixel needs a byte for each
// 65,536 pixels, in the formats whose codes need fewer.
func TestPixelsPerByte(t *testing.T) {
	fax := func(width, height int) []byte {
		return tiffFile(map[uint16][]uint32{
			256: {uint32(width)}, 257: {uint32(height)}, 258: {1}, 259: {4}, 278: {uint32(height)},
		}, [][]byte{bytes.Repeat([]byte{0xff}, (height+7)/8)}) // a bit for each row
	}
	for _, c := range []struct {
		name    string
		data    []byte
		refused bool
	}{
		{"WebP of 64 megapixels", losslessOfOneColor(8000, 8000), true},
		{"WebP of a megapixel", losslessOfOneColor(1024, 1024), false},
		{"WebP of 64 megapixels, in a kilobyte", padded(losslessOfOneColor(8000, 8000), 1000), false},
		{"WebP of the largest size", losslessOfOneColor(16384, 16384), true},
		{"fax of 60 megapixels", fax(60_000, 1000), true},
		{"fax of a blank page at 600 dpi", fax(4960, 7016), false},
	} {
		_, err := photo.Open(c.data, photo.Limits{})
		if refused := errors.Is(err, photo.ErrTooManyPixels); refused != c.refused || (err != nil && !refused) {
			t.Errorf("%s, %d bytes: %v; want refused: %t", c.name, len(c.data), err, c.refused)
		}
	}
}

// watched records how often a context is asked, and the longest time between.
type watched struct {
	context.Context
	last    time.Time
	longest time.Duration
	checks  int
}

func (w *watched) Err() error {
	now := time.Now()
	w.longest, w.last = max(w.longest, now.Sub(w.last)), now
	w.checks++
	return w.Context.Err()
}

// TestCancelLossless checks that the decoder looks at its context often even if the pixels
// take no data, and that MemoryBytes holds for them.
func TestCancelLossless(t *testing.T) {
	p, err := photo.Open(padded(losslessOfOneColor(8000, 8000), 1000), photo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ended := &after{Context: t.Context(), n: 100}
	if _, err := p.Decode(ended); !errors.Is(err, ended.Err()) {
		t.Errorf("%v after 100 of the decoder's checks", err)
	}
	used := allocated(func() { _, err = p.Decode(t.Context()) })
	if err != nil || used > p.MemoryBytes {
		t.Errorf("%v, %d bytes allocated of %d", err, used, p.MemoryBytes)
	}
	w := &watched{Context: t.Context(), last: time.Now()}
	if _, err := p.Decode(w); err != nil {
		t.Fatal(err)
	}
	// The time depends on what else the machine does: on an idle one it is less than 20 ms.
	t.Logf("%d checks, at most %v between two of them", w.checks, w.longest)
	if want := p.Width * p.Height / 20_000; w.checks < want {
		t.Errorf("the context was asked %d times, want %d at least", w.checks, want)
	}
}

// FuzzLossless compares the decoder with golang.org/x/image/webp.
func FuzzLossless(f *testing.F) {
	for _, s := range samples {
		data := read(f, s.file)
		if at := bytes.Index(data, []byte("VP8L")); at > 0 && len(data) < 20_000 {
			size := binary.LittleEndian.Uint32(data[at+4:])
			f.Add(data[at+8:][:size])
		}
	}
	f.Add(losslessOfOneColor(37, 23)[20:])
	f.Fuzz(func(t *testing.T, payload []byte) {
		data := webPFile(riffChunk("VP8L", payload))
		p, err := photo.Open(data, photo.Limits{MaxPixels: 1 << 14})
		if err != nil {
			if errors.Is(err, photo.ErrTooManyPixels) {
				return
			}
			if _, other := webp.DecodeConfig(bytes.NewReader(data)); other == nil {
				t.Fatalf("%v, and x/image opens it", err)
			}
			return
		}
		got, err := p.Decode(t.Context())
		want, other := webp.Decode(bytes.NewReader(data))
		if (err == nil) != (other == nil) {
			t.Fatalf("%v; x/image: %v", err, other)
		}
		if err == nil && !bytes.Equal(got.(*image.NRGBA).Pix, want.(*image.NRGBA).Pix) {
			t.Fatal("other pixels than x/image")
		}
	})
}
