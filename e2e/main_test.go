package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	root   string // folder of the repository
	binary string // path of the server, built from it
)

// patience is the maximum time for a client; the machine may be busy.
const patience = time.Minute

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	var err error
	if root, err = filepath.Abs(".."); err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "mien-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "mien")
	build := exec.Command("go", "build", "-o", binary, "./cmd/server")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("go build ./cmd/server: %w\n%s", err, out))
	}
	return m.Run()
}

// tool returns the path of a program that setup.sh or the Makefile installs.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: `make test` in %s installs it (%v)", name, root, err)
	}
	return path
}

// nodeModule returns the path of a file below node_modules.
func nodeModule(t testing.TB, path ...string) string {
	t.Helper()
	file := filepath.Join(append([]string{root, "e2e", "node_modules"}, path...)...)
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("an npm package is missing: `make test` in %s installs it (%v)", root, err)
	}
	return file
}

// A result is what a program that ran to its end left behind.
type result struct {
	stdout, stderr []byte
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.code, excerpt(r.stdout), excerpt(r.stderr))
}

func excerpt(b []byte) string {
	const most = 4000
	if len(b) > most {
		return string(b[:most]) + "..."
	}
	return string(b)
}

// run runs a program in the root of the repository, to its end.
func run(t testing.TB, stdin []byte, name string, args ...string) result {
	t.Helper()
	return runEnv(t, nil, stdin, name, args...)
}

// runEnv is run with variables added to the environment.
func runEnv(t testing.TB, env []string, stdin []byte, name string, args ...string) result {
	t.Helper()
	return runIn(t, root, patience, env, stdin, name, args...)
}

// runIn is runEnv in another folder, with more or less patience.
func runIn(t testing.TB, dir string, patience time.Duration, env []string, stdin []byte, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, name), args...)
	cmd.Dir = dir
	cmd.Env = append(environ(), env...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := result{stdout.Bytes(), stderr.Bytes(), cmd.ProcessState.ExitCode()}
	if exit := (*exec.ExitError)(nil); ctx.Err() != nil || (err != nil && !errors.As(err, &exit)) {
		t.Fatalf("%s: %v, %v\n%v", name, err, ctx.Err(), r)
	}
	return r
}

// must returns what the program printed, and fails the test unless it succeeded.
func (r result) must(t testing.TB) []byte {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("the client failed: %v", r)
	}
	return r.stdout
}

// environ is this process's environment without what would configure the server
// or send a client through a proxy.
func environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "MIEN_") || strings.HasPrefix(name, "OTEL_") || name == "RUN_ENV" || strings.HasSuffix(strings.ToLower(name), "_proxy") {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// temp writes a file into a folder of the test's own and returns its path.
func temp(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inCI tells that nothing may be skipped.
func inCI() bool { return os.Getenv("CI") != "" }
