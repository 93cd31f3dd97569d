package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/networks"
	"github.com/mienproject/mien/face/pigo"
	"github.com/mienproject/mien/modelstore"
	"github.com/mienproject/mien/nn"
	"github.com/mienproject/mien/onnx"
	"github.com/mienproject/mien/service"
)

// The models that a binary can contain.
const (
	yunetName     = "yunet" // only in a build that embeds it
	mtcnnName     = "mtcnn"
	pigoName      = "pigo"
	referenceName = "pigo-reference"
)

// builtIn returns the names of the models in this binary, the most accurate first.
func builtIn() []string {
	names := []string{mtcnnName, pigoName, referenceName}
	if yunetWeights != nil {
		names = slices.Insert(names, 0, yunetName)
	}
	return names
}

// defaultModels are the most accurate built-in model, which answers requests that name
// none, and the fastest.
func defaultModels() []string { return []string{builtIn()[0], pigoName} }

// downloaded returns the names of the models that can be downloaded.
func downloaded() []string {
	var names []string
	for _, m := range modelstore.Known() {
		if !slices.Contains(builtIn(), m.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// modelNames returns the names of all models that need no path.
func modelNames() []string { return append(builtIn(), downloaded()...) }

// describeModels returns a list of the known models, for messages.
func describeModels() string {
	return fmt.Sprintf("%s (built in), %s (downloaded once)", strings.Join(builtIn(), ", "), strings.Join(downloaded(), ", "))
}

// openBuiltIn opens a model in this binary.
func (o *opener) openBuiltIn(name string) (face.Detector, error) {
	switch name {
	case yunetName:
		return networks.OpenFiles([]networks.File{{Path: "yunet.onnx", Data: yunetWeights}}, o.gate, o.own)
	case mtcnnName:
		return networks.MTCNN(o.gate, o.own)
	case pigoName:
		return pigo.New(o.gate)
	default:
		return pigo.NewReference()
	}
}

// store returns the store that downloads known models.
func (c *config) store() *modelstore.Store { return &modelstore.Store{Mirror: c.ModelMirror} }

// models finds the models of --model, downloads them if necessary, and opens them. They share
// the gate.
func (c *config) models(ctx context.Context, gate *cores.Gate, log *slog.Logger, progress io.Writer) ([]service.Model, error) {
	o := &opener{config: c, gate: gate, store: c.store()}
	o.store.Logger, o.store.Progress = log, progress
	found := make([]foundModel, len(c.Model))
	for i, arg := range c.Model {
		var err error
		if found[i], err = o.find(ctx, arg); err != nil {
			return nil, fmt.Errorf("--model: %w", err)
		}
	}
	// Beside each other, so that the server starts sooner.
	models := make([]service.Model, len(found))
	errs := make([]error, len(found))
	var all sync.WaitGroup
	for i, m := range found {
		all.Go(func() {
			d, err := o.open(m)
			if err != nil {
				errs[i] = fmt.Errorf("--model: %w", err)
			}
			models[i] = service.Model{Name: m.name, Detector: d}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	o.unused(log)
	return models, nil
}

// opener opens models. Once they are found, it is safe for concurrent use.
type opener struct {
	*config

	gate  *cores.Gate
	store *modelstore.Store
	// fetched and onRuntime say what the models needed: the store, and ONNX Runtime.
	fetched   bool
	onRuntime atomic.Bool
}

// foundModel is where a model is: at path, or in this binary if that is empty.
type foundModel struct{ name, path string }

// find finds the model that a value of --model names, and downloads it if necessary.
func (o *opener) find(ctx context.Context, arg string) (foundModel, error) {
	name, path, named := strings.Cut(arg, "=")
	switch {
	case named && (name == "" || path == ""):
		return foundModel{}, fmt.Errorf("%q: write it as NAME=PATH", arg)
	case named:
		return foundModel{name, path}, nil
	case slices.Contains(builtIn(), name):
		return foundModel{name: name}, nil
	case !slices.Contains(modelNames(), name):
		return foundModel{}, fmt.Errorf("%q is unknown; known models are %s; to serve an ONNX file of a known family, use NAME=PATH", name, describeModels())
	}
	o.fetched = true
	path, err := o.store.Fetch(ctx, name)
	if err != nil {
		return foundModel{}, explainFetch(err, o.store.Mirror != "")
	}
	return foundModel{name, path}, nil
}

// open opens a model.
func (o *opener) open(m foundModel) (face.Detector, error) {
	if m.path == "" {
		return o.openBuiltIn(m.name)
	}
	return networks.Open(m.path, o.gate, o.network)
}

// own opens a network with package nn.
func (o *opener) own(file networks.File, oneCore bool) (engine.Engine, error) {
	e, err := nn.New(file.Data, nn.Options{Gate: o.gate, OneCore: oneCore})
	if err != nil {
		return nil, fmt.Errorf("%s: Mien's own engine does not run it: %w", file.Path, err)
	}
	return e, nil
}

// network opens a network in a file: with package nn or, if that cannot run it or may not,
// with ONNX Runtime.
func (o *opener) network(file networks.File, oneCore bool) (engine.Engine, error) {
	var unsupported error
	if o.Provider == string(onnx.CPU) {
		e, err := o.own(file, oneCore)
		if err == nil || errors.Is(err, nn.ErrDamaged) {
			return e, err
		}
		unsupported = err
	}
	e, err := o.runtime(file.Path, oneCore)
	if err != nil {
		err = explainRuntime(err)
		if unsupported != nil {
			err = fmt.Errorf("%w; and with ONNX Runtime: %w", unsupported, err)
		}
		return nil, err
	}
	o.onRuntime.Store(true)
	return e, nil
}

// runtime opens a network with ONNX Runtime.
func (o *opener) runtime(path string, oneCore bool) (engine.Engine, error) {
	if err := onnx.Available(); err != nil {
		return nil, err
	}
	library, err := onnx.FindLibrary(o.ONNXRuntime)
	if err != nil {
		return nil, err
	}
	return onnx.Open(path, onnx.Options{
		Library: library, Gate: o.gate, OneCore: oneCore, Provider: onnx.Provider(o.Provider), Device: o.CUDADevice,
	})
}

// unused warns about settings that no model uses. That is not an error, because several
// servers may share an environment.
func (o *opener) unused(log *slog.Logger) {
	if o.ONNXRuntime != "" && !o.onRuntime.Load() {
		log.Warn("--onnxruntime (or MIEN_ONNXRUNTIME) has no effect: no model needs ONNX Runtime", "onnxruntime", o.ONNXRuntime, "models", o.Model)
	}
	if o.Provider != string(onnx.CPU) && !o.onRuntime.Load() {
		log.Warn("--execution-provider (or MIEN_EXECUTION_PROVIDER) has no effect: models that are built in run on the CPU", "execution_provider", o.Provider, "models", o.Model)
	}
	if o.ModelMirror != "" && !o.fetched {
		log.Warn("--model-mirror (or MIEN_MODEL_MIRROR) has no effect: no model needs to be downloaded", "models", o.Model)
	}
}
