package facetest

import (
	"cmp"
	"slices"

	"github.com/mienproject/mien/face"
)

// A Curve has the numbers of true and false faces at each confidence.
type Curve struct {
	ranked        []ranked // by falling confidence
	faces, photos float64
}

// ranked is one found face. Faces at labels that do not count either way are left out.
type ranked struct {
	confidence float64
	right      bool
}

// CountedFrom is the longer side, in pixels, of the smallest labeled face that counts
// for recall. Smaller ones do not count either way.
const CountedFrom = 16

// NewCurve ranks all found faces together; found[i] are the faces in photos[i]. A face
// is correct if its IoU with a label of any level is at least 0.5.
func NewCurve(photos []Photo, found [][]face.Face) Curve {
	counts := func(l Label) bool {
		return l.Level < Ignore && max(l.Box.Width(), l.Box.Height()) >= CountedFrom
	}
	c := Curve{photos: float64(len(photos))}
	for i, p := range photos {
		for _, l := range p.Faces {
			if counts(l) {
				c.faces++
			}
		}
		for k, m := range Match(found[i], p.Faces, 0.5) {
			if m < 0 || counts(p.Faces[m]) {
				c.ranked = append(c.ranked, ranked{found[i][k].Confidence, m >= 0})
			}
		}
	}
	slices.SortStableFunc(c.ranked, func(a, b ranked) int { return cmp.Compare(b.confidence, a.confidence) })
	return c
}

// At returns the recall, which is the share of the counted faces that are found with at
// least minConfidence, and the number of false faces per image.
func (c Curve) At(minConfidence float64) (recall, falseFaces float64) {
	var right, wrong float64
	for _, r := range c.ranked {
		if r.confidence < minConfidence {
			break
		}
		if r.right {
			right++
		} else {
			wrong++
		}
	}
	return right / c.faces, wrong / c.photos
}

// RecallAt returns the recall down to the confidence at which the number of false faces
// per image first exceeds maxFalse.
func (c Curve) RecallAt(maxFalse float64) float64 {
	best := 0.0
	for _, r := range c.ranked {
		recall, falseFaces := c.At(r.confidence)
		if falseFaces > maxFalse {
			break
		}
		best = recall
	}
	return best
}

// LowestCut returns the lowest confidence, in hundredths, above which there are at most
// maxFalse false faces per image.
func (c Curve) LowestCut(maxFalse float64) float64 {
	for hundredths := range 100 {
		cut := float64(hundredths) / 100
		if _, falseFaces := c.At(cut); falseFaces <= maxFalse {
			return cut
		}
	}
	return 1
}

// DefaultsFrom are the subsets on which the default confidences of the models are
// chosen: those in which people have drawn a box around every face, and images without
// faces.
var DefaultsFrom = []string{"wider_val_orig", "wider_val_416", "face_mask", "negatives"}
