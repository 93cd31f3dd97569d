package engine

import (
	"math"
	"testing"
)

// TestFiniteValues checks that NaN and infinite values are found at any position.
func TestFiniteValues(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	if !Finite[float64]() || !Finite(0, -1, math.MaxFloat64, math.SmallestNonzeroFloat64) {
		t.Error("numbers are taken for something else")
	}
	for _, v := range []float64{nan, inf, -inf} {
		for i := range 3 {
			values := make([]float64, 3)
			values[i] = v
			if Finite(values...) || Finite(float32(values[0]), float32(values[1]), float32(values[2])) {
				t.Errorf("%v is taken for numbers", values)
			}
		}
	}
}
