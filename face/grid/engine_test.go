package grid

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
)

// fake is an engine without a network, for images of 96 × 64 pixels.
type fake struct {
	outputs []engine.Value
	fill    func(name string, data []float32)
	err     error
}

func (*fake) Inputs() []engine.Value {
	return []engine.Value{{Name: "input", Type: engine.Float32, Shape: engine.Shape{1, 3, 64, 96}}}
}

func (f *fake) Outputs() []engine.Value { return f.outputs }

func (f *fake) Run(_ context.Context, _ engine.Tensor, outputs []engine.Tensor) error {
	for i, o := range outputs {
		clear(o.Data)
		f.fill(f.outputs[i].Name, o.Data)
	}
	return f.err
}

func (f *fake) Probe(engine.Shape) ([]engine.Shape, error) {
	var shapes []engine.Shape
	for _, o := range f.outputs {
		shapes = append(shapes, o.Shape)
	}
	return shapes, nil
}

func (*fake) Memory(engine.Shape) int64 { return 0 }

func (*fake) Close() error { return nil }

// TestEngines checks that with any engine, one face in the outputs of YuNet or SCRFD
// becomes one face in the image.
func TestEngines(t *testing.T) {
	yunet, scrfd := &fake{}, &fake{}
	for _, kind := range []struct {
		name   string
		values int64
	}{{"cls", 1}, {"obj", 1}, {"bbox", 4}, {"kps", 10}} {
		for _, stride := range strides {
			cells := int64(96 / stride * (64 / stride))
			yunet.outputs = append(yunet.outputs, engine.Value{
				Name: fmt.Sprintf("%s_%d", kind.name, stride), Type: engine.Float32, Shape: engine.Shape{1, cells, kind.values},
			})
			if kind.name != "obj" {
				scrfd.outputs = append(scrfd.outputs, engine.Value{
					Name: fmt.Sprintf("%s_%d", kind.name, stride), Type: engine.Float32, Shape: engine.Shape{scrfdAnchors * cells, kind.values},
				})
			}
		}
	}
	// The cell in row 1 and column 2 of the grid of stride 16, whose corner is (32, 16).
	const cell = 1*(96/16) + 2
	yunet.fill = func(name string, data []float32) {
		switch name {
		case "cls_16", "obj_16":
			data[cell] = 0.9
		case "bbox_16":
			// The center is half a stride to the right and down of the corner. The box
			// is two strides wide and one high.
			copy(data[4*cell:], []float32{0.5, 0.5, float32(math.Log(2)), 0})
		}
	}
	scrfd.fill = func(name string, data []float32) {
		switch name {
		case "cls_16":
			data[scrfdAnchors*cell+1] = 0.9
		case "bbox_16":
			// The distances to the left, up, right and down of the corner.
			copy(data[4*(scrfdAnchors*cell+1):], []float32{0.5, 0, 1.5, 1})
		}
	}
	want := face.Box{MinX: 24, MinY: 16, MaxX: 56, MaxY: 32}
	img := image.NewGray(image.Rect(0, 0, 96, 64))
	for name, c := range map[string]struct {
		engine *fake
		is     func(engine.Engine) bool
		open   func(engine.Engine, string) (*Detector, error)
	}{"yunet": {yunet, IsYuNet, NewYuNet}, "scrfd": {scrfd, IsSCRFD, NewSCRFD}} {
		t.Run(name, func(t *testing.T) {
			if IsYuNet(c.engine) == IsSCRFD(c.engine) || !c.is(c.engine) {
				t.Fatal("recognized as another family")
			}
			g, err := c.open(c.engine, "weights")
			if err != nil {
				t.Fatal(err)
			}
			if info := g.Info(); info.Family != name || info.Version != "weights"+codeVersion || info.InputSize != image.Pt(96, 64) {
				t.Errorf("%+v", info)
			}
			faces, err := g.Detect(t.Context(), img, face.Options{SkipLandmarks: true})
			if err != nil || len(faces) != 1 || face.IoU(faces[0].Box, want) < 0.999 {
				t.Errorf("%+v, %v; want a face at %v", faces, err, want)
			}
			c.engine.err = errors.New("broken")
			if faces, err := g.Detect(t.Context(), img, face.Options{}); !errors.Is(err, c.engine.err) || faces != nil {
				t.Errorf("%v, %v; want the engine's error", faces, err)
			}
		})
	}
}
