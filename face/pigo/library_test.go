// Seeding the library's random source works only with this.
//
//go:debug randseednop=0
package pigo

import (
	"errors"
	"image"
	"math/rand"
	"runtime"
	"slices"
	"testing"

	pigo "github.com/esimov/pigo/core"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestReferenceScanIsTheLibrarys compares the banded scan with one call of the
// library.
func TestReferenceScanIsTheLibrarys(t *testing.T) {
	r, err := NewReference()
	if err != nil {
		t.Fatal(err)
	}
	photo := luminance(facetest.Decode(t, "../../service/selftest/sample.jpg"))
	for _, c := range []struct {
		name     string
		img      gray
		smallest int
	}{
		{"photograph", photo, 20},
		{"photograph, larger faces", photo, 57},
		{"noise, wide", noise(1200, 90), 20},
		{"noise, many bands", noise(900, 700), 20},
		{"just a window", noise(22, 22), 20},
		{"less than a window", noise(21, 40), 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := libraryScan(t.Context(), r.faces, c.img, c.smallest)
			if err != nil {
				t.Fatal(err)
			}
			largest := min(c.img.width, c.img.height) - 2
			want := runCascade(r.faces, c.img, sizes{c.smallest, largest, shiftFactor, scaleFactor})
			if !slices.Equal(got, want) {
				t.Errorf("%d windows, the library finds %d", len(got), len(want))
			}
			if c.name == "photograph" && len(got) < 10 {
				t.Errorf("only %d windows on a face: nothing was compared", len(got))
			}
		})
	}
}

// TestClustersAreTheLibrarys compares what Reference finds with the library's two
// calls.
func TestClustersAreTheLibrarys(t *testing.T) {
	r, err := NewReference()
	if err != nil {
		t.Fatal(err)
	}
	photo := luminance(facetest.Decode(t, "../../service/selftest/sample.jpg"))
	for name, img := range map[string]gray{"photograph": photo, "half its size": photo.half(nil)} {
		t.Run(name, func(t *testing.T) {
			windows, err := libraryScan(t.Context(), r.faces, img, minWindow)
			if err != nil {
				t.Fatal(err)
			}
			got, err := libraryClusters(t.Context(), windows)
			if err != nil {
				t.Fatal(err)
			}
			found := r.faces.RunCascade(pigo.CascadeParams{
				MinSize: 20, MaxSize: 1000, ShiftFactor: 0.1, ScaleFactor: 1.1, ImageParams: params(img),
			}, 0)
			var want []cluster
			for _, d := range r.faces.ClusterDetections(found, 0.2) {
				want = append(want, cluster{float64(d.Row), float64(d.Col), float64(d.Scale), float64(d.Q)})
			}
			if !slices.Equal(got, want) || len(got) == 0 {
				t.Errorf("%v, the library has %v", got, want)
			}
		})
	}
}

// TestLandmarksAreTheLibrarys gives both the same perturbations.
func TestLandmarksAreTheLibrarys(t *testing.T) {
	var p patch
	p.cut(luminance(facetest.Decode(t, "../../service/selftest/sample.jpg")), face.Point{X: 157, Y: 211}, 255, 0)
	img := gray{p.pix[:], patchSide, patchSide, patchStride}
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
			ours, err := parseLandmarkCascade(c.data)
			if err != nil {
				t.Fatal(err)
			}
			if c.mirror {
				ours = ours.mirrored()
			}
			for seed := range int64(20) {
				// The order in which the library draws them.
				random := rand.New(rand.NewSource(seed))
				j := make(jitter, 63)
				for i := range j {
					for k := range j[i] {
						j[i][k] = random.Float32()
					}
				}
				rand.Seed(seed) //nolint:staticcheck // the source that the library draws from
				c.start.Perturbs = len(j)
				want := theirs.RunDetector(c.start, params(img), 0, c.mirror)
				got, _ := ours.find(guess{float32(c.start.Row), float32(c.start.Col), c.start.Scale}, &p.pix, j)
				if int(got.row) != want.Row || int(got.col) != want.Col || got.scale != want.Scale {
					t.Fatalf("seed %d: %+v, the library finds %+v", seed, got, *want)
				}
			}
		})
	}
}

// TestFixedJitterIsEven: perturbations that lean to a side would move every
// landmark.
func TestFixedJitterIsEven(t *testing.T) {
	for k := range 3 {
		var values []float32
		for _, u := range fixedJitter {
			values = append(values, u[k])
		}
		slices.Sort(values)
		for i, v := range values {
			if want := (float32(i) + 0.5) / perturbations; v != want {
				t.Errorf("axis %d: %v in place %d, want %v", k, v, i, want)
			}
		}
	}
}

func params(g gray) pigo.ImageParams {
	return pigo.ImageParams{Pixels: g.pix, Rows: g.height, Cols: g.width, Dim: g.stride}
}

// noise has windows that pass many trees, and some that pass all.
func noise(width, height int) gray {
	random := rand.New(rand.NewSource(1))
	img := image.NewGray(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = uint8(random.Intn(256))
	}
	return luminance(img)
}

func FuzzParseLandmarkCascade(f *testing.F) {
	f.Add(mouthCascade[:16])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 63, 1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	var p patch
	p.cut(noise(400, 300), face.Point{X: 200, Y: 150}, 100, 0)
	f.Fuzz(func(_ *testing.T, data []byte) {
		c, err := parseLandmarkCascade(data)
		if err != nil {
			return
		}
		// Whatever its leaves say, it has to stay within the image.
		c.find(guess{120, 115, 30}, &p.pix, fixedJitter)
		c.find(guess{-1e9, 15, 300}, &p.pix, fixedJitter)
	})
}

// BenchmarkLandmarks is the five landmarks of a face, by the library and by this
// package.
func BenchmarkLandmarks(b *testing.B) {
	d, err := New(runtime.GOMAXPROCS(0))
	if err != nil {
		b.Fatal(err)
	}
	img := luminance(facetest.Decode(b, "../../service/selftest/sample.jpg"))
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
				return eye.RunDetector(pigo.Puploc{Row: row, Col: col, Scale: 64, Perturbs: 63}, params(img), 0, false)
			}
			left, right := at(192, 112), at(192, 202)
			nose.GetLandmarkPoint(left, right, params(img), 63, false)
			mouth.GetLandmarkPoint(left, right, params(img), 63, false)
			mouth.GetLandmarkPoint(left, right, params(img), 63, true)
		}
	})
	b.Run("by=mien", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.landmarks(cluster{row: 211, col: 157, size: 255}, img)
		}
	})
}
