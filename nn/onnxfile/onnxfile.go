// Package onnxfile reads ONNX files: the nodes and the weights of one network. It
// knows no operator; what runs the network decides which it can run.
//
// It reads the wire format of protocol buffers by hand, since a network needs a small
// part of ONNX only. Whatever else a file holds is refused by name, because a network
// that is run without it would give other outputs. Doc strings, metadata and the shapes
// of values between nodes say nothing that is needed, and are skipped.
//
// Files may be hostile: sizes and counts are bounded, and a tensor's shape is compared
// with its data before anything is made of it.
package onnxfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrDamaged means that the data is not that of an ONNX file, or only a part of it.
var ErrDamaged = errors.New("not an ONNX file, or a damaged one")

// Graph is the network in a file.
type Graph struct {
	// Opset is the version of the standard operators, ai.onnx, that the file is written
	// for. It decides what a node means.
	Opset int64
	// Inputs are what a caller gives: values that have weights are not among them.
	// Outputs are what the network gives. All are tensors of float32.
	Inputs, Outputs []Value
	// Nodes are in topological order: what a node takes is an input, a weight, or an
	// output of a node before it. Nodes that the file has in such an order keep it.
	Nodes []Node
	// Weights are the constant tensors by their names: initializers, and the outputs of
	// Constant nodes, which are not in Nodes.
	Weights map[string]Tensor
}

// Value is an input or an output of a network.
type Value struct {
	Name string
	// Shape is the size of each axis, the last of which varies fastest. -1 means any.
	Shape []int64
}

// Node is one operation.
type Node struct {
	// Name may be empty, and need not be unique.
	Name string
	// Op is the type of a standard operator, such as Conv.
	Op string
	// Inputs and Outputs are the names of values. An empty name is an input that was left
	// out, or an output that nobody takes. No two outputs in a graph have one name.
	Inputs, Outputs []string
	Attributes      map[string]Attribute
}

// Attribute is a constant that a node has besides its inputs. The one field that the
// attribute's type names is set.
type Attribute struct {
	Int    int64
	Float  float32
	Ints   []int64
	Floats []float32
	String string
	Tensor *Tensor
}

// Tensor is a constant array. Its values are in Floats when the file has them as float32
// and in Ints when it has int32 or int64; there are as many as the product of Shape,
// which is empty for a scalar. Floats may hold NaN and infinite values.
type Tensor struct {
	Shape  []int64
	Floats []float32
	Ints   []int64
}

// The limits of a file. Networks that find faces are far below them.
const (
	maxBytes      = 64 << 20
	maxNodes      = 10_000
	maxWeights    = 20_000
	maxValues     = 256 // inputs or outputs of a network or a node
	maxAttributes = 64  // of a node
	maxAxes       = 8
	maxName       = 1024    // bytes
	maxInts       = 1 << 20 // in all tensors and attributes; each may take eight times its size in the file
)

// Read reads the network in the ONNX file b, and keeps nothing of b. The error says
// what the file has that cannot be read, and where.
func Read(b []byte) (*Graph, error) {
	if len(b) > maxBytes {
		return nil, fmt.Errorf("the ONNX file has %d bytes, more than the %d that are allowed", len(b), maxBytes)
	}
	r := reader{graph: Graph{Weights: map[string]Tensor{}}}
	if err := r.model(b); err != nil {
		return nil, err
	}
	if err := r.link(); err != nil {
		return nil, err
	}
	return &r.graph, nil
}

// reader is the state of one Read.
type reader struct {
	graph           Graph
	inputs, outputs []declared
	ints            int  // read so far
	nodes           int  // read so far, Constant nodes included
	hasGraph        bool // the model's graph was read
	hasOpset        bool // the file says which version of the standard operators it is for
}

// link drops the inputs that have weights, puts the nodes in order, and checks that
// each name has one origin.
func (r *reader) link() error {
	g := &r.graph
	// ready are the values that are known before any node has run.
	ready := map[string]bool{}
	for name := range g.Weights {
		ready[name] = true
	}
	for _, v := range r.inputs {
		if _, ok := g.Weights[v.value.Name]; ok {
			continue
		}
		if ready[v.value.Name] {
			return fmt.Errorf("two inputs have the name %q", v.value.Name)
		}
		if err := v.check("input"); err != nil {
			return err
		}
		ready[v.value.Name] = true
		g.Inputs = append(g.Inputs, v.value)
	}
	if err := g.sort(ready); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, v := range r.outputs {
		if !ready[v.value.Name] {
			return fmt.Errorf("no node gives the network's output %q", v.value.Name)
		}
		if seen[v.value.Name] {
			return fmt.Errorf("two outputs have the name %q", v.value.Name)
		}
		if err := v.check("output"); err != nil {
			return err
		}
		seen[v.value.Name] = true
		g.Outputs = append(g.Outputs, v.value)
	}
	if len(g.Outputs) == 0 {
		return errors.New("the network has no outputs")
	}
	return nil
}

// sort puts the nodes in topological order. ready are the names that are known before
// them; afterwards those of the nodes' outputs are among them.
func (g *Graph) sort(ready map[string]bool) error {
	from, err := g.givers(ready)
	if err != nil {
		return err
	}
	takers, missing, err := g.takers(ready, from)
	if err != nil {
		return err
	}
	// Of the nodes that can run, the first in the file comes next. So what is already in
	// order stays as it is.
	var waiting []int // nodes that can run, by their positions in the file
	for i, n := range missing {
		if n == 0 {
			waiting = append(waiting, i)
		}
	}
	sorted := make([]Node, 0, len(g.Nodes))
	placed := make([]bool, len(g.Nodes))
	for len(waiting) > 0 {
		i := waiting[0]
		waiting = waiting[1:]
		placed[i] = true
		sorted = append(sorted, g.Nodes[i])
		for _, name := range g.Nodes[i].Outputs {
			ready[name] = true
			for _, k := range takers[name] {
				if missing[k]--; missing[k] == 0 {
					at, _ := slices.BinarySearch(waiting, k)
					waiting = slices.Insert(waiting, at, k)
				}
			}
		}
	}
	if len(sorted) < len(g.Nodes) {
		return fmt.Errorf("%s waits for its own output: the network has a cycle", g.inCycle(from, placed))
	}
	g.Nodes = sorted
	return nil
}

// givers returns the node that gives each value, given the names that have another origin.
func (g *Graph) givers(others map[string]bool) (map[string]int, error) {
	from := map[string]int{}
	for i, n := range g.Nodes {
		for _, name := range n.Outputs {
			if name == "" {
				continue
			}
			if _, ok := from[name]; ok || others[name] {
				return nil, fmt.Errorf("%s gives %q, which something else in the network gives, too", n.label(i), name)
			}
			from[name] = i
		}
	}
	return from, nil
}

// takers returns the nodes that take each value of another node, and how many such values
// each node takes.
func (g *Graph) takers(others map[string]bool, from map[string]int) (takers map[string][]int, missing []int, err error) {
	takers = map[string][]int{}
	missing = make([]int, len(g.Nodes))
	for i, n := range g.Nodes {
		for _, name := range n.Inputs {
			if name == "" || others[name] {
				continue
			}
			if _, ok := from[name]; !ok {
				return nil, nil, fmt.Errorf("%s takes %q, which nothing in the network gives", n.label(i), name)
			}
			missing[i]++
			takers[name] = append(takers[name], i)
		}
	}
	return takers, missing, nil
}

// inCycle names a node on a cycle, given the nodes that give values and those that are
// in order.
func (g *Graph) inCycle(from map[string]int, placed []bool) string {
	at := slices.Index(placed, false)
	// Each node that is not in order takes a value from another such node: going from
	// one to the next, as often as there are nodes, ends on a cycle.
	for range g.Nodes {
		for _, name := range g.Nodes[at].Inputs {
			if i, ok := from[name]; ok && !placed[i] {
				at = i
				break
			}
		}
	}
	return g.Nodes[at].label(at)
}

// label names a node in messages: its position in the file, operator and name.
func (n *Node) label(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %d", i)
	if n.Op != "" {
		fmt.Fprintf(&b, ", %s", n.Op)
	}
	if n.Name != "" {
		fmt.Fprintf(&b, " %q", n.Name)
	}
	return b.String()
}
