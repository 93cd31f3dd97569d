package main

import (
	"bytes"
	"image"
	"image/png"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/face/facetest"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// TestNaN checks that a network which returns NaN for dark images makes those fail with
// INTERNAL, which is counted, and logged with its cause. Other images are answered as
// before.
func TestNaN(t *testing.T) {
	library, models := onnxShelf(t)
	sick := filepath.Join(t.TempDir(), "sick.onnx")
	facetest.WriteNaNWhenDark(t, filepath.Join(models, "yunet_n_dynamic.onnx"), sick, "cls_8", 1)
	s := start(t, "--onnxruntime", library, "--model", "sick="+sick, "--admin-listen", "127.0.0.1:0")
	client := grpcClient(t, s.url)
	var dark bytes.Buffer
	if err := png.Encode(&dark, image.NewGray(image.Rect(0, 0, 320, 240))); err != nil {
		t.Fatal(err)
	}
	people := readFile(t, facetest.Path(t, "peoples.jpg"))
	for range 2 {
		_, err := client.Predict(t.Context(), &inferencev1.Image{RawData: dark.Bytes()})
		if code, reason := reasonOf(t, err); code != connect.CodeInternal || reason != "INTERNAL" || strings.Contains(err.Error(), "finite") {
			t.Errorf("%v, reason %s", err, reason)
		}
		res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: people})
		if err != nil {
			t.Fatal(err)
		}
		assertFaces(t, res, fourPeople, 0.5)
	}
	eventually(t, s, map[string]float64{
		`mien_refusals_total{reason="INTERNAL"}`:          2,
		`mien_images_total{code="internal",model="sick"}`: 2,
		`mien_images_total{code="ok",model="sick"}`:       2,
	})
	if _, log := s.stop(); strings.Count(log, "not a finite number") != 2 {
		t.Errorf("the log does not tell why, twice:\n%s", log)
	}
}
