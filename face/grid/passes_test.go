package grid

import (
	"context"
	"image"
	"image/draw"
	"math"
	"slices"
	"testing"

	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestLargeFixedSize checks that a network with a large fixed input size enlarges small
// images no further than is useful.
func TestLargeFixedSize(t *testing.T) {
	for name, limit := range map[string]float64{"face_detection_yunet_2023mar.onnx": fineSide, "scrfd_500m_kps_640.onnx": coarseSide} {
		g := openGrid(t, name)
		for _, c := range []struct {
			input, img image.Point
			want       float64
		}{
			{image.Pt(640, 640), image.Pt(320, 240), min(2, limit/sideOf(320, 240))},
			{image.Pt(640, 640), image.Pt(1280, 500), 0.5},
			{image.Pt(640, 320), image.Pt(640, 640), 0.5},
			{image.Pt(1920, 1920), image.Pt(320, 240), limit / sideOf(320, 240)},
			{image.Pt(1920, 1920), image.Pt(1500, 900), 1},
			{image.Pt(1920, 1920), image.Pt(3840, 1500), 0.5},
		} {
			g.info.InputSize = c.input
			if passes := g.passes(c.img.X, c.img.Y, 0); len(passes) != 1 || math.Abs(passes[0].scale-c.want) > 1e-9 {
				t.Errorf("%s of %v: the passes over %v are %+v, want one at scale %v", name, c.input, c.img, passes, c.want)
			}
		}
	}
}

// TestWindow checks that a window of a scaled image has the values that the whole scaled
// image has there, for each color model, and for scales at which the image is enlarged,
// copied, interpolated and halved.
func TestWindow(t *testing.T) {
	photo := facetest.Decode(t, sample).(*image.YCbCr)
	rgba := image.NewRGBA(photo.Rect)
	draw.Draw(rgba, rgba.Rect, photo, image.Point{}, draw.Src)
	gray := image.NewGray(photo.Rect)
	draw.Draw(gray, gray.Rect, photo, image.Point{}, draw.Src)
	for _, img := range []image.Image{photo, rgba, gray} {
		for _, scale := range []float64{1.6, 1, 0.83, 0.4} {
			var s source
			if err := s.set(t.Context(), img); err != nil {
				t.Fatal(err)
			}
			size := s.size()
			whole := image.Rect(0, 0, int(float64(size.X)*scale), int(float64(size.Y)*scale))
			padded := image.Pt(aligned(whole.Max.X), aligned(whole.Max.Y))
			fill := func(window image.Rectangle, padded image.Point) []float32 {
				n := padded.X * padded.Y
				planes := slices.Repeat([]float32{-1}, 3*n)
				s.input(planes[:n], planes[n:2*n], planes[2*n:], window, padded.X, scale)
				return planes
			}
			want := fill(whole, padded)
			for _, window := range []image.Rectangle{image.Rect(32, 64, 64, 96), {image.Pt(64, 32), padded}} {
				got := fill(window.Intersect(whole), window.Size())
				for i, v := range got {
					x, y := i%window.Dx()+window.Min.X, i/window.Dx()
					plane := y / window.Dy()
					y = y%window.Dy() + window.Min.Y
					if w := want[(plane*padded.Y+y)*padded.X+x]; v != w {
						t.Fatalf("%T at scale %v, window %v: plane %d has %v at (%d, %d), want %v", img, scale, window, plane, v, x, y, w)
					}
				}
			}
		}
	}
}

// TestNarrow checks that the finest pass finds the same labeled faces where there are hints
// as in the whole image, and that it is not run without hints.
func TestNarrow(t *testing.T) {
	g := openGrid(t, "yunet_n_dynamic.onnx")
	ran := &counter{Engine: g.engine}
	g.engine = ran
	same, narrowed := 0, 0
	for _, p := range facetest.Subset(t, "wider_val_orig")[:8] {
		img := facetest.Decode(t, p.Path)
		size := img.Bounds().Size()
		work := &workspace{}
		if err := work.source.set(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		// At the edge of a window, the confidence may be a little lower.
		all, err := g.candidates(t.Context(), work, size, face.Options{MinConfidence: g.info.MinConfidence - .2})
		if err != nil {
			t.Fatal(err)
		}
		found := slices.Clone(all)
		passes := g.passes(size.X, size.Y, 0)
		fine := passes[len(passes)-1]
		whole := image.Rect(0, 0, aligned(int(math.Round(float64(size.X)*fine.scale))), aligned(int(math.Round(float64(size.Y)*fine.scale))))
		if len(work.windows) == 0 {
			t.Fatalf("%s: no windows", p.Path)
		}
		seen := 0
		for i, w := range work.windows {
			if !w.In(whole) || w.Empty() || w.Min.X%alignment != 0 || w.Max.Y%alignment != 0 {
				t.Fatalf("%s: a window is %v", p.Path, w)
			}
			seen += w.Dx() * w.Dy()
			for _, other := range work.windows[:i] {
				if w.Overlaps(other) {
					t.Errorf("%s: the windows %v and %v overlap", p.Path, w, other)
				}
			}
		}
		if seen < whole.Dx()*whole.Dy() {
			narrowed++
		}
		// The finest pass over the whole image.
		work.candidates = work.candidates[:0]
		if err := g.pass(t.Context(), work, fine, g.info.MinConfidence); err != nil {
			t.Fatal(err)
		}
		wanted, err := suppress(t.Context(), work.candidates)
		if err != nil {
			t.Fatal(err)
		}
		var faces []face.Face
		for _, w := range wanted {
			faces = append(faces, face.Face{Box: w.box})
		}
		for i, label := range facetest.Match(faces, p.Faces, 0.5) {
			if label < 0 {
				continue
			}
			w := wanted[i]
			if !slices.ContainsFunc(found, func(f detection) bool { return face.IoUAbove(f.box, w.box, suppressIoU) }) {
				t.Errorf("%s: the face at %.0f is not found with hints", p.Path, w.box)
			}
			if slices.ContainsFunc(found, func(f detection) bool { return face.IoUAbove(f.box, w.box, .95) }) {
				same++
			}
		}
	}
	if narrowed < 4 || same < 20 {
		t.Errorf("%d of 8 photographs are seen in part, and %d faces are found in them: this test shows little", narrowed, same)
	}

	ran.runs = 0
	if _, err := g.Detect(t.Context(), image.NewGray(image.Rect(0, 0, 640, 480)), face.Options{}); err != nil || ran.runs != 2 {
		t.Errorf("%d passes over an image without hints, want 2; error %v", ran.runs, err)
	}
	ran.runs = 0
	// As small as this, faces give no hints.
	if _, err := g.Detect(t.Context(), image.NewGray(image.Rect(0, 0, 640, 480)), face.Options{MinFaceSize: 4}); err != nil || ran.runs != 3 {
		t.Errorf("%d passes for tiny faces, want 3; error %v", ran.runs, err)
	}
}

// counter counts the runs of an engine.
type counter struct {
	engine.Engine

	runs int
}

func (c *counter) Run(ctx context.Context, input engine.Tensor, outputs []engine.Tensor) error {
	c.runs++
	return c.Engine.Run(ctx, input, outputs)
}
