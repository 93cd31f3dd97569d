package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSoftmaxes: probabilities of pairs have the same bits, however many pairs there are.
func TestSoftmaxes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 4))
	o := output{channels: 2, post: softmaxes}
	for range 2000 {
		values := make([]float32, 2*(1+random.IntN(12)))
		for i := range values {
			values[i] = float32(random.NormFloat64() * 20)
			if i > 0 && random.IntN(8) == 0 {
				values[i] = values[i-1]
			}
		}
		got := slices.Clone(values)
		o.finish(got)
		for k := 0; k < len(values); k += 2 {
			want := [2]float32(values[k:])
			softmax2(&want)
			for c, v := range want {
				if math.Float32bits(got[k+c]) != math.Float32bits(v) {
					t.Fatalf("%v has probability %v, want %v", values[k:k+2], got[k+c], v)
				}
			}
		}
	}
}
