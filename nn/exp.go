package nn

import "math"

// exp returns e to the power of x, within 1e-9 of it, with the same bits on all processors:
// math.Exp is assembly on some, and products that are fused with sums round differently.
// Powers below -700 and above 700 are those.
func exp(x float64) float64 {
	x = max(-700, min(x, 700))
	// x = k·ln 2 + r, with r between -ln(2)/2 and ln(2)/2.
	const ln2High, ln2Low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
	k := math.RoundToEven(x * math.Log2E)
	r := x - float64(k*ln2High) - float64(k*ln2Low)
	// The Taylor series up to r⁹/9!.
	sum := 1. / 362880
	for _, c := range [...]float64{1. / 40320, 1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1} {
		sum = float64(sum*r) + c
	}
	return sum * math.Float64frombits(uint64(1023+int64(k))<<52)
}

// sigmoid returns 1 / (1 + exp(-x)).
func sigmoid(x float32) float32 { return float32(1 / (1 + exp(-float64(x)))) }

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
		sum += exp(float64(v) - float64(greatest))
	}
	for i, v := range values {
		values[i] = float32(exp(float64(v)-float64(greatest)) / sum)
	}
}

// softmax2 is softmax of two values, with the same bits: e to the power of 0 is exactly 1.
func softmax2(values *[2]float32) {
	less, greatest := 0, 1
	if !(values[0] <= values[1]) {
		less, greatest = 1, 0
	}
	power := exp(float64(values[less]) - float64(values[greatest]))
	// The sum does not depend on the order.
	values[less], values[greatest] = float32(power/(power+1)), float32(1/(power+1))
}
