package mien_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var updateWalk = flag.Bool("update", false, "write the line numbers of CONTRIBUTING.md again")

// sourceLink is a link to where something is declared: its name, file and line.
var sourceLink = regexp.MustCompile("\\[`(\\w+)`\\]\\(([\\w/]+\\.go)#L(\\d+)\\)")

// TestWalk holds that the links of CONTRIBUTING.md lead to the lines on which what they
// name is declared.
func TestWalk(t *testing.T) {
	const name = "CONTRIBUTING.md"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	fixed := sourceLink.ReplaceAllStringFunc(string(text), func(link string) string {
		links++
		m := sourceLink.FindStringSubmatch(link)
		at, err := declaredAt(m[2], m[1])
		if err != nil {
			t.Errorf("%s: %s: %v", name, link, err)
			return link
		}
		return fmt.Sprintf("[`%s`](%s#L%d)", m[1], m[2], at)
	})
	if links < 10 {
		t.Errorf("%s has %d links to lines of the source: the walk has more", name, links)
	}
	switch {
	case fixed == string(text):
	case *updateWalk:
		if err := os.WriteFile(name, []byte(fixed), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the lines of %s have moved; go test -run TestWalk . -update writes them again", name)
	}
}

// declaredAt returns the line of a file on which a function, method, type or variable of
// the top level is declared.
func declaredAt(file, name string) (int, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	declaration := regexp.MustCompile(`^(?:func (?:\([^)]*\) )?|type |var |const )` + name + `\b`)
	for i, line := range strings.Split(string(source), "\n") {
		if declaration.MatchString(line) {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("%s does not declare %s", file, name)
}
