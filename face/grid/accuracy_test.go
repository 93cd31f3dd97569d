package grid

import (
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestAccuracy checks what docs/accuracy.md says about the models. Run it with -v to
// see the numbers.
func TestAccuracy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute, and ten with the race detector: make accuracy runs it")
	}
	for _, c := range []struct {
		model     string
		precision map[string][3]float64 // average precision for easy, medium and hard faces
		landmarks map[string]float64    // mean error in eye distances
		mistakes  int                   // faces on images without any, at the default confidence
		// calibration is the limit of the expected calibration error in each subset in
		// which all faces are labeled, or 0.
		calibration float64
	}{
		{
			model: "yunet_n_dynamic.onnx",
			precision: map[string][3]float64{
				"wider_val_orig": {.89, .88, .77},
				"wider_val_416":  {.85, .79, .69},
			},
			landmarks: map[string]float64{"lfw_5pt": .043, "net_5pt": .050},
			mistakes:  1, // as many as MTCNN

			calibration: .06,
		},
		{
			model:     "yunet_s_dynamic.onnx",
			precision: map[string][3]float64{"wider_val_orig": {.86, .855, .71}},
			landmarks: map[string]float64{"lfw_5pt": .050},
			mistakes:  2,
		},
		{
			model:     "face_detection_yunet_2023mar.onnx", // with a fixed input size
			precision: map[string][3]float64{"wider_val_orig": {.83, .81, .55}},
			landmarks: map[string]float64{"lfw_5pt": .050},
			mistakes:  2,
		},
		{
			model:     "scrfd_2.5g_kps_640.onnx",
			precision: map[string][3]float64{"wider_val_orig": {.92, .90, .67}},
			landmarks: map[string]float64{"lfw_5pt": .050},
			mistakes:  2,
		},
	} {
		t.Run(c.model, func(t *testing.T) {
			g := openGrid(t, c.model)
			answers := facetest.NewAnswers(g, face.Options{})
			for subset, floor := range c.precision {
				photos, found := answers.Of(t, subset)
				for level := range floor {
					ap := facetest.AveragePrecision(photos, found, level)
					t.Logf("%s level %d: average precision %.3f", subset, level, ap)
					if ap < floor[level] {
						t.Errorf("%s level %d: average precision %.3f, want %.3f", subset, level, ap, floor[level])
					}
				}
			}
			if c.calibration != 0 {
				answers.CheckCalibrationOfEach(t, c.calibration, facetest.DefaultsFrom...)
			}
			answers.CheckLandmarks(t, c.landmarks)
			answers.CheckFalseFaces(t, g.info.MinConfidence, c.mistakes)
		})
	}
}
