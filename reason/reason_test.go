package reason_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumented: docs/api.md, the contract, has a row for each reason and for no
// other.
func TestDocumented(t *testing.T) {
	// A row of the table may name several reasons.
	documented := reasons(t, "../docs/api.md", "(?m)^\\| `[A-Z_`, ]+` \\|")
	constants := reasons(t, "reason.go", `(?m)^\t\w+ += ".*"$`)
	if len(constants) == 0 || !slices.Equal(constants, documented) {
		t.Errorf("the constants are %v; docs/api.md has %v", constants, documented)
	}
}

// reasons returns the quoted reasons in the lines of a file that match pattern.
func reasons(t *testing.T, path, pattern string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Join(regexp.MustCompile(pattern).FindAllString(string(text), -1), "\n")
	var names []string
	for _, quoted := range regexp.MustCompile("[\"`]([A-Z_]+)[\"`]").FindAllStringSubmatch(lines, -1) {
		names = append(names, quoted[1])
	}
	slices.Sort(names)
	return names
}
