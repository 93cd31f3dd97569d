// Package onnx runs networks on ONNX Runtime. Open returns an engine.Engine for a file.
//
// ONNX Runtime is a shared library that is loaded at run time, which needs cgo. In a
// binary without cgo, Open returns ErrUnavailable.
package onnx

import (
	"errors"
	"fmt"

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
	// Provider computes the network. Empty means CPU.
	Provider Provider
	// Device is the number of the GPU for CUDA, from 0 on.
	Device int
}

// Provider is one of ONNX Runtime's execution providers.
type Provider string

// The providers. CUDA needs a build of ONNX Runtime for GPUs, and an NVIDIA GPU.
const (
	CPU  Provider = "cpu"
	CUDA Provider = "cuda"
)

// A ProviderError reports that the library, or this machine, does not have the provider.
type ProviderError struct {
	Provider Provider
	// Library is the path of the library that was asked.
	Library string
	Err     error
}

func (e *ProviderError) Error() string {
	return fmt.Sprintf("ONNX Runtime's library %s cannot use the execution provider %s: %v", e.Library, e.Provider, e.Err)
}

func (e *ProviderError) Unwrap() error { return e.Err }
