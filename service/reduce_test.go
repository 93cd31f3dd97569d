package service_test

import (
	"bytes"
	"context"
	"image"
	"image/draw"
	"image/jpeg"
	"runtime"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/service"
)

// reducing is a stub that needs less than the whole image.
type reducing struct {
	stub
	needs face.Input
}

func (r reducing) Input(int, int, face.Options) face.Input { return r.needs }

// TestReduced checks that a detector gets only as much of an image as
// it needs, and that the answer is still in the coordinates of the whole image.
func TestReduced(t *testing.T) {
	encoded := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, img, nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	color := encoded(image.NewRGBA(image.Rect(0, 0, 641, 481)))
	for _, c := range []struct {
		name  string
		image *inferencev1.Image
		needs face.Input
		// The image that the detector gets.
		gray    bool
		size    image.Point
		minFace float64
	}{
		{"all of it", &inferencev1.Image{RawData: color}, face.Input{Reduce: 1}, false, image.Pt(641, 481), 30},
		{"luminance", &inferencev1.Image{RawData: color}, face.Input{Gray: true, Reduce: 1}, true, image.Pt(641, 481), 30},
		{"half of it", &inferencev1.Image{RawData: color}, face.Input{Reduce: 2}, false, image.Pt(321, 241), 15},
		{"an eighth of the luminance", &inferencev1.Image{RawData: color}, face.Input{Gray: true, Reduce: 8}, true, image.Pt(81, 61), 3.75},
		{
			"raw pixels unchanged", &inferencev1.Image{
				RawData: make([]byte, 3*640*480), Width: 640, Height: 480, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_RGB24,
			},
			face.Input{Gray: true, Reduce: 2},
			false, image.Pt(640, 480), 30,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := reducing{needs: c.needs}
			d.detect = func(_ context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
				if _, gray := img.(*image.Gray); gray != c.gray || img.Bounds().Size() != c.size || opts.MinFaceSize != c.minFace {
					t.Errorf("the detector gets a %T of %v and faces from %v on", img, img.Bounds().Size(), opts.MinFaceSize)
				}
				// A box of a quarter of the image, with an eye in its middle.
				w, h := float64(c.size.X), float64(c.size.Y)
				eye := face.Point{X: w / 2, Y: h / 2}
				return []face.Face{{
					Box:        face.Box{MinX: w / 2, MinY: h / 2, MaxX: w, MaxY: h},
					Landmarks:  &face.Landmarks{LeftEye: eye, RightEye: eye, Nose: eye, MouthLeft: eye, MouthRight: eye},
					Confidence: 1,
				}}, nil
			}
			s, _ := start(t, d, nil)
			req := proto.CloneOf(c.image)
			req.Options = &inferencev1.DetectOptions{MinFaceSize: 30}
			res, err := s.Predict(t.Context(), req)
			if err != nil || len(res.GetResults()) != 1 {
				t.Fatalf("got %v, %v", res, err)
			}
			width, height := int32(641), int32(481)
			if c.image.GetWidth() > 0 {
				width, height = c.image.GetWidth(), c.image.GetHeight()
			}
			if res.GetWidth() != width || res.GetHeight() != height {
				t.Errorf("the answer is for %d×%d pixels", res.GetWidth(), res.GetHeight())
			}
			r := res.GetResults()[0]
			if at := r.GetBox().GetLowerRight(); at.GetX() != width || at.GetY() != height {
				t.Errorf("the box ends at %v, want %d, %d", at, width, height)
			}
			near := func(p *inferencev1.Point) bool {
				const away = 8 // pixels of full size for each pixel that the detector sees
				return max(p.GetX()-width/2, width/2-p.GetX(), p.GetY()-height/2, height/2-p.GetY()) <= away
			}
			if !near(r.GetBox().GetUpLeft()) || !near(r.GetLandmarks().GetNose()) {
				t.Errorf("the box begins at %v and the nose is at %v, want the middle", r.GetBox().GetUpLeft(), r.GetLandmarks().GetNose())
			}
		})
	}
}

// TestAccuracyReduced checks that reducing a large photograph loses no face and
// hardly any precision.
func TestAccuracyReduced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long with the race detector: make accuracy runs it")
	}
	d, err := pigo.New(cores.NewGate(runtime.GOMAXPROCS(0)))
	if err != nil {
		t.Fatal(err)
	}
	// 160 portraits of 250 pixels, in 12 megapixels.
	const side, cols, rows = 250, 16, 12
	canvas := image.NewRGBA(image.Rect(0, 0, cols*side, rows*side))
	var labels facetest.Photo
	for i, p := range facetest.Subset(t, "lfw_5pt") {
		corner := image.Pt(i%cols*side, i/cols*side)
		img := facetest.Decode(t, p.Path)
		draw.Draw(canvas, image.Rectangle{Min: corner, Max: corner.Add(image.Pt(side, side))}, img, img.Bounds().Min, draw.Src)
		for _, l := range p.Faces {
			l.Box = face.Box{
				MinX: l.Box.MinX + float64(corner.X), MinY: l.Box.MinY + float64(corner.Y),
				MaxX: l.Box.MaxX + float64(corner.X), MaxY: l.Box.MaxY + float64(corner.Y),
			}
			points := *l.Landmarks
			for _, p := range []*face.Point{&points.LeftEye, &points.RightEye, &points.Nose, &points.MouthLeft, &points.MouthRight} {
				p.X, p.Y = p.X+float64(corner.X), p.Y+float64(corner.Y)
			}
			l.Landmarks = &points
			labels.Faces = append(labels.Faces, l)
		}
	}
	if n := d.Input(cols*side, rows*side, face.Options{}); n.Reduce < 2 {
		t.Fatalf("12 megapixels are not reduced: %+v", n)
	}
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, canvas, &jpeg.Options{Quality: 92}); err != nil {
		t.Fatal(err)
	}
	measure := func(what string, found []face.Face) (pointsOff float64, matched int) {
		pointsOff, matched, _ = facetest.MeanLandmarkError([]facetest.Photo{labels}, [][]face.Face{found})
		t.Logf("%s: %d of %d faces, %d others, landmarks %.4f off", what, matched, len(labels.Faces), len(found)-matched, pointsOff)
		return pointsOff, matched
	}
	whole, err := jpeg.Decode(bytes.NewReader(photo.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	found, err := d.Detect(t.Context(), whole, face.Options{MinConfidence: d.Info().MinConfidence})
	if err != nil {
		t.Fatal(err)
	}
	wholeOff, wholeMatched := measure("as it is", found)

	s, _ := start(t, d, func(c *service.Config) { c.MaxPixels = cols * rows * side * side })
	res, err := s.Predict(t.Context(), &inferencev1.Image{RawData: photo.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	off, matched := measure("reduced", facesOf(res))
	if matched < wholeMatched-2 || off > 1.12*wholeOff {
		t.Error("reducing costs faces, or the precision of their landmarks")
	}
}

// facesOf converts an answer to package face.
func facesOf(res *inferencev1.InferResults) []face.Face {
	at := func(p *inferencev1.Point) face.Point { return face.Point{X: float64(p.GetX()), Y: float64(p.GetY())} }
	var faces []face.Face
	for _, r := range res.GetResults() {
		a, b := at(r.GetBox().GetUpLeft()), at(r.GetBox().GetLowerRight())
		l := r.GetLandmarks()
		faces = append(faces, face.Face{
			Box: face.Box{MinX: a.X, MinY: a.Y, MaxX: b.X, MaxY: b.Y}, Confidence: r.GetConfidence(),
			Landmarks: &face.Landmarks{
				LeftEye: at(l.GetLeftEye()), RightEye: at(l.GetRightEye()), Nose: at(l.GetNose()),
				MouthLeft: at(l.GetMouthLeft()), MouthRight: at(l.GetMouthRight()),
			},
		})
	}
	return faces
}

// TestDistinct checks that boxes which overlap by more than the model's limit only
// after rounding become one face, and no others.
func TestDistinct(t *testing.T) {
	// The first two overlap by .400 before rounding, and by .429 in whole pixels.
	boxes := []face.Box{
		{MinX: 10, MinY: 10, MaxX: 20, MaxY: 20},
		{MinX: 14.4, MinY: 10, MaxX: 23.6, MaxY: 19.6},
		{MinX: 40, MinY: 40, MaxX: 50, MaxY: 50},
	}
	for _, c := range []struct {
		maxIoU float64
		want   int
	}{{0, 3}, {.41, 2}, {.43, 3}} {
		d := stub{info: face.Info{MaxIoU: c.maxIoU}, detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) {
			var faces []face.Face
			for i, b := range boxes {
				faces = append(faces, face.Face{Box: b, Confidence: .9 - .1*float64(i)})
			}
			return faces, nil
		}}
		s, _ := start(t, d, nil)
		res, err := s.Predict(t.Context(), &inferencev1.Image{
			RawData: make([]byte, 60*60), Width: 60, Height: 60, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
		})
		if err != nil || len(res.GetResults()) != c.want {
			t.Errorf("limit %v: %v, %v; want %d faces", c.maxIoU, res.GetResults(), err, c.want)
		}
	}
}
