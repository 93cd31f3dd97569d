package pigo

import (
	"slices"
	"testing"

	pigo "github.com/esimov/pigo/core"

	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/luma"
)

// TestReferenceScanIsTheLibrarys compares the scan in bands with a single call of the
// library.
func TestReferenceScanIsTheLibrarys(t *testing.T) {
	r, err := NewReference()
	if err != nil {
		t.Fatal(err)
	}
	photo := luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg"), nil)
	for _, c := range []struct {
		name     string
		img      luma.Plane
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
			largest := min(c.img.Width, c.img.Height) - 2
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

// TestClustersAreTheLibrarys compares the results of Reference with two calls of the
// library.
func TestClustersAreTheLibrarys(t *testing.T) {
	r, err := NewReference()
	if err != nil {
		t.Fatal(err)
	}
	photo := luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg"), nil)
	for name, img := range map[string]luma.Plane{"photograph": photo, "half its size": photo.Half(nil)} {
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

func params(g luma.Plane) pigo.ImageParams {
	return pigo.ImageParams{Pixels: g.Pix, Rows: g.Height, Cols: g.Width, Dim: g.Stride}
}

// noise returns the luminance of facetest.Noise.
func noise(width, height int) luma.Plane { return luma.Of(facetest.Noise(width, height), nil) }
