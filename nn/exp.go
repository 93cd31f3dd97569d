package nn

import (
	"math"

	"github.com/mienproject/mien/internal/exact"
)

// sigmoid returns 1 / (1 + exp(-x)).
func sigmoid(x float32) float32 { return float32(exact.Logistic(float64(x))) }

// sigmoidAll replaces each value with its sigmoid, four at a time.
func sigmoidAll(values []float32) {
	for ; len(values) >= 4; values = values[4:] {
		v := (*[4]float32)(values)
		powers := [4]float64{-float64(v[0]), -float64(v[1]), -float64(v[2]), -float64(v[3])}
		exact.Exp4(&powers)
		for i, power := range powers {
			v[i] = float32(1 / (1 + power))
		}
	}
	for i, v := range values {
		values[i] = sigmoid(v)
	}
}

// softmax makes probabilities of the values, in place.
func softmax(values []float32) {
	if len(values) == 2 {
		softmax2((*[2]float32)(values))
		return
	}
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

// softmax2 is softmax of two values, with the same bits: e to the power of 0 is exactly 1.
func softmax2(values *[2]float32) {
	less, greatest := 0, 1
	if !(values[0] <= values[1]) {
		less, greatest = 1, 0
	}
	power := exact.Exp(float64(values[less]) - float64(values[greatest]))
	// The sum does not depend on the order.
	values[less], values[greatest] = float32(power/(power+1)), float32(1/(power+1))
}

// softmaxPairsGo makes probabilities of pairs of values, whose number is a multiple of four.
func softmaxPairsGo(values []float32) {
	for ; len(values) > 0; values = values[8:] {
		softmax4((*[8]float32)(values))
	}
}

// softmax4 is softmax2 of four pairs of values, with the same bits.
func softmax4(values *[8]float32) {
	var powers [4]float64
	for i := range powers {
		powers[i] = -math.Abs(float64(values[2*i]) - float64(values[2*i+1]))
	}
	exact.Exp4(&powers)
	for i, power := range powers {
		less, greatest := float32(power/(power+1)), float32(1/(power+1))
		if values[2*i] <= values[2*i+1] {
			values[2*i], values[2*i+1] = less, greatest
		} else {
			values[2*i], values[2*i+1] = greatest, less
		}
	}
}
