package pigo

import (
	"fmt"
	"image"
	"math"

	"github.com/mienproject/mien/face"
)

// Landmarker finds the five landmarks of faces that somebody else has found. It
// is immutable, and so safe for concurrent use.
type Landmarker struct {
	eye, nose, mouth *landmarkCascade
}

// NewLandmarker unpacks the embedded cascades. An error means that the binary is
// broken.
func NewLandmarker() (*Landmarker, error) {
	l := &Landmarker{}
	for _, c := range []struct {
		name string
		data []byte
		into **landmarkCascade
	}{
		{"eye", eyeCascade, &l.eye},
		{"nose", noseCascade, &l.nose},
		{"mouth", mouthCascade, &l.mouth},
	} {
		var err error
		if *c.into, err = parseLandmarkCascade(c.data); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return l, nil
}

// Luminance is an image as the cascades look at it. It may share the image's
// pixels.
type Luminance struct{ gray gray }

// LuminanceOf converts an image once for all its faces.
func LuminanceOf(img image.Image) Luminance { return Luminance{luminance(img)} }

// Refine finds the landmarks of a face whose eyes are about where rough has them,
// in pixels relative to the image's bounds. Spread tells how far the walks of one
// landmark ended apart, in the mean over the five, as a part of the face's
// window: on an upright face about .01, and above .05 the landmarks are hardly
// to be trusted.
func (l *Landmarker) Refine(img Luminance, rough face.Landmarks) (refined face.Landmarks, spread float64) {
	// Pupils lie 0.35 window sizes apart.
	size := math.Hypot(rough.RightEye.X-rough.LeftEye.X, rough.RightEye.Y-rough.LeftEye.Y) / 0.35
	if !(size > 0) || img.gray.width == 0 {
		return rough, math.Inf(1)
	}
	tilt := math.Atan2(rough.RightEye.Y-rough.LeftEye.Y, rough.RightEye.X-rough.LeftEye.X)
	refined, s := l.find(img.gray, size, tilt, rough.LeftEye, rough.RightEye)
	return refined, (s.leftEye + s.rightEye + s.nose + s.mouthLeft + s.mouthRight) / 5
}

// spreads tells for each of the five landmarks how far its perturbed walks ended
// apart, as a part of the window's size. Walks on a face agree.
type spreads struct{ leftEye, rightEye, nose, mouthLeft, mouthRight float64 }

// find finds the landmarks of the face in a window of that size, from where its
// eyes may be, turned by tilt. Pupils are looked for at a quarter of the size.
func (l *Landmarker) find(img gray, size, tilt float64, leftEye, rightEye face.Point) (face.Landmarks, spreads) {
	at := func(p face.Point) guess {
		return guess{row: float32(p.Y), col: float32(p.X), scale: 0.25 * float32(size)}
	}
	left, leftSpread := l.eye.find(at(leftEye), img, false, tilt, &fixedJitter)
	right, rightSpread := l.eye.find(at(rightEye), img, false, tilt, &fixedJitter)

	rest := belowEyes(left, right, tilt)
	nose, noseSpread := l.nose.find(rest, img, false, tilt, &fixedJitter)
	mouthLeft, mouthLeftSpread := l.mouth.find(rest, img, false, tilt, &fixedJitter)
	mouthRight, mouthRightSpread := l.mouth.find(rest, img, true, tilt, &fixedJitter)

	point := func(g guess) face.Point {
		return face.Point{
			X: min(max(float64(g.col), 0), float64(img.width-1)),
			Y: min(max(float64(g.row), 0), float64(img.height-1)),
		}
	}
	part := func(s float32) float64 { return float64(s) / size }
	return face.Landmarks{
			LeftEye: point(left), RightEye: point(right), Nose: point(nose),
			MouthLeft: point(mouthLeft), MouthRight: point(mouthRight),
		}, spreads{
			part(leftSpread), part(rightSpread), part(noseSpread),
			part(mouthLeftSpread), part(mouthRightSpread),
		}
}
