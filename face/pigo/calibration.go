package pigo

import (
	"math"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
)

// Geometry and confidence, fitted on labeled faces: docs/calibration.md says on
// which, how well they do, and the command that fits them again. They belong to
// the parameters of the scan.

// The box of a face in parts of the window's size: people label from the
// forehead to the chin, and the cascade's window is a square around that.
const (
	boxWidth  = 0.766
	boxHeight = 0.985
	boxDown   = 0.029 // how far the box's center lies below the window's
	// longerSide is what face.Options.MinFaceSize counts.
	longerSide = boxHeight
)

// box returns where the face in c is.
func (c cluster) box() face.Box {
	// A cluster has the number of the pixel that it is in the middle of.
	x, y := c.col+0.5, c.row+0.5+boxDown*c.size
	w, h := boxWidth*c.size/2, boxHeight*c.size/2
	return face.Box{MinX: x - w, MinY: y - h, MaxX: x + w, MaxY: y + h}
}

// evidence is what the confidence is computed from.
type evidence [6]float64

// evidenceOf returns the evidence that c is a face: its score and how well the
// landmarks' walks agree, as logarithms, and how much its pixels repeat
// themselves.
func evidenceOf(c cluster, f landmark.Found) evidence {
	// A tenth of a percent of the face is as good as perfect.
	const floor = 1e-3
	s := f.Spreads
	return evidence{
		1,
		math.Log(c.score),
		math.Log(s.LeftEye + s.RightEye + floor),
		math.Log(s.Nose + floor),
		math.Log(s.MouthLeft + s.MouthRight + floor),
		f.Repetition * f.Repetition,
	}
}

// weights is a logistic regression on evidenceOf.
var weights = evidence{-9.791, 0.895, -0.710, -0.950, -0.645, -8.590}

// defaultMinConfidence is the lowest at which this detector shows no more false faces
// an image than MTCNN does at its own default (face/networks, TestAccuracyOfDefaults), and
// 0.04 more: up to 0.38 it would show a fifth face among the four people of the image
// that the old system's client sends.
const defaultMinConfidence = 0.4

// confidence returns the probability that a candidate with this evidence is a face.
func confidence(e evidence) float64 {
	var z float64
	for i, v := range e {
		z += weights[i] * v
	}
	return 1 / (1 + math.Exp(-z))
}

// The same for Reference: a logistic regression on the logarithm of the score.
const (
	referenceIntercept, referenceSlope = -2.563, 1.230
	referenceMinConfidence             = 0.39 // as defaultMinConfidence
)

func referenceConfidence(c cluster) float64 {
	return 1 / (1 + math.Exp(-referenceIntercept-referenceSlope*math.Log(c.score)))
}
