package annotate

import (
	"image"
	"image/jpeg"
	"image/png"
	"io"
)

// Format is a file format for an annotated image.
type Format string

// The formats that Encode writes.
const (
	JPEG Format = "jpeg"
	PNG  Format = "png"
)

// jpegQuality keeps thin lines sharp. A higher quality makes larger files that look
// nearly the same.
const jpegQuality = 90

// Encode writes img to w: as a JPEG of quality 90, or as a PNG with fast
// compression. The error is that of w, or says that img is too large for the
// format.
func Encode(w io.Writer, img image.Image, format Format) error {
	if format == PNG {
		return (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(w, img)
	}
	return jpeg.Encode(w, img, &jpeg.Options{Quality: jpegQuality})
}
