package grid

import (
	"image"
	"testing"

	"github.com/mienproject/mien/face/facetest"
)

// TestMemory checks what Input says of memory, with the network on package nn.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates memory, too: make memory runs it")
	}
	facetest.CheckMemory(t, openGrid(t, "yunet_n_dynamic.onnx"), map[string]image.Image{
		"people":   facetest.Decode(t, facetest.Path(t, "peoples.jpg")),
		"an image": image.NewNRGBA(image.Rect(0, 0, 4000, 3000)),
		"a strip":  image.NewYCbCr(image.Rect(0, 0, 600, 12000), image.YCbCrSubsampleRatio420),
	})
}
