//go:build !cgo

package onnx

import "github.com/mienproject/mien/face"

// Available returns ErrUnavailable: this binary was built without cgo.
func Available() error { return ErrUnavailable }

// Open returns ErrUnavailable: this binary was built without cgo.
func Open(_, _ string, _ int) (face.Detector, error) { return nil, ErrUnavailable }
