package facetest

import (
	"image"
	"image/draw"
	"math"
	"testing"

	"github.com/mienproject/mien/face"
)

// CheckReduced compares the faces that d finds in an image of 12 megapixels with 160
// faces, and in the same image reduced to half its sides, which is what the service
// gives to a detector that does not need more. After conversion to the large image,
// they must not be displaced on average: boxes by at most 0.1 pixels of the large
// image, and landmarks by at most 0.2, because they are found in different pixels.
func CheckReduced(t testing.TB, d face.Detector) {
	t.Helper()
	const side, cols, rows = 250, 16, 12
	large := image.NewGray(image.Rect(0, 0, cols*side, rows*side))
	for i, p := range Subset(t, "lfw_5pt") {
		corner := image.Pt(i%cols*side, i/cols*side)
		img := Decode(t, p.Path)
		draw.Draw(large, image.Rectangle{Min: corner, Max: corner.Add(image.Pt(side, side))}, img, img.Bounds().Min, draw.Src)
	}
	opts := face.Options{MinConfidence: 0.5}
	if n := d.Input(cols*side, rows*side, opts); n.Reduce < 2 && d.Info().InputSize == (image.Point{}) {
		t.Fatalf("12 megapixels are not reduced: %+v", n)
	}
	small := image.NewGray(image.Rect(0, 0, cols*side/2, rows*side/2))
	for y := range small.Rect.Dy() {
		for x := range small.Rect.Dx() {
			at := large.PixOffset(2*x, 2*y)
			upper, lower := large.Pix[at:][:2], large.Pix[at+large.Stride:][:2]
			small.Pix[small.PixOffset(x, y)] = uint8((int(upper[0]) + int(upper[1]) + int(lower[0]) + int(lower[1]) + 2) / 4)
		}
	}
	detectAllOf := func(img image.Image) []face.Face {
		found, err := d.Detect(t.Context(), img, opts)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	var box, points face.Point // sums of displacements
	faces := 0
	whole := detectAllOf(large)
	for _, f := range detectAllOf(small) {
		f.Move(func(x, y float64) (float64, float64) { return 2 * x, 2 * y }, cols*side, rows*side)
		for _, w := range whole {
			if face.IoU(f.Box, w.Box) < 0.8 {
				continue
			}
			faces++
			box.X += (f.Box.MinX + f.Box.MaxX - w.Box.MinX - w.Box.MaxX) / 2
			box.Y += (f.Box.MinY + f.Box.MaxY - w.Box.MinY - w.Box.MaxY) / 2
			a, b := middle(f.Landmarks), middle(w.Landmarks)
			points.X += a.X - b.X
			points.Y += a.Y - b.Y
			break
		}
	}
	if faces < 120 {
		t.Fatalf("only %d faces are found in both images", faces)
	}
	for _, c := range []struct {
		what    string
		sum     face.Point
		allowed float64
	}{{"boxes", box, 0.1}, {"landmarks", points, 0.2}} {
		x, y := c.sum.X/float64(faces), c.sum.Y/float64(faces)
		t.Logf("%s: %+.3f to the right, %+.3f down, over %d faces", c.what, x, y, faces)
		if !(math.Abs(x) <= c.allowed && math.Abs(y) <= c.allowed) {
			t.Errorf("%s of the reduced image lie %+.3f to the right and %+.3f down, want %v at most", c.what, x, y, c.allowed)
		}
	}
}

// middle returns the mean of the five landmarks.
func middle(l *face.Landmarks) face.Point {
	return face.Point{
		X: (l.LeftEye.X + l.RightEye.X + l.Nose.X + l.MouthLeft.X + l.MouthRight.X) / 5,
		Y: (l.LeftEye.Y + l.RightEye.Y + l.Nose.Y + l.MouthLeft.Y + l.MouthRight.Y) / 5,
	}
}
