package mtcnn

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/nn"
	"github.com/mienproject/mien/nn/onnxfile"
)

// openWeights opens the embedded networks on ONNX Runtime.
func openWeights(t testing.TB) []engine.Engine {
	t.Helper()
	folder := t.TempDir()
	for i, b := range Weights() {
		if err := os.WriteFile(filepath.Join(folder, Files[i]), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return openFolder(t, folder)
}

// openOwn opens the embedded networks on package nn.
func openOwn(t testing.TB) []engine.Engine {
	t.Helper()
	var networks []engine.Engine
	for i, b := range Weights() {
		e, err := nn.New(b, nn.Options{})
		if err != nil {
			t.Fatalf("%s: %v", Files[i], err)
		}
		networks = append(networks, e)
	}
	return networks
}

func openFolder(t testing.TB, folder string) []engine.Engine {
	t.Helper()
	var networks []engine.Engine
	for _, name := range Files {
		e := enginetest.Open(t, filepath.Join(folder, name))
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		networks = append(networks, e)
	}
	return networks
}

// TestWeights compares the embedded networks with files that somebody else has made of
// the same package: the same operations, attributes and weights, to the bit.
func TestWeights(t *testing.T) {
	folder := enginetest.Model(t, "mtcnn")
	for i, name := range Files {
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		got, want := readGraph(t, Weights()[i]), readGraph(t, b)
		if len(got.Inputs) != 1 || !slices.Equal(got.Inputs[0].Shape, want.Inputs[0].Shape) {
			t.Errorf("%s takes %v, want one input like %v", name, got.Inputs, want.Inputs)
		}
		if got.Opset != want.Opset || len(got.Weights) != len(want.Weights) || len(got.Outputs) != len(want.Outputs) {
			t.Fatalf("%s: opset %d, %d weights, %d outputs, want %d, %d and %d", name,
				got.Opset, len(got.Weights), len(got.Outputs), want.Opset, len(want.Weights), len(want.Outputs))
		}
		for k := range want.Outputs {
			if !slices.Equal(got.Outputs[k].Shape, want.Outputs[k].Shape) {
				t.Errorf("%s: output %d is %v, want %v", name, k, got.Outputs[k], want.Outputs[k])
			}
			got, want := expression(got, got.Outputs[k].Name), expression(want, want.Outputs[k].Name)
			if got != want {
				t.Errorf("%s: output %d is\n%s\nwant\n%s", name, k, got, want)
			}
		}
	}
}

func readGraph(t *testing.T, b []byte) *onnxfile.Graph {
	t.Helper()
	g, err := onnxfile.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// expression writes how a value is computed: operators with their attributes, shapes and
// hashes of weights, and no names.
func expression(g *onnxfile.Graph, name string) string {
	if w, ok := g.Weights[name]; ok {
		hash := sha256.New()
		if err := binary.Write(hash, binary.LittleEndian, w.Floats); err != nil {
			panic(err)
		}
		return fmt.Sprintf("%v %x", w.Shape, hash.Sum(nil)[:8])
	}
	i := slices.IndexFunc(g.Nodes, func(n onnxfile.Node) bool { return slices.Contains(n.Outputs, name) })
	if i < 0 {
		return "input"
	}
	n := g.Nodes[i]
	var inputs []string
	for _, in := range n.Inputs {
		inputs = append(inputs, expression(g, in))
	}
	return fmt.Sprintf("%s %v(\n%s)", n.Op, n.Attributes, strings.Join(inputs, ",\n"))
}

// TestWeightsOnRuntime: ONNX Runtime computes the same from the embedded networks as from
// the other files.
func TestWeightsOnRuntime(t *testing.T) {
	embedded, others := openWeights(t), openFolder(t, enginetest.Model(t, "mtcnn"))
	random := rand.New(rand.NewPCG(1, 2))
	for i, shape := range []engine.Shape{{1, 61, 48, 3}, {5, rnetSide, rnetSide, 3}, {3, onetSide, onetSide, 3}} {
		input := engine.Tensor{Shape: shape, Data: make([]float32, shape.Size())}
		for k := range input.Data {
			input.Data[k] = (float32(random.IntN(256)) - 127.5) / 128
		}
		got, want := run(t, embedded[i], input), run(t, others[i], input)
		for k := range want {
			if !slices.Equal(got[k].Data, want[k].Data) {
				t.Errorf("%s: output %d has other values", Files[i], k)
			}
		}
	}
}

// run returns the outputs of a network.
func run(t *testing.T, e engine.Engine, input engine.Tensor) []engine.Tensor {
	t.Helper()
	shapes, err := e.Probe(input.Shape)
	if err != nil {
		t.Fatal(err)
	}
	var b engine.Buffers
	b.Resize(input.Shape, shapes)
	if err := e.Run(t.Context(), input, b.Outputs); err != nil {
		t.Fatal(err)
	}
	return b.Outputs
}

// TestLicense: whoever prints the license prints the package's.
func TestLicense(t *testing.T) {
	for _, part := range []string{"MIT License", "Copyright (c) 2019 Iván de Paz Centeno"} {
		if !strings.Contains(License, part) {
			t.Errorf("the license lacks %q", part)
		}
	}
}
