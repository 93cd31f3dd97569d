package nn

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/internal/freelist"
	"github.com/mienproject/mien/nn/onnxfile"
)

// Options says how to run a network.
type Options struct {
	// Gate is shared with whatever else computes in this process. A run takes cores that
	// are idle, with the same outputs. Nil is a gate to one core.
	Gate *cores.Gate
	// OneCore keeps a run on one core.
	OneCore bool
}

// Engine runs one network. It is safe for concurrent use.
type Engine struct {
	network         *network
	options         Options
	inputs, outputs []engine.Value
	// These are memory for the next runs.
	runs            freelist.List[*run]
	rooms, cutRooms freelist.List[*room] // cutRooms are for bands
	// floats is the network if it is computed with float32.
	floats *floatNetwork
}

var _ engine.Engine = (*Engine)(nil)

// Open reads the network in the ONNX file at path.
func Open(path string, o Options) (*Engine, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	e, err := New(b, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

// ErrDamaged means that a file is not an ONNX file, or only a part of one.
var ErrDamaged = onnxfile.ErrDamaged

// New returns an engine for the network in an ONNX file. The error is ErrDamaged, or
// names a node or an attribute that is not supported.
func New(file []byte, o Options) (*Engine, error) {
	g, err := onnxfile.Read(file)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(g, o)
	if err != nil {
		return nil, err
	}
	// The kernels have theirs.
	for _, s := range e.network.stages {
		s.weights = nil
	}
	return e, nil
}

func newEngine(g *onnxfile.Graph, o Options) (*Engine, error) {
	n, err := read(g)
	if err != nil {
		return nil, err
	}
	if o.Gate == nil {
		o.Gate = cores.NewGate(1)
	}
	e := &Engine{network: n, options: o, inputs: values(g.Inputs), outputs: values(g.Outputs)}
	e.runs.New = func() *run { return newRun(e) }
	e.rooms.New = func() *room { return newRoom(n) }
	e.cutRooms.New = e.rooms.New
	if n.isDense() {
		e.floats, err = n.floats()
	} else {
		err = n.quantize()
	}
	if err != nil {
		return nil, err
	}
	if e.floats != nil {
		e.floats.runs.New = func() *floatRun { return newFloatRun(e) }
	}
	return e, nil
}

func values(all []onnxfile.Value) []engine.Value {
	var v []engine.Value
	for _, value := range all {
		v = append(v, engine.Value{Name: value.Name, Type: engine.Float32, Shape: value.Shape})
	}
	return v
}

// Inputs implements engine.Engine.
func (e *Engine) Inputs() []engine.Value { return e.inputs }

// Outputs implements engine.Engine.
func (e *Engine) Outputs() []engine.Value { return e.outputs }

// Close implements engine.Engine. The memory of the network is freed once nothing refers to
// it.
func (e *Engine) Close() error { return nil }

// Probe implements engine.Engine. It computes the shapes, which is all that it needs for
// them.
func (e *Engine) Probe(input engine.Shape) ([]engine.Shape, error) {
	batch, of, err := e.check(input)
	if err != nil {
		return nil, err
	}
	all := make([]sized, len(e.network.stages))
	if err := sizes(all, e.network.stages, of); err != nil {
		return nil, err
	}
	var shapes []engine.Shape
	for i := range e.network.outputs {
		o := &e.network.outputs[i]
		shapes = append(shapes, o.appendShape(nil, batch, all[o.stage].out))
	}
	return shapes, nil
}

// What a run takes at most, for the networks that are known to it: rows of all maps, and
// whole maps where two stages read one. TestMemory measures it.
const (
	baseBytes     = 2 << 20
	bytesPerValue = 6 // of the input
)

// Memory implements engine.Engine. A run that takes cores which are idle takes as much
// again for each of them.
func (e *Engine) Memory(input engine.Shape) int64 {
	return baseBytes + bytesPerValue*int64(input.Size())
}

// check returns the batch and the size of an input.
func (e *Engine) check(input engine.Shape) (int64, size, error) {
	n := e.network
	declared := e.inputs[0].Shape
	fits := len(input) == len(declared)
	for i := range declared {
		fits = fits && (input[i] == declared[i] || declared[i] < 0) && input[i] >= 1 && input[i] <= math.MaxInt32
	}
	if !fits {
		return 0, size{}, fmt.Errorf("the input is %s; the network takes %s, with at least 1 of each", input, e.inputs[0])
	}
	if n.interleaved {
		return input[0], size{int(input[1]), int(input[2])}, nil
	}
	return input[0], size{int(input[2]), int(input[3])}, nil
}

// Run implements engine.Engine. Values of the input may be up to 4095, positive or negative.
func (e *Engine) Run(ctx context.Context, input engine.Tensor, outputs []engine.Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	batch, of, err := e.check(input.Shape)
	if err != nil {
		return err
	}
	gate := e.options.Gate
	gate.Enter(ctx)
	defer gate.Leave(ctx)
	if f := e.floats; f != nil {
		r := f.runs.Get()
		defer f.runs.Put(r)
		return r.run(ctx, input, outputs, int(batch), of)
	}
	r := e.runs.Get()
	defer e.runs.Put(r)
	return r.run(ctx, input, outputs, int(batch), of)
}

// checkTensors returns an error unless the tensors have as many values as their shapes, and
// the outputs the shapes that the network gives, where its maps have those sizes.
func (e *Engine) checkTensors(input engine.Tensor, outputs []engine.Tensor, of []sized, scratch *engine.Shape) error {
	if len(input.Data) != input.Shape.Size() {
		return fmt.Errorf("the input has %d values for the shape %s", len(input.Data), input.Shape)
	}
	n := e.network
	if len(outputs) != len(n.outputs) {
		return fmt.Errorf("there are %d outputs for %d of the network", len(outputs), len(n.outputs))
	}
	for i := range n.outputs {
		o := &n.outputs[i]
		*scratch = o.appendShape((*scratch)[:0], input.Shape[0], of[o.stage].out)
		if t := &outputs[i]; !slices.Equal(t.Shape, *scratch) || len(t.Data) != t.Shape.Size() {
			return fmt.Errorf("output %s is %s with %d values; the network gives %s", e.outputs[i].Name, t.Shape, len(t.Data), *scratch)
		}
	}
	return nil
}
