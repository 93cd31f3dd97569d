package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var special = []float32{0, float32(math.Copysign(0, -1)), 1e-40, 699.9, 700.1, -1e38, 3e38, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}

// TestSigmoids: those of several values have the same bits as those of each alone.
func TestSigmoids(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 6))
	o := output{channels: 1, post: sigmoids}
	for range 20_000 {
		values := make([]float32, 1+random.IntN(12))
		for i := range values {
			values[i] = float32(random.NormFloat64() * 20)
			if random.IntN(8) == 0 {
				values[i] = special[random.IntN(len(special))]
			}
		}
		got := slices.Clone(values)
		o.finish(got)
		for i, v := range values {
			if want := sigmoid(v); math.Float32bits(got[i]) != math.Float32bits(want) && (want == want || got[i] == got[i]) {
				t.Fatalf("the sigmoid of %v is %v, want %v", v, got[i], want)
			}
		}
	}
}

// BenchmarkSigmoid computes the scores of a map, one at a time and four at a time.
func BenchmarkSigmoid(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 7))
	source := make([]float32, 64*64)
	for i := range source {
		source[i] = float32(random.NormFloat64() * 5)
	}
	values := make([]float32, len(source))
	for name, f := range map[string]func([]float32){
		"four": sigmoidAll,
		"one": func(values []float32) {
			for i, v := range values {
				values[i] = sigmoid(v)
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				copy(values, source)
				f(values)
			}
		})
	}
}

// TestSoftmaxes: probabilities of pairs have the same bits, however many pairs there are, and as
// those of one pair in Go.
func TestSoftmaxes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 4))
	o := output{channels: 2, post: softmaxes}
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
