// Package onnx runs face detectors on ONNX Runtime: YuNet, SCRFD and MTCNN. Which
// one a file holds is told from its inputs and outputs.
//
// The runtime is a shared library that is opened at run time, which needs cgo: in
// a binary without it Open says so.
package onnx

import "errors"

// What can be wrong with a model.
var (
	// ErrUnavailable means that this binary cannot run ONNX models.
	ErrUnavailable = errors.New("this binary was built without cgo, which ONNX models need: build it with CGO_ENABLED=1 and a C compiler, or use the embedded model, pigo")
	// ErrUnknownFamily means that the networks are none that this package knows.
	ErrUnknownFamily = errors.New("unknown kind of model")
)
