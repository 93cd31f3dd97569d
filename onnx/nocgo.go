//go:build !cgo

package onnx

import "github.com/mienproject/mien/engine"

// Available returns ErrUnavailable, because this binary was built without cgo.
func Available() error { return ErrUnavailable }

// Open returns ErrUnavailable, because this binary was built without cgo.
func Open(string, Options) (engine.Engine, error) { return nil, ErrUnavailable }
