// Package landmark finds the five landmarks of faces with the cascades of regression
// trees of github.com/esimov/pigo, in a deterministic way.
package landmark

import (
	_ "embed" // for the cascades
	"fmt"
	"math"
	"sync"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/luma"
	"github.com/mienproject/mien/internal/exact"
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
// immutable and therefore safe for concurrent use.
type Landmarker struct {
	eye, nose, mouthLeft, mouthRight *cascade

	patches sync.Pool // contains *patch
}

// New parses the embedded cascades. An error means that the binary is broken.
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

// Refine finds the landmarks of a face whose eyes are near those of rough, in pixels
// relative to the image's bounds. spread is how far apart the walks for a landmark end,
// on average over the five, relative to the size of the face's window: about .01 for an
// upright face. Above .05, do not trust the landmarks. If the eyes are at the same
// point, far outside of any image, or not numbers, rough is returned, and spread is
// infinite.
func (l *Landmarker) Refine(img luma.Plane, rough face.Landmarks) (refined face.Landmarks, spread float64) {
	// Pupils lie 0.35 window sizes apart.
	// The upper side of the window is parallel to the line between the eyes.
	const eyeDistance = 0.35
	across := face.Point{X: (rough.RightEye.X - rough.LeftEye.X) / eyeDistance, Y: (rough.RightEye.Y - rough.LeftEye.Y) / eyeDistance}
	size := exact.Hypot(across.X, across.Y)
	middle := face.Point{X: float64((rough.LeftEye.X + rough.RightEye.X) / 2), Y: float64((rough.LeftEye.Y + rough.RightEye.Y) / 2)}
	const maxSize = 1 << 30 // in pixels; 64 bits can hold this in units of 1/65536 pixel
	if !(size >= 1 && size <= maxSize && max(math.Abs(middle.X), math.Abs(middle.Y)) <= maxSize) || img.Width == 0 {
		return rough, math.Inf(1)
	}
	p := l.patches.Get().(*patch)
	defer l.patches.Put(p)
	p.cut(img, face.Point{X: middle.X - float64(eyesAbove*across.Y), Y: middle.Y + float64(eyesAbove*across.X)}, across)
	refined, s := l.find(img, p, rough.LeftEye, rough.RightEye, fewWalks)
	return refined, (s.LeftEye + s.RightEye + s.Nose + s.MouthLeft + s.MouthRight) / 5
}

// Spreads has, for each of the five landmarks, how far apart its perturbed walks end,
// relative to the size of the window. On a face the walks agree.
type Spreads struct{ LeftEye, RightEye, Nose, MouthLeft, MouthRight float64 }

// Found is the result of Find.
type Found struct {
	Landmarks face.Landmarks
	Spreads   Spreads
	// Repetition is how much the window repeats itself at distances of up to half its
	// size: 1 for perfect stripes and checks, 0.4 to 1 for checked cloth, and 0.2 to
	// 0.5 for faces.
	Repetition float64
}

// eyesAbove and eyesAside are the distances from the middle of a window at which the
// library starts its search for the pupils, relative to the size of the window.
const (
	eyesAbove = 0.075
	eyesAside = 0.175
)

// Find finds the landmarks of the face in an upright square window of size pixels
// around center, in the coordinate frame of landmarks.
func (l *Landmarker) Find(img luma.Plane, center face.Point, size float64) Found {
	p := l.patches.Get().(*patch)
	defer l.patches.Put(p)
	p.cut(img, center, face.Point{X: size})
	y, aside := center.Y-float64(eyesAbove*size), float64(eyesAside*size)
	points, s := l.find(img, p, face.Point{X: center.X - aside, Y: y}, face.Point{X: center.X + aside, Y: y}, manyWalks)
	return Found{points, s, p.repetition()}
}

// find finds the landmarks of the face that was cut out of img into p, starting at the
// possible positions of its eyes in img. The search for pupils has a scale of a quarter
// of the window's size.
func (l *Landmarker) find(img luma.Plane, p *patch, leftEye, rightEye face.Point, j jitter) (face.Landmarks, Spreads) {
	at := func(q face.Point) guess {
		row, col := p.fromImage(q)
		return guess{row, col, float32(0.25 * patchWindow)}
	}
	left, leftSpread := l.eye.find(at(leftEye), &p.pix, j)
	right, rightSpread := l.eye.find(at(rightEye), &p.pix, j)

	rest := belowEyes(left, right)
	nose, noseSpread := l.nose.find(rest, &p.pix, j)
	mouthLeft, mouthLeftSpread := l.mouthLeft.find(rest, &p.pix, j)
	mouthRight, mouthRightSpread := l.mouthRight.find(rest, &p.pix, j)

	point := func(g guess) face.Point {
		q := p.toImage(g)
		return face.Point{X: min(max(q.X, 0), float64(img.Width-1)), Y: min(max(q.Y, 0), float64(img.Height-1))}
	}
	part := func(s float32) float64 { return float64(s) / patchWindow }
	landmarks := face.Landmarks{
		LeftEye: point(left), RightEye: point(right), Nose: point(nose),
		MouthLeft: point(mouthLeft), MouthRight: point(mouthRight),
	}
	return landmarks, Spreads{
		part(leftSpread), part(rightSpread), part(noseSpread),
		part(mouthLeftSpread), part(mouthRightSpread),
	}
}
