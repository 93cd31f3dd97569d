package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// bitPhotographs returns 20 photographs of three sets, mostly small ones: qemu takes a hundred
// times as long as a processor.
func bitPhotographs(t testing.TB) []string {
	t.Helper()
	var all []string
	for set, n := range map[string]int{"wider_val_416": 3, "lfw_5pt": 13, "net_5pt": 4} {
		files, err := filepath.Glob(filepath.Join(root, "..", "shared", "faces", set, "images", "*.jpg"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < n {
			if inCI() {
				t.Fatalf("%s has %d photographs, want %d", set, len(files), n)
			}
			t.Skipf("needs the labeled photographs, which are not part of the repository: %s has %d", set, len(files))
		}
		slices.Sort(files)
		all = append(all, files[:n]...)
	}
	slices.Sort(all)
	return all
}

// TestSameBits checks that Predict gives the same answers, to the last bit of a confidence,
// with assembly, without it, and on two other processors, which qemu imitates: one with AVX2
// but without AVX-512, unless this machine is one, and arm64. On 20 photographs, with each
// model.
func TestSameBits(t *testing.T) {
	photographs := bitPhotographs(t)
	folder := t.TempDir()
	build := func(name string, env []string, args ...string) string {
		t.Helper()
		program := filepath.Join(folder, name)
		env = append(env, "CGO_ENABLED=0")
		runIn(t, root, pagePatience, env, nil, "go", append(append([]string{"build"}, args...), "-o", program, "./cmd/server")...).must(t)
		return program
	}
	imitated := func(name, qemu, program string) string {
		t.Helper()
		script := filepath.Join(folder, name)
		if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %s %s \"$@\"\n", qemu, program), 0o700); err != nil {
			t.Fatal(err)
		}
		return script
	}
	models := []string{"mtcnn", "yunet", "pigo"}
	flags := append(yunet(t), "--model", "mtcnn", "--model", "pigo", "--timeout", "10m", "--default-timeout", "10m", "--queue", "100")
	programs := []struct{ name, path string }{
		{"assembly", binary},
		{"no assembly", build("mien-purego", nil, "-tags", "purego")},
		{"arm64", imitated("arm64", tool(t, "qemu-aarch64"), build("mien-arm64", []string{"GOARCH=arm64"}))},
	}
	if processor := string(read(t, "/proc/cpuinfo")); !strings.Contains(processor, " avx2 ") || strings.Contains(processor, " avx512f ") {
		programs = append(programs, struct{ name, path string }{
			"AVX2", imitated("avx2", tool(t, "qemu-x86_64")+" -cpu max", build("mien-amd64", []string{"GOARCH=amd64"})),
		})
	}
	answers := make([]map[string]string, len(programs))
	var all sync.WaitGroup
	for i, p := range programs {
		s := startProgram(t, p.path, nil, flags...)
		all.Go(func() {
			answers[i] = map[string]string{}
			for _, photograph := range photographs {
				for _, model := range models {
					answers[i][filepath.Base(photograph)+" by "+model] = answerBits(t, s, photograph, model)
				}
			}
		})
	}
	all.Wait()
	faces := 0
	for key, want := range answers[0] {
		faces += strings.Count(want, "confidence")
		for i, p := range programs[1:] {
			if got := answers[i+1][key]; got != want {
				t.Errorf("%s, %s:\n%s\nwant, as with assembly:\n%s", key, p.name, got, want)
			}
		}
	}
	// Otherwise the test would compare empty answers.
	if want := 2 * len(photographs); faces < want {
		t.Errorf("%d faces in all, want at least %d", faces, want)
	}
	t.Logf("%d answers with %d faces", len(answers[0]), faces)
}

// answerBits returns an answer in JSON, without what differs between calls.
func answerBits(t testing.TB, s *server, photograph, model string) string {
	t.Helper()
	body := marshal(t, map[string]any{"rawData": read(t, photograph), "options": map[string]any{"model": model, "minConfidence": 0}})
	res, err := http.Post(s.url+procedure+"Predict", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	var answer map[string]json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", photograph, res.Status, err)
		return ""
	}
	delete(answer, "metaData")
	delete(answer, "timing")
	return string(marshal(t, answer))
}
