// Package engine is the interface between families of face detectors and what runs
// their networks. A family prepares inputs and interprets outputs, and an engine runs a
// network. Neither knows the other, and this package does not need cgo.
package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mienproject/mien/internal/freelist"
)

// An Engine runs one network with one input. It is safe for concurrent use.
type Engine interface {
	// Inputs and Outputs describe the inputs and outputs of the network as its file
	// declares them. They never change.
	Inputs() []Value
	Outputs() []Value
	// Run runs the network on input, and fills outputs, which must be in the order of
	// Outputs and have the shapes that the network's outputs have for this input. If
	// ctx ends, Run stops soon and returns ctx.Err().
	Run(ctx context.Context, input Tensor, outputs []Tensor) error
	// Probe runs the network on zeros of that shape, and returns the shapes of its
	// outputs, because those that a file declares may be wrong.
	Probe(input Shape) ([]Shape, error)
	// Memory returns an upper bound, in bytes, of the memory that a run on an input of that
	// shape takes beside the input and the outputs.
	Memory(input Shape) int64
	// Close frees the network. There must be no running or later calls.
	Close() error
}

// Value is an input or an output of a network.
type Value struct {
	Name string
	// Type is Float32, or the name of another type.
	Type  string
	Shape Shape
}

// Float32 is the type of tensors of float32.
const Float32 = "float32"

// String returns the value's name, shape and, unless it is Float32, type.
func (v Value) String() string {
	if v.Type == Float32 {
		return v.Name + v.Shape.String()
	}
	return v.Name + v.Shape.String() + " of " + v.Type
}

// Describe returns a description of values for messages.
func Describe(values []Value) string {
	var b []string
	for _, v := range values {
		b = append(b, v.String())
	}
	return strings.Join(b, ", ")
}

// Shape has the size of each axis of a tensor. The last axis varies fastest. A negative
// size means any size.
type Shape []int64

// Size returns the number of values in a tensor of this shape.
func (s Shape) Size() int {
	n := int64(1)
	for _, side := range s {
		n *= side
	}
	return int(n)
}

// String returns the shape as in [1×3×?×?]; a question mark is any size.
func (s Shape) String() string {
	var b []string
	for _, n := range s {
		if n < 0 {
			b = append(b, "?")
		} else {
			b = append(b, strconv.FormatInt(n, 10))
		}
	}
	return "[" + strings.Join(b, "×") + "]"
}

// Tensor is an array of Shape.Size() values.
type Tensor struct {
	Shape Shape
	Data  []float32
}

// Buffers has the input and the outputs of a run, in memory that is reused for the next
// run. The zero value is ready to use. One goroutine may use it at a time.
type Buffers struct {
	Input   Tensor
	Outputs []Tensor
}

// Resize changes b to these shapes, which it keeps. After that, the contents of the
// tensors are undefined.
func (b *Buffers) Resize(input Shape, outputs []Shape) {
	b.Input.resize(input)
	if b.Outputs == nil {
		b.Outputs = make([]Tensor, len(outputs))
	}
	for i, shape := range outputs {
		b.Outputs[i].resize(shape)
	}
}

func (t *Tensor) resize(shape Shape) {
	t.Shape, t.Data = shape, freelist.Resize(t.Data, shape.Size())
}

// CheckFloat32 returns an error unless all inputs and outputs are tensors of float32,
// the only type that engines support.
func CheckFloat32(e Engine) error {
	for _, v := range slices.Concat(e.Inputs(), e.Outputs()) {
		if v.Type != Float32 {
			return fmt.Errorf("it has %s; all inputs and outputs must be tensors of float32", v)
		}
	}
	return nil
}

// CheckShapes runs the network once, and returns an error unless its outputs have the
// wanted shapes.
func CheckShapes(e Engine, input Shape, wanted []Shape) error {
	shapes, err := e.Probe(input)
	if err != nil {
		return fmt.Errorf("it has the inputs %s and cannot be run on %s: %w", Describe(e.Inputs()), input, err)
	}
	for i, got := range shapes {
		if !slices.Equal(got, wanted[i]) {
			return fmt.Errorf("for an input of %s, its output %s is %s instead of %s", input, e.Outputs()[i].Name, got, wanted[i])
		}
	}
	return nil
}

// OutputIndex returns the index of the output of that name, or -1 if there is none.
func OutputIndex(e Engine, name string) int {
	return slices.IndexFunc(e.Outputs(), func(v Value) bool { return v.Name == name })
}
