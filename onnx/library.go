package onnx

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// MinVersion is the oldest version of ONNX Runtime that works: it was the first one with
// the interface that the Go binding uses (ORT_API_VERSION).
const MinVersion = "1.24"

const minMinor = 24 // of MinVersion

// A LibraryError reports that ONNX Runtime's shared library was not found, or that it
// cannot be used.
type LibraryError struct {
	// Path is the file that cannot be used, or "" if none was found.
	Path string
	// Searched has the folders in which none was found.
	Searched []string
	// Err says what is wrong with the file at Path. Its text continues a sentence that
	// starts with the path.
	Err error
}

func (e *LibraryError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("ONNX Runtime's library, %s, was not found in any of %s", LibraryName(), strings.Join(e.Searched, ", "))
	}
	return fmt.Sprintf("ONNX Runtime's library: %s %v", e.Path, e.Err)
}

func (e *LibraryError) Unwrap() error { return e.Err }

// FindLibrary returns the path of ONNX Runtime's shared library: explicit if it is not
// empty, otherwise a file beside the running binary, otherwise a file in the library
// folders of the system. It never searches the working directory. The error is a
// *LibraryError.
func FindLibrary(explicit string) (string, error) {
	if explicit != "" {
		path, err := filepath.Abs(explicit)
		if err != nil {
			return "", &LibraryError{Path: explicit, Err: fmt.Errorf("cannot be used: %w", err)}
		}
		return path, inspect(path)
	}
	folders := libraryFolders()
	for _, folder := range folders {
		for _, name := range libraryNames() {
			path := filepath.Join(folder, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				return path, inspect(path)
			}
		}
	}
	return "", &LibraryError{Searched: folders}
}

// inspect returns a *LibraryError if the file shows that it is not a library that can be
// used, so that other files are never loaded. The loader finds all other problems.
func inspect(path string) error {
	err := checkFile(path)
	if err == nil && runtime.GOOS == "linux" {
		err = checkELF(path)
	}
	if err != nil {
		return &LibraryError{Path: path, Err: err}
	}
	return nil
}

// checkFile returns an error for a LibraryError unless path is a file.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("does not exist")
	case err != nil:
		return fmt.Errorf("cannot be used: %w", err)
	case info.IsDir():
		for _, name := range libraryNames() {
			if _, err := os.Stat(filepath.Join(path, name)); err == nil {
				return fmt.Errorf("is a folder; name the file %s in it", name)
			}
		}
		return fmt.Errorf("is a folder without %s", LibraryName())
	case !info.Mode().IsRegular():
		return errors.New("is not a file")
	}
	return nil
}

// checkELF returns an error for a LibraryError unless path is the shared library of a
// recent ONNX Runtime for this processor.
func checkELF(path string) error {
	file, err := elf.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if err != nil {
		return errors.New("is not a shared library, or is incomplete")
	}
	defer file.Close() //nolint:errcheck // it was only read
	if file.Type != elf.ET_DYN {
		return errors.New("is a program or an object file, not a shared library")
	}
	if machine, ok := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]; ok && file.Machine != machine {
		return fmt.Errorf("is for another processor, %v; this binary is for %s", file.Machine, runtime.GOARCH)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil // its symbols were stripped
	}
	if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "OrtGetApiBase" && s.Section != elf.SHN_UNDEF }) {
		return errors.New("is another shared library, or a part of ONNX Runtime that does not work on its own")
	}
	versions, _ := file.DynamicVersions() // if they are missing, the version is unknown
	for _, v := range versions {
		var major, minor int
		if n, _ := fmt.Sscanf(v.Name, "VERS_%d.%d", &major, &minor); n == 2 && major == 1 && minor < minMinor {
			return fmt.Errorf("is ONNX Runtime %s; %s or later is required", strings.TrimPrefix(v.Name, "VERS_"), MinVersion)
		}
	}
	return nil
}

// LibraryName returns the file name of ONNX Runtime's shared library on this system.
func LibraryName() string { return libraryNames()[0] }

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
	// Skip empty and relative entries: they mean the working directory, to which other
	// users may be able to write.
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
