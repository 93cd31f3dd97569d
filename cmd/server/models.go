package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

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

// models opens the models of --model, which share the gate, and downloads them if necessary.
func (c *config) models(ctx context.Context, gate *cores.Gate, log *slog.Logger, progress io.Writer) ([]service.Model, error) {
	o := &opener{config: c, gate: gate, store: c.store()}
	o.store.Logger, o.store.Progress = log, progress
	var models []service.Model
	for _, arg := range c.Model {
		name, path, named := strings.Cut(arg, "=")
		d, err := o.model(ctx, name, path, named)
		if err != nil {
			return nil, fmt.Errorf("--model: %w", err)
		}
		models = append(models, service.Model{Name: name, Detector: d})
	}
	o.unused(log)
	return models, nil
}

// opener opens models.
type opener struct {
	*config

	gate  *cores.Gate
	store *modelstore.Store
	// fetched and onRuntime say what the models needed: the store, and ONNX Runtime.
	fetched, onRuntime bool
}

// model opens a known model, or the one at path.
func (o *opener) model(ctx context.Context, name, path string, named bool) (face.Detector, error) {
	if named && (name == "" || path == "") {
		return nil, fmt.Errorf("%q: write it as NAME=PATH", name+"="+path)
	}
	if !named {
		if slices.Contains(builtIn(), name) {
			return o.openBuiltIn(name)
		}
		if !slices.Contains(modelNames(), name) {
			return nil, fmt.Errorf("%q is unknown; known models are %s; to serve an ONNX file of a known family, use NAME=PATH", name, describeModels())
		}
		var err error
		o.fetched = true
		if path, err = o.store.Fetch(ctx, name); err != nil {
			return nil, explainFetch(err, o.store.Mirror != "")
		}
	}
	return networks.Open(path, o.gate, o.network)
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
	o.onRuntime = true
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
	if o.ONNXRuntime != "" && !o.onRuntime {
		log.Warn("--onnxruntime (or MIEN_ONNXRUNTIME) has no effect: no model needs ONNX Runtime", "onnxruntime", o.ONNXRuntime, "models", o.Model)
	}
	if o.Provider != string(onnx.CPU) && !o.onRuntime {
		log.Warn("--execution-provider (or MIEN_EXECUTION_PROVIDER) has no effect: models that are built in run on the CPU", "execution_provider", o.Provider, "models", o.Model)
	}
	if o.ModelMirror != "" && !o.fetched {
		log.Warn("--model-mirror (or MIEN_MODEL_MIRROR) has no effect: no model needs to be downloaded", "models", o.Model)
	}
}
