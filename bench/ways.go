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

	"github.com/mienproject/mien/bench/server"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/networks"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/onnx"
	"github.com/mienproject/mien/photo"
)

// A way to ask the detectors.
type way interface {
	title() string
	// ask returns what the detector of that name finds in p.
	ask(ctx context.Context, name string, p *picture, q question) (answer, error)
	// least is the default confidence of the detector of that name.
	least(name string) float64
	close() error
}

// A question says how to look; the zero value is what a caller gets who says
// nothing.
type question struct {
	// everything: at a confidence of 0, not at the detector's default.
	everything    bool
	skipLandmarks bool
}

// An answer is what was found, and how long it took: the detector alone, and the
// call as the caller sees it.
type answer struct {
	faces        []face.Face
	detect, call time.Duration
}

// An image is one photograph, as the service takes it and as a detector does.
type picture struct {
	path string
	data []byte
	img  image.Image
}

// openPicture decodes with the standard library, which ignores EXIF: no
// photograph that is evaluated is turned. So the comparison of the two ways also
// holds the service's decoder, where it decodes all of an image.
func openPicture(path string) (*picture, error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &picture{path, data, img}, nil
}

// inProcess asks the detectors as a Go program does.
type inProcess map[string]face.Detector

func openInProcess(o options) (inProcess, error) {
	opened := inProcess{}
	for _, d := range o.detectors() {
		var err error
		if d.builtIn != nil {
			opened[d.name], err = d.builtIn()
		} else {
			opened[d.name], err = networks.Open(filepath.Join(o.Models, d.file), func(file string, _ bool) (engine.Engine, error) {
				return onnx.Open(file, onnx.Options{Library: o.ONNXRuntime})
			})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return opened, nil
}

func (inProcess) title() string { return "in process" }

func (w inProcess) least(name string) float64 { return w[name].Info().MinConfidence }

func (inProcess) close() error { return nil } // the process ends

func (w inProcess) ask(ctx context.Context, name string, p *picture, q question) (answer, error) {
	opts := face.Options{SkipLandmarks: q.skipLandmarks}
	if !q.everything {
		opts.MinConfidence = w.least(name)
	}
	src := &source{picture: p}
	faces, err := face.Detect(ctx, w[name], src, opts)
	took := time.Since(src.decoded)
	if err != nil {
		return answer{}, fmt.Errorf("%s in process: %s: %w", name, p.path, err)
	}
	return answer{faces, took, took}, nil
}

// source is an image for face.Detect: reduced as the service reduces it, or all of it as
// the standard library has decoded it.
type source struct {
	*picture
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

// throughService asks a server that was built and started for it.
type throughService struct {
	server *server.Server
	client inferencev1connect.InferenceClient
	models map[string]*inferencev1.Model
}

// startService starts the server with all models and one worker.
func startService(ctx context.Context, o options) (*throughService, error) {
	// Nothing that is measured may run into the service's patience.
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
	// A transport of its own knows no proxy.
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

func (w *throughService) least(name string) float64 {
	return float64(w.models[name].GetDefaultMinConfidence())
}

func (w *throughService) ask(ctx context.Context, name string, p *picture, q question) (answer, error) {
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
		from, to := point(r.GetBox().GetUpLeft()), point(r.GetBox().GetLowerRight())
		f := face.Face{
			Box:        face.Box{MinX: from.X, MinY: from.Y, MaxX: to.X, MaxY: to.Y},
			Confidence: r.GetConfidence(),
		}
		if l := r.GetLandmarks(); l != nil {
			f.Landmarks = &face.Landmarks{
				LeftEye: point(l.GetLeftEye()), RightEye: point(l.GetRightEye()), Nose: point(l.GetNose()),
				MouthLeft: point(l.GetMouthLeft()), MouthRight: point(l.GetMouthRight()),
			}
		} else if !q.skipLandmarks {
			return answer{}, fmt.Errorf("%s through the service: %s: a face without landmarks: %v", name, p.path, r)
		}
		a.faces = append(a.faces, f)
	}
	return a, nil
}

func point(p *inferencev1.Point) face.Point {
	return face.Point{X: float64(p.GetX()), Y: float64(p.GetY())}
}

func (w *throughService) close() error { return w.server.Close() }
