//go:build cgo

package networks_test

import (
	"math"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
)

// TestAccuracyOfDefaults checks how each family's default confidence was chosen: it is
// the lowest at which none of the family's networks finds more false faces per image
// than MTCNN does at its own default, on the images of facetest.DefaultsFrom, in whole
// pixels as the service answers.
func TestAccuracyOfDefaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes: make accuracy runs it")
	}
	curve := func(d face.Detector) facetest.Curve {
		t.Helper()
		photos, found := facetest.NewAnswers(d, face.Options{SkipLandmarks: true}).Of(t, facetest.DefaultsFrom...)
		for _, faces := range found {
			for i := range faces {
				faces[i].Box = faces[i].Box.Round()
			}
		}
		return facetest.NewCurve(photos, found)
	}
	mtcnn := shelf(t, "mtcnn")
	_, allowed := curve(mtcnn).At(mtcnn.Info().MinConfidence)
	t.Logf("MTCNN shows %.3f false faces an image", allowed)

	embedded, err := pigo.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	library, err := pigo.NewReference()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		family   string
		more     float64 // how much higher the default is
		networks []face.Detector
	}{
		{"yunet", 0, []face.Detector{shelf(t, "yunet_n_dynamic.onnx"), shelf(t, "yunet_s_dynamic.onnx")}},
		{"scrfd", 0, []face.Detector{shelf(t, "scrfd_2.5g_kps_640.onnx"), shelf(t, "scrfd_500m_kps_640.onnx")}},
		{"pigo", .04, []face.Detector{embedded}},
		{"pigo-reference", 0, []face.Detector{library}},
	} {
		t.Run(c.family, func(t *testing.T) {
			lowest := 0.0
			for _, d := range c.networks {
				cut := curve(d).LowestCut(allowed)
				t.Logf("%s: lowest cut %.2f", d.Info().Version, cut)
				lowest = max(lowest, cut)
			}
			// One false face more or less, which the rounding of another processor may
			// cause, moves the cut by a hundredth.
			if got := c.networks[0].Info().MinConfidence; math.Abs(got-lowest-c.more) > 0.0101 {
				t.Errorf("the default is %.2f, want %.2f", got, lowest+c.more)
			}
		})
	}
}
