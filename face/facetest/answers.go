package facetest

import (
	"testing"
	"time"

	"github.com/mienproject/mien/face"
)

// Answers has the faces that a detector finds in the subsets. Each subset is searched
// only once.
type Answers struct {
	detector face.Detector
	options  face.Options
	subsets  map[string]answers
}

type answers struct {
	photos []Photo
	found  [][]face.Face // in each photo
}

// NewAnswers returns the answers of a detector.
func NewAnswers(d face.Detector, opts face.Options) *Answers {
	return &Answers{d, opts, map[string]answers{}}
}

// Of returns the photographs of some subsets, and the faces found in each.
func (a *Answers) Of(t testing.TB, subsets ...string) (photos []Photo, found [][]face.Face) {
	t.Helper()
	for _, name := range subsets {
		s, ok := a.subsets[name]
		if !ok {
			s = a.search(t, name)
			a.subsets[name] = s
		}
		photos, found = append(photos, s.photos...), append(found, s.found...)
	}
	return photos, found
}

func (a *Answers) search(t testing.TB, subset string) answers {
	t.Helper()
	s := answers{photos: Subset(t, subset)}
	var spent time.Duration
	for _, p := range s.photos {
		img := Decode(t, p.Path)
		start := time.Now()
		faces, err := a.detector.Detect(t.Context(), img, a.options)
		spent += time.Since(start)
		if err != nil {
			t.Fatalf("%s: %v", p.Path, err)
		}
		s.found = append(s.found, faces)
	}
	t.Logf("%s: %.1f ms an image", subset, spent.Seconds()*1e3/float64(len(s.photos)))
	return s
}

// CheckCalibrationOfEach checks that the expected calibration error is at most limit in each
// of the subsets by itself.
func (a *Answers) CheckCalibrationOfEach(t testing.TB, limit float64, subsets ...string) {
	t.Helper()
	for _, subset := range subsets {
		off, _ := Calibration(a.Of(t, subset))
		t.Logf("%s: expected calibration error %.3f", subset, off)
		if !(off <= limit) {
			t.Errorf("%s: expected calibration error %.3f, want at most %v", subset, off, limit)
		}
	}
}

// CheckCalibration checks that the expected calibration error over all of the subsets is
// at most limit.
func (a *Answers) CheckCalibration(t testing.TB, limit float64, subsets ...string) {
	t.Helper()
	off, bins := Calibration(a.Of(t, subsets...))
	for _, b := range bins {
		if b.Faces > 0 {
			t.Logf("said %.2f, were %.2f of %d", b.Said, b.Were, b.Faces)
		}
	}
	t.Logf("expected calibration error %.3f", off)
	if !(off <= limit) {
		t.Errorf("expected calibration error %.3f, want at most %v", off, limit)
	}
}

// CheckLandmarks checks the mean error of the landmarks in each subset, relative to the
// distance of the eyes. The detector must find nine in ten of the labeled faces.
func (a *Answers) CheckLandmarks(t testing.TB, limits map[string]float64) {
	t.Helper()
	for subset, limit := range limits {
		mean, matched, labeled := MeanLandmarkError(a.Of(t, subset))
		t.Logf("%s: mean error %.4f of the eye distance, over %d of %d faces", subset, mean, matched, labeled)
		if !(mean <= limit) || matched < labeled*9/10 {
			t.Errorf("%s: mean error %.4f over %d of %d faces, want at most %.3f over nine in ten", subset, mean, matched, labeled, limit)
		}
	}
}

// CheckFalseFaces checks the number of faces that the detector finds, with at least that
// confidence, in images without any.
func (a *Answers) CheckFalseFaces(t testing.TB, minConfidence float64, limit int) {
	t.Helper()
	photos, found := a.Of(t, "negatives")
	n := 0
	for _, faces := range found {
		for _, f := range faces {
			if f.Confidence >= minConfidence {
				n++
			}
		}
	}
	t.Logf("%d false faces in %d images without any", n, len(photos))
	if n > limit {
		t.Errorf("%d false faces in %d images without any, want at most %d", n, len(photos), limit)
	}
}
