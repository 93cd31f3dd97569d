//go:build cgo

package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
)

// environment is the state of the runtime, of which a process has only one.
var environment struct {
	sync.Mutex
	library string
}

// load loads the runtime's library, once per process.
func load(library string) error {
	environment.Lock()
	defer environment.Unlock()
	if environment.library != "" {
		if environment.library != library {
			return fmt.Errorf("ONNX Runtime is already loaded from %s; a process can load only one", environment.library)
		}
		return nil
	}
	// By default the runtime (1.30 on Linux) stores an id of the machine and a database
	// in the user's cache folder, and uploads data from there. It reads this variable
	// when it is loaded.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return fmt.Errorf("turning off ONNX Runtime's telemetry: %w", err)
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return &LibraryError{Path: library, Err: fmt.Errorf("cannot be loaded: %w", err)}
	}
	environment.library = library
	return nil
}

// session runs one network. It is safe for concurrent use.
type session struct {
	// single runs on one core. Concurrent requests use it, because that answers more of
	// them than running one after another on all cores.
	single *ort.DynamicAdvancedSession
	// parallel runs on all cores of the gate, while nothing else computes. If it is
	// nil, single is used.
	parallel        *ort.DynamicAdvancedSession
	gate            *cores.Gate
	inputs, outputs []engine.Value
}

var _ engine.Engine = (*session)(nil)

// Available returns nil if this binary can run ONNX models, and ErrUnavailable
// otherwise.
func Available() error { return nil }

// Open loads the network in the file at path. If the context of a run ends, the run
// stops at the next operator. If the library cannot be used, the error is a
// *LibraryError; if it has no such provider, a *ProviderError.
func Open(path string, o Options) (engine.Engine, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	if err := load(o.Library); err != nil {
		return nil, err
	}
	inputs, outputs, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return nil, fmt.Errorf("%s is not an ONNX model that ONNX Runtime can load: %w", path, err)
	}
	gate := o.Gate
	if gate == nil {
		gate = cores.NewGate(1)
	}
	s := &session{gate: gate, inputs: values(inputs), outputs: values(outputs)}
	if s.single, err = s.open(path, 1, o); err != nil {
		return nil, err
	}
	if gate.Cores() > 1 && !o.OneCore && o.Provider != CUDA {
		if s.parallel, err = s.open(path, gate.Cores(), o); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// values converts the runtime's descriptions.
func values(infos []ort.InputOutputInfo) []engine.Value {
	var all []engine.Value
	for _, i := range infos {
		v := engine.Value{Name: i.Name, Type: engine.Float32, Shape: engine.Shape(i.Dimensions)}
		switch {
		case i.OrtValueType != ort.ONNXTypeTensor:
			v.Type = strings.ToLower(strings.TrimPrefix(i.OrtValueType.String(), "ONNX_TYPE_"))
		case i.DataType != ort.TensorElementDataTypeFloat:
			v.Type = strings.ToLower(strings.TrimPrefix(i.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
		}
		all = append(all, v)
	}
	return all
}

// Inputs implements engine.Engine.
func (s *session) Inputs() []engine.Value { return s.inputs }

// Outputs implements engine.Engine.
func (s *session) Outputs() []engine.Value { return s.outputs }

func (s *session) open(path string, threads int, o Options) (*ort.DynamicAdvancedSession, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { _ = options.Destroy() }() // it only frees memory
	if err := errors.Join(
		options.SetIntraOpNumThreads(threads),
		options.SetInterOpNumThreads(1),
		// Threads that spin while they wait for work would slow down all others.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
	); err != nil {
		return nil, err
	}
	if o.Provider == CUDA {
		if err := useCUDA(options, o.Device); err != nil {
			return nil, &ProviderError{Provider: CUDA, Library: o.Library, Err: err}
		}
	}
	run, err := ort.NewDynamicAdvancedSession(path, names(s.inputs), names(s.outputs), options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

// useCUDA makes a session run on a GPU. What CUDA does not have still runs on the CPU.
func useCUDA(options *ort.SessionOptions, device int) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer func() { _ = cuda.Destroy() }() // it only frees memory
	if err := cuda.Update(map[string]string{"device_id": strconv.Itoa(device)}); err != nil {
		return err
	}
	return options.AppendExecutionProviderCUDA(cuda)
}

// Close implements engine.Engine.
func (s *session) Close() error {
	var errs []error
	for _, run := range []*ort.DynamicAdvancedSession{s.single, s.parallel} {
		if run != nil {
			errs = append(errs, run.Destroy())
		}
	}
	return errors.Join(errs...)
}

func names(values []engine.Value) []string {
	var n []string
	for _, v := range values {
		n = append(n, v.Name)
	}
	return n
}

// Probe implements engine.Engine.
func (s *session) Probe(input engine.Shape) ([]engine.Shape, error) {
	in, err := ort.NewEmptyTensor[float32](ort.Shape(input))
	if err != nil {
		return nil, err
	}
	defer destroy(in)
	outputs := make([]ort.Value, len(s.outputs))
	err = s.single.Run([]ort.Value{in}, outputs)
	defer destroy(outputs...)
	if err != nil {
		return nil, err
	}
	var shapes []engine.Shape
	for _, o := range outputs {
		shapes = append(shapes, engine.Shape(o.GetShape()))
	}
	return shapes, nil
}

// bytesPerValue is how much memory the runtime takes for each value of the input. Measured
// with version 1.30: SCRFD takes 36 (2.5 GF) and 15 bytes (500 MF), YuNet 13, on inputs of
// 640×640 to 2560×1696 pixels. The runtime keeps this memory for the next run.
const bytesPerValue = 48

// Memory implements engine.Engine.
func (s *session) Memory(input engine.Shape) int64 { return bytesPerValue * int64(input.Size()) }

// destroy frees the runtime's memory for the values.
func destroy(values ...ort.Value) {
	for _, v := range values {
		if v != nil {
			_ = v.Destroy() // it only frees memory
		}
	}
}

// wrap appends the runtime's views of tensors to values.
func wrap(values []ort.Value, tensors ...engine.Tensor) ([]ort.Value, error) {
	for _, t := range tensors {
		v, err := ort.NewTensor(ort.Shape(t.Shape), t.Data)
		if err != nil {
			return values, err
		}
		values = append(values, v)
	}
	return values, nil
}

// Run implements engine.Engine.
func (s *session) Run(ctx context.Context, input engine.Tensor, outputs []engine.Tensor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	values, err := wrap(make([]ort.Value, 0, 1+len(outputs)), input)
	if err == nil {
		values, err = wrap(values, outputs...)
	}
	defer func() { destroy(values...) }()
	if err != nil {
		return err
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return err
	}
	defer func() { _ = options.Destroy() }() // it only frees memory
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = options.Terminate() // if this fails, the run ends on its own
	})
	if s.parallel != nil && s.gate.EnterAlone(ctx) {
		err = s.parallel.RunWithOptions(values[:1], values[1:], options)
		s.gate.LeaveAlone(ctx)
	} else {
		s.gate.Enter(ctx)
		err = s.single.RunWithOptions(values[:1], values[1:], options)
		s.gate.Leave(ctx)
	}
	if !stop() {
		// options must not be destroyed while it is in use.
		<-terminated
	}
	if ctxErr := ctx.Err(); ctxErr != nil && err != nil {
		return ctxErr
	}
	return err
}
