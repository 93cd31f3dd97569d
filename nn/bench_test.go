//go:build linux

package nn

import (
	"testing"
	"time"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face/facetest"
)

// runner returns a function that runs the engine on an input again and again.
func runner(b *testing.B, e engine.Engine, input engine.Tensor) func(int) {
	b.Helper()
	shapes, err := e.Probe(input.Shape)
	if err != nil {
		b.Fatal(err)
	}
	var buffers engine.Buffers
	buffers.Resize(input.Shape, shapes)
	buffers.Input = input
	return func(int) {
		if err := e.Run(b.Context(), buffers.Input, buffers.Outputs); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkInputs are those of the benchmarks by the network that takes them.
func benchmarkInputs(b *testing.B) []struct {
	name, file string
	input      engine.Tensor
} {
	b.Helper()
	people := facetest.Path(b, "peoples.jpg")
	img := facetest.Decode(b, people)
	batch := func(n, side int) engine.Tensor {
		t := engine.Tensor{Shape: engine.Shape{int64(n), int64(side), int64(side), 3}}
		for i := range n {
			part := img.Bounds()
			part.Min.X += 4 * i
			part.Max.X = part.Min.X + 100
			t.Data = interleaved(t.Data, img, part, side, side)
		}
		return t
	}
	whole := func(width, height int) engine.Tensor {
		return engine.Tensor{Shape: engine.Shape{1, int64(height), int64(width), 3}, Data: interleaved(nil, img, img.Bounds(), width, height)}
	}
	return []struct {
		name, file string
		input      engine.Tensor
	}{
		{"yunet-640", "yunet_n_dynamic.onnx", planes(b, people, 640, false)},
		{"yunet-1024", "yunet_n_dynamic.onnx", planes(b, people, 1024, false)},
		{"yunet-s-640", "yunet_s_dynamic.onnx", planes(b, people, 640, false)},
		{"pnet-tile", "mtcnn/pnet.onnx", whole(266, 266)},
		{"pnet-small", "mtcnn/pnet.onnx", whole(60, 40)},
		{"rnet-64", "mtcnn/rnet.onnx", batch(64, 24)},
		{"onet-16", "mtcnn/onet.onnx", batch(16, 48)},
	}
}

// BenchmarkAsONNXRuntime compares with the runtime on one thread.
func BenchmarkAsONNXRuntime(b *testing.B) {
	for _, c := range benchmarkInputs(b) {
		b.Run(c.name, func(b *testing.B) {
			judge := enginetest.Open(b, enginetest.Model(b, c.file))
			enginetest.Compare(b, enginetest.ThreadTime, 1, runner(b, open(b, c.file, Options{}), c.input), runner(b, judge, c.input))
		})
	}
}

// BenchmarkTwin compares the pure Go kernels with the assembly.
func BenchmarkTwin(b *testing.B) {
	if !assembly {
		b.Skip("this build, or this processor, has the pure Go kernels only")
	}
	for _, c := range benchmarkInputs(b) {
		b.Run(c.name, func(b *testing.B) {
			fast := runner(b, open(b, c.file, Options{}), c.input)
			var twin func(int)
			withTwins(func() { twin = runner(b, open(b, c.file, Options{}), c.input) })
			enginetest.Compare(b, enginetest.ThreadTime, 1, func(i int) { withTwins(func() { twin(i) }) }, fast)
		})
	}
}

// BenchmarkCores compares two cores with one, in elapsed time.
func BenchmarkCores(b *testing.B) {
	start := time.Now()
	for _, c := range benchmarkInputs(b) {
		b.Run(c.name, func(b *testing.B) {
			two := runner(b, open(b, c.file, Options{Gate: cores.NewGate(2)}), c.input)
			enginetest.Compare(b, func() time.Duration { return time.Since(start) }, 1, two, runner(b, open(b, c.file, Options{}), c.input))
		})
	}
}
