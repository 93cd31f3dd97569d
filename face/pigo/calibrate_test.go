package pigo

import (
	"cmp"
	"flag"
	"image"
	"math"
	"slices"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/luma"
)

var calibrate = flag.Bool("calibrate", false, "print box geometry and confidence weights fitted on the labeled photographs")

// fitted are the subsets in which people have drawn boxes around all faces.
var fitted = []string{"wider_val_orig", "wider_val_416", "face_mask", "negatives"}

// TestCalibrate fits the constants in calibration.go, and prints them.
func TestCalibrate(t *testing.T) {
	if !*calibrate {
		t.Skip("fits constants rather than testing them: run with -calibrate")
	}
	d, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var (
		shapes [4][]float64 // width, height, right, down
		all    []evidence
		truth  []bool
	)
	// The shape is fitted only to boxes that people drew.
	gather := func(img image.Image, faces []facetest.Label, byPeople bool) {
		g := luma.Of(img, nil)
		clusters, _, err := d.candidates(t.Context(), new(workspace), g, smallestWindow(g.Width, g.Height))
		if err != nil {
			t.Fatal(err)
		}
		// Of two clusters at the same face, the better one counts as the face.
		slices.SortFunc(clusters, func(a, b cluster) int { return cmp.Compare(b.score, a.score) })
		var found []face.Face
		for _, c := range clusters {
			found = append(found, face.Face{Box: c.box().Clamp(g.Width, g.Height)})
		}
		for i, m := range facetest.Match(found, faces, 0.3) {
			c := clusters[i]
			switch {
			case m < 0:
			case face.IoU(found[i].Box, faces[m].Box) < 0.5:
				// Counts neither as a face nor as a false one.
				continue
			case byPeople && c.score > 30:
				b := faces[m].Box
				for k, v := range [4]float64{
					b.Width(), b.Height(), (b.MinX+b.MaxX)/2 - c.col - 0.5, (b.MinY+b.MaxY)/2 - c.row - 0.5,
				} {
					shapes[k] = append(shapes[k], v/c.size)
				}
			}
			all = append(all, evidenceOf(c, d.landmarker.Find(g, c.center(), c.size)))
			truth = append(truth, m >= 0)
		}
	}
	for _, subset := range fitted {
		for _, p := range facetest.Subset(t, subset) {
			gather(facetest.Decode(t, p.Path), p.Faces, true)
		}
	}
	for i := 0; i < facetest.Checks; i += 3 {
		gather(facetest.Check(i), nil, false)
	}
	for _, scale := range []float64{.75, 1, 1.5} {
		img, label := facetest.CheckedShirt(t, scale)
		gather(img, []facetest.Label{label}, false)
	}
	for k, name := range []string{"boxWidth", "boxHeight", "right, which is left out", "boxDown"} {
		slices.Sort(shapes[k])
		t.Logf("%s = %.3f // median of %d", name, shapes[k][len(shapes[k])/2], len(shapes[k]))
	}
	w := logistic(all, truth)
	t.Logf("weights = %.3f // %d candidates", w, len(truth))
	t.Run("reference", calibrateReference)
}

func calibrateReference(t *testing.T) {
	r, err := NewReference()
	if err != nil {
		t.Fatal(err)
	}
	var all []evidence
	var truth []bool
	for _, subset := range fitted {
		for _, p := range facetest.Subset(t, subset) {
			g := luma.Of(facetest.Decode(t, p.Path), nil)
			windows, err := libraryScan(t.Context(), r.faces, g, minWindow)
			if err != nil {
				t.Fatal(err)
			}
			clusters, err := libraryClusters(t.Context(), windows)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(clusters, func(a, b cluster) int { return cmp.Compare(b.score, a.score) })
			var found []face.Face
			for _, c := range clusters {
				found = append(found, face.Face{Box: c.square().Clamp(g.Width, g.Height)})
			}
			for i, m := range facetest.Match(found, p.Faces, 0.5) {
				all = append(all, evidence{1, math.Log(clusters[i].score)})
				truth = append(truth, m >= 0)
			}
		}
	}
	w := logistic(all, truth)
	t.Logf("referenceIntercept, referenceSlope = %.3f, %.3f // %d clusters", w[0], w[1], len(truth))
}

// logistic fits a logistic regression by Newton's method, with a ridge that only keeps
// it from diverging.
func logistic(x []evidence, y []bool) (w evidence) {
	const ridge = 1e-2
	for range 50 {
		var grad evidence
		var hess [len(w)]evidence
		for i, e := range x {
			z := 0.0
			for k := range w {
				z += w[k] * e[k]
			}
			p := 1 / (1 + math.Exp(-z))
			r := p
			if y[i] {
				r--
			}
			for a := range w {
				grad[a] += r * e[a]
				for b := range w {
					hess[a][b] += p * (1 - p) * e[a] * e[b]
				}
			}
		}
		for a := range w {
			grad[a] += ridge * w[a]
			hess[a][a] += ridge
		}
		// Solve hess · step = grad by elimination. hess is positive definite.
		for a := range w {
			for b := a + 1; b < len(w); b++ {
				f := hess[b][a] / hess[a][a]
				for k := a; k < len(w); k++ {
					hess[b][k] -= f * hess[a][k]
				}
				grad[b] -= f * grad[a]
			}
		}
		for a := len(w) - 1; a >= 0; a-- {
			for b := a + 1; b < len(w); b++ {
				grad[a] -= hess[a][b] * grad[b]
			}
			grad[a] /= hess[a][a]
			w[a] -= grad[a]
		}
	}
	return w
}
