package service_test

import (
	"context"
	"image"
	"math"
	"testing"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// TestRounding checks that rounding moves coordinates by at most half a pixel, and by
// nothing on average, for boxes and landmarks and on both axes.
func TestRounding(t *testing.T) {
	const count, width, height = 5000, 400, 300
	var faces []face.Face
	state := 0.0
	next := func(from float64) float64 { // evenly spread over the 50 pixels after from
		state = math.Mod(state+math.Phi, 50)
		return from + state
	}
	for range count {
		point := func() face.Point { return face.Point{X: next(100), Y: next(100)} }
		faces = append(faces, face.Face{
			Box:        face.Box{MinX: next(10), MinY: next(20), MaxX: next(200), MaxY: next(210)},
			Landmarks:  &face.Landmarks{LeftEye: point(), RightEye: point(), Nose: point(), MouthLeft: point(), MouthRight: point()},
			Confidence: 1,
		})
	}
	s, _ := start(t, stub{detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) { return faces, nil }}, nil)
	res, err := s.Predict(t.Context(), &inferencev1.Image{
		RawData: make([]byte, width*height), Width: width, Height: height, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
	})
	if err != nil {
		t.Fatal(err)
	}
	coordinates := func(f face.Face) [14]float64 {
		b, l := f.Box, f.Landmarks
		return [...]float64{
			b.MinX, b.MinY, b.MaxX, b.MaxY, l.LeftEye.X, l.LeftEye.Y, l.RightEye.X, l.RightEye.Y,
			l.Nose.X, l.Nose.Y, l.MouthLeft.X, l.MouthLeft.Y, l.MouthRight.X, l.MouthRight.Y,
		}
	}
	var sum [14]float64
	for i, rounded := range facesOf(res) {
		exact, whole := coordinates(faces[i]), coordinates(rounded)
		for k := range sum {
			off := whole[k] - exact[k]
			sum[k] += off
			if math.Abs(off) > 0.5 {
				t.Fatalf("coordinate %d is %v, and %v when it is rounded", k, exact[k], whole[k])
			}
		}
	}
	for k, s := range sum {
		if mean := s / count; !(math.Abs(mean) <= 0.01) {
			t.Errorf("coordinate %d is moved by %+.3f in the mean, want nothing", k, mean)
		}
	}
}
