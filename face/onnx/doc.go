// Package onnx runs face detectors on ONNX Runtime: YuNet, SCRFD and MTCNN. Which
// one a file holds is told from its inputs and outputs.
//
// The runtime is a shared library that is opened at run time, which needs cgo: in
// a binary without it Open says so.
package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// FindLibrary returns the path of ONNX Runtime's shared library: explicit when it
// is given, else one beside the running binary, else one in the system's library
// folders. It never looks into the working directory. The error tells where it
// looked and how to get the library.
func FindLibrary(explicit string) (string, error) {
	if explicit != "" {
		path, err := filepath.Abs(explicit)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("ONNX Runtime's library: %w", err)
		}
		return path, nil
	}
	folders := libraryFolders()
	for _, folder := range folders {
		for _, name := range libraryNames() {
			path := filepath.Join(folder, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("ONNX Runtime's library, %s, is in none of %s: "+
		`"make onnxruntime" in Mien's repository fetches it into .bin; or take lib/%[1]s of an ONNX Runtime 1.27 release or later and put it beside the binary, or name it with --onnxruntime`,
		libraryNames()[0], strings.Join(folders, ", "))
}

func libraryNames() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime.dylib"}
	}
	return []string{"libonnxruntime.so.1", "libonnxruntime.so"}
}

func libraryFolders() []string {
	var folders []string
	if self, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(self); err == nil {
			self = resolved
		}
		folders = append(folders, filepath.Dir(self))
	}
	if runtime.GOOS == "windows" {
		return folders
	}
	// An empty or relative entry would mean the working directory, where anybody
	// may have put a library.
	for _, folder := range filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) {
		if filepath.IsAbs(folder) {
			folders = append(folders, folder)
		}
	}
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return append(folders, slices.DeleteFunc([]string{
		"/usr/local/lib", "/opt/homebrew/lib", filepath.Join("/usr/lib", triplet), "/usr/lib64", "/usr/lib",
	}, func(folder string) bool { _, err := os.Stat(folder); return err != nil })...)
}

// What can be wrong with a model.
var (
	// ErrUnavailable means that this binary cannot run ONNX models.
	ErrUnavailable = errors.New("this binary was built without cgo, which ONNX models need: build it with CGO_ENABLED=1 and a C compiler, or use the embedded model, pigo")
	// ErrUnknownFamily means that the networks are none that this package knows.
	ErrUnknownFamily = errors.New("unknown kind of model")
)
