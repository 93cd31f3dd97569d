package onnxfile

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// nodeProto is a NodeProto.
type nodeProto struct {
	Node
	domain, overload string
}

// node reads a NodeProto. A Constant becomes weights.
func (r *reader) node(b []byte) error {
	n := nodeProto{Node: Node{Attributes: map[string]Attribute{}}}
	err := walk(b, func(f field) error { return r.nodeField(f, &n) })
	if err == nil {
		err = n.check()
	}
	switch {
	case err != nil:
	case r.nodes == maxNodes:
		err = fmt.Errorf("more than the %d nodes that are allowed", maxNodes)
	case n.Op == "Constant":
		err = r.constant(n.Node)
	default:
		r.graph.Nodes = append(r.graph.Nodes, n.Node)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.label(r.nodes), err)
	}
	r.nodes++
	return nil
}

func (r *reader) nodeField(f field, n *nodeProto) error {
	switch f.number {
	case 1:
		return f.name(&n.Inputs, "inputs")
	case 2:
		return f.name(&n.Outputs, "outputs")
	case 3:
		return f.text(&n.Name)
	case 4:
		return f.text(&n.Op)
	case 5:
		return r.attribute(f, n.Attributes)
	case 6, 9: // docs, metadata
		return nil
	case 7:
		return f.text(&n.domain)
	case 8:
		return f.text(&n.overload)
	}
	return f.unknown()
}

// name appends the name of one of a node's inputs or outputs, which is what kind says.
func (f field) name(to *[]string, kind string) error {
	var s string
	if err := f.text(&s); err != nil {
		return err
	}
	if len(*to) == maxValues {
		return fmt.Errorf("more than the %d %s that are allowed", maxValues, kind)
	}
	*to = append(*to, s)
	return nil
}

// check returns an error unless the node is a standard operator.
func (n *nodeProto) check() error {
	switch {
	case n.Op == "":
		return errors.New("it has no operator")
	case !standard(n.domain):
		return fmt.Errorf("its operator is of the domain %q; known are the standard ones", n.domain)
	case n.overload != "":
		return fmt.Errorf("its operator is a function, %q, which is not known", n.overload)
	}
	return nil
}

// constant keeps the value of a Constant node.
func (r *reader) constant(n Node) error {
	if len(n.Inputs) != 0 || len(n.Outputs) != 1 || len(n.Attributes) != 1 {
		return fmt.Errorf("it has %d inputs, %d outputs and %d attributes; a constant has one output and one attribute",
			len(n.Inputs), len(n.Outputs), len(n.Attributes))
	}
	for name, a := range n.Attributes {
		var t Tensor
		switch {
		case name == "value" && a.Tensor != nil:
			t = *a.Tensor
		case name == "value_float":
			t = Tensor{Shape: []int64{}, Floats: []float32{a.Float}}
		case name == "value_floats":
			t = Tensor{Shape: []int64{int64(len(a.Floats))}, Floats: a.Floats}
		case name == "value_int":
			t = Tensor{Shape: []int64{}, Ints: []int64{a.Int}}
		case name == "value_ints":
			t = Tensor{Shape: []int64{int64(len(a.Ints))}, Ints: a.Ints}
		default:
			return fmt.Errorf("attribute %q is not a value that is known", name)
		}
		return r.addWeights(n.Outputs[0], t)
	}
	return nil
}

// attributeType is one of the types of an AttributeProto.
type attributeType struct {
	name string
	// field holds the attribute's value. Types without a field are refused.
	field protowire.Number
}

// attributeTypes are all types, by their numbers.
var attributeTypes = map[int64]attributeType{
	1: {"a float", 2}, 2: {"an integer", 3}, 3: {"a string", 4}, 4: {"a tensor", 5}, 6: {"floats", 7}, 7: {"integers", 8},
	5: {name: "a graph inside the graph"}, 8: {name: "strings"}, 9: {name: "tensors"}, 10: {name: "graphs inside the graph"},
	11: {name: "a sparse tensor"}, 12: {name: "sparse tensors"}, 13: {name: "a type"}, 14: {name: "types"},
}

// valueFields are the fields of an AttributeProto that hold values of all types.
var valueFields = []protowire.Number{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 22, 23}

// attributeProto is an AttributeProto.
type attributeProto struct {
	Attribute
	name, reference string
	kind            int64
	has             []protowire.Number // the fields that hold a value
}

// attribute reads an AttributeProto, and puts it into to.
func (r *reader) attribute(f field, to map[string]Attribute) error {
	b, err := f.message()
	if err != nil {
		return err
	}
	var a attributeProto
	if err := walk(b, func(f field) error { return r.attributeField(f, &a) }); err != nil {
		return fmt.Errorf("attribute %q: %w", a.name, err)
	}
	_, twice := to[a.name]
	switch {
	case a.name == "":
		return errors.New("an attribute without a name")
	case twice:
		return fmt.Errorf("two attributes have the name %q", a.name)
	case len(to) == maxAttributes:
		return fmt.Errorf("more than the %d attributes that are allowed", maxAttributes)
	}
	if err := a.check(); err != nil {
		return fmt.Errorf("attribute %q: %w", a.name, err)
	}
	to[a.name] = a.Attribute
	return nil
}

func (r *reader) attributeField(f field, a *attributeProto) error {
	if slices.Contains(valueFields, f.number) {
		return r.attributeValue(f, a)
	}
	switch f.number {
	case 1:
		return f.text(&a.name)
	case 13: // docs
		return nil
	case 20:
		return f.integer(&a.kind)
	case 21:
		return f.text(&a.reference)
	}
	return f.unknown()
}

// attributeValue reads a field that holds a value. Values of types that are not known are
// only noted.
func (r *reader) attributeValue(f field, a *attributeProto) error {
	if !slices.Contains(a.has, f.number) {
		a.has = append(a.has, f.number)
	}
	switch f.number {
	case 2:
		return f.number32(&a.Float)
	case 3:
		return f.integer(&a.Int)
	case 4:
		return f.text(&a.String)
	case 5:
		b, err := f.message()
		if err != nil {
			return err
		}
		if a.Tensor != nil {
			return errors.New("it has two tensors")
		}
		_, t, err := r.tensor(b)
		a.Tensor = &t
		return err
	case 7:
		return f.floats(&a.Floats)
	case 8:
		return r.integers(f, &a.Ints)
	}
	return nil
}

// check returns an error unless the attribute is of a type that is known, and holds a
// value of that type.
func (a *attributeProto) check() error {
	t, known := attributeTypes[a.kind]
	switch {
	case a.reference != "":
		return fmt.Errorf("it refers to %q, an attribute of a function, which is not known", a.reference)
	case a.kind == 0:
		return errors.New("it has no type")
	case !known:
		return fmt.Errorf("it is of type %d, which is not known", a.kind)
	case t.field == 0:
		return fmt.Errorf("it is %s, which is not known", t.name)
	case len(a.has) > 1 || len(a.has) == 1 && a.has[0] != t.field:
		return fmt.Errorf("its type is that of %s, and it holds something else", t.name)
	case len(a.has) == 0 && t.field == 5:
		return errors.New("it is a tensor, and holds none")
	}
	return nil
}
