package onnx

// Confidence is a logistic regression on the logit of a network's raw score,
// fitted by TestCalibrate on the subsets whose faces are all labelled. The
// default minimum leaves about one false face in ten pictures without any.
const (
	yunetIntercept, yunetSlope, yunetMinConfidence = -0.667, 1.992, 0.91
	scrfdIntercept, scrfdSlope, scrfdMinConfidence = 2.203, 3.243, 0.9
)
