// Package arm64test runs tests for arm64, which qemu imitates.
package arm64test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Digests runs the tests of the package in the working directory whose names end in Digest:
// they compare the bits of results with recorded ones. Without qemu the test is skipped, or
// fails if CI is set.
func Digests(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH == "arm64" {
		t.Skip("this is arm64, or it has no qemu-user")
	}
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs qemu-aarch64, of Debian's package qemu-user: ", err)
	}
	binary := filepath.Join(t.TempDir(), "arm64.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), qemu, binary, "-test.v", "-test.run", "Digest$").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
