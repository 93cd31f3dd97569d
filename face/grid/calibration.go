package grid

// Confidence is a logistic regression on the logit of a network's raw score, fitted by
// TestCalibrate on the subsets in which all faces are labeled. The default minimum is
// the lowest at which no network of the family finds more false faces than MTCNN does
// at its own default (TestAccuracyOfDefaults).
const (
	yunetIntercept, yunetSlope, yunetMinConfidence = -0.680, 2.009, 0.86
	scrfdIntercept, scrfdSlope, scrfdMinConfidence = 2.203, 3.243, 0.82
)
