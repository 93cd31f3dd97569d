package main

import (
	"cmp"
	"slices"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// A curve is what is found, rightly and falsely, at each confidence.
type curve struct {
	ranked        []ranked // by falling confidence
	faces, photos float64
}

// ranked is one found face. Those at labels that count neither way are left out.
type ranked struct {
	confidence float64
	right      bool
}

// countedFrom is the longer side, in pixels, of the smallest labelled face that
// recall counts; smaller ones count neither way.
const countedFrom = 16

// newCurve ranks all found faces together, found[i] being those in photos[i]. A
// face is right at an IoU of at least 0.5 with a label of any level.
func newCurve(photos []facetest.Photo, found [][]face.Face) curve {
	counts := func(l facetest.Label) bool {
		return l.Level < facetest.Ignore && max(l.Box.Width(), l.Box.Height()) >= countedFrom
	}
	c := curve{photos: float64(len(photos))}
	for i, p := range photos {
		for _, l := range p.Faces {
			if counts(l) {
				c.faces++
			}
		}
		for k, m := range facetest.Match(found[i], p.Faces, 0.5) {
			if m < 0 || counts(p.Faces[m]) {
				c.ranked = append(c.ranked, ranked{found[i][k].Confidence, m >= 0})
			}
		}
	}
	slices.SortStableFunc(c.ranked, func(a, b ranked) int { return cmp.Compare(b.confidence, a.confidence) })
	return c
}

// at returns the part of the counted faces that is found with a confidence of at
// least least, and the false faces an image.
func (c curve) at(least float64) (recall, falseFaces float64) {
	var right, wrong float64
	for _, r := range c.ranked {
		if r.confidence < least {
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

// recallAt is the recall down to the confidence at which the false faces an image
// first exceed most.
func (c curve) recallAt(most float64) float64 {
	best := 0.0
	for _, r := range c.ranked {
		recall, falseFaces := c.at(r.confidence)
		if falseFaces > most {
			break
		}
		best = recall
	}
	return best
}
