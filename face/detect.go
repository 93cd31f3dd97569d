package face

import (
	"context"
	"image"
)

// A Source is an upright image that has not been decoded yet.
type Source interface {
	// Size returns the width and height of the whole image, in pixels.
	Size() image.Point
	// Decode decodes the image. The result may have less in it than the image, as far
	// as in allows, and it may have all of it.
	Decode(ctx context.Context, in Input) (Decoded, error)
}

// Decoded is what a Source has decoded.
type Decoded struct {
	Image image.Image
	// Reduction is what the sides of the whole image were divided by, 1 or more.
	Reduction int
	// FullSize returns where a point of Image is in the whole image. Both have (0, 0) at
	// the upper left corner of the upper left pixel. It is not used for a Reduction of 1.
	FullSize func(x, y float64) (float64, float64)
}

// Detect finds the faces of src with d. It has src decoded with no more in it than d
// makes use of, and returns the faces in pixels of the whole image, as answers have
// them: see Distinct. The options are for the whole image, too.
//
// Errors are those of src and of d.
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

// Whole returns the source of an image that has been decoded.
func Whole(img image.Image) Source { return whole{img} }

type whole struct{ img image.Image }

func (w whole) Size() image.Point { return w.img.Bounds().Size() }

func (w whole) Decode(context.Context, Input) (Decoded, error) {
	return Decoded{Image: w.img, Reduction: 1}, nil
}
