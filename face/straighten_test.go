package face_test

import (
	"context"
	"image"
	"image/color"
	"math"
	"testing"

	"github.com/mienproject/mien/face"
)

// discs is a detector of faces whose left eye is a red disc and whose right eye is a blue
// one. The less its eyes are level, the lower is its confidence, and if they are more than
// 30° off level, it takes the face for a level one, as networks do.
type discs struct{ *fixed }

func (discs) Detect(_ context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	left, n := middleOf(img, func(c color.RGBA) bool { return c.R > 200 && c.B < 100 })
	right, m := middleOf(img, func(c color.RGBA) bool { return c.B > 200 && c.R < 100 })
	if n == 0 || m == 0 {
		return nil, nil
	}
	dx, dy := right.X-left.X, right.Y-left.Y
	side, off := math.Hypot(dx, dy), math.Abs(math.Atan2(dy, dx))*180/math.Pi
	middle := face.Point{X: (left.X + right.X) / 2, Y: (left.Y + right.Y) / 2}
	f := face.Face{
		Box:        face.Box{MinX: middle.X - side, MinY: middle.Y - side, MaxX: middle.X + side, MaxY: middle.Y + side},
		Confidence: 0.9 - off/1000,
	}
	if off > 30 {
		left, right = face.Point{X: middle.X - side/2, Y: middle.Y}, face.Point{X: middle.X + side/2, Y: middle.Y}
	}
	if !opts.SkipLandmarks {
		f.Landmarks = &face.Landmarks{LeftEye: left, RightEye: right, Nose: middle, MouthLeft: middle, MouthRight: middle}
	}
	return []face.Face{f}, nil
}

func (discs) Info() face.Info { return face.Info{Landmarks: true} }

// middleOf returns the mean position of the pixels of a color, and their number.
func middleOf(img image.Image, is func(color.RGBA) bool) (mean face.Point, n int) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if is(color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)) {
				mean.X, mean.Y, n = mean.X+float64(x), mean.Y+float64(y), n+1
			}
		}
	}
	return face.Point{X: mean.X / float64(n), Y: mean.Y / float64(n)}, n
}

// turnedClockwise turns img clockwise.
func turnedClockwise(img image.Image, quarters int) image.Image {
	for range quarters {
		size := img.Bounds().Size()
		out := image.NewRGBA(image.Rect(0, 0, size.Y, size.X))
		for y := range size.Y {
			for x := range size.X {
				out.Set(size.Y-1-y, x, img.At(x, y))
			}
		}
		img = out
	}
	return img
}

// TestStraighten checks the landmarks of faces at any angle: small and large ones, also at
// the edge of the image.
func TestStraighten(t *testing.T) {
	d := discs{&fixed{input: face.Input{Reduce: 1}}}
	for _, side := range []float64{24, 120} { // between the eyes; larger patches are scaled down
		for _, center := range []face.Point{{X: 150, Y: 140}, {X: 85, Y: 195}} {
			for _, degrees := range []int{0, 15, 45, 60, 135, 210, 225, 315} {
				sin, cos := math.Sincos(float64(degrees) * math.Pi / 180)
				eye := func(k float64) face.Point {
					return face.Point{X: center.X + k*cos*side/2, Y: center.Y + k*sin*side/2}
				}
				left, right := eye(-1), eye(1)
				img := image.NewRGBA(image.Rect(0, 0, 300, 280))
				for y := range 280 {
					for x := range 300 {
						c := color.RGBA{128, 128, 128, 255}
						switch radius := side / 6; {
						case math.Hypot(float64(x)-left.X, float64(y)-left.Y) <= radius:
							c = color.RGBA{255, 0, 0, 255}
						case math.Hypot(float64(x)-right.X, float64(y)-right.Y) <= radius:
							c = color.RGBA{0, 0, 255, 255}
						}
						img.SetRGBA(x, y, c)
					}
				}
				faces, err := face.Detect(t.Context(), d, face.Whole(img, turnedClockwise), face.Options{AnyOrientation: true})
				if err != nil || len(faces) != 1 {
					t.Fatalf("%d°: %+v, %v; want one face", degrees, faces, err)
				}
				for what, p := range map[string][2]face.Point{"left": {faces[0].Landmarks.LeftEye, left}, "right": {faces[0].Landmarks.RightEye, right}} {
					if off := math.Hypot(p[0].X-p[1].X, p[0].Y-p[1].Y); !(off <= 1) {
						t.Errorf("eyes %v apart at %v, turned by %d°: the %s eye is at %.1f, want %.1f", side, center, degrees, what, p[0], p[1])
					}
				}
			}
		}
	}
}
