package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the formats of the photographs
	_ "image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/onnx"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
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

// A picture is one photograph, as the service takes it and as a detector does.
type picture struct {
	path string
	data []byte
	img  image.Image
}

// openPicture decodes with the standard library, which ignores EXIF: no
// photograph that is evaluated is turned. So the comparison of the two ways also
// holds the service's decoder, where it decodes all of a picture.
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
			opened[d.name], err = onnx.Open(filepath.Join(o.Models, d.file), o.ONNXRuntime, 1)
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
	img, full, size := p.img, (*photo.Photo)(nil), p.img.Bounds().Size()
	if n := w[name].Needs(size.X, size.Y, opts); n.Reduce > 1 {
		// As the service does it.
		opened, err := photo.Open(p.data, photo.Limits{})
		if err != nil {
			return answer{}, fmt.Errorf("%s: %w", p.path, err)
		}
		if reduced := opened.Reduced(photo.Options{Gray: n.Gray, Reduce: n.Reduce}); reduced.Reduction > 1 {
			full = reduced
			if img, err = reduced.Decode(ctx); err != nil {
				return answer{}, fmt.Errorf("%s: %w", p.path, err)
			}
		}
	}
	started := time.Now()
	faces, err := w[name].Detect(ctx, img, opts)
	took := time.Since(started)
	if err != nil {
		return answer{}, fmt.Errorf("%s in process: %s: %w", name, p.path, err)
	}
	if full != nil {
		for i := range faces {
			faces[i].Move(full.FullSize, size.X, size.Y)
		}
	}
	return answer{faces, took, took}, nil
}

// throughService asks a server that was built and started for it.
type throughService struct {
	process *exec.Cmd
	exited  chan struct{} // closed when the log has ended
	folder  string        // of the binary
	client  inferencev1connect.InferenceClient
	models  map[string]*inferencev1.Model
	// complaints is what the log has besides requests, for the case that the
	// server ends. It is complete when exited is closed.
	complaints bytes.Buffer
}

// startService builds the server, starts it with all models and one worker, and
// waits until it listens.
func startService(ctx context.Context, o options) (w *throughService, err error) {
	folder, err := os.MkdirTemp("", "mien-bench-")
	if err != nil {
		return nil, err
	}
	w = &throughService{folder: folder, exited: make(chan struct{}), models: map[string]*inferencev1.Model{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	binary := filepath.Join(folder, "mien")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/server") //nolint:gosec // into a folder of its own
	build.Dir = root()
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return w, fmt.Errorf("go build ./cmd/server: %w\n%s", err, out)
	}

	// Nothing that is measured may run into the service's patience.
	args := []string{
		"--listen", "127.0.0.1:0", "--log-format", "json", "--drain-delay", "0s",
		"--workers", "1", "--timeout", "10m", "--default-timeout", "10m", "--onnxruntime", o.ONNXRuntime,
	}
	for _, d := range o.detectors() {
		model := d.name
		if d.file != "" {
			model += "=" + filepath.Join(o.Models, d.file)
		}
		args = append(args, "--model", model)
	}
	w.process = exec.Command(binary, args...) //nolint:gosec,noctx // its own build; close stops it, in order
	w.process.Env = append(serverEnvironment(), "GOMAXPROCS=1")
	stderr, err := w.process.StderrPipe()
	if err != nil {
		return w, err
	}
	if err := w.process.Start(); err != nil {
		return w, err
	}
	listening := make(chan string, 1)
	go w.follow(stderr, listening)
	var url string
	select {
	case url = <-listening:
	case <-w.exited:
		return w, fmt.Errorf("the server ended before it listened:\n%s", w.complaints.String())
	case <-ctx.Done():
		return w, ctx.Err()
	}

	// A transport of its own knows no proxy.
	w.client = inferencev1connect.NewInferenceClient(&http.Client{Transport: &http.Transport{}}, url)
	list, err := w.client.ListModels(ctx, &inferencev1.ListModelsRequest{})
	if err != nil {
		return w, err
	}
	for _, m := range list.GetModels() {
		w.models[m.GetName()] = m
	}
	return w, nil
}

// serverEnvironment is this process's without what would configure the server.
func serverEnvironment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MIEN_") && !strings.HasPrefix(kv, "RUN_ENV=") {
			env = append(env, kv)
		}
	}
	return env
}

// follow reads the log to its end.
func (w *throughService) follow(log io.Reader, listening chan<- string) {
	defer close(w.exited)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line struct{ Level, Msg, URL string }
		err := json.Unmarshal(lines.Bytes(), &line)
		if err == nil && line.Msg == "listening" {
			listening <- line.URL
		}
		if err != nil || line.Level != "INFO" {
			fmt.Fprintln(&w.complaints, lines.Text())
		}
	}
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

// close stops the server, which has to stop in order, and removes it.
func (w *throughService) close() error {
	defer func() { _ = os.RemoveAll(w.folder) }() // a temporary folder
	if w.process == nil || w.process.Process == nil {
		return nil
	}
	_ = w.process.Process.Signal(syscall.SIGTERM) // it may have ended
	<-w.exited
	if err := w.process.Wait(); err != nil {
		return fmt.Errorf("the server: %w\n%s", err, w.complaints.String())
	}
	return nil
}
