//go:build cgo

package onnx_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/onnx"
)

// TestRun checks that outputs have the shapes that Probe returns, and are the same in
// every run, on one core and on several.
func TestRun(t *testing.T) {
	path := enginetest.Model(t, "yunet_n_dynamic.onnx")
	input := engine.Shape{1, 3, 64, 96}
	var first []engine.Tensor
	for _, threads := range []int{1, 1, 3} {
		options := enginetest.Options(t)
		options.Gate = cores.NewGate(threads)
		e, err := onnx.Open(path, options)
		if err != nil {
			t.Fatal(err)
		}
		shapes, err := e.Probe(input)
		if err != nil || len(shapes) != len(e.Outputs()) {
			t.Fatalf("%v, %v; want %d shapes", shapes, err, len(e.Outputs()))
		}
		var b engine.Buffers
		b.Resize(input, shapes)
		for i := range b.Input.Data {
			b.Input.Data[i] = float32(i % 251)
		}
		if err := e.Run(t.Context(), b.Input, b.Outputs); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Outputs
		}
		if !reflect.DeepEqual(b.Outputs, first) {
			t.Errorf("the outputs on %d threads are different", threads)
		}
		wrong := slices.Clone(shapes)
		wrong[0] = engine.Shape{1, 2, 3}
		var w engine.Buffers
		w.Resize(input, wrong)
		if err := e.Run(t.Context(), w.Input, w.Outputs); err == nil {
			t.Error("outputs of a wrong shape were accepted")
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRunStops checks that a run stops in the middle of a network when its context
// ends.
func TestRunStops(t *testing.T) {
	e := enginetest.Open(t, enginetest.Model(t, "yunet_n_dynamic.onnx"))
	input := engine.Shape{1, 3, 3200, 3200}
	shapes, err := e.Probe(input)
	if err != nil {
		t.Fatal(err)
	}
	var b engine.Buffers
	b.Resize(input, shapes)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := e.Run(ctx, b.Input, b.Outputs); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := e.Run(ctx, b.Input, b.Outputs); !errors.Is(err, context.Canceled) {
		t.Errorf("afterward got %v, want %v", err, context.Canceled)
	}
}

// TestRunEntersTheGate checks that a run is counted at the gate for as long as it
// takes, both alone and beside others.
func TestRunEntersTheGate(t *testing.T) {
	options := enginetest.Options(t)
	options.Gate = cores.NewGate(2)
	e, err := onnx.Open(enginetest.Model(t, "yunet_n_dynamic.onnx"), options)
	if err != nil {
		t.Fatal(err)
	}
	input := engine.Shape{1, 3, 1600, 1600}
	shapes, err := e.Probe(input)
	if err != nil {
		t.Fatal(err)
	}
	var b engine.Buffers
	b.Resize(input, shapes)
	for _, beside := range []bool{false, true} {
		done := make(chan error)
		if beside {
			options.Gate.Enter(t.Context())
		}
		go func() { done <- e.Run(t.Context(), b.Input, b.Outputs) }()
		seen := false
		for ended := false; !ended; {
			select {
			case err := <-done:
				if ended = true; err != nil {
					t.Error(err)
				}
			default:
				if beside {
					options.Gate.Leave(t.Context())
				}
				if options.Gate.EnterAlone(t.Context()) {
					options.Gate.LeaveAlone(t.Context())
				} else {
					seen = true
				}
				if beside {
					options.Gate.Enter(t.Context())
				}
				time.Sleep(time.Millisecond)
			}
		}
		if beside {
			options.Gate.Leave(t.Context())
		}
		if !seen {
			t.Errorf("beside another %t: the gate was empty during the run", beside)
		}
		if !options.Gate.EnterAlone(t.Context()) {
			t.Fatalf("beside another %t: the gate is not empty after the run", beside)
		}
		options.Gate.LeaveAlone(t.Context())
	}
}

// TestOneRuntime checks that a process cannot load a second runtime.
func TestOneRuntime(t *testing.T) {
	path := enginetest.Model(t, "yunet_n_dynamic.onnx")
	enginetest.Open(t, path)
	if _, err := onnx.Open(path, onnx.Options{Library: "/nowhere/libonnxruntime.so"}); err == nil {
		t.Error("a second runtime was accepted")
	}
}

// TestWrongFiles checks that errors name files that are no models.
func TestWrongFiles(t *testing.T) {
	known := enginetest.Model(t, "yunet_n_dynamic.onnx")
	whole, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		content    []byte
	}{
		{"half", "not an ONNX model", whole[:len(whole)/2]},
		{"zeros", "not an ONNX model", bytes.Repeat([]byte{0}, 1000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.onnx")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := onnx.Open(path, enginetest.Options(t)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not have %q", err, c.want)
			}
		})
	}
}

// TestNoTelemetry checks that the runtime stores nothing about the machine.
func TestNoTelemetry(t *testing.T) {
	enginetest.Options(t) // skips the test if there is no runtime
	home := t.TempDir()
	// A process of its own loads the runtime again.
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRun$")
	other.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_DATA_HOME="+home, "ORT_DISABLE_TELEMETRY=0")
	if out, err := other.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		t.Errorf("the runtime left %s", file.Name())
	}
}
