package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// buildStatic builds the server with "make build", and returns its path. env and args are
// more variables for make.
func buildStatic(t testing.TB, env []string, args ...string) string {
	t.Helper()
	folder := t.TempDir()
	runIn(t, root, pagePatience, env, nil, "make", append([]string{"build", "BIN=" + folder}, args...)...).must(t)
	return filepath.Join(folder, "mien")
}

// nowhere keeps a server from the network, and from models that were fetched before.
func nowhere(t testing.TB) []string {
	t.Helper()
	return []string{"HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "XDG_CACHE_HOME=" + t.TempDir(), "PATH="}
}

// TestStatic checks the binaries of "make build": they need no library, no network and no
// other file, list their models and licenses, and find the four people with their own
// models, the most accurate of which is the first.
func TestStatic(t *testing.T) {
	photo := people.load(t)
	_, models := shelf(t)
	fetched := 0
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/yunet/yunet_n_dynamic.onnx" {
			http.NotFound(w, r)
			return
		}
		fetched++
		http.ServeFile(w, r, filepath.Join(models, "yunet_n_dynamic.onnx"))
	}))
	defer mirror.Close()
	for _, c := range []struct {
		name     string
		env      []string
		args     []string
		models   []string
		licenses []string
	}{
		{"bare", nil, nil, []string{"mtcnn", "pigo"}, []string{"Apache License", "the networks of MTCNN", "github.com/esimov/pigo"}},
		{
			"with YuNet",
			[]string{"MIEN_MODEL_MIRROR=" + mirror.URL, "XDG_CACHE_HOME=" + t.TempDir()},
			[]string{"EMBED=yunet"},
			[]string{"yunet", "pigo"},
			[]string{"Apache License", "Shiqi Yu"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			static := buildStatic(t, c.env, c.args...)
			file, err := elf.Open(static)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 || file.Section(".interp") != nil {
				t.Errorf("it needs the libraries %q (%v)", libraries, err)
			}
			told := string(run(t, nil, static, "--licenses").must(t))
			for _, want := range c.licenses {
				if !strings.Contains(told, want) {
					t.Errorf("--licenses does not have %q", want)
				}
			}
			if told := string(run(t, nil, static, "--version").must(t)); !strings.Contains(told, c.models[0]) {
				t.Errorf("--version does not list %s: %s", c.models[0], told)
			}
			s := startProgram(t, static, nowhere(t))
			for i, model := range append([]string{""}, c.models...) {
				body, err := json.Marshal(map[string]any{"rawData": photo, "imageId": people.name, "options": map[string]string{"model": model}})
				if err != nil {
					t.Fatal(err)
				}
				res, err := http.Post(s.url+procedure+"Predict", "application/json", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				people.checkOf(t, answer, c.models[max(0, i-1)])
			}
		})
	}
	if fetched != 1 {
		t.Errorf("the model was fetched %d times, want once", fetched)
	}
}

// TestStaticRejects checks what a binary without cgo says of models that it cannot serve.
func TestStaticRejects(t *testing.T) {
	_, models := shelf(t)
	static := buildStatic(t, nil)
	for _, c := range []struct {
		model string
		want  []string
		code  int
	}{
		{"scrfd=" + filepath.Join(models, "scrfd_500m_kps_640.onnx"), []string{"built without cgo", "CGO_ENABLED=1", "mtcnn"}, 2},
		{"mine=/nowhere.onnx", []string{"/nowhere.onnx", "no such file"}, 2},
		{"yolo", []string{"unknown", "mtcnn, pigo, pigo-reference (built in), yunet, yunet-s (downloaded once)"}, 2},
		{"yunet", []string{"cannot be fetched", "--model-mirror", "another way"}, 1}, // which may pass
	} {
		r := runEnv(t, nowhere(t), nil, static, "--listen", "127.0.0.1:0", "--model", c.model)
		for _, want := range c.want {
			if told := string(r.stderr); r.code != c.code || !strings.Contains(told, want) {
				t.Errorf("--model %s does not tell %q: %v", c.model, want, r)
			}
		}
	}
}
