package pigo_test

import (
	"context"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

const sample = "../../service/selftest/sample.jpg"

func TestDetectOptions(t *testing.T) {
	d := newDetector(t)
	img := facetest.Decode(t, facetest.Path(t, "peoples.jpg"))
	all, err := d.Detect(t.Context(), img, face.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 6 {
		t.Fatalf("%d candidates: too few to try the options on", len(all))
	}
	if !slices.IsSortedFunc(all, face.Compare) {
		t.Error("not sorted by confidence")
	}
	for _, c := range []struct {
		name string
		opts face.Options
		want int
		keep func(face.Face) bool
	}{
		{
			"default confidence",
			face.Options{MinConfidence: d.Info().MinConfidence},
			4,
			func(f face.Face) bool { return f.Confidence >= d.Info().MinConfidence },
		},
		{"two results", face.Options{MaxResults: 2}, 2, nil},
		{"more results than faces", face.Options{MaxResults: 1000}, len(all), nil},
		{
			"faces of 60 pixels",
			face.Options{MinConfidence: 0.65, MinFaceSize: 60},
			3,
			func(f face.Face) bool { return max(f.Box.Width(), f.Box.Height()) >= 60 },
		},
		{"faces larger than the image", face.Options{MinFaceSize: 10_000}, 0, nil},
		{"certain", face.Options{MinConfidence: 1}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := d.Detect(t.Context(), img, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != c.want {
				t.Fatalf("%d faces, want %d: %+v", len(got), c.want, got)
			}
			for _, f := range got {
				if c.keep != nil && !c.keep(f) {
					t.Errorf("does not belong here: %+v", f)
				}
				if f.Landmarks == nil {
					t.Error("no landmarks")
				}
			}
		})
	}
	t.Run("without landmarks", func(t *testing.T) {
		got, err := d.Detect(t.Context(), img, face.Options{SkipLandmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(all)
		for i := range want {
			want[i].Landmarks = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Error("leaving out the landmarks changed more than the landmarks")
		}
	})
}

// TestDetectIsDeterministic checks that the same pixels give the same faces, whatever
// the type of the image, on any number of cores, and beside other calls.
func TestDetectIsDeterministic(t *testing.T) {
	img := facetest.Decode(t, sample).(*image.YCbCr)
	want, err := newDetector(t).Detect(t.Context(), img, face.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(want) == 0 {
		t.Fatal("no face")
	}
	luma := &image.Gray{Pix: img.Y, Stride: img.YStride, Rect: img.Rect}
	shifted := image.NewGray(luma.Rect.Add(image.Pt(7, -5)))
	draw.Draw(shifted, shifted.Rect, luma, luma.Rect.Min, draw.Src)
	framed := image.NewGray(image.Rect(0, 0, img.Rect.Dx()+40, img.Rect.Dy()+30))
	inside := luma.Rect.Add(image.Pt(20, 10))
	draw.Draw(framed, inside, luma, luma.Rect.Min, draw.Src)
	same := map[string]image.Image{
		"YCbCr":            img,
		"Gray":             luma,
		"Gray, elsewhere":  shifted,
		"part of an image": framed.SubImage(inside),
		"unknown type":     opaque{luma},
	}
	for _, m := range []draw.Image{
		image.NewRGBA(luma.Rect), image.NewNRGBA(luma.Rect), image.NewRGBA64(luma.Rect),
		image.NewGray16(luma.Rect), image.NewPaletted(luma.Rect, grays()),
	} {
		draw.Draw(m, m.Bounds(), luma, luma.Rect.Min, draw.Src)
		same[reflect.TypeOf(m).String()] = m
	}

	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for _, procs := range []int{1, 4} {
		runtime.GOMAXPROCS(procs)
		shared := newDetector(t)
		for name, m := range same {
			wg.Go(func() {
				got, err := shared.Detect(t.Context(), m, face.Options{})
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s on %d cores: %v, %v; want %v", name, procs, got, err, want)
				}
			})
		}
		wg.Wait()
	}
}

// opaque hides everything about an image except its colors.
type opaque struct{ image.Image }

func grays() color.Palette {
	var p color.Palette
	for v := range 256 {
		p = append(p, color.Gray{uint8(v)})
	}
	return p
}

func TestTransparentPixelsAreBlack(t *testing.T) {
	d := newDetector(t)
	photo := facetest.Decode(t, sample)
	hidden := image.NewNRGBA(photo.Bounds())
	draw.Draw(hidden, hidden.Rect, photo, photo.Bounds().Min, draw.Src)
	for i := 3; i < len(hidden.Pix); i += 4 {
		hidden.Pix[i] = 0
	}
	faces, err := d.Detect(t.Context(), hidden, face.Options{MinConfidence: d.Info().MinConfidence})
	if err != nil || len(faces) != 0 {
		t.Errorf("found %v, %v in an image without pixels", faces, err)
	}
}

func TestDetectAnySize(t *testing.T) {
	d := newDetector(t)
	for _, size := range []image.Point{{}, {1, 1}, {1, 5000}, {5000, 1}, {19, 19}, {21, 21}, {22, 22}, {23, 400}, {400, 23}} {
		img := image.NewGray(image.Rectangle{Max: size})
		for i := range img.Pix {
			img.Pix[i] = uint8(i * 31)
		}
		for _, smallest := range []int{0, 1, 20, 1 << 30} {
			if _, err := d.Detect(t.Context(), img, face.Options{MinFaceSize: float64(smallest)}); err != nil {
				t.Errorf("%v, smallest face %d: %v", size, smallest, err)
			}
		}
	}
}

// TestFacesStayWithinTheImage uses a face that the edge of the image cuts.
func TestFacesStayWithinTheImage(t *testing.T) {
	d := newDetector(t)
	photo := facetest.Decode(t, sample).(*image.YCbCr)
	cut := photo.SubImage(image.Rect(55, 90, 260, 320))
	faces, err := d.Detect(t.Context(), cut, face.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(faces) == 0 {
		t.Fatal("no face")
	}
	for _, f := range faces {
		if f.Box != f.Box.Clamp(205, 230) {
			t.Errorf("box %v leaves the image", f.Box)
		}
		for _, p := range []face.Point{f.Landmarks.LeftEye, f.Landmarks.RightEye, f.Landmarks.Nose, f.Landmarks.MouthLeft, f.Landmarks.MouthRight} {
			if p.X < 0 || p.Y < 0 || p.X > 204 || p.Y > 229 {
				t.Errorf("landmark %v leaves the image", p)
			}
		}
	}
}

// TestDetectStops cancels the search for the smallest faces in 48 megapixels, which
// takes seconds.
func TestDetectStops(t *testing.T) {
	d := newDetector(t)
	img := image.NewGray(image.Rect(0, 0, 8000, 6000))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		time.Sleep(50 * time.Millisecond)
		cancel()
	}()
	if _, err := d.Detect(ctx, img, face.Options{MinFaceSize: 20}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// BenchmarkDetect shows that a large image takes no longer than one of a megapixel,
// because the smallest face grows with it.
func BenchmarkDetect(b *testing.B) {
	d := newDetector(b)
	for name, img := range map[string]image.Image{
		"0.47MP": facetest.Decode(b, facetest.Path(b, "peoples.jpg")),
		"12MP":   image.NewGray(image.Rect(0, 0, 4000, 3000)),
		"64MP":   image.NewGray(image.Rect(0, 0, 8000, 8000)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Detect(b.Context(), img, face.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestSmallestFace checks that the smallest face that Info reports, and smaller values,
// leave out no face because of its size.
func TestSmallestFace(t *testing.T) {
	d := newDetector(t)
	img := facetest.Decode(t, facetest.Path(t, "wider_val_416/images/1_Handshaking_Handshaking_1_579.jpg"))
	find := func(size float64) []face.Face {
		t.Helper()
		faces, err := d.Detect(t.Context(), img, face.Options{MinFaceSize: size})
		if err != nil {
			t.Fatal(err)
		}
		return faces
	}
	smaller := func(size float64) func(face.Face) bool { return facetest.Smaller(img, size) }
	floor := float64(d.Info().MinFaceSize)
	all := find(1)
	if !slices.ContainsFunc(all, smaller(floor)) {
		t.Fatal("this photograph has no box that is smaller than the smallest window")
	}
	for _, size := range []float64{floor / 2, floor} {
		if got := find(size); !reflect.DeepEqual(got, all) {
			t.Errorf("%d faces of %v pixels and more, want the %d of 1", len(got), size, len(all))
		}
	}
	if slices.ContainsFunc(find(floor+1), smaller(floor+1)) {
		t.Errorf("there is a face of less than %v pixels", floor+1)
	}
}
