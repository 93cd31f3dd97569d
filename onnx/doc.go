// Package onnx runs networks on ONNX Runtime: an engine.Engine for each file.
//
// The runtime is a shared library that is opened at run time, which needs cgo: in
// a binary without it, Open returns ErrUnavailable.
package onnx

import "errors"

// ErrUnavailable means that this binary cannot run ONNX models.
var ErrUnavailable = errors.New("this binary was built without cgo, which ONNX models need: build it with CGO_ENABLED=1 and a C compiler, or use the embedded model, pigo")

// Options says how to run a network.
type Options struct {
	// Library is the path of ONNX Runtime's shared library: see FindLibrary. A process
	// has one.
	Library string
	// Threads is on how many cores a run goes that is alone in the process, at least 1.
	// Runs beside each other go on one core each. The outputs are the same.
	Threads int
}
