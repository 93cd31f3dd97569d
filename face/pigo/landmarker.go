package pigo

import (
	"fmt"
	"image"
	"math"
	"sync"

	"github.com/mienproject/mien/face"
)

// Landmarker finds the five landmarks of faces that somebody else has found. It
// is immutable, and so safe for concurrent use.
type Landmarker struct {
	eye, nose, mouthLeft, mouthRight *landmarkCascade

	patches sync.Pool // of *patch
}

// NewLandmarker unpacks the embedded cascades. An error means that the binary is
// broken.
func NewLandmarker() (*Landmarker, error) {
	l := &Landmarker{}
	l.patches.New = func() any { return new(patch) }
	for _, c := range []struct {
		name string
		data []byte
		into **landmarkCascade
	}{
		{"eye", eyeCascade, &l.eye},
		{"nose", noseCascade, &l.nose},
		{"mouth", mouthCascade, &l.mouthLeft},
	} {
		var err error
		if *c.into, err = parseLandmarkCascade(c.data); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	l.mouthRight = l.mouthLeft.mirrored()
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
// to be trusted. Eyes in one place, far outside of any image, or that are not numbers
// stay where they are, as the other landmarks do, and spread is infinite.
func (l *Landmarker) Refine(img Luminance, rough face.Landmarks) (refined face.Landmarks, spread float64) {
	// Pupils lie 0.35 window sizes apart.
	size := math.Hypot(rough.RightEye.X-rough.LeftEye.X, rough.RightEye.Y-rough.LeftEye.Y) / 0.35
	middle := face.Point{X: (rough.LeftEye.X + rough.RightEye.X) / 2, Y: (rough.LeftEye.Y + rough.RightEye.Y) / 2}
	const most = 1 << 30 // pixels, which 64 bits hold by their 65536th parts
	if !(size >= 1 && size <= most && max(math.Abs(middle.X), math.Abs(middle.Y)) <= most) || img.gray.width == 0 {
		return rough, math.Inf(1)
	}
	tilt := math.Atan2(rough.RightEye.Y-rough.LeftEye.Y, rough.RightEye.X-rough.LeftEye.X)
	sin, cos := math.Sincos(tilt)
	down := eyesAbove * size
	p := l.patches.Get().(*patch)
	defer l.patches.Put(p)
	p.cut(img.gray, face.Point{
		X: middle.X - down*sin,
		Y: middle.Y + down*cos,
	}, size, tilt)
	refined, s := l.find(img.gray, p, rough.LeftEye, rough.RightEye)
	return refined, (s.leftEye + s.rightEye + s.nose + s.mouthLeft + s.mouthRight) / 5
}

// spreads tells for each of the five landmarks how far its perturbed walks ended
// apart, as a part of the window's size. Walks on a face agree.
type spreads struct{ leftEye, rightEye, nose, mouthLeft, mouthRight float64 }

// eyesAbove and eyesAside is how far the library looks for the pupils from the
// middle of a window, as parts of its size.
const (
	eyesAbove = 0.075
	eyesAside = 0.175
)

// landmarks finds the five points of the face in c.
func (l *Landmarker) landmarks(c cluster, img gray) (points face.Landmarks, s spreads, repetition float64) {
	p := l.patches.Get().(*patch)
	defer l.patches.Put(p)
	p.cut(img, face.Point{X: c.col, Y: c.row}, c.size, 0)
	y := c.row - eyesAbove*c.size
	points, s = l.find(img, p, face.Point{X: c.col - eyesAside*c.size, Y: y}, face.Point{X: c.col + eyesAside*c.size, Y: y})
	return points, s, p.repetition()
}

// find finds the landmarks of the face that was cut out of img into p, from where
// its eyes may be in img. Pupils are looked for at a quarter of the window's size.
func (l *Landmarker) find(img gray, p *patch, leftEye, rightEye face.Point) (face.Landmarks, spreads) {
	at := func(q face.Point) guess {
		row, col := p.fromImage(q)
		return guess{row, col, float32(0.25 * patchWindow)}
	}
	left, leftSpread := l.eye.find(at(leftEye), &p.pix, fixedJitter)
	right, rightSpread := l.eye.find(at(rightEye), &p.pix, fixedJitter)

	rest := belowEyes(left, right)
	nose, noseSpread := l.nose.find(rest, &p.pix, fixedJitter)
	mouthLeft, mouthLeftSpread := l.mouthLeft.find(rest, &p.pix, fixedJitter)
	mouthRight, mouthRightSpread := l.mouthRight.find(rest, &p.pix, fixedJitter)

	point := func(g guess) face.Point {
		q := p.toImage(g)
		return face.Point{X: min(max(q.X, 0), float64(img.width-1)), Y: min(max(q.Y, 0), float64(img.height-1))}
	}
	part := func(s float32) float64 { return float64(s) / patchWindow }
	return face.Landmarks{
			LeftEye: point(left), RightEye: point(right), Nose: point(nose),
			MouthLeft: point(mouthLeft), MouthRight: point(mouthRight),
		}, spreads{
			part(leftSpread), part(rightSpread), part(noseSpread),
			part(mouthLeftSpread), part(mouthRightSpread),
		}
}
