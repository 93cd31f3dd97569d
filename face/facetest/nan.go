package facetest

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of ONNX's messages (onnx.proto).
const (
	modelGraph = 7

	graphNode, graphInput = 1, 11

	nodeInput, nodeOutput, nodeType, nodeAttribute = 1, 2, 4, 5

	attributeName, attributeInt, attributeTensor, attributeType = 1, 3, 5, 20

	tensorType, tensorData = 2, 9

	valueName = 1
)

// WriteNaNWhenDark writes a copy of the ONNX network in from to to. In the copy, all
// values of the output of that name are NaN for inputs whose mean is below floor.
func WriteNaNWhenDark(t testing.TB, from, to, output string, floor float32) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	const sound = "what the output was" // the original output; no network has this name
	input, found := "", false
	model := rewrite(data, modelGraph, func(graph []byte) []byte {
		graph = rewrite(graph, graphInput, func(value []byte) []byte {
			rewrite(value, valueName, func(name []byte) []byte {
				if input == "" {
					input = string(name)
				}
				return name
			})
			return value
		})
		graph = rewrite(graph, graphNode, func(node []byte) []byte {
			return rewrite(node, nodeOutput, func(name []byte) []byte {
				if string(name) == output {
					found = true
					return []byte(sound)
				}
				return name
			})
		})
		// The logarithm of a negative number is NaN, and so is 0 times NaN.
		for _, n := range [][]byte{
			node("ReduceMean", "mean", integer("keepdims", 0), input),
			node("Constant", "least", scalar(floor)),
			node("Constant", "nothing", scalar(0)),
			node("Sub", "above", nil, "mean", "least"),
			node("Log", "logarithm", nil, "above"),
			node("Mul", "nothing or NaN", nil, "logarithm", "nothing"),
			node("Add", output, nil, sound, "nothing or NaN"),
		} {
			graph = field(graph, graphNode, n)
		}
		return graph
	})
	if input == "" || !found {
		t.Fatalf("%s has no output %q", from, output)
	}
	if err := os.WriteFile(to, model, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rewrite returns the message with each value of a bytes field replaced.
func rewrite(message []byte, number protowire.Number, replace func([]byte) []byte) []byte {
	var out []byte
	for len(message) > 0 {
		n, kind, tag := protowire.ConsumeTag(message)
		size := protowire.ConsumeFieldValue(n, kind, message[max(tag, 0):])
		if tag < 0 || size < 0 {
			return nil
		}
		if n == number {
			value, _ := protowire.ConsumeBytes(message[tag:])
			out = field(out, number, replace(value))
		} else {
			out = append(out, message[:tag+size]...)
		}
		message = message[tag+size:]
	}
	return out
}

func field(message []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), value)
}

func varint(message []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(message, number, protowire.VarintType), value)
}

func node(kind, output string, attribute []byte, inputs ...string) []byte {
	var n []byte
	for _, i := range inputs {
		n = field(n, nodeInput, []byte(i))
	}
	n = field(n, nodeOutput, []byte(output))
	n = field(n, nodeType, []byte(kind))
	if attribute != nil {
		n = field(n, nodeAttribute, attribute)
	}
	return n
}

func integer(name string, value uint64) []byte {
	const kind = 2
	return varint(varint(field(nil, attributeName, []byte(name)), attributeInt, value), attributeType, kind)
}

func scalar(value float32) []byte {
	const kind, float = 4, 1
	tensor := field(varint(nil, tensorType, float), tensorData, binary.LittleEndian.AppendUint32(nil, math.Float32bits(value)))
	return varint(field(field(nil, attributeName, []byte("value")), attributeTensor, tensor), attributeType, kind)
}
