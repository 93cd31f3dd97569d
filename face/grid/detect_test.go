package grid

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"testing"
	"time"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

const sample = "../../service/selftest/sample.jpg"

// TestSample checks that every family finds the face in the self-test image.
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

// TestStops checks that Detect stops in the middle of a network.
func TestStops(t *testing.T) {
	g := openGrid(t, "yunet_n_dynamic.onnx")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := g.Detect(ctx, image.NewGray(image.Rect(0, 0, 4000, 4000)), face.Options{MinFaceSize: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	// The detector still works after that.
	if faces, err := g.Detect(t.Context(), facetest.Decode(t, sample), face.Options{MinConfidence: 0.8}); err != nil || len(faces) != 1 {
		t.Errorf("%v, %v", faces, err)
	}
}

// TestInput compares the conversion to planes, which takes one pass, with a simple one.
func TestInput(t *testing.T) {
	photo := facetest.Decode(t, sample).(*image.YCbCr)
	odd := photo.SubImage(image.Rect(0, 0, 211, 173))
	rgba := image.NewRGBA(odd.Bounds())
	draw.Draw(rgba, rgba.Rect, odd, image.Point{}, draw.Src)
	for _, c := range []struct {
		name   string
		img    image.Image
		within float64 // mean difference in gray levels: chroma is interpolated instead of repeated
	}{{"YCbCr", odd, 2}, {"RGBA", rgba, 0.01}} {
		t.Run(c.name, func(t *testing.T) {
			const w, h, stride = 211, 173, 224
			planes := make([]float32, 3*stride*h)
			var s source
			if err := s.set(t.Context(), c.img); err != nil {
				t.Fatal(err)
			}
			s.input(planes[:stride*h], planes[stride*h:2*stride*h], planes[2*stride*h:], image.Rect(0, 0, w, h), stride, 1)
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
				t.Errorf("off by %.3f gray levels in the mean, want %.2f", off, c.within)
			}
		})
	}
	t.Run("reduced to means", func(t *testing.T) {
		// A reduced checkerboard is only gray.
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
			if err := s.set(t.Context(), board); err != nil {
				t.Fatal(err)
			}
			s.input(planes[:w*h], planes[w*h:2*w*h], planes[2*w*h:], image.Rect(0, 0, w, h), w, scale)
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

// BenchmarkStages measures the time of YuNet, pass by pass: the input, and the network
// on one core. The input should take at most a fifth of the network's time.
func BenchmarkStages(b *testing.B) {
	g := openGrid(b, "yunet_n_dynamic.onnx")
	people := facetest.Decode(b, facetest.Path(b, "peoples.jpg"))
	for _, c := range []struct {
		name string
		img  image.Image
	}{{"peoples", people}, {"12MP", enlarged(people, 4000/maxReduced, 3000/maxReduced)}} { // reduced by the decoder
		size := c.img.Bounds().Size()
		var work workspace
		if err := work.source.set(b.Context(), c.img); err != nil {
			b.Fatal(err)
		}
		for _, p := range g.passes(size.X, size.Y, 0) {
			name := fmt.Sprintf("%s/%.0f", c.name, p.scale*float64(size.X))
			b.Run(name+"/input", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					// The smaller images are computed again, as for a new image.
					work.source.levels = work.source.levels[:1]
					g.prepare(&work, p)
				}
			})
			b.Run(name+"/network", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					buffers := &work.buffers[p.input]
					if err := g.engine.Run(b.Context(), buffers.Input, buffers.Outputs); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// enlarged returns a photograph of any size, in the type that a decoder returns.
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
