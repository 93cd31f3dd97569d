// Package landmark finds the five landmarks of faces: the cascades of regression trees of
// github.com/esimov/pigo, walked the same way every time.
package landmark

import (
	_ "embed" // the cascades
	"fmt"
	"math"
	"sync"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/luma"
)

// The cascades are those of github.com/esimov/pigo v1.4.6, MIT licensed; see
// cascade/LICENSE. They are copied because go:embed does not reach into another
// module.
var (
	//go:embed cascade/puploc
	eyeCascade []byte
	//go:embed cascade/lp93
	noseCascade []byte
	//go:embed cascade/lp84
	mouthCascade []byte
)

// Landmarker finds the five landmarks of faces that a detector has found. It is
// immutable, and so safe for concurrent use.
type Landmarker struct {
	eye, nose, mouthLeft, mouthRight *cascade

	patches sync.Pool // of *patch
}

// New unpacks the embedded cascades. An error means that the binary is
// broken.
func New() (*Landmarker, error) {
	l := &Landmarker{}
	l.patches.New = func() any { return new(patch) }
	for _, c := range []struct {
		name string
		data []byte
		into **cascade
	}{
		{"eye", eyeCascade, &l.eye},
		{"nose", noseCascade, &l.nose},
		{"mouth", mouthCascade, &l.mouthLeft},
	} {
		var err error
		if *c.into, err = parseCascade(c.data); err != nil {
			return nil, fmt.Errorf("landmark cascade: %s: %w", c.name, err)
		}
	}
	l.mouthRight = l.mouthLeft.mirrored()
	return l, nil
}

// Refine finds the landmarks of a face whose eyes are about where rough has them,
// in pixels relative to the image's bounds. spread is how far the walks of one
// landmark ended apart, in the mean over the five, as a part of the face's
// window: on an upright face about .01, and above .05 the landmarks are hardly
// to be trusted. Eyes in one place, far outside of any image, or that are not numbers
// stay where they are, as the other landmarks do, and spread is infinite.
func (l *Landmarker) Refine(img luma.Plane, rough face.Landmarks) (refined face.Landmarks, spread float64) {
	// Pupils lie 0.35 window sizes apart.
	size := math.Hypot(rough.RightEye.X-rough.LeftEye.X, rough.RightEye.Y-rough.LeftEye.Y) / 0.35
	middle := face.Point{X: (rough.LeftEye.X + rough.RightEye.X) / 2, Y: (rough.LeftEye.Y + rough.RightEye.Y) / 2}
	const maxSize = 1 << 30 // pixels, which 64 bits hold by their 65536th parts
	if !(size >= 1 && size <= maxSize && max(math.Abs(middle.X), math.Abs(middle.Y)) <= maxSize) || img.Width == 0 {
		return rough, math.Inf(1)
	}
	tilt := math.Atan2(rough.RightEye.Y-rough.LeftEye.Y, rough.RightEye.X-rough.LeftEye.X)
	sin, cos := math.Sincos(tilt)
	down := eyesAbove * size
	p := l.patches.Get().(*patch)
	defer l.patches.Put(p)
	p.cut(img, face.Point{
		X: middle.X - down*sin,
		Y: middle.Y + down*cos,
	}, size, tilt)
	refined, s := l.find(img, p, rough.LeftEye, rough.RightEye)
	return refined, (s.LeftEye + s.RightEye + s.Nose + s.MouthLeft + s.MouthRight) / 5
}

// Spreads is for each of the five landmarks how far its perturbed walks ended apart, as
// a part of the window's size. Walks on a face agree.
type Spreads struct{ LeftEye, RightEye, Nose, MouthLeft, MouthRight float64 }

// Found is what Find finds.
type Found struct {
	Landmarks face.Landmarks
	Spreads   Spreads
	// Repetition is how much the window repeats itself at a distance of up to half its
	// size: 1 for perfect stripes and checks, 0.4 to 1 on checked cloth, and 0.2 to 0.5
	// on faces.
	Repetition float64
}

// eyesAbove and eyesAside are how far from the middle of a window the library starts
// its search for the pupils, as parts of its size.
const (
	eyesAbove = 0.075
	eyesAside = 0.175
)

// Find finds the landmarks of the face in an upright square window of size pixels around
// center, in the frame of landmarks.
func (l *Landmarker) Find(img luma.Plane, center face.Point, size float64) Found {
	p := l.patches.Get().(*patch)
	defer l.patches.Put(p)
	p.cut(img, center, size, 0)
	y := center.Y - eyesAbove*size
	points, s := l.find(img, p, face.Point{X: center.X - eyesAside*size, Y: y}, face.Point{X: center.X + eyesAside*size, Y: y})
	return Found{points, s, p.repetition()}
}

// find finds the landmarks of the face that was cut out of img into p, from where
// its eyes may be in img. The search for pupils has a scale of a quarter of the window's size.
func (l *Landmarker) find(img luma.Plane, p *patch, leftEye, rightEye face.Point) (face.Landmarks, Spreads) {
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
		return face.Point{X: min(max(q.X, 0), float64(img.Width-1)), Y: min(max(q.Y, 0), float64(img.Height-1))}
	}
	part := func(s float32) float64 { return float64(s) / patchWindow }
	return face.Landmarks{
			LeftEye: point(left), RightEye: point(right), Nose: point(nose),
			MouthLeft: point(mouthLeft), MouthRight: point(mouthRight),
		}, Spreads{
			part(leftSpread), part(rightSpread), part(noseSpread),
			part(mouthLeftSpread), part(mouthRightSpread),
		}
}
