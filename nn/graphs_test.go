package nn

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/nn/onnxfile"
)

// builder makes graphs with random weights, for tests that need no file.
type builder struct {
	*rand.Rand
	g onnxfile.Graph
}

func newBuilder(seed uint64, shape ...int64) *builder {
	return &builder{
		Rand: rand.New(rand.NewPCG(seed, 2)),
		g: onnxfile.Graph{
			Opset: 11, Inputs: []onnxfile.Value{{Name: "input", Shape: shape}}, Weights: map[string]onnxfile.Tensor{},
		},
	}
}

// weight adds a constant whose values have that magnitude.
func (b *builder) weight(magnitude float64, shape ...int64) string {
	name := fmt.Sprint("weight", len(b.g.Weights))
	t := onnxfile.Tensor{Shape: shape}
	for range engine.Shape(shape).Size() {
		t.Floats = append(t.Floats, float32((2*b.Float64()-1)*magnitude))
	}
	b.g.Weights[name] = t
	return name
}

func (b *builder) numbers(v ...int64) string {
	name := fmt.Sprint("numbers", len(b.g.Weights))
	b.g.Weights[name] = onnxfile.Tensor{Shape: []int64{int64(len(v))}, Ints: v}
	return name
}

type attributes = map[string]onnxfile.Attribute

func ints(v ...int64) onnxfile.Attribute { return onnxfile.Attribute{Ints: v} }

// node adds one, and returns the name of its output.
func (b *builder) node(op string, a attributes, inputs ...string) string {
	name := fmt.Sprint("value", len(b.g.Nodes))
	b.g.Nodes = append(b.g.Nodes, onnxfile.Node{Op: op, Inputs: inputs, Outputs: []string{name}, Attributes: a})
	return name
}

func (b *builder) conv(input string, outputs, inputs, side int64, a attributes) string {
	magnitude := 1.5 / math.Sqrt(float64(inputs*side*side))
	return b.node("Conv", a, input, b.weight(magnitude, outputs, inputs, side, side), b.weight(.5, outputs))
}

// separable adds a 1×1 convolution and a depthwise one.
func (b *builder) separable(input string, outputs, inputs int64) string {
	v := b.conv(input, outputs, inputs, 1, nil)
	return b.conv(v, outputs, 1, 3, attributes{"group": {Int: outputs}, "pads": ints(1, 1, 1, 1)})
}

func (b *builder) relu(input string) string { return b.node("Relu", nil, input) }

func (b *builder) prelu(input string, shape ...int64) string {
	return b.node("PRelu", nil, input, b.weight(.5, shape...))
}

func (b *builder) output(name string, shape ...int64) {
	b.g.Outputs = append(b.g.Outputs, onnxfile.Value{Name: name, Shape: shape})
}

// pyramid is a network like YuNet: planes in, two levels, one of them enlarged and added to
// the other.
func pyramid(seed uint64) *onnxfile.Graph {
	b := newBuilder(seed, -1, 3, -1, -1)
	v := b.relu(b.node("Conv", attributes{"strides": ints(2, 2), "pads": ints(1, 1, 1, 1)}, "input", b.weight(.01, 20, 3, 3, 3), b.weight(.5, 20)))
	v = b.relu(b.separable(v, 40, 20))
	v = b.node("MaxPool", attributes{"kernel_shape": ints(2, 2), "strides": ints(2, 2)}, v)
	v = b.relu(b.conv(v, 24, 40, 3, attributes{"pads": ints(1, 1, 1, 1)}))
	fine := b.relu(b.separable(v, 16, 24))
	v = b.node("MaxPool", attributes{"kernel_shape": ints(2, 2), "strides": ints(2, 2)}, fine)
	coarse := b.relu(b.separable(v, 16, 16))
	b.g.Weights["scales"] = onnxfile.Tensor{Shape: []int64{4}, Floats: []float32{1, 1, 2, 2}}
	v = b.node("Resize", attributes{"mode": {String: "nearest"}, "nearest_mode": {String: "floor"}, "coordinate_transformation_mode": {String: "asymmetric"}}, coarse, "", "scales")
	fine = b.relu(b.separable(b.node("Add", nil, fine, v), 16, 16))
	for _, level := range []string{fine, coarse} {
		for _, channels := range []int64{1, 4} {
			v := b.node("Transpose", attributes{"perm": ints(0, 2, 3, 1)}, b.separable(level, channels, 16))
			batch := b.node("Unsqueeze", attributes{"axes": ints(0)}, b.node("Gather", attributes{"axis": {}}, b.node("Shape", nil, v), b.numbers(0)))
			v = b.node("Reshape", nil, v, b.node("Concat", attributes{"axis": {}}, batch, b.numbers(-1, channels)))
			if channels == 1 {
				v = b.node("Sigmoid", nil, v)
			}
			b.output(v, -1, -1, channels)
		}
	}
	return &b.g
}

// windows is a network like MTCNN's first one: channels last, and no padding.
func windows(seed uint64) *onnxfile.Graph {
	b := newBuilder(seed, -1, -1, -1, 3)
	same := func(side int64) attributes {
		return attributes{"kernel_shape": ints(side, side), "strides": ints(2, 2), "auto_pad": {String: "SAME_UPPER"}}
	}
	v := b.prelu(b.conv(b.node("Transpose", attributes{"perm": ints(0, 3, 1, 2)}, "input"), 10, 3, 3, nil), 10, 1, 1)
	v = b.prelu(b.conv(b.node("MaxPool", same(2), v), 16, 10, 3, nil), 16, 1, 1)
	v = b.prelu(b.conv(v, 32, 16, 3, attributes{"auto_pad": {String: "VALID"}}), 1, 32, 1, 1)
	for _, channels := range []int64{4, 2} {
		o := b.node("Transpose", attributes{"perm": ints(0, 2, 3, 1)}, b.conv(v, channels, 32, 1, nil))
		if channels == 2 {
			o = b.node("Softmax", attributes{"axis": {Int: 3}}, o)
		}
		b.output(o, -1, -1, -1, channels)
	}
	return &b.g
}

// dense is a network like MTCNN's others: images of one size, and matrix products.
func dense(seed uint64) *onnxfile.Graph {
	b := newBuilder(seed, -1, 24, 24, 3)
	pool := func(v string) string {
		return b.node("MaxPool", attributes{"kernel_shape": ints(3, 3), "strides": ints(2, 2), "auto_pad": {String: "SAME_UPPER"}}, v)
	}
	v := b.prelu(b.conv(b.node("Transpose", attributes{"perm": ints(0, 3, 1, 2)}, "input"), 28, 3, 3, nil), 1, 28, 1, 1)
	v = b.prelu(b.conv(pool(v), 48, 28, 3, nil), 1, 48, 1, 1)
	v = b.prelu(b.conv(b.node("MaxPool", attributes{"kernel_shape": ints(3, 3), "strides": ints(2, 2)}, v), 20, 48, 2, nil), 1, 20, 1, 1)
	v = b.node("Flatten", attributes{"axis": {Int: 1}}, b.node("Transpose", attributes{"perm": ints(0, 2, 3, 1)}, v))
	v = b.node("Add", nil, b.node("MatMul", nil, v, b.weight(.1, 180, 50)), b.weight(.5, 50))
	v = b.prelu(v, 50)
	b.output(b.node("Gemm", attributes{"transB": {Int: 1}}, v, b.weight(.2, 10, 50), b.weight(.5, 10)), -1, 10)
	b.output(b.node("Softmax", attributes{"axis": {Int: 1}}, b.node("MatMul", nil, v, b.weight(.2, 50, 2))), -1, 2)
	return &b.g
}

// tiles is a network of dense convolutions that are computed in tiles of both sizes.
func tiles(seed uint64) *onnxfile.Graph {
	b := newBuilder(seed, -1, -1, -1, 3)
	v := b.relu(b.conv(b.node("Transpose", attributes{"perm": ints(0, 3, 1, 2)}, "input"), 25, 3, 3, nil))
	v = b.prelu(b.conv(v, 48, 25, 3, nil), 1, 48, 1, 1)
	v = b.prelu(b.conv(v, 24, 48, 3, nil), 1, 24, 1, 1)
	v = b.relu(b.conv(v, 7, 24, 3, nil))
	b.output(b.node("Transpose", attributes{"perm": ints(0, 2, 3, 1)}, b.conv(v, 5, 7, 1, nil)), -1, -1, -1, 5)
	return &b.g
}

// graphs are those of all kinds, each with inputs of some sizes.
var graphs = []struct {
	name   string
	graph  func(seed uint64) *onnxfile.Graph
	shapes []engine.Shape
	// values are those of the input: from and how many there are above it.
	from, span float32
}{
	{"pyramid", pyramid, []engine.Shape{{1, 3, 64, 96}, {1, 3, 32, 32}, {2, 3, 160, 80}, {1, 3, 8, 8}, {1, 3, 352, 264}}, 0, 255},
	{"windows", windows, []engine.Shape{{1, 16, 24, 3}, {1, 15, 15, 3}, {3, 37, 40, 3}, {1, 12, 12, 3}, {1, 190, 231, 3}}, -1, 2},
	{"tiles", tiles, []engine.Shape{{1, 9, 9, 3}, {2, 21, 30, 3}, {1, 24, 23, 3}, {1, 80, 101, 3}, {1, 103, 98, 3}}, -1, 2},
	{"dense", dense, []engine.Shape{{1, 24, 24, 3}, {5, 24, 24, 3}, {37, 24, 24, 3}}, -1, 2},
}

// randomInput returns an input whose values are in the range.
func randomInput(seed uint64, shape engine.Shape, from, span float32) engine.Tensor {
	r := rand.New(rand.NewPCG(seed, 3))
	t := engine.Tensor{Shape: shape}
	for range shape.Size() {
		t.Data = append(t.Data, from+float32(span*r.Float32()))
	}
	return t
}
