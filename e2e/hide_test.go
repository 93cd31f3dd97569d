package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// hiddenBoxes are the boxes of faces in an image of 420 × 320: two whose heads overlap,
// and one in a corner.
var hiddenBoxes = [][4]int{{60, 60, 50, 60}, {120, 80, 50, 60}, {386, 2, 28, 30}}

// hideSteps has, for each style, the number of ways in which the page hides a face, one
// after another.
var hideSteps = map[string]int{"blur": 2, "cover": 1}

type hideImage struct {
	Name string `json:"name"`
	File string `json:"file"`
	Type string `json:"type"`
}

// hideAll passes images with faces at the boxes to the page, and returns the files that
// it made, by image and style, one for each step.
func hideAll(t *testing.T, images []hideImage, boxes [][4]int) map[string][]string {
	t.Helper()
	var made []struct {
		Name, Style string
		Steps       []string
	}
	if err := json.Unmarshal(play(t, start(t, "--model", "pigo"), pageTask{Scenario: "hides", Images: images, Boxes: boxes}), &made); err != nil {
		t.Fatal(err)
	}
	if len(made) != len(images)*len(hideSteps) {
		t.Fatalf("%d were made, want %d", len(made), len(images)*len(hideSteps))
	}
	steps := map[string][]string{}
	for _, m := range made {
		if len(m.Steps) != hideSteps[m.Style] {
			t.Fatalf("%s, %s: %d steps, want %d", m.Name, m.Style, len(m.Steps), hideSteps[m.Style])
		}
		steps[m.Name+" "+m.Style] = m.Steps
	}
	return steps
}

// filled returns an image of w × h pixels, whose colors at returns.
func filled(w, h int, at func(x, y int) color.RGBA) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetRGBA(x, y, at(x, y))
		}
	}
	return img
}

func pngFile(t *testing.T, name string, img image.Image) string {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	return temp(t, name, buf.Bytes())
}

// checks returns the colors of a checkerboard and of its inverse. size is the side of a
// cell.
func checks(size int) [2]func(x, y int) color.RGBA {
	board := func(one int) func(x, y int) color.RGBA {
		return func(x, y int) color.RGBA {
			if (x/size+y/size)%2 == one {
				return color.RGBA{255, 255, 255, 255}
			}
			return color.RGBA{0, 0, 0, 255}
		}
	}
	return [2]func(x, y int) color.RGBA{board(0), board(1)}
}

// inHead reports whether a pixel belongs to the head of a face with box b {x, y, width,
// height}: a typical head, with hair half as high as the face, and nearly twice as wide
// at the ears.
func inHead(b [4]int, x, y int) bool {
	dx := (float64(x) + .5 - float64(b[0]) - .5*float64(b[2])) / (.9 * float64(b[2]))
	dy := (float64(y) + .5 - float64(b[1]) - .35*float64(b[3])) / (.85 * float64(b[3]))
	return dx*dx+dy*dy < 1
}

// TestPageHidesEveryPixel checks that at each step, the page makes the same file, byte
// for byte, whatever the pixels of the heads are.
func TestPageHidesEveryPixel(t *testing.T) {
	t.Parallel()
	boxes := append([][4]int{{200, 240, 6, 7}}, hiddenBoxes...)
	photo := tiled(t, 2, 1, 1).(*image.RGBA)
	random := rand.New(rand.NewPCG(1, 2))
	heads := map[string]func(x, y int) color.RGBA{
		"photo": photo.RGBAAt,
		"black": func(int, int) color.RGBA { return color.RGBA{0, 0, 0, 255} },
		"white": func(int, int) color.RGBA { return color.RGBA{255, 255, 255, 255} },
		"noise": func(int, int) color.RGBA {
			v := random.Uint32()
			return color.RGBA{uint8(v), uint8(v >> 8), uint8(v >> 16), 255}
		},
	}
	for _, size := range []int{1, 8, 13} {
		for i, board := range checks(size) {
			heads[fmt.Sprintf("checks-%d-%d", size, i)] = board
		}
	}
	var images []hideImage
	for name, head := range heads {
		img := filled(420, 320, func(x, y int) color.RGBA {
			for _, b := range boxes {
				if inHead(b, x, y) {
					return head(x, y)
				}
			}
			return photo.RGBAAt(x, y)
		})
		file := pngFile(t, name+".png", img)
		// The page encodes the result as JPEG or PNG by the media type of the file, not by its content.
		images = append(images, hideImage{name + ".png", file, "image/png"}, hideImage{name + ".jpg", file, "image/jpeg"})
	}
	made := hideAll(t, images, boxes)
	for _, ending := range []string{".png", ".jpg"} {
		for style, steps := range hideSteps {
			for step := range steps {
				want := read(t, made["photo"+ending+" "+style][step])
				if _, format, err := image.DecodeConfig(bytes.NewReader(want)); err != nil || "."+format[:1] != ending[:2] {
					t.Fatalf("a %s was saved as %s (%v)", ending, format, err)
				}
				for name := range heads {
					if got := read(t, made[name+ending+" "+style][step]); !bytes.Equal(got, want) {
						t.Errorf("%s%s, %s, step %d: the file differs from the photograph's: it depends on the pixels of the heads", name, ending, style, step)
					}
				}
			}
		}
	}
}

// TestPageHidesChecks checks that in the results for a checkerboard and its inverse,
// each pixel is either unchanged or the same in both.
func TestPageHidesChecks(t *testing.T) {
	t.Parallel()
	sizes := []int{1, 2, 3, 4, 8, 11}
	originals := map[string]image.Image{}
	var images []hideImage
	for _, size := range sizes {
		for i, board := range checks(size) {
			name := fmt.Sprintf("%d-%d.png", size, i)
			originals[name] = filled(420, 320, board)
			images = append(images, hideImage{name, pngFile(t, name, originals[name]), "image/png"})
		}
	}
	made := hideAll(t, images, hiddenBoxes)
	for _, size := range sizes {
		for style, steps := range hideSteps {
			for step := range steps {
				var before, after [2]image.Image
				for i := range after {
					name := fmt.Sprintf("%d-%d.png", size, i)
					before[i], after[i] = originals[name], decode(t, read(t, made[name+" "+style][step]))
				}
				checkChecks(t, fmt.Sprintf("checks of %d, %s, step %d", size, style, step), before, after, step == steps-1)
			}
		}
	}
}

// checkChecks fails the test if hidden pixels differ between the two, or if covered ones do not have the one color.
func checkChecks(t *testing.T, name string, before, after [2]image.Image, covered bool) {
	t.Helper()
	at := func(img image.Image, x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) }
	hidden, mixed, colored := 0, 0, 0
	for y := range 320 {
		for x := range 420 {
			a, b := at(after[0], x, y), at(after[1], x, y)
			isHead := false
			for _, box := range hiddenBoxes {
				isHead = isHead || inHead(box, x, y)
			}
			switch {
			case a == b && a.A == 255:
				hidden++
				if covered && a != (color.RGBA{0x14, 0x20, 0x1c, 255}) {
					colored++
				}
			case isHead || a != at(before[0], x, y) || b != at(before[1], x, y):
				mixed++
			}
		}
	}
	if mixed > 0 {
		t.Errorf("%s: %d pixels of heads, or near them, depend on the original", name, mixed)
	}
	if colored > 0 {
		t.Errorf("%s: %d pixels do not have the color that covers faces", name, colored)
	}
	// Otherwise an image that is hidden completely would pass.
	if hidden < 20_000 || hidden > 420*320/3 {
		t.Errorf("%s: %d pixels are hidden", name, hidden)
	}
}

// shelf returns the path of ONNX Runtime's library, and the folder of the models. If one is
// missing, the test is skipped, or fails if CI is set.
func shelf(t testing.TB) (library, models string) {
	t.Helper()
	refuse := t.Skipf
	if inCI() {
		refuse = t.Fatalf
	}
	library = filepath.Join(root, ".bin", "libonnxruntime.so.1")
	if _, err := os.Stat(library); err != nil {
		refuse("needs ONNX Runtime, which \"make onnxruntime\" fetches: %v", err)
	}
	models = filepath.Join(root, "..", "shared", "models")
	if _, err := os.Stat(models); err != nil {
		refuse("needs the models, which are not part of the repository: %v", err)
	}
	return library, models
}

// yunet returns the server's flag for YuNet.
func yunet(t testing.TB) []string {
	t.Helper()
	_, models := shelf(t)
	return []string{"--model", "yunet=" + filepath.Join(models, "yunet_n_dynamic.onnx")}
}

// peopleHeads are the heads in people, from hair to chin and from ear to ear, as ellipses drawn
// by hand {center x, center y, half width, half height}. Hats and long hair extend beyond them.
var peopleHeads = [][4]float64{{186, 122, 36, 46}, {323, 108, 32, 46}, {447, 116, 32, 40}, {598, 94, 36, 48}}

// TestPageHidesPeople checks that heads are hidden with the boxes of any model, which
// differ, and that the page asks a question if, and only if, a model still finds a face
// in the result.
func TestPageHidesPeople(t *testing.T) {
	t.Parallel()
	file := peoplePath(t)
	models := []string{"yunet", "mtcnn", "pigo"}
	s := start(t, append(yunet(t), "--model", "mtcnn", "--model", "pigo")...)
	var made []struct{ Model, Style, File, Asked string }
	if err := json.Unmarshal(play(t, s, pageTask{Scenario: "hidesPeople", Files: map[string]string{"people": file}}), &made); err != nil {
		t.Fatal(err)
	}
	if len(made) != 2*len(models) {
		t.Fatalf("%d were made, want %d", len(made), 2*len(models))
	}
	original := decode(t, read(t, file))
	if _, detail := heads(original); detail < 3 {
		t.Fatalf("the heads of the photograph have a detail of %.1f", detail)
	}
	for _, m := range made {
		img := decode(t, read(t, m.File))
		worst, detail := heads(img)
		// JPEG changes colors a little, and more at edges.
		if m.Style == "cover" && worst > 12 {
			t.Errorf("%s, %s: a pixel of a head differs by %.0f from the color that covers it", m.Model, m.Style, worst)
		}
		if detail > 1 {
			t.Errorf("%s, %s: the heads have a detail of %.2f", m.Model, m.Style, detail)
		}
		var found []face
		for _, model := range models {
			request := marshal(t, map[string]any{"rawData": read(t, m.File), "options": map[string]any{"model": model, "minConfidence": .3}})
			var a answer
			if err := json.Unmarshal(curl(t, request, append(asJSON, s.url+procedure+"Predict")...).want(t, 200, "application/json").body, &a); err != nil {
				t.Fatal(err)
			}
			found = append(found, a.Results...)
		}
		if asked := m.Asked != ""; asked != (len(found) > 0) {
			t.Errorf("%s, %s: the page asked %q, and %d faces are found in what it saved", m.Model, m.Style, m.Asked, len(found))
		}
	}
}

// heads returns the largest difference of a pixel of the people's heads from the color that covers
// faces, and the mean difference between neighboring pixels in them.
func heads(img image.Image) (worst, detail float64) {
	gray := image.NewGray(img.Bounds())
	draw.Draw(gray, gray.Rect, img, image.Point{}, draw.Src)
	n := 0.0
	for y := range gray.Rect.Dy() {
		for x := range gray.Rect.Dx() - 1 {
			for _, h := range peopleHeads {
				if math.Hypot((float64(x)-h[0])/h[2], (float64(y)-h[1])/h[3]) >= 1 {
					continue
				}
				c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
				for _, d := range []float64{float64(c.R) - 0x14, float64(c.G) - 0x20, float64(c.B) - 0x1c} {
					worst = max(worst, math.Abs(d))
				}
				detail += math.Abs(float64(gray.GrayAt(x, y).Y) - float64(gray.GrayAt(x+1, y).Y))
				n++
			}
		}
	}
	return worst, detail / n
}

// TestPageQuestion checks that the page asks before it saves an image that may still
// show a face.
func TestPageQuestion(t *testing.T) {
	t.Parallel()
	play(t, start(t, "--model", "pigo"), pageTask{Scenario: "question"})
}
