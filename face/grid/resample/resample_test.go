package resample

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mienproject/mien/internal/arm64test"
)

// rows is the memory of one case, which is used for the next one too.
type rows struct {
	axis   Axis
	chroma Chroma
}

// do computes rows of all kinds, of sizes and values that are drawn from a seed, and returns
// their values. Some values are outside of the range of bytes, and some are zeros with a sign.
// No product is added to anything: that has other bits where both are one instruction.
func (s *rows) do(seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	size := 1 + r.IntN(1+r.IntN(200))
	scale := []float64{1, 0.5 + r.Float64()/2, 0.1 + r.Float64()/2, 1 + r.Float64()}[r.IntN(4)]
	n := 2 * (1 + r.IntN(1+r.IntN(100)))
	src := make([]uint8, size)
	for i := range src {
		src[i] = uint8(r.IntN(256))
	}
	weight := []float32{0, 1, r.Float32()}[r.IntN(3)]
	row := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = []float32{0, float32(math.Copysign(0, -1)), 255, []float32{-300, 300}[r.IntN(2)] * r.Float32(), 255 * r.Float32()}[r.IntN(5)]
		}
		return v
	}

	scaled := make([]float32, n)
	s.axis.Fit(size, r.IntN(2*size)-size/2, n, scale)
	s.axis.Row(scaled, src)

	blended := make([]float32, n)
	Blend(blended, row(n), row(n), weight)

	s.chroma.Resize(n / 2)
	s.chroma.Set(row(n/2), row(n/2), row(n/2), row(n/2), weight)
	red, green, blue := make([]float32, n), make([]float32, n), make([]float32, n)
	s.chroma.Colors(red, green, blue, row(n), row(n), weight)
	return slices.Concat(scaled, blended, s.chroma.Red, s.chroma.Green, s.chroma.Blue, red, green, blue)
}

// sameBits checks that assembly and Go give the same bits.
func sameBits(t *testing.T, s *rows, seed uint64) {
	t.Helper()
	fast := s.do(seed)
	was := setAssembly(false)
	twin := s.do(seed)
	setAssembly(was)
	for i, v := range twin {
		if math.Float32bits(fast[i]) != math.Float32bits(v) {
			t.Fatalf("case %d: value %d of %d is %v in assembly and %v in Go", seed, i, len(twin), fast[i], v)
		}
	}
}

func TestTwins(t *testing.T) {
	var s rows
	windows := 0
	for seed := range uint64(2000) {
		sameBits(t, &s, seed)
		s.do(seed)
		windows += len(s.axis.windows)
	}
	if assembly && windows < 4000 {
		t.Errorf("only %d vectors of outputs were scaled in assembly", windows)
	}
}

// FuzzTwins is TestTwins for any case.
func FuzzTwins(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { sameBits(t, &rows{}, seed) })
}

// TestDigest: the bits are the same on all processors.
func TestDigest(t *testing.T) {
	const want = "23ed165f0588ff44"
	var s rows
	digest := fnv.New64a()
	for seed := range uint64(1000) {
		_ = binary.Write(digest, binary.LittleEndian, s.do(10000+seed))
	}
	if got := fmt.Sprintf("%016x", digest.Sum64()); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// TestARM64: TestDigest passes on arm64.
func TestARM64(t *testing.T) { arm64test.Digests(t) }

// TestRow compares with values that follow from the positions of the middles of pixels.
func TestRow(t *testing.T) {
	ramp := make([]uint8, 40)
	for i := range ramp {
		ramp[i] = uint8(6 * i)
	}
	for _, c := range []struct {
		name    string
		src     []uint8
		from, n int
		scale   float64
		want    func(x int) float64
	}{
		{"the same", ramp, 0, 40, 1, func(x int) float64 { return 6 * float64(x) }},
		{"a part", ramp, 10, 20, 1, func(x int) float64 { return 6 * float64(x+10) }},
		{"smaller", ramp, 0, 30, .75, func(x int) float64 { return 6 * ((float64(x)+.5)/.75 - .5) }},
		{"larger", ramp, 0, 80, 2, func(x int) float64 { return 6 * max(0, min((float64(x)+.5)/2-.5, 39)) }},
		{"beyond the end", ramp, 30, 20, 1, func(x int) float64 { return 6 * min(float64(x+30), 39) }},
		{"one pixel", []uint8{7}, 0, 20, 3, func(int) float64 { return 7 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Axis
			a.Fit(len(c.src), c.from, c.n, c.scale)
			out := make([]float32, c.n)
			a.Row(out, c.src)
			for x, got := range out {
				if want := c.want(x); math.Abs(float64(got)-want) > 1e-4 {
					t.Errorf("output %d is %v, want %v", x, got, want)
				}
			}
		})
	}
}

// TestColors compares with the formulas of ITU-T T.871, in float64.
func TestColors(t *testing.T) {
	const n = 40
	r := rand.New(rand.NewPCG(1, 2))
	row := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = 255 * r.Float32()
		}
		return v
	}
	upper, lower, cb, cbBelow, cr, crBelow := row(n), row(n), row(n/2), row(n/2), row(n/2), row(n/2)
	var c Chroma
	c.Resize(n / 2)
	c.Set(cb, cbBelow, cr, crBelow, .25)
	red, green, blue := make([]float32, n), make([]float32, n), make([]float32, n)
	c.Colors(red, green, blue, upper, lower, .75)
	between := func(a, b []float32, x int, weight float64) float64 {
		return (1-weight)*float64(a[x]) + weight*float64(b[x])
	}
	for x := range n {
		y := between(upper, lower, x, .75)
		u, v := between(cb, cbBelow, x/2, .25)-128, between(cr, crBelow, x/2, .25)-128
		for i, want := range []float64{y + 1.402*v, y - (0.114*1.772*u+0.299*1.402*v)/0.587, y + 1.772*u} {
			got := [][]float32{red, green, blue}[i][x]
			if want = max(0, min(want, 255)); math.Abs(float64(got)-want) > 1e-3 {
				t.Errorf("pixel %d: color %d is %v, want %v", x, i, got, want)
			}
		}
	}
}

// TestMemory: nothing is allocated once rows of that size have been computed.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which short tests are run, allocates on its own account")
	}
	var a Axis
	var c Chroma
	src, half := make([]uint8, 800), make([]uint8, 400)
	var rows [5][640]float32
	var chroma [320]float32
	if n := testing.AllocsPerRun(10, func() {
		a.Fit(len(half), 0, len(chroma), 0.8)
		a.Row(chroma[:], half)
		a.Fit(len(src), 0, len(rows[0]), 0.8)
		a.Row(rows[0][:], src)
		Blend(rows[1][:], rows[0][:], rows[0][:], 0.5)
		c.Resize(len(chroma))
		c.Set(chroma[:], chroma[:], chroma[:], chroma[:], 0.5)
		c.Colors(rows[2][:], rows[3][:], rows[4][:], rows[0][:], rows[1][:], 0.5)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
