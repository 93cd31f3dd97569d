package annotate

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mienproject/mien/face"
)

func place(width, height int, faces ...face.Face) []mark {
	bounds := image.Rect(0, 0, width, height)
	marks := measure(bounds, faces)
	placeLabels(bounds, marks)
	return marks
}

func at(x, y, side float64) face.Face {
	return face.Face{Box: face.Box{MinX: x, MinY: y, MaxX: x + side, MaxY: y + side}, Confidence: .97}
}

func TestLabelPlace(t *testing.T) {
	for _, tc := range []struct {
		name          string
		width, height int
		faces         []face.Face
		want          string // where the first face's label is
	}{
		{"room everywhere", 640, 480, []face.Face{at(100, 100, 60)}, "above"},
		{"at the top", 640, 480, []face.Face{at(100, 0, 60)}, "below"},
		{"at the top right", 640, 480, []face.Face{at(580, 0, 60)}, "below"},
		{"at the bottom", 640, 480, []face.Face{at(100, 420, 60)}, "above"},
		{"the whole image", 640, 480, []face.Face{at(0, 0, 640)}, "inside"},
		{"a face above", 640, 480, []face.Face{at(100, 100, 60), at(100, 30, 60)}, "below"},
		{"a face on the left above", 640, 480, []face.Face{at(100, 100, 60), at(50, 30, 60)}, "above"},
		{"faces above and below", 640, 480, []face.Face{at(100, 100, 60), at(100, 30, 60), at(100, 170, 60)}, "inside"},
		{"small faces above and below", 640, 480, []face.Face{at(100, 100, 30), at(100, 65, 30), at(100, 135, 30)}, ""},
		{"within a face", 640, 480, []face.Face{at(200, 200, 60), at(100, 100, 300)}, ""},
		{"a large face with one within", 640, 480, []face.Face{at(0, 0, 480), at(3, 3, 100)}, "inside"},
		{"too small", 640, 480, []face.Face{at(100, 100, 12)}, ""},
		{"too small an image", 12, 12, []face.Face{at(0, 0, 12)}, ""},
		{"a tiny image", 64, 64, []face.Face{at(22, 30, 20)}, "above"},
		{"a huge image", 8000, 6000, []face.Face{at(2000, 3000, 500)}, "above"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := place(tc.width, tc.height, tc.faces...)[0]
			got := ""
			switch o := m.outer; {
			case m.label.Empty():
			case m.label.In(o):
				got = "inside"
			case m.label.Max.Y <= o.Min.Y+m.rim:
				got = "above"
			case m.label.Min.Y >= o.Max.Y-m.rim:
				got = "below"
			}
			if got != tc.want {
				t.Errorf("%q: %v at %v, want %q", got, m.label, m.outer, tc.want)
			}
		})
	}
}

// TestLabelsApart checks that labels in crowds do not overlap faces or other labels.
func TestLabelsApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, size := range []image.Point{{64, 64}, {640, 480}, {1000, 300}, {3000, 4000}} {
		for n := 1; n <= 1000; n *= 10 {
			faces := make([]face.Face, n)
			for i := range faces {
				side := 10 + rng.Float64()*float64(size.X)/8
				faces[i] = at(rng.Float64()*float64(size.X), rng.Float64()*float64(size.Y), side)
			}
			marks := place(size.X, size.Y, faces...)
			for i, m := range marks {
				if m.label.Empty() {
					continue
				}
				if !m.label.In(image.Rectangle{Max: size}) || m.label.Dx() > m.outer.Dx() || m.digits < minDigits {
					t.Errorf("%v: label %v of %v", size, m.label, m.outer)
				}
				for j, other := range marks {
					if i != j && (m.label.Overlaps(other.label) || m.label.Overlaps(other.outer)) {
						t.Errorf("%v: label %v of face %d is on face %d: %v, label %v", size, m.label, i, j, other.outer, other.label)
					}
				}
			}
		}
	}
}

func TestPercent(t *testing.T) {
	for confidence, want := range map[float64]string{
		0: "0%", .004: "0%", .29: "29%", .57: "57%", .978: "97%", .9998: "99%", 1: "100%",
		-1: "0%", 7: "100%", math.Inf(1): "100%", math.NaN(): "0%",
	} {
		if got := percent(confidence); got != want {
			t.Errorf("%v: %q, want %q", confidence, got, want)
		}
	}
}
