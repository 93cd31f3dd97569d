//go:build linux

package mtcnn

import (
	"image"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
)

// detecting returns a function that detects the faces of one of the images.
func detecting(b *testing.B, d face.Detector, images []image.Image) func(i int) {
	b.Helper()
	return func(i int) {
		if _, err := d.Detect(b.Context(), images[i], face.Options{MinConfidence: d.Info().MinConfidence}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAsONNXRuntime compares the embedded networks on package nn with the same detector
// on ONNX Runtime, on one thread: from decoded photographs to faces. An iteration of the one
// or the other detects all photographs of a set.
func BenchmarkAsONNXRuntime(b *testing.B) {
	var originals []image.Image
	for _, p := range facetest.Subset(b, "wider_val_orig") {
		originals = append(originals, facetest.Decode(b, p.Path))
	}
	people := []image.Image{facetest.Decode(b, facetest.Path(b, "peoples.jpg"))}
	on := func(networks []engine.Engine) face.Detector {
		d, err := New(networks, "", nil)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	own, judge := on(openOwn(b)), on(openWeights(b))
	for name, images := range map[string][]image.Image{"wider": originals, "peoples": people} {
		b.Run(name, func(b *testing.B) {
			enginetest.Compare(b, enginetest.ThreadTime, len(images), detecting(b, own, images), detecting(b, judge, images))
		})
	}
}

// BenchmarkAsPigo compares with the embedded cascade, on one thread.
func BenchmarkAsPigo(b *testing.B) {
	people := []image.Image{facetest.Decode(b, facetest.Path(b, "peoples.jpg"))}
	own, err := New(openOwn(b), "", nil)
	if err != nil {
		b.Fatal(err)
	}
	other, err := pigo.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	enginetest.Compare(b, enginetest.ThreadTime, 1, detecting(b, own, people), detecting(b, other, people))
}
