package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// TestDocs runs the examples of all documents. Each document is one session in a shell, in order.
// CONTRIBUTING.md says how a comment above a block decides what becomes of it; a block that is
// neither run nor decided on fails the test.
func TestDocs(t *testing.T) {
	t.Parallel()
	for _, doc := range documents(t) {
		t.Run(doc, func(t *testing.T) {
			blocks, err := parseBlocks(doc, read(t, filepath.Join(root, doc)))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks {
				if b.mark == "not run" {
					t.Logf("%v is not run: %s", b, b.argument)
				}
			}
			if err := runBlocks(t, blocks); err != nil {
				t.Error(err)
			}
		})
	}
}

// documents returns the paths of all Markdown files of the repository.
func documents(t testing.TB) []string {
	t.Helper()
	var docs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules") {
			return filepath.SkipDir
		}
		if !entry.IsDir() && filepath.Ext(name) == ".md" {
			doc, err := filepath.Rel(root, path)
			docs = append(docs, filepath.ToSlash(doc))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// A block is a fenced block of code in a document.
type block struct {
	doc      string
	line     int // of the opening fence
	language string
	code     string
	mark     string // of the comment above it; "" without one
	argument string // what follows the mark and a colon
}

func (b block) String() string { return fmt.Sprintf("%s:%d (%s)", b.doc, b.line, b.language) }

// failed returns an error that names the block and shows its code.
func (b block) failed(format string, args ...any) error {
	return fmt.Errorf("%v: %w\n--- the block:\n%s", b, fmt.Errorf(format, args...), b.code)
}

// runs reports whether the block is a command or program that is run in the session.
func (b block) runs() bool {
	return b.mark == "" || slices.Contains([]string{"server", "browser", "fails"}, b.mark)
}

var languages = []string{"sh", "bash", "python", "go", "js", "ts"}

// marks are the decisions that a comment above a block can make, with the languages that they are
// for (nil: any), and whether they have an argument.
var marks = map[string]struct {
	languages []string
	argument  bool
}{
	"not run": {nil, true},                    // the argument is the reason
	"server":  {[]string{"sh", "bash"}, true}, // runs until the document ends, ready when it answers at this address
	"browser": {[]string{"js", "ts"}, true},   // runs in Chromium, in the page at this URL
	"fails":   {languages, false},             // has an exit code other than 0
	"file":    {nil, true},                    // is written to a file of this name
	"output":  {nil, false},                   // is what the block above prints
}

var mark = regexp.MustCompile(`(?s)^<!--\s*([a-z ]+?)(?:\s*:\s+(.+?))?\s*-->$`)

// decide reads the comment above the block.
func (b *block) decide(comment string) error {
	if comment == "" {
		if !slices.Contains(languages, b.language) {
			return b.failed("a block in %q is not run (%s are): say what it is, in a comment on the line above: <!-- output -->, <!-- file: NAME --> or <!-- not run: REASON -->",
				b.language, strings.Join(languages, ", "))
		}
		return nil
	}
	m := mark.FindStringSubmatch(comment)
	if m == nil {
		return b.failed("%q on the line above is not a mark", comment)
	}
	b.mark, b.argument = m[1], strings.Join(strings.Fields(m[2]), " ")
	rule, ok := marks[b.mark]
	switch {
	case !ok:
		return b.failed("the mark %q is unknown; there are %q", b.mark, slices.Sorted(maps.Keys(marks)))
	case rule.argument && b.argument == "":
		return b.failed("the mark %q needs an argument, after a colon", b.mark)
	case !rule.argument && b.argument != "":
		return b.failed("the mark %q has no argument", b.mark)
	case rule.languages != nil && !slices.Contains(rule.languages, b.language):
		return b.failed("the mark %q is for %s", b.mark, strings.Join(rule.languages, ", "))
	}
	return nil
}

// parseBlocks returns the blocks of a document in order, and all that is wrong with their marks.
func parseBlocks(doc string, source []byte) ([]block, error) {
	var blocks []block
	var problems []error
	document := goldmark.DefaultParser().Parse(text.NewReader(source))
	err := ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering || n.Type() == ast.TypeInline {
			return ast.WalkContinue, nil
		}
		b := block{doc: doc, line: 1 + bytes.Count(source[:max(n.Pos(), 0)], []byte("\n"))}
		if n.Type() == ast.TypeBlock && n.Lines() != nil {
			b.code = string(n.Lines().Value(source))
		}
		switch n := n.(type) {
		case *ast.CodeBlock:
			problems = append(problems, b.failed("an indented block has no language: put it into a fence"))
		case *ast.FencedCodeBlock:
			b.language = string(n.Language(source))
			problems = append(problems, b.decide(commentAbove(n, source)))
			if b.mark == "output" && !slices.ContainsFunc(blocks, block.runs) {
				problems = append(problems, b.failed("no block above it prints anything"))
			}
			blocks = append(blocks, b)
		}
		return ast.WalkContinue, nil
	})
	return blocks, errors.Join(append(problems, err)...)
}

// commentAbove returns the HTML that ends on the line above n, "" without any.
func commentAbove(n ast.Node, source []byte) string {
	html, ok := n.PreviousSibling().(*ast.HTMLBlock)
	if !ok || n.HasBlankPreviousLines() {
		return ""
	}
	comment := html.Lines().Value(source)
	if html.HasClosure() {
		comment = append(slices.Clone(comment), html.ClosureLine.Value(source)...)
	}
	return string(bytes.TrimSpace(comment))
}

// runBlocks runs the blocks of a document in a session, and returns all that is not as the
// document says.
func runBlocks(t testing.TB, blocks []block) error {
	t.Helper()
	if !slices.ContainsFunc(blocks, block.runs) {
		return nil
	}
	s := newSession(t, blocks)
	var problems []error
	var printed []byte
	for _, b := range blocks {
		var err error
		switch {
		case b.mark == "output":
			if diff := compareOutput(b.language, b.code, string(printed)); diff != nil {
				err = b.failed("the block above prints something else: %w\n--- it prints:\n%s", diff, excerpt(printed))
			}
		case b.mark == "file":
			err = s.write(b)
		case b.runs():
			printed, err = s.run(b)
		}
		problems = append(problems, err)
		if s.ended {
			problems = append(problems, fmt.Errorf("%s: the blocks below line %d were not run", b.doc, b.line))
			break
		}
	}
	problems = append(problems, s.end(), s.refused())
	return errors.Join(problems...)
}

// compareOutput compares what a block printed with what the document shows. "..." stands for anything.
func compareOutput(language, want, got string) error {
	if language == "json" {
		return compareJSON(want, got)
	}
	pattern := regexp.QuoteMeta(strings.TrimSpace(want))
	pattern = "(?s)^" + strings.ReplaceAll(pattern, regexp.QuoteMeta("..."), ".*") + "$"
	if !regexp.MustCompile(pattern).MatchString(strings.TrimSpace(got)) {
		return errors.New("the text differs")
	}
	return nil
}

// compareJSON compares one or more JSON values; several may come in any order. A value "...", or
// [...], stands for any.
func compareJSON(want, got string) error {
	wants, err := decodeJSON(strings.ReplaceAll(want, "[...]", `"..."`))
	if err != nil {
		return fmt.Errorf("the block is not JSON: %w", err)
	}
	gots, err := decodeJSON(got)
	if err != nil {
		return fmt.Errorf("the output is not JSON: %w", err)
	}
	if len(wants) != len(gots) {
		return fmt.Errorf("%d values, want %d", len(gots), len(wants))
	}
	for _, want := range wants {
		var first error
		i := slices.IndexFunc(gots, func(got any) bool {
			err := compareValue("", want, got)
			first = cmp.Or(first, err)
			return err == nil
		})
		if i < 0 {
			return first
		}
		gots = slices.Delete(gots, i, i+1)
	}
	return nil
}

func decodeJSON(s string) ([]any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var values []any
	for {
		var v any
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return values, nil
		case err != nil:
			return nil, err
		}
		values = append(values, v)
	}
}

// varying are the fields that are different in each answer. Only their types are compared.
var varying = []string{".timestamp", ".uuid", ".isoDate", ".queue", ".decode", ".detect"}

func compareValue(path string, want, got any) error {
	if want == "..." {
		return nil
	}
	differ := fmt.Errorf("%s is %v, not %v", cmp.Or(path, "the value"), got, want)
	if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
		return differ
	}
	if slices.Contains(varying, path[max(strings.LastIndex(path, "."), 0):]) {
		return nil
	}
	switch want := want.(type) {
	case map[string]any:
		got := got.(map[string]any)
		if fields := slices.Sorted(maps.Keys(got)); !slices.Equal(fields, slices.Sorted(maps.Keys(want))) {
			return fmt.Errorf("%s has the fields %q, not %q", cmp.Or(path, "the value"), fields, slices.Sorted(maps.Keys(want)))
		}
		for name := range want {
			if err := compareValue(path+"."+name, want[name], got[name]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		got := got.([]any)
		if len(want) != len(got) {
			return fmt.Errorf("%s has %d elements, not %d", path, len(got), len(want))
		}
		for i := range want {
			if err := compareValue(fmt.Sprintf("%s[%d]", path, i), want[i], got[i]); err != nil {
				return err
			}
		}
		return nil
	case json.Number:
		if !equalDigits(want, got.(json.Number)) {
			return differ
		}
		return nil
	default:
		if want != got {
			return differ
		}
		return nil
	}
}

// equalDigits reports whether got is want, rounded to the decimals that want shows.
func equalDigits(want, got json.Number) bool {
	_, decimals, _ := strings.Cut(want.String(), ".")
	f, err := got.Float64()
	return err == nil && strconv.FormatFloat(f, 'f', len(decimals), 64) == want.String()
}
