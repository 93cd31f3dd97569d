package grid

import (
	"image"
	"image/draw"
	"os"
	"path/filepath"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// groups is how many copies of a photograph of four people the tall image has, one
// below another.
const groups = 42

// tall returns an image 600 pixels wide and 11,928 high: 42 copies of the same four
// people.
func tall(t *testing.T) *image.YCbCr {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "cases", "tall600x11928.jpg")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI has to have the shared cases: %v", err)
		}
		t.Skipf("needs the shared cases, which are not part of the repository: %v", err)
	}
	return facetest.Decode(t, path).(*image.YCbCr)
}

// arranged returns the groups of the tall image in columns, and the position of the
// upper left corner of each.
func arranged(img *image.YCbCr, columns int) (*image.RGBA, []image.Point) {
	width, height := img.Rect.Dx(), img.Rect.Dy()/groups
	rows := (groups + columns - 1) / columns
	out := image.NewRGBA(image.Rect(0, 0, columns*width, rows*height))
	draw.Draw(out, out.Rect, image.White, image.Point{}, draw.Src)
	var corners []image.Point
	for i := range groups {
		corner := image.Pt(i%columns*width, i/columns*height)
		draw.Draw(out, image.Rectangle{Max: image.Pt(width, height)}.Add(corner), img, image.Pt(0, i*height), draw.Src)
		corners = append(corners, corner)
	}
	return out, corners
}

// TestAccuracyOnLongImages checks that the faces in an image are found in any arrangement of its
// parts: one below another, as in a screenshot of a long page, side by side, as in a
// panorama, and in a square. The expected faces are those that the same model finds in
// one part alone.
func TestAccuracyOnLongImages(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute with the race detector: make accuracy runs it")
	}
	for _, name := range []string{
		"yunet_n_dynamic.onnx", "yunet_s_dynamic.onnx", "face_detection_yunet_2023mar.onnx", "scrfd_2.5g_kps_640.onnx", "scrfd_500m_kps_640.onnx",
	} {
		t.Run(name, func(t *testing.T) {
			img := tall(t)
			g := openGrid(t, name)
			opts := face.Options{MinConfidence: g.info.MinConfidence}
			part, err := g.Detect(t.Context(), img.SubImage(image.Rect(0, 0, img.Rect.Dx(), img.Rect.Dy()/groups)), opts)
			if err != nil || len(part) != 4 {
				t.Fatalf("one part alone: %v, %v; want four faces", part, err)
			}
			for _, c := range []struct {
				name    string
				columns int
			}{{"tall", 1}, {"wide", groups}, {"square", 4}} {
				t.Run(c.name, func(t *testing.T) {
					all, corners := arranged(img, c.columns)
					found, err := g.Detect(t.Context(), all, opts)
					if err != nil {
						t.Fatal(err)
					}
					var want []facetest.Label
					for _, corner := range corners {
						for _, f := range part {
							box := face.Box{MinX: f.Box.MinX + float64(corner.X), MinY: f.Box.MinY + float64(corner.Y), MaxX: f.Box.MaxX + float64(corner.X), MaxY: f.Box.MaxY + float64(corner.Y)}
							want = append(want, facetest.Label{Box: box})
						}
					}
					right := 0
					for i, m := range facetest.Match(found, want, 0.5) {
						if m < 0 {
							t.Errorf("a false face, or one that was told before: %+v", found[i])
						} else {
							right++
						}
					}
					if right != len(want) {
						t.Errorf("found %d of %d faces", right, len(want))
					}
				})
			}
		})
	}
}
