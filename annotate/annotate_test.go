package annotate_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	xdraw "golang.org/x/image/draw"

	"github.com/mienproject/mien/annotate"
	"github.com/mienproject/mien/face"
)

// at returns a face with landmarks whose box is square.
func at(x, y, side, confidence float64) face.Face {
	p := func(u, v float64) face.Point { return face.Point{X: x + u*side, Y: y + v*side} }
	return face.Face{
		Box: face.Box{MinX: x, MinY: y, MaxX: x + side, MaxY: y + side},
		Landmarks: &face.Landmarks{
			LeftEye: p(.3, .4), RightEye: p(.7, .4), Nose: p(.5, .6), MouthLeft: p(.35, .8), MouthRight: p(.65, .8),
		},
		Confidence: confidence,
	}
}

// bare returns the same face without landmarks.
func bare(f face.Face) face.Face {
	f.Landmarks = nil
	return f
}

func plain(width, height int, c color.Color) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(img, img.Rect, image.NewUniform(c), image.Point{}, draw.Src)
	return img
}

func noise(width, height int) *image.RGBA {
	img := plain(width, height, color.Black)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range img.Pix {
		if i%4 != 3 {
			img.Pix[i] = uint8(rng.Uint32())
		}
	}
	return img
}

// TestRest checks that the copy equals the original away from the faces, for every type
// and for any bounds.
func TestRest(t *testing.T) {
	const width, height = 300, 200
	source := noise(width+30, height+40)
	window := image.Rect(10, 20, 10+width, 20+height)
	into := func(img draw.Image) image.Image {
		draw.Draw(img, img.Bounds(), source, img.Bounds().Min, draw.Src)
		return img
	}
	ycbcr := image.NewYCbCr(source.Rect, image.YCbCrSubsampleRatio420)
	for _, plane := range [][]byte{ycbcr.Y, ycbcr.Cb, ycbcr.Cr} {
		copy(plane, source.Pix)
	}
	translucent := image.NewNRGBA(source.Rect)
	copy(translucent.Pix, source.Pix)
	for i := 3; i < len(translucent.Pix); i += 4 {
		translucent.Pix[i] = uint8(i)
	}
	f := at(100, 80, 50, .97)
	for name, img := range map[string]image.Image{
		"RGBA":                   into(image.NewRGBA(image.Rect(0, 0, width, height))),
		"part of an RGBA":        source.SubImage(window),
		"RGBA of bounds under 0": into(image.NewRGBA(image.Rect(-40, -30, width-40, height-30))),
		"part of a YCbCr":        ycbcr.SubImage(window),
		"part of a Gray":         into(image.NewGray(source.Rect)).(*image.Gray).SubImage(window),
		"translucent NRGBA":      translucent.SubImage(window),
	} {
		t.Run(name, func(t *testing.T) {
			b := img.Bounds()
			before := copyOf(img)
			out := annotate.Draw(img, []face.Face{f})
			if !bytes.Equal(copyOf(img).Pix, before.Pix) {
				t.Error("the original is modified")
			}
			if out.Rect != (image.Rectangle{Max: b.Size()}) || len(out.Pix) != 4*width*height {
				t.Fatalf("%v, %d bytes", out.Rect, len(out.Pix))
			}
			near := rect(f.Box).Inset(-20)
			inside := 0
			for y := range height {
				for x := range width {
					if out.RGBAAt(x, y) == before.RGBAAt(x, y) {
						continue
					}
					if !image.Pt(x, y).In(near) {
						t.Fatalf("(%d, %d) is another", x, y)
					}
					inside++
				}
			}
			if inside == 0 {
				t.Error("no face")
			}
			if out := annotate.Draw(img, nil); !bytes.Equal(out.Pix, before.Pix) {
				t.Error("no faces, and other pixels")
			}
		})
	}
}

func copyOf(img image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rectangle{Max: img.Bounds().Size()})
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// rect returns the pixels that b touches.
func rect(b face.Box) image.Rectangle {
	return image.Rect(int(math.Floor(b.MinX)), int(math.Floor(b.MinY)), int(math.Ceil(b.MaxX)), int(math.Ceil(b.MaxY)))
}

// TestContrast crosses the line of the box at each position of its sides, and checks
// the contrast between the brightest and the darkest pixel.
func TestContrast(t *testing.T) {
	backgrounds := map[string]func(w, h int) *image.RGBA{
		"black": func(w, h int) *image.RGBA { return plain(w, h, color.Black) },
		"white": func(w, h int) *image.RGBA { return plain(w, h, color.White) },
		"gray":  func(w, h int) *image.RGBA { return plain(w, h, color.Gray{0x80}) },
		"lime":  func(w, h int) *image.RGBA { return plain(w, h, color.RGBA{0xc6, 0xff, 0x00, 0xff}) },
		"amber": func(w, h int) *image.RGBA { return plain(w, h, color.RGBA{0xff, 0xb3, 0x00, 0xff}) },
		"noise": noise,
	}
	for _, tc := range []struct {
		width, height int
		face          face.Face
		// reach is how far from the box pixels are examined, which is within line and
		// rims.
		reach int
		// part is the share of positions at which the line must be visible.
		part float64
	}{
		{64, 64, at(22, 30, 20, .97), 3, 1},
		{640, 480, at(200.4, 150.6, 12, .97), 3, 1},
		{640, 480, at(200, 150, 100, .97), 3, 1},
		{640, 480, at(200, 150, 100, .3), 3, .6},
		{3000, 400, at(500, 100, 200, .97), 8, 1},
		{3000, 400, at(500, 100, 200, .3), 8, .6},
	} {
		for name, background := range backgrounds {
			t.Run(fmt.Sprintf("%dx%d/%.0f/%v/%s", tc.width, tc.height, tc.face.Box.Width(), tc.face.Confidence, name), func(t *testing.T) {
				out := annotate.Draw(background(tc.width, tc.height), []face.Face{tc.face})
				box := rect(tc.face.Box)
				seen, all := 0, 0
				look := func(ray image.Rectangle) {
					all++
					if contrastWithin(out, ray) >= 4.5 {
						seen++
					}
				}
				for x := box.Min.X; x < box.Max.X; x++ {
					look(image.Rect(x, box.Min.Y-tc.reach, x+1, box.Min.Y))
					look(image.Rect(x, box.Max.Y, x+1, box.Max.Y+tc.reach))
				}
				for y := box.Min.Y; y < box.Max.Y; y++ {
					look(image.Rect(box.Min.X-tc.reach, y, box.Min.X, y+1))
					look(image.Rect(box.Max.X, y, box.Max.X+tc.reach, y+1))
				}
				if float64(seen) < tc.part*float64(all) {
					t.Errorf("seen at %d places of %d", seen, all)
				}

				l := tc.face.Landmarks
				for _, p := range []face.Point{l.LeftEye, l.RightEye, l.Nose, l.MouthLeft, l.MouthRight} {
					d := tc.reach
					around := image.Rect(int(p.X)-d, int(p.Y)-d, int(p.X)+d+1, int(p.Y)+d+1)
					if c := contrastWithin(out, around); tc.face.Box.Width() >= 20 && c < 3 {
						t.Errorf("contrast at %v: %.1f", p, c)
					}
				}
			})
		}
	}
}

// contrastWithin returns the WCAG contrast ratio of the brightest to the darkest pixel.
func contrastWithin(img *image.RGBA, r image.Rectangle) float64 {
	lowest, highest := 1.0, 0.0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			l := luminance(img.RGBAAt(x, y))
			lowest, highest = min(lowest, l), max(highest, l)
		}
	}
	return (highest + 0.05) / (lowest + 0.05)
}

func luminance(c color.RGBA) float64 {
	linear := func(v uint8) float64 {
		f := float64(v) / 255
		if f <= 0.04045 {
			return f / 12.92
		}
		return math.Pow((f+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

// TestSizes checks how much of an image is drawn on: enough, and not too much.
func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		name          string
		width, height int
		face          face.Face
		// The minimum and the maximum number of pixels that change, in the image and in
		// the face.
		least, most, mostInFace int
	}{
		{"a tiny image", 64, 64, at(22, 30, 20, .97), 200, 64 * 64 / 6, 20 * 20 / 5},
		{"a tiny image that is all face", 64, 64, at(2, 2, 60, .97), 300, 64 * 64 / 3, 60 * 60 / 4},
		{"a small face", 1000, 750, at(300, 300, 12, .97), 100, 250, 0},
		{"a small face in a huge image", 8000, 100, at(300, 40, 12, .97), 100, 250, 0},
		{"a face without landmarks", 1000, 750, bare(at(300, 300, 200, .97)), 3000, 8000, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := plain(tc.width, tc.height, color.Gray{0x80})
			out := annotate.Draw(img, []face.Face{tc.face})
			changed, inFace := 0, 0
			for y := range tc.height {
				for x := range tc.width {
					if out.RGBAAt(x, y) != img.RGBAAt(x, y) {
						changed++
						if image.Pt(x, y).In(rect(tc.face.Box)) {
							inFace++
						}
					}
				}
			}
			if changed < tc.least || changed > tc.most || inFace > tc.mostInFace {
				t.Errorf("%d pixels, %d in the face; want %d to %d, at most %d in the face", changed, inFace, tc.least, tc.most, tc.mostInFace)
			}
		})
	}
}

// TestHuge checks a huge image as a screen shows it.
func TestHuge(t *testing.T) {
	for _, background := range []color.Color{color.Black, color.White, color.Gray{0x80}} {
		img := annotate.Draw(plain(8000, 640, background), []face.Face{bare(at(1600, 80, 480, .97))})
		// A part of the box's left side.
		out := image.NewRGBA(image.Rect(0, 0, 20, 20))
		xdraw.BiLinear.Scale(out, out.Rect, img, image.Rect(1520, 240, 1680, 400), draw.Src, nil)
		for y := range 20 {
			if c := contrastWithin(out, image.Rect(5, y, 10, y+1)); c < 4.5 {
				t.Errorf("contrast on %v: %.1f", background, c)
				break
			}
		}
	}
}

// TestEdges draws faces where there is little or no room.
func TestEdges(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	box := func(x0, y0, x1, y1 float64) face.Face {
		f := at(x0, y0, x1-x0, .9)
		f.Box.MaxY = y1
		return f
	}
	faces := map[string]struct {
		face face.Face
		in   bool
	}{
		"top left":          {box(0, 0, 30, 30), true},
		"top right":         {box(70, 0, 100, 30), true},
		"bottom left":       {box(0, 50, 30, 80), true},
		"bottom right":      {box(70, 50, 100, 80), true},
		"whole":             {box(0, 0, 100, 80), true},
		"across the left":   {box(-20, 20, 20, 60), true},
		"across the bottom": {box(20, 60, 60, 100), true},
		"one pixel":         {box(99, 79, 100, 80), true},
		"a part of a pixel": {box(50.2, 40.2, 50.3, 40.3), true},
		"a thin one":        {box(0, 40, 100, 41), true},
		"without bounds":    {face.Face{Box: face.Box{MinX: -inf, MinY: -inf, MaxX: inf, MaxY: inf}}, true},
		"outside":           {box(200, 10, 230, 40), false},
		"no area":           {box(20, 20, 20, 60), false},
		"inside out":        {box(60, 60, 20, 20), false},
		"no numbers":        {box(nan, nan, nan, nan), false},
		"half a number":     {box(10, nan, 50, 50), false},
	}
	for name, tc := range faces {
		t.Run(name, func(t *testing.T) {
			for _, size := range []image.Point{{100, 80}, {1, 1}, {2, 3}, {5, 200}, {200, 5}, {0, 0}, {0, 10}} {
				for _, confidence := range []float64{.97, .2, 0, 1, -1, 2, nan, inf} {
					tc.face.Confidence = confidence
					img := plain(size.X, size.Y, color.Gray{0x80})
					out := annotate.Draw(img, []face.Face{tc.face})
					if out.Rect != img.Rect {
						t.Fatalf("%v, want %v", out.Rect, img.Rect)
					}
					if changed := !bytes.Equal(out.Pix, img.Pix); size == image.Pt(100, 80) && changed != tc.in {
						t.Errorf("changed: %v", changed)
					}
				}
			}
		})
	}

	// The line of a box at the edge is completely within the image.
	f := bare(at(0, 0, 100, .97))
	out := annotate.Draw(plain(100, 100, color.Black), []face.Face{f})
	for i := range 40 {
		for _, ray := range []image.Rectangle{
			image.Rect(30+i, 0, 31+i, 3), image.Rect(30+i, 97, 31+i, 100),
			image.Rect(0, 30+i, 3, 31+i), image.Rect(97, 30+i, 100, 31+i),
		} {
			if c := contrastWithin(out, ray); c < 4.5 {
				t.Errorf("contrast in %v: %.1f", ray, c)
			}
		}
	}

	// A landmark outside the image is not drawn, however near it is.
	f = at(40, 20, 40, .97)
	f.Landmarks.Nose = face.Point{X: -1, Y: 60}
	f.Landmarks.LeftEye = face.Point{X: nan, Y: -inf}
	out = annotate.Draw(plain(100, 80, color.Black), []face.Face{f})
	if c := contrastWithin(out, image.Rect(0, 50, 10, 70)); c != 1 {
		t.Error("a landmark outside the image is drawn")
	}
}

// TestOrder checks that the first of two faces in the same place is on top.
func TestOrder(t *testing.T) {
	sure, unsure := bare(at(100, 100, 80, .9)), bare(at(100, 100, 80, .1))
	img := plain(300, 300, color.Black)
	first := annotate.Draw(img, []face.Face{sure})
	both := annotate.Draw(img, []face.Face{sure, unsure})
	for y := 101; y < 180; y++ {
		if got, want := both.RGBAAt(98, y), first.RGBAAt(98, y); got != want {
			t.Fatalf("%v at the line of the first, want %v", got, want)
		}
	}
}

func crowd(width, height, n int) []face.Face {
	rng := rand.New(rand.NewPCG(3, 4))
	faces := make([]face.Face, n)
	for i := range faces {
		side := 8 + 40*rng.Float64()
		faces[i] = at(rng.Float64()*(float64(width)-side), rng.Float64()*(float64(height)-side), side, rng.Float64())
	}
	slices.SortFunc(faces, face.Compare)
	return faces
}

// TestSame checks that the pixels depend only on the image and the faces.
func TestSame(t *testing.T) {
	img, faces := noise(1024, 768), crowd(1024, 768, 1000)
	given := slices.Clone(faces)
	want := annotate.Draw(img, faces)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if got := annotate.Draw(img, faces); !bytes.Equal(got.Pix, want.Pix) {
				t.Error("other pixels")
			}
		})
	}
	group.Wait()
	if !slices.Equal(faces, given) {
		t.Error("the faces are modified")
	}
}

// TestBounded checks that faces are drawn only up to maxCoverage.
func TestBounded(t *testing.T) {
	for n, want := range map[int]bool{0: true, 100: true, 10_000: false} {
		faces := slices.Repeat([]face.Face{bare(at(0, 0, 500, .9))}, n)
		faces = append(faces, at(220, 220, 60, .8))
		out := annotate.Draw(plain(500, 500, color.Black), faces)
		if got := out.RGBAAt(250, 218) != (color.RGBA{A: 0xff}); got != want {
			t.Errorf("after %d faces of the image's size: drawn %v, want %v", n, got, want)
		}
	}
}

func Example() {
	photo := image.NewGray(image.Rect(0, 0, 320, 240)) // for example from photo.Decode
	faces := []face.Face{{                             // for example from a Detector
		Box:        face.Box{MinX: 100, MinY: 60, MaxX: 200, MaxY: 180},
		Confidence: 0.97,
	}}
	annotated := annotate.Draw(photo, faces)
	fmt.Println(annotated.Bounds(), annotated.RGBAAt(150, 58))
	// Output: (0,0)-(320,240) {198 255 0 255}
}

func BenchmarkDraw(b *testing.B) {
	img := image.NewYCbCr(image.Rect(0, 0, 4000, 3000), image.YCbCrSubsampleRatio420)
	some := make([]face.Face, 20)
	for i := range some {
		some[i] = at(float64(100+750*(i%5)), float64(200+700*(i/5)), 300, .97)
	}
	for _, bm := range []struct {
		name  string
		faces []face.Face
	}{
		{"12MP/0", nil},
		{"12MP/20", some},
		{"12MP/1000", crowd(4000, 3000, 1000)},
		{"12MP/10000", crowd(4000, 3000, 10000)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				annotate.Draw(img, bm.faces)
			}
		})
	}
}
