//go:build linux && cgo

package onnx

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compile builds a shared library from C source. It skips the test if there is no
// compiler.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("needs a C compiler: ", err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "library.so")
	write(t, filepath.Join(dir, "library.c"), source)
	args := append([]string{"-shared", "-fPIC", "-o", path, filepath.Join(dir, "library.c")}, flags...)
	if out, err := exec.CommandContext(t.Context(), compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lacking is a library like ONNX Runtime's, but without an interface of any version.
const lacking = `
#include <stddef.h>
#include <stdint.h>
static const void *api(uint32_t version) { return NULL; }
static const char *version(void) { return "0.0.0"; }
static const struct { const void *(*api)(uint32_t); const char *(*version)(void); } base = {api, version};
const void *OrtGetApiBase(void) { return &base; }
`

// TestFindLibraryRejects checks that files which are not the runtime's library are
// rejected with an error that says what they are.
func TestFindLibraryRejects(t *testing.T) {
	empty, full := t.TempDir(), t.TempDir()
	write(t, filepath.Join(full, libraryNames()[0]), "")
	text := filepath.Join(empty, "text.so")
	write(t, text, "version https://git-lfs.github.com/spec/v1\n")
	script := filepath.Join(empty, "map")
	write(t, script, "VERS_1.16.3 { global: OrtGetApiBase; local: *; };")
	old := compile(t, lacking, "-Wl,--version-script="+script)
	whole, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(empty, "cut.so")
	write(t, cut, string(whole[:len(whole)/2]))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"nothing there", filepath.Join(empty, "nowhere.so"), "nowhere.so does not exist"},
		{"below a file", filepath.Join(text, "nowhere.so"), "not a directory"},
		{"folder", empty, "is a folder without libonnxruntime.so.1"},
		{"folder with it", full, "is a folder; name the file libonnxruntime.so.1 in it"},
		{"device", os.DevNull, "is not a file"},
		{"text", text, "is not a shared library"},
		{"cut off", cut, "is incomplete"},
		{"program", self, "not"}, // not a shared library, or one without the symbol, which does not work on its own
		{"another library", compile(t, "int f(void) { return 1; }"), "is another shared library"},
		{"old", old, "is ONNX Runtime 1.16.3; 1.24 or later is required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := FindLibrary(c.path)
			var failure *LibraryError
			if !errors.As(err, &failure) || failure.Path != c.path || !strings.Contains(err.Error(), c.path) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a LibraryError about %s with %q in it", err, c.path, c.want)
			}
		})
	}
}

// TestFindLibrary checks that an explicit path is used, and that the folders are
// searched, but never the working directory.
func TestFindLibrary(t *testing.T) {
	path := compile(t, lacking)
	if got, err := FindLibrary(path); err != nil || got != path {
		t.Errorf("%q, %v; want %q", got, err, path)
	}
	dir := filepath.Dir(path)
	t.Chdir(dir)
	if got, err := FindLibrary("library.so"); err != nil || got != path {
		t.Errorf("%q, %v; want %q", got, err, path)
	}
	name := filepath.Join(dir, libraryNames()[0])
	if err := os.Rename(path, name); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"", ".", ":"} {
		t.Setenv("LD_LIBRARY_PATH", folder)
		if got, _ := FindLibrary(""); got == name {
			t.Errorf("with LD_LIBRARY_PATH=%q it was found in the working directory", folder)
		}
	}
	t.Setenv("LD_LIBRARY_PATH", dir)
	if got, err := FindLibrary(""); err != nil || got != name {
		t.Errorf("%q, %v; want %q", got, err, name)
	}
	write(t, name, "not a library")
	if _, err := FindLibrary(""); err == nil || !strings.Contains(err.Error(), name+" is not a shared library") {
		t.Errorf("%v, want one about %s", err, name)
	}
}

// TestRuntimeWithoutInterface checks the error for a library that can be loaded but not
// used. It runs in a process of its own, because a process can load only one runtime.
func TestRuntimeWithoutInterface(t *testing.T) {
	const variable = "MIEN_TEST_RUNTIME"
	if path := os.Getenv(variable); path != "" {
		_, err := Open(os.Args[0], Options{Library: path})
		fmt.Printf("%T: %v\n", err, err)
		return
	}
	path := compile(t, lacking)
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRuntimeWithoutInterface$")
	other.Env = append(os.Environ(), variable+"="+path)
	out, err := other.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "*onnx.LibraryError: ONNX Runtime's library: " + path + " cannot be loaded"; !strings.Contains(string(out), want) {
		t.Errorf("got %s, want %q in it", out, want)
	}
}
