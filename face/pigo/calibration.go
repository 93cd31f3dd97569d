package pigo

import (
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
	"github.com/mienproject/mien/internal/exact"
)

// Geometry and confidence, fitted on labeled faces. docs/calibration.md says on which,
// how precise they are, and which command fits them again. They depend on the
// parameters of the scan.

// The box of a face relative to the size of the window. People label faces from the
// forehead to the chin; the cascade's window is a square around that.
const (
	boxWidth  = 0.766
	boxHeight = 0.985
	boxDown   = 0.029 // how far the center of the box is below that of the window
	// longerSide is what face.Options.MinFaceSize limits.
	longerSide = boxHeight
)

// box returns the box of the face in c.
func (c cluster) box() face.Box {
	// The position of a cluster is the number of a pixel, and means the middle of that
	// pixel.
	x, y := c.col+0.5, c.row+0.5+float64(boxDown*c.size)
	w, h := float64(boxWidth*c.size/2), float64(boxHeight*c.size/2)
	return face.Box{MinX: x - w, MinY: y - h, MaxX: x + w, MaxY: y + h}
}

// evidence has the inputs of the confidence.
type evidence [6]float64

// evidenceOf returns the evidence that c is a face: its score and the agreement of the
// landmarks' walks, both as logarithms, and how much its pixels repeat themselves.
func evidenceOf(c cluster, f landmark.Found) evidence {
	// A spread below a tenth of a percent of the face counts as that.
	const floor = 1e-3
	s := f.Spreads
	return evidence{
		1,
		exact.Log(c.score),
		exact.Log(s.LeftEye + s.RightEye + floor),
		exact.Log(s.Nose + floor),
		exact.Log(s.MouthLeft + s.MouthRight + floor),
		f.Repetition * f.Repetition,
	}
}

// weights is a logistic regression on evidenceOf.
var weights = evidence{-9.791, 0.895, -0.710, -0.950, -0.645, -8.590}

// defaultMinConfidence is the lowest confidence at which this detector finds no more
// false faces per image than MTCNN does at its own default (face/networks,
// TestAccuracyOfDefaults), plus 0.04: up to 0.38 it would find a fifth face among the
// four people in the image that the old system's client sends.
const defaultMinConfidence = 0.4

// confidence returns the probability that a candidate with this evidence is a face.
func confidence(e evidence) float64 {
	var z float64
	for i, v := range e {
		z += float64(weights[i] * v)
	}
	return exact.Logistic(z)
}

// The same for Reference: a logistic regression on the logarithm of the score.
const (
	referenceIntercept, referenceSlope = -2.563, 1.230
	referenceMinConfidence             = 0.39 // chosen like defaultMinConfidence
)

func referenceConfidence(c cluster) float64 {
	return exact.Logistic(referenceIntercept + float64(referenceSlope*exact.Log(c.score)))
}
