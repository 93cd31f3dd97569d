package e2e

import (
	"bytes"
	endian "encoding/binary" // binary is the server's
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pagePatience is the time limit of a scenario, which has many steps.
const pagePatience = 5 * time.Minute

// A pageTask is the input of browser/page.mjs, which describes the fields.
type pageTask struct {
	Scenario string            `json:"scenario"`
	URL      string            `json:"url"`
	Out      string            `json:"out"`
	Files    map[string]string `json:"files"`
	Camera   string            `json:"camera,omitempty"`
	Images   any               `json:"images,omitempty"`
	Image    string            `json:"image,omitempty"`
	Both     string            `json:"both,omitempty"`
	Faces    int               `json:"faces,omitempty"`
	Gallery  []string          `json:"gallery,omitempty"`
	Compare  string            `json:"compare,omitempty"`
	Busy     string            `json:"busy,omitempty"`
	Boxes    [][4]int          `json:"boxes,omitempty"`
	Key      string            `json:"key,omitempty"`
	Trusted  []string          `json:"trusted,omitempty"`
	Refused  []string          `json:"refused,omitempty"`
}

// play runs a scenario of browser/page.mjs on the server's page and returns its output. The
// scenario checks the page itself.
func play(t testing.TB, s *server, task pageTask) []byte {
	t.Helper()
	tool(t, "/usr/bin/chromium")
	nodeModule(t, "playwright-core")
	nodeModule(t, "axe-core")
	task.URL = s.url
	if task.Out == "" {
		task.Out = t.TempDir()
	}
	if task.Files == nil {
		task.Files = map[string]string{}
	}
	task.Files["sample"] = samplePath()
	return runIn(t, root, pagePatience, nil, marshal(t, task), "node", filepath.Join(root, "e2e", "browser", "page.mjs")).must(t)
}

func samplePath() string { return filepath.Join(root, "web", "page", "sample.jpg") }

// peoplePath returns the path of the photograph people, which is not in the repository. Without
// it the test is skipped.
func peoplePath(t testing.TB) string {
	t.Helper()
	people.load(t)
	return filepath.Join(root, "..", "shared", "faces", people.name)
}

func TestPageOpens(t *testing.T) {
	t.Parallel()
	s := start(t)
	play(t, s, pageTask{Scenario: "opens"})
	// The page sends the files as they are.
	sizes := map[any]bool{}
	for _, name := range []string{"group.jpg", "hard.jpg", "sample.jpg"} {
		sizes[float64(len(read(t, filepath.Join(filepath.Dir(samplePath()), name))))] = true
	}
	for _, r := range requests(s.stop(), procedure+"Predict") {
		if !sizes[r["bytes"]] {
			t.Errorf("an image of %v bytes was sent, want the sizes of the samples, %v", r["bytes"], sizes)
		}
	}
}

func TestPageEarly(t *testing.T) {
	t.Parallel()
	file := peoplePath(t)
	play(t, start(t), pageTask{Scenario: "early", Files: map[string]string{"people": file}})
}

func TestPageInputs(t *testing.T) {
	t.Parallel()
	file := peoplePath(t)
	play(t, start(t), pageTask{Scenario: "inputs", Files: map[string]string{"people": file}})
}

func TestPageControls(t *testing.T) {
	t.Parallel()
	file := peoplePath(t)
	s := start(t, "--model", "pigo", "--model", "pigo-reference")
	play(t, s, pageTask{Scenario: "controls", Files: map[string]string{"people": file}})
	turned := 0
	for _, r := range requests(s.stop(), procedure+"Predict") {
		if r["any_orientation"] == true && r["code"] == "ok" {
			turned++
		}
	}
	if turned != 1 {
		t.Errorf("%d images were searched in any orientation, want 1", turned)
	}
}

func TestPageView(t *testing.T) {
	t.Parallel()
	play(t, start(t), pageTask{Scenario: "view"})
}

func TestPageErrors(t *testing.T) {
	t.Parallel()
	play(t, start(t, "--max-image-bytes", "100KiB"), pageTask{Scenario: "errors"})
}

func TestPageKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	key := strings.TrimSpace(string(run(t, nil, binary, "keys", "add", "acme", "--auth-keys", file).must(t)))
	play(t, start(t, "--auth-keys", file), pageTask{Scenario: "key", Key: key})
}

func TestPageOverload(t *testing.T) {
	t.Parallel()
	play(t, start(t, "--max-requests", "1", "--stream-idle-timeout", "5m"), pageTask{Scenario: "overload"})
}

func TestPageReconnects(t *testing.T) {
	t.Parallel()
	play(t, start(t), pageTask{Scenario: "reconnects"})
}

func TestPageKeyboard(t *testing.T) {
	t.Parallel()
	file := peoplePath(t)
	play(t, start(t, "--model", "pigo"), pageTask{Scenario: "keyboard", Files: map[string]string{"people": file}})
}

// TestPageAppearance checks that axe finds no violation at any size of the screen and
// in any color scheme.
func TestPageAppearance(t *testing.T) {
	t.Parallel()
	play(t, start(t), pageTask{Scenario: "appearance"})
}

func TestPageUnshownFormat(t *testing.T) {
	t.Parallel()
	img := decode(t, read(t, samplePath()))
	play(t, start(t), pageTask{Scenario: "unshown", Files: map[string]string{"tiff": temp(t, "sample.tiff", encodeTIFF(img))}})
}

func TestPageCamera(t *testing.T) {
	t.Parallel()
	for _, p := range []*testImage{sample, people} {
		t.Run(p.name, func(t *testing.T) {
			frames := temp(t, "frames.y4m", encodeY4M(t, decode(t, p.load(t)), 3))
			play(t, start(t), pageTask{Scenario: "camera", Camera: frames, Faces: len(p.centers)})
		})
	}
	t.Run("none", func(t *testing.T) {
		play(t, start(t), pageTask{Scenario: "noCamera"})
	})
}

func TestPageExports(t *testing.T) {
	t.Parallel()
	s := start(t, "--model", "pigo", "--model", "pigo-reference")
	images := present(t, []*testImage{sample, people})
	task := pageTask{Scenario: "exports", Files: map[string]string{}}
	var order [][2]any
	for _, p := range images {
		task.Files[p.name] = temp(t, p.name, p.load(t))
		order = append(order, [2]any{p.name, len(p.centers)})
	}
	task.Images = order
	if slices.Contains(images, people) {
		task.Both = people.name
	}
	var made map[string]map[string]string
	if err := json.Unmarshal(play(t, s, task), &made); err != nil {
		t.Fatal(err)
	}
	for _, p := range images {
		files := made[p.name]
		var a answer
		if err := json.Unmarshal(read(t, files["json"]), &a); err != nil {
			t.Fatal(err)
		}
		p.checkFacesOf(t, a.Model, a.Results)
		original := decode(t, p.load(t))
		for _, kind := range []string{"marked", "blur", "cover"} {
			img := decode(t, read(t, files[kind]))
			if img.Bounds() != original.Bounds() {
				t.Errorf("%s, %s: size is %v, want %v", p.name, kind, img.Bounds(), original.Bounds())
			}
			// The faces change, and the pixels far from them do not, except in the few places
			// where another model detects a face, which are hidden too.
			minInside, maxFar := 8.0, 10.0
			if kind == "marked" { // lines are outside of the boxes, and only the landmarks are inside
				minInside, maxFar = 0.05, 3
			}
			far, inside := differences(original, img, a.Results)
			if far > maxFar || inside < minInside {
				t.Errorf("%s, %s: it differs by %.1f of 255 away from the faces, by %.1f in them", p.name, kind, far, inside)
			}
		}
		for _, kind := range []string{"blur", "cover"} {
			for _, model := range []string{"pigo", "pigo-reference"} {
				checkHidden(t, s, files[kind], model, a.Results)
			}
		}
		if p.name != task.Both {
			continue
		}
		// The face that only the second model finds is dashed, in another color, and hidden.
		if n := recolored(decode(t, read(t, files["marked"])), decode(t, read(t, made["both"]["marked"]))); n < 50 {
			t.Errorf("%s: %d pixels of the box that only one of two models finds have its color, want 50 or more", p.name, n)
		}
		for _, model := range []string{"pigo", "pigo-reference"} {
			checkHidden(t, s, made["both"]["cover"], model, a.Results)
			checkHidden(t, s, made["both"]["all"], model, a.Results) // two faces are above the slider, the others are hidden after the question
		}
	}
}

// recolored counts the pixels that have the color of faces in image a, and the color of faces that
// only one model finds in image b.
func recolored(a, b image.Image) (n int) {
	is := func(img image.Image, x, y int, r, g, b uint8) bool {
		c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
		far := func(p, q uint8) bool { return max(p, q)-min(p, q) > 40 }
		return !far(c.R, r) && !far(c.G, g) && !far(c.B, b)
	}
	bounds := a.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			if is(a, x, y, 0xc6, 0xff, 0x00) && is(b, x, y, 0x00, 0xe5, 0xff) {
				n++
			}
		}
	}
	return n
}

// checkHidden fails the test if the model, at its default confidence, finds one of the hidden
// faces in the image.
func checkHidden(t testing.TB, s *server, file, model string, hidden []face) {
	t.Helper()
	request := marshal(t, map[string]any{"rawData": read(t, file), "options": map[string]any{"model": model}})
	var a answer
	if err := json.Unmarshal(curl(t, request, append(asJSON, s.url+procedure+"Predict")...).want(t, 200, "application/json").body, &a); err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Results {
		for _, h := range hidden {
			x, y := (f.Box.UpLeft.X+f.Box.LowerRight.X)/2, (f.Box.UpLeft.Y+f.Box.LowerRight.Y)/2
			if x >= h.Box.UpLeft.X && x < h.Box.LowerRight.X && y >= h.Box.UpLeft.Y && y < h.Box.LowerRight.Y {
				t.Errorf("%s: %s still finds a face at %v, %.2f", filepath.Base(file), model, f.Box, f.Confidence)
			}
		}
	}
}

// differences returns the mean difference of gray values between two images: far from all faces,
// by more than a face's height, and inside of their boxes.
func differences(a, b image.Image, faces []face) (far, inside float64) {
	var sum, n [2]float64
	r := a.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y += 2 {
	pixel:
		for x := r.Min.X; x < r.Max.X; x += 2 {
			kind := 0
			for _, f := range faces {
				u, l := f.Box.UpLeft, f.Box.LowerRight
				px, py, margin := float64(x), float64(y), l.Y-u.Y
				if px >= u.X && px < l.X && py >= u.Y && py < l.Y {
					kind = 1
				} else if px >= u.X-margin && px < l.X+margin && py >= u.Y-margin && py < l.Y+margin && kind == 0 {
					continue pixel
				}
			}
			p, q := color.GrayModel.Convert(a.At(x, y)).(color.Gray).Y, color.GrayModel.Convert(b.At(x, y)).(color.Gray).Y
			sum[kind] += math.Abs(float64(p) - float64(q))
			n[kind]++
		}
	}
	return sum[0] / max(1, n[0]), sum[1] / max(1, n[1])
}

// TestPageUpright checks that the page applies all EXIF orientations like the server,
// and hides the faces at their positions.
func TestPageUpright(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(root, "..", "shared", "faces", "exif")
	labels, err := os.ReadFile(filepath.Join(folder, "annotations.jsonl"))
	if err != nil {
		refuse := t.Skipf
		if inCI() {
			refuse = t.Fatalf
		}
		refuse("needs the labeled photographs, which are not part of the repository: %v", err)
	}
	type label struct {
		File          string
		Width, Height int
		Boxes         [][4]float64
	}
	task := pageTask{Scenario: "upright", Files: map[string]string{}}
	known := map[string]label{}
	var names []string
	for line := range strings.Lines(string(labels)) {
		var l label
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		task.Files[l.File] = filepath.Join(folder, l.File)
		known[l.File] = l
		names = append(names, l.File)
	}
	task.Images = names
	s := start(t)
	var found []struct {
		Name   string
		Size   [2]int
		Boxes  []struct{ X, Y, Width, Height float64 }
		Hidden string
	}
	if err := json.Unmarshal(play(t, s, task), &found); err != nil {
		t.Fatal(err)
	}
	if len(found) != len(names) || len(found) < 8 {
		t.Fatalf("%d images were shown, want %d", len(found), len(names))
	}
	for _, f := range found {
		l := known[f.Name]
		if f.Size != [2]int{l.Width, l.Height} {
			t.Errorf("%s is shown as %v, want %d × %d", f.Name, f.Size, l.Width, l.Height)
		}
		var faces []face
		for _, b := range f.Boxes {
			x, y := b.X+b.Width/2, b.Y+b.Height/2
			if !slices.ContainsFunc(l.Boxes, func(k [4]float64) bool {
				return math.Abs(k[0]+k[2]/2-x) < k[2]/2 && math.Abs(k[1]+k[3]/2-y) < k[3]/2
			}) {
				t.Errorf("%s: a face is drawn at %.0f, %.0f, where there is none: %v", f.Name, x, y, l.Boxes)
			}
			var drawn face
			drawn.Box.UpLeft, drawn.Box.LowerRight = point{b.X, b.Y}, point{b.X + b.Width, b.Y + b.Height}
			faces = append(faces, drawn)
		}
		checkHidden(t, s, f.Hidden, "pigo", faces)
		// The EXIF of the original may have a preview that shows the face.
		if before, after := read(t, filepath.Join(folder, f.Name)), read(t, f.Hidden); !bytes.Contains(before, []byte("Exif")) || bytes.Contains(after, []byte("Exif")) {
			t.Errorf("%s: EXIF is in the original: %t, in the image with hidden faces: %t; want true, false", f.Name, bytes.Contains(before, []byte("Exif")), bytes.Contains(after, []byte("Exif")))
		}
	}
}

// TestPageCode checks that the code which the page shows runs without changes.
func TestPageCode(t *testing.T) {
	t.Parallel()
	for _, p := range []*testImage{sample, people} {
		t.Run(p.name, func(t *testing.T) {
			p.load(t) // skips the test if the image is missing
			pages := site(t, map[string][]byte{"/blank.js": nil})
			pasteCode(t, start(t, "--cors-origin", pages.URL, "--model", "pigo", "--model", "pigo-reference"), p, nil, func(code string) json.RawMessage {
				logged, others := browse(t, pages.URL+"/blank", code, 1)
				checkConsole(t, others)
				return logged
			})
		})
	}
	t.Run("TLS", func(t *testing.T) {
		cert, key := selfSigned(t)
		s := start(t, "--tls-cert", cert, "--tls-key", key, "--model", "pigo", "--model", "pigo-reference")
		pasteCode(t, s, sample, []string{"CURL_CA_BUNDLE=" + cert, "SSL_CERT_FILE=" + cert}, nil)
	})
}

// pasteCode runs the code that the page shows for the sample, and for p with options. fetch runs
// JavaScript in a browser; without it, that code is not run.
func pasteCode(t *testing.T, s *server, p *testImage, env []string, fetch func(code string) json.RawMessage) {
	t.Helper()
	// A name with characters that are special in a shell, printf or curl.
	name := "it's 100% [1] $HOME.jpg"
	folder := t.TempDir()
	file := filepath.Join(folder, name)
	if fetch != nil && p == people {
		// The JavaScript fetches the file from the test's site, by its name.
		file = filepath.Join(folder, p.name)
	}
	if err := os.WriteFile(file, p.load(t), 0o600); err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Plain, Options map[string]string
		Faces          []struct{ X, Y, Width, Height float64 }
	}
	out := play(t, s, pageTask{Scenario: "code", Files: map[string]string{"image": file}, Image: "image", Faces: len(p.centers)})
	if err := json.Unmarshal(out, &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown.Faces) == 0 {
		t.Fatal("the page shows no faces")
	}
	asOnPage := func(t *testing.T, faces []face) {
		t.Helper()
		if len(faces) != len(shown.Faces) {
			t.Fatalf("%d faces, the page shows %d", len(faces), len(shown.Faces))
		}
		for i, f := range faces {
			if b := shown.Faces[i]; math.Hypot(f.Box.UpLeft.X-b.X, f.Box.UpLeft.Y-b.Y) > 1.5 || math.Abs(f.Box.LowerRight.X-f.Box.UpLeft.X-b.Width) > 1.5 {
				t.Errorf("face %d is at %+v, on the page at %+v", i, f.Box, b)
			}
		}
	}
	for _, block := range []struct {
		name  string
		codes map[string]string
		check func(*testing.T, []face)
	}{
		{"plain", shown.Plain, func(t *testing.T, faces []face) { t.Helper(); sample.checkFacesOf(t, "pigo", faces) }},
		{"options", shown.Options, asOnPage},
	} {
		for _, client := range []string{"curl", "buf", "grpcurl"} {
			t.Run(block.name+" "+client, func(t *testing.T) {
				code := block.codes[client]
				r := runIn(t, folder, patience, env, nil, "bash", "-euo", "pipefail", "-c", code)
				var a answer
				if err := json.Unmarshal(r.must(t), &a); err != nil {
					t.Fatalf("%v\n%s\n%v", err, code, r)
				}
				block.check(t, a.Results)
			})
		}
		t.Run(block.name+" Go", func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(program, []byte(block.codes["go"]), 0o600); err != nil {
				t.Fatal(err)
			}
			built := strings.TrimSuffix(program, ".go")
			runIn(t, root, pagePatience, nil, nil, "go", "build", "-o", built, program).must(t)
			lines := strings.Split(strings.TrimSpace(string(runIn(t, folder, patience, env, nil, built).must(t))), "\n")
			want := 1
			if block.name == "options" {
				want = len(shown.Faces)
			}
			if len(lines) != want {
				t.Errorf("it prints %q, want %d lines", lines, want)
			}
			for _, line := range lines {
				first, rest, _ := strings.Cut(line, " ")
				if c, err := strconv.ParseFloat(first, 64); err != nil || c < 0.5 || !strings.Contains(rest, "up_left") {
					t.Errorf("it prints %q (%v)", line, err)
				}
			}
			if formatted := runIn(t, root, patience, nil, []byte(block.codes["go"]), "gofmt").must(t); !bytes.Equal(bytes.TrimSpace(formatted), bytes.TrimSpace([]byte(block.codes["go"]))) {
				t.Errorf("it is not formatted:\n%s", block.codes["go"])
			}
		})
		if fetch == nil || (block.name == "options" && p != people) {
			continue
		}
		t.Run(block.name+" fetch", func(t *testing.T) {
			var faces []face
			if err := json.Unmarshal(fetch(block.codes["fetch"]), &faces); err != nil {
				t.Fatal(err)
			}
			block.check(t, faces)
		})
	}
}

func decode(t testing.TB, data []byte) image.Image {
	t.Helper()
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func encodeJPEG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// encodeY4M encodes an image as a video of equal frames, for Chromium's fake camera.
func encodeY4M(t testing.TB, img image.Image, frames int) []byte {
	t.Helper()
	ycc, ok := img.(*image.YCbCr)
	if !ok {
		t.Fatalf("the image is a %T, want that of a JPEG in color", img)
	}
	// The sizes must be even; chroma has half of them.
	w, h := ycc.Rect.Dx()&^1, ycc.Rect.Dy()&^1
	var planes []byte
	for y := range h {
		planes = append(planes, ycc.Y[y*ycc.YStride:][:w]...)
	}
	for _, chroma := range [][]byte{ycc.Cb, ycc.Cr} {
		for y := 0; y < h; y += 2 {
			for x := 0; x < w; x += 2 {
				planes = append(planes, chroma[ycc.COffset(x, y)])
			}
		}
	}
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "YUV4MPEG2 W%d H%d F30:1 Ip A1:1 C420jpeg\n", w, h)
	for range frames {
		buf.WriteString("FRAME\n")
		buf.Write(planes)
	}
	return buf.Bytes()
}

// encodeTIFF encodes an image as an uncompressed gray TIFF.
func encodeTIFF(img image.Image) []byte {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	const entries = 8
	const pixels = 8 + 2 + entries*12 + 4
	buf := endian.LittleEndian.AppendUint32([]byte("II*\x00"), 8)
	buf = endian.LittleEndian.AppendUint16(buf, entries)
	for _, e := range [entries][2]uint32{
		{256, uint32(w)},
		{257, uint32(h)},
		{258, 8},
		{259, 1}, // not compressed
		{262, 1}, // 0 is black
		{273, pixels},
		{278, uint32(h)},
		{279, uint32(w * h)},
	} {
		buf = endian.LittleEndian.AppendUint16(buf, uint16(e[0]))
		buf = endian.LittleEndian.AppendUint16(buf, 4) // 32 bits
		buf = endian.LittleEndian.AppendUint32(buf, 1)
		buf = endian.LittleEndian.AppendUint32(buf, e[1])
	}
	buf = endian.LittleEndian.AppendUint32(buf, 0)
	for y := range h {
		for x := range w {
			buf = append(buf, color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y)
		}
	}
	return buf
}

// tiled returns an image of columns × rows copies of the sample, each enlarged by scale.
func tiled(t testing.TB, columns, rows int, scale float64) image.Image {
	t.Helper()
	one := decode(t, read(t, samplePath()))
	w, h := int(float64(one.Bounds().Dx())*scale), int(float64(one.Bounds().Dy())*scale)
	img := image.NewRGBA(image.Rect(0, 0, columns*w, rows*h))
	for y := range h {
		for x := range w {
			c := color.RGBAModel.Convert(one.At(int(float64(x)/scale), int(float64(y)/scale))).(color.RGBA)
			for r := range rows {
				for k := range columns {
					img.SetRGBA(k*w+x, r*h+y, c)
				}
			}
		}
	}
	return img
}

// beside returns two images side by side on gray, with gaps around them.
func beside(a, b image.Image, gap int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, a.Bounds().Dx()+b.Bounds().Dx()+3*gap, max(a.Bounds().Dy(), b.Bounds().Dy())+2*gap))
	draw.Draw(img, img.Rect, image.NewUniform(color.Gray{210}), image.Point{}, draw.Src)
	draw.Draw(img, a.Bounds().Add(image.Pt(gap, gap)), a, image.Point{}, draw.Src)
	draw.Draw(img, b.Bounds().Add(image.Pt(a.Bounds().Dx()+2*gap, gap)), b, image.Point{}, draw.Src)
	return img
}

// BenchmarkPage measures the page: with an image of 12 megapixels and twenty faces, the time until
// they are drawn, and the time between frames while the slider moves; and the latter with 300 faces.
func BenchmarkPage(b *testing.B) {
	large := temp(b, "large.jpg", encodeJPEG(b, tiled(b, 5, 4, 2.18)))
	s := start(b)
	for _, bm := range []struct {
		scenario string
		faces    int
	}{{"speed", 20}, {"crowd", 300}} {
		b.Run(fmt.Sprintf("%d faces", bm.faces), func(b *testing.B) {
			for b.Loop() {
				var measured struct {
					Drawn            float64
					Loading, Sliding struct{ Median, P95, Longest, Work float64 }
					Time             string
				}
				if err := json.Unmarshal(play(b, s, pageTask{Scenario: bm.scenario, Files: map[string]string{"large": large}, Faces: bm.faces}), &measured); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(measured.Sliding.Median, "ms-frame-sliding")
				b.ReportMetric(measured.Sliding.P95, "ms-p95-frame-sliding")
				b.ReportMetric(measured.Sliding.Work, "ms-work-per-frame-sliding")
				if measured.Drawn > 0 {
					b.ReportMetric(measured.Drawn, "ms-to-faces")
					b.ReportMetric(measured.Loading.Longest, "ms-longest-frame-loading")
					b.Log(strings.ReplaceAll(measured.Time, "\n", " "))
				}
			}
		})
	}
}

var pageScreenshots = flag.String("page-screenshots", "", "folder for the screenshots of docs/page.md")

// TestPageScreenshots makes the screenshots of docs/page.md: "make page-screenshots".
func TestPageScreenshots(t *testing.T) {
	if *pageScreenshots == "" {
		t.Skip("needs the flag -page-screenshots")
	}
	out, err := filepath.Abs(*pageScreenshots)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	play(t, s, pageTask{
		Scenario: "screenshots", Out: out, Compare: "pigo", Busy: "overloaded: 2 images are being worked on and 8 wait; try again later",
		Camera: temp(t, "frames.y4m", encodeY4M(t, decode(t, read(t, samplePath())), 3)),
		Files: map[string]string{
			"twenty": temp(t, "twenty.jpg", encodeJPEG(t, tiled(t, 5, 4, 1))),
			"four":   temp(t, "four.jpg", encodeJPEG(t, tiled(t, 4, 1, 0.75))),
			"two":    temp(t, "two.jpg", encodeJPEG(t, beside(tiled(t, 1, 1, 1), tiled(t, 1, 1, 0.5), 120))),
			"notes":  temp(t, "notes.txt", []byte("These are notes, not an image.\n")),
		},
		Gallery: []string{"twenty", "four", "sample", "notes"},
	})
	files, err := filepath.Glob(filepath.Join(out, "*.png"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no screenshots in %s (%v)", out, err)
	}
	for _, file := range files {
		var buf bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&buf, paletted(decode(t, read(t, file)))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// paletted returns the image in 256 colors, found by median cut. Its PNG has a third of
// the bytes, and looks nearly the same.
func paletted(img image.Image) *image.Paletted {
	type bin struct {
		rgb [3]uint8
		n   int
	}
	counts := map[[3]uint8]int{}
	r := img.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
			counts[[3]uint8{c.R, c.G, c.B}]++
		}
	}
	var all []bin
	for rgb, n := range counts {
		all = append(all, bin{rgb, n})
	}
	slices.SortFunc(all, func(a, b bin) int { return slices.Compare(a.rgb[:], b.rgb[:]) })
	boxes := [][]bin{all}
	// weight prefers boxes with many pixels to boxes with a wide range of colors.
	weight := func(box []bin) (channel int, weight float64) {
		width, n := 0, 0
		for c := range 3 {
			low, high := uint8(255), uint8(0)
			n = 0
			for _, b := range box {
				low, high = min(low, b.rgb[c]), max(high, b.rgb[c])
				n += b.n
			}
			if w := int(high) - int(low); w > width {
				channel, width = c, w
			}
		}
		return channel, float64(width) * math.Sqrt(float64(n))
	}
	for len(boxes) < 256 {
		at, channel, maxWeight := -1, 0, 0.0
		for i, box := range boxes {
			if c, w := weight(box); w > maxWeight {
				at, channel, maxWeight = i, c, w
			}
		}
		if at < 0 {
			break // every color already has a box of its own
		}
		box := boxes[at]
		slices.SortStableFunc(box, func(a, b bin) int { return int(a.rgb[channel]) - int(b.rgb[channel]) })
		total, half, cut := 0, 0, 0
		for _, b := range box {
			total += b.n
		}
		for cut < len(box)-1 && (cut == 0 || half+box[cut].n <= total/2) {
			half += box[cut].n
			cut++
		}
		boxes[at] = box[:cut]
		boxes = append(boxes, box[cut:])
	}
	index := map[[3]uint8]uint8{}
	var colors color.Palette
	for i, box := range boxes {
		var sum [3]int
		n := 0
		for _, b := range box {
			index[b.rgb] = uint8(i)
			n += b.n
			for c := range 3 {
				sum[c] += int(b.rgb[c]) * b.n
			}
		}
		colors = append(colors, color.RGBA{uint8(sum[0] / n), uint8(sum[1] / n), uint8(sum[2] / n), 255})
	}
	small := image.NewPaletted(r, colors)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
			small.SetColorIndex(x, y, index[[3]uint8{c.R, c.G, c.B}])
		}
	}
	return small
}
