package client_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/api.txt again")

// TestAPI compares the exported declarations of this package with those in
// testdata/api.txt. A minor version may only add some.
func TestAPI(t *testing.T) {
	got := exported(t)
	const golden = "testdata/api.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(want)) {
		if !strings.Contains(got, line) {
			t.Errorf("this has gone or has changed: %s", line)
		}
	}
	if got != string(want) && !t.Failed() {
		t.Error("there are new exported declarations. If they are meant, run go test -run TestAPI ./client -update")
	}
}

// exported returns the exported declarations without comments, sorted.
func exported(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Body = nil; d.Recv != nil && !ast.IsExported(receiver(d)) {
					continue
				}
			case *ast.GenDecl:
				if d.Tok == token.IMPORT {
					continue
				}
			}
			var text bytes.Buffer
			if err := format.Node(&text, set, decl); err != nil {
				t.Fatal(err)
			}
			// A new declaration may align others.
			all = append(all, regexp.MustCompile(` +`).ReplaceAllString(text.String(), " ")+"\n")
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// receiver returns the name of the type that a method is of.
func receiver(d *ast.FuncDecl) string {
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	name, _ := expr.(*ast.Ident)
	return name.Name
}
