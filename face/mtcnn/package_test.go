package mtcnn

import (
	"flag"
	"image"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

var updatePackage = flag.Bool("update-mtcnn-package", false,
	"write testdata/mtcnn_package.jsonl anew; needs a Python (MIEN_PYTHON) with what testdata/mtcnn_package.py needs")

// packageRecord is what testdata/mtcnn_package.py has said of packagePhotos.
const packageRecord = "testdata/mtcnn_package.jsonl"

// packagePhotos returns the 120 photographs that the Python package was given, by subset
// and file: their pixels as the standard library decodes them, since another JPEG decoder
// moves faces.
func packagePhotos(t *testing.T) map[string]image.Image {
	t.Helper()
	images := map[string]image.Image{"peoples.jpg": facetest.Decode(t, facetest.Path(t, "peoples.jpg"))}
	for subset, count := range map[string]int{
		"wider_val_orig": 24, "wider_val_416": 36, "lfw_5pt": 20, "net_5pt": 20, "face_mask": 10, "dlib_faces": 9,
	} {
		for _, p := range facetest.Subset(t, subset)[:count] {
			images[subset+"_"+filepath.Base(p.Path)] = facetest.Decode(t, p.Path)
		}
	}
	return images
}

// packageFace is a face as the Python package has it before it cuts off decimals: left,
// top, right, bottom, confidence, and points with x before y.
type packageFace [15]float64

// face returns f in the frame of package face, where a number that is rounded is the
// whole number that the package makes of it.
func (f packageFace) face(size image.Point) face.Face {
	box := face.Box{MinX: f[0] - cutOff, MinY: f[1] - cutOff, MaxX: f[2] - cutOff, MaxY: f[3] - cutOff}
	var p [5]face.Point
	for k := range p {
		p[k] = face.Point{
			X: min(max(f[5+2*k]-cutOff, 0), float64(size.X-1)),
			Y: min(max(f[6+2*k]-cutOff, 0), float64(size.Y-1)),
		}
	}
	return face.Face{
		Box: box.Clamp(size.X, size.Y), Confidence: f[4],
		Landmarks: &face.Landmarks{LeftEye: p[0], RightEye: p[1], Nose: p[2], MouthLeft: p[3], MouthRight: p[4]},
	}
}

// recordedFaces returns what the package has said of images.
func recordedFaces(t *testing.T, images map[string]image.Image) map[string][]face.Face {
	t.Helper()
	lines, err := os.ReadFile(packageRecord)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]face.Face{}
	for name, faces := range readAnswers(t, images, lines) {
		for _, f := range faces {
			found[name] = append(found[name], f.face(images[name].Bounds().Size()))
		}
	}
	return found
}

// TestMTCNNPackageAccuracy compares with what the old system's package has said of 120
// photographs: on each engine, the faces are the same, and so are the whole numbers that the service
// rounds them to. A short run leaves out the large photographs.
func TestMTCNNPackageAccuracy(t *testing.T) {
	images := packagePhotos(t)
	if *updatePackage {
		if err := os.WriteFile(packageRecord, runPython(t, "cv2, mtcnn", "testdata/mtcnn_package.py", images), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recorded := recordedFaces(t, images)
	for name, open := range map[string]func(testing.TB) []engine.Engine{"nn": openOwn, "ONNX Runtime": openWeights} {
		t.Run(name, func(t *testing.T) {
			d, err := New(open(t), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			c := packageComparison{T: t}
			for _, name := range slices.Sorted(maps.Keys(images)) {
				if testing.Short() && strings.HasPrefix(name, "wider_val_orig") {
					continue
				}
				c.compare(name, detectMTCNN(t, d, images[name], face.Options{}), recorded[name])
			}
			c.report()
		})
	}
}

// packageComparison compares faces with the package's.
type packageComparison struct {
	*testing.T
	faces   int
	unlike  int // coordinates whose whole number differs
	off     [14]float64
	worst   float64 // distance of a coordinate, in pixels
	lowest  float64 // one less the lowest overlap
	unequal float64 // the largest difference of confidences
}

// coordinateNames are the names of what coordinates returns.
var coordinateNames = [14]string{
	"box x", "box y", "box right", "box bottom", "left eye x", "left eye y", "right eye x", "right eye y",
	"nose x", "nose y", "mouth left x", "mouth left y", "mouth right x", "mouth right y",
}

func coordinates(f face.Face) []float64 {
	all := []float64{f.Box.MinX, f.Box.MinY, f.Box.MaxX, f.Box.MaxY}
	for _, p := range facetest.Points(f.Landmarks) {
		all = append(all, p.X, p.Y)
	}
	return all
}

// compare pairs the faces of one image. A face that only one side has is an error, unless
// its probability is about the lowest that counts.
func (c *packageComparison) compare(name string, got, want []face.Face) {
	const near = .02
	taken := make([]bool, len(got))
	for _, w := range want {
		best := -1
		for i, f := range got {
			if !taken[i] && (best < 0 || face.IoU(f.Box, w.Box) > face.IoU(got[best].Box, w.Box)) {
				best = i
			}
		}
		if best < 0 || face.IoU(got[best].Box, w.Box) < .95 {
			if w.Confidence > onetMin+near {
				c.Errorf("%s: no face at %.1f, of probability %.4f", name, w.Box, w.Confidence)
			}
			continue
		}
		taken[best] = true
		c.pair(name, got[best], w)
	}
	for i, f := range got {
		if !taken[i] && f.Confidence > onetMin+near {
			c.Errorf("%s: only Mien has the face at %.1f, of probability %.4f", name, f.Box, f.Confidence)
		}
	}
}

// pair compares two faces in one place.
func (c *packageComparison) pair(name string, got, want face.Face) {
	c.faces++
	c.lowest = max(c.lowest, 1-face.IoU(got.Box, want.Box))
	c.unequal = max(c.unequal, math.Abs(got.Confidence-want.Confidence))
	side := max(want.Box.MaxX-want.Box.MinX, want.Box.MaxY-want.Box.MinY)
	theirs := coordinates(want)
	for k, v := range coordinates(got) {
		distance := math.Abs(v - theirs[k])
		if k >= 4 && distance > max(1, .01*side) {
			c.Errorf("%s: the %s of the face at %.1f is %.2f, want %.2f", name, coordinateNames[k], want.Box, v, theirs[k])
		}
		c.worst = max(c.worst, distance)
		// As the service rounds.
		whole := math.Round(v) - math.Round(theirs[k])
		c.off[k] += whole
		if whole != 0 {
			c.unlike++
		}
	}
}

// report checks what holds in the mean of all faces.
func (c *packageComparison) report() {
	total := c.faces * len(c.off)
	c.Logf("%d faces: lowest IoU %.5f, coordinates at most %.3f pixels off, %d of %d whole numbers unlike, probabilities at most %.5f off",
		c.faces, 1-c.lowest, c.worst, c.unlike, total, c.unequal)
	if c.faces < 250 {
		c.Errorf("%d faces, want at least 250", c.faces)
	}
	if c.unlike > total/100 {
		c.Errorf("%d of %d whole numbers are not the package's, want at most one in a hundred", c.unlike, total)
	}
	for k, name := range coordinateNames {
		if mean := c.off[k] / float64(c.faces); !(math.Abs(mean) <= .02) {
			c.Errorf("%s: off by %+.3f pixels in the mean, want at most .02", name, mean)
		}
	}
}
