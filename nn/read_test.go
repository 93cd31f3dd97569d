package nn

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/nn/onnxfile"
)

// TestReadRefuses what is not supported; the error names the node, and says what is.
func TestReadRefuses(t *testing.T) {
	// first is the first node of that kind.
	first := func(g *onnxfile.Graph, op string) *onnxfile.Node {
		return &g.Nodes[slices.IndexFunc(g.Nodes, func(n onnxfile.Node) bool { return n.Op == op })]
	}
	set := func(op, attribute string, a onnxfile.Attribute) func(*onnxfile.Graph) {
		return func(g *onnxfile.Graph) {
			n := first(g, op)
			if n.Attributes == nil {
				n.Attributes = attributes{}
			}
			n.Attributes[attribute] = a
		}
	}
	weight := func(v float32) func(g *onnxfile.Graph) {
		return func(g *onnxfile.Graph) { g.Weights[first(g, "Conv").Inputs[1]].Floats[3] = v }
	}
	for _, c := range []struct {
		name   string
		graph  func(uint64) *onnxfile.Graph
		change func(*onnxfile.Graph)
		want   string
	}{
		{"operator", pyramid, func(g *onnxfile.Graph) { first(g, "Relu").Op = "Elu" }, `node 1, Elu "": the operator is not supported`},
		{"attribute", pyramid, set("Conv", "future", ints(1)), `node 0, Conv "": the attribute future is not supported`},
		{"dilations", pyramid, set("Conv", "dilations", ints(2, 2)), "dilations"},
		{"strides", pyramid, set("Conv", "strides", ints(3, 3)), "strides are [3 3]; supported are [1 1] and [2 2]"},
		{"pads", pyramid, set("Conv", "pads", ints(2, 2, 2, 2)), "pads are [2 2 2 2]"},
		{"group", pyramid, set("Conv", "group", onnxfile.Attribute{Int: 3}), "its weights are for 9 channels"},
		{"padding", pyramid, set("Conv", "auto_pad", onnxfile.Attribute{String: "SAME_LOWER"}), "auto_pad is SAME_LOWER"},
		{"pool", pyramid, set("MaxPool", "kernel_shape", ints(4, 4)), "kernel_shape is [4 4]"},
		{"ceiling", pyramid, set("MaxPool", "ceil_mode", onnxfile.Attribute{Int: 1}), "ceil_mode is 1; supported is [0]"},
		{"resize", pyramid, set("Resize", "mode", onnxfile.Attribute{String: "linear"}), "it is linear"},
		{"scales", pyramid, func(g *onnxfile.Graph) { g.Weights["scales"].Floats[2] = 3 }, "its scales are [1 1 3 2]"},
		{"gather", pyramid, set("Gather", "axis", onnxfile.Attribute{Int: 1}), "axis is 1"},
		{"perm", pyramid, set("Transpose", "perm", ints(0, 1, 3, 2)), "perm is [0 1 3 2]"},
		{"NaN", pyramid, weight(float32(math.NaN())), errTooLarge.Error()},
		{"infinite", pyramid, weight(float32(math.Inf(1))), errTooLarge.Error()},
		{"huge", pyramid, weight(1e9), errTooLarge.Error()},
		{"softmax", windows, set("Softmax", "axis", onnxfile.Attribute{Int: 1}), "axis is 1; supported is the last axis"},
		{"slope", windows, func(g *onnxfile.Graph) {
			name := first(g, "PRelu").Inputs[1]
			w := g.Weights[name]
			w.Shape = []int64{10}
			g.Weights[name] = w
		}, "its slope has the shape [10]"},
		{"flatten", dense, set("Flatten", "axis", onnxfile.Attribute{Int: 2}), "axis is 2; supported is [1]"},
		{"matrix", dense, set("Gemm", "alpha", onnxfile.Attribute{Float: 2}), "alpha is 2; supported is 1"},
		{"any size", dense, func(g *onnxfile.Graph) { g.Inputs[0].Shape[1] = -1 }, "a fixed size"},
		{"another size", dense, func(g *onnxfile.Graph) { g.Inputs[0].Shape[1] = 32 }, "its matrix is for 180 values"},
		{"no pixels", dense, func(g *onnxfile.Graph) { g.Inputs[0].Shape[1] = 2 }, "nothing is left"},
		{"inputs", pyramid, func(g *onnxfile.Graph) { g.Inputs = append(g.Inputs, g.Inputs[0]) }, "2 inputs"},
		{"axes", pyramid, func(g *onnxfile.Graph) { g.Inputs[0].Shape = []int64{1, 3} }, "2 axes"},
		{"channels", pyramid, func(g *onnxfile.Graph) { g.Inputs[0].Shape[1] = 4 }, "its weights are for 3 channels, its input has 4"},
		{"output", pyramid, func(g *onnxfile.Graph) { g.Outputs[0].Name = first(g, "Relu").Outputs[0] }, "without activation"},
		{"layout", pyramid, func(g *onnxfile.Graph) { g.Outputs[0].Name = first(g, "Transpose").Inputs[0] }, "channels last"},
		{"nothing", pyramid, func(g *onnxfile.Graph) { g.Nodes = nil }, "no convolution"},
	} {
		g := c.graph(1)
		c.change(g)
		if _, err := newEngine(g, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestQuantizedSums: no sum can leave int32, and weights lose little.
func TestQuantizedSums(t *testing.T) {
	for seed := range uint64(200) {
		c := newKernelCase(seed)
		weights := c.floats(1+c.IntN(1500), 2)
		if seed%3 == 0 {
			weights[0] = 0
		}
		if seed%5 == 0 {
			weights = weights[:1]
		}
		q := quantizer{unsigned: seed%2 == 0, first: float64(c.Float32()) * 1e4, weights: make([]int16, len(weights))}
		if err := q.quantize(weights); err != nil {
			t.Fatal(err)
		}
		low, high := int64(q.bias), int64(q.bias)
		for _, w := range q.weights {
			low += int64(w) * map[bool]int64{true: -1 << 15, false: 1<<15 - 1}[w > 0]
			high += int64(w) * map[bool]int64{true: 1<<15 - 1, false: -1 << 15}[w > 0]
		}
		if low < math.MinInt32 || high > math.MaxInt32 {
			t.Errorf("case %d: sums from %d to %d", seed, low, high)
		}
		carry := 0.
		for i, w := range weights {
			carry += float64(w) - float64(q.weights[i])/q.factor
			if d := math.Abs(carry); d > 1/q.factor {
				t.Errorf("case %d: the weights up to %d are %v off, more than %v", seed, i, d, 1/q.factor)
				break
			}
		}
		if q.factor < 1 {
			t.Error(fmt.Sprint("case ", seed, ": the factor is ", q.factor))
		}
	}
}
