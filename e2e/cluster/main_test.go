// Package cluster tests the container images, and deploy/kubernetes on a cluster.
// e2e/cluster/run.sh makes both, and names them in the flags; without those, all tests are
// skipped.
package cluster

import (
	"context"
	"encoding/json"
	"flag"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const root = "../.."

var (
	imagesFolder = flag.String("images", "", "`folder` with the container images")
	imagesAgain  = flag.String("images-again", "", "`folder` with the same images, built again")
	clusterRun   = flag.String("cluster", "", "`folder` of the running cluster")
)

// run returns what a program prints, and fails the test unless it succeeds within patience.
func run(t testing.TB, patience time.Duration, name string, args ...string) string {
	t.Helper()
	out, err := try(t.Context(), patience, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A failed command, with what it printed.
type commandError struct {
	command string
	printed string
	err     error
}

func (e *commandError) Error() string { return e.command + ": " + e.err.Error() + "\n" + e.printed }

func try(ctx context.Context, patience time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", &commandError{name + " " + strings.Join(args, " "), string(out) + stderr.String(), err}
	}
	return string(out), nil
}

func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
