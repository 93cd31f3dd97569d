package mtcnn

import (
	"image"
	"testing"

	"github.com/mienproject/mien/face/facetest"
)

// TestMemory checks what Input says of memory, with the networks on package nn.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates memory, too: make memory runs it")
	}
	facetest.CheckMemory(t, newMTCNN(t), map[string]image.Image{
		"people":   facetest.Decode(t, facetest.Path(t, "peoples.jpg")),
		"a crowd":  crowd(t),
		"an image": image.NewNRGBA(image.Rect(0, 0, 4000, 3000)),
	})
}
