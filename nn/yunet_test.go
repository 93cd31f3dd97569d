package nn

import (
	"image"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/image/draw"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face/facetest"
)

// open opens a network of the team's shelf.
func open(t testing.TB, name string, o Options) *Engine {
	t.Helper()
	e, err := Open(enginetest.Model(t, name), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// photos returns some photographs of the team's shelf.
func photos(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(facetest.Path(t, "wider_val_orig", "images"), "*.jpg"))
	if err != nil || len(all) < 6 {
		t.Fatalf("%d photographs, %v", len(all), err)
	}
	people := facetest.Path(t, "peoples.jpg")
	if testing.Short() {
		return []string{people}
	}
	return append(all[:6], people)
}

// planes returns a photograph as YuNet takes it, the longer side scaled to that many pixels.
func planes(t testing.TB, path string, side int, fixed bool) engine.Tensor {
	t.Helper()
	img := facetest.Decode(t, path)
	b := img.Bounds()
	scale := float64(side) / float64(max(b.Dx(), b.Dy()))
	w, h := int(float64(b.Dx())*scale), int(float64(b.Dy())*scale)
	width, height := (w+31)&^31, (h+31)&^31
	if fixed {
		width, height = side, side
	}
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.BiLinear.Scale(m, image.Rect(0, 0, w, h), img, b, draw.Src, nil)
	n := width * height
	data := make([]float32, 3*n)
	for y := range h {
		for x := range w {
			p := m.Pix[m.PixOffset(x, y):]
			for c := range 3 {
				data[c*n+y*width+x] = float32(p[2-c])
			}
		}
	}
	return engine.Tensor{Shape: engine.Shape{1, 3, int64(height), int64(width)}, Data: data}
}

// outputs returns the outputs of an engine.
func outputs(t testing.TB, e engine.Engine, input engine.Tensor) []engine.Tensor {
	t.Helper()
	shapes, err := e.Probe(input.Shape)
	if err != nil {
		t.Fatal(err)
	}
	var b engine.Buffers
	b.Resize(input.Shape, shapes)
	b.Input = input
	if err := e.Run(t.Context(), b.Input, b.Outputs); err != nil {
		t.Fatal(err)
	}
	return b.Outputs
}

// farthest returns the greatest difference of two tensors.
func farthest[F float32 | float64](a, b []F) float64 {
	d := 0.
	for i, v := range a {
		d = max(d, math.Abs(float64(v)-float64(b[i])))
	}
	return d
}

// TestYuNetAsONNXRuntime: scores are within .01 of the runtime's, boxes and points within
// .02 strides. The points that YuNet-s sees in empty cells are up to .03 off.
func TestYuNetAsONNXRuntime(t *testing.T) {
	for _, model := range []struct {
		name    string
		fixed   bool
		strides float64
	}{{"yunet_n_dynamic.onnx", false, .02}, {"yunet_s_dynamic.onnx", false, .03}, {"face_detection_yunet_2023mar.onnx", true, .03}} {
		t.Run(model.name, func(t *testing.T) {
			judge := enginetest.Open(t, enginetest.Model(t, model.name))
			e := open(t, model.name, Options{})
			if !slices.EqualFunc(e.Inputs(), judge.Inputs(), sameValue) || !slices.EqualFunc(e.Outputs(), judge.Outputs(), sameValue) {
				t.Fatalf("takes %v and gives %v, want %v and %v", e.Inputs(), e.Outputs(), judge.Inputs(), judge.Outputs())
			}
			for _, path := range photos(t) {
				input := planes(t, path, 640, model.fixed)
				want, got := outputs(t, judge, input), outputs(t, e, input)
				for i, o := range e.Outputs() {
					limit := model.strides
					if i < 6 {
						limit = .01
					}
					if d := farthest(got[i].Data, want[i].Data); !(d <= limit) {
						t.Errorf("%s: %s is up to %.4f off, more than %v", filepath.Base(path), o.Name, d, limit)
					}
				}
			}
		})
	}
}

func sameValue(a, b engine.Value) bool {
	return a.Name == b.Name && a.Type == b.Type && slices.Equal(a.Shape, b.Shape)
}
