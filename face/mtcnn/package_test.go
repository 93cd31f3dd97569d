package mtcnn

import (
	"bytes"
	"encoding/json"
	"flag"
	"image"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

var updatePackage = flag.Bool("update-mtcnn-package", false,
	"write testdata/mtcnn_package.jsonl anew; needs a Python (MIEN_PYTHON) with what testdata/mtcnn_package.py needs")

// TestMTCNNPackage compares with the recorded output of the old system's package for 72
// photographs, on pixels as the standard library decodes them. Rounded as the service
// rounds them, coordinates are the package's whole numbers.
func TestMTCNNPackage(t *testing.T) {
	const record = "testdata/mtcnn_package.jsonl"
	images := map[string]image.Image{}
	for subset, count := range map[string]int{"lfw_5pt": 40, "net_5pt": 20, "wider_val_416": 12} {
		for _, p := range facetest.Subset(t, subset)[:count] {
			images[filepath.Base(p.Path)] = facetest.Decode(t, p.Path)
		}
	}
	if *updatePackage {
		if err := os.WriteFile(record, runPython(t, "cv2, mtcnn", "testdata/mtcnn_package.py", images), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}

	d := newMTCNN(t)
	var faces, coordinates, unlike int
	// others are faces for which another of several boxes remained. Which one remains
	// can depend on the last bit of a probability.
	others := 0
	names := [...]string{
		"box x", "box y", "box right", "box bottom", "left eye x", "left eye y", "right eye x", "right eye y",
		"nose x", "nose y", "mouth left x", "mouth left y", "mouth right x", "mouth right y",
	}
	var off [len(names)]float64
	answers := 0
	for in := json.NewDecoder(bytes.NewReader(lines)); in.More(); answers++ {
		// Left, top, width, height, confidence, and points as x before y.
		var want struct {
			File  string
			Faces [][15]float64
		}
		if err := in.Decode(&want); err != nil {
			t.Fatal(err)
		}
		img := images[want.File]
		if img == nil {
			t.Fatalf("an answer for %q, which was not asked about", want.File)
		}
		width, height := img.Bounds().Dx(), img.Bounds().Dy()
		got := detectMTCNN(t, d, img, face.Options{})
		if len(got) != len(want.Faces) {
			t.Errorf("%s: %d faces, want %d", want.File, len(got), len(want.Faces))
		}
		for _, w := range want.Faces {
			w[2], w[3] = w[0]+w[2], w[1]+w[3]
			box := face.Box{MinX: w[0], MinY: w[1], MaxX: w[2], MaxY: w[3]}.Clamp(width, height)
			best := -1
			for i, f := range got {
				if best < 0 || face.IoU(f.Box, box) > face.IoU(got[best].Box, box) {
					best = i
				}
			}
			if best < 0 || face.IoU(got[best].Box, box) < .5 {
				t.Errorf("%s: no face at %v", want.File, box)
				continue
			}
			if face.IoU(got[best].Box, box) < .9 {
				others++
				continue
			}
			faces++
			f := got[best]
			mine := []float64{f.Box.MinX, f.Box.MinY, f.Box.MaxX, f.Box.MaxY}
			theirs := []float64{box.MinX, box.MinY, box.MaxX, box.MaxY}
			for k, p := range facetest.Points(f.Landmarks) {
				mine = append(mine, p.X, p.Y)
				theirs = append(theirs, min(max(w[5+2*k], 0), float64(width-1)), min(max(w[6+2*k], 0), float64(height-1)))
			}
			for k := range names {
				d := math.Round(mine[k]) - theirs[k]
				off[k] += d
				coordinates++
				if d != 0 {
					unlike++
				}
				if math.Abs(d) > 1 {
					t.Errorf("%s: the %s of the face at %v is %.2f, want %v", want.File, names[k], box, mine[k], theirs[k])
				}
			}
		}
	}
	if answers != len(images) {
		t.Errorf("%d answers for %d images", answers, len(images))
	}
	for k, name := range names {
		mean := off[k] / float64(faces)
		t.Logf("%s: off by %+.3f in the mean", name, mean)
		if !(math.Abs(mean) <= .02) {
			t.Errorf("%s: off by %+.3f pixels in the mean of %d faces, want at most .02", name, mean, faces)
		}
	}
	t.Logf("%d of %d coordinates of %d faces are unlike; %d faces have another box", unlike, coordinates, faces, others)
	if others > faces/100 {
		t.Errorf("%d of %d faces have another box, want at most one in a hundred", others, faces+others)
	}
	if unlike > coordinates/100 {
		t.Errorf("%d of %d coordinates are not the package's, want at most one in a hundred", unlike, coordinates)
	}
}
