package cluster

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSystemd lets systemd check its unit, and compares the system calls that the server
// makes while it answers with those that the unit allows.
func TestSystemd(t *testing.T) {
	if *imagesFolder == "" {
		t.Skip("needs -images, which e2e/cluster/run.sh gives")
	}
	binary := filepath.Join(t.TempDir(), "mien")
	run(t, 5*patience, "env", "CGO_ENABLED=0", "go", "build", "-C", root, "-trimpath", "-o", binary, "./cmd/server")
	text, err := os.ReadFile(root + "/deploy/systemd/mien.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "mien.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/mien", binary)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, patience, "systemd-analyze", "verify", unit)
	// In tenths: 0 is locked up, and 100 is without any limits.
	run(t, patience, "systemd-analyze", "security", "--offline=yes", "--threshold=15", unit)

	allowed := filterCalls(t, "@system-service")
	for _, name := range []string{"@privileged", "@resources"} {
		for call := range filterCalls(t, name) {
			delete(allowed, call)
		}
	}
	if len(allowed) < 100 {
		t.Fatalf("systemd allows only %d calls", len(allowed))
	}
	made := systemCalls(t, binary)
	t.Logf("the server makes %q", made)
	for _, call := range made {
		if !allowed[call] {
			t.Errorf("the server calls %s, which the unit does not allow", call)
		}
	}
}

// filterCalls returns the system calls of a set, and of those in it.
func filterCalls(t *testing.T, set string) map[string]bool {
	t.Helper()
	calls := map[string]bool{}
	for line := range strings.Lines(run(t, patience, "systemd-analyze", "syscall-filter", set)) {
		switch name := strings.TrimSpace(line); {
		case name == "" || name == set || strings.HasPrefix(name, "#"):
		case strings.HasPrefix(name, "@"):
			for call := range filterCalls(t, name) {
				calls[call] = true
			}
		default:
			calls[name] = true
		}
	}
	return calls
}

// systemCalls returns the system calls that the server makes from its start to its end, with
// some calls in between.
func systemCalls(t *testing.T, binary string) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	// Not of the test's context: it ends before the server does.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "strace", "-f", "-qq", "-o", trace, binary, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir())
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := ""
	image := portrait(t)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if m := regexp.MustCompile(`"url":"(http://127\.0\.0\.1:\d+)"`).FindStringSubmatch(lines.Text()); m != nil && url == "" {
			url = m[1]
		}
		if strings.Contains(lines.Text(), `"msg":"ready"`) {
			for kind, connect := range callers {
				if err := connect(t, url)(t.Context(), image); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			}
			time.Sleep(100 * time.Millisecond)
			run(t, patience, "pkill", "-INT", "-P", strconv.Itoa(cmd.Process.Pid))
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	text, err := os.ReadFile(filepath.Clean(trace))
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\(`).FindAllStringSubmatch(string(text), -1) {
		calls = append(calls, m[1])
	}
	slices.Sort(calls)
	return slices.Compact(calls)
}
