package engine

import "errors"

// ErrNotFinite means that a network returned NaN or an infinite value. The network is
// damaged, or cannot process this input; its results for other places of the same image
// cannot be trusted either.
var ErrNotFinite = errors.New("the network's output has a value that is not a finite number")

// Finite reports whether all values are finite numbers.
func Finite[F float32 | float64](values ...F) bool {
	for _, v := range values {
		if v*0 != 0 { // NaN for NaN and infinite values
			return false
		}
	}
	return true
}
