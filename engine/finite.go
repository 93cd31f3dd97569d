package engine

import "errors"

// ErrNotFinite means that a network has answered a value that is not a number, or is
// infinite. The network is broken, or it has met an input that it cannot stand, and what
// it says of other places of the same image cannot be trusted.
var ErrNotFinite = errors.New("the network's output has a value that is not a finite number")

// Finite reports whether all values are finite numbers.
func Finite[F float32 | float64](values ...F) bool {
	for _, v := range values {
		if v*0 != 0 { // it is NaN
			return false
		}
	}
	return true
}
