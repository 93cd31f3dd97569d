package networks_test

import (
	"errors"
	"fmt"
	"image"
	"image/draw"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/engine"
	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/mtcnn"
	"github.com/mienproject/mien/face/networks"
	"github.com/mienproject/mien/nn"
	"github.com/mienproject/mien/onnx"
)

const sample = "../../service/selftest/sample.jpg"

// openOn opens a model as the server does: what package nn cannot run is opened with ONNX
// Runtime. Its runs may use that many cores.
func openOn(t testing.TB, path string, threads int) (face.Detector, error) {
	t.Helper()
	gate := cores.NewGate(threads)
	return networks.Open(path, gate, func(file networks.File, oneCore bool) (engine.Engine, error) {
		if e, err := nn.New(file.Data, nn.Options{Gate: gate, OneCore: oneCore}); err == nil {
			return e, nil
		}
		options := enginetest.Options(t)
		options.Gate, options.OneCore = gate, oneCore
		return onnx.Open(file.Path, options)
	})
}

func open(t testing.TB, path string) (face.Detector, error) {
	t.Helper()
	return openOn(t, path, 1)
}

// shelf opens a model from the team's shelf.
func shelf(t testing.TB, name string) face.Detector {
	t.Helper()
	d, err := open(t, enginetest.Model(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSameAnswer checks that the result is the same at any concurrency, on any number
// of cores, for any type of image with the same pixels, and for any bounds.
func TestSameAnswer(t *testing.T) {
	g, err := openOn(t, enginetest.Model(t, "yunet_n_dynamic.onnx"), 3)
	if err != nil {
		t.Fatal(err)
	}
	one := shelf(t, "yunet_n_dynamic.onnx")
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

// TestOpenRejects checks files that are not models, and models of unknown families.
func TestOpenRejects(t *testing.T) {
	known := enginetest.Model(t, "yunet_n_dynamic.onnx")
	write := func(text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "text.onnx")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, path, words string }{
		{"nothing there", filepath.Join(t.TempDir(), "missing.onnx"), "no such file"},
		{"not a model", write("not a model"), "text.onnx"},
		{"empty", write(" \n"), "empty"},
		{"Git LFS", write("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 322906\n"), "git lfs pull"},
		{"web page", write("\n<!DOCTYPE html>\n<html>"), "web page"},
		{"unknown family", filepath.Join(filepath.Dir(known), "mtcnn", "rnet.onnx"), "softmax_1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := open(t, c.path); err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v does not have %q", err, c.words)
			}
		})
	}
}

// TestSmallestFaceSeen checks that at the smallest face that Info reports, and below,
// MTCNN returns all faces that it can find, and that YuNet returns smaller ones up to a
// limit.
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

	mtcnn := shelf(t, "mtcnn")
	floor := float64(mtcnn.Info().MinFaceSize)
	all := find(mtcnn, 1)
	if !slices.ContainsFunc(all, smaller(floor)) {
		t.Fatal("this photograph has no face that is smaller than the smallest window")
	}
	if got := find(mtcnn, floor); !reflect.DeepEqual(got, all) {
		t.Errorf("MTCNN: %d faces of %v pixels and more, want the %d of 1", len(got), floor, len(all))
	}
	if slices.ContainsFunc(find(mtcnn, floor+1), smaller(floor+1)) {
		t.Errorf("MTCNN: there is a face of less than %v pixels", floor+1)
	}

	yunet := shelf(t, "yunet_n_dynamic.onnx")
	floor = float64(yunet.Info().MinFaceSize)
	if many, few := find(yunet, floor/2), find(yunet, floor); len(many) <= len(few) || slices.ContainsFunc(many, smaller(floor/2)) || slices.ContainsFunc(few, smaller(floor)) {
		t.Errorf("YuNet: %d faces of %v pixels and more, %d of %v", len(many), floor/2, len(few), floor)
	}
}

// TestAccuracyOnCheckedShirt checks that every family finds exactly one face at its default
// confidence, that of the person in the shirt, at any size of the image.
func TestAccuracyOnCheckedShirt(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute with the race detector: make accuracy runs it")
	}
	for _, name := range []string{"yunet_n_dynamic.onnx", "yunet_s_dynamic.onnx", "face_detection_yunet_2023mar.onnx", "scrfd_500m_kps_640.onnx", "scrfd_2.5g_kps_640.onnx", "mtcnn"} {
		t.Run(name, func(t *testing.T) {
			d, err := open(t, enginetest.Model(t, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, scale := range []float64{.5, .75, 1, 1.5, 2} {
				img, label := facetest.CheckedShirt(t, scale)
				faces, err := d.Detect(t.Context(), img, face.Options{MinConfidence: d.Info().MinConfidence})
				if err != nil {
					t.Fatal(err)
				}
				if len(faces) != 1 || face.IoU(faces[0].Box, label.Box) < 0.7 {
					t.Errorf("at %g times its size: %+v, want one face at %v", scale, faces, label.Box)
				}
			}
		})
	}
}

// TestNotFinite checks that Detect fails if an output of the network is NaN: for dark
// images only, if it is NaN only for those. Scores always count, and boxes and points
// only where a score says that there is a face.
func TestNotFinite(t *testing.T) {
	people := facetest.Decode(t, facetest.Path(t, "peoples.jpg"))
	black := image.NewGray(image.Rect(0, 0, 320, 240))
	const never, always = -1e9, 1e9
	for _, c := range []struct {
		model, network, output string
		floor                  float32
		people, black          bool // whether Detect fails for the image
	}{
		{"yunet_n_dynamic.onnx", "", "cls_8", never, false, false},
		{"yunet_n_dynamic.onnx", "", "cls_8", 1, false, true},
		{"yunet_n_dynamic.onnx", "", "cls_32", always, true, true},
		{"yunet_n_dynamic.onnx", "", "obj_16", 1, false, true},
		{"yunet_n_dynamic.onnx", "", "bbox_8", always, true, false},
		{"yunet_n_dynamic.onnx", "", "kps_8", always, true, false},
		{"scrfd_500m_kps_640.onnx", "", "", never, false, false}, // the scores of the finest grid
		{"scrfd_500m_kps_640.onnx", "", "", -0.99, false, true},
		{"mtcnn", "pnet", "scores", -0.99, false, true},
		{"mtcnn", "pnet", "offsets", always, true, false},
		{"mtcnn", "rnet", "scores", always, true, false},
		{"mtcnn", "rnet", "offsets", always, true, false},
		{"mtcnn", "onet", "scores", always, true, false},
		{"mtcnn", "onet", "offsets", always, true, false},
		{"mtcnn", "onet", "points", always, true, false},
		{"mtcnn", "onet", "points", never, false, false},
	} {
		t.Run(c.model+" "+c.network+" "+c.output, func(t *testing.T) {
			path := withNaN(t, c.model, c.network, c.output, c.floor)
			d, err := open(t, path)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []struct {
				name  string
				img   image.Image
				fails bool
			}{{"people", people, c.people}, {"black", black, c.black}} {
				faces, err := d.Detect(t.Context(), p.img, face.Options{})
				if errors.Is(err, engine.ErrNotFinite) != p.fails || (err != nil) != p.fails || (p.fails && faces != nil) {
					t.Errorf("%s: %d faces, %v; it is %t that this has to fail", p.name, len(faces), err, p.fails)
				}
			}
		})
	}
}

// withNaN returns the path of a model in which one output of a network becomes NaN.
// Outputs whose names are numbers are chosen by what they contain.
func withNaN(t *testing.T, name, network, output string, floor float32) string {
	t.Helper()
	from, to := enginetest.Model(t, name), filepath.Join(t.TempDir(), "model.onnx")
	if network != "" {
		folder := filepath.Dir(to)
		for _, n := range mtcnn.Files {
			if n != network+".onnx" {
				if err := os.Symlink(filepath.Join(from, n), filepath.Join(folder, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		values := map[string]int64{"scores": 2, "offsets": 4, "points": 10}[output]
		from = filepath.Join(from, network+".onnx")
		facetest.WriteNaNWhenDark(t, from, filepath.Join(folder, network+".onnx"), outputOf(t, from, values), floor)
		return folder
	}
	if output == "" {
		output = enginetest.Open(t, from).Outputs()[0].Name
	}
	facetest.WriteNaNWhenDark(t, from, to, output, floor)
	return to
}

// outputOf returns the name of the network's output with that many values in its last
// axis.
func outputOf(t *testing.T, path string, values int64) string {
	t.Helper()
	for _, o := range enginetest.Open(t, path).Outputs() {
		if o.Shape[len(o.Shape)-1] == values {
			return o.Name
		}
	}
	t.Fatalf("%s has no output of %d values", path, values)
	return ""
}

// BenchmarkThreads measures one request at a time, and as many as there are cores, with
// one thread for each and with two for a request that runs alone.
func BenchmarkThreads(b *testing.B) {
	img := facetest.Decode(b, facetest.Path(b, "peoples.jpg"))
	path := enginetest.Model(b, "yunet_n_dynamic.onnx")
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprint(threads), func(b *testing.B) {
			g, err := openOn(b, path, threads)
			if err != nil {
				b.Fatal(err)
			}
			detect := func(b *testing.B) {
				if _, err := g.Detect(b.Context(), img, face.Options{MinConfidence: g.Info().MinConfidence}); err != nil {
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
