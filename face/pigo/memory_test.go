package pigo

import (
	"image"
	"testing"

	"golang.org/x/image/draw"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face/facetest"
)

// crowd returns an image of 4 megapixels that is full of small faces.
func crowd(t testing.TB, side int) image.Image {
	t.Helper()
	face := facetest.Decode(t, "../../service/selftest/sample.jpg")
	out := image.NewGray(image.Rect(0, 0, 2048, 2048))
	one := image.NewGray(image.Rect(0, 0, side, side*5/4))
	draw.BiLinear.Scale(one, one.Rect, face, face.Bounds(), draw.Src, nil)
	for y := 0; y < 2048; y += one.Rect.Dy() {
		for x := 0; x < 2048; x += side {
			draw.Draw(out, one.Rect.Add(image.Pt(x, y)), one, image.Point{}, draw.Src)
		}
	}
	return out
}

// TestMemory checks what Input says of memory.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates memory, too: make memory runs it")
	}
	d, err := New(cores.NewGate(1))
	if err != nil {
		t.Fatal(err)
	}
	facetest.CheckMemory(t, d, map[string]image.Image{
		"people":      facetest.Decode(t, facetest.Path(t, "peoples.jpg")),
		"crowd of 32": crowd(t, 32),
		"blank":       image.NewGray(image.Rect(0, 0, 4000, 3000)),
	})
}
