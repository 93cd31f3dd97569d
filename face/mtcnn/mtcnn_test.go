package mtcnn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	xdraw "golang.org/x/image/draw"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// newMTCNN returns the detector of the embedded networks.
func newMTCNN(t testing.TB) *Detector {
	t.Helper()
	d, err := New(openOwn(t), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func detectMTCNN(t testing.TB, d face.Detector, img image.Image, opts face.Options) []face.Face {
	t.Helper()
	faces, err := d.Detect(t.Context(), img, opts)
	if err != nil {
		t.Fatal(err)
	}
	return faces
}

// TestMTCNNAccuracy checks that the results are as good as those of the Python package
// on the labeled photographs, with some tolerance for another JPEG decoder. Run it with
// -v to see the numbers.
func TestMTCNNAccuracy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: make accuracy runs it")
	}
	d := newMTCNN(t)
	answers := facetest.NewAnswers(d, face.Options{})
	t.Run("average precision", func(t *testing.T) {
		for _, c := range []struct {
			subset string
			want   [3]float64
		}{
			{"wider_val_orig", [3]float64{.831, .796, .526}},
			{"wider_val_416", [3]float64{.727, .556, .212}},
		} {
			photos, found := answers.Of(t, c.subset)
			for level, want := range c.want {
				ap := facetest.AveragePrecision(photos, found, level)
				t.Logf("%s level %d: %.3f", c.subset, level, ap)
				if math.Abs(ap-want) > .02 {
					t.Errorf("%s level %d: average precision %.3f, want about %.3f", c.subset, level, ap, want)
				}
			}
		}
	})
	t.Run("calibration", func(t *testing.T) {
		// The subsets in which all faces are labeled.
		answers.CheckCalibration(t, 0.06, facetest.DefaultsFrom...)
	})
	t.Run("false faces", func(t *testing.T) {
		answers.CheckFalseFaces(t, d.Info().MinConfidence, 1)
	})
	t.Run("landmarks", func(t *testing.T) {
		// The package has .0460 and .0556, in whole pixels.
		answers.CheckLandmarks(t, map[string]float64{"lfw_5pt": .046, "net_5pt": .054})
	})
}

// sameAsMTCNN compares with the other implementation. A face that only one of them has
// must be within near of a threshold, because sums of pixels may differ in their last
// bits.
func sameAsMTCNN(t *testing.T, name string, img image.Image, got []face.Face, want []packageFace, near float64) {
	t.Helper()
	t.Logf("%s: %d faces, wanted %d", name, len(got), len(want))
	bounds := img.Bounds()
	taken := make([]bool, len(got))
	for _, w := range want {
		for k := range w {
			if k != 4 { // 4 is the probability
				w[k] -= cutOff
			}
		}
		box := face.Box{MinX: w[0], MinY: w[1], MaxX: w[2], MaxY: w[3]}.Clamp(bounds.Dx(), bounds.Dy())
		best := -1
		for i, f := range got {
			if !taken[i] && (best < 0 || face.IoU(f.Box, box) > face.IoU(got[best].Box, box)) {
				best = i
			}
		}
		if best < 0 || face.IoU(got[best].Box, box) < .95 {
			if w[4] > onetMin+near {
				t.Errorf("%s: no face at %.1f, of probability %.4f", name, box, w[4])
			}
			continue
		}
		taken[best] = true
		if want := confidence(float32(w[4])); math.Abs(got[best].Confidence-want) > near {
			t.Errorf("%s: face at %.1f has confidence %.4f, want %.4f", name, box, got[best].Confidence, want)
		}
		for k, p := range facetest.Points(got[best].Landmarks) {
			x := min(max(w[5+2*k], 0), float64(bounds.Dx()-1))
			y := min(max(w[6+2*k], 0), float64(bounds.Dy()-1))
			if math.Abs(p.X-x) > 1 || math.Abs(p.Y-y) > 1 {
				t.Errorf("%s: face at %.1f has point %d at %.2f, want %.2f %.2f", name, box, k, p, x, y)
			}
		}
	}
	for i, f := range got {
		if !taken[i] && f.Confidence > confidence(float32(onetMin+near)) {
			t.Errorf("%s: face at %.1f, of confidence %.4f, is ours only", name, f.Box, f.Confidence)
		}
	}
}

var updateMTCNN = flag.Bool("update-mtcnn", false, "write testdata/mtcnn_golden.jsonl anew; needs what TestMTCNNReference needs")

// TestMTCNNGolden compares with the recorded output of the other implementation for a
// few images, on pixels as the standard library decodes them. Another JPEG decoder
// moves boxes by a pixel or two.
func TestMTCNNGolden(t *testing.T) {
	const golden = "testdata/mtcnn_golden.jsonl"
	images := map[string]image.Image{}
	for _, name := range []string{
		"peoples.jpg", "dlib_faces/images/2008_002470.jpg", "wider_val_orig/images/0_Parade_marchingband_1_20.jpg",
	} {
		images[filepath.Base(name)] = facetest.Decode(t, facetest.Path(t, name))
	}
	if *updateMTCNN {
		if err := os.WriteFile(golden, runMTCNNReference(t, images), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	compareMTCNN(t, images, lines)
}

// TestMTCNNReference compares with an independent implementation on the same pixels.
func TestMTCNNReference(t *testing.T) {
	images := map[string]image.Image{}
	for _, subset := range []string{"wider_val_orig", "wider_val_416", "dlib_faces", "face_mask"} {
		for _, p := range facetest.Subset(t, subset)[:5] {
			images[filepath.Base(p.Path)] = facetest.Decode(t, p.Path)
		}
	}
	compareMTCNN(t, images, runMTCNNReference(t, images))
}

// runMTCNNReference returns the output of testdata/mtcnn_reference.py for the images.
func runMTCNNReference(t *testing.T, images map[string]image.Image) []byte {
	t.Helper()
	models, err := filepath.Abs(enginetest.Model(t, "mtcnn"))
	if err != nil {
		t.Fatal(err)
	}
	return runPython(t, "numpy, cv2, onnxruntime", "testdata/mtcnn_reference.py", images, models)
}

// runPython returns what a program says that takes some arguments and then the names
// of images, and needs some modules. MIEN_PYTHON names a Python that has them; python3
// may.
func runPython(t *testing.T, modules, program string, images map[string]image.Image, args ...string) []byte {
	t.Helper()
	python := os.Getenv("MIEN_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import "+modules).CombinedOutput(); err != nil {
		t.Skipf("needs a Python with %s: %v: %s", modules, err, out)
	}
	folder := t.TempDir()
	script, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{script}, args...)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		// As PNG, which is lossless, whatever the name of the file says.
		var b bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, images[name]); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	command := exec.Command(python, args...)
	command.Dir, command.Stderr = folder, os.Stderr
	lines, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// compareMTCNN compares with the lines that the other implementation printed.
func compareMTCNN(t *testing.T, images map[string]image.Image, lines []byte) {
	t.Helper()
	d := newMTCNN(t)
	for name, want := range readAnswers(t, images, lines) {
		sameAsMTCNN(t, name, images[name], detectMTCNN(t, d, images[name], face.Options{}), want, .001)
	}
}

// readAnswers reads the faces that another implementation has found in images: the box,
// the probability and the points of each, as [packageFace] has them.
func readAnswers(t *testing.T, images map[string]image.Image, lines []byte) map[string][]packageFace {
	t.Helper()
	found := map[string][]packageFace{}
	for in := json.NewDecoder(bytes.NewReader(lines)); in.More(); {
		var line struct {
			File  string
			Faces []packageFace
		}
		if err := in.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if images[line.File] == nil {
			t.Fatalf("there is an answer for %q, which is not among the images", line.File)
		}
		found[line.File] = line.Faces
	}
	if len(found) != len(images) {
		t.Fatalf("there are answers for %d of %d images", len(found), len(images))
	}
	return found
}

func TestMTCNNSizes(t *testing.T) {
	d := newMTCNN(t)
	for _, size := range []image.Point{
		{0, 0},
		{0, 5},
		{1, 1},
		{1, 400},
		{11, 12},
		{12, 12},
		{13, 14},
		{19, 20},
		{20, 20},
		{21, 33},
		{100, 20},
		{3000, 13},
		{12, 3000},
		{641, 479},
	} {
		img := mtcnnNoise(size.X, size.Y)
		for _, smallest := range []int{-1, 0, 1, 12, 20, 24, 100, math.MaxInt} {
			faces := detectMTCNN(t, d, img, face.Options{MinFaceSize: float64(smallest)})
			for _, f := range faces {
				if f.Box != f.Box.Clamp(size.X, size.Y) {
					t.Errorf("%v: %v is outside", size, f.Box)
				}
				for _, p := range facetest.Points(f.Landmarks) {
					if p.X < 0 || p.Y < 0 || p.X > float64(size.X-1) || p.Y > float64(size.Y-1) {
						t.Errorf("%v: %v is outside", size, p)
					}
				}
			}
		}
	}
}

// mtcnnNoise returns a random image, always the same, which is smooth enough to produce
// candidates.
func mtcnnNoise(width, height int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	state := uint32(1)
	for y := range height {
		for x := range width {
			state = state*1664525 + 1013904223
			v := 128 + 90*math.Sin(float64(x)/7)*math.Cos(float64(y)/5) + float64(state>>28)
			img.SetRGBA(x, y, color.RGBA{uint8(v), uint8(v * .8), uint8(v * .7), 255})
		}
	}
	return img
}

func TestMTCNNSmallestFace(t *testing.T) {
	for _, c := range []struct {
		width, height, asked, want int
		bounded                    bool
	}{
		{640, 480, 0, 20, false},
		{640, 480, -3, 20, false},
		{640, 480, 5, 12, false},
		{640, 480, 13, 13, false},
		{4000, 3000, 0, 20, false},
		{8000, 8000, 0, 46, true},
		{8000, 8000, 12, 24, true},
		{8000, 8000, 200, 200, false},
	} {
		if got, bounded := smallestFace(c.width, c.height, float64(c.asked)); got != c.want || bounded != c.bounded {
			t.Errorf("%d×%d, %d asked: %d, %t; want %d, %t", c.width, c.height, c.asked, got, bounded, c.want, c.bounded)
		}
	}
}

// A crowd has the four people of peoples.jpg side by side, at a quarter of their size.
const across, down = 12, 18

func crowd(t *testing.T) image.Image {
	t.Helper()
	people := facetest.Decode(t, facetest.Path(t, "peoples.jpg"))
	tile := image.NewRGBA(image.Rect(0, 0, people.Bounds().Dx()/4, people.Bounds().Dy()/4))
	xdraw.CatmullRom.Scale(tile, tile.Rect, people, people.Bounds(), xdraw.Src, nil)
	img := image.NewRGBA(image.Rect(0, 0, across*tile.Rect.Dx(), down*tile.Rect.Dy()))
	for y := range down {
		for x := range across {
			at := image.Pt(x*tile.Rect.Dx(), y*tile.Rect.Dy())
			draw.Draw(img, tile.Rect.Add(at), tile, image.Point{}, draw.Src)
		}
	}
	return img
}

// TestAccuracyOnCrowd checks that the numbers of candidates are limited, that the detector
// says so, and that it keeps the most probable ones: the faces of a crowd of small faces that
// are certain are still found.
func TestAccuracyOnCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute with the race detector: make accuracy runs it")
	}
	d := newMTCNN(t)
	people, crowd := facetest.Decode(t, facetest.Path(t, "peoples.jpg")), crowd(t)
	told := 0
	find := func(img image.Image, opts face.Options) []face.Face {
		opts.Truncated = func() { told++ }
		return detectMTCNN(t, d, img, opts)
	}
	if few := find(people, face.Options{MinFaceSize: 1}); len(few) < 4 || told != 0 {
		t.Errorf("%d faces of four people, told %d times that some may be missing", len(few), told)
	}
	w := d.workspaces.Get()
	if err := d.cascade(t.Context(), w, crowd, 1); err != nil {
		t.Fatal(err)
	}
	if len(w.candidates) > maxFinished || !w.truncated {
		t.Errorf("%d faces of a crowd, truncated %t", len(w.candidates), w.truncated)
	}
	all := find(crowd, face.Options{MinFaceSize: 1})
	if told != 1 {
		t.Errorf("told %d times that faces of a crowd may be missing, want once", told)
	}
	t.Logf("%d faces of %d", len(all), 4*across*down)
	if len(all) < across*down {
		t.Errorf("%d faces of %d", len(all), 4*across*down)
	}
	if blank := find(image.NewGray(image.Rect(0, 0, 5000, 3000)), face.Options{}); len(blank) > 0 || told != 2 {
		t.Errorf("an image of 15 megapixels has %d faces, told %d times", len(blank), told)
	}
}

// TestMTCNNOptions checks that options only leave faces out, and that the type of the
// image and its bounds do not matter.
func TestMTCNNOptions(t *testing.T) {
	d := newMTCNN(t)
	img := facetest.Decode(t, facetest.Path(t, "peoples.jpg"))
	all := detectMTCNN(t, d, img, face.Options{})
	if len(all) < 4 {
		t.Fatalf("%d faces, want four", len(all))
	}
	if !slices.IsSortedFunc(all, face.Compare) {
		t.Error("not sorted")
	}
	if got := detectMTCNN(t, d, img, face.Options{MaxResults: 2}); !reflect.DeepEqual(got, all[:2]) {
		t.Errorf("two results: %v, want %v", got, all[:2])
	}
	if got := detectMTCNN(t, d, img, face.Options{MinConfidence: all[1].Confidence}); !reflect.DeepEqual(got, all[:2]) {
		t.Errorf("of the second's confidence: %v, want %v", got, all[:2])
	}
	for _, f := range detectMTCNN(t, d, img, face.Options{SkipLandmarks: true}) {
		if f.Landmarks != nil {
			t.Error("landmarks that were not wanted")
		}
	}
	b := img.Bounds()
	rgba, nrgba := image.NewRGBA(b), image.NewNRGBA(b.Add(image.Pt(-7, 30)))
	padded := image.NewRGBA(image.Rect(-5, -5, b.Dx()+5, b.Dy()+5))
	opaque := &opaqueImage{img}
	for y := range b.Dy() {
		for x := range b.Dx() {
			rgba.Set(x, y, img.At(b.Min.X+x, b.Min.Y+y))
			nrgba.Set(x-7, y+30, img.At(b.Min.X+x, b.Min.Y+y))
			padded.Set(x, y, img.At(b.Min.X+x, b.Min.Y+y))
		}
	}
	for name, other := range map[string]image.Image{
		"RGBA": rgba, "NRGBA": nrgba, "part of RGBA": padded.SubImage(b), "other": opaque,
	} {
		if got := detectMTCNN(t, d, other, face.Options{}); !reflect.DeepEqual(got, all) {
			t.Errorf("%s: %v, want %v", name, got, all)
		}
	}
	gray, paletted := image.NewGray(b), image.NewPaletted(b, nil)
	for i := range 256 {
		paletted.Palette = append(paletted.Palette, color.Gray{uint8(i)})
	}
	for y := range b.Dy() {
		for x := range b.Dx() {
			gray.Set(x, y, img.At(b.Min.X+x, b.Min.Y+y))
			paletted.SetColorIndex(x, y, gray.GrayAt(x, y).Y)
		}
	}
	want := detectMTCNN(t, d, gray, face.Options{})
	if got := detectMTCNN(t, d, paletted, face.Options{}); len(got) < 4 || !reflect.DeepEqual(got, want) {
		t.Errorf("paletted: %v, want %v", got, want)
	}
	clear(nrgba.Pix[3:])
	for i := 3; i < len(nrgba.Pix); i += 4 {
		nrgba.Pix[i] = 0
	}
	if got := detectMTCNN(t, d, nrgba, face.Options{}); len(got) != 0 {
		t.Errorf("transparent: %v, want nothing", got)
	}
}

// TestMTCNNOnTwoCores checks that a second core changes nothing, and that it is used.
func TestMTCNNOnTwoCores(t *testing.T) {
	one := newMTCNN(t)
	gate := cores.NewGate(2)
	two, err := New(openOwn(t), "", gate)
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, name := range []string{"peoples.jpg", "wider_val_416/images/0_Parade_Parade_0_194.jpg", "lfw_5pt/images/Agnes_Bruckner_0001.jpg"} {
		img := facetest.Decode(t, facetest.Path(t, name))
		want, got := detectMTCNN(t, one, img, face.Options{}), detectMTCNN(t, two, img, face.Options{})
		if len(want) == 0 || !slices.EqualFunc(want, got, func(a, b face.Face) bool {
			return a.Box == b.Box && a.Confidence == b.Confidence && *a.Landmarks == *b.Landmarks
		}) {
			t.Errorf("%s: %d faces on one core, and %d or others on two", name, len(want), len(got))
		}
		w := two.workspaces.Get()
		if len(w.searches[1].pnet.Input.Data) > 0 {
			used++
		}
		two.workspaces.Put(w)
		if n := gate.Idle(); n != 2 {
			t.Errorf("%s: %d cores are idle afterward, want 2", name, n)
		}
	}
	if used == 0 {
		t.Error("the second search was never used")
	}
}

// opaqueImage hides the type of an image.
type opaqueImage struct{ image.Image }

// TestMTCNNTiles checks that P-net gives the same results for tiles as for the whole
// level.
func TestMTCNNTiles(t *testing.T) {
	d := newMTCNN(t)
	for _, size := range []image.Point{{301, 290}, {300, 291}} {
		img := mtcnnNoise(size.X, size.Y)
		w := &search{}
		l := level{width: size.X, height: size.Y, columns: cellsOf(size.X), rows: cellsOf(size.Y)}
		w.scaler.Scale(img, img.Rect, size)
		run := func(cells image.Rectangle) []float32 {
			_, scores, err := d.runPNet(t.Context(), w, l, cells)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Clone(scores)
		}
		whole := run(image.Rect(0, 0, l.columns, l.rows))
		for _, cells := range []image.Rectangle{
			image.Rect(0, 0, 50, 60),
			image.Rect(50, 60, l.columns, l.rows),
			image.Rect(l.columns-1, 0, l.columns, 1),
			image.Rect(0, l.rows-1, 1, l.rows),
		} {
			part := run(cells)
			var worst float64
			for i := range cells.Dx() * cells.Dy() {
				x, y := cells.Min.X+i/cells.Dy(), cells.Min.Y+i%cells.Dy()
				worst = max(worst, math.Abs(float64(part[2*i+1]-whole[2*(x*l.rows+y)+1])))
			}
			if worst > 1e-5 {
				t.Errorf("%v of %v: off by %g", cells, size, worst)
			}
		}
	}
}

func TestMTCNNCancellation(t *testing.T) {
	d := newMTCNN(t)
	img := mtcnnNoise(2000, 1500)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Detect(ended, img, face.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		start := time.Now()
		_, err := d.Detect(ctx, img, face.Options{MinFaceSize: 12})
		cancel()
		late := time.Since(start) - after
		t.Logf("ended %v after its deadline of %v", late, after)
		if !errors.Is(err, context.DeadlineExceeded) || late > time.Second {
			t.Errorf("deadline in %v: %v, %v late", after, err, late)
		}
	}
}

func TestMTCNNConcurrency(t *testing.T) {
	d := newMTCNN(t)
	var images []image.Image
	var want [][]face.Face
	for _, p := range facetest.Subset(t, "wider_val_416")[:3] {
		images = append(images, facetest.Decode(t, p.Path))
		want = append(want, detectMTCNN(t, d, images[len(images)-1], face.Options{}))
	}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 4 {
				k := (g + i) % len(images)
				got, err := d.Detect(t.Context(), images[k], face.Options{})
				if err != nil || !reflect.DeepEqual(got, want[k]) {
					t.Errorf("image %d: %v, %v, want %v", k, got, err, want[k])
				}
			}
		})
	}
	wg.Wait()
}

func TestMTCNNWrongNetworks(t *testing.T) {
	d := newMTCNN(t)
	for _, c := range []struct {
		networks []engine.Engine
		say      string
	}{
		{[]engine.Engine{d.rnet, d.pnet, d.onet}, "MTCNN's P-net"},
		{[]engine.Engine{d.pnet, d.onet, d.rnet}, "MTCNN's R-net"},
		{[]engine.Engine{d.pnet, d.rnet, d.pnet}, "MTCNN's O-net"},
		{[]engine.Engine{d.pnet, d.rnet}, "2 networks"},
	} {
		if _, err := New(c.networks, "", nil); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v, want one about %s", err, c.say)
		}
	}
}

func BenchmarkMTCNN(b *testing.B) {
	d := newMTCNN(b)
	var images []image.Image
	for _, p := range facetest.Subset(b, "wider_val_orig") {
		images = append(images, facetest.Decode(b, p.Path))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		detectMTCNN(b, d, images[i%len(images)], face.Options{})
	}
}
