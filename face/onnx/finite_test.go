//go:build cgo

package onnx

import (
	"errors"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestNotFinite: a network of which an output turns to NaN makes Detect fail, for dark
// images when it does so for those, and no others. Scores count wherever they are, and
// boxes and points where a score says that there is a face.
func TestNotFinite(t *testing.T) {
	people := facetest.Decode(t, facetest.Path(t, "peoples.jpg"))
	black := image.NewGray(image.Rect(0, 0, 320, 240))
	const never, always = -1e9, 1e9
	for _, c := range []struct {
		model, network, output string
		least                  float32
		people, black          bool // whether it fails
	}{
		{"yunet_n_dynamic.onnx", "", "cls_8", never, false, false},
		{"yunet_n_dynamic.onnx", "", "cls_8", 1, false, true},
		{"yunet_n_dynamic.onnx", "", "cls_32", always, true, true},
		{"yunet_n_dynamic.onnx", "", "obj_16", 1, false, true},
		{"yunet_n_dynamic.onnx", "", "bbox_8", always, true, false},
		{"yunet_n_dynamic.onnx", "", "kps_8", always, true, false},
		{"scrfd_500m_kps_640.onnx", "", "", never, false, false}, // the scores of the finest grid
		{"scrfd_500m_kps_640.onnx", "", "", -0.99, false, true},
		{"mtcnn", "pnet", "scores", -0.99, false, true},
		{"mtcnn", "pnet", "offsets", always, true, false},
		{"mtcnn", "rnet", "scores", always, true, false},
		{"mtcnn", "rnet", "offsets", always, true, false},
		{"mtcnn", "onet", "scores", always, true, false},
		{"mtcnn", "onet", "offsets", always, true, false},
		{"mtcnn", "onet", "points", always, true, false},
		{"mtcnn", "onet", "points", never, false, false},
	} {
		t.Run(c.model+" "+c.network+" "+c.output, func(t *testing.T) {
			path := withNaN(t, c.model, c.network, c.output, c.least)
			d, err := Open(path, environment.library, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []struct {
				name  string
				img   image.Image
				fails bool
			}{{"people", people, c.people}, {"black", black, c.black}} {
				faces, err := d.Detect(t.Context(), p.img, face.Options{})
				if errors.Is(err, errNotFinite) != p.fails || (err != nil) != p.fails || (p.fails && faces != nil) {
					t.Errorf("%s: %d faces, %v; it is %t that this has to fail", p.name, len(faces), err, p.fails)
				}
			}
		})
	}
}

// withNaN returns the path of a model of which an output of a network turns to NaN.
// Outputs of networks whose own have numbers for names are named by what they are.
func withNaN(t *testing.T, name, network, output string, least float32) string {
	t.Helper()
	from, to := model(t, name), filepath.Join(t.TempDir(), "model.onnx")
	if network != "" {
		folder := filepath.Dir(to)
		for _, n := range mtcnnFiles {
			if n != network+".onnx" {
				if err := os.Symlink(filepath.Join(from, n), filepath.Join(folder, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		d := newMTCNN(t)
		s := map[string]*session{"pnet": d.pnet, "rnet": d.rnet, "onet": d.onet}[network]
		at := map[string]int{
			"pnet scores": d.pScores, "pnet offsets": d.pOffsets, "rnet scores": d.rScores, "rnet offsets": d.rOffsets,
			"onet scores": d.oScores, "onet offsets": d.oOffsets, "onet points": d.oPoints,
		}[network+" "+output]
		from = filepath.Join(from, network+".onnx")
		facetest.WriteNaNWhenDark(t, from, filepath.Join(folder, network+".onnx"), s.outputs[at].Name, least)
		return folder
	}
	if output == "" {
		output = openGrid(t, name).session.outputs[0].Name
	}
	facetest.WriteNaNWhenDark(t, from, to, output, least)
	return to
}

// TestFiniteValues: what is no number, and what is infinite, fails wherever it is.
func TestFiniteValues(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	if !finite[float64]() || !finite(0, -1, math.MaxFloat64, math.SmallestNonzeroFloat64) {
		t.Error("numbers are taken for something else")
	}
	for _, v := range []float64{nan, inf, -inf} {
		for i := range 3 {
			values := make([]float64, 3)
			values[i] = v
			if finite(values...) || finite(float32(values[0]), float32(values[1]), float32(values[2])) {
				t.Errorf("%v is taken for numbers", values)
			}
		}
	}
}

// TestNotFiniteCells puts one value that is not finite into otherwise empty outputs of
// YuNet and SCRFD.
func TestNotFiniteCells(t *testing.T) {
	const cell = 3
	for _, c := range []struct {
		model string
		// Outputs of one grid, by their positions: those that a score is made of, and those
		// with four and ten values a cell.
		scores, others []string
	}{
		{"yunet_n_dynamic.onnx", []string{"cls_16", "obj_16"}, []string{"bbox_16", "kps_16"}},
		{"scrfd_500m_kps_640.onnx", []string{"out1"}, []string{"out4", "out7"}},
	} {
		g := openGrid(t, c.model)
		work := &workspace{}
		defer work.free()
		work.source.set(image.NewGray(image.Rect(0, 0, 320, 240)))
		p := g.passes(320, 240, 0)[0]
		cols, err := g.prepare(work, p)
		if err != nil {
			t.Fatal(err)
		}
		outputs := work.tensors[p.input].outputs
		data := func(name string) []float32 {
			i := g.session.output(name)
			if i < 0 {
				t.Fatalf("%s has no output %s among %q", c.model, name, names(g.session.outputs))
			}
			return outputs[i].GetData()
		}
		cells := len(data(c.scores[0]))
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			for _, score := range []float32{0, 1} {
				for _, name := range slices.Concat(c.scores, c.others) {
					for _, o := range outputs {
						clear(o.GetData())
					}
					for _, s := range c.scores {
						data(s)[cell] = score
					}
					data(name)[cell*len(data(name))/cells] = float32(v)
					err := g.faces(outputs, cols, func(d detection) error {
						if !finite(d.raw) {
							t.Errorf("%s of %s at %v: a score of %v is passed on", c.model, name, v, d.raw)
						}
						if !d.finite() {
							return errNotFinite
						}
						return nil
					})
					want := score == 1 || slices.Contains(c.scores, name)
					if errors.Is(err, errNotFinite) != want {
						t.Errorf("%s: %s at %v, of a score of %v: %v", c.model, name, v, score, err)
					}
				}
			}
		}
	}
}
