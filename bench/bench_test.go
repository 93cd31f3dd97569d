package main

import (
	"bytes"
	"encoding/json"
	"image"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
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

// TestPeers evaluates servers that answer the labels of the photographs themselves, and
// one that finds nothing.
func TestPeers(t *testing.T) {
	facetest.Path(t)                        // skips the test if there are no photographs
	labels := map[string][]facetest.Label{} // by the bytes of the photograph
	for _, subset := range subsets {
		for _, p := range first(facetest.Subset(t, subset), 3) {
			data, err := os.ReadFile(p.Path)
			if err != nil {
				t.Fatal(err)
			}
			labels[string(data)] = p.Faces
		}
	}
	type answered struct {
		Box       [4]float64     `json:"box"`
		Score     float64        `json:"score"`
		Landmarks *[5][2]float64 `json:"landmarks"`
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{what}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		known, ok := labels[string(data)]
		if !ok {
			t.Error("another image than one of the photographs")
		}
		faces := []answered{}
		for i, l := range known {
			a := answered{Box: [4]float64{l.Box.MinX, l.Box.MinY, l.Box.MaxX, l.Box.MaxY}, Score: .9}
			if l.Landmarks != nil {
				a.Landmarks = &[5][2]float64{}
				for i, p := range points(*l.Landmarks) {
					a.Landmarks[i] = [2]float64{p.X, p.Y}
				}
			}
			switch r.PathValue("what") {
			case "nothing":
				continue
			case "odd": // no landmarks, scores that are not probabilities, and the worst ones first
				a.Score, a.Landmarks = -7, nil
				worse := a
				worse.Box[0] += l.Box.Width() / 4
				faces = append([]answered{worse}, faces...)
				a.Score = []float64{-2.5, 40}[i%2]
			}
			faces = append(faces, a)
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"faces": faces}); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	file := filepath.Join(t.TempDir(), "summary.json")
	var stdout, stderr strings.Builder
	// A peer may have the name of a detector.
	args := []string{
		"--limit", "3", "--json", file, "--models", "absent", "--onnxruntime", "absent",
		"--peer", "right=file+" + server.URL + "/right#0.5", "--peer", oldSystem + "=file+" + server.URL + "/odd#-3", "--peer", "nothing=file+" + server.URL + "/nothing",
	}
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	for _, bad := range []string{"NaN", "Inf", "<no value>", "## Speed", "Rotated", "dots", "lowest", "\n\n\n"} {
		if strings.Contains(stdout.String(), bad) {
			t.Errorf("the report has %q:\n%s", bad, stdout.String())
		}
	}
	for _, row := range []string{
		`\| .right. +\| 1.000 1.000 1.000 \| +1.00 \| 1.000 1.000 1.000 \| +1.00 \| +.000 \(3\) \| +.000 \(3\) \| +– \| +.50 \| +0 \|`,
		`\| .mtcnn. +\| 1.000 1.000 1.000 \| +1.00 \| 1.000 1.000 1.000 \| +1.00 \| +– \| +– \| +– \| +-3.00 \| +0 \|`,
		`\| .nothing. +\| +.000 .000 .000 \| +.00 \| +.000 .000 .000 \| +.00 \| +– \| +– \| +– \| +.00 \| +0 \|`,
	} {
		if !regexp.MustCompile(row).MatchString(stdout.String()) {
			t.Errorf("the report lacks the row %s:\n%s", row, stdout.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, text); err != nil {
		t.Fatal(err)
	}
	want := `[` +
		`{"name":"right","minConfidence":0.5,"originals":[1,1,1],"small":[1,1,1],"recall":1,"falseFaces":0,"landmarks":{"lfw":0,"net":0},"photos":18},` +
		`{"name":"mtcnn","minConfidence":-3,"originals":[1,1,1],"small":[1,1,1],"recall":1,"falseFaces":0,"landmarks":{"lfw":null,"net":null},"photos":18},` +
		`{"name":"nothing","minConfidence":0,"originals":[0,0,0],"small":[0,0,0],"recall":0,"falseFaces":0,"landmarks":{"lfw":null,"net":null},"photos":18}]`
	// Sums of many parts are not exact.
	rounded := regexp.MustCompile(`0\.9999999999\d*|1\.0000000000\d*`).ReplaceAllString(got.String(), "1")
	if rounded != want {
		t.Errorf("the summary is\n%s, want\n%s", got.String(), want)
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
		{"--peer http://127.0.0.1:9001", "NAME=PROTOCOL+URL#MINCONFIDENCE"},
		{"--peer a=smtp+http://127.0.0.1:9001", "none of grpc"},
		{"--peer a=file+127.0.0.1:9001", "not a URL"},
		{"--peer a=file+https://127.0.0.1:9001", "not a URL"},
		{"--peer a=file+http://127.0.0.1:9001#most", "not a number"},
		{"--peer a=file+http://127.0.0.1:9001#NaN", "not a number"},
		{"--peer a=file+http://127.0.0.1:9001 --peer a=grpc+http://127.0.0.1:9002", "twice"},
		{"--peer a=file+http://127.0.0.1:9001 --only yunet", "omit --only"},
		{"--peer a=file+http://127.0.0.1:9001 --skip-service", "omit --only, --skip-"},
		{"--peer a=file+http://127.0.0.1:9001 --skip-in-process", "omit --only, --skip-"},
		{"--peer a=file+http://127.0.0.1:9001 --write", "and --write"},
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
