package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSoftmaxes: probabilities of pairs have the same bits, however many pairs there are, and as
// those of one pair in Go.
func TestSoftmaxes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 4))
	o := output{channels: 2, post: softmaxes}
	special := []float32{0, float32(math.Copysign(0, -1)), 1e-40, 699.9, 700.1, -1e38, 3e38, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}
	for range 20_000 {
		values := make([]float32, 2*(1+random.IntN(12)))
		for i := range values {
			values[i] = float32(random.NormFloat64() * 20)
			switch {
			case i > 0 && random.IntN(8) == 0:
				values[i] = values[i-1]
			case random.IntN(8) == 0:
				values[i] = special[random.IntN(len(special))]
			}
		}
		got := slices.Clone(values)
		o.finish(got)
		for k := 0; k < len(values); k += 2 {
			want := [2]float32(values[k:])
			softmax2(&want)
			for c, v := range want {
				if math.Float32bits(got[k+c]) != math.Float32bits(v) && (v == v || got[k+c] == got[k+c]) {
					t.Fatalf("%v has probability %v, want %v", values[k:k+2], got[k+c], v)
				}
			}
		}
	}
}

// BenchmarkSoftmax computes the probabilities of a tile of P-net, in assembly and in Go.
func BenchmarkSoftmax(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 5))
	source := make([]float32, 2*64*64)
	for i := range source {
		source[i] = float32(random.NormFloat64() * 5)
	}
	values := make([]float32, len(source))
	for name, f := range map[string]func([]float32){"assembly": softmaxPairs, "Go": softmaxPairsGo} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				copy(values, source)
				f(values)
			}
		})
	}
}
