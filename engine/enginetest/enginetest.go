// Package enginetest gives tests the networks on the team's shelf, on ONNX Runtime.
package enginetest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/onnx"
)

// root is the folder of the repository.
func root() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(self), "../..")
}

// Model returns the path of a model on the team's shelf, ../shared/models as seen from
// the root. Without it the test is skipped, or fails where CI is set.
func Model(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(), "../shared/models", name)
	if _, err := os.Stat(path); err != nil {
		refuse(t, "needs the models, which are not part of the repository: %v", err)
	}
	return path
}

// Options returns the options of an engine on one core. Without ONNX Runtime the test is
// skipped, or fails where CI is set.
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
		refuse(t, "needs ONNX Runtime, which \"make onnxruntime\" fetches: %v", err)
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

func refuse(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
