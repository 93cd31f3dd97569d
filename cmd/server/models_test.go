package main

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mienproject/mien/face/facetest"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// onnxShelf returns the path of ONNX Runtime's library and the folder of the models. If
// one is missing, the test is skipped, or fails if CI is set.
func onnxShelf(t *testing.T) (library, models string) {
	t.Helper()
	refuse := t.Skipf
	if os.Getenv("CI") != "" {
		refuse = t.Fatalf
	}
	library, models = "../../.bin/libonnxruntime.so.1", "../../../shared/models"
	if _, err := os.Stat(library); err != nil {
		refuse("needs ONNX Runtime, which \"make onnxruntime\" fetches: %v", err)
	}
	if _, err := os.Stat(models); err != nil {
		refuse("needs the models, which are no part of the repository: %v", err)
	}
	return library, models
}

// TestModels serves a known model from a mirror, those that are built in, one that needs
// ONNX Runtime and MTCNN from a folder, and checks that each finds the four people.
func TestModels(t *testing.T) {
	library, models := onnxShelf(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var requests atomic.Int32
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/yunet/yunet_n_dynamic.onnx" {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, filepath.Join(models, "yunet_n_dynamic.onnx"))
	}))
	args := []string{
		"--onnxruntime", library, "--model-mirror", mirror.URL,
		"--model", "yunet", "--model", "pigo", "--model", "mtcnn", "--model", "folder=" + filepath.Join(models, "mtcnn"),
		"--model", "scrfd=" + filepath.Join(models, "scrfd_2.5g_kps_640.onnx"),
	}
	s := start(t, args...)
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests to the mirror, want 1", n)
	}
	mirror.Close()

	client := grpcClient(t, s.url)
	res, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names, families []string
	for _, m := range res.GetModels() {
		names, families = append(names, m.GetName()), append(families, m.GetFamily())
		if m.GetVersion() == "" || !m.GetLandmarks() || m.GetDefault() != (m.GetName() == "yunet") {
			t.Errorf("%v", m)
		}
	}
	if !slices.Equal(names, []string{"yunet", "pigo", "mtcnn", "folder", "scrfd"}) || !slices.Equal(families, []string{"yunet", "pigo", "mtcnn", "mtcnn", "scrfd"}) {
		t.Errorf("names %q, families %q", names, families)
	}
	people := readFile(t, facetest.Path(t, "peoples.jpg"))
	for _, name := range append(names, "") {
		t.Run(name, func(t *testing.T) {
			res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: people, Options: &inferencev1.DetectOptions{Model: name}})
			if err != nil {
				t.Fatal(err)
			}
			if want := cmp.Or(name, "yunet"); res.GetModel() != want {
				t.Errorf("%q answered", res.GetModel())
			}
			assertFaces(t, res, fourPeople, 0.5)
			for _, r := range res.GetResults() {
				if r.GetLandmarks() == nil {
					t.Errorf("no landmarks: %v", r)
				}
			}
		})
	}

	// Offline, with the downloaded models.
	if code, log := s.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, log)
	}
	start(t, args...)
}

// TestModelsRejected checks that a model which cannot be served stops the start, with a
// remedy.
func TestModelsRejected(t *testing.T) {
	library, models := onnxShelf(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	nowhere := httptest.NewServer(http.NotFoundHandler())
	defer nowhere.Close()
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"no path", []string{"--model", "mine="}, []string{"NAME=PATH"}},
		{"nothing there", []string{"--model", "mine=/nowhere.onnx", "--onnxruntime", library}, []string{"/nowhere.onnx", "no such file"}},
		{"no model", []string{"--model", "mine=main.go", "--onnxruntime", library}, []string{"main.go", "not an ONNX file"}},
		{"no provider", []string{"--execution-provider", "tpu", "--cuda-device=-1"}, []string{"allowed are cpu and cuda", "numbered from 0"}},
		{"no GPU", []string{"--model", "mine=" + filepath.Join(models, "yunet_n_dynamic.onnx"), "--execution-provider", "cuda", "--cuda-device", "1", "--onnxruntime", library}, []string{"execution provider cuda", "NVIDIA", "MIEN_ONNXRUNTIME"}},
		{"unknown name", []string{"--model", "retinaface"}, []string{describeModels(), "NAME=PATH"}},
		{"unknown kind", []string{"--model", "mine=" + filepath.Join(models, "mtcnn", "rnet.onnx"), "--onnxruntime", library}, []string{"softmax_1", "YuNet"}},
		{"no runtime", []string{"--model", "mine=" + filepath.Join(models, "scrfd_500m_kps_640.onnx"), "--onnxruntime", "/nowhere.so"}, []string{"/nowhere.so", "does not run it", "make onnxruntime"}},
		{"not on the mirror", []string{"--model", "yunet", "--model-mirror", nowhere.URL}, []string{nowhere.URL, "404", "yunet=path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var stderr bytes.Buffer
			want := 2
			if c.name == "not on the mirror" { // where it may be later
				want = 1
			}
			if code := run(ctx, append([]string{"--listen", "127.0.0.1:0"}, c.args...), io.Discard, &stderr); code != want || ctx.Err() != nil {
				t.Errorf("exit code %d", code)
			}
			for _, text := range c.want {
				if !strings.Contains(strings.ToLower(stderr.String()), strings.ToLower(text)) {
					t.Errorf("%q does not tell %q", stderr.String(), text)
				}
			}
		})
	}
}

// TestUnusedSettings checks settings for models that are not served: invalid ones are
// errors, others are logged.
func TestUnusedSettings(t *testing.T) {
	t.Run("a mirror that is no URL", func(t *testing.T) {
		for _, mirror := range []string{"models.example.com/mien", "https://me:secret@example.com:port/"} {
			t.Setenv("MIEN_MODEL_MIRROR", mirror)
			var stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code := run(ctx, []string{"--listen", "127.0.0.1:0", "--admin-listen", "off"}, io.Discard, &stderr)
			if text := stderr.String(); code != 2 || !strings.Contains(text, "MIEN_MODEL_MIRROR") || !strings.Contains(text, "https://") || strings.Contains(text, "secret") {
				t.Errorf("exit code %d: %s", code, text)
			}
		}
	})
	for _, c := range []struct {
		name string
		args []string
		want []string // words of the warning; none if nothing is unused
	}{
		{"nothing", nil, nil},
		{"runtime", []string{"--onnxruntime", "/nowhere.so", "--model", "mtcnn"}, []string{"MIEN_ONNXRUNTIME", "has no effect", "/nowhere.so"}},
		{"provider", []string{"--execution-provider", "cuda", "--model", "mtcnn"}, []string{"MIEN_EXECUTION_PROVIDER", "has no effect"}},
		{"mirror", []string{"--model-mirror", "https://me:secret@example.com/?secret", "--model", "pigo", "--model", "pigo-reference"}, []string{"MIEN_MODEL_MIRROR", "has no effect"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.args...)
			code, log := s.stop()
			if code != 0 || strings.Contains(log, "has no effect") != (c.want != nil) || strings.Contains(log, "secret") {
				t.Errorf("exit code %d:\n%s", code, log)
			}
			for _, text := range c.want {
				if !strings.Contains(log, text) {
					t.Errorf("it does not log %q:\n%s", text, log)
				}
			}
		})
	}
	t.Run("by name", func(t *testing.T) {
		library, models := onnxShelf(t)
		s := start(t, "--onnxruntime", library, "--model-mirror", "https://example.com", "--model", "mine="+filepath.Join(models, "scrfd_500m_kps_640.onnx"))
		if code, log := s.stop(); code != 0 || strings.Contains(log, "ONNXRUNTIME") || !strings.Contains(log, "MIEN_MODEL_MIRROR) has no effect") {
			t.Errorf("exit code %d:\n%s", code, log)
		}
	})
}

// TestInterruptedFetch checks that an interrupted download ends at once, without
// blaming a setting.
func TestInterruptedFetch(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done()
	}))
	defer silent.Close()
	var stderr bytes.Buffer
	code := run(ctx, []string{"--listen", "127.0.0.1:0", "--model-mirror", silent.URL, "--model", "yunet"}, io.Discard, &stderr)
	if text := stderr.String(); code != 1 || !strings.Contains(text, "canceled") || strings.Contains(text, "--help") {
		t.Errorf("exit code %d: %s", code, text)
	}
}
