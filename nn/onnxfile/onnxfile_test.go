package onnxfile

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// What follows writes messages. Each function returns one field, and a message is its
// fields one after the other.

func message(number protowire.Number, fields ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), slices.Concat(fields...))
}

func text(number protowire.Number, s string) []byte { return message(number, []byte(s)) }

func integer(number protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), uint64(v))
}

func float(number protowire.Number, v float32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(nil, number, protowire.Fixed32Type), math.Float32bits(v))
}

func packed(number protowire.Number, values ...int64) []byte {
	var b []byte
	for _, v := range values {
		b = protowire.AppendVarint(b, uint64(v))
	}
	return message(number, b)
}

func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = protowire.AppendFixed32(b, math.Float32bits(v))
	}
	return b
}

func model(graph ...[]byte) []byte {
	return slices.Concat(integer(1, 7), message(8, integer(2, 12)), message(7, graph...))
}

func tensorValue(name string, element int64, shape ...int64) []byte {
	var dims []byte
	for _, n := range shape {
		if n < 0 {
			dims = append(dims, message(1, text(2, "any"))...)
		} else {
			dims = append(dims, message(1, integer(1, n))...)
		}
	}
	return slices.Concat(text(1, name), message(2, message(1, integer(1, element), message(2, dims))))
}

func input(name string, shape ...int64) []byte {
	return message(11, tensorValue(name, typeFloat32, shape...))
}

func output(name string, shape ...int64) []byte {
	return message(12, tensorValue(name, typeFloat32, shape...))
}

func node(op, in, out string, more ...[]byte) []byte {
	var b []byte
	for s := range strings.FieldsSeq(in) {
		b = append(b, text(1, strings.TrimPrefix(s, "-"))...) // "-" is an input that is left out
	}
	for s := range strings.FieldsSeq(out) {
		b = append(b, text(2, s)...)
	}
	return message(1, append([][]byte{b, text(4, op)}, more...)...)
}

func tensor(name string, element int64, shape []int64, data ...[]byte) []byte {
	return slices.Concat(text(8, name), packed(1, shape...), integer(2, element), slices.Concat(data...))
}

func weights(name string, element int64, shape []int64, data ...[]byte) []byte {
	return message(5, tensor(name, element, shape, data...))
}

func attribute(name string, kind int64, value ...[]byte) []byte {
	return message(5, text(1, name), integer(20, kind), slices.Concat(value...))
}

// TestRead reads a network in which everything that is known occurs.
func TestRead(t *testing.T) {
	g, err := Read(slices.Concat(
		integer(1, 7), text(2, "producer"), text(3, "1"), text(4, "domain"), integer(5, 1), text(6, strings.Repeat("doc", 1000)),
		message(8, text(1, "ai.onnx.ml"), integer(2, 1)), message(8, text(1, ""), integer(2, 12)), message(8, text(1, "ai.onnx"), integer(2, 12)),
		message(14, text(1, "key"), text(2, "value")),
		message(7,
			text(2, "graph"), text(10, "doc"), message(16, text(1, "key")), message(13, tensorValue("b", typeFloat32, 2)),
			// The file has this node before those that it needs.
			node("Add", "b c", "d", text(3, "last")),
			node("Constant", "", "k", attribute("value", 4, message(5, tensor("", typeInt64, []int64{2}, packed(7, -1, 1<<40))))),
			node("Constant", "", "scalar", attribute("value_float", 1, float(2, 1.5))),
			node("Constant", "", "list", attribute("value_floats", 6, message(7, floats(1, 2)))),
			node("Constant", "", "one", attribute("value_int", 2, integer(3, -7))),
			node("Constant", "", "ints", attribute("value_ints", 7, integer(8, 3), packed(8, 4, 5))),
			node("Conv", "x w", "b",
				text(6, "doc"), text(7, "ai.onnx"), message(9, text(1, "key")),
				attribute("strides", 7, packed(8, 2, 2)), attribute("group", 2, integer(3, 1)), attribute("alpha", 1, float(2, .5)),
				attribute("auto_pad", 3, text(4, "VALID")), attribute("scales", 6, float(7, 1), float(7, 2)), attribute("none", 7),
				message(5, text(13, "doc"), integer(20, 2), text(1, "zero")),
				attribute("t", 4, message(5, tensor("", typeFloat32, nil, message(9, floats(9))))),
			),
			node("Clip", "x - w", "c"),
			weights("w", typeFloat32, []int64{2, 1, 2}, message(4, floats(1, 2)), float(4, 3), float(4, 4)),
			weights("raw", typeFloat32, []int64{2}, message(9, floats(5, float32(math.Inf(1)))), text(12, "doc")),
			weights("wide", typeInt64, []int64{1}, message(9, []byte{1, 0, 0, 0, 0, 0, 0, 255})),
			weights("narrow", typeInt32, []int64{2}, message(9, []byte{1, 0, 0, 0, 255, 255, 255, 255})),
			weights("negative", typeInt32, []int64{1}, packed(5, -2)),
			weights("empty", typeFloat32, []int64{0, 5}),
			input("x", 1, -1, 4), message(11, tensorValue("narrow", typeInt32, 2)),
			message(11, text(1, "w"), text(3, "doc"), message(2, message(1, integer(1, 1), message(2)), text(6, "denotes"))),
			output("d", 1, -1, 4), output("c"),
		),
	))
	if err != nil {
		t.Fatal(err)
	}
	checkGraph(t, g)
	want := &Graph{
		Opset:   12,
		Inputs:  []Value{{"x", []int64{1, -1, 4}}},
		Outputs: []Value{{"d", []int64{1, -1, 4}}, {"c", []int64{}}},
		Nodes: []Node{
			{Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"b"}, Attributes: map[string]Attribute{
				"strides": {Ints: []int64{2, 2}}, "group": {Int: 1}, "alpha": {Float: .5}, "auto_pad": {String: "VALID"},
				"scales": {Floats: []float32{1, 2}}, "none": {}, "zero": {},
				"t": {Tensor: &Tensor{Shape: []int64{}, Floats: []float32{9}}},
			}},
			{Op: "Clip", Inputs: []string{"x", "", "w"}, Outputs: []string{"c"}, Attributes: map[string]Attribute{}},
			{Name: "last", Op: "Add", Inputs: []string{"b", "c"}, Outputs: []string{"d"}, Attributes: map[string]Attribute{}},
		},
		Weights: map[string]Tensor{
			"w":        {Shape: []int64{2, 1, 2}, Floats: []float32{1, 2, 3, 4}},
			"raw":      {Shape: []int64{2}, Floats: []float32{5, float32(math.Inf(1))}},
			"wide":     {Shape: []int64{1}, Ints: []int64{-1<<56 + 1}},
			"narrow":   {Shape: []int64{2}, Ints: []int64{1, -1}},
			"negative": {Shape: []int64{1}, Ints: []int64{-2}},
			"empty":    {Shape: []int64{0, 5}},
			"k":        {Shape: []int64{2}, Ints: []int64{-1, 1 << 40}},
			"scalar":   {Shape: []int64{}, Floats: []float32{1.5}},
			"list":     {Shape: []int64{2}, Floats: []float32{1, 2}},
			"one":      {Shape: []int64{}, Ints: []int64{-7}},
			"ints":     {Shape: []int64{3}, Ints: []int64{3, 4, 5}},
		},
	}
	if !reflect.DeepEqual(g, want) {
		t.Errorf("%+v\nwant %+v", g, want)
	}
}

// TestBrokenFiles: what is wrong or unknown is refused by name.
func TestBrokenFiles(t *testing.T) {
	many := func(n int, b []byte) []byte { return slices.Repeat(b, n) }
	relu := node("Relu", "x", "y")
	good := slices.Concat(relu, input("x", 1), output("y", 1))
	if _, err := Read(model(good)); err != nil {
		t.Fatal(err)
	}
	conv := func(attributes ...[]byte) []byte { return model(good, node("Conv", "y", "z", attributes...)) }
	ofWeights := func(element int64, shape []int64, data ...[]byte) []byte {
		return model(good, weights("w", element, shape, data...))
	}
	typed := func(number protowire.Number) []byte {
		return model(relu, message(11, text(1, "x"), message(2, message(number))), output("y", 1))
	}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		// Other files.
		{"empty", nil, "not an ONNX file, or a damaged one: it is empty"},
		{"HTML", []byte("<!DOCTYPE html>"), "not an ONNX file, or a damaged one: field 7 is a group, which ONNX does not have"},
		{"Git LFS", []byte("version https://git-lfs.github.com/spec/v1\n"), "not an ONNX file, or a damaged one: field 14 is a group, which ONNX does not have"},
		{"no graph", integer(1, 7), "not an ONNX file, or a damaged one: it has no graph"},
		{"no opset", message(7, good), "the file does not say which version of the operators (opset_import) it is for"},
		{"other opset", slices.Concat(message(8, text(1, "com.microsoft"), integer(2, 1)), message(7, good)), "the file does not say which version of the operators (opset_import) it is for"},
		{"two opsets", slices.Concat(model(good), message(8, integer(2, 13))), "the file is for two versions of the operators (opset_import), 12 and 13"},
		{"opset 0", slices.Concat(message(8), message(7, good)), "the file is for version 0 of the operators (opset_import), which does not exist"},
		{"opset field", slices.Concat(message(8, integer(9, 1)), message(7, good)), "opset_import: field 9 is not known: the file is of a newer ONNX, or it is not an ONNX file"},
		{"cut", model(good)[:40], "the data ends in the middle of a value"},
		{"trailing", append(model(good), 0), "the data is damaged, or not in the format of protocol buffers"},
		{"field", slices.Concat(model(good), integer(99, 1)), "field 99 is not known: the file is of a newer ONNX, or it is not an ONNX file"},
		{"group", slices.Concat(model(good), protowire.AppendTag(nil, 9, protowire.StartGroupType)), "field 9 is a group, which ONNX does not have"},
		{"graph as a number", slices.Concat(model(good), integer(7, 1)), "a field has another type than in ONNX"},
		{"large", make([]byte, maxBytes+1), "the ONNX file has 67108865 bytes, more than the 67108864 that are allowed"},
		// What a model may have, and is not known.
		{"two graphs", slices.Concat(model(good), message(7, good)), "the file has more than one graph; one is known"},
		{"training", slices.Concat(model(good), message(20)), "the file has training information, which is not known"},
		{"functions", slices.Concat(model(good), message(25)), "the file has functions of its own, which are not known"},
		{"quantized", model(good, message(14)), "the network is quantized (quantization_annotation), which is not known"},
		{"sparse weights", model(good, message(15)), "the network has sparse weights (sparse_initializer), which are not known"},
		{"graph field", model(good, integer(3, 1)), "graph: field 3 is not known: the file is of a newer ONNX, or it is not an ONNX file"},
		{"graph wire type", model(good, integer(1, 1)), "graph: a field has another type than in ONNX"},
		// Nodes.
		{"custom domain", model(good, node("FusedConv", "y", "z", text(3, "c1"), text(7, "com.microsoft"))), `node 1, FusedConv "c1": its operator is of the domain "com.microsoft"; known are the standard ones`},
		{"overload", model(good, node("F", "y", "z", text(8, "f"))), `node 1, F: its operator is a function, "f", which is not known`},
		{"no operator", model(good, message(1, text(1, "y"))), "node 1: it has no operator"},
		{"node field", model(good, node("F", "y", "z", message(10))), "node 1, F: field 10 is not known: the file is of a newer ONNX, or it is not an ONNX file"},
		{"not UTF-8", model(good, node("F", "y", "\xff")), "node 1: a name or string that is not UTF-8"},
		{"name as a number", model(good, message(1, integer(1, 1))), "node 1: a field has another type than in ONNX"},
		{"long name", model(good, node("F", "y", strings.Repeat("z", 1025))), "node 1: a name or string of 1025 bytes, more than the 1024 that are allowed"},
		{"many inputs", model(good, node("F", strings.Repeat("y ", 257), "z")), "node 1: more than the 256 inputs that are allowed"},
		{"many nodes", model(good, many(10_000, node("F", "y", ""))), "node 10000, F: more than the 10000 nodes that are allowed"},
		// What they take and give.
		{"unknown input", model(good, node("F", "a", "z")), `node 1, F takes "a", which nothing in the network gives`},
		{"taken twice", model(good, node("F", "y", "y")), `node 1, F gives "y", which something else in the network gives, too`},
		{"gives an input", model(good, node("F", "y", "x")), `node 1, F gives "x", which something else in the network gives, too`},
		{"gives weights", model(good, weights("w", 1, nil, float(4, 1)), node("F", "y", "w")), `node 1, F gives "w", which something else in the network gives, too`},
		{"own output", model(good, node("F", "z", "z", text(3, "f"))), `node 1, F "f" waits for its own output: the network has a cycle`},
		{"cycle", model(good, node("After", "c", "d"), node("A", "c", "a"), node("B", "a", "b"), node("C", "b x", "c")), "node 3, B waits for its own output: the network has a cycle"},
		{"no outputs", model(relu, input("x", 1)), "the network has no outputs"},
		{"output from nowhere", model(good, output("z")), `no node gives the network's output "z"`},
		{"two outputs", model(good, output("y")), `two outputs have the name "y"`},
		{"two inputs", model(good, input("x")), `two inputs have the name "x"`},
		// Inputs and outputs.
		{"no name", model(good, input("")), "an input has no name"},
		{"no type", model(good, message(11, text(1, "a"))), `input "a" has no type`},
		{"empty type", model(good, message(11, text(1, "a"), message(2))), `input "a": it has no type`},
		{"two types", model(good, message(11, text(1, "a"), message(2, message(1)), message(2, message(1)))), `input "a": it has two types`},
		{"two tensor types", model(good, message(11, text(1, "a"), message(2, message(1), message(1)))), `input "a": it has two types`},
		{"two shapes", model(good, message(11, text(1, "a"), message(2, message(1, message(2), message(2))))), `input "a": it has two shapes`},
		{"no shape", model(relu, message(11, text(1, "x"), message(2, message(1, integer(1, 1)))), output("y", 1)), `input "x" has no shape, not even a number of axes`},
		{"sequence", typed(4), `input "x": it is a sequence; known are tensors`},
		{"map", typed(5), `input "x": it is a map; known are tensors`},
		{"sparse input", typed(8), `input "x": it is a sparse tensor; known are tensors`},
		{"optional", typed(9), `input "x": it is a value that may be missing (optional); known are tensors`},
		{"type field", typed(10), `input "x": field 10 is not known: the file is of a newer ONNX, or it is not an ONNX file`},
		{"uint8 input", model(relu, message(11, tensorValue("x", 2, 1)), output("y", 1)), `input "x" is a tensor of uint8; known are tensors of float32`},
		{"untyped input", model(relu, message(11, tensorValue("x", 0, 1)), output("y", 1)), `input "x" is a tensor of no type; known are tensors of float32`},
		{"int64 output", model(relu, input("x", 1), message(12, tensorValue("y", 7, 1))), `output "y" is a tensor of int64; known are tensors of float32`},
		{"many axes", model(good, input("a", 1, 1, 1, 1, 1, 1, 1, 1, 1)), `input "a": more than the 8 axes that are allowed`},
		{"negative axis", model(good, message(11, text(1, "a"), message(2, message(1, message(2, message(1, integer(1, -5))))))), `input "a": an axis of size -5`},
		{"many outputs", model(good, many(256, output("z"))), "more than the 256 outputs that are allowed"},
		// Attributes.
		{"subgraph", conv(attribute("body", 5, message(6, good))), `node 1, Conv: attribute "body": it is a graph inside the graph, which is not known`},
		{"hidden subgraph", conv(attribute("body", 2, message(6, good))), `node 1, Conv: attribute "body": its type is that of an integer, and it holds something else`},
		{"subgraphs", conv(attribute("body", 10, message(11, good))), `node 1, Conv: attribute "body": it is graphs inside the graph, which is not known`},
		{"strings", conv(attribute("s", 8, text(9, "a"))), `node 1, Conv: attribute "s": it is strings, which is not known`},
		{"sparse attribute", conv(attribute("s", 11, message(22))), `node 1, Conv: attribute "s": it is a sparse tensor, which is not known`},
		{"type", conv(attribute("s", 13, message(14))), `node 1, Conv: attribute "s": it is a type, which is not known`},
		{"new type", conv(attribute("s", 15)), `node 1, Conv: attribute "s": it is of type 15, which is not known`},
		{"untyped", conv(message(5, text(1, "s"), integer(3, 1))), `node 1, Conv: attribute "s": it has no type`},
		{"unlike its type", conv(attribute("s", 7, integer(3, 1))), `node 1, Conv: attribute "s": its type is that of integers, and it holds something else`},
		{"two values", conv(attribute("s", 2, integer(3, 1), float(2, 1))), `node 1, Conv: attribute "s": its type is that of an integer, and it holds something else`},
		{"no tensor", conv(attribute("s", 4)), `node 1, Conv: attribute "s": it is a tensor, and holds none`},
		{"two tensors", conv(attribute("s", 4, message(5, tensor("", 1, nil, float(4, 1))), message(5))), `node 1, Conv: attribute "s": it has two tensors`},
		{"reference", conv(attribute("s", 2, text(21, "outer"))), `node 1, Conv: attribute "s": it refers to "outer", an attribute of a function, which is not known`},
		{"nameless attribute", conv(attribute("", 2)), "node 1, Conv: an attribute without a name"},
		{"attribute twice", conv(attribute("s", 2), attribute("s", 2)), `node 1, Conv: two attributes have the name "s"`},
		{"attribute field", conv(attribute("s", 2, integer(12, 1))), `node 1, Conv: attribute "s": field 12 is not known: the file is of a newer ONNX, or it is not an ONNX file`},
		{"damaged integers", conv(attribute("s", 7, message(8, []byte{128}))), `node 1, Conv: attribute "s": integers: the data ends in the middle of a value`},
		{"damaged floats", conv(attribute("s", 6, message(7, []byte{128}))), `node 1, Conv: attribute "s": 1 bytes of floats, which take four each`},
		{"many integers", conv(attribute("s", 7, packed(8, make([]int64, maxInts+1)...))), `node 1, Conv: attribute "s": more than the 1048576 integers that are allowed in a file`},
		// Constants.
		{"constant of strings", model(good, node("Constant", "", "c", attribute("value_string", 3, text(4, "s")))), `node 1, Constant: attribute "value_string" is not a value that is known`},
		{"constant of nothing", model(good, node("Constant", "", "c")), "node 1, Constant: it has 0 inputs, 1 outputs and 0 attributes; a constant has one output and one attribute"},
		{"constant of another type", model(good, node("Constant", "", "c", attribute("value", 2, integer(3, 1)))), `node 1, Constant: attribute "value" is not a value that is known`},
		{"constant twice", model(good, weights("c", 1, nil, float(4, 1)), node("Constant", "", "c", attribute("value_int", 2))), `node 1, Constant: two sets of weights have the name "c"`},
		// Weights.
		{"nameless weights", model(good, weights("", 1, nil, float(4, 1))), "weights without a name"},
		{"external data", ofWeights(1, []int64{1}, message(13, text(1, "location"), text(2, "/etc/passwd"))), `weights "w": its values are in another file (external_data): export the network into one file`},
		{"external location", ofWeights(1, []int64{1}, integer(14, 1)), `weights "w": its values are in another file (external_data): export the network into one file`},
		{"segment", ofWeights(1, []int64{1}, message(3)), `weights "w": it is a segment of a tensor, which is not known`},
		{"int8", ofWeights(3, []int64{1}, message(9, []byte{1})), `weights "w": it is of int8; known are float32, int32 and int64`},
		{"float16", ofWeights(10, []int64{1}, message(9, []byte{1, 0})), `weights "w": it is of float16; known are float32, int32 and int64`},
		{"new element type", ofWeights(99, []int64{1}), `weights "w": it is of an unknown type, 99; known are float32, int32 and int64`},
		{"other field", ofWeights(1, []int64{1}, packed(7, 1)), `weights "w": it is of float32, and its values are in int64_data`},
		{"strings in it", ofWeights(1, []int64{1}, text(6, "a")), `weights "w": it is of float32, and its values are in string_data`},
		{"two fields", ofWeights(1, []int64{2}, float(4, 1), message(9, floats(1))), `weights "w": it is of float32, and its values are in float_data and raw_data`},
		{"tensor field", ofWeights(1, []int64{1}, integer(15, 1)), `weights "w": field 15 is not known: the file is of a newer ONNX, or it is not an ONNX file`},
		{"too few", ofWeights(1, []int64{2, 3}, message(4, floats(1, 2, 3, 4, 5))), `weights "w": the shape [2×3] has 6 values, and the file holds 5`},
		{"too many", ofWeights(1, []int64{0}, float(4, 1)), `weights "w": the shape [0] has 0 values, and the file holds 1`},
		{"no values", ofWeights(1, []int64{1 << 20}), `weights "w": the shape [1048576] has 1048576 values, and the file holds 0`},
		{"negative size", ofWeights(1, []int64{-1, -1}, float(4, 1)), `weights "w": the shape [-1×-1] has a negative size`},
		{"overflow", ofWeights(1, []int64{1 << 32, 1 << 32}), `weights "w": the shape [4294967296×4294967296] has more values than a file can hold`},
		{"overflow beside nothing", ofWeights(1, []int64{0, 1 << 62, 1 << 62}), `weights "w": the shape [0×4611686018427387904×4611686018427387904] has more values than a file can hold`},
		{"many axes of weights", ofWeights(1, []int64{1, 1, 1, 1, 1, 1, 1, 1, 1}, float(4, 1)), `weights "w": more than the 8 axes that are allowed`},
		{"raw bytes", ofWeights(7, []int64{1}, message(9, []byte{1, 2, 3})), `weights "w": 3 bytes of int64, which take 8 each`},
		{"raw as a number", ofWeights(7, []int64{1}, integer(9, 1)), `weights "w": a field has another type than in ONNX`},
		{"wide int32", ofWeights(6, []int64{1}, packed(5, 1<<31)), `weights "w": it is of int32 and holds 2147483648`},
		{"many raw integers", ofWeights(6, []int64{maxInts + 1}, message(9, make([]byte, 4*(maxInts+1)))), `weights "w": more than the 1048576 integers that are allowed in a file`},
		{"weights twice", model(good, weights("w", 1, nil, float(4, 1)), weights("w", 1, nil, float(4, 1))), `two sets of weights have the name "w"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := Read(c.file)
			if err == nil {
				t.Fatalf("no error, want %q; read %+v", c.want, g)
			}
			if got := err.Error(); got != c.want && (c.name != "cut" || !strings.HasSuffix(got, c.want)) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// TestOrder: whatever the order in the file, what a node takes comes before it, and what
// is in order stays.
func TestOrder(t *testing.T) {
	const n = 300
	var nodes [][]byte
	for i := range n {
		in := "x"
		for _, step := range []int{1, 7, 60} {
			if i >= step {
				in += " v" + strconv.Itoa(i-step)
			}
		}
		nodes = append(nodes, node("F", in, "v"+strconv.Itoa(i)))
	}
	ends := slices.Concat(input("x", 1), output("v"+strconv.Itoa(n-1), 1))
	for _, step := range []int{1, n - 1, 7, 77, 149} { // none has a divisor in common with n
		var file []byte
		for i := range n {
			file = append(file, nodes[i*step%n]...)
		}
		g, err := Read(model(file, ends))
		if err != nil {
			t.Fatal(err)
		}
		checkGraph(t, g)
		if len(g.Nodes) != n {
			t.Fatalf("%d nodes, want %d", len(g.Nodes), n)
		}
		for i, got := range g.Nodes {
			// Each takes what the one before gives, so there is one order.
			if want := "v" + strconv.Itoa(i); got.Outputs[0] != want {
				t.Fatalf("in steps of %d: node %d gives %q, want %q", step, i, got.Outputs[0], want)
			}
		}
	}
}

// TestManyNodes: a wide network out of order takes no time.
func TestManyNodes(t *testing.T) {
	var b []byte
	names := make([]string, maxNodes-1)
	for i := range names {
		names[i] = "v" + strconv.Itoa(i)
		b = append(b, node("F", "first", names[i])...)
	}
	g, err := Read(model(b, node("F", "x", "first"), input("x", 1), output(names[0], 1)))
	if err != nil {
		t.Fatal(err)
	}
	checkGraph(t, g)
	if len(g.Nodes) != maxNodes || g.Nodes[0].Outputs[0] != "first" {
		t.Errorf("%d nodes, the first gives %q", len(g.Nodes), g.Nodes[0].Outputs)
	}
}

// FuzzRead: whatever the bytes, Read returns an error or a graph that keeps its promises,
// and keeps nothing of the bytes.
func FuzzRead(f *testing.F) {
	good := model(node("Conv", "x w", "y", attribute("pads", 7, packed(8, 1, 1)), attribute("t", 4, message(5, tensor("", 7, nil, packed(7, 3))))),
		node("Constant", "", "k", attribute("value_float", 1, float(2, 1))), node("Add", "y k", "z"),
		weights("w", 1, []int64{2}, message(9, floats(1, 2))), input("x", 1, -1), output("z", -1))
	f.Add(good)
	for n := range good {
		f.Add(good[:n])
	}
	paths, err := filepath.Glob("../../../shared/models/mtcnn/pnet.onnx")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Read(b)
		if err != nil {
			return
		}
		checkGraph(t, g)
		before := dump(g)
		clear(b)
		if dump(g) != before {
			t.Error("the graph changes with the bytes that it was read from")
		}
	})
}
