package nn

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mienproject/mien/nn/onnxfile"
)

// reader makes a network of a graph, node by node. It fuses what belongs together: an
// activation goes into the stage before it, and so on.
type reader struct {
	graph   *onnxfile.Graph
	network *network
	// input is the size of the input; -1 is any.
	input size
	// values are the maps by their names in the graph, and numbers are constants or shapes.
	values  map[string]value
	numbers map[string][]int64
	// uses counts the nodes that take a value, and the network itself for its outputs.
	uses map[string]int
}

// value is what a name of the graph stands for: a map, or a part of one.
type value struct {
	source
	layout   layout
	channels int
	post     post
	// enlarged means that the map has been upsampled.
	enlarged bool
}

// layout is the order of a value's axes.
type layout int

const (
	planar       layout = iota // [N, C, H, W]
	channelsLast               // [N, H, W, C]
	cells                      // [N, H·W, C]
	flat                       // [N, C·H·W]
	flatLast                   // [N, H·W·C]
	vector                     // [N, C]
)

// theBatch stands for the size of a batch in numbers.
const theBatch = -1 << 40

// operators are the nodes that can be read, each with the attributes that it may have.
var operators = map[string]struct {
	read       func(*reader, *node) error
	attributes []string
}{
	"Add":       {(*reader).add, nil},
	"Concat":    {(*reader).concat, []string{"axis"}},
	"Conv":      {(*reader).conv, []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}},
	"Flatten":   {(*reader).flatten, []string{"axis"}},
	"Gather":    {(*reader).gather, []string{"axis"}},
	"Gemm":      {(*reader).gemm, []string{"alpha", "beta", "transA", "transB"}},
	"MatMul":    {(*reader).matMul, nil},
	"MaxPool":   {(*reader).maxPool, []string{"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"}},
	"PRelu":     {(*reader).prelu, nil},
	"Relu":      {(*reader).relu, nil},
	"Reshape":   {(*reader).reshape, []string{"allowzero"}},
	"Resize":    {(*reader).resize, []string{"coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value", "mode", "nearest_mode"}},
	"Shape":     {(*reader).shape, nil},
	"Sigmoid":   {(*reader).sigmoid, nil},
	"Softmax":   {(*reader).softmax, []string{"axis"}},
	"Transpose": {(*reader).transpose, []string{"perm"}},
	"Unsqueeze": {(*reader).unsqueeze, []string{"axes"}},
}

// read makes a network of a graph.
func read(g *onnxfile.Graph) (*network, error) {
	r := &reader{graph: g, network: &network{}, values: map[string]value{}, numbers: map[string][]int64{}, uses: map[string]int{}}
	if err := r.begin(); err != nil {
		return nil, err
	}
	for i := range g.Nodes {
		n := &node{&g.Nodes[i], i}
		op, ok := operators[n.Op]
		if !ok {
			return nil, n.errorf("the operator is not supported; known are %v", slices.Sorted(maps.Keys(operators)))
		}
		for _, name := range slices.Sorted(maps.Keys(n.Attributes)) {
			if !slices.Contains(op.attributes, name) {
				return nil, n.errorf("the attribute %s is not supported; known are %v", name, op.attributes)
			}
		}
		if err := op.read(r, n); err != nil {
			return nil, err
		}
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return r.network, nil
}

// begin reads the input.
func (r *reader) begin() error {
	g := r.graph
	if len(g.Inputs) != 1 {
		return fmt.Errorf("the network has %d inputs; known are networks of one", len(g.Inputs))
	}
	in := g.Inputs[0]
	if len(in.Shape) != 4 {
		return fmt.Errorf("the network's input has %d axes; known are images of 4 axes", len(in.Shape))
	}
	for _, n := range g.Nodes {
		for _, name := range n.Inputs {
			r.uses[name]++
		}
	}
	for _, o := range g.Outputs {
		r.uses[o.Name]++
	}
	for name, w := range g.Weights {
		if w.Ints != nil {
			r.numbers[name] = w.Ints
		}
	}
	r.input = size{int(in.Shape[2]), int(in.Shape[3])}
	r.network.channels = int(in.Shape[1])
	r.values[in.Name] = value{source: theInput, layout: planar, channels: r.network.channels}
	return nil
}

// end reads the outputs, and merges stages that can be computed at once.
func (r *reader) end() error {
	if r.network.channels < 1 || len(r.network.stages) == 0 {
		return errors.New("the network has no convolution, or its input has channels of any number")
	}
	for _, o := range r.graph.Outputs {
		v, ok := r.values[o.Name]
		if !ok || v.stage < 0 || !r.network.stages[v.stage].linear() {
			return fmt.Errorf("the output %s is not that of a convolution or a matrix product without activation, which is what is supported", o.Name)
		}
		axes, ok := map[layout]int{channelsLast: 4, cells: 3, vector: 2}[v.layout]
		if !ok {
			return fmt.Errorf("the output %s does not have its channels last, which is what is supported", o.Name)
		}
		r.network.outputs = append(r.network.outputs, output{stage: v.stage, channels: v.channels, post: v.post, axes: axes})
	}
	return r.network.tidy()
}

// node is one of the graph.
type node struct {
	*onnxfile.Node
	position int
}

func (n *node) String() string { return fmt.Sprintf("node %d, %s %q", n.position, n.Op, n.Name) }

func (n *node) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", n, fmt.Errorf(format, args...))
}

func (n *node) integer(name string, otherwise int64) int64 {
	if a, ok := n.Attributes[name]; ok {
		return a.Int
	}
	return otherwise
}

func (n *node) integers(name string, otherwise ...int64) []int64 {
	if a, ok := n.Attributes[name]; ok {
		return a.Ints
	}
	return otherwise
}

func (n *node) text(name, otherwise string) string {
	if a, ok := n.Attributes[name]; ok {
		return a.String
	}
	return otherwise
}

// only returns an error unless an attribute has one of the values that are supported, the
// first of which is the default.
func (n *node) only(name string, supported ...int64) error {
	if v := n.integer(name, supported[0]); !slices.Contains(supported, v) {
		return n.errorf("%s is %d; supported is %v", name, v, supported)
	}
	return nil
}

// map_ returns the map that an input of the node is.
func (r *reader) mapOf(n *node, input int) (value, error) {
	if input >= len(n.Inputs) {
		return value{}, n.errorf("it has %d inputs", len(n.Inputs))
	}
	v, ok := r.values[n.Inputs[input]]
	if !ok {
		return value{}, n.errorf("its input %s is not a map that depends on the image, which is what is supported", n.Inputs[input])
	}
	return v, nil
}

// weightOf returns the weight that an input of the node is, of that many axes.
func (r *reader) weightOf(n *node, input, axes int) (onnxfile.Tensor, error) {
	var w onnxfile.Tensor
	ok := false
	if input < len(n.Inputs) {
		w, ok = r.graph.Weights[n.Inputs[input]]
	}
	if !ok || w.Floats == nil || len(w.Shape) != axes {
		return w, n.errorf("its input %d is not a constant of float32 with %d axes, which is what is supported", input, axes)
	}
	return w, nil
}

// give names the node's output.
func (r *reader) give(n *node, v value) error {
	if len(n.Outputs) != 1 {
		return n.errorf("it has %d outputs; supported is one", len(n.Outputs))
	}
	r.values[n.Outputs[0]] = v
	return nil
}

// giveNumbers names the node's output, which is a shape.
func (r *reader) giveNumbers(n *node, numbers []int64) error {
	if len(n.Outputs) != 1 {
		return n.errorf("it has %d outputs; supported is one", len(n.Outputs))
	}
	r.numbers[n.Outputs[0]] = numbers
	return nil
}

// add appends a stage, and names the node's output after its map.
func (r *reader) append(n *node, s *stage, as layout) error {
	s.name = n.String()
	s.full = true
	r.network.stages = append(r.network.stages, s)
	return r.give(n, value{source: source{stage: len(r.network.stages) - 1}, layout: as, channels: s.channels})
}

// open returns the stage that makes an input of the node, if it is one without an
// activation, and nothing else takes its map. So what the node does can become a part of it.
func (r *reader) open(n *node, v value) *stage {
	if v.stage < 0 || v.pooled || v.enlarged || v.post != asIs || r.uses[n.Inputs[0]] != 1 {
		return nil
	}
	if s := r.network.stages[v.stage]; s.linear() {
		return s
	}
	return nil
}
