package photo_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"
	"time"

	"github.com/mienproject/mien/photo"
)

// uniformWebPs are lossy WebPs of 16×16 pixels of one color, made by libwebp 1.6.0 at
// quality 80, and the color that libwebp decodes from them.
var uniformWebPs = []struct {
	want color.NRGBA
	data string
}{
	{color.NRGBA{0, 0, 0, 255}, "UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoQABAAAUAmJaQAA3AA/v02aAA="},
	{color.NRGBA{128, 128, 128, 255}, "UklGRiQAAABXRUJQVlA4IBgAAABQAQCdASoQABAAAUAmJaQABHQAAORAAAA="},
	{color.NRGBA{255, 255, 255, 255}, "UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoQABAAAUAmJaQAA3AA/vz0AAA="},
	{color.NRGBA{255, 1, 0, 255}, "UklGRjwAAABXRUJQVlA4IDAAAADQAQCdASoQABAAAUAmJaACdLoB+AADsAD+8ut//NgVzXPv9//S4P0uD9Lg/9KQAAA="},
	{color.NRGBA{1, 255, 1, 255}, "UklGRj4AAABXRUJQVlA4IDIAAADQAQCdASoQABAAAUAmJaACdLoB+AADsAD+6SIf+8+fufP3Pn/Rn/+U/fI4/kcf/KBAAA=="},
	{color.NRGBA{1, 1, 255, 255}, "UklGRjoAAABXRUJQVlA4IC4AAACQAQCdASoQABAAAUAmJaACdLoAA5gA/vtV4/+lwf/S4P/pcH/pcH8bss4bpAAA"},
	{color.NRGBA{255, 255, 0, 255}, "UklGRjoAAABXRUJQVlA4IC4AAACQAQCdASoQABAAAUAmJaACdLoAA5gA/vqiz/+mzf/TZv/ps3/ps37UogpK2AAA"},
	{color.NRGBA{20, 111, 155, 255}, "UklGRjgAAABXRUJQVlA4ICwAAADQAQCdASoQABAAAUAmJaACdLoB+AADsAD+8Gyv/yU1/jblq/+fmd24v5zAAA=="},
}

// TestWebPRange checks that lossy WebP, whose range is limited (luma 16 to 235, chroma
// 16 to 240), is decoded to the same colors as libwebp decodes, in any kind of
// container.
func TestWebPRange(t *testing.T) {
	const side = 16
	for _, u := range uniformWebPs {
		plain, err := base64.StdEncoding.DecodeString(u.data)
		if err != nil {
			t.Fatal(err)
		}
		frame := plain[12:] // the VP8 chunk
		// Uncompressed, unfiltered alpha of 100.
		alpha := riffChunk("ALPH", append([]byte{0}, bytes.Repeat([]byte{100}, side*side)...))
		translucent := u.want
		translucent.A = 100
		vp8x := func(flags byte, width, height int) []byte {
			return riffChunk("VP8X", []byte{flags, 0, 0, 0, byte(width - 1), 0, 0, byte(height - 1), 0, 0})
		}
		anmf := func(chunks ...[]byte) []byte {
			header := []byte{1, 0, 0, 2, 0, 0, side - 1, 0, 0, side - 1, 0, 0, 100, 0, 0, 0} // at (2, 4)
			return riffChunk("ANMF", append(header, bytes.Join(chunks, nil)...))
		}
		anim := riffChunk("ANIM", make([]byte, 6))
		for _, c := range []struct {
			name string
			data []byte
			at   image.Point
			want color.NRGBA
		}{
			{"plain", plain, image.Point{}, u.want},
			{"turned", withOrientation(plain, 6), image.Point{}, u.want},
			{"with alpha", webPFile(vp8x(0x10, side, side), alpha, frame), image.Point{}, translucent},
			{"animation", webPFile(vp8x(0x02, side, side), anim, anmf(frame), anmf(frame)), image.Point{}, u.want},
			{"animation, smaller than its canvas", webPFile(vp8x(0x02, 20, 24), anim, anmf(frame)), image.Pt(2, 4), u.want},
			{"animation with alpha", webPFile(vp8x(0x12, 20, 24), anim, anmf(alpha, frame)), image.Pt(2, 4), translucent},
		} {
			if c.name == "animation" { // its frame is at the origin
				c.data = bytes.ReplaceAll(c.data, []byte{1, 0, 0, 2, 0, 0, side - 1}, []byte{0, 0, 0, 0, 0, 0, side - 1})
			}
			img := decode(t, c.data)
			// Grays are exact, except where they are multiplied by alpha. Other colors
			// are not: 8 bits of full-range chroma cannot represent all of RGB, and the
			// Cb of blue is 255.5.
			limit := 2
			if c.want.R == c.want.G && c.want.G == c.want.B {
				limit = int(255-c.want.A) / 155
			}
			for y := range side {
				for x := range side {
					got := color.RGBAModel.Convert(img.At(c.at.X+x, c.at.Y+y)).(color.RGBA)
					want := color.RGBAModel.Convert(c.want).(color.RGBA)
					off := max(distance(got.R, want.R), distance(got.G, want.G), distance(got.B, want.B), distance(got.A, want.A))
					if off > limit {
						t.Fatalf("%v, %s: pixel (%d, %d) is %v, want %v ± %d", c.want, c.name, x, y, got, want, limit)
					}
				}
			}
			// The luma plane alone is what pigo reads.
			if m, ok := img.(*image.YCbCr); ok {
				want := color.GrayModel.Convert(u.want).(color.Gray).Y
				for _, got := range m.Y[:side] {
					if distance(got, want) > limit/2 {
						t.Fatalf("%v, %s: luminance %d, want %d", c.want, c.name, got, want)
					}
				}
			}
		}
	}
}

func distance(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }

// The expected PNGs were made by dwebp of libwebp.
func TestWebPAsLibwebp(t *testing.T) {
	for file, golden := range map[string]string{"lossy.webp": "lossy_webp.png", "alpha.webp": "alpha_webp.png"} {
		want, err := png.Decode(bytes.NewReader(read(t, golden)))
		if err != nil {
			t.Fatal(err)
		}
		img := decode(t, read(t, file))
		if mean := difference(img, want); mean > 1 {
			t.Errorf("%s: colors are off by %.2f on average", file, mean)
		}
		sum := 0.0
		for y := range want.Bounds().Dy() {
			for x := range want.Bounds().Dx() {
				luma := planesOf(img)[0].at(x, y)
				c := color.NRGBAModel.Convert(want.At(x, y)).(color.NRGBA)
				c.A = 255
				sum += math.Abs(float64(luma - int(color.GrayModel.Convert(c).(color.Gray).Y)))
			}
		}
		if mean := sum / float64(want.Bounds().Dx()*want.Bounds().Dy()); mean > 0.5 {
			t.Errorf("%s: luminance is off by %.2f on average", file, mean)
		}
	}
}

// TestCancelWebP checks that a deadline ends each part of the work: that on macroblocks, on
// alpha, and on the range.
func TestCancelWebP(t *testing.T) {
	for _, file := range []string{"large/lossy.webp", "large/alpha.webp"} {
		p, err := photo.Open(read(t, file), photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		count := &after{Context: t.Context(), n: math.MaxInt}
		if _, err := p.Decode(count); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < count.asked; n += 1 + count.asked/15 {
			ctx := &after{Context: t.Context(), n: n}
			_, err := p.Decode(ctx)
			if asked := ctx.asked; !errors.Is(err, context.DeadlineExceeded) || asked > n+3 {
				t.Fatalf("%s, ended after %d of %d checks: %v after %d", file, n, count.asked, err, asked)
			}
		}
	}
}

// lossyOfOneColor returns a lossy WebP of side × side pixels. Its data are zeros, so that each
// macroblock has the first of all modes, and no coefficients.
func lossyOfOneColor(side int) []byte {
	blocks := (side + 15) / 16 * ((side + 15) / 16)
	first := blocks + 64 // bytes; a macroblock takes about four bits
	tag := uint32(1<<4) | uint32(first)<<5
	data := []byte{byte(tag), byte(tag >> 8), byte(tag >> 16), 0x9d, 0x01, 0x2a}
	data = binary.LittleEndian.AppendUint16(data, uint16(side))
	data = binary.LittleEndian.AppendUint16(data, uint16(side))
	return webPFile(riffChunk("VP8 ", append(data, make([]byte, first+6*blocks+64)...)))
}

// TestCancelLossy checks that the decoder looks at its context often, that it stops when the
// context ends in the middle of an image, and that MemoryBytes holds.
func TestCancelLossy(t *testing.T) {
	p, err := photo.Open(lossyOfOneColor(4800), photo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	used := allocated(func() { _, err = p.Decode(t.Context()) })
	if err != nil || used > p.MemoryBytes {
		t.Errorf("%v, %d bytes allocated of %d", err, used, p.MemoryBytes)
	}
	w := &watched{Context: t.Context(), last: time.Now()}
	if _, err := p.Decode(w); err != nil {
		t.Fatal(err)
	}
	// The time depends on what else the machine does: on an idle one it is less than 5 ms.
	t.Logf("%d checks, at most %v between two of them", w.checks, w.longest)
	if want := p.Width * p.Height / (64 * 256); w.checks < want {
		t.Errorf("the context was asked %d times, want %d at least", w.checks, want)
	}
	ended := &after{Context: t.Context(), n: w.checks / 2}
	if _, err := p.Decode(ended); !errors.Is(err, context.DeadlineExceeded) || ended.asked > ended.n+3 {
		t.Errorf("%v after %d of %d checks, of which %d were before the end", err, ended.asked, w.checks, ended.n)
	}
}

func riffChunk(name string, payload []byte) []byte {
	chunk := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(payload)))
	chunk = append(chunk, payload...)
	return append(chunk, make([]byte, len(payload)&1)...)
}

func webPFile(chunks ...[]byte) []byte {
	return riffChunk("RIFF", append([]byte("WEBP"), bytes.Join(chunks, nil)...))
}
