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
	}{
		{
			model: "yunet_n_dynamic.onnx",
			precision: map[string][3]float64{
				"wider_val_orig": {.88, .87, .76},
				"wider_val_416":  {.845, .785, .68},
			},
			landmarks: map[string]float64{"lfw_5pt": .050, "net_5pt": .055},
			mistakes:  1, // as many as MTCNN
		},
		{
			model:     "yunet_s_dynamic.onnx",
			precision: map[string][3]float64{"wider_val_orig": {.84, .84, .69}},
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
			detect := func(subset string, opts face.Options) ([]facetest.Photo, [][]face.Face) {
				photos := facetest.Subset(t, subset)
				found := make([][]face.Face, len(photos))
				for i, p := range photos {
					var err error
					if found[i], err = g.Detect(t.Context(), facetest.Decode(t, p.Path), opts); err != nil {
						t.Fatal(err)
					}
				}
				return photos, found
			}
			for subset, floor := range c.precision {
				photos, found := detect(subset, face.Options{SkipLandmarks: true})
				for level := range floor {
					ap := facetest.AveragePrecision(photos, found, level)
					t.Logf("%s level %d: average precision %.3f", subset, level, ap)
					if ap < floor[level] {
						t.Errorf("%s level %d: average precision %.3f, want %.3f", subset, level, ap, floor[level])
					}
				}
			}
			for subset, limit := range c.landmarks {
				photos, found := detect(subset, face.Options{})
				mean, n, _ := facetest.MeanLandmarkError(photos, found)
				t.Logf("%s: landmark error %.4f over %d faces", subset, mean, n)
				if mean > limit || n < 150 {
					t.Errorf("%s: landmark error %.4f over %d faces, want %.3f over 150", subset, mean, n, limit)
				}
			}
			_, found := detect("negatives", face.Options{MinConfidence: g.info.MinConfidence})
			n := 0
			for _, faces := range found {
				n += len(faces)
			}
			t.Logf("%d false faces in %d images without any", n, len(found))
			if n > c.mistakes {
				t.Errorf("%d false faces in %d images without any, want %d", n, len(found), c.mistakes)
			}
		})
	}
}
