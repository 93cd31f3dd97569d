//go:build cgo

package onnx

import "errors"

// errNotFinite means that a network has answered a value that is not a number, or is
// infinite: it is broken, or has met an input that it cannot stand. What it says of
// other places of the same image is not to be trusted then.
var errNotFinite = errors.New("the network's output has a value that is not a finite number")

// finite reports whether all values are numbers and none is infinite.
func finite[F float32 | float64](values ...F) bool {
	for _, v := range values {
		if v*0 != 0 { // it is NaN
			return false
		}
	}
	return true
}

// finite reports whether the box and the landmarks are. The score has been looked at
// before.
func (d *detection) finite() bool {
	b, l := &d.box, &d.landmarks
	return finite(
		b.MinX, b.MinY, b.MaxX, b.MaxY, l.LeftEye.X, l.LeftEye.Y, l.RightEye.X, l.RightEye.Y,
		l.Nose.X, l.Nose.Y, l.MouthLeft.X, l.MouthLeft.Y, l.MouthRight.X, l.MouthRight.Y,
	)
}
