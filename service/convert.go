package service

import (
	"fmt"
	"math"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
)

// The allowed values of options, for error messages.
const (
	allowedConfidence = "a number from 0 to 1"
	allowedResults    = "a whole number from 0 to 2147483647; 0 means all"
	allowedFaceSize   = "a whole number of pixels from 0 to 2147483647; 0 lets the model choose"
)

// optionName returns the name of an option as clients of the procedure write it: a
// parameter of the query or a field of a form at /predict, and a field of a message
// elsewhere.
func (p *procedure) optionName(name string) string { return p.options + name }

// modelName returns the name of the field in which clients of the procedure name the model.
func (p *procedure) modelName() string {
	if p.model != "" {
		return p.model
	}
	return p.optionName("model")
}

// detectOptions validates the client's options, and fills in the model's defaults.
func detectOptions(p *procedure, o *inferencev1.DetectOptions, model face.Info) (face.Options, error) {
	opts := face.Options{
		MinConfidence:  model.MinConfidence,
		MaxResults:     int(o.GetMaxResults()),
		MinFaceSize:    float64(o.GetMinFaceSize()),
		SkipLandmarks:  o.GetSkipLandmarks(),
		AnyOrientation: o.GetAnyOrientation(),
	}
	if o != nil && o.MinConfidence != nil {
		c := float64(o.GetMinConfidence())
		// This form of the condition also rejects NaN.
		if !(c >= 0 && c <= 1) {
			return opts, fmt.Errorf("%w: %s is %v; allowed is %s", errOptions, p.optionName("min_confidence"), c, allowedConfidence)
		}
		opts.MinConfidence = c
	}
	if opts.MaxResults < 0 {
		return opts, fmt.Errorf("%w: %s is %d; allowed is %s", errOptions, p.optionName("max_results"), opts.MaxResults, allowedResults)
	}
	if opts.MinFaceSize < 0 {
		return opts, fmt.Errorf("%w: %s is %v; allowed is %s", errOptions, p.optionName("min_face_size"), opts.MinFaceSize, allowedFaceSize)
	}
	return opts, nil
}

func pixelFormat(f inferencev1.PixelFormat) (photo.PixelFormat, error) {
	switch f {
	case inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8:
		return photo.Gray8, nil
	case inferencev1.PixelFormat_PIXEL_FORMAT_RGB24:
		return photo.RGB24, nil
	case inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32:
		return photo.RGBA32, nil
	case inferencev1.PixelFormat_PIXEL_FORMAT_I420:
		return photo.I420, nil
	case inferencev1.PixelFormat_PIXEL_FORMAT_NV12:
		return photo.NV12, nil
	case inferencev1.PixelFormat_PIXEL_FORMAT_ENCODED: // the caller has handled it
	}
	return 0, fmt.Errorf("%w: pixel_format is %d; allowed are 0 (an encoded file), 1 (GRAY8), 2 (RGB24), 3 (RGBA32), 4 (I420) and 5 (NV12)", photo.ErrPixels, f)
}

// results converts faces to whole pixels of a width × height image. It rounds each
// coordinate to the nearest whole number, as package face defines, and clamps it to the
// image. No other code rounds coordinates.
func results(faces []face.Face, width, height int) []*inferencev1.Result {
	out := make([]*inferencev1.Result, 0, len(faces))
	for _, f := range faces {
		r := &inferencev1.Result{
			Box: &inferencev1.Box{
				UpLeft:     point(face.Point{X: f.Box.MinX, Y: f.Box.MinY}, width, height),
				LowerRight: point(face.Point{X: f.Box.MaxX, Y: f.Box.MaxY}, width, height),
			},
			Confidence: f.Confidence,
		}
		if l := f.Landmarks; l != nil {
			// A landmark is within a pixel, so the last pixel is the limit, and not the edge after it.
			at := func(p face.Point) *inferencev1.Point { return point(p, width-1, height-1) }
			r.Landmarks = &inferencev1.Landmarks{
				LeftEye:    at(l.LeftEye),
				RightEye:   at(l.RightEye),
				Nose:       at(l.Nose),
				MouthLeft:  at(l.MouthLeft),
				MouthRight: at(l.MouthRight),
			}
		}
		out = append(out, r)
	}
	return out
}

// point rounds p, and clamps it to the range from 0 to maxX and maxY.
func point(p face.Point, maxX, maxY int) *inferencev1.Point {
	return &inferencev1.Point{
		X: int32(min(max(math.Round(p.X), 0), float64(maxX))),
		Y: int32(min(max(math.Round(p.Y), 0), float64(maxY))),
	}
}
