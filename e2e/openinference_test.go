package e2e

import (
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestOpenInference checks with tritonclient, over gRPC and HTTP, that the tensors of the Open
// Inference Protocol have the faces of Predict's answers, and with perf_analyzer that it can
// measure the server by both.
func TestOpenInference(t *testing.T) {
	t.Parallel()
	interpreter := filepath.Join(root, ".bin", "tritonclient", "bin", "python3")
	s := start(t, "--model", "mtcnn,pigo", "--queue", "100")
	data := filepath.Join(t.TempDir(), "data.json")
	args := []string{filepath.Join(root, "e2e", "python", "openinference.py"), s.addr, contract(t), data}
	for _, p := range append(present(t, []*testImage{people}), sample, small) {
		args = append(args, temp(t, p.name, p.load(t)))
	}
	args = append(args, temp(t, "no-faces.png", tiles(t, 300)))
	out := string(runIn(t, root, 3*patience, []string{"PYTHONDONTWRITEBYTECODE=1"}, nil, interpreter, args...).must(t))
	t.Log(out)
	if lines := strings.Count(out, "\n"); lines != 2*(1+2*7+1)+3 {
		t.Errorf("%d checks passed", lines)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("perf_analyzer exists for amd64 only")
	}
	folder := filepath.Join(root, ".bin", "perf_analyzer")
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) { analyze(t, folder, s.addr, protocol, data) })
	}
}

// analyze measures the server with perf_analyzer, and checks that the server has counted at
// least the requests that the client has measured.
func analyze(t *testing.T, folder, addr, protocol, data string) {
	t.Helper()
	// The stability that it waits for may be anything, because the machine may be busy.
	r := runIn(t, root, 3*time.Minute, []string{"LD_LIBRARY_PATH=" + folder}, nil, filepath.Join(folder, "perf_analyzer"),
		"-m", "pigo", "-u", addr, "-i", protocol, "--input-data", data, "--concurrency-range", "2",
		"--measurement-mode", "count_windows", "--measurement-request-count", "10", "--stability-percentage", "999", "--max-trials", "4")
	out := string(r.must(t))
	count := func(name string) int {
		m := regexp.MustCompile(name + `: (\d+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no %q in %s", name, out)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	requests, images := count("Request count"), count("Inference count")
	// The requests have one image or several, in turn.
	if requests < 10 || images < requests || count("Successful request count") != images || !regexp.MustCompile(`compute infer [1-9]`).MatchString(out) {
		t.Errorf("%d requests, %d images:\n%s", requests, images, out)
	}
	t.Log(out)
}
