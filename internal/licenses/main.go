// Command licenses writes the licenses of everything in the binaries: Mien's own, those of
// the networks and cascades in this repository, Go's, and those of all modules that
// packages import, on any supported system. "make generate" runs it.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	flag.Parse()
	if err := write(context.Background(), os.Stdout, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

// part is something that has a license.
type part struct{ name, folder string }

// own are the parts in this repository, by the folder that has their license.
var own = []part{
	{"Mien", "."},
	{"the face cascade and the sample image, from github.com/esimov/pigo", "face/pigo/cascade"},
	{"the landmark cascades, from github.com/esimov/pigo", "face/landmark/cascade"},
	{"the networks of MTCNN, from the Python package mtcnn", "face/mtcnn/weights"},
}

// platforms are those for which modules are collected.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"}

// write writes the licenses of the packages. Parts with the same text are listed above it.
func write(ctx context.Context, w io.Writer, packages []string) error {
	imported, err := modules(ctx, packages)
	if err != nil {
		return err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	parts := append(slices.Clone(own), part{"Go, its standard library and runtime", strings.TrimSpace(string(root))})
	parts = append(parts, imported...)

	var texts []string // in the order of the parts
	names := map[string][]string{}
	for _, p := range parts {
		files, err := licenses(p.folder)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("%s has no license in %s", p.name, p.folder)
		}
		for _, text := range files {
			if names[text] == nil {
				texts = append(texts, text)
			}
			names[text] = append(names[text], p.name)
		}
	}
	for i, text := range texts {
		if i > 0 {
			fmt.Fprintf(w, "\n%s\n\n", strings.Repeat("=", 80))
		}
		if _, err := fmt.Fprintf(w, "%s:\n\n%s\n", strings.Join(names[text], ",\n"), text); err != nil {
			return err
		}
	}
	return nil
}

// modules returns the modules that the packages import, directly or not, sorted by path.
func modules(ctx context.Context, packages []string) ([]part, error) {
	folders := map[string]string{}
	for _, platform := range platforms {
		system, processor, _ := strings.Cut(platform, "/")
		for _, cgo := range []string{"0", "1"} {
			list := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}"}, packages...)...) //nolint:gosec // the packages are the caller's own
			list.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+processor, "CGO_ENABLED="+cgo)
			list.Stderr = os.Stderr
			out, err := list.Output()
			if err != nil {
				return nil, fmt.Errorf("go list for %s: %w", platform, err)
			}
			for line := range strings.Lines(string(out)) {
				if path, folder, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
					folders[path] = folder
				}
			}
		}
	}
	var all []part
	for path, folder := range folders {
		all = append(all, part{path, folder})
	}
	slices.SortFunc(all, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// named matches the files that a license, or what it requires to be passed on, is in.
var named = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licenses returns the texts in a folder, without the spaces at their ends.
func licenses(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, e := range entries {
		if e.IsDir() || !named.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
		texts = append(texts, strings.Trim(string(b), "\n"))
	}
	return texts, nil
}
