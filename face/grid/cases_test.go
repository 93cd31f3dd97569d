package grid

import (
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestTiltedHead checks that YuNet finds a head that is tilted by 40 degrees, on a
// transparent background, with a confidence of at least .5, and nothing else.
func TestTiltedHead(t *testing.T) {
	g := openGrid(t, "yunet_n_dynamic.onnx")
	faces, err := g.Detect(t.Context(), facetest.Decode(t, facetest.Case(t, "tilted_head.png")), face.Options{MinConfidence: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	want := face.Box{MinX: 65, MinY: 75, MaxX: 270, MaxY: 255} // the box of YuNet-s and SCRFD, within 20 pixels
	if len(faces) != 1 || face.IoU(faces[0].Box, want) < 0.6 {
		t.Errorf("%+v, want one face at %v", faces, want)
	}
}
