// Package face has what all face detectors share: the Detector interface, the types of
// its results, and the geometry of boxes.
//
// Coordinates are pixels of the image, with its top left corner at (0, 0), x to the
// right and y down. They may have fractions. A box covers min <= x < max, so a whole
// coordinate of a box is a line between two pixels. The coordinates of a landmark count
// from the center of the upper left pixel: (0, 0) is half a pixel to the right of the
// corner, and half a pixel below it. To round to whole pixels, round both to the
// nearest whole number: a side of a box to the nearest line between pixels, and a
// landmark to the pixel that it is in. Detectors do not round; package service rounds
// once.
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
	// Detect finds the faces in img, which must be upright. Coordinates of the result
	// are relative to img.Bounds().Min. Faces are sorted by Compare, boxes and
	// landmarks are within the image, and the same pixels and options give the same
	// faces on every call. An image that is too small for a face has none; that is not
	// an error. Detect returns ctx.Err() soon after ctx ends. It is safe for concurrent
	// use, does not modify img, and does not keep a reference to it.
	Detect(ctx context.Context, img image.Image, opts Options) ([]Face, error)

	// Input returns how much of an image of width × height pixels Detect needs, so that
	// the rest need not be decoded. It takes little time. The function Detect calls it.
	Input(width, height int, opts Options) Input

	// Info describes the detector. The result never changes.
	Info() Info
}

// Input says how much of an image Detect needs.
type Input struct {
	// Gray means that luminance is enough.
	Gray bool
	// Reduce is the factor by which the sides of the image may be divided, where each
	// pixel is the mean of Reduce × Reduce pixels. Detect finds the same faces in the
	// reduced image, except for rounding, if Options.MinFaceSize is divided too. It is
	// a power of two, at least 1.
	Reduce int
	// Detect takes at most Bytes + BytesPerPixel × pixels of memory beside the image, where
	// pixels are those of the image that it is given, which may have been reduced.
	Bytes         int64
	BytesPerPixel float64
}

// Memory returns an upper bound, in bytes, of the memory that Detect takes beside an image
// of that size.
func (in Input) Memory(width, height int) int64 {
	return in.Bytes + int64(math.Ceil(in.BytesPerPixel*float64(width)*float64(height)))
}

// Info describes a detector.
type Info struct {
	// Family is the family of the detector, such as "pigo".
	Family string
	// Version changes whenever the same image may give different faces.
	Version string
	// InputSize is the size in pixels of the images that the detector's network
	// accepts. Zero means any size.
	InputSize image.Point
	// Landmarks reports whether Detect finds landmarks.
	Landmarks bool
	// MinConfidence is the default: the lowest confidence at which the detector finds
	// no more false faces per image than MTCNN does at its own default, 0.7, on labeled
	// images (docs/accuracy.md).
	MinConfidence float64
	// MinFaceSize is the longer side in pixels of the smallest face that the detector
	// can find without enlarging the image.
	MinFaceSize int
	// MaxIoU is the largest IoU of two boxes that still count as two faces. Zero means
	// that the detector compares boxes in another way.
	MaxIoU float64
}

// Options says which faces to return. The zero value returns all that the detector finds.
type Options struct {
	// MinConfidence, in [0, 1], leaves out less confident faces.
	MinConfidence float64
	// MaxResults keeps the most confident faces; 0 keeps all.
	MaxResults int
	// MinFaceSize is the longer side in pixels of the smallest face to return. 0 means
	// that the detector chooses, by the size of the image. At Info.MinFaceSize and
	// below, it returns all faces that it can find; detectors that enlarge images find
	// even smaller ones.
	MinFaceSize float64
	// SkipLandmarks leaves Face.Landmarks nil.
	SkipLandmarks bool
	// Truncated is called if faces may be missing because the detector limits its time and
	// memory: it looked for larger faces only than MinFaceSize asks for (or than it usually
	// does, where that is 0), or did not examine all candidates. Nil means that nobody
	// needs to know.
	Truncated func()
	// AnyOrientation has the function Detect also look for faces that are turned by a
	// quarter, a half or three quarters. Detectors ignore it.
	AnyOrientation bool
}

// Face is one face in an image.
type Face struct {
	Box Box
	// Landmarks is nil if they were not requested or the model has none.
	Landmarks *Landmarks
	// Confidence is the probability, in [0, 1], that this is a face.
	Confidence float64
}

// Move converts f from one coordinate frame to another, which may be turned by quarters.
// at converts a point; both frames have (0, 0) at the upper left corner of the upper left
// pixel. The box is clamped to width × height, the size of the new frame.
func (f *Face) Move(at func(x, y float64) (float64, float64), width, height int) {
	x0, y0 := at(f.Box.MinX, f.Box.MinY)
	x1, y1 := at(f.Box.MaxX, f.Box.MaxY)
	f.Box = Box{MinX: min(x0, x1), MinY: min(y0, y1), MaxX: max(x0, x1), MaxY: max(y0, y1)}.Clamp(width, height)
	if l := f.Landmarks; l != nil {
		for _, p := range []*Point{&l.LeftEye, &l.RightEye, &l.Nose, &l.MouthLeft, &l.MouthRight} {
			// Landmarks count from the center of the first pixel, and at from its
			// corner.
			x, y := at(p.X+0.5, p.Y+0.5)
			p.X, p.Y = x-0.5, y-0.5
		}
	}
}

// Point is a point in an image, in pixels. (0, 0) is the center of the upper left
// pixel.
type Point struct{ X, Y float64 }

// Landmarks are five points of a face. Left and right are those of a viewer to whom the
// face is upright: in an upright face LeftEye.X < RightEye.X.
type Landmarks struct {
	LeftEye, RightEye, Nose, MouthLeft, MouthRight Point
}

// Box is a rectangle in pixels, with sides parallel to those of the image.
type Box struct{ MinX, MinY, MaxX, MaxY float64 }

// Width returns the horizontal extent of the box, at least 0.
func (b Box) Width() float64 { return max(0, b.MaxX-b.MinX) }

// Height returns the vertical extent of the box, at least 0.
func (b Box) Height() float64 { return max(0, b.MaxY-b.MinY) }

// Area returns Width times Height.
func (b Box) Area() float64 { return float64(b.Width() * b.Height()) }

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

// IoU returns the intersection over union of a and b, in [0, 1]. It is 0 if both are
// empty.
func IoU(a, b Box) float64 {
	inter := Intersect(a, b)
	union := a.Area() + b.Area() - inter
	if union <= 0 {
		return 0
	}
	return inter / union
}

// IoUAbove reports whether the IoU of a and b is above limit. It is faster than IoU for
// boxes that do not overlap, which is the usual case.
func IoUAbove(a, b Box, limit float64) bool {
	return a.MinX < b.MaxX && b.MinX < a.MaxX && a.MinY < b.MaxY && b.MinY < a.MaxY && IoU(a, b) > limit
}

// Compare orders faces as results are ordered: by decreasing confidence, then from top
// to bottom, from left to right, and smaller boxes first. Two faces that compare as
// equal have the same confidence and box.
func Compare(a, b Face) int {
	return cmp.Or(
		cmp.Compare(b.Confidence, a.Confidence),
		cmp.Compare(a.Box.MinY, b.Box.MinY),
		cmp.Compare(a.Box.MinX, b.Box.MinX),
		cmp.Compare(a.Box.MaxY, b.Box.MaxY),
		cmp.Compare(a.Box.MaxX, b.Box.MaxX),
	)
}

// Round returns b in whole pixels: each side moves to the nearest line between two
// pixels.
func (b Box) Round() Box {
	return Box{MinX: math.Round(b.MinX), MinY: math.Round(b.MinY), MaxX: math.Round(b.MaxX), MaxY: math.Round(b.MaxY)}
}

// Distinct drops each face whose box, rounded to whole pixels, overlaps that of an
// earlier face by an IoU of more than maxIoU; 0 drops none. Detectors compare boxes
// before rounding, which changes the IoU of small boxes by up to some hundredths.
// Distinct works in place, and returns the remaining part of faces.
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

// Suppress is greedy non-maximum suppression. It sorts candidates by compare, the best
// first, and drops each one for which same reports that it covers the same face as a
// better one. It works in place, and returns the remaining part of candidates. If ctx
// ends, it returns ctx.Err().
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
