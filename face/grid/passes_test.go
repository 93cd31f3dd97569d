package grid

import (
	"image"
	"math"
	"testing"
)

// TestLargeFixedSize checks that a network with a large fixed input size enlarges small
// images no further than is useful.
func TestLargeFixedSize(t *testing.T) {
	for name, limit := range map[string]float64{"face_detection_yunet_2023mar.onnx": fineSide, "scrfd_500m_kps_640.onnx": coarseSide} {
		g := openGrid(t, name)
		for _, c := range []struct {
			input, img image.Point
			want       float64
		}{
			{image.Pt(640, 640), image.Pt(320, 240), min(2, limit/sideOf(320, 240))},
			{image.Pt(640, 640), image.Pt(1280, 500), 0.5},
			{image.Pt(640, 320), image.Pt(640, 640), 0.5},
			{image.Pt(1920, 1920), image.Pt(320, 240), limit / sideOf(320, 240)},
			{image.Pt(1920, 1920), image.Pt(1500, 900), 1},
			{image.Pt(1920, 1920), image.Pt(3840, 1500), 0.5},
		} {
			g.info.InputSize = c.input
			if passes := g.passes(c.img.X, c.img.Y, 0); len(passes) != 1 || math.Abs(passes[0].scale-c.want) > 1e-9 {
				t.Errorf("%s of %v: the passes over %v are %+v, want one at scale %v", name, c.input, c.img, passes, c.want)
			}
		}
	}
}
