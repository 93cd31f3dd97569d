//go:build cgo

package onnx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	ort "github.com/yalue/onnxruntime_go"
)

// environment is the runtime's: one per process, as the runtime itself has it.
var environment struct {
	sync.Mutex
	library string
}

// load opens the runtime's library, once per process.
func load(library string) error {
	environment.Lock()
	defer environment.Unlock()
	if environment.library != "" {
		if environment.library != library {
			return fmt.Errorf("the ONNX Runtime is loaded from %s already; a process has one", environment.library)
		}
		return nil
	}
	// Left to itself, the runtime (1.30 on Linux) keeps an id of the machine and a
	// database in the user's cache folder, and uploads what it notes there. It reads
	// this when it is loaded.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return fmt.Errorf("ONNX Runtime: its telemetry cannot be turned off: %w", err)
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("ONNX Runtime's library: %s cannot be loaded: %w: %s", library, err, cure())
	}
	environment.library = library
	return nil
}

// session runs one network. It is safe for concurrent use.
type session struct {
	// run takes one core. Requests run beside each other that way, which answers
	// more of them than one after the other on all cores.
	run *ort.DynamicAdvancedSession
	// alone takes all cores, for when nothing else runs; nil: run does.
	alone           *ort.DynamicAdvancedSession
	inputs, outputs []ort.InputOutputInfo
}

// running is how many runs of networks there are in this process.
var running atomic.Int64

// openSession loads the network in path, for as many cores as there are threads
// when a run has them for itself.
func openSession(path string, threads int) (*session, error) {
	inputs, outputs, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return nil, fmt.Errorf("%s is no ONNX model that the runtime can load%s: %w", path, mistaken(path), err)
	}
	s := &session{inputs: inputs, outputs: outputs}
	if s.run, err = s.open(path, 1); err != nil {
		return nil, err
	}
	if threads > 1 {
		if s.alone, err = s.open(path, threads); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// mistaken tells of what is often in the place of a model.
func mistaken(path string) string {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // only read
	start := make([]byte, 512)
	n, _ := io.ReadFull(file, start) // a file may be shorter
	switch start = bytes.TrimSpace(start[:n]); {
	case len(start) == 0:
		return " (it is empty)"
	case bytes.HasPrefix(start, []byte("version https://git-lfs")):
		return ` (it is what stands for a file in Git LFS: "git lfs pull" fetches the file itself)`
	case bytes.HasPrefix(start, []byte("<")):
		return " (it is a web page, perhaps one about the file)"
	}
	return ""
}

func (s *session) open(path string, threads int) (*ort.DynamicAdvancedSession, error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { _ = options.Destroy() }() // it only frees
	if err := errors.Join(
		options.SetIntraOpNumThreads(threads),
		options.SetInterOpNumThreads(1),
		// Threads that wait for work by turning in circles keep it from others.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
	); err != nil {
		return nil, err
	}
	run, err := ort.NewDynamicAdvancedSession(path, names(s.inputs), names(s.outputs), options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return run, nil
}

func (s *session) close() error {
	var errs []error
	for _, run := range []*ort.DynamicAdvancedSession{s.run, s.alone} {
		if run != nil {
			errs = append(errs, run.Destroy())
		}
	}
	return errors.Join(errs...)
}

func names(infos []ort.InputOutputInfo) []string {
	var n []string
	for _, i := range infos {
		n = append(n, i.Name)
	}
	return n
}

// output returns the position of an output, -1 when there is none of that name.
func (s *session) output(name string) int {
	for i, o := range s.outputs {
		if o.Name == name {
			return i
		}
	}
	return -1
}

// allFloat32 tells whether the network takes and gives tensors of float32 alone, which
// is all that this package fills and reads.
func allFloat32(s *session) error {
	for _, i := range slices.Concat(s.inputs, s.outputs) {
		if i.OrtValueType != ort.ONNXTypeTensor || i.DataType != ort.TensorElementDataTypeFloat {
			return fmt.Errorf("it has %s; known are networks whose inputs and outputs are tensors of float32", describe(i))
		}
	}
	return nil
}

// try runs the network once, on zeros, and tells whether its outputs have the
// shapes that are wanted: those that a file declares need not be true.
func (s *session) try(input ort.Shape, wanted []ort.Shape) error {
	in, err := ort.NewEmptyTensor[float32](input)
	if err != nil {
		return err
	}
	defer func() { _ = in.Destroy() }() // it only frees
	outputs := make([]ort.Value, len(s.outputs))
	err = s.run.Run([]ort.Value{in}, outputs)
	defer func() {
		for _, o := range outputs {
			if o != nil {
				_ = o.Destroy() // it only frees
			}
		}
	}()
	if err != nil {
		return fmt.Errorf("it takes %s and cannot be run on %s: %w", describe(s.inputs...), sides(input), err)
	}
	for i, o := range outputs {
		if !o.GetShape().Equals(wanted[i]) {
			return fmt.Errorf("for an input of %s its output %s is %s; known is %s", sides(input), s.outputs[i].Name, sides(o.GetShape()), sides(wanted[i]))
		}
	}
	return nil
}

// tensors are the input and the outputs of one run, in buffers that are used
// again: a run of the same sizes allocates nothing but what the binding does.
type tensors struct {
	input   *ort.Tensor[float32]
	outputs []*ort.Tensor[float32]
	values  []ort.Value // outputs, as the binding wants them
	buffers [][]float32
}

// resize makes t fit; the data of its tensors is undefined afterwards.
func (t *tensors) resize(input ort.Shape, outputs []ort.Shape) error {
	if t.input != nil && t.input.GetShape().Equals(input) {
		return nil
	}
	t.free()
	if t.buffers == nil {
		t.buffers = make([][]float32, 1+len(outputs))
	}
	var err error
	if t.input, err = t.tensor(0, input); err != nil {
		return err
	}
	for i, shape := range outputs {
		out, err := t.tensor(1+i, shape)
		if err != nil {
			return err
		}
		t.outputs = append(t.outputs, out)
		t.values = append(t.values, out)
	}
	return nil
}

func (t *tensors) tensor(i int, shape ort.Shape) (*ort.Tensor[float32], error) {
	n := int(shape.FlattenedSize())
	if cap(t.buffers[i]) < n {
		t.buffers[i] = make([]float32, n)
	}
	return ort.NewTensor(shape, t.buffers[i][:n])
}

// free gives back what the runtime holds; the buffers stay.
func (t *tensors) free() {
	if t.input != nil {
		_ = t.input.Destroy() // it only frees
		t.input = nil
	}
	for _, o := range t.outputs {
		_ = o.Destroy() // it only frees
	}
	t.outputs, t.values = t.outputs[:0], t.values[:0]
}

// infer runs the network on t. When ctx ends it stops in the middle, at the next
// operator, and returns ctx.Err().
func (s *session) infer(ctx context.Context, t *tensors) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return err
	}
	defer func() { _ = options.Destroy() }() // it only frees
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = options.Terminate() // then the run comes to its own end
	})
	run := s.run
	if running.Add(1) == 1 && s.alone != nil {
		run = s.alone
	}
	err = run.RunWithOptions([]ort.Value{t.input}, t.values, options)
	running.Add(-1)
	if !stop() {
		// Not to be destroyed while it is in use.
		<-terminated
	}
	if ctxErr := ctx.Err(); ctxErr != nil && err != nil {
		return ctxErr
	}
	return err
}
