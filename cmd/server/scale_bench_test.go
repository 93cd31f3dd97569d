//go:build linux

package main

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"

	"github.com/mienproject/mien/engine/enginetest"
	"github.com/mienproject/mien/face/facetest"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// BenchmarkScale measures the CPU time that a server takes for an image, with everything that
// belongs to a call, by model and size: eight photographs with 1 to 80 faces, scaled to that
// many megapixels and encoded as JPEG. docs/scale.md has the results.
//
//	go test -run '^$' -bench BenchmarkScale -benchtime 16x ./cmd/server
func BenchmarkScale(b *testing.B) {
	yunet := "yunet=" + enginetest.Model(b, "yunet_n_dynamic.onnx")
	mien := startProcess(b, "--admin-listen", "", "--workers", "1", "--model", "mtcnn", "--model", "pigo", "--model", yunet)
	client := grpcClient(b, mien.url)
	for _, megapixels := range []float64{.3, 1, 2, 4, 12, 24} {
		photos := scaledPhotos(b, megapixels)
		for _, model := range []string{"yunet", "mtcnn", "pigo"} {
			b.Run(fmt.Sprintf("%s/%gMP", model, megapixels), func(b *testing.B) {
				call := func(i int) {
					req := &inferencev1.Image{RawData: photos[i%len(photos)], Options: &inferencev1.DetectOptions{Model: model}}
					if _, err := client.Predict(b.Context(), req); err != nil {
						b.Fatal(err)
					}
				}
				call(0)
				before := cpuTime(b, mien.cmd.Process.Pid)
				b.ResetTimer()
				for i := range b.N {
					call(i)
				}
				each := (cpuTime(b, mien.cmd.Process.Pid) - before).Seconds() / float64(b.N)
				b.ReportMetric(1e3*each, "cpu-ms/image")
				b.ReportMetric(1/each, "images/s/core")
				b.ReportMetric(0, "ns/op") // how long it took is not of interest
			})
		}
	}
}

// scaledPhotos returns photographs of the team's shelf with that many megapixels.
func scaledPhotos(b *testing.B, megapixels float64) [][]byte {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(facetest.Path(b, "wider_val_orig", "images"), "*.jpg"))
	if err != nil || len(paths) < 24 {
		b.Fatalf("%d photographs, %v", len(paths), err)
	}
	var photos [][]byte
	for i := 0; i < len(paths); i += 3 {
		f, err := os.Open(paths[i])
		if err != nil {
			b.Fatal(err)
		}
		img, err := jpeg.Decode(f)
		_ = f.Close()
		if err != nil {
			b.Fatal(err)
		}
		size := img.Bounds().Size()
		factor := math.Sqrt(megapixels * 1e6 / float64(size.X*size.Y))
		scaled := image.NewRGBA(image.Rect(0, 0, int(factor*float64(size.X)), int(factor*float64(size.Y))))
		draw.BiLinear.Scale(scaled, scaled.Rect, img, img.Bounds(), draw.Src, nil)
		var encoded bytes.Buffer
		if err := jpeg.Encode(&encoded, scaled, &jpeg.Options{Quality: 90}); err != nil {
			b.Fatal(err)
		}
		photos = append(photos, encoded.Bytes())
	}
	return photos
}
