// Package onnx runs networks on ONNX Runtime. Open returns an engine.Engine for a file.
//
// ONNX Runtime is a shared library that is loaded at run time, which needs cgo. In a
// binary without cgo, Open returns ErrUnavailable.
package onnx

import (
	"errors"

	"github.com/mienproject/mien/cores"
)

// ErrUnavailable means that this binary cannot run ONNX models.
var ErrUnavailable = errors.New("this binary cannot run ONNX models, because it was built without cgo")

// Options says how to run a network.
type Options struct {
	// Library is the path of ONNX Runtime's shared library; see FindLibrary. All
	// networks in a process must use the same one.
	Library string
	// Gate is shared with everything else that computes in this process. A run that has
	// the gate to itself uses all of its cores; otherwise each run uses one core. The
	// outputs are the same. Nil means a gate to one core.
	Gate *cores.Gate
	// OneCore limits every run to one core.
	OneCore bool
}
