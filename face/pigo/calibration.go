package pigo

import (
	"math"

	"github.com/mienproject/mien/face"
)

// Geometry and confidence, fitted on labelled faces: docs/calibration.md tells on
// which, how well they do, and the command that fits them again. They belong to
// the parameters of the scan.

// The box of a face in parts of the window's size: people label from the
// forehead to the chin, and the cascade's window is a square around that.
const (
	boxWidth  = 0.766
	boxHeight = 0.985
	boxDown   = 0.029 // how far the box's centre lies below the window's
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

// evidenceOf is what the confidence is made of: the score, and how well the
// landmarks' walks agree (all as logarithms).
func evidenceOf(c cluster, s spreads) [5]float64 {
	// A tenth of a percent of the face is as good as perfect.
	const least = 1e-3
	return [...]float64{
		1,
		math.Log(c.score),
		math.Log(s.leftEye + s.rightEye + least),
		math.Log(s.nose + least),
		math.Log(s.mouthLeft + s.mouthRight + least),
	}
}

// weights is a logistic regression on evidenceOf.
var weights = [5]float64{-10.005, 0.881, -0.646, -0.674, -0.867}

// defaultMinConfidence leaves about one false face in ten pictures without any.
const defaultMinConfidence = 0.65

// confidence returns the probability that c is a face.
func confidence(c cluster, s spreads) float64 {
	var z float64
	for i, e := range evidenceOf(c, s) {
		z += weights[i] * e
	}
	return 1 / (1 + math.Exp(-z))
}

// The same for Reference: a logistic regression on the logarithm of the score.
const (
	referenceIntercept, referenceSlope = -2.563, 1.230
	referenceMinConfidence             = 0.7
)

func referenceConfidence(c cluster) float64 {
	return 1 / (1 + math.Exp(-referenceIntercept-referenceSlope*math.Log(c.score)))
}
