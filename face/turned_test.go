package face_test

import (
	"context"
	"image"
	"image/color"
	"math"
	"testing"

	"github.com/mienproject/mien/face"
)

// eyes is a detector of faces that are two pixels: a left eye of luminance 100, and a
// right eye of luminance 200, four pixels to the right of it. Its box is that of 8 × 10
// pixels with the eyes in its third row. A face of other luminance has its confidence.
type eyes struct{ *fixed }

func (eyes) Detect(_ context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	var faces []face.Face
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x+4 < b.Max.X; x++ {
			left, right := img.At(x, y).(color.Gray).Y, img.At(x+4, y).(color.Gray).Y
			if left != 100 || right <= left {
				continue
			}
			at := func(dx, dy float64) face.Point { return face.Point{X: float64(x) + dx, Y: float64(y) + dy} }
			f := face.Face{
				Box:        face.Box{MinX: float64(x) - 2, MinY: float64(y) - 2, MaxX: float64(x) + 6, MaxY: float64(y) + 8},
				Confidence: float64(right) / 255,
			}
			if !opts.SkipLandmarks {
				f.Landmarks = &face.Landmarks{LeftEye: at(0, 0), RightEye: at(4, 0), Nose: at(2, 2), MouthLeft: at(0, 4), MouthRight: at(4, 4)}
			}
			faces = append(faces, f)
		}
	}
	return faces, nil
}

// quarterTurn turns img clockwise, by way of its pixels.
func quarterTurn(img image.Image, quarters int) image.Image {
	for range quarters {
		size := img.Bounds().Size()
		out := image.NewGray(image.Rect(0, 0, size.Y, size.X))
		for y := range size.Y {
			for x := range size.X {
				out.Set(size.Y-1-y, x, img.At(x, y))
			}
		}
		img = out
	}
	return img
}

// TestAnyOrientation: faces in every quarter turn are found, in the frame of the image
// that was given, with landmarks on the pixels that they are named after.
func TestAnyOrientation(t *testing.T) {
	upright := image.NewGray(image.Rect(0, 0, 40, 30))
	upright.Pix[upright.PixOffset(10, 6)] = 100
	upright.Pix[upright.PixOffset(14, 6)] = 200
	d := eyes{&fixed{input: face.Input{Reduce: 1}}}
	boxes := []face.Box{
		{MinX: 8, MinY: 4, MaxX: 16, MaxY: 14},
		{MinX: 30 - 14, MinY: 8, MaxX: 30 - 4, MaxY: 16},
		{MinX: 40 - 16, MinY: 30 - 14, MaxX: 40 - 8, MaxY: 30 - 4},
		{MinX: 4, MinY: 40 - 16, MaxX: 14, MaxY: 40 - 8},
	}
	for quarters, box := range boxes {
		img := quarterTurn(upright, quarters)
		if faces, err := face.Detect(t.Context(), d, face.Whole(img, quarterTurn), face.Options{}); err != nil || (len(faces) == 1) != (quarters == 0) {
			t.Errorf("%d quarters, upright alone: %+v, %v", quarters, faces, err)
		}
		faces, err := face.Detect(t.Context(), d, face.Whole(img, quarterTurn), face.Options{AnyOrientation: true})
		if err != nil || len(faces) != 1 || faces[0].Box != box {
			t.Errorf("%d quarters: %+v, %v; want a face in %+v", quarters, faces, err, box)
			continue
		}
		for value, p := range map[uint8]face.Point{100: faces[0].Landmarks.LeftEye, 200: faces[0].Landmarks.RightEye} {
			if p.X != math.Trunc(p.X) || img.At(int(p.X), int(p.Y)) != (color.Gray{Y: value}) {
				t.Errorf("%d quarters: the eye of luminance %d is not at %+v", quarters, value, p)
			}
		}
	}
}

// TestAnyOrientationMerges: of faces in one place that are found in several turns the
// most confident is kept, and MaxResults counts what is left.
func TestAnyOrientationMerges(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 60, 30))
	set := func(x, y int, v uint8) { img.Pix[img.PixOffset(x, y)] = v }
	set(10, 6, 100) // an upright face, and in the same place one on its side, less confident
	set(14, 6, 220)
	set(15, 7, 100)
	set(15, 11, 150)
	set(40, 20, 100) // elsewhere an upright face
	set(44, 20, 180)
	d := eyes{&fixed{input: face.Input{Reduce: 1}}}
	for limit, want := range map[int][]float64{0: {220, 180}, 1: {220}} {
		faces, err := face.Detect(t.Context(), d, face.Whole(img, quarterTurn), face.Options{AnyOrientation: true, MaxResults: limit})
		if err != nil || len(faces) != len(want) {
			t.Fatalf("at most %d: %+v, %v; want %v", limit, faces, err, want)
		}
		for i, f := range faces {
			if f.Confidence != want[i]/255 {
				t.Errorf("at most %d: face %d has %v, want %v", limit, i, f.Confidence, want[i]/255)
			}
		}
	}
}
