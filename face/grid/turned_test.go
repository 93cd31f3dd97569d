package grid

import (
	"image"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
)

// turnedPhotos are photographs with 27 labeled faces, of 40 to 400 pixels.
var turnedPhotos = []string{
	"dlib_faces/images/2008_002506.jpg",
	"dlib_faces/images/2009_004587.jpg",
	"dlib_faces/images/2008_001009.jpg",
	"dlib_faces/images/2008_004176.jpg",
	"mmpose_landmarks/images/300w_indoor_029.png",
	"mmpose_landmarks/images/300w_indoor_020.png",
	"mmpose_landmarks/images/wflw_36_Football_americanfootball_ball_36_415.jpg",
	"mmpose_landmarks/images/wflw_7_Cheering_Cheering_7_16.jpg",
	"mmpose_landmarks/images/cofw_001766.jpg",
	"mmpose_landmarks/images/cofw_001805.jpg",
	"lfw_5pt/images/Agnes_Bruckner_0001.jpg",
	"lfw_5pt/images/Alfredo_di_Stefano_0001.jpg",
	"net_5pt/images/1062_0_0.jpg",
	"net_5pt/images/1069_0_0.jpg",
	"net_5pt/images/7648_0_0.jpg",
}

// TestAccuracyOnAnyOrientation checks that faces are found in photographs that are turned
// by any angle, at the default confidence, and that the landmarks of those that are found
// are on the right parts of the face.
func TestAccuracyOnAnyOrientation(t *testing.T) {
	// Others are some of these, turned by quarters.
	angles := []int{0, 15, 30, 45, 60, 75, 90, 195, 285}
	if testing.Short() {
		angles = []int{45}
	}
	var photos []facetest.Photo
	var images []image.Image
	faces := 0
	for _, name := range turnedPhotos {
		subset := facetest.Subset(t, filepath.Dir(filepath.Dir(name)))
		i := slices.IndexFunc(subset, func(p facetest.Photo) bool { return p.Path == facetest.Path(t, name) })
		if i < 0 {
			t.Fatalf("%s has no labels", name)
		}
		faces += len(subset[i].Faces)
		photos, images = append(photos, subset[i]), append(images, facetest.Decode(t, subset[i].Path))
	}
	t.Logf("%d faces on %d photographs", faces, len(photos))
	g := openGrid(t, "yunet_n_dynamic.onnx")
	opts := face.Options{MinConfidence: g.info.MinConfidence, AnyOrientation: true}
	for _, degrees := range angles {
		want := faces - 2
		if degrees%90 == 45 {
			want-- // halfway between two turns
		}
		found, wrong, others := 0, 0, 0
		for i, p := range photos {
			img, labels := turned(images[i], p.Faces, degrees)
			results, err := face.Detect(t.Context(), g, face.Whole(img, quarterTurned), opts)
			if err != nil {
				t.Fatal(err)
			}
			others += len(results)
			for _, l := range labels {
				k := slices.IndexFunc(results, func(f face.Face) bool { return covers(f, l) })
				if k < 0 {
					continue
				}
				found, others = found+1, others-1
				if e := facetest.LandmarkError(*results[k].Landmarks, *l.Landmarks); !(e <= .35) {
					wrong++
					t.Errorf("%s turned by %d°: the landmarks of the face at %.0f are off by %.2f eye distances", p.Path, degrees, results[k].Box, e)
				}
			}
		}
		t.Logf("%d°: %d faces, %d with wrong landmarks, %d others", degrees, found, wrong, others)
		if found < want {
			t.Errorf("%d°: %d of %d faces, want at least %d", degrees, found, faces, want)
		}
	}
}

// covers reports whether f is a detection of the labeled face: it has the center of its
// landmarks, and between a half and twice its size.
func covers(f face.Face, l facetest.Label) bool {
	var center face.Point
	for _, p := range facetest.Points(l.Landmarks) {
		center.X, center.Y = center.X+p.X/5, center.Y+p.Y/5
	}
	ratio := math.Sqrt(f.Box.Area() / l.Box.Area())
	return f.Box.MinX <= center.X && center.X < f.Box.MaxX && f.Box.MinY <= center.Y && center.Y < f.Box.MaxY && ratio >= 0.5 && ratio <= 2
}

// turned rotates an image clockwise. Its frame becomes larger, so that nothing is cut
// off; what is outside of the image is gray. The labels' landmarks move with it, and
// their boxes keep their size, but not their place.
func turned(img image.Image, labels []facetest.Label, degrees int) (image.Image, []facetest.Label) {
	size := img.Bounds().Size()
	w, h := float64(size.X), float64(size.Y)
	sin, cos := math.Sincos(float64(degrees) * math.Pi / 180)
	frame := image.Pt(int(math.Ceil(math.Abs(w*cos)+math.Abs(h*sin)-1e-6)), int(math.Ceil(math.Abs(w*sin)+math.Abs(h*cos)-1e-6)))
	move := f64.Aff3{
		cos, -sin, (float64(frame.X) - cos*w + sin*h) / 2,
		sin, cos, (float64(frame.Y) - sin*w - cos*h) / 2,
	}
	out := image.NewRGBA(image.Rectangle{Max: frame})
	draw.Draw(out, out.Rect, image.NewUniform(color.Gray{Y: 128}), image.Point{}, draw.Src)
	draw.BiLinear.Transform(out, move, img, img.Bounds(), draw.Src, nil)
	var moved []facetest.Label
	for _, l := range labels {
		// The coordinates of a landmark are those of the middle of its pixel.
		points := eachPoint(*l.Landmarks, func(p face.Point) face.Point {
			x, y := p.X+0.5, p.Y+0.5
			return face.Point{X: move[0]*x + move[1]*y + move[2] - 0.5, Y: move[3]*x + move[4]*y + move[5] - 0.5}
		})
		moved = append(moved, facetest.Label{Box: l.Box, Landmarks: &points})
	}
	return out, moved
}

// quarterTurned turns an image clockwise.
func quarterTurned(img image.Image, quarters int) image.Image {
	from := img.(*image.RGBA)
	for range quarters {
		size := from.Rect.Size()
		to := image.NewRGBA(image.Rect(0, 0, size.Y, size.X))
		for y := range size.Y {
			for x := range size.X {
				copy(to.Pix[to.PixOffset(size.Y-1-y, x):][:4], from.Pix[from.PixOffset(x, y):][:4])
			}
		}
		from = to
	}
	return from
}
