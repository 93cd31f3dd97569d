package onnxfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
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
		first := len(*to)
		*to = slices.Grow(*to, len(f.bytes)/4)[:first+len(f.bytes)/4]
		for i := range (*to)[first:] {
			(*to)[first+i] = math.Float32frombits(binary.LittleEndian.Uint32(f.bytes[4*i:]))
		}
		return nil
	}
	return errWireType
}
