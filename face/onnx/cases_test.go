//go:build cgo

package onnx

import (
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestCheckedShirt: every family finds exactly one face at its default confidence,
// that of the person in the shirt, whatever the size of the picture.
func TestCheckedShirt(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute with the race detector")
	}
	for _, name := range []string{"yunet_n_dynamic.onnx", "yunet_s_dynamic.onnx", "face_detection_yunet_2023mar.onnx", "scrfd_500m_kps_640.onnx", "scrfd_2.5g_kps_640.onnx", "mtcnn"} {
		t.Run(name, func(t *testing.T) {
			d, err := Open(model(t, name), environment.library, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, scale := range []float64{.5, .75, 1, 1.5, 2} {
				img, label := facetest.CheckedShirt(t, scale)
				faces, err := d.Detect(t.Context(), img, face.Options{MinConfidence: d.Info().MinConfidence})
				if err != nil {
					t.Fatal(err)
				}
				if len(faces) != 1 || face.IoU(faces[0].Box, label.Box) < 0.7 {
					t.Errorf("at %g times its size: %+v, want one face at %v", scale, faces, label.Box)
				}
			}
		})
	}
}

// TestTiltedHead: YuNet finds a head that is tilted by 40 degrees, on a transparent
// background, with a confidence of .5 or more, and nothing else.
func TestTiltedHead(t *testing.T) {
	g := openGrid(t, "yunet_n_dynamic.onnx")
	faces, err := g.Detect(t.Context(), facetest.Decode(t, facetest.Case(t, "tilted_head.png")), face.Options{MinConfidence: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	want := face.Box{MinX: 65, MinY: 75, MaxX: 270, MaxY: 255} // as YuNet-s and SCRFD have it, within 20 pixels
	if len(faces) != 1 || face.IoU(faces[0].Box, want) < 0.6 {
		t.Errorf("%+v, want one face at %v", faces, want)
	}
}
