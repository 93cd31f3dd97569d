package area

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mienproject/mien/internal/arm64test"
)

// scaling is a call of Scale and one of Part.
type scaling struct {
	src      *image.RGBA
	from, to image.Rectangle
	size     image.Point
	rounding Rounding
}

// newScaling draws one from a seed: a photograph that shrinks or grows, or a part of it that
// may be outside of it.
func newScaling(seed uint64) scaling {
	r := rand.New(rand.NewPCG(seed, 1))
	side := func(n int) int { return 1 + r.IntN(n) }
	c := scaling{src: image.NewRGBA(image.Rect(0, 0, side(200), side(200))), rounding: Rounding(r.IntN(2))}
	for i := range c.src.Pix {
		c.src.Pix[i] = uint8(max(0, min(r.NormFloat64()*100+127, 255)))
	}
	switch c.from = c.src.Rect; r.IntN(4) {
	case 0: // a level of a pyramid
		scale := 1 - .98*r.Float64()
		c.size = image.Pt(max(1, int(float64(c.from.Dx())*scale)), max(1, int(float64(c.from.Dy())*scale)))
	case 1: // exactly a half
		c.src.Rect = image.Rect(0, 0, max(2, c.from.Dx()&^1), max(2, c.from.Dy()&^1))
		c.src = image.NewRGBA(c.src.Rect)
		for i := range c.src.Pix {
			c.src.Pix[i] = uint8(r.IntN(4))
		}
		c.from, c.size = c.src.Rect, c.src.Rect.Max.Div(2)
	case 2: // any sizes
		c.size = image.Pt(side(60), side(60))
	default: // a crop
		at := image.Pt(r.IntN(300)-100, r.IntN(300)-100)
		c.from = image.Rectangle{at, at.Add(image.Pt(side(150), side(150)))}
		c.size = image.Pt(24, 24)
	}
	c.to = image.Rectangle{Max: c.size}
	if r.IntN(2) == 0 {
		c.to.Min = image.Pt(r.IntN(c.size.X), r.IntN(c.size.Y))
		c.to.Max = c.to.Min.Add(image.Pt(side(c.size.X-c.to.Min.X), side(c.size.Y-c.to.Min.Y)))
	}
	return c
}

// do returns the result.
func (c scaling) do(t testing.TB, s *Scaler) []float32 {
	t.Helper()
	dst := make([]float32, 3*c.to.Dx()*c.to.Dy())
	s.Scale(c.src, c.from, c.size)
	if err := s.Part(t.Context(), dst, c.to, c.rounding); err != nil {
		t.Fatal(err)
	}
	return dst
}

// covered returns the inputs that an output covers, which is the i-th of n for size inputs, and
// how much of each.
func covered(i, n, size int) (first int, parts []float64) {
	scale := float64(size) / float64(n)
	from, to := float64(i)*scale, float64(i+1)*scale
	first = int(from)
	for k := first; k < size && float64(k) < to; k++ {
		parts = append(parts, min(to, float64(k+1))-max(from, float64(k)))
	}
	return first, parts
}

// TestShrinkIsMean compares with the definition, in float64.
func TestShrinkIsMean(t *testing.T) {
	var s Scaler
	tried := 0
	for seed := range uint64(200) {
		c := newScaling(seed)
		if c.size.X > c.from.Dx() || c.size.Y > c.from.Dy() {
			continue
		}
		tried++
		got := c.do(t, &s)
		for k := range got {
			x, y := c.to.Min.X+k/3/c.to.Dy(), c.to.Min.Y+k/3%c.to.Dy()
			left, columns := covered(x, c.size.X, c.from.Dx())
			top, rows := covered(y, c.size.Y, c.from.Dy())
			sum, area := 0., 0.
			for v, height := range rows {
				for u, width := range columns {
					area += width * height
					if p := c.from.Min.Add(image.Pt(left+u, top+v)); p.In(c.src.Rect) {
						sum += width * height * float64(c.src.Pix[c.src.PixOffset(p.X, p.Y)+k%3])
					}
				}
			}
			limit := .3 // of a gray level: areas below a thousandth of a pixel are ignored
			if c.rounding == Rounded {
				limit += .5
			}
			if d := math.Abs(float64(got[k])*128 + 127.5 - sum/area); !(d <= limit) {
				t.Fatalf("case %d: value %d is %v gray levels off", seed, k, d)
			}
		}
	}
	if tried < 50 {
		t.Errorf("%d cases shrink", tried)
	}
}

// TestManyRows: white stays white and a mean stays a mean, however many rows an output covers:
// sums of bytes overflow in 16 bits above 257 of them.
func TestManyRows(t *testing.T) {
	for _, rows := range []int{256, 257, 258, 259, 260, 514, 515, 3000} {
		for _, width := range []int{1, 7, 8, 9, 40} {
			src := image.NewRGBA(image.Rect(0, 0, width, 2*rows))
			for y := range src.Rect.Dy() {
				for i := range 4 * width {
					src.Pix[y*src.Stride+i] = 255
					if y >= rows && y%2 == 0 {
						src.Pix[y*src.Stride+i] = 1
					}
				}
			}
			var s Scaler
			got := scaling{src: src, from: src.Rect, size: image.Pt(1, 2), to: image.Rect(0, 0, 1, 2)}.do(t, &s)
			dark := rows / 2 // rows of the second half
			for k, v := range got {
				want := 255.
				if k >= 3 {
					want -= 254 * float64(dark) / float64(rows)
				}
				if d := math.Abs(float64(v)*128 + 127.5 - want); !(d < 1e-2) {
					t.Errorf("%d rows of %d pixels: value %d is %v gray levels off", rows, width, k, d)
				}
			}
		}
	}
}

// TestStretch: between two pixels, the closest output is a mean, as OpenCV has it, and black
// surrounds the image.
func TestStretch(t *testing.T) {
	src := image.NewRGBA(image.Rect(0, 0, 2, 1))
	copy(src.Pix, []uint8{0, 0, 0, 255, 100, 100, 100, 255})
	for _, c := range []struct {
		from image.Rectangle
		to   int
		want []float32
	}{
		{image.Rect(0, 0, 2, 1), 4, []float32{0, 0, 100, 100}},
		{image.Rect(0, 0, 2, 1), 3, []float32{0, 50, 100}},
		{image.Rect(0, 0, 2, 1), 5, []float32{0, 0, 50, 100, 100}},
		{image.Rect(1, 0, 3, 1), 4, []float32{100, 100, 0, 0}},
		{image.Rect(-1, 0, 2, 1), 6, []float32{0, 0, 0, 0, 100, 100}},
		{image.Rect(5, 5, 7, 6), 3, []float32{0, 0, 0}},
	} {
		var s Scaler
		for k, got := range (scaling{src: src, from: c.from, size: image.Pt(c.to, 2), to: image.Rect(0, 0, c.to, 1)}).do(t, &s) {
			if got = got*128 + 127.5; math.Abs(float64(got-c.want[k/3])) > 1e-4 {
				t.Errorf("%v to %d: value %d is %v, want %v", c.from, c.to, k, got, c.want[k/3])
			}
		}
	}
}

// sameBits checks that assembly and Go give the same bits, with memory that was used for
// another image.
func sameBits(t *testing.T, s *Scaler, seed uint64) {
	t.Helper()
	c := newScaling(seed)
	fast := c.do(t, s)
	was := setAssembly(false)
	twin := c.do(t, s)
	setAssembly(was)
	for i, v := range twin {
		if math.Float32bits(fast[i]) != math.Float32bits(v) {
			t.Fatalf("case %d: value %d of %d is %v in assembly and %v in Go", seed, i, len(twin), fast[i], v)
		}
	}
}

func TestTwins(t *testing.T) {
	var s Scaler
	for seed := range uint64(500) {
		sameBits(t, &s, seed)
	}
}

// FuzzTwins is TestTwins for any case.
func FuzzTwins(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { sameBits(t, &Scaler{}, seed) })
}

// TestDigest: the bits are the same on all processors.
func TestDigest(t *testing.T) {
	const want = "da17c8f94092e7fc"
	var s Scaler
	digest := fnv.New64a()
	for seed := range uint64(300) {
		_ = binary.Write(digest, binary.LittleEndian, newScaling(1000+seed).do(t, &s))
	}
	if got := fmt.Sprintf("%016x", digest.Sum64()); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// TestARM64: TestDigest passes on arm64.
func TestARM64(t *testing.T) { arm64test.Digests(t) }

// TestMemory: nothing is allocated once the scaler has scaled an image of that size.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which short tests are run, allocates on its own account")
	}
	var s Scaler
	src := image.NewRGBA(image.Rect(0, 0, 640, 480))
	dst := make([]float32, 3*200*100)
	if n := testing.AllocsPerRun(10, func() {
		s.Scale(src, src.Rect, image.Pt(200, 100))
		if err := s.Part(t.Context(), dst, image.Rect(0, 0, 200, 100), Rounded); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPartStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var s Scaler
	src := image.NewRGBA(image.Rect(0, 0, 100, 100))
	s.Scale(src, src.Rect, image.Pt(50, 50))
	if err := s.Part(ctx, make([]float32, 3*50*50), image.Rect(0, 0, 50, 50), Rounded); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
