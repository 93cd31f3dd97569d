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

// FindLibrary returns the path of ONNX Runtime's shared library: explicit when it
// is given, else one beside the running binary, else one in the system's library
// folders. It never searches the working directory. The error says where it
// searched, or what is wrong with what it found, and how to get the library.
func FindLibrary(explicit string) (string, error) {
	if explicit != "" {
		path, err := filepath.Abs(explicit)
		if err != nil {
			return "", fmt.Errorf("ONNX Runtime's library: %w", err)
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
	return "", fmt.Errorf("ONNX Runtime's library, %s, is in none of %s: %s", LibraryName(), strings.Join(folders, ", "), installHint())
}

// oldestRuntime is the minor version of the first ONNX Runtime 1 that has the
// interface this is built for: ORT_API_VERSION of the Go binding.
const oldestRuntime = 24

// installHint says how to get the library.
func installHint() string {
	return fmt.Sprintf(`"make onnxruntime" in Mien's repository fetches it into .bin; or take lib/%s of an ONNX Runtime 1.%d release or later and put it beside the binary, or name it with --onnxruntime`,
		LibraryName(), oldestRuntime)
}

// inspect returns an error that says what is wrong with a library, as far as its file
// shows, so that nothing of another kind is loaded. The loader finds the rest.
func inspect(path string) error {
	err := checkFile(path)
	if err == nil && runtime.GOOS == "linux" {
		err = checkELF(path)
	}
	if err != nil {
		return fmt.Errorf("ONNX Runtime's library: %s %w: %s", path, err, installHint())
	}
	return nil
}

// checkFile returns an error, which continues a sentence that begins with the path, unless
// path is a file.
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
				return fmt.Errorf("is a folder; %s is in it, which is the file to name", name)
			}
		}
		return fmt.Errorf("is a folder without %s", LibraryName())
	case !info.Mode().IsRegular():
		return errors.New("is not a file")
	}
	return nil
}

// checkELF returns an error, as checkFile does, unless path is a shared library of ONNX
// Runtime for this processor, recent enough.
func checkELF(path string) error {
	file, err := elf.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if err != nil {
		return errors.New("is not a shared library, or not all of one")
	}
	defer file.Close() //nolint:errcheck // only read
	if file.Type != elf.ET_DYN {
		return errors.New("is a program or a part of one, not a shared library")
	}
	if machine, ok := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]; ok && file.Machine != machine {
		return fmt.Errorf("is for another processor, %v; this binary is for %s", file.Machine, runtime.GOARCH)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil // stripped of its symbols
	}
	if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "OrtGetApiBase" && s.Section != elf.SHN_UNDEF }) {
		return errors.New("is another shared library, or a part of ONNX Runtime that is of no use alone")
	}
	versions, _ := file.DynamicVersions() // without them the version is not known
	for _, v := range versions {
		var major, minor int
		if n, _ := fmt.Sscanf(v.Name, "VERS_%d.%d", &major, &minor); n == 2 && major == 1 && minor < oldestRuntime {
			return fmt.Errorf("is ONNX Runtime %s, and 1.%d or later is needed", strings.TrimPrefix(v.Name, "VERS_"), oldestRuntime)
		}
	}
	return nil
}

// LibraryName returns what the runtime's shared library is called on this system.
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
	// An empty or relative entry would mean the working directory, where anyone
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
