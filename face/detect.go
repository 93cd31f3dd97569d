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
	faces, err := d.Detect(ctx, decoded.Image, opts)
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

// Whole returns the source of an image that is already decoded.
func Whole(img image.Image) Source { return whole{img} }

type whole struct{ img image.Image }

func (w whole) Size() image.Point { return w.img.Bounds().Size() }

func (w whole) Decode(context.Context, Input) (Decoded, error) {
	return Decoded{Image: w.img, Reduction: 1}, nil
}
