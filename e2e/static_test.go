package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// buildStatic builds the server as make build does, and returns its path.
func buildStatic(t testing.TB) string {
	t.Helper()
	static := filepath.Join(t.TempDir(), "mien")
	runIn(t, root, pagePatience, []string{"CGO_ENABLED=0"}, nil, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", static, "./cmd/server").must(t)
	return static
}

// TestStatic checks the binary without cgo, as make build builds it: it says which
// models it does not have, and why, and serves its own.
func TestStatic(t *testing.T) {
	static := buildStatic(t)
	for _, flag := range []string{"--version", "--help"} {
		told := strings.Join(strings.Fields(string(run(t, nil, static, flag).must(t))), " ") // as help is wrapped
		for _, want := range []string{"pigo, pigo-reference; not in this binary, which was built without cgo: mtcnn, yunet, yunet-s"} {
			if !strings.Contains(told, want) {
				t.Errorf("%s does not tell %q:\n%s", flag, want, told)
			}
		}
	}
	for _, model := range []string{"yunet", "mine=/nowhere.onnx", "yolo"} {
		r := run(t, nil, static, "--listen", "127.0.0.1:0", "--model", model)
		if told := string(r.stderr); r.code != 2 || !strings.Contains(told, "built without cgo") || !strings.Contains(told, "pigo") {
			t.Errorf("--model %s: %v", model, r)
		}
	}
}
