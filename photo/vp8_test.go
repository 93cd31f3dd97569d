package photo

import (
	"bytes"
	"image"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/vp8"
)

// lossyData returns the VP8 data of a file.
func lossyData(data []byte) []byte {
	if len(data) < webpHeader || string(data[8:12]) != "WEBP" {
		return nil
	}
	var f webpFile
	f.read(data[webpHeader:])
	return f.lossy
}

// decodeByLibrary decodes with golang.org/x/image/vp8.
func decodeByLibrary(data []byte) (*image.YCbCr, error) {
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(data), len(data))
	if _, err := d.DecodeFrameHeader(); err != nil {
		return nil, err
	}
	return d.DecodeFrame()
}

// samplesDiffer returns a sample in which two images differ.
func samplesDiffer(a, b *image.YCbCr) (string, image.Point, bool) {
	if a.Rect != b.Rect {
		return "bounds", image.Point{}, true
	}
	for y := a.Rect.Min.Y; y < a.Rect.Max.Y; y++ {
		for x := a.Rect.Min.X; x < a.Rect.Max.X; x++ {
			at := image.Pt(x, y)
			if a.Y[a.YOffset(x, y)] != b.Y[b.YOffset(x, y)] {
				return "Y", at, true
			}
			if a.Cb[a.COffset(x, y)] != b.Cb[b.COffset(x, y)] {
				return "Cb", at, true
			}
			if a.Cr[a.COffset(x, y)] != b.Cr[b.COffset(x, y)] {
				return "Cr", at, true
			}
		}
	}
	return "", image.Point{}, false
}

// TestVP8AsLibrary checks that the samples are those that golang.org/x/image/vp8 decodes.
// MIEN_WEBP may name a folder with more files.
func TestVP8AsLibrary(t *testing.T) {
	var files []string
	for _, pattern := range []string{
		"testdata/*.webp", "testdata/large/*.webp", "../../shared/cases/*.webp", "../../shared/cases/hostile/*.webp",
		filepath.Join(os.Getenv("MIEN_WEBP"), "*.webp"),
	} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	n := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data = lossyData(data)
		if data == nil {
			continue
		}
		want, err := decodeByLibrary(data)
		got, err2 := decodeVP8(t.Context(), data)
		if err != nil || err2 != nil {
			t.Errorf("%s: %v, %v", file, err, err2)
			continue
		}
		n++
		if what, at, differ := samplesDiffer(got, want); differ {
			t.Errorf("%s: %s at %v", file, what, at)
		}
	}
	if t.Logf("%d files", n); n < 5 {
		t.Errorf("only %d files are lossy", n)
	}
}
