// Package enginetest provides the networks on the team's shelf to tests, on ONNX
// Runtime.
package enginetest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/onnx"
)

// root returns the folder of the repository.
func root() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(self), "../..")
}

// Model returns the path of a model on the team's shelf, which is ../shared/models
// relative to the root of the repository. If the model is missing, the test is skipped,
// or fails if CI is set.
func Model(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(), "../shared/models", name)
	if _, err := os.Stat(path); err != nil {
		refusef(t, "needs the models, which are not part of the repository: %v", err)
	}
	return path
}

// Options returns the options of an engine on one core. If there is no ONNX Runtime,
// the test is skipped, or fails if CI is set.
func Options(t testing.TB) onnx.Options {
	t.Helper()
	if err := onnx.Available(); err != nil {
		t.Skip(err)
	}
	library := os.Getenv("MIEN_ONNXRUNTIME")
	if library == "" {
		library = filepath.Join(root(), ".bin", onnx.LibraryName())
	}
	library, err := onnx.FindLibrary(library)
	if err != nil {
		refusef(t, "needs ONNX Runtime, which \"make onnxruntime\" fetches: %v", err)
	}
	return onnx.Options{Library: library}
}

// Open opens the network in the file at path, on one core.
func Open(t testing.TB, path string) engine.Engine {
	t.Helper()
	e, err := onnx.Open(path, Options(t))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func refusef(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
