package grid

import (
	"flag"
	"math"
	"slices"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/nn"
)

var calibrate = flag.Bool("calibrate", false, "print confidence weights fitted on the labeled photographs")

// openGrid opens a network as the server does: with package nn or, if that cannot run it,
// with ONNX Runtime.
func openGrid(t testing.TB, name string) *Detector {
	t.Helper()
	path := enginetest.Model(t, name)
	var e engine.Engine
	if own, err := nn.Open(path, nn.Options{}); err == nil {
		e = own
	} else {
		e = enginetest.Open(t, path)
	}
	open := NewSCRFD
	if IsYuNet(e) {
		open = NewYuNet
	}
	g, err := open(e, "")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var fitted = []string{"wider_val_orig", "wider_val_416", "face_mask", "negatives"}

// TestCalibrate fits the constants in calibration.go.
func TestCalibrate(t *testing.T) {
	if !*calibrate {
		t.Skip("fits constants rather than testing them: run with -calibrate")
	}
	for _, name := range []string{"yunet_n_dynamic.onnx", "scrfd_2.5g_kps_640.onnx"} {
		g := openGrid(t, name)
		g.confidence = func(raw float64) float64 { return raw }
		g.landmarker = nil
		var x []float64
		var y []bool
		var negatives []float64
		for _, subset := range fitted {
			for _, p := range facetest.Subset(t, subset) {
				faces, err := g.Detect(t.Context(), facetest.Decode(t, p.Path), face.Options{})
				if err != nil {
					t.Fatal(err)
				}
				for i, m := range facetest.Match(faces, p.Faces, 0.3) {
					if subset == "negatives" {
						negatives = append(negatives, faces[i].Confidence)
					}
					if m >= 0 && face.IoU(faces[i].Box, p.Faces[m].Box) < 0.5 {
						continue // counts neither as a face nor as a false one
					}
					raw := min(max(faces[i].Confidence, 1e-6), 1-1e-6)
					x = append(x, math.Log(raw/(1-raw)))
					y = append(y, m >= 0)
				}
			}
		}
		a, b := logisticFit(x, y)
		slices.Sort(negatives)
		var top []float64
		for _, n := range negatives[max(0, len(negatives)-5):] {
			top = append(top, logistic(n, a, b))
		}
		t.Logf("%s: intercept %.3f, slope %.3f over %d candidates; highest without a face %.2f", name, a, b, len(x), top)
	}
}

// logisticFit fits two weights by Newton's method.
func logisticFit(x []float64, y []bool) (a, b float64) {
	for range 50 {
		var ga, gb, haa, hab, hbb float64
		for i, v := range x {
			p := 1 / (1 + math.Exp(-a-b*v))
			r := p
			if y[i] {
				r--
			}
			w := p * (1 - p)
			ga, gb = ga+r, gb+r*v
			haa, hab, hbb = haa+w, hab+w*v, hbb+w*v*v
		}
		det := haa*hbb - hab*hab
		a -= (hbb*ga - hab*gb) / det
		b -= (haa*gb - hab*ga) / det
	}
	return a, b
}
