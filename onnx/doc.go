// Package onnx runs networks on ONNX Runtime: an engine.Engine for each file.
//
// The runtime is a shared library that is opened at run time, which needs cgo: in
// a binary without it, Open returns ErrUnavailable.
package onnx

import (
	"errors"

	"github.com/mienproject/mien/cores"
)

// ErrUnavailable means that this binary cannot run ONNX models.
var ErrUnavailable = errors.New("this binary was built without cgo, which ONNX models need: build it with CGO_ENABLED=1 and a C compiler, or use the embedded model, pigo")

// Options says how to run a network.
type Options struct {
	// Library is the path of ONNX Runtime's shared library: see FindLibrary. A process
	// has one.
	Library string
	// Gate is shared with whatever else computes in this process. A run that is alone there
	// goes on all of its cores, and runs beside others on one core each; the outputs are
	// the same. Nil is a gate to one core.
	Gate *cores.Gate
	// OneCore keeps a run on one core where it is alone, too.
	OneCore bool
}
