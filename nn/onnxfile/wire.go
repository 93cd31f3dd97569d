package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	bits   uint64 // of a varint or a fixed-size number
	bytes  []byte // of a string, a message, or packed numbers
}

// errWireType means that a field has another wire type than ONNX gives it.
var errWireType = errors.New("a field has another type than in ONNX")

// walk calls visit for each field of a message.
func walk(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		f := field{}
		var n int
		if f.number, f.kind, n = protowire.ConsumeTag(b); n < 0 {
			return damaged(n)
		}
		b = b[n:]
		switch f.kind {
		case protowire.VarintType:
			f.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.bits = uint64(v)
		case protowire.Fixed64Type:
			f.bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("field %d is a group, which ONNX does not have", f.number)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", f.number, damaged(n))
		}
		b = b[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// damaged is the error for the negative length that protowire returns.
func damaged(n int) error {
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return errors.New("the data ends in the middle of a value")
	}
	return errors.New("the data is damaged, or not in the format of protocol buffers")
}

// unknown is the error for a field that ONNX did not have when this was written.
func (f field) unknown() error {
	return fmt.Errorf("field %d is not known: the file is of a newer ONNX, or it is not an ONNX file", f.number)
}

// message returns the bytes of a message.
func (f field) message() ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, errWireType
	}
	return f.bytes, nil
}

// text sets *s to a string.
func (f field) text(s *string) error {
	switch {
	case f.kind != protowire.BytesType:
		return errWireType
	case len(f.bytes) > maxName:
		return fmt.Errorf("a name or string of %d bytes, more than the %d that are allowed", len(f.bytes), maxName)
	case !utf8.Valid(f.bytes):
		return errors.New("a name or string that is not UTF-8")
	}
	*s = string(f.bytes)
	return nil
}

// integer sets *v to an integer.
func (f field) integer(v *int64) error {
	if f.kind != protowire.VarintType {
		return errWireType
	}
	*v = int64(f.bits)
	return nil
}

// number32 sets *v to a float.
func (f field) number32(v *float32) error {
	if f.kind != protowire.Fixed32Type {
		return errWireType
	}
	*v = math.Float32frombits(uint32(f.bits))
	return nil
}

// integers appends the integers in f, packed or one alone.
func (r *reader) integers(f field, to *[]int64) error {
	one := func(v uint64) error {
		if r.ints++; r.ints > maxInts {
			return fmt.Errorf("more than the %d integers that are allowed in a file", maxInts)
		}
		*to = append(*to, int64(v))
		return nil
	}
	switch f.kind {
	case protowire.VarintType:
		return one(f.bits)
	case protowire.BytesType:
		for b := f.bytes; len(b) > 0; {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("integers: %w", damaged(n))
			}
			b = b[n:]
			if err := one(v); err != nil {
				return err
			}
		}
		return nil
	}
	return errWireType
}

// floats appends the floats in f, packed or one alone.
func (f field) floats(to *[]float32) error {
	switch f.kind {
	case protowire.Fixed32Type:
		*to = append(*to, math.Float32frombits(uint32(f.bits)))
		return nil
	case protowire.BytesType:
		if len(f.bytes)%4 != 0 {
			return fmt.Errorf("%d bytes of floats, which take four each", len(f.bytes))
		}
		*to = slices.Grow(*to, len(f.bytes)/4)
		for b := f.bytes; len(b) > 0; b = b[4:] {
			v, _ := protowire.ConsumeFixed32(b)
			*to = append(*to, math.Float32frombits(v))
		}
		return nil
	}
	return errWireType
}

// model reads a ModelProto.
func (r *reader) model(b []byte) error {
	if len(b) == 0 {
		return errors.New("not an ONNX file: it is empty")
	}
	like := false // it has a part that other files hardly have
	err := walk(b, func(f field) error {
		like = like || f.kind == protowire.BytesType && (f.number == 7 || f.number == 8)
		switch f.number {
		case 1, 2, 3, 4, 5, 6, 14: // versions, the producer, docs, metadata
			return nil
		case 7:
			b, err := f.message()
			if err != nil {
				return err
			}
			if r.hasGraph {
				return errors.New("the file has more than one graph; one is known")
			}
			r.hasGraph = true
			return r.readGraph(b)
		case 8:
			return r.opset(f)
		case 20:
			return errors.New("the file has training information, which is not known")
		case 25:
			return errors.New("the file has functions of its own, which are not known")
		}
		return f.unknown()
	})
	switch {
	case err != nil && !like:
		return fmt.Errorf("not an ONNX file, or a damaged one: %w", err)
	case err != nil:
		return err
	case !r.hasGraph:
		return errors.New("not an ONNX file: it has no graph")
	case !r.hasOpset:
		return errors.New("the file does not say which version of the operators (opset_import) it is for")
	}
	return nil
}

// standard reports whether a domain is that of the standard operators.
func standard(domain string) bool { return domain == "" || domain == "ai.onnx" }

// opset reads an OperatorSetIdProto. Other operators than the standard ones may be
// announced, but no node may be one.
func (r *reader) opset(f field) error {
	b, err := f.message()
	if err != nil {
		return err
	}
	var domain string
	var version int64
	err = walk(b, func(f field) error {
		switch f.number {
		case 1:
			return f.text(&domain)
		case 2:
			return f.integer(&version)
		}
		return f.unknown()
	})
	switch {
	case err != nil:
		return fmt.Errorf("opset_import: %w", err)
	case !standard(domain):
		return nil
	case r.hasOpset && r.graph.Opset != version:
		return fmt.Errorf("the file is for two versions of the operators (opset_import), %d and %d", r.graph.Opset, version)
	case version < 1:
		return fmt.Errorf("the file is for version %d of the operators (opset_import), which does not exist", version)
	}
	r.graph.Opset, r.hasOpset = version, true
	return nil
}

// readGraph reads a GraphProto.
func (r *reader) readGraph(b []byte) error {
	return walk(b, func(f field) error {
		switch f.number {
		case 2, 10, 13, 16: // name, docs, values between nodes, metadata
			return nil
		case 14:
			return errors.New("the network is quantized (quantization_annotation), which is not known")
		case 15:
			return errors.New("the network has sparse weights (sparse_initializer), which are not known")
		case 1, 5, 11, 12:
		default:
			return fmt.Errorf("graph: %w", f.unknown())
		}
		b, err := f.message()
		if err != nil {
			return fmt.Errorf("graph: %w", err)
		}
		switch f.number {
		case 1:
			return r.node(b)
		case 5:
			name, t, err := r.tensor(b)
			if err != nil {
				return fmt.Errorf("weights %q: %w", name, err)
			}
			return r.addWeights(name, t)
		case 11:
			return readValue(b, "input", &r.inputs, maxWeights+maxValues)
		default:
			return readValue(b, "output", &r.outputs, maxValues)
		}
	})
}

// addWeights keeps a constant.
func (r *reader) addWeights(name string, t Tensor) error {
	if name == "" {
		return errors.New("weights without a name")
	}
	if _, ok := r.graph.Weights[name]; ok {
		return fmt.Errorf("two sets of weights have the name %q", name)
	}
	if len(r.graph.Weights) == maxWeights {
		return fmt.Errorf("more than the %d tensors of weights that are allowed", maxWeights)
	}
	r.graph.Weights[name] = t
	return nil
}

// declared is an input or an output as the file declares it.
type declared struct {
	value Value
	// element is the number of the type of the tensor's elements.
	element int64
}

// readValue reads a ValueInfoProto, and appends it. kind is input or output, for messages.
func readValue(b []byte, kind string, to *[]declared, limit int) error {
	var v declared
	known := false
	err := walk(b, func(f field) error {
		switch f.number {
		case 1:
			return f.text(&v.value.Name)
		case 2:
			b, err := f.message()
			if err != nil {
				return err
			}
			if known {
				return errors.New("it has two types")
			}
			known = true
			return v.readType(b)
		case 3, 4: // docs, metadata
			return nil
		}
		return f.unknown()
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s %q: %w", kind, v.value.Name, err)
	case v.value.Name == "":
		return fmt.Errorf("an %s has no name", kind)
	case !known:
		return fmt.Errorf("%s %q has no type", kind, v.value.Name)
	case len(*to) == limit:
		return fmt.Errorf("more than the %d %ss that are allowed", limit, kind)
	}
	*to = append(*to, v)
	return nil
}

// check returns an error unless v is a tensor of float32 with a known number of axes.
func (v declared) check(kind string) error {
	if v.element != typeFloat32 {
		return fmt.Errorf("%s %q is a tensor of %s; known are tensors of float32", kind, v.value.Name, typeName(v.element))
	}
	if v.value.Shape == nil {
		return fmt.Errorf("%s %q has no shape, not even a number of axes", kind, v.value.Name)
	}
	return nil
}

// readType reads a TypeProto.
func (v *declared) readType(b []byte) error {
	known := false
	err := walk(b, func(f field) error {
		switch f.number {
		case 1:
		case 4, 5, 7, 8, 9:
			return fmt.Errorf("it is a %s; known are tensors", map[int32]string{
				4: "sequence", 5: "map", 7: "value of an opaque type", 8: "sparse tensor", 9: "value that may be missing (optional)",
			}[int32(f.number)])
		case 6: // what it denotes
			return nil
		default:
			return f.unknown()
		}
		b, err := f.message()
		if err != nil {
			return err
		}
		if known {
			return errors.New("it has two types")
		}
		known = true
		return v.readTensorType(b)
	})
	if err == nil && !known {
		return errors.New("it has no type")
	}
	return err
}

// readTensorType reads a TypeProto.Tensor.
func (v *declared) readTensorType(b []byte) error {
	return walk(b, func(f field) error {
		switch f.number {
		case 1:
			return f.integer(&v.element)
		case 2:
			b, err := f.message()
			if err != nil {
				return err
			}
			if v.value.Shape != nil {
				return errors.New("it has two shapes")
			}
			v.value.Shape, err = axes(b)
			return err
		}
		return f.unknown()
	})
}

// axes reads a TensorShapeProto.
func axes(b []byte) ([]int64, error) {
	shape := []int64{}
	err := walk(b, func(f field) error {
		if f.number != 1 {
			return f.unknown()
		}
		b, err := f.message()
		if err != nil {
			return err
		}
		if len(shape) == maxAxes {
			return fmt.Errorf("more than the %d axes that are allowed", maxAxes)
		}
		size := int64(-1) // unless it is said, any
		err = walk(b, func(f field) error {
			switch f.number {
			case 1:
				return f.integer(&size)
			case 2, 3: // the name of any size, what it denotes
				return nil
			}
			return f.unknown()
		})
		if err != nil {
			return err
		}
		if size < -1 {
			return fmt.Errorf("an axis of size %d", size)
		}
		shape = append(shape, size)
		return nil
	})
	return shape, err
}

// node reads a NodeProto. A Constant becomes weights.
func (r *reader) node(b []byte) error {
	var n Node
	var domain, overload string
	n.Attributes = map[string]Attribute{}
	names := func(f field, to *[]string, what string) error {
		var s string
		if err := f.text(&s); err != nil {
			return err
		}
		if len(*to) == maxValues {
			return fmt.Errorf("more than the %d %s that are allowed", maxValues, what)
		}
		*to = append(*to, s)
		return nil
	}
	err := walk(b, func(f field) error {
		switch f.number {
		case 1:
			return names(f, &n.Inputs, "inputs")
		case 2:
			return names(f, &n.Outputs, "outputs")
		case 3:
			return f.text(&n.Name)
		case 4:
			return f.text(&n.Op)
		case 5:
			return r.attribute(f, n.Attributes)
		case 6, 9: // docs, metadata
			return nil
		case 7:
			return f.text(&domain)
		case 8:
			return f.text(&overload)
		}
		return f.unknown()
	})
	switch {
	case err != nil:
	case n.Op == "":
		err = errors.New("it has no operator")
	case !standard(domain):
		err = fmt.Errorf("its operator is of the domain %q; known are the standard ones", domain)
	case overload != "":
		err = fmt.Errorf("its operator is a function, %q, which is not known", overload)
	case r.nodes == maxNodes:
		err = fmt.Errorf("more than the %d nodes that are allowed", maxNodes)
	case n.Op == "Constant":
		err = r.constant(n)
	default:
		r.graph.Nodes = append(r.graph.Nodes, n)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.label(r.nodes), err)
	}
	r.nodes++
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

// attributeTypes are the types of an AttributeProto. Those without a field are refused.
var attributeTypes = map[int64]struct {
	name  string
	field protowire.Number
}{
	1: {"a float", 2}, 2: {"an integer", 3}, 3: {"a string", 4}, 4: {"a tensor", 5}, 6: {"floats", 7}, 7: {"integers", 8},
	5: {name: "a graph inside the graph"}, 8: {name: "strings"}, 9: {name: "tensors"}, 10: {name: "graphs inside the graph"},
	11: {name: "a sparse tensor"}, 12: {name: "sparse tensors"}, 13: {name: "a type"}, 14: {name: "types"},
}

// attribute reads an AttributeProto, and puts it into to.
func (r *reader) attribute(f field, to map[string]Attribute) error {
	b, err := f.message()
	if err != nil {
		return err
	}
	var a Attribute
	var name, reference string
	var kind int64
	var has []protowire.Number // the fields that hold a value
	err = walk(b, func(f field) error {
		if f.number >= 2 && f.number <= 11 || f.number >= 14 && f.number <= 15 || f.number >= 22 && f.number <= 23 {
			if !slices.Contains(has, f.number) {
				has = append(has, f.number)
			}
		}
		switch f.number {
		case 1:
			return f.text(&name)
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
		case 6, 9, 10, 11, 13, 14, 15, 22, 23: // refused by the type; 13 is docs
			return nil
		case 20:
			return f.integer(&kind)
		case 21:
			return f.text(&reference)
		}
		return f.unknown()
	})
	t, known := attributeTypes[kind]
	_, twice := to[name]
	switch {
	case err != nil:
	case name == "":
		return errors.New("an attribute without a name")
	case twice:
		return fmt.Errorf("two attributes have the name %q", name)
	case len(to) == maxAttributes:
		return fmt.Errorf("more than the %d attributes that are allowed", maxAttributes)
	case reference != "":
		err = fmt.Errorf("it refers to %q, an attribute of a function, which is not known", reference)
	case kind == 0:
		err = errors.New("it has no type")
	case !known:
		err = fmt.Errorf("it is of type %d, which is not known", kind)
	case t.field == 0:
		err = fmt.Errorf("it is %s, which is not known", t.name)
	case len(has) > 1 || len(has) == 1 && has[0] != t.field:
		err = fmt.Errorf("its type is that of %s, and it holds something else", t.name)
	case len(has) == 0 && t.field == 5:
		err = errors.New("it is a tensor, and holds none")
	}
	if err != nil {
		return fmt.Errorf("attribute %q: %w", name, err)
	}
	to[name] = a
	return nil
}

// The element types of a TensorProto that are known.
const (
	typeFloat32 = 1
	typeInt32   = 6
	typeInt64   = 7
)

// typeNames are the names of element types, by their numbers.
var typeNames = []string{
	"no type", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
	"float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz",
	"float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2",
}

func typeName(number int64) string {
	if number >= 0 && number < int64(len(typeNames)) {
		return typeNames[number]
	}
	return fmt.Sprintf("an unknown type, %d", number)
}

// tensor reads a TensorProto.
func (r *reader) tensor(b []byte) (name string, t Tensor, err error) {
	t.Shape = []int64{}
	var element, location int64
	var raw []byte
	var external bool
	var has []string // the fields that hold data
	holds := func(what string) {
		if !slices.Contains(has, what) {
			has = append(has, what)
		}
	}
	err = walk(b, func(f field) error {
		switch f.number {
		case 1:
			if err := r.integers(f, &t.Shape); err != nil {
				return err
			}
			if len(t.Shape) > maxAxes {
				return fmt.Errorf("more than the %d axes that are allowed", maxAxes)
			}
			return nil
		case 2:
			return f.integer(&element)
		case 3:
			return errors.New("it is a segment of a tensor, which is not known")
		case 4:
			holds("float_data")
			return f.floats(&t.Floats)
		case 5:
			holds("int32_data")
			return r.integers(f, &t.Ints)
		case 7:
			holds("int64_data")
			return r.integers(f, &t.Ints)
		case 6, 10, 11:
			holds(map[protowire.Number]string{6: "string_data", 10: "double_data", 11: "uint64_data"}[f.number])
			return nil
		case 8:
			return f.text(&name)
		case 9:
			if f.kind != protowire.BytesType {
				return errWireType
			}
			holds("raw_data")
			raw = f.bytes
			return nil
		case 12, 16: // docs, metadata
			return nil
		case 13:
			external = true
			return nil
		case 14:
			return f.integer(&location)
		}
		return f.unknown()
	})
	if err != nil {
		return name, Tensor{}, err
	}
	if external || location != 0 {
		return name, Tensor{}, errors.New("its values are in another file (external_data): export the network into one file")
	}
	fields := map[int64]string{typeFloat32: "float_data", typeInt32: "int32_data", typeInt64: "int64_data"}
	own, ok := fields[element]
	if !ok {
		return name, Tensor{}, fmt.Errorf("it is of %s; known are float32, int32 and int64", typeName(element))
	}
	if len(has) > 1 || len(has) == 1 && has[0] != own && has[0] != "raw_data" {
		return name, Tensor{}, fmt.Errorf("it is of %s, and its values are in %s", typeName(element), strings.Join(has, " and "))
	}
	if raw != nil {
		if err := r.raw(raw, element, &t); err != nil {
			return name, Tensor{}, err
		}
	}
	if element == typeInt32 {
		for _, v := range t.Ints {
			if v != int64(int32(v)) {
				return name, Tensor{}, fmt.Errorf("it is of int32 and holds %d", v)
			}
		}
	}
	return name, t, t.check()
}

// raw reads the values of raw_data: little-endian, each as wide as its type.
func (r *reader) raw(b []byte, element int64, t *Tensor) error {
	if element == typeFloat32 {
		return field{kind: protowire.BytesType, bytes: b}.floats(&t.Floats)
	}
	width := 4
	if element == typeInt64 {
		width = 8
	}
	if len(b)%width != 0 {
		return fmt.Errorf("%d bytes of %s, which take %d each", len(b), typeName(element), width)
	}
	if r.ints += len(b) / width; r.ints > maxInts {
		return fmt.Errorf("more than the %d integers that are allowed in a file", maxInts)
	}
	for ; len(b) > 0; b = b[width:] {
		if element == typeInt64 {
			v, _ := protowire.ConsumeFixed64(b)
			t.Ints = append(t.Ints, int64(v))
		} else {
			v, _ := protowire.ConsumeFixed32(b)
			t.Ints = append(t.Ints, int64(int32(v)))
		}
	}
	return nil
}

// check compares the tensor's shape with its data.
func (t *Tensor) check() error {
	n, empty := int64(1), false
	for _, size := range t.Shape {
		if size < 0 {
			return fmt.Errorf("the shape %s has a negative size", shapeString(t.Shape))
		}
		if size == 0 {
			empty = true
			continue
		}
		if n > maxBytes/size {
			return fmt.Errorf("the shape %s has more values than a file can hold", shapeString(t.Shape))
		}
		n *= size
	}
	if empty {
		n = 0
	}
	if got := len(t.Floats) + len(t.Ints); int64(got) != n {
		return fmt.Errorf("the shape %s has %d values, and the file holds %d", shapeString(t.Shape), n, got)
	}
	return nil
}

// shapeString returns a shape as in [1×3×48×48].
func shapeString(shape []int64) string {
	var b []string
	for _, n := range shape {
		b = append(b, strconv.FormatInt(n, 10))
	}
	return "[" + strings.Join(b, "×") + "]"
}
