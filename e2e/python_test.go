package e2e

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"path/filepath"
	"slices"
	"testing"
)

// python is Debian's Python, which has the packages; another Python may come first on
// PATH.
const python = "/usr/bin/python3"

// stubs generates the Python modules of both schemas, and returns their folder.
func stubs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	plugin := "--plugin=protoc-gen-grpc=" + tool(t, "grpc_python_plugin")
	run(t, nil, "protoc", "-I", "proto", "-I", "e2e/proto", plugin, "--python_out="+dir, "--grpc_out="+dir,
		"inference/v1/inference.proto", "errors.proto", "old_inference.proto").must(t)
	return dir
}

// outcome is a line that predict.py prints.
type outcome struct {
	Answer json.RawMessage
	Error  *struct {
		Code, Message string
		Reasons       []string
	}
}

// runPython runs a script with the stubs, and returns the lines that it prints.
func runPython(t testing.TB, stubs, script string, args ...string) [][]byte {
	t.Helper()
	script = filepath.Join(root, "e2e", "python", script)
	env := []string{"PYTHONPATH=" + stubs, "PYTHONDONTWRITEBYTECODE=1"}
	r := runEnv(t, env, nil, python, append([]string{script}, args...)...)
	// Some versions of gRPC's library report this as INTERNAL, and others only log it.
	if bytes.Contains(r.stderr, []byte("Error parsing metadata")) {
		t.Errorf("gRPC's library cannot read the answer's headers: %s", r.stderr)
	}
	return slices.Collect(bytes.Lines(r.must(t)))
}

func predictPy(t testing.TB, stubs string, args ...string) []outcome {
	t.Helper()
	var outcomes []outcome
	for _, line := range runPython(t, stubs, "predict.py", args...) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

func TestPython(t *testing.T) {
	t.Parallel()
	modules := stubs(t)
	s := start(t)
	for _, p := range []*testImage{sample, people} {
		t.Run(p.name, func(t *testing.T) {
			out := predictPy(t, modules, s.addr, temp(t, p.name, p.load(t)))
			if len(out) != 1 || out[0].Answer == nil {
				t.Fatalf("no answer: %+v", out)
			}
			p.check(t, out[0].Answer)
		})
	}
	t.Run("error", func(t *testing.T) {
		// The channel still works after an error.
		out := predictPy(t, modules, s.addr, temp(t, "broken.jpg", []byte("\xff\xd8\xff\xe0")), temp(t, small.name, small.load(t)))
		if len(out) != 2 || out[0].Error == nil || out[1].Answer == nil {
			t.Fatalf("want an error and an answer: %+v", out)
		}
		e := out[0].Error
		if e.Code != "INVALID_ARGUMENT" || e.Message == "" || !slices.Equal(e.Reasons, []string{"mien/CORRUPT_IMAGE"}) {
			t.Errorf("error is %+v, want INVALID_ARGUMENT, mien/CORRUPT_IMAGE", *e)
		}
		small.check(t, out[1].Answer)
	})
	for _, flag := range []string{"--stream", "--batch"} {
		t.Run(flag[2:], func(t *testing.T) {
			images := []*testImage{sample, small, sample}
			bad := temp(t, "broken.jpg", []byte("\xff\xd8\xff\xe0"))
			out := predictPy(t, modules, flag, s.addr, temp(t, sample.name, sample.load(t)), bad,
				temp(t, small.name, small.load(t)), temp(t, sample.name, sample.load(t)))
			if len(out) != 4 {
				t.Fatalf("%d answers, want 4: %+v", len(out), out)
			}
			for n, o := range out {
				var a struct {
					Index *int
					Error *struct {
						Code            int32
						Reason, Message string
					}
				}
				if err := json.Unmarshal(o.Answer, &a); err != nil || a.Index == nil || (flag == "--stream" && *a.Index != n) {
					t.Fatalf("answer %d: %v, %s", n, err, o.Answer)
				}
				switch i := *a.Index; i {
				case 1:
					if a.Error == nil || a.Error.Code != 3 || a.Error.Reason != "CORRUPT_IMAGE" || a.Error.Message == "" {
						t.Errorf("the broken one: %s", o.Answer)
					}
				case 0:
					images[0].check(t, o.Answer)
				default:
					images[i-1].check(t, o.Answer)
				}
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		// The requests are sent at once, and need far more work than the deadline
		// allows, because the library's own scan takes several seconds.
		s := start(t, "--model", "pigo-reference")
		out := predictPy(t, modules, s.addr, "--timeout", "1", "--min-face-size", "20",
			temp(t, "tiles.png", tiles(t, 6000)))
		if len(out) != 1 || out[0].Error == nil || out[0].Error.Code != "DEADLINE_EXCEEDED" {
			t.Fatalf("want DEADLINE_EXCEEDED: %+v", out)
		}
		// The server has stopped the work too.
		calls := requests(s.stop(), procedure)
		last := calls[len(calls)-1]
		if last["code"] != "deadline_exceeded" && last["code"] != "canceled" {
			t.Errorf("the server's own code is %v", last["code"])
		}
	})
}

// tiles returns a square image with copies of the same noise: a large image in a small
// file.
func tiles(t testing.TB, side int) []byte {
	t.Helper()
	const tile = 60
	pattern := noise(tile)
	img := image.NewGray(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		x, y := i%side, i/side
		img.Pix[i] = pattern[y%tile*tile+x%tile]
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
