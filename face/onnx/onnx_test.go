//go:build cgo

package onnx

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

const sample = "../../service/selftest/sample.jpg"

// TestSample: every family finds the face of the self-test picture.
func TestSample(t *testing.T) {
	want := face.Box{MinX: 60, MinY: 85, MaxX: 254, MaxY: 339}
	img := facetest.Decode(t, sample)
	for _, name := range []string{"yunet_n_dynamic.onnx", "yunet_s_dynamic.onnx", "face_detection_yunet_2023mar.onnx", "scrfd_500m_kps_640.onnx", "scrfd_2.5g_kps_640.onnx"} {
		t.Run(name, func(t *testing.T) {
			g := openGrid(t, name)
			faces, err := g.Detect(t.Context(), img, face.Options{MinConfidence: g.info.MinConfidence})
			if err != nil {
				t.Fatal(err)
			}
			if len(faces) != 1 || face.IoU(faces[0].Box, want) < 0.7 {
				t.Fatalf("%+v, want one face at %v", faces, want)
			}
			right := face.Landmarks{
				LeftEye: face.Point{X: 115, Y: 184}, RightEye: face.Point{X: 203, Y: 183}, Nose: face.Point{X: 161, Y: 236},
				MouthLeft: face.Point{X: 124, Y: 282}, MouthRight: face.Point{X: 200, Y: 281},
			}
			if e := facetest.LandmarkError(*faces[0].Landmarks, right); e > 0.08 {
				t.Errorf("landmark error %.3f: %+v", e, *faces[0].Landmarks)
			}
			for _, opts := range []face.Options{{SkipLandmarks: true}, {MaxResults: 1}, {MinFaceSize: 150}} {
				faces, err := g.Detect(t.Context(), img, opts)
				if err != nil || len(faces) == 0 || face.IoU(faces[0].Box, want) < 0.7 || (faces[0].Landmarks == nil) != opts.SkipLandmarks {
					t.Errorf("%+v: %+v, %v", opts, faces, err)
				}
			}
			if faces, err := g.Detect(t.Context(), img, face.Options{MinFaceSize: 400}); err != nil || len(faces) != 0 {
				t.Errorf("larger than the image: %+v, %v", faces, err)
			}
		})
	}
}

// TestSameAnswer in any concurrency, on any number of cores, from any type of image
// with the same pixels, wherever its bounds begin.
func TestSameAnswer(t *testing.T) {
	g, err := Open(model(t, "yunet_n_dynamic.onnx"), environment.library, 3)
	if err != nil {
		t.Fatal(err)
	}
	one := openGrid(t, "yunet_n_dynamic.onnx")
	photo := facetest.Decode(t, sample)
	b := photo.Bounds()
	rgba := image.NewRGBA(b)
	draw.Draw(rgba, b, photo, b.Min, draw.Src)
	nrgba := image.NewNRGBA(b)
	draw.Draw(nrgba, b, photo, b.Min, draw.Src)
	shifted := image.NewRGBA(b.Add(image.Pt(31, 17)))
	draw.Draw(shifted, shifted.Rect, photo, b.Min, draw.Src)
	want, err := one.Detect(t.Context(), rgba, face.Options{})
	if err != nil || len(want) == 0 {
		t.Fatalf("%v, %v", want, err)
	}
	if got, err := g.Detect(t.Context(), rgba, face.Options{}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("alone, on three threads: %v, %v; want %v", got, err, want)
	}
	var wg sync.WaitGroup
	for range 4 {
		for _, img := range []image.Image{rgba, nrgba, shifted} {
			wg.Go(func() {
				got, err := g.Detect(t.Context(), img, face.Options{})
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%T: %v, %v; want %v", img, got, err, want)
				}
			})
		}
	}
	wg.Wait()
}

func TestAnySize(t *testing.T) {
	for _, name := range []string{"yunet_n_dynamic.onnx", "face_detection_yunet_2023mar.onnx", "scrfd_500m_kps_640.onnx"} {
		g := openGrid(t, name)
		for _, size := range []image.Point{{}, {1, 1}, {1, 3000}, {3000, 1}, {31, 33}, {2000, 40}} {
			for _, img := range []image.Image{image.NewGray(image.Rectangle{Max: size}), image.NewYCbCr(image.Rectangle{Max: size}, image.YCbCrSubsampleRatio420)} {
				for _, smallest := range []int{0, 1, 5000} {
					if _, err := g.Detect(t.Context(), img, face.Options{MinFaceSize: float64(smallest), MinConfidence: 0.5}); err != nil {
						t.Errorf("%s: %T of %v, smallest face %d: %v", name, img, size, smallest, err)
					}
				}
			}
		}
	}
}

// TestStops in the middle of a network.
func TestStops(t *testing.T) {
	g := openGrid(t, "yunet_n_dynamic.onnx")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := g.Detect(ctx, image.NewGray(image.Rect(0, 0, 4000, 4000)), face.Options{MinFaceSize: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	// And goes on working.
	if faces, err := g.Detect(t.Context(), facetest.Decode(t, sample), face.Options{MinConfidence: 0.8}); err != nil || len(faces) != 1 {
		t.Errorf("%v, %v", faces, err)
	}
}

// TestOpenRefuses what is no model, and models of no known family.
func TestOpenRefuses(t *testing.T) {
	known := model(t, "yunet_n_dynamic.onnx")
	text := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(text, []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, told string }{
		{"nothing there", filepath.Join(t.TempDir(), "missing.onnx"), "no such file"},
		{"no model", text, "text.onnx"},
		{"unknown family", filepath.Join(filepath.Dir(known), "mtcnn", "rnet.onnx"), "softmax_1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Open(c.path, environment.library, 1); err == nil || !strings.Contains(err.Error(), c.told) {
				t.Errorf("%v does not tell %q", err, c.told)
			}
		})
	}
	if _, err := Open(known, "/nowhere/libonnxruntime.so", 1); err == nil {
		t.Error("a second runtime was taken")
	}
}

// TestInput compares the one pass to planes with a plain one.
func TestInput(t *testing.T) {
	photo := facetest.Decode(t, sample).(*image.YCbCr)
	odd := photo.SubImage(image.Rect(0, 0, 211, 173))
	rgba := image.NewRGBA(odd.Bounds())
	draw.Draw(rgba, rgba.Rect, odd, image.Point{}, draw.Src)
	for _, c := range []struct {
		name   string
		img    image.Image
		within float64 // grey levels, in the mean: chroma is interpolated rather than repeated
	}{{"YCbCr", odd, 2}, {"RGBA", rgba, 0.01}} {
		t.Run(c.name, func(t *testing.T) {
			const w, h, stride = 211, 173, 224
			planes := make([]float32, 3*stride*h)
			var s source
			s.set(c.img)
			s.input(planes[:stride*h], planes[stride*h:2*stride*h], planes[2*stride*h:], w, h, stride, 1)
			var off float64
			for y := range h {
				for x := range w {
					want := rgba.RGBAAt(x, y)
					for i, v := range []uint8{want.B, want.G, want.R} {
						d := float64(planes[(i*h+y)*stride+x]) - float64(v)
						off += max(d, -d)
					}
				}
			}
			if off /= float64(3 * w * h); off > c.within {
				t.Errorf("off by %.3f grey levels in the mean, want %.2f", off, c.within)
			}
		})
	}
	t.Run("reduced to means", func(t *testing.T) {
		// Of a checkerboard nothing but grey is left, at any reduction.
		board := image.NewGray(image.Rect(0, 0, 400, 300))
		for i := range board.Pix {
			if (i%400+i/400)%2 == 0 {
				board.SetGray(i%400, i/400, color.Gray{Y: 200})
			}
		}
		for _, scale := range []float64{0.5, 0.3, 0.11} {
			w, h := int(400*scale), int(300*scale)
			planes := make([]float32, 3*w*h) // all of these widths are even
			var s source
			s.set(board)
			s.input(planes[:w*h], planes[w*h:2*w*h], planes[2*w*h:], w, h, w, scale)
			for i, v := range planes {
				x, y := i%w, i/w%h
				if x > 0 && y > 0 && x < w-1 && y < h-1 && (v < 85 || v > 115) {
					t.Fatalf("scale %v: %v at (%d, %d), want 100", scale, v, x, y)
				}
			}
		}
	})
}

func BenchmarkDetect(b *testing.B) {
	img := facetest.Decode(b, facetest.Path(b, "peoples.jpg"))
	for _, name := range []string{"yunet_n_dynamic.onnx", "scrfd_2.5g_kps_640.onnx"} {
		g := openGrid(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Detect(b.Context(), img, face.Options{MinConfidence: g.info.MinConfidence}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkThreads is one request at a time, and as many as there are cores, with
// one thread and with two for who is alone.
func BenchmarkThreads(b *testing.B) {
	img := facetest.Decode(b, facetest.Path(b, "peoples.jpg"))
	path := model(b, "yunet_n_dynamic.onnx")
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprint(threads), func(b *testing.B) {
			g, err := Open(path, environment.library, threads)
			if err != nil {
				b.Fatal(err)
			}
			detect := func(b *testing.B) {
				if _, err := g.Detect(b.Context(), img, face.Options{MinConfidence: yunetMinConfidence}); err != nil {
					b.Error(err)
				}
			}
			b.Run("alone", func(b *testing.B) {
				for b.Loop() {
					detect(b)
				}
			})
			b.Run("busy", func(b *testing.B) {
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						detect(b)
					}
				})
			})
		})
	}
}

// BenchmarkStages is where the time of YuNet goes, pass by pass: the input, and
// the network on one core. The first is to be a fifth of the second at most.
func BenchmarkStages(b *testing.B) {
	g := openGrid(b, "yunet_n_dynamic.onnx")
	people := facetest.Decode(b, facetest.Path(b, "peoples.jpg"))
	for _, c := range []struct {
		name string
		img  image.Image
	}{{"peoples", people}, {"12MP", enlarged(people, 4000/mostReduced, 3000/mostReduced)}} { // as it comes reduced
		size := c.img.Bounds().Size()
		var work workspace
		work.source.set(c.img)
		for _, p := range g.passes(size.X, size.Y, 0) {
			name := fmt.Sprintf("%s/%.0f", c.name, p.scale*float64(size.X))
			b.Run(name+"/input", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					// The smaller images are made anew, as for a new image.
					work.source.levels = work.source.levels[:1]
					if _, err := g.prepare(&work, p); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/network", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := g.session.infer(b.Context(), &work.tensors[p.input]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// enlarged is a photograph of any size, as a decoder gives it.
func enlarged(img image.Image, width, height int) *image.YCbCr {
	out := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	from := img.(*image.YCbCr)
	size := from.Rect.Size()
	for y := range height {
		for x := range width {
			at := image.Pt(x*size.X/width, y*size.Y/height)
			out.Y[out.YOffset(x, y)] = from.Y[from.YOffset(at.X, at.Y)]
			out.Cb[out.COffset(x, y)] = from.Cb[from.COffset(at.X, at.Y)]
			out.Cr[out.COffset(x, y)] = from.Cr[from.COffset(at.X, at.Y)]
		}
	}
	return out
}

// TestNoTelemetry: the runtime keeps nothing about the machine, and so has nothing
// to send.
func TestNoTelemetry(t *testing.T) {
	model(t, "yunet_n_dynamic.onnx") // refuses
	home := t.TempDir()
	// In a process of its own, which loads the runtime anew.
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSample$")
	other.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_DATA_HOME="+home, "ORT_DISABLE_TELEMETRY=0")
	if out, err := other.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		t.Errorf("the runtime left %s", file.Name())
	}
}

// TestSmallestFaceSeen: MTCNN gives all that it sees for the smallest face that Info
// tells, and for anything below; YuNet goes on to smaller ones, and no further.
func TestSmallestFaceSeen(t *testing.T) {
	img := facetest.Decode(t, facetest.Path(t, "wider_val_416/images/0_Parade_Parade_0_490.jpg"))
	find := func(d face.Detector, size float64) []face.Face {
		t.Helper()
		faces, err := d.Detect(t.Context(), img, face.Options{MinFaceSize: size, MinConfidence: d.Info().MinConfidence})
		if err != nil {
			t.Fatal(err)
		}
		return faces
	}
	smaller := func(size float64) func(face.Face) bool { return facetest.Smaller(img, size) }

	mtcnn, err := Open(model(t, "mtcnn"), environment.library, 1)
	if err != nil {
		t.Fatal(err)
	}
	least := float64(mtcnn.Info().MinFaceSize)
	all := find(mtcnn, 1)
	if !slices.ContainsFunc(all, smaller(least)) {
		t.Fatal("this photograph has no face that is smaller than the smallest window")
	}
	if got := find(mtcnn, least); !reflect.DeepEqual(got, all) {
		t.Errorf("MTCNN: %d faces of %v pixels and more, want the %d of 1", len(got), least, len(all))
	}
	if slices.ContainsFunc(find(mtcnn, least+1), smaller(least+1)) {
		t.Errorf("MTCNN: there is a face of less than %v pixels", least+1)
	}

	yunet := openGrid(t, "yunet_n_dynamic.onnx")
	least = float64(yunet.Info().MinFaceSize)
	if many, few := find(yunet, least/2), find(yunet, least); len(many) <= len(few) || slices.ContainsFunc(many, smaller(least/2)) || slices.ContainsFunc(few, smaller(least)) {
		t.Errorf("YuNet: %d faces of %v pixels and more, %d of %v", len(many), least/2, len(few), least)
	}
}

// refused fails the test unless err is there and tells all of that.
func refused(t *testing.T, err error, told ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range told {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not tell %q", err, want)
		}
	}
}
