package landmark

import (
	"image"
	"math"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/luma"
)

// TestRefineFinite checks that landmarks are finite for any finite eyes, and that
// nothing panics for others.
func TestRefineFinite(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	values := []float64{
		0, 50, 50 + 1e-12, 1e-160, math.SmallestNonzeroFloat64, -1e12, 1e30, math.MaxFloat64,
		math.NaN(), math.Inf(-1),
	}
	const notFinite = 2 // number of values at the end that are not finite
	gray := image.NewGray(image.Rect(0, 0, 100, 80))
	for i := range gray.Pix {
		gray.Pix[i] = uint8(i * 7)
	}
	for _, img := range []luma.Plane{luma.Of(gray, nil), luma.Of(image.NewGray(image.Rect(0, 0, 1, 1)), nil), {}} {
		for i := range len(values) * len(values) * len(values) * len(values) {
			var at [4]int
			numbers := true
			for k, rest := 0, i; k < len(at); k, rest = k+1, rest/len(values) {
				at[k] = rest % len(values)
				numbers = numbers && at[k] < len(values)-notFinite
			}
			left, right := face.Point{X: values[at[0]], Y: values[at[1]]}, face.Point{X: values[at[2]], Y: values[at[3]]}
			refined, spread := l.Refine(img, face.Landmarks{LeftEye: left, RightEye: right})
			if !numbers {
				continue
			}
			for _, p := range []face.Point{refined.LeftEye, refined.RightEye, refined.Nose, refined.MouthLeft, refined.MouthRight} {
				if p.X*0 != 0 || p.Y*0 != 0 { // NaN for NaN and infinite values
					t.Fatalf("eyes at %v and %v become %+v", left, right, refined)
				}
			}
			if math.IsNaN(spread) || spread < 0 {
				t.Fatalf("eyes at %v and %v have a spread of %v", left, right, spread)
			}
		}
	}
}
