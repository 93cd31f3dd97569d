package facetest

import (
	"math"
	"testing"

	"github.com/mienproject/mien/face"
)

func TestCurve(t *testing.T) {
	at := func(x, side float64) face.Box { return face.Box{MinX: x, MaxX: x + side, MaxY: side} }
	photos := []Photo{{Faces: []Label{
		{Box: at(0, 20)},
		{Box: at(100, 20), Level: 2},
		{Box: at(200, 20), Level: 1},
		{Box: at(300, 15)},
		{Box: at(400, 20), Level: Ignore},
	}}, {}}
	found := [][]face.Face{{
		{Box: at(0, 20), Confidence: .9},
		{Box: at(300, 15), Confidence: .8}, // too small to count
		{Box: at(400, 20), Confidence: .8}, // too small to count
		{Box: at(500, 20), Confidence: .7}, // false
		{Box: at(100, 20), Confidence: .6},
		{Box: at(1, 20), Confidence: .4}, // false: the label already has a face
	}, {
		{Box: at(0, 20), Confidence: .6}, // false
	}}
	c := NewCurve(photos, found)
	for _, want := range []struct{ minConfidence, recall, falseFaces float64 }{
		{1, 0, 0}, {.9, 1. / 3, 0}, {.7, 1. / 3, .5}, {.6, 2. / 3, 1}, {0, 2. / 3, 1.5},
	} {
		if recall, falseFaces := c.At(want.minConfidence); math.Abs(recall-want.recall) > 1e-9 || falseFaces != want.falseFaces {
			t.Errorf("at %v: recall %v and %v false faces, want %v and %v", want.minConfidence, recall, falseFaces, want.recall, want.falseFaces)
		}
	}
	for maxFalse, want := range map[float64]float64{0: 1. / 3, .5: 1. / 3, 1: 2. / 3, 9: 2. / 3} {
		if got := c.RecallAt(maxFalse); math.Abs(got-want) > 1e-9 {
			t.Errorf("recall at %v false faces: %v, want %v", maxFalse, got, want)
		}
	}
	for maxFalse, want := range map[float64]float64{0: .71, .5: .61, 1: .41, 9: 0} {
		if got := c.LowestCut(maxFalse); got != want {
			t.Errorf("lowest cut with %v false faces an image: %v, want %v", maxFalse, got, want)
		}
	}
}
