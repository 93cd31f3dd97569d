package landmark

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/luma"
)

// TestRepetition checks that a pattern with a period of up to half the window repeats
// itself completely, whatever its contrast, by the definition of an autocorrelation,
// and that patterns without a period hardly do.
func TestRepetition(t *testing.T) {
	wave := func(period, angle, contrast float64) func(x, y float64) float64 {
		sin, cos := math.Sincos(angle)
		return func(x, y float64) float64 { return 128 + contrast*math.Sin((x*cos+y*sin)*2*math.Pi/period) }
	}
	both := func(a, b func(x, y float64) float64) func(x, y float64) float64 {
		return func(x, y float64) float64 { return (a(x, y) + b(x, y)) / 2 }
	}
	noise := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name     string
		at       func(x, y float64) float64 // brightness at a pixel of a window of 96
		min, max float64
	}{
		{"flat", func(_, _ float64) float64 { return 77 }, 0, 0},
		{"noise", func(_, _ float64) float64 { return 255 * noise.Float64() }, 0, 0.4},
		{"one spot", func(x, y float64) float64 { return 200 * math.Exp(-((x-40)*(x-40)+(y-50)*(y-50))/200) }, 0, 0.2},
		{"upright stripes", wave(24, 0, 100), 0.9, 1.2},
		{"level stripes", wave(24, math.Pi/2, 100), 0.9, 1.2},
		{"slanted stripes of little contrast", wave(20, 0.7, 10), 0.85, 1.2},
		{"checks", both(wave(16, 0.1, 100), wave(20, 1.7, 100)), 0.75, 1.2},
		{"wide checks", both(wave(40, 0.1, 100), wave(36, 1.7, 100)), 0.75, 1.2},
	} {
		p := new(patch)
		for row := range patchSide {
			for col := range patchSide {
				p.pix[row*luma.TileStride+col] = uint8(c.at(float64(col), float64(row)))
			}
		}
		if got := p.repetition(); got < c.min || got > c.max {
			t.Errorf("%s: %.3f, want %.2f to %.2f", c.name, got, c.min, c.max)
		}
	}
	img := luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg"), nil)
	p := new(patch)
	p.cut(img, face.Point{X: 157, Y: 211}, face.Point{X: 255})
	if got := p.repetition(); got > 0.45 {
		t.Errorf("a face: %.3f, want at most .45, as for 94 of 100 faces", got)
	}
}

// BenchmarkRepetition measures the time that it adds to each candidate.
func BenchmarkRepetition(b *testing.B) {
	img := luma.Of(facetest.Decode(b, "../../service/selftest/sample.jpg"), nil)
	p := new(patch)
	p.cut(img, face.Point{X: 157, Y: 211}, face.Point{X: 255})
	b.ReportAllocs()
	for b.Loop() {
		p.repetition()
	}
}
