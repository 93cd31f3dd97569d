package dct

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mienproject/mien/internal/arm64test"
)

// newBlock draws the coefficients of a block from a seed, and which of them are set: as in
// photographs, few large ones and many of 0, or any.
func newBlock(seed uint64) (b [64]int32, set uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	part, size := r.IntN(65), []int32{3, 300, 1 << 14, math.MaxInt32}[r.IntN(4)]
	for i := range b {
		if r.IntN(64) < part {
			b[i] = r.Int32N(size) - r.Int32N(size)
			set |= 1 << i
		}
	}
	return b, set
}

const stride = 11

// do returns eight rows of samples, and what is between them.
func do(seed uint64) []byte {
	b, set := newBlock(seed)
	out := make([]byte, 7*stride+8)
	for i := range out {
		out[i] = byte(i)
	}
	Inverse(&b, set, out, stride)
	return out
}

// sameSamples checks that assembly and Go give the same samples.
func sameSamples(t *testing.T, seed uint64) {
	t.Helper()
	fast := do(seed)
	was := setAssembly(false)
	twin := do(seed)
	setAssembly(was)
	if !slices.Equal(fast, twin) {
		t.Fatalf("block %d: %v in assembly, and %v in Go", seed, fast, twin)
	}
}

func TestTwins(t *testing.T) {
	for seed := range uint64(5000) {
		sameSamples(t, seed)
	}
}

// FuzzTwins is TestTwins for any block.
func FuzzTwins(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(sameSamples)
}

// TestDigest: the samples are the same on all processors.
func TestDigest(t *testing.T) {
	const want = "03046ae5ec08c0e3"
	digest := fnv.New64a()
	for seed := range uint64(1000) {
		_, _ = digest.Write(do(10000 + seed))
	}
	if got := fmt.Sprintf("%016x", digest.Sum64()); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// TestARM64: TestDigest passes on arm64.
func TestARM64(t *testing.T) { arm64test.Digests(t) }

// TestInverse compares with the definition (ITU-T T.81, A.3.3), in float64, and checks that
// nothing but the samples is written.
func TestInverse(t *testing.T) {
	cosine := func(x, u int) float64 {
		c := math.Cos(float64((2*x+1)*u)*math.Pi/16) / 2
		if u == 0 {
			c /= math.Sqrt2
		}
		return c
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b [64]int32
		var set uint64
		for i := range b {
			if r.IntN(3) == 0 {
				b[i] = r.Int32N(200) - 100
				set |= 1 << i
			}
		}
		coefficients := b
		out := make([]byte, 7*stride+8)
		Inverse(&b, set, out, stride)
		for i, got := range out {
			x, y := i%stride, i/stride
			if x >= 8 {
				if got != 0 {
					t.Fatalf("byte %d is written", i)
				}
				continue
			}
			want := 128.
			for k, c := range coefficients {
				want += float64(c) * cosine(x, k%8) * cosine(y, k/8)
			}
			if want = max(0, min(want, 255)); math.Abs(float64(got)-want) > .6 {
				t.Fatalf("sample %d, %d is %d, want %v", x, y, got, want)
			}
		}
	}
}

func BenchmarkInverse(b *testing.B) {
	block, set := newBlock(7)
	out := make([]byte, 64)
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("assembly=%v", on), func(b *testing.B) {
			was := setAssembly(on)
			defer setAssembly(was)
			for b.Loop() {
				c := block
				Inverse(&c, set, out, 8)
			}
		})
	}
}
