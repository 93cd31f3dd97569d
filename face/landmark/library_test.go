//go:debug randseednop=0
package landmark

// The library's random source can be seeded only with the setting above.

import (
	"errors"
	"math/rand"
	"slices"
	"testing"

	pigo "github.com/esimov/pigo/core"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/luma"
)

// TestLandmarksAreTheLibrarys compares the landmarks with the library's for the same
// perturbations.
func TestLandmarksAreTheLibrarys(t *testing.T) {
	var p patch
	p.cut(luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg"), nil), face.Point{X: 157, Y: 211}, face.Point{X: 255})
	img := pigo.ImageParams{Pixels: p.pix[:], Rows: patchSide, Cols: patchSide, Dim: luma.TileStride}
	for _, c := range []struct {
		name   string
		data   []byte
		mirror bool
		start  pigo.Puploc
	}{
		{"left pupil", eyeCascade, false, pigo.Puploc{Row: 62, Col: 56, Scale: 24}},
		{"right pupil", eyeCascade, false, pigo.Puploc{Row: 61, Col: 89, Scale: 24}},
		{"nose", noseCascade, false, pigo.Puploc{Row: 70, Col: 77, Scale: 99}},
		{"mouth", mouthCascade, false, pigo.Puploc{Row: 70, Col: 77, Scale: 99}},
		{"mouth, mirrored", mouthCascade, true, pigo.Puploc{Row: 70, Col: 77, Scale: 99}},
		{"outside", mouthCascade, true, pigo.Puploc{Row: 140, Col: 139, Scale: 110}},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs, err := pigo.NewPuplocCascade().UnpackCascade(c.data)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := parseCascade(c.data)
			if err != nil {
				t.Fatal(err)
			}
			if c.mirror {
				ours = ours.mirrored()
			}
			for seed := range int64(20) {
				// The order in which the library takes random numbers.
				random := rand.New(rand.NewSource(seed))
				j := make(jitter, 63)
				for i := range j {
					for k := range j[i] {
						j[i][k] = random.Float32()
					}
				}
				rand.Seed(seed) //nolint:staticcheck // the random source of the library
				c.start.Perturbs = len(j)
				want := theirs.RunDetector(c.start, img, 0, c.mirror)
				got, _ := ours.find(guess{float32(c.start.Row), float32(c.start.Col), c.start.Scale}, &p.pix, j)
				if int(got.row) != want.Row || int(got.col) != want.Col || got.scale != want.Scale {
					t.Fatalf("seed %d: %+v, the library finds %+v", seed, got, *want)
				}
			}
		})
	}
}

// TestLatticesAreEven checks that perturbations have no bias, which would move every
// landmark.
func TestLatticesAreEven(t *testing.T) {
	for _, j := range []jitter{manyWalks, fewWalks} {
		if len(j)%4 != 0 || len(j) > maxPerturbations {
			t.Errorf("%d walks", len(j))
		}
		for k := range 3 {
			var values []float32
			for _, u := range j {
				values = append(values, u[k])
			}
			slices.Sort(values)
			for i, v := range values {
				if want := (float32(i) + 0.5) / float32(len(j)); v != want {
					t.Errorf("%d walks, axis %d: %v in place %d, want %v", len(j), k, v, i, want)
				}
			}
		}
	}
}

func FuzzParseCascade(f *testing.F) {
	f.Add(mouthCascade[:16])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 63, 1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	var p patch
	p.cut(luma.Of(facetest.Noise(400, 300), nil), face.Point{X: 200, Y: 150}, face.Point{X: 100})
	f.Fuzz(func(_ *testing.T, data []byte) {
		c, err := parseCascade(data)
		if err != nil {
			return
		}
		// Whatever its leaves are, it must stay within the image.
		c.find(guess{120, 115, 30}, &p.pix, manyWalks)
		c.find(guess{-1e9, 15, 300}, &p.pix, manyWalks)
	})
}

// BenchmarkLandmarks measures the five landmarks of a face, by the library and by this
// package.
func BenchmarkLandmarks(b *testing.B) {
	l, err := New()
	if err != nil {
		b.Fatal(err)
	}
	img := luma.Of(facetest.Decode(b, "../../service/selftest/sample.jpg"), nil)
	params := pigo.ImageParams{Pixels: img.Pix, Rows: img.Height, Cols: img.Width, Dim: img.Stride}
	eye, err1 := pigo.NewPuplocCascade().UnpackCascade(eyeCascade)
	nose, err2 := pigo.NewPuplocCascade().UnpackCascade(noseCascade)
	mouth, err3 := pigo.NewPuplocCascade().UnpackCascade(mouthCascade)
	if err := errors.Join(err1, err2, err3); err != nil {
		b.Fatal(err)
	}
	b.Run("by=library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			at := func(row, col int) *pigo.Puploc {
				return eye.RunDetector(pigo.Puploc{Row: row, Col: col, Scale: 64, Perturbs: 63}, params, 0, false)
			}
			left, right := at(192, 112), at(192, 202)
			nose.GetLandmarkPoint(left, right, params, 63, false)
			mouth.GetLandmarkPoint(left, right, params, 63, false)
			mouth.GetLandmarkPoint(left, right, params, 63, true)
		}
	})
	b.Run("by=mien", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Find(img, face.Point{X: 157, Y: 211}, 255)
		}
	})
}
