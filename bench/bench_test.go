package main

import (
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/bench/server"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// TestEvaluate runs the whole evaluation on a few photographs. If these, the models or
// the runtime are missing, the test is skipped, or fails if CI is set.
func TestEvaluate(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and takes a while")
	}
	facetest.Path(t) // skips the test if there are no photographs
	opts, _, err := parse([]string{"--limit", "2"}, t.Output())
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	m, err := evaluate(t.Context(), opts, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.disagreement(); err != nil {
		t.Error(err)
	}
	if len(m.ways) != 2 || len(m.detectors) != len(detectors) {
		t.Fatalf("%d ways and %d detectors, want 2 and %d", len(m.ways), len(m.detectors), len(detectors))
	}
	// The results for these photographs, with some tolerance for other machines.
	minPrecision := map[string]float64{recommended: .8, "yunet-s": .8, oldSystem: .5, "scrfd-2.5g": .8, "scrfd-500m": .6, "pigo": .2, reference: .2}
	for _, w := range m.ways {
		for _, d := range m.detectors {
			r := w.results[d.name]
			if ap := facetest.AveragePrecision(m.photos[original], r.found[original], 0); !(ap >= minPrecision[d.name] && ap <= 1) {
				t.Errorf("%s %s: average precision %.3f, want %.1f at least", d.name, w.Title, ap, minPrecision[d.name])
			}
			if mean, n, _ := facetest.MeanLandmarkError(m.photos[net], r.found[net]); !(mean > 0 && mean < .15) || n == 0 {
				t.Errorf("%s %s: landmark error %.3f over %d faces", d.name, w.Title, mean, n)
			}
			if !(r.detect > 0 && r.call >= r.detect) {
				t.Errorf("%s %s: took %.1f ms, the call %.1f", d.name, w.Title, r.detect, r.call)
			}
		}
	}

	text, err := report(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"NaN", "Inf", "<no value>"} {
		if strings.Contains(text, bad) {
			t.Errorf("the report has %s:\n%s", bad, text)
		}
	}
	docs, err := os.ReadFile(filepath.Join(server.Root(), "docs", "accuracy.md"))
	if err != nil {
		t.Fatal(err)
	}
	if docs, err = page.Replace(docs, "make eval", text); err != nil || !strings.Contains(string(docs), text) {
		t.Errorf("the report cannot be written to docs/accuracy.md: %v", err)
	}
	svg, err := drawCurves(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.detectors {
		if !strings.Contains(string(svg), ">"+d.name+"<") {
			t.Errorf("the image does not name %s", d.name)
		}
	}
}

// TestFlags checks that invalid flags are reported with their remedies.
func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--limit -1", "--limit"},
		{"--only nobody", "must be one of"},
		{"--skip-service --skip-in-process", "nothing to measure"},
		{"--write --limit 3", "--write"},
		{"--faces absent", "name their folder with --faces"},
		{"--models absent", "name their folder with --models"},
		{"--onnxruntime absent", "make onnxruntime"},
	} {
		var stderr strings.Builder
		if code := run(t.Context(), strings.Fields(c.args), t.Output(), &stderr); code == 0 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: exit code %d, %q; want %q in it", c.args, code, stderr.String(), c.want)
		}
	}
}

func TestSameFaces(t *testing.T) {
	size := image.Pt(100, 80)
	one := func(change func(*face.Face)) []face.Face {
		f := face.Face{
			Box:        face.Box{MinX: 10, MinY: 20, MaxX: 50, MaxY: 70},
			Landmarks:  &face.Landmarks{LeftEye: face.Point{X: 20, Y: 40}, MouthRight: face.Point{X: 99, Y: 60}},
			Confidence: .9,
		}
		change(&f)
		return []face.Face{f}
	}
	for _, c := range []struct {
		name string
		same bool
		got  []face.Face
	}{
		{"equal", true, one(func(*face.Face) {})},
		{"rounded", true, one(func(f *face.Face) { f.Box.MinX, f.Box.MaxY, f.Landmarks.LeftEye.X = 10.5, 69.5, 20.4 })},
		{"rounded confidence", true, one(func(f *face.Face) { f.Confidence = float64(float32(.9)) })},
		{"on the edge", true, one(func(f *face.Face) { f.Landmarks.MouthRight.X = 100 })},
		{"another box", false, one(func(f *face.Face) { f.Box.MaxX = 50.6 })},
		{"another landmark", false, one(func(f *face.Face) { f.Landmarks.LeftEye.Y = 41 })},
		{"another confidence", false, one(func(f *face.Face) { f.Confidence = .8999 })},
		{"no landmarks", false, one(func(f *face.Face) { f.Landmarks = nil })},
		{"none", false, nil},
	} {
		if err := sameFaces(c.got, one(func(*face.Face) {}), size); (err == nil) != c.same {
			t.Errorf("%s: %v, want the same: %v", c.name, err, c.same)
		}
	}
}
