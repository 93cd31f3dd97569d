package nn

import (
	"image"
	"math"
	"slices"
	"testing"

	"golang.org/x/image/draw"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face/facetest"
)

// interleaved appends a part of a photograph as MTCNN takes it, scaled to that size.
func interleaved(data []float32, img image.Image, part image.Rectangle, width, height int) []float32 {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.BiLinear.Scale(m, m.Rect, img, part, draw.Src, nil)
	for i := 0; i < len(m.Pix); i += 4 {
		for c := range 3 {
			data = append(data, (float32(m.Pix[i+c])-127.5)/128)
		}
	}
	return data
}

// mtcnnInputs returns inputs of one of MTCNN's networks: whole photographs at some sizes for
// the first one (side 0), and parts of them, faces or not, for the others.
func mtcnnInputs(t testing.TB, side int) []engine.Tensor {
	t.Helper()
	var all []engine.Tensor
	for _, path := range photos(t) {
		img := facetest.Decode(t, path)
		b := img.Bounds()
		if side == 0 {
			for _, scale := range []float64{.4, .15} {
				w, h := int(float64(b.Dx())*scale), int(float64(b.Dy())*scale)
				all = append(all, engine.Tensor{Shape: engine.Shape{1, int64(h), int64(w), 3}, Data: interleaved(nil, img, b, w, h)})
			}
			continue
		}
		var batch engine.Tensor
		n := 0
		for size := b.Dy() / 2; size > 16; size = size * 2 / 3 {
			for x := b.Min.X; x+size <= b.Max.X && n < 60; x += size {
				part := image.Rect(x, b.Min.Y+b.Dy()/4, x+size, b.Min.Y+b.Dy()/4+size)
				batch.Data = interleaved(batch.Data, img, part, side, side)
				n++
			}
		}
		batch.Shape = engine.Shape{int64(n), int64(side), int64(side), 3}
		all = append(all, batch)
	}
	return all
}

// logOdds returns the logarithms of the second of each two probabilities over the first.
func logOdds(probabilities []float32) []float64 {
	var v []float64
	for p := range slices.Chunk(probabilities, 2) {
		v = append(v, math.Log(float64(p[1]))-math.Log(float64(p[0])))
	}
	return v
}

// TestMTCNNAsONNXRuntime: log-odds are within 1e-4 of the runtime's, boxes and points within
// 1e-5. MTCNN chooses among boxes whose probabilities differ by less than .001.
func TestMTCNNAsONNXRuntime(t *testing.T) {
	for name, side := range map[string]int{"pnet": 0, "rnet": 24, "onet": 48} {
		t.Run(name, func(t *testing.T) {
			file := "mtcnn/" + name + ".onnx"
			judge := enginetest.Open(t, enginetest.Model(t, file))
			e := open(t, file, Options{})
			farthestOf := make([]float64, len(e.Outputs()))
			for i, input := range mtcnnInputs(t, side) {
				want, got := outputs(t, judge, input), outputs(t, e, input)
				for k, o := range e.Outputs() {
					limit, d := 1e-5, farthest(got[k].Data, want[k].Data)
					if o.Shape[len(o.Shape)-1] == 2 {
						limit, d = 1e-4, farthest(logOdds(got[k].Data), logOdds(want[k].Data))
					}
					if farthestOf[k] = max(farthestOf[k], d); !(d <= limit) {
						t.Errorf("input %d %s: %s is up to %.2g off, more than %v", i, input.Shape, o, d, limit)
					}
				}
			}
			t.Logf("outputs up to %.2g off", farthestOf)
		})
	}
}
