package grid

import (
	"errors"
	"image"
	"math"
	"slices"
	"testing"

	"github.com/mienproject/mien/engine"
)

// TestNotFiniteCells puts one value that is not finite into otherwise empty outputs of
// YuNet and SCRFD.
func TestNotFiniteCells(t *testing.T) {
	const cell = 3
	for _, c := range []struct {
		model string
		// The positions of the outputs of one grid: those that make up the score, and
		// those with four and ten values for each cell.
		scores, others []string
	}{
		{"yunet_n_dynamic.onnx", []string{"cls_16", "obj_16"}, []string{"bbox_16", "kps_16"}},
		{"scrfd_500m_kps_640.onnx", []string{"out1"}, []string{"out4", "out7"}},
	} {
		g := openGrid(t, c.model)
		work := &workspace{}
		if err := work.source.set(t.Context(), image.NewGray(image.Rect(0, 0, 320, 240))); err != nil {
			t.Fatal(err)
		}
		p := g.passes(320, 240, 0)[0]
		cols := g.prepare(work, p)
		outputs := work.buffers[p.input].Outputs
		data := func(name string) []float32 {
			i := engine.OutputIndex(g.engine, name)
			if i < 0 {
				t.Fatalf("%s has no output %s among %s", c.model, name, engine.Describe(g.engine.Outputs()))
			}
			return outputs[i].Data
		}
		cells := len(data(c.scores[0]))
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			for _, score := range []float32{0, 1} {
				for _, name := range slices.Concat(c.scores, c.others) {
					for _, o := range outputs {
						clear(o.Data)
					}
					for _, s := range c.scores {
						data(s)[cell] = score
					}
					data(name)[cell*len(data(name))/cells] = float32(v)
					err := g.faces(outputs, cols, func(d detection) error {
						if !engine.Finite(d.raw) {
							t.Errorf("%s of %s at %v: a score of %v is passed on", c.model, name, v, d.raw)
						}
						if !d.finite() {
							return engine.ErrNotFinite
						}
						return nil
					})
					want := score == 1 || slices.Contains(c.scores, name)
					if errors.Is(err, engine.ErrNotFinite) != want {
						t.Errorf("%s: %s at %v, of a score of %v: %v", c.model, name, v, score, err)
					}
				}
			}
		}
	}
}
