package pigo_test

import (
	"image"
	"runtime"
	"slices"
	"testing"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
)

func detectAll(t *testing.T, d face.Detector, photos []facetest.Photo) [][]face.Face {
	t.Helper()
	found := make([][]face.Face, len(photos))
	for i, p := range photos {
		faces, err := d.Detect(t.Context(), facetest.Decode(t, p.Path), face.Options{})
		if err != nil {
			t.Fatalf("%s: %v", p.Path, err)
		}
		found[i] = faces
	}
	return found
}

func newDetector(t testing.TB) *pigo.Detector {
	t.Helper()
	d, err := pigo.New(cores.NewGate(runtime.GOMAXPROCS(0)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAccuracy checks what docs/calibration.md says about the detector, with some
// tolerance. Run it with -v to see the numbers.
func TestAccuracy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute, and ten with the race detector: make accuracy runs it")
	}
	d := newDetector(t)
	type answers struct {
		photos []facetest.Photo
		found  [][]face.Face
	}
	cache := map[string]answers{}
	detectAllOf := func(t *testing.T, subset string) ([]facetest.Photo, [][]face.Face) {
		l, ok := cache[subset]
		if !ok {
			photos := facetest.Subset(t, subset)
			l = answers{photos, detectAll(t, d, photos)}
			cache[subset] = l
		}
		return l.photos, l.found
	}
	t.Run("average precision", func(t *testing.T) {
		for _, c := range []struct {
			subset string
			floor  [3]float64
		}{
			{"wider_val_orig", [3]float64{.51, .43, .25}},
			{"wider_val_416", [3]float64{.38, .26, .085}},
		} {
			photos, found := detectAllOf(t, c.subset)
			for level, floor := range c.floor {
				ap := facetest.AveragePrecision(photos, found, level)
				t.Logf("%s level %d: %.3f", c.subset, level, ap)
				if ap < floor {
					t.Errorf("%s level %d: average precision %.3f, want %.3f", c.subset, level, ap, floor)
				}
			}
		}
	})
	t.Run("calibration", func(t *testing.T) {
		var photos []facetest.Photo
		var found [][]face.Face
		for _, subset := range []string{"wider_val_orig", "wider_val_416", "face_mask", "negatives"} {
			p, f := detectAllOf(t, subset)
			photos, found = append(photos, p...), append(found, f...)
		}
		off := facetest.CalibrationError(t, photos, found)
		t.Logf("expected calibration error %.3f", off)
		if off > 0.05 {
			t.Errorf("expected calibration error %.3f, want at most 0.05", off)
		}
	})
	t.Run("false faces", func(t *testing.T) {
		photos, found := detectAllOf(t, "negatives")
		var all []float64
		for _, faces := range found {
			all = append(all, confidences(faces)...)
		}
		slices.Sort(all)
		t.Logf("highest: %.2f", all[max(0, len(all)-6):])
		n := len(all) - lowerBound(all, d.Info().MinConfidence)
		t.Logf("%d false faces in %d images without any", n, len(photos))
		if n > 3 {
			t.Errorf("%d false faces in %d images without any, want at most 3", n, len(photos))
		}
	})
	t.Run("landmarks", func(t *testing.T) {
		for subset, limit := range map[string]float64{"lfw_5pt": .055, "net_5pt": .067} {
			photos, found := detectAllOf(t, subset)
			mean, matched, labeled := facetest.MeanLandmarkError(photos, found)
			t.Logf("%s: mean error %.4f of the eye distance, over %d of %d faces", subset, mean, matched, labeled)
			if mean > limit || matched < labeled*9/10 {
				t.Errorf("%s: mean error %.3f over %d of %d faces, want at most %.3f over nine in ten", subset, mean, matched, labeled, limit)
			}
		}
	})
}

// TestAccuracyOnChecks checks that at the default confidence, checked cloth is hardly
// ever taken for a face although the cascade gives it such a score, and that the person
// in a checked shirt is found. The confidence was not fitted on the checks that are
// drawn here, nor on the shirt at .5 and 2 times its size.
func TestAccuracyOnChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute with the race detector: make accuracy runs it")
	}
	d := newDetector(t)
	detect := func(img image.Image) []face.Face {
		t.Helper()
		faces, err := d.Detect(t.Context(), img, face.Options{MinConfidence: d.Info().MinConfidence})
		if err != nil {
			t.Fatal(err)
		}
		return faces
	}
	n, pictures := 0, 0
	for i := range facetest.Checks {
		if i%3 != 0 {
			n += len(detect(facetest.Check(i)))
			pictures++
		}
	}
	t.Logf("%d false faces in %d images of checks", n, pictures)
	if n > 12 {
		t.Errorf("%d false faces in %d images of checks, want at most 12", n, pictures)
	}
	n = 0
	for _, scale := range []float64{.5, .75, 1, 1.5, 2} {
		img, label := facetest.CheckedShirt(t, scale)
		match := facetest.Match(detect(img), []facetest.Label{label}, 0.5)
		if !slices.Contains(match, 0) {
			t.Errorf("a checked shirt at %g times its size: none of %d faces is that of the person who wears it", scale, len(match))
		}
		n += len(match) - 1
	}
	t.Logf("%d false faces on a shirt at five sizes", n)
	if n > 5 {
		t.Errorf("%d false faces on a shirt at five sizes, want at most 5", n)
	}
}

// TestAccuracyOfReference checks that it is as good as the library, and not better.
func TestAccuracyOfReference(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute, and ten with the race detector: make accuracy runs it")
	}
	r, err := pigo.NewReference()
	if err != nil {
		t.Fatal(err)
	}
	var photos []facetest.Photo
	var found [][]face.Face
	for _, subset := range []string{"wider_val_orig", "wider_val_416", "face_mask", "negatives"} {
		p := facetest.Subset(t, subset)
		f := detectAll(t, r, p)
		if subset == "wider_val_orig" {
			ap := facetest.AveragePrecision(p, f, 0)
			t.Logf("average precision %.3f", ap)
			if ap < .38 || ap > .48 {
				t.Errorf("average precision %.3f, want .38 to .48", ap)
			}
		}
		if subset == "negatives" {
			n := 0
			for _, faces := range f {
				n += lowerBound(confidences(faces), 1) - lowerBound(confidences(faces), r.Info().MinConfidence)
			}
			t.Logf("%d false faces in %d images without any", n, len(p))
			if n > 2 {
				t.Errorf("%d false faces in %d images without any, want two at most", n, len(p))
			}
		}
		photos, found = append(photos, p...), append(found, f...)
	}
	if off := facetest.CalibrationError(t, photos, found); off > 0.05 {
		t.Errorf("expected calibration error %.3f, want at most 0.05", off)
	}
}

// confidences returns the confidences of faces, the lowest first.
func confidences(faces []face.Face) []float64 {
	var all []float64
	for _, f := range faces {
		all = append(all, f.Confidence)
	}
	slices.Sort(all)
	return all
}

func lowerBound(sorted []float64, v float64) int {
	i, _ := slices.BinarySearch(sorted, v)
	return i
}
