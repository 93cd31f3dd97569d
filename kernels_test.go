package mien_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestKernelsRunWhereTheyAreUsed reads the assembly. A kernel that is used on every processor
// with AVX2 must not name what only AVX-512 has: registers from 16 on, wide ones and masks.
// The generator takes such a register if a kernel needs more than 16, and then the program
// ends with an illegal instruction. Kernels whose name ends with "Wide" are used where there
// is AVX512F, which has those registers for wide vectors alone.
func TestKernelsRunWhereTheyAreUsed(t *testing.T) {
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case strings.HasSuffix(path, "_amd64.s"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const above15 = `(1[6-9]|2\d|3[01])\b`
	narrow := regexp.MustCompile(`\b([XY]` + above15 + `|Z\d+|K[0-7])\b`)
	wide := regexp.MustCompile(`\b[XY]` + above15)
	kernel := regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	kernels := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, n := "", 0
		for line := range strings.Lines(string(text)) {
			n++
			if m := kernel.FindStringSubmatch(line); m != nil {
				name = m[1]
				kernels++
			}
			code, _, _ := strings.Cut(line, "//")
			forbidden := narrow
			if strings.HasSuffix(name, "Wide") {
				forbidden = wide
			}
			if found := forbidden.FindString(code); found != "" {
				t.Errorf("%s:%d: %s uses %s, which not every processor has that runs it", file, n, name, found)
			}
		}
	}
	if kernels < 30 {
		t.Errorf("%d kernels, want all of them", kernels)
	}
}
