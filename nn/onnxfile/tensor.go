package onnxfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

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

// dataFields are the fields of a TensorProto that hold values, besides raw_data.
var dataFields = map[protowire.Number]string{
	4: "float_data", 5: "int32_data", 6: "string_data", 7: "int64_data", 10: "double_data", 11: "uint64_data",
}

// tensorProto is a TensorProto.
type tensorProto struct {
	Tensor
	name     string
	element  int64
	external bool
	raw      []byte   // of raw_data
	has      []string // the fields that hold values
}

// tensor reads a TensorProto. The name is known where there is an error, too, unless it
// comes after what is wrong.
func (r *reader) tensor(b []byte) (name string, _ Tensor, err error) {
	t := tensorProto{Tensor: Tensor{Shape: []int64{}}}
	if err := walk(b, func(f field) error { return r.tensorField(f, &t) }); err != nil {
		return t.name, Tensor{}, err
	}
	if err := r.finish(&t); err != nil {
		return t.name, Tensor{}, err
	}
	return t.name, t.Tensor, nil
}

func (r *reader) tensorField(f field, t *tensorProto) error {
	if name, ok := dataFields[f.number]; ok {
		return r.tensorData(f, name, t)
	}
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
		return f.integer(&t.element)
	case 3:
		return errors.New("it is a segment of a tensor, which is not known")
	case 8:
		return f.text(&t.name)
	case 9:
		t.holds("raw_data")
		var err error
		t.raw, err = f.message()
		return err
	case 12, 16: // docs, metadata
		return nil
	case 13:
		t.external = true
		return nil
	case 14:
		var location int64
		err := f.integer(&location)
		t.external = t.external || location != 0
		return err
	}
	return f.unknown()
}

// tensorData reads a field that holds values. Those of types that are not known are only
// noted.
func (r *reader) tensorData(f field, name string, t *tensorProto) error {
	t.holds(name)
	switch f.number {
	case 4:
		return f.floats(&t.Floats)
	case 5, 7:
		return r.integers(f, &t.Ints)
	}
	return nil
}

// holds notes a field that holds values.
func (t *tensorProto) holds(name string) {
	if !slices.Contains(t.has, name) {
		t.has = append(t.has, name)
	}
}

// finish checks what a tensor holds, and reads raw_data.
func (r *reader) finish(t *tensorProto) error {
	if t.external {
		return errors.New("its values are in another file (external_data): export the network into one file")
	}
	own, known := map[int64]string{typeFloat32: "float_data", typeInt32: "int32_data", typeInt64: "int64_data"}[t.element]
	if !known {
		return fmt.Errorf("it is of %s; known are float32, int32 and int64", typeName(t.element))
	}
	if len(t.has) > 1 || len(t.has) == 1 && t.has[0] != own && t.has[0] != "raw_data" {
		return fmt.Errorf("it is of %s, and its values are in %s", typeName(t.element), strings.Join(t.has, " and "))
	}
	if err := r.raw(t.raw, t.element, &t.Tensor); err != nil {
		return err
	}
	if t.element == typeInt32 {
		for _, v := range t.Ints {
			if v != int64(int32(v)) {
				return fmt.Errorf("it is of int32 and holds %d", v)
			}
		}
	}
	return t.check()
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
