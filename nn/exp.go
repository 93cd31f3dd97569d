package nn

import "github.com/mienproject/mien/internal/exact"

// sigmoid returns 1 / (1 + exp(-x)).
func sigmoid(x float32) float32 { return float32(exact.Logistic(float64(x))) }

// softmax makes probabilities of the values, in place.
func softmax(values []float32) {
	greatest := values[0]
	for _, v := range values {
		greatest = max(greatest, v)
	}
	sum := 0.
	for _, v := range values {
		sum += exact.Exp(float64(v) - float64(greatest))
	}
	for i, v := range values {
		values[i] = float32(exact.Exp(float64(v)-float64(greatest)) / sum)
	}
}
