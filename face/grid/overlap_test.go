package grid

import (
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestOverlap checks that no two boxes of a result overlap by more than the limit,
// neither at the edge of the image, where boxes are clamped, nor in whole pixels.
func TestOverlap(t *testing.T) {
	for _, name := range []string{"yunet_n_dynamic.onnx", "scrfd_500m_kps_640.onnx"} {
		t.Run(name, func(t *testing.T) {
			g := openGrid(t, name)
			moved := 0
			for _, p := range facetest.Subset(t, "wider_val_416")[:30] {
				faces, err := g.Detect(t.Context(), facetest.Decode(t, p.Path), face.Options{SkipLandmarks: true})
				if err != nil {
					t.Fatal(err)
				}
				overlaps(t, p.Path, faces)
				rounded := face.Distinct(faces, g.info.MaxIoU)
				moved += len(faces) - len(rounded)
				for i := range rounded {
					rounded[i].Box = rounded[i].Box.Round()
				}
				overlaps(t, p.Path, rounded)
			}
			if moved == 0 {
				t.Error("rounding moved no two boxes together: this test shows nothing")
			}
		})
	}
}

// overlaps fails the test if two boxes overlap by more than the limit.
func overlaps(t *testing.T, path string, faces []face.Face) {
	t.Helper()
	for i, f := range faces {
		for _, other := range faces[:i] {
			if iou := face.IoU(f.Box, other.Box); iou > suppressIoU {
				t.Errorf("%s: %v and %v overlap by %.3f", path, f.Box, other.Box, iou)
			}
		}
	}
}
