package face

import (
	"context"
	"image"
)

// A Source is an upright image that has not been decoded yet.
type Source interface {
	// Size returns the width and height of the whole image, in pixels.
	Size() image.Point
	// Decode decodes the image. The result may leave out what in does not ask for.
	Decode(ctx context.Context, in Input) (Decoded, error)
}

// Decoded is the result of a Source.
type Decoded struct {
	Image image.Image
	// Reduction is the factor by which the sides of the whole image were divided; at
	// least 1.
	Reduction int
	// FullSize converts a point of Image to the whole image. Both have (0, 0) at the
	// upper left corner of the upper left pixel. It is not called if Reduction is 1.
	FullSize func(x, y float64) (float64, float64)
	// Turn returns Image, turned clockwise by quarters, 1 to 3. It is used for
	// Options.AnyOrientation only.
	Turn func(quarters int) image.Image
}

// Detect finds the faces of src with d. It decodes only as much of src as d needs, and
// returns the faces in pixels of the whole image, without those that Distinct drops.
// opts are also in pixels of the whole image. Errors are those of src and of d.
func Detect(ctx context.Context, d Detector, src Source, opts Options) ([]Face, error) {
	size := src.Size()
	decoded, err := src.Decode(ctx, d.Input(size.X, size.Y, opts))
	if err != nil {
		return nil, err
	}
	opts.MinFaceSize /= float64(decoded.Reduction)
	var faces []Face
	if opts.AnyOrientation {
		faces, err = detectTurned(ctx, d, decoded, opts)
	} else {
		faces, err = d.Detect(ctx, decoded.Image, opts)
	}
	if err != nil {
		return nil, err
	}
	if decoded.Reduction > 1 {
		for i := range faces {
			faces[i].Move(decoded.FullSize, size.X, size.Y)
		}
	}
	return Distinct(faces, d.Info().MaxIoU), nil
}

// maxTurnedIoU is the IoU up to which two boxes that were found in different turns may
// overlap and still be two faces. Detectors also see a face that is turned by an eighth,
// in two turns, with boxes that differ more than those of one turn.
const maxTurnedIoU = 0.3

// detectTurned detects in the image and in its three quarter turns. Of faces in the same
// place it keeps the most confident, and straightens it.
func detectTurned(ctx context.Context, d Detector, decoded Decoded, opts Options) ([]Face, error) {
	size := decoded.Image.Bounds().Size()
	limit := opts.MaxResults
	opts.MaxResults, opts.AnyOrientation = 0, false
	var all []Face
	for quarters := range 4 {
		img := decoded.Image
		if quarters > 0 {
			img = decoded.Turn(quarters)
		}
		faces, err := d.Detect(ctx, img, opts)
		if err != nil {
			return nil, err
		}
		for i := range faces {
			faces[i].Move(func(x, y float64) (float64, float64) { return unturn(quarters, size, x, y) }, size.X, size.Y)
		}
		all = append(all, faces...)
	}
	all, err := Suppress(ctx, all, Compare, func(kept, f *Face) bool { return IoUAbove(kept.Box, f.Box, maxTurnedIoU) })
	if err != nil {
		return nil, err
	}
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	if !opts.SkipLandmarks && d.Info().Landmarks {
		err = straighten(ctx, d, decoded.Image, all, opts)
	}
	return all, err
}

// unturn returns where the point (x, y) of an image that was turned clockwise by quarters
// is in the image of that size before it was turned.
func unturn(quarters int, size image.Point, x, y float64) (float64, float64) {
	w, h := float64(size.X), float64(size.Y)
	switch quarters {
	case 1:
		return y, h - x
	case 2:
		return w - x, h - y
	case 3:
		return w - y, x
	}
	return x, y
}

// Whole returns the source of an image that has been decoded. turn turns it clockwise by
// quarters, for Options.AnyOrientation.
func Whole(img image.Image, turn func(img image.Image, quarters int) image.Image) Source {
	return whole{img, turn}
}

type whole struct {
	img  image.Image
	turn func(img image.Image, quarters int) image.Image
}

func (w whole) Size() image.Point { return w.img.Bounds().Size() }

func (w whole) Decode(context.Context, Input) (Decoded, error) {
	turn := func(quarters int) image.Image { return w.turn(w.img, quarters) }
	return Decoded{Image: w.img, Reduction: 1, Turn: turn}, nil
}
