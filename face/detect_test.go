package face_test

import (
	"context"
	"errors"
	"image"
	"reflect"
	"testing"

	"github.com/mienproject/mien/face"
)

// fixed is a detector that returns the same faces for any image, and records what it
// was called with.
type fixed struct {
	input face.Input
	info  face.Info
	faces []face.Face
	err   error

	img  image.Image
	opts face.Options
}

func (f *fixed) Detect(_ context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	f.img, f.opts = img, opts
	return f.faces, f.err
}

func (f *fixed) Input(width, height int, opts face.Options) face.Input {
	f.opts = opts
	f.img = image.NewGray(image.Rect(0, 0, width, height))
	return f.input
}

func (f *fixed) Info() face.Info { return f.info }

// source is an image of 641 × 481 pixels that can be reduced as far as wanted. Its
// first column is one pixel outside of the image.
type source struct {
	asked face.Input
	err   error
}

func (*source) Size() image.Point { return image.Pt(641, 481) }

func (s *source) Decode(_ context.Context, in face.Input) (face.Decoded, error) {
	s.asked = in
	r := in.Reduce
	return face.Decoded{
		Image:     image.NewGray(image.Rect(0, 0, (641+r-1)/r, (481+r-1)/r)),
		Reduction: r,
		FullSize:  func(x, y float64) (float64, float64) { return x*float64(r) - 1, y * float64(r) },
	}, s.err
}

func TestDetect(t *testing.T) {
	landmarks := func(x, y float64) *face.Landmarks {
		p := face.Point{X: x, Y: y}
		return &face.Landmarks{LeftEye: p, RightEye: p, Nose: p, MouthLeft: p, MouthRight: p}
	}
	found := face.Face{Box: face.Box{MinX: 0, MinY: 10, MaxX: 50, MaxY: 130}, Landmarks: landmarks(20.5, 30.5), Confidence: 0.9}
	for _, c := range []struct {
		name  string
		input face.Input
		size  image.Point // size of the image that the detector gets
		min   float64     // MinFaceSize that the detector gets
		want  face.Face
	}{
		{"whole", face.Input{Reduce: 1}, image.Pt(641, 481), 60, found},
		{
			"quarter",
			face.Input{Gray: true, Reduce: 4},
			image.Pt(161, 121), 15,
			face.Face{
				// Moved one pixel to the left, and clamped to the image.
				Box: face.Box{MinX: 0, MinY: 40, MaxX: 199, MaxY: 481}, Confidence: 0.9,
				Landmarks: landmarks(21*4-1-0.5, 31*4-0.5),
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := found
			l := *found.Landmarks
			f.Landmarks = &l
			d, s := &fixed{input: c.input, faces: []face.Face{f}}, &source{}
			got, err := face.Detect(t.Context(), d, s, face.Options{MinFaceSize: 60, MinConfidence: 0.5, MaxResults: 7})
			if err != nil || !reflect.DeepEqual(got, []face.Face{c.want}) {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
			if s.asked != c.input {
				t.Errorf("the source is asked for %+v, want %+v", s.asked, c.input)
			}
			if want := (face.Options{MinFaceSize: c.min, MinConfidence: 0.5, MaxResults: 7}); d.img.Bounds().Size() != c.size || !reflect.DeepEqual(d.opts, want) {
				t.Errorf("the detector gets %v and %+v, want %v and %+v", d.img.Bounds().Size(), d.opts, c.size, want)
			}
		})
	}
}

// TestDetectDistinct checks that boxes which overlap too much in whole pixels become
// one face.
func TestDetectDistinct(t *testing.T) {
	boxes := []face.Face{
		{Box: face.Box{MinX: 10, MinY: 10, MaxX: 20, MaxY: 20}, Confidence: 0.9},
		{Box: face.Box{MinX: 14.4, MinY: 10, MaxX: 23.6, MaxY: 19.6}, Confidence: 0.8}, // an IoU of 0.400, and 0.429 after rounding
	}
	img := image.NewGray(image.Rect(0, 0, 60, 60))
	for maxIoU, want := range map[float64]int{0: 2, 0.41: 1, 0.43: 2} {
		d := &fixed{input: face.Input{Reduce: 1}, info: face.Info{MaxIoU: maxIoU}, faces: append([]face.Face(nil), boxes...)}
		got, err := face.Detect(t.Context(), d, face.Whole(img, nil), face.Options{})
		if err != nil || len(got) != want || d.img != image.Image(img) {
			t.Errorf("limit %v: %+v, %v; want %d faces of the image itself", maxIoU, got, err, want)
		}
	}
}

func TestDetectErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		d *fixed
		s *source
	}{
		"source":   {&fixed{input: face.Input{Reduce: 1}}, &source{err: broken}},
		"detector": {&fixed{input: face.Input{Reduce: 2}, err: broken}, &source{}},
	} {
		if got, err := face.Detect(t.Context(), c.d, c.s, face.Options{}); !errors.Is(err, broken) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
