package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the formats of the photographs
	_ "image/png"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/bench/calls"
	"github.com/mienproject/mien/bench/server"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/networks"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/nn"
	"github.com/mienproject/mien/onnx"
	"github.com/mienproject/mien/photo"
)

// A way is a means to run the detectors.
type way interface {
	title() string
	// ask returns the faces that the detector of that name finds in p.
	ask(ctx context.Context, name string, p *photograph, q question) (answer, error)
	// minConfidence returns the default confidence of the detector of that name.
	minConfidence(name string) float64
	close() error
}

// A question has the options of a call. The zero value means defaults.
type question struct {
	// everything means a confidence of 0 instead of the detector's default.
	everything    bool
	skipLandmarks bool
}

// An answer has the faces, the time of the detector alone, and the time of the whole
// call.
type answer struct {
	faces        []face.Face
	detect, call time.Duration
}

// A photograph is a photograph as a file and decoded.
type photograph struct {
	path string
	data []byte
	img  image.Image
}

// openPhotograph decodes with the standard library, which ignores EXIF; none of the
// photographs has an orientation. So the comparison of the two ways also tests the
// service's decoder, if it decodes all of an image.
func openPhotograph(path string) (*photograph, error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &photograph{path, data, img}, nil
}

// inProcess calls the detectors in this process.
type inProcess map[string]face.Detector

func openInProcess(o options) (inProcess, error) {
	opened := inProcess{}
	for _, d := range o.detectors() {
		var err error
		if d.builtIn != nil {
			opened[d.name], err = d.builtIn()
		} else {
			opened[d.name], err = networks.Open(filepath.Join(o.Models, d.file), nil, o.network)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return opened, nil
}

// network opens a network on one core, as the server does.
func (o options) network(file networks.File, _ bool) (engine.Engine, error) {
	if e, err := nn.New(file.Data, nn.Options{}); err == nil {
		return e, nil
	}
	return onnx.Open(file.Path, onnx.Options{Library: o.ONNXRuntime})
}

func (inProcess) title() string { return "in process" }

func (w inProcess) minConfidence(name string) float64 { return w[name].Info().MinConfidence }

func (inProcess) close() error { return nil } // nothing to close: the process ends

func (w inProcess) ask(ctx context.Context, name string, p *photograph, q question) (answer, error) {
	opts := face.Options{SkipLandmarks: q.skipLandmarks}
	if !q.everything {
		opts.MinConfidence = w.minConfidence(name)
	}
	src := &source{photograph: p}
	faces, err := face.Detect(ctx, w[name], src, opts)
	took := time.Since(src.decoded)
	if err != nil {
		return answer{}, fmt.Errorf("%s in process: %s: %w", name, p.path, err)
	}
	return answer{faces, took, took}, nil
}

// source is an image for face.Detect: reduced as the service reduces it, or the whole
// image as the standard library decoded it.
type source struct {
	*photograph
	decoded time.Time
}

func (s *source) Size() image.Point { return s.img.Bounds().Size() }

func (s *source) Decode(ctx context.Context, in face.Input) (face.Decoded, error) {
	decoded := face.Decoded{Image: s.img, Reduction: 1}
	if in.Reduce > 1 {
		opened, err := photo.Open(s.data, photo.Limits{})
		if err != nil {
			return decoded, err
		}
		if reduced := opened.Reduced(photo.Options{Gray: in.Gray, Reduce: in.Reduce}); reduced.Reduction > 1 {
			decoded.Reduction, decoded.FullSize = reduced.Reduction, reduced.FullSize
			if decoded.Image, err = reduced.Decode(ctx); err != nil {
				return decoded, err
			}
		}
	}
	s.decoded = time.Now()
	return decoded, nil
}

// throughService calls a server that was built and started for this.
type throughService struct {
	server *server.Server
	client inferencev1connect.InferenceClient
	models map[string]*inferencev1.Model
}

// startService starts the server with all models and one worker.
func startService(ctx context.Context, o options) (*throughService, error) {
	// No measurement may reach a timeout of the service.
	args := []string{"--workers", "1", "--timeout", "10m", "--default-timeout", "10m", "--onnxruntime", o.ONNXRuntime}
	for _, d := range o.detectors() {
		model := d.name
		if d.file != "" {
			model += "=" + filepath.Join(o.Models, d.file)
		}
		args = append(args, "--model", model)
	}
	s, err := server.Start(ctx, []string{"GOMAXPROCS=1"}, args...)
	if err != nil {
		return nil, err
	}
	w := &throughService{server: s, models: map[string]*inferencev1.Model{}}
	// A transport of its own does not use proxies.
	w.client = inferencev1connect.NewInferenceClient(&http.Client{Transport: &http.Transport{}}, s.URL)
	list, err := w.client.ListModels(ctx, &inferencev1.ListModelsRequest{})
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	for _, m := range list.GetModels() {
		w.models[m.GetName()] = m
	}
	return w, nil
}

func (*throughService) title() string { return "through the service" }

func (w *throughService) minConfidence(name string) float64 {
	return float64(w.models[name].GetDefaultMinConfidence())
}

func (w *throughService) ask(ctx context.Context, name string, p *photograph, q question) (answer, error) {
	opts := &inferencev1.DetectOptions{Model: name, SkipLandmarks: q.skipLandmarks}
	if q.everything {
		opts.MinConfidence = proto.Float32(0)
	}
	started := time.Now()
	res, err := w.client.Predict(ctx, &inferencev1.Image{RawData: p.data, Options: opts})
	took := time.Since(started)
	if err != nil {
		return answer{}, fmt.Errorf("%s through the service: %s: %w", name, p.path, err)
	}
	a := answer{detect: res.GetTiming().GetDetect().AsDuration(), call: took}
	for _, r := range res.GetResults() {
		f := calls.FaceOf(r)
		if f.Landmarks == nil && !q.skipLandmarks {
			return answer{}, fmt.Errorf("%s through the service: %s: a face without landmarks: %v", name, p.path, r)
		}
		a.faces = append(a.faces, f)
	}
	return a, nil
}

func (w *throughService) close() error { return w.server.Close() }
