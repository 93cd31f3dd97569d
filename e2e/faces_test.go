package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

// A testImage is an image with known faces.
type testImage struct {
	name          string
	data          func() ([]byte, error)
	width, height int
	// centers are the centers of the faces' boxes, and tolerance is how far off one may
	// be, both in pixels.
	centers   []point
	tolerance float64

	// The server promises the same faces for the same bytes, so every client must get
	// the same faces of a model as the first one. mu guards first, which is by model.
	mu    sync.Mutex
	first map[string][]face
}

var (
	// sample has one face.
	sample = &testImage{
		name: "sample.jpg", width: 320, height: 400,
		centers: []point{{157, 212}}, tolerance: 15,
		data: func() ([]byte, error) {
			return os.ReadFile(filepath.Join(root, "service", "selftest", "sample.jpg"))
		},
	}
	// small is sample in fewer bytes than a URL can hold.
	small = &testImage{
		name: "small.jpg", width: 320, height: 400,
		centers: []point{{157, 212}}, tolerance: 15,
		data: sync.OnceValues(shrink),
	}
	// people has four people. It is not in the repository, but beside it.
	people = &testImage{
		name: "peoples.jpg", width: 840, height: 558,
		centers: []point{{318, 115}, {185, 138}, {446, 110}, {597, 105}}, tolerance: 12,
		data: func() ([]byte, error) {
			return os.ReadFile(filepath.Join(root, "..", "shared", "faces", "peoples.jpg"))
		},
	}
)

// shrink encodes sample in a little less than 40 KB, because the contract says that a
// Connect GET request can carry that much.
func shrink() ([]byte, error) {
	file, err := sample.data()
	if err != nil {
		return nil, err
	}
	img, _, err := image.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	for quality := 100; quality > 0; quality-- {
		buf.Reset()
		if err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: quality}); err != nil {
			return nil, err
		}
		if buf.Len() < 40_000 {
			break
		}
	}
	if buf.Len() < 30_000 || buf.Len() >= 40_000 {
		return nil, fmt.Errorf("the small image has %d bytes, want 30,000 to 40,000", buf.Len())
	}
	return buf.Bytes(), nil
}

// load returns the content of the image's file. If the image is not in the repository
// and is missing, it skips the test.
func (p *testImage) load(t testing.TB) []byte {
	t.Helper()
	data, err := p.data()
	if p == people && os.IsNotExist(err) && !inCI() {
		t.Skipf("no labeled photographs beside the repository: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// present returns those images for which load would not skip the test.
func present(t testing.TB, images []*testImage) []*testImage {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(images), func(p *testImage) bool {
		_, err := p.data()
		absent := p == people && os.IsNotExist(err) && !inCI()
		if absent {
			t.Logf("without %s: no labeled photographs beside the repository: %v", p.name, err)
		}
		return absent
	})
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// request returns an Image message in JSON, with the name of the image as image_id.
func (p *testImage) request(t testing.TB) []byte {
	t.Helper()
	return marshal(t, map[string]any{"rawData": p.load(t), "imageId": p.name})
}

// broken is a JPEG file that ends within its header.
var broken = []byte(`{"rawData":"/9j/4AA="}`)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type point struct{ X, Y float64 }

type face struct {
	Box        struct{ UpLeft, LowerRight point }
	Landmarks  *struct{ LeftEye, RightEye, Nose, MouthLeft, MouthRight point }
	Confidence float64
}

// answer is an InferResults message in JSON; clients may leave out zeros.
type answer struct {
	ImageID  string
	MetaData struct {
		Timestamp                  float64
		Environment, UUID, ISODate string
	}
	Results       []face
	Width, Height int
	Model         string
	Timing        struct{ Queue, Decode, Detect string }
}

// check fails the test unless data is the answer for p.
func (p *testImage) check(t testing.TB, data []byte) answer {
	t.Helper()
	return p.checkOf(t, data, defaultModel)
}

// defaultModel answers requests that name none.
const defaultModel = "mtcnn"

// checkOf is check for the answer of a model.
func (p *testImage) checkOf(t testing.TB, data []byte, model string) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatalf("%s: the answer is no JSON: %v\n%s", p.name, err, excerpt(data))
	}
	if a.ImageID != p.name {
		t.Errorf("image_id is %q, want %q", a.ImageID, p.name)
	}
	p.checkFacesOf(t, model, a.Results)
	if a.Width != p.width || a.Height != p.height {
		t.Errorf("%s: size is %d × %d, want %d × %d", p.name, a.Width, a.Height, p.width, p.height)
	}
	if a.Model != model {
		t.Errorf("%s: model is %q, want %s", p.name, a.Model, model)
	}
	if a.MetaData.UUID == "" || a.MetaData.Environment != "ENVIRONMENT_PRODUCTION" {
		t.Errorf("%s: meta_data is %+v", p.name, a.MetaData)
	}
	replied, err := time.Parse(time.RFC3339, a.MetaData.ISODate)
	if age := time.Since(replied); err != nil || age < 0 || age > patience {
		t.Errorf("%s: meta_data.iso_date is %q, which is %v ago (%v)", p.name, a.MetaData.ISODate, age, err)
	}
	if seconds := float64(replied.UnixMicro()) / 1e6; math.Abs(a.MetaData.Timestamp-seconds) > 1e-3 {
		t.Errorf("%s: meta_data.timestamp is %f, iso_date is %f", p.name, a.MetaData.Timestamp, seconds)
	}
	if detect, err := time.ParseDuration(a.Timing.Detect); err != nil || detect <= 0 {
		t.Errorf("%s: timing.detect is %q (%v)", p.name, a.Timing.Detect, err)
	}
	return a
}

// checkFaces fails the test unless faces are those of p.
func (p *testImage) checkFaces(t testing.TB, faces []face) {
	t.Helper()
	p.checkFacesOf(t, defaultModel, faces)
}

// checkFacesOf is checkFaces for a model.
func (p *testImage) checkFacesOf(t testing.TB, model string, faces []face) {
	t.Helper()
	if len(faces) != len(p.centers) {
		t.Fatalf("%s: %d faces, want %d: %+v", p.name, len(faces), len(p.centers), faces)
	}
	missing := append([]point(nil), p.centers...)
	for i, f := range faces {
		a, b := f.Box.UpLeft, f.Box.LowerRight
		if a.X < 0 || a.Y < 0 || a.X >= b.X || a.Y >= b.Y || b.X > float64(p.width) || b.Y > float64(p.height) {
			t.Errorf("%s: box %v to %v is not within the image", p.name, a, b)
		}
		at := -1
		for j, c := range missing {
			if math.Hypot((a.X+b.X)/2-c.X, (a.Y+b.Y)/2-c.Y) <= p.tolerance {
				at = j
			}
		}
		if at < 0 {
			t.Errorf("%s: a face at %v to %v, where there is none (or a second one); not found yet: %v", p.name, a, b, missing)
			continue
		}
		missing = append(missing[:at], missing[at+1:]...)

		if f.Confidence <= 0.5 || f.Confidence > 1 {
			t.Errorf("%s: confidence is %v, want it in (0.5, 1]", p.name, f.Confidence)
		}
		if i > 0 && f.Confidence > faces[i-1].Confidence {
			t.Errorf("%s: confidence %v comes after %v", p.name, f.Confidence, faces[i-1].Confidence)
		}
		l := f.Landmarks
		if l == nil {
			t.Errorf("%s: no landmarks", p.name)
			continue
		}
		for _, q := range []point{l.LeftEye, l.RightEye, l.Nose, l.MouthLeft, l.MouthRight} {
			if q.X < a.X || q.X >= b.X || q.Y < a.Y || q.Y >= b.Y {
				t.Errorf("%s: landmark %v is not within the box %v to %v", p.name, q, a, b)
			}
		}
		if l.LeftEye.X >= l.RightEye.X || l.MouthLeft.X >= l.MouthRight.X ||
			max(l.LeftEye.Y, l.RightEye.Y) >= l.Nose.Y || l.Nose.Y >= min(l.MouthLeft.Y, l.MouthRight.Y) {
			t.Errorf("%s: landmarks are not arranged as in a face: %+v", p.name, *l)
		}
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = map[string][]face{}
	}
	if first, ok := p.first[model]; ok && !reflect.DeepEqual(first, faces) {
		t.Errorf("%s: another client was told other faces:\n%s\n%s", p.name, marshal(t, first), marshal(t, faces))
	} else if !ok && !t.Failed() {
		p.first[model] = faces
	}
}

// checkModels fails the test unless data is a ListModelsResponse in JSON that
// names the built-in model.
func checkModels(t testing.TB, data []byte) {
	t.Helper()
	var list struct {
		Models []struct {
			Name, Family, Version string
			Landmarks, Default    bool
			MinFaceSize           int
			DefaultMinConfidence  float64
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatalf("the list of models is no JSON: %v\n%s", err, excerpt(data))
	}
	names := []string{defaultModel, "pigo"}
	if len(list.Models) != len(names) {
		t.Fatalf("%d models, want %d: %s", len(list.Models), len(names), data)
	}
	for i, m := range list.Models {
		if m.Name != names[i] || m.Family != names[i] || m.Version == "" || !m.Landmarks || m.Default != (i == 0) ||
			m.MinFaceSize < 1 || m.DefaultMinConfidence <= 0 || m.DefaultMinConfidence >= 1 {
			t.Errorf("model %d is %+v", i, m)
		}
	}
}

// connectError is an error in the JSON of the Connect protocol.
type connectError struct {
	Code, Message string
	Details       []struct {
		Type string
		// Value is the detail in base64 without padding. Debug is the detail in JSON,
		// for people; only the Connect protocol has it.
		Value string
		Debug struct{ Reason, Domain string }
	}
}

// checkError fails the test unless data is an error of that code and reason.
func checkError(t testing.TB, data []byte, code, reason string) connectError {
	t.Helper()
	var e connectError
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatalf("the error is no JSON: %v\n%s", err, excerpt(data))
	}
	if e.Code != code || e.Message == "" {
		t.Errorf("error %q, %q; want code %q and a message", e.Code, e.Message, code)
	}
	const domain = "mien"
	want := "\x0a" + string(rune(len(reason))) + reason + "\x12" + string(rune(len(domain))) + domain
	for _, d := range e.Details {
		if d.Type != "google.rpc.ErrorInfo" {
			continue
		}
		if got, err := base64.RawStdEncoding.DecodeString(d.Value); err != nil || string(got) != want {
			t.Errorf("ErrorInfo is %q (%v), want %q", got, err, want)
		}
		return e
	}
	t.Errorf("no ErrorInfo in %s", data)
	return e
}
