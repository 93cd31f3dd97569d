package e2e

import (
	"path/filepath"
	"regexp"
	"testing"
)

// TestOpenAPI checks with Schemathesis that the server answers requests as /openapi.yaml
// says: requests that the schema allows, and others. schemathesis.toml says which of its
// checks are off, and why.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	program, err := filepath.Abs("../.bin/schemathesis/bin/schemathesis")
	if err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, "--model", "pigo")
	got := runIn(t, root, 5*patience, nil, nil, tool(t, program), "--config-file", config, "run", "http://"+s.addr+"/openapi.yaml",
		"--seed", "1", "--max-examples", "50", "--request-timeout", "30", "--generation-database", "none",
		"--generation-with-security-parameters", "false", "--continue-on-failure", "--no-shrink", "--no-color")
	if got.code != 0 {
		t.Fatalf("%s\n%s", got.stdout, got.stderr)
	}
	// An error of the tool, or nothing to test, is no success.
	summary := regexp.MustCompile(`\d+ generated, \d+ passed`).Find(got.stdout)
	operations := regexp.MustCompile(`Selected: (\d+)/\d+\s+Tested: (\d+)`).FindSubmatch(got.stdout)
	if summary == nil || operations == nil || string(operations[1]) != string(operations[2]) || string(operations[1]) == "0" {
		t.Fatalf("%s", got.stdout)
	}
	t.Logf("%s, %s operations", summary, operations[1])
}
