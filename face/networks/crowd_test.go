//go:build unix

package networks_test

import (
	"fmt"
	"image"
	"image/draw"
	"syscall"
	"testing"
	"time"

	xdraw "golang.org/x/image/draw"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
)

// repeated returns an image of 4 megapixels that repeats part, in tiles of that width.
func repeated(part image.Image, width int) image.Image {
	const side = 2000
	b := part.Bounds()
	tile := image.NewRGBA(image.Rect(0, 0, width, b.Dy()*width/b.Dx()))
	xdraw.CatmullRom.Scale(tile, tile.Rect, part, b, xdraw.Src, nil)
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	for y := 0; y < side; y += tile.Rect.Dy() {
		for x := 0; x < side; x += width {
			draw.Draw(img, tile.Rect.Add(image.Pt(x, y)), tile, image.Point{}, draw.Src)
		}
	}
	return img
}

// cpuTime returns the time that this process has computed, which does not depend on the load
// of the machine as much as the time that has passed.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestAccuracyOfCrowds checks that no crowd holds a worker for long, whatever its faces are:
// four people or one face, repeated in sizes of which a model finds many. YuNet took 76
// seconds for some of them, and pigo 60, before their candidates were bounded.
func TestAccuracyOfCrowds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute, and minutes with the race detector: make accuracy runs it")
	}
	const limit = 10 * time.Second
	onePigo, err := pigo.New(cores.NewGate(1))
	if err != nil {
		t.Fatal(err)
	}
	people := facetest.Decode(t, facetest.Path(t, "peoples.jpg"))
	one := facetest.Decode(t, sample).(interface {
		SubImage(r image.Rectangle) image.Image
	}).SubImage(image.Rect(40, 70, 274, 350))
	images := map[string]image.Image{"noise": facetest.Noise(2000, 2000)}
	for _, width := range []int{210, 105, 70, 52} {
		images[fmt.Sprintf("people in tiles of %d pixels", width)] = repeated(people, width)
	}
	for _, width := range []int{14, 20, 24, 28} {
		images[fmt.Sprintf("faces in tiles of %d pixels", width)] = repeated(one, width)
	}
	for _, m := range []struct {
		name     string
		detector face.Detector
	}{{"pigo", onePigo}, {"yunet", shelf(t, "yunet_n_dynamic.onnx")}, {"mtcnn", shelf(t, "mtcnn")}} {
		t.Run(m.name, func(t *testing.T) {
			most := 0
			for name, img := range images {
				truncated := false
				opts := face.Options{MinFaceSize: 1, Truncated: func() { truncated = true }}
				start := cpuTime(t)
				faces, err := m.detector.Detect(t.Context(), img, opts)
				took := cpuTime(t) - start
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, len(faces))
				t.Logf("%s: %d faces in %v, truncated: %t", name, len(faces), took.Round(time.Millisecond), truncated)
				if took > limit {
					t.Errorf("%s: %v, want less than %v", name, took, limit)
				}
			}
			if most < 100 {
				t.Errorf("at most %d faces were found: these are no crowds for this model", most)
			}
		})
	}
}
