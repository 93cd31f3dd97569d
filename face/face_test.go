package face_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/mienproject/mien/face"
)

func TestIoU(t *testing.T) {
	a := face.Box{MinX: 0, MinY: 0, MaxX: 10, MaxY: 10}
	for _, c := range []struct {
		name string
		b    face.Box
		want float64
	}{
		{"itself", a, 1},
		{"half to the right", face.Box{MinX: 5, MinY: 0, MaxX: 15, MaxY: 10}, 50.0 / 150},
		{"inside", face.Box{MinX: 2, MinY: 2, MaxX: 7, MaxY: 6}, 0.2},
		{"touching", face.Box{MinX: 10, MinY: 0, MaxX: 20, MaxY: 10}, 0},
		{"apart", face.Box{MinX: 50, MinY: 50, MaxX: 60, MaxY: 60}, 0},
		{"turned inside out", face.Box{MinX: 10, MinY: 10, MaxX: 0, MaxY: 0}, 0},
		{"a point", face.Box{MinX: 3, MinY: 3, MaxX: 3, MaxY: 3}, 0},
	} {
		if got := face.IoU(a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if face.IoU(a, c.b) != face.IoU(c.b, a) {
			t.Errorf("%s: not symmetric", c.name)
		}
	}
	if got := face.IoU(face.Box{}, face.Box{}); got != 0 {
		t.Errorf("two points: %v, want 0", got)
	}
}

func TestClamp(t *testing.T) {
	got := face.Box{MinX: -5, MinY: 3, MaxX: 50, MaxY: 900}.Clamp(40, 30)
	if want := (face.Box{MinX: 0, MinY: 3, MaxX: 40, MaxY: 30}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestCompareOrdersEveryPair(t *testing.T) {
	at := func(confidence, x, y, size float64) face.Face {
		return face.Face{Confidence: confidence, Box: face.Box{MinX: x, MinY: y, MaxX: x + size, MaxY: y + size}}
	}
	want := []face.Face{
		at(.9, 5, 5, 3), at(.9, 5, 5, 4), at(.9, 6, 5, 3), at(.9, 0, 7, 3), at(.2, 0, 0, 1),
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, face.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSuppress(t *testing.T) {
	at := func(confidence, x float64) face.Face {
		return face.Face{Confidence: confidence, Box: face.Box{MinX: x, MaxX: x + 10, MaxY: 10}}
	}
	// 0 and 2 are the same face. 4 overlaps only a dropped one, and stays.
	same := func(a, b *face.Face) bool { return face.IoU(a.Box, b.Box) > 0.5 }
	got, err := face.Suppress(t.Context(), []face.Face{at(.5, 100), at(.7, 2), at(.9, 0), at(.6, 4)}, face.Compare, same)
	if want := []face.Face{at(.9, 0), at(.6, 4), at(.5, 100)}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if got, err := face.Suppress(t.Context(), nil, face.Compare, same); err != nil || len(got) != 0 {
		t.Errorf("%v, %v from nothing", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := face.Suppress(ended, []face.Face{at(.5, 100)}, face.Compare, same); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("%v, %v once the context has ended", got, err)
	}
}

// TestIoUAbove compares it with IoU, for limits that are not negative.
func TestIoUAbove(t *testing.T) {
	boxes := []face.Box{{}, {MaxX: 10, MaxY: 10}, {MinX: 5, MaxX: 15, MaxY: 10}, {MinX: 10, MaxX: 20, MaxY: 10}, {MinX: 2, MinY: 2, MaxX: 8, MaxY: 8}, {MinX: 9, MinY: 9, MaxX: 1, MaxY: 1}}
	for _, a := range boxes {
		for _, b := range boxes {
			for _, limit := range []float64{0, 0.2, 1. / 3, 0.36, 0.9} {
				if got, want := face.IoUAbove(a, b, limit), face.IoU(a, b) > limit; got != want {
					t.Errorf("%v and %v above %v: %t, want %t", a, b, limit, got, want)
				}
			}
		}
	}
}
