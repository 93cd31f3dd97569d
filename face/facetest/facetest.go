// Package facetest helps tests to read labeled photographs and to evaluate detectors on
// them. The photographs are not part of this repository, because their licenses differ.
// They are in ../shared/faces relative to the root of the repository.
package facetest

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"image"
	_ "image/jpeg" // the formats of the photographs
	_ "image/png"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/mienproject/mien/face"
)

// Path returns the path of a file or folder of the labeled photographs. If it is
// missing, the test is skipped, or fails if CI is set.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	return shared(t, append([]string{"faces"}, elem...)...)
}

// Case returns the path of an image that some detector got wrong, in ../shared/cases.
// If it is missing, the test is skipped, or fails if CI is set.
func Case(t testing.TB, name string) string {
	t.Helper()
	return shared(t, "cases", name)
}

func shared(t testing.TB, elem ...string) string {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	path := filepath.Join(append([]string{filepath.Dir(self), "../../../shared"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI has to have the test photographs: %v", err)
		}
		t.Skipf("needs the test photographs, which are not part of the repository: %v", err)
	}
	return path
}

// Photo is a labeled photograph. Its coordinates are those of package face.
type Photo struct {
	Path  string
	Faces []Label
	// Complete reports whether every face is labeled.
	Complete bool
}

// Label is a labeled face.
type Label struct {
	Box       face.Box
	Landmarks *face.Landmarks
	// Level is 0, 1 or 2 for easy, medium and hard in WIDER FACE, and Ignore for faces
	// that do not count either way. In other subsets it is 0.
	Level int
}

// Ignore is the level of labels that do not count either way.
const Ignore = 3

// Subset reads the labels of one subset, in the order of its file.
func Subset(t testing.TB, name string) []Photo {
	t.Helper()
	photos, err := Read(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return photos
}

// Read reads the labels of the subset in that folder, in the order of its file.
func Read(folder string) ([]Photo, error) {
	file, err := os.Open(filepath.Join(folder, "annotations.jsonl"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var photos []Photo
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a struct {
			File      string           `json:"file"`
			Boxes     [][4]float64     `json:"boxes"`
			Landmarks []*[5][2]float64 `json:"landmarks"`
			Level     []string         `json:"level"`
			Complete  *bool            `json:"complete"`
		}
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		p := Photo{Path: filepath.Join(folder, a.File), Complete: a.Complete == nil || *a.Complete}
		for i, b := range a.Boxes {
			l := Label{Box: face.Box{MinX: b[0], MinY: b[1], MaxX: b[0] + b[2], MaxY: b[1] + b[3]}}
			if i < len(a.Level) {
				l.Level = slices.Index([]string{"easy", "medium", "hard", "ignore"}, a.Level[i])
			}
			if i < len(a.Landmarks) && a.Landmarks[i] != nil {
				var pt [5]face.Point
				for k, xy := range a.Landmarks[i] {
					pt[k] = face.Point{X: xy[0], Y: xy[1]}
				}
				l.Landmarks = &face.Landmarks{LeftEye: pt[0], RightEye: pt[1], Nose: pt[2], MouthLeft: pt[3], MouthRight: pt[4]}
			}
			p.Faces = append(p.Faces, l)
		}
		photos = append(photos, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	if len(photos) == 0 {
		return nil, fmt.Errorf("%s: no photograph", file.Name())
	}
	return photos, nil
}

// Decode reads an image with the standard library, which ignores EXIF.
func Decode(t testing.TB, path string) image.Image {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	img, _, err := image.Decode(file)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return img
}

// Match matches found faces, in their order, to labels. Each takes the best remaining
// label with an IoU of at least minIoU. The result has an index into labels for each
// found face, or -1.
func Match(found []face.Face, labels []Label, minIoU float64) []int {
	taken := make([]bool, len(labels))
	match := make([]int, len(found))
	for i, f := range found {
		match[i] = -1
		best := minIoU
		for k, l := range labels {
			if iou := face.IoU(f.Box, l.Box); !taken[k] && iou >= best {
				match[i], best = k, iou
			}
		}
		if match[i] >= 0 {
			taken[match[i]] = true
		}
	}
	return match
}

// AveragePrecision returns the area under the precision-recall curve of all found faces
// ranked together; found[i] are those in photos[i]. Labels above level do not count
// either way. A face is correct if its IoU is at least 0.5. Precision is the best at
// that recall or a higher one, as in PASCAL VOC since 2010.
func AveragePrecision(photos []Photo, found [][]face.Face, level int) float64 {
	type ranked struct {
		confidence float64
		right      bool
	}
	var all []ranked
	total := 0
	for i, p := range photos {
		for _, l := range p.Faces {
			if l.Level <= level {
				total++
			}
		}
		for k, m := range Match(found[i], p.Faces, 0.5) {
			if m < 0 || p.Faces[m].Level <= level {
				all = append(all, ranked{found[i][k].Confidence, m >= 0})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.confidence, a.confidence) })
	precision := make([]float64, len(all))
	right := 0
	for i, r := range all {
		if r.right {
			right++
		}
		precision[i] = float64(right) / float64(i+1)
	}
	var area, best float64
	for i, r := range slices.Backward(all) {
		best = max(best, precision[i])
		if r.right {
			area += best / float64(total)
		}
	}
	return area
}

// A Bin has the found faces whose confidence is in a tenth of the range from 0 to 1.
type Bin struct {
	// Said is their mean confidence, and Were the share of them that are faces. Of
	// those with a confidence of 0.9, nine in ten should be faces.
	Said, Were float64
	Faces      int
}

// Calibration returns the expected calibration error of all found faces, in ten bins of
// confidence: the mean difference between the confidence of a bin and its share of
// faces. found[i] are the faces in photos[i]. A face is correct if its IoU is at least
// 0.5.
func Calibration(photos []Photo, found [][]face.Face) (off float64, bins [10]Bin) {
	all := 0
	for i, faces := range found {
		for k, m := range Match(faces, photos[i].Faces, 0.5) {
			b := &bins[min(9, int(10*faces[k].Confidence))]
			b.Faces++
			all++
			b.Said += faces[k].Confidence
			if m >= 0 {
				b.Were++
			}
		}
	}
	for i := range bins {
		if b := &bins[i]; b.Faces > 0 {
			n := float64(b.Faces)
			off += math.Abs(b.Said-b.Were) / float64(all)
			b.Said, b.Were = b.Said/n, b.Were/n
		}
	}
	return off, bins
}

// MeanLandmarkError returns the mean of LandmarkError over the labeled faces that were
// found with an IoU of at least 0.4, because boxes of the subsets with landmarks are
// wider than those of detectors. found[i] are the faces in photos[i].
func MeanLandmarkError(photos []Photo, found [][]face.Face) (mean float64, matched, labeled int) {
	var sum float64
	for i, p := range photos {
		for _, l := range p.Faces {
			if l.Landmarks == nil {
				continue
			}
			labeled++
			k := slices.IndexFunc(found[i], func(f face.Face) bool { return face.IoU(f.Box, l.Box) >= 0.4 })
			if k >= 0 {
				matched++
				sum += LandmarkError(*found[i][k].Landmarks, *l.Landmarks)
			}
		}
	}
	return sum / float64(matched), matched, labeled
}

// LandmarkError returns the mean distance over the five points, relative to the
// distance between the labeled eyes.
func LandmarkError(found, label face.Landmarks) float64 {
	dist := func(p, q face.Point) float64 { return math.Hypot(p.X-q.X, p.Y-q.Y) }
	return (dist(found.LeftEye, label.LeftEye) + dist(found.RightEye, label.RightEye) + dist(found.Nose, label.Nose) +
		dist(found.MouthLeft, label.MouthLeft) + dist(found.MouthRight, label.MouthRight)) / 5 / dist(label.LeftEye, label.RightEye)
}

// Points returns the five landmarks in their order.
func Points(l *face.Landmarks) [5]face.Point {
	return [5]face.Point{l.LeftEye, l.RightEye, l.Nose, l.MouthLeft, l.MouthRight}
}

// Smaller reports whether a face in img is smaller than size although the edge of the
// image does not cut it.
func Smaller(img image.Image, size float64) func(face.Face) bool {
	frame := img.Bounds().Size()
	return func(f face.Face) bool {
		whole := f.Box.MinX > 0 && f.Box.MinY > 0 && f.Box.MaxX < float64(frame.X) && f.Box.MaxY < float64(frame.Y)
		return whole && max(f.Box.Width(), f.Box.Height()) < size
	}
}
