// Package face holds what every face detector shares: the Detector interface,
// the types of its answer, and the geometry of boxes.
//
// Coordinates are pixels of the image that was given, with its top left corner
// at (0, 0), x to the right and y down. They have fractions. A box covers
// min <= x < max, so that a whole coordinate of a box is a line between two pixels. The
// coordinates of a landmark count from the center of the upper left pixel: (0, 0) is half
// a pixel to the right of the corner, and below it. Both are rounded to the nearest whole
// number, that is a side of a box to the nearest line between pixels, and a landmark to
// the pixel that it is in. Detectors do not round; package service does, once.
package face

import (
	"cmp"
	"context"
	"image"
	"math"
	"slices"
)

// A Detector finds faces in images.
type Detector interface {
	// Detect finds the faces in img, which is taken as upright. The answer's
	// coordinates are relative to img.Bounds().Min. Faces come sorted by Compare,
	// boxes and landmarks lie within the image, and the same pixels and options
	// give the same faces on every call.
	//
	// An image too small to hold a face has none; that is not an error. Detect
	// returns ctx.Err() soon after ctx ends. It is safe for concurrent use, does
	// not modify img, and does not keep it.
	Detect(ctx context.Context, img image.Image, opts Options) ([]Face, error)

	// Input returns how little of an image of width × height pixels Detect would make
	// use of, so that the rest need not be decoded. It is cheap. The function Detect
	// does with it what has to be done.
	Input(width, height int, opts Options) Input

	// Info describes the detector. It never changes.
	Info() Info
}

// Input is what Detect makes use of in an image.
type Input struct {
	// Gray means that luminance is enough.
	Gray bool
	// Reduce is what the image's sides may be divided by, each pixel then being the
	// mean of Reduce × Reduce: Detect finds the same faces there, give or take the
	// rounding, with Options.MinFaceSize divided likewise. It is a power of two, at
	// least 1.
	Reduce int
}

// Info describes a detector.
type Info struct {
	// Family is the kind of detector, such as "pigo".
	Family string
	// Version changes whenever the same image may give other faces.
	Version string
	// InputSize is the size in pixels of the images that the detector's network
	// takes. Zero means that it takes images of any size.
	InputSize image.Point
	// Landmarks reports whether Detect finds landmarks.
	Landmarks bool
	// MinConfidence is the default for callers that set none: the lowest confidence at
	// which the detector shows no more false faces an image than MTCNN does at its own
	// default, 0.7, on labeled images (docs/accuracy.md).
	MinConfidence float64
	// MinFaceSize is the longer side in pixels of the smallest face that the
	// detector can see in an image that it does not enlarge.
	MinFaceSize int
	// MaxIoU is the IoU up to which two boxes may overlap and still be two faces. Zero
	// means that the detector compares boxes in another way.
	MaxIoU float64
}

// Options says which faces to return. The zero value returns all that the detector finds.
type Options struct {
	// MinConfidence in [0, 1]: less confident faces are left out.
	MinConfidence float64
	// MaxResults keeps the most confident faces; 0 keeps all.
	MaxResults int
	// MinFaceSize is the longer side, in pixels, of the smallest face to return;
	// 0 leaves it to the detector, which chooses by the size of the image. For
	// Info.MinFaceSize and less it returns all that it can see, except that detectors
	// that enlarge images go on to smaller faces.
	MinFaceSize float64
	// SkipLandmarks leaves Face.Landmarks nil.
	SkipLandmarks bool
	// AnyOrientation has the function Detect also look for faces that are turned by a
	// quarter, a half or three quarters. Detectors ignore it.
	AnyOrientation bool
}

// Face is one face in an image.
type Face struct {
	Box Box
	// Landmarks is nil when they were not asked for or the model has none.
	Landmarks *Landmarks
	// Confidence is the probability, in [0, 1], that this is a face.
	Confidence float64
}

// Move brings f from one frame of coordinates to another: at returns where a point
// of the old frame is in the new one, which may be turned by quarters. Both have (0, 0)
// at the upper left corner of the upper left pixel. The box is cut at width × height, the
// size of the new frame.
func (f *Face) Move(at func(x, y float64) (float64, float64), width, height int) {
	x0, y0 := at(f.Box.MinX, f.Box.MinY)
	x1, y1 := at(f.Box.MaxX, f.Box.MaxY)
	f.Box = Box{MinX: min(x0, x1), MinY: min(y0, y1), MaxX: max(x0, x1), MaxY: max(y0, y1)}.Clamp(width, height)
	if l := f.Landmarks; l != nil {
		for _, p := range []*Point{&l.LeftEye, &l.RightEye, &l.Nose, &l.MouthLeft, &l.MouthRight} {
			// Landmarks count from the center of the first pixel, and at from its corner.
			x, y := at(p.X+0.5, p.Y+0.5)
			p.X, p.Y = x-0.5, y-0.5
		}
	}
}

// Point is a place in an image, in pixels: (0, 0) is the center of the upper left one.
type Point struct{ X, Y float64 }

// Landmarks are five points of a face. Left and right are the viewer's, to whom the face
// is upright: in an upright face LeftEye.X < RightEye.X.
type Landmarks struct {
	LeftEye, RightEye, Nose, MouthLeft, MouthRight Point
}

// Box is a rectangle with sides parallel to the image's, in pixels.
type Box struct{ MinX, MinY, MaxX, MaxY float64 }

// Width is the box's horizontal extent; negative never counts.
func (b Box) Width() float64 { return max(0, b.MaxX-b.MinX) }

// Height is the box's vertical extent; negative never counts.
func (b Box) Height() float64 { return max(0, b.MaxY-b.MinY) }

// Area is Width times Height.
func (b Box) Area() float64 { return b.Width() * b.Height() }

// Clamp returns the part of b within an image of width × height pixels.
func (b Box) Clamp(width, height int) Box {
	w, h := float64(width), float64(height)
	return Box{
		MinX: min(max(b.MinX, 0), w), MinY: min(max(b.MinY, 0), h),
		MaxX: min(max(b.MaxX, 0), w), MaxY: min(max(b.MaxY, 0), h),
	}
}

// Intersect returns the area that a and b share.
func Intersect(a, b Box) float64 {
	return Box{
		MinX: max(a.MinX, b.MinX), MinY: max(a.MinY, b.MinY),
		MaxX: min(a.MaxX, b.MaxX), MaxY: min(a.MaxY, b.MaxY),
	}.Area()
}

// IoU returns the intersection over union of a and b, in [0, 1]. It is 0 when
// neither has an area.
func IoU(a, b Box) float64 {
	inter := Intersect(a, b)
	union := a.Area() + b.Area() - inter
	if union <= 0 {
		return 0
	}
	return inter / union
}

// IoUAbove reports whether the IoU of a and b is above limit. It is faster than IoU where
// boxes lie apart, as most do.
func IoUAbove(a, b Box, limit float64) bool {
	return a.MinX < b.MaxX && b.MinX < a.MaxX && a.MinY < b.MaxY && b.MinY < a.MaxY && IoU(a, b) > limit
}

// Compare orders faces as answers are ordered: by falling confidence, then from
// the top of the image to the bottom, from left to right, the smaller box first.
// Two faces that compare as equal have the same confidence and box.
func Compare(a, b Face) int {
	return cmp.Or(
		cmp.Compare(b.Confidence, a.Confidence),
		cmp.Compare(a.Box.MinY, b.Box.MinY),
		cmp.Compare(a.Box.MinX, b.Box.MinX),
		cmp.Compare(a.Box.MaxY, b.Box.MaxY),
		cmp.Compare(a.Box.MaxX, b.Box.MaxX),
	)
}

// Round returns b in whole pixels, as answers have it: each side moves to the nearest
// border between two pixels.
func (b Box) Round() Box {
	return Box{MinX: math.Round(b.MinX), MinY: math.Round(b.MinY), MaxX: math.Round(b.MaxX), MaxY: math.Round(b.MaxY)}
}

// Distinct drops each face whose box in whole pixels overlaps that of a face before it
// by an IoU of more than maxIoU; 0 drops none. Detectors compare boxes before they are
// rounded, and rounding moves the IoU of small ones by up to some hundredths. It works in
// place, and returns the kept part of faces.
func Distinct(faces []Face, maxIoU float64) []Face {
	if maxIoU == 0 {
		return faces
	}
	kept := faces[:0]
	boxes := make([]Box, 0, len(faces))
	for _, f := range faces {
		b := f.Box.Round()
		if !slices.ContainsFunc(boxes, func(k Box) bool { return IoUAbove(k, b, maxIoU) }) {
			kept, boxes = append(kept, f), append(boxes, b)
		}
	}
	return kept
}

// Suppress is greedy non-maximum suppression: it sorts candidates by compare, the best
// first, and drops each one of which same reports that it is in the place of one that is
// kept. It works in place, and returns the kept part of candidates. When ctx ends it
// returns ctx.Err().
func Suppress[T any](ctx context.Context, candidates []T, compare func(a, b T) int, same func(kept, candidate *T) bool) ([]T, error) {
	slices.SortFunc(candidates, compare)
	kept := candidates[:0]
next:
	for i := range candidates {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for k := range kept {
			if same(&kept[k], &candidates[i]) {
				continue next
			}
		}
		kept = append(kept, candidates[i])
	}
	return kept, nil
}
