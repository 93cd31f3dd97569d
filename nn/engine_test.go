package nn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/nn/onnxfile"
)

// build makes an engine of a graph.
func build(t testing.TB, g *onnxfile.Graph, o Options) *Engine {
	t.Helper()
	e, err := newEngine(g, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// expected returns the outputs as the definition of the network has them.
func expected(e *Engine, input engine.Tensor) [][]float64 {
	n := e.network
	_, of, _ := e.check(input.Shape)
	all := make([]sized, len(n.stages))
	_ = sizes(all, n.stages, of)
	values := make([][]float64, len(n.outputs))
	each := len(input.Data) / int(input.Shape[0])
	for item := range int(input.Shape[0]) {
		maps, _ := reference(n, input.Data[item*each:][:each], of)
		for i, o := range n.outputs {
			pixels := all[o.stage].out.height * all[o.stage].out.width
			for p := range pixels {
				var v []float64
				for c := range o.channels {
					v = append(v, maps[o.stage][(o.first+c)*pixels+p])
				}
				switch o.post {
				case sigmoids:
					v[0] = 1 / (1 + math.Exp(-v[0]))
				case softmaxes:
					sum := 0.
					for c := range v {
						v[c] = math.Exp(v[c])
						sum += v[c]
					}
					for c := range v {
						v[c] /= sum
					}
				}
				values[i] = append(values[i], v...)
			}
		}
	}
	return values
}

// TestRunAsDefined: the outputs are close to those of float64, within what the arithmetic of
// the network allows.
func TestRunAsDefined(t *testing.T) {
	for _, g := range graphs {
		e := build(t, g.graph(1), Options{})
		limit := .02
		if e.floats != nil {
			limit = 1e-5
		}
		for _, shape := range g.shapes {
			if testing.Short() && shape.Size() > 50_000 {
				continue
			}
			input := randomInput(1, shape, g.from, g.span)
			want := expected(e, input)
			for i, o := range outputs(t, e, input) {
				if len(o.Data) != len(want[i]) {
					t.Fatalf("%s, %s: output %d is %s, want %d values", g.name, shape, i, o.Shape, len(want[i]))
				}
				for k, v := range o.Data {
					if d := math.Abs(float64(v) - want[i][k]); !(d < limit) {
						t.Fatalf("%s, %s: output %d, value %d is %v, want %v", g.name, shape, i, k, v, want[i][k])
					}
				}
			}
		}
	}
}

// same fails the test unless two sets of outputs have the same bits.
func same(t *testing.T, what string, got, want []engine.Tensor) {
	t.Helper()
	for i := range want {
		for k, v := range want[i].Data {
			if g := got[i].Data[k]; math.Float32bits(g) != math.Float32bits(v) {
				t.Fatalf("%s: output %d, value %d of %d is %v, want %v", what, i, k, len(want[i].Data), g, v)
			}
		}
	}
}

// TestRunOnCores: the bits do not depend on the number of cores, on the batch, on the kernels,
// or on what was run before.
func TestRunOnCores(t *testing.T) {
	for _, g := range graphs {
		alone := build(t, g.graph(1), Options{})
		var shared []*Engine
		for n := 2; n <= 5; n++ {
			shared = append(shared, build(t, g.graph(1), Options{Gate: cores.NewGate(n)}))
		}
		var twin *Engine
		withTwins(func() { twin = build(t, g.graph(1), Options{}) })
		shapes := g.shapes
		if !testing.Short() {
			shapes = slices.Concat(shapes, shapes)
		}
		for i, shape := range shapes {
			input := randomInput(uint64(i), shape, g.from, g.span)
			want := outputs(t, alone, input)
			for k, e := range shared {
				same(t, fmt.Sprintf("%s, %s, %d cores", g.name, shape, k+2), outputs(t, e, input), want)
			}
			withTwins(func() { same(t, fmt.Sprintf("%s, %s, in Go", g.name, shape), outputs(t, twin, input), want) })
			item := slices.Clone(shape)
			item[0] = 1
			n := item.Size()
			last := engine.Tensor{Shape: item, Data: input.Data[len(input.Data)-n:]}
			for k, o := range outputs(t, alone, last) {
				same(t, fmt.Sprintf("%s, %s, last of the batch", g.name, shape), []engine.Tensor{o}, []engine.Tensor{{Data: want[k].Data[len(want[k].Data)-len(o.Data):]}})
			}
		}
	}
}

// TestRunTogether: an engine may be used by many at once.
func TestRunTogether(t *testing.T) {
	for _, g := range graphs {
		e := build(t, g.graph(1), Options{Gate: cores.NewGate(2)})
		alone := build(t, g.graph(1), Options{})
		var all sync.WaitGroup
		for i := range 12 {
			shape := g.shapes[i%len(g.shapes)]
			input := randomInput(uint64(i), shape, g.from, g.span)
			want := outputs(t, alone, input)
			all.Go(func() { same(t, g.name, outputs(t, e, input), want) })
		}
		all.Wait()
	}
}

// networkDigests are those of the outputs for some inputs, on any processor.
var networkDigests = map[string]string{
	"dense":   "844184c6bd345d73",
	"pyramid": "12d23aabcf3062ed",
	"tiles":   "3b82acc2a510fd1b",
	"windows": "3ef25816d74fd915",
}

// TestNetworksDigest: networks give the same bits everywhere.
func TestNetworksDigest(t *testing.T) {
	for _, g := range graphs {
		digest := fnv.New64a()
		for seed := range uint64(3) {
			e := build(t, g.graph(seed), Options{})
			for _, shape := range g.shapes[:3] {
				for _, o := range outputs(t, e, randomInput(seed, shape, g.from, g.span)) {
					_ = binary.Write(digest, binary.LittleEndian, o.Data)
				}
			}
		}
		if got := fmt.Sprintf("%016x", digest.Sum64()); got != networkDigests[g.name] {
			t.Errorf("%s: digest %s, want %s", g.name, got, networkDigests[g.name])
		}
	}
}

// TestMemory: a run allocates nothing once the engine has run.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which short tests are run, allocates on its own account")
	}
	for _, g := range graphs {
		for n := 1; n <= 2; n++ {
			e := build(t, g.graph(1), Options{Gate: cores.NewGate(n)})
			shape := g.shapes[len(g.shapes)-1]
			shapes, err := e.Probe(shape)
			if err != nil {
				t.Fatal(err)
			}
			var b engine.Buffers
			b.Resize(shape, shapes)
			b.Input = randomInput(1, shape, g.from, g.span)
			run := func() {
				if err := e.Run(t.Context(), b.Input, b.Outputs); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				run() // each goroutine needs its memory once
			}
			if allocs := testing.AllocsPerRun(50, run); allocs >= 1 {
				t.Errorf("%s on %d cores: %v allocations", g.name, n, allocs)
			}
		}
	}
}

// countdown is a context that ends after some checks.
type countdown struct {
	context.Context
	left int
	mu   sync.Mutex
}

func (c *countdown) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestRunStops soon after its context ends, and the next run is whole.
func TestRunStops(t *testing.T) {
	for _, g := range graphs {
		e := build(t, g.graph(1), Options{Gate: cores.NewGate(2)})
		input := randomInput(1, g.shapes[0], g.from, g.span)
		want := outputs(t, e, input)
		got := outputs(t, e, input)
		for left := range 5 {
			err := e.Run(&countdown{Context: t.Context(), left: left}, input, got)
			if !errors.Is(err, context.Canceled) && (err != nil || left < 2) {
				t.Errorf("%s, %d checks: %v", g.name, left, err)
			}
			same(t, g.name, outputs(t, e, input), want)
		}
	}
}

// TestRunRefuses tensors that do not fit, and values that cannot be.
func TestRunRefuses(t *testing.T) {
	t.Run("one core", func(t *testing.T) { testRunRefuses(t, Options{}) })
	t.Run("two cores", func(t *testing.T) { testRunRefuses(t, Options{Gate: cores.NewGate(2)}) })
}

func testRunRefuses(t *testing.T, of Options) {
	t.Helper()
	e := build(t, pyramid(1), of)
	input := randomInput(1, engine.Shape{1, 3, 64, 96}, 0, 255)
	o := outputs(t, e, input)
	with := func(value float32) engine.Tensor {
		data := slices.Clone(input.Data)
		data[1000] = value
		return engine.Tensor{Shape: input.Shape, Data: data}
	}
	for _, c := range []struct {
		name    string
		input   engine.Tensor
		outputs []engine.Tensor
		want    string
	}{
		{"NaN", with(float32(math.NaN())), o, "magnitude of NaN"},
		{"infinite", with(float32(math.Inf(-1))), o, "magnitude of +Inf"},
		{"large", with(5000), o, "magnitude of 5000; allowed are numbers up to 4095"},
		{"short", engine.Tensor{Shape: input.Shape, Data: input.Data[1:]}, o, "values for the shape [1×3×64×96]"},
		{"channels", engine.Tensor{Shape: engine.Shape{1, 4, 64, 96}, Data: input.Data}, o, "the network takes input[?×3×?×?]"},
		{"axes", engine.Tensor{Shape: engine.Shape{3, 64, 96}, Data: input.Data}, o, "the network takes input[?×3×?×?]"},
		{"empty", engine.Tensor{Shape: engine.Shape{1, 3, 0, 96}}, o, "at least 1"},
		{"tiny", randomInput(1, engine.Shape{1, 3, 1, 1}, 0, 255), o, "nothing is left"},
		{"odd", randomInput(1, engine.Shape{1, 3, 60, 60}, 0, 255), o, "cannot be added"},
		{"vast", engine.Tensor{Shape: engine.Shape{1, 3, 1 << 20, 1}, Data: make([]float32, 3<<20)}, o, "sides may be from 1 to"},
		{"fewer outputs", input, o[1:], "3 outputs for 4"},
		{"another output", input, slices.Concat(o[1:], o[:1]), "the network gives"},
	} {
		if err := e.Run(t.Context(), c.input, c.outputs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestEngineKeepsWeightsOnce checks that an engine keeps its kernels' copy of the weights, and
// neither the file's nor the graph.
func TestEngineKeepsWeightsOnce(t *testing.T) {
	file, err := os.ReadFile("../face/mtcnn/weights/onet.onnx")
	if err != nil {
		t.Fatal(err)
	}
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	engines := make([]*Engine, 8)
	before := heap()
	for i := range engines {
		if engines[i], err = New(file, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / float64(len(engines))
	runtime.KeepAlive(engines)
	// In tiles, weights take up to four times as much.
	if ratio := each / float64(len(file)); ratio < .8 || ratio > 2 {
		t.Errorf("an engine takes %.2f times as much memory as its file", ratio)
	}
}
