package onnxfile

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// model reads a ModelProto.
func (r *reader) model(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: it is empty", ErrDamaged)
	}
	like := false // it has a part that other files hardly have
	err := walk(b, func(f field) error {
		like = like || f.kind == protowire.BytesType && (f.number == 7 || f.number == 8)
		return r.modelField(f)
	})
	switch {
	case err != nil && !like:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return err
	case !r.hasGraph:
		return fmt.Errorf("%w: it has no graph", ErrDamaged)
	case !r.hasOpset:
		return errors.New("the file does not say which version of the operators (opset_import) it is for")
	}
	return nil
}

func (r *reader) modelField(f field) error {
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
