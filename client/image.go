package client

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// maxRawBytes is what servers take unless they are configured otherwise.
const maxRawBytes = 16 << 20

// PredictImage finds the faces of an image in memory, which is taken as upright.
// Coordinates in the answer are relative to img.Bounds().Min. opts may be nil.
//
// Its pixels travel as they are: *image.Gray, *image.NRGBA and *image.YCbCr with
// 4:2:0 subsampling without conversion, all else as 24-bit RGB; transparency is
// shown on black, as the server does. An image of more than 16 MiB so (5
// megapixels in colour, 11 in 4:2:0) would be refused, and travels as a JPEG of
// quality 95 instead. A caller who has the file it came from does better to send
// that, with PredictFile or PredictBytes.
//
// The error is an *Error. img must not change before PredictImage returns.
func (c *Client) PredictImage(ctx context.Context, img image.Image, opts *inferencev1.DetectOptions) (*inferencev1.InferResults, error) {
	req, err := pixels(img)
	if err != nil {
		return nil, err
	}
	req.Options = opts
	return c.Predict(ctx, req)
}

// pixels returns a request with the pixels of img.
func pixels(img image.Image) (*inferencev1.Image, error) {
	b := img.Bounds()
	if b.Empty() {
		return nil, newLocalError(connect.CodeInvalidArgument, fmt.Errorf("an image of %d×%d pixels has none to look at", b.Dx(), b.Dy()))
	}
	w, h := b.Dx(), b.Dy()
	bare := func(format inferencev1.PixelFormat, data []byte) (*inferencev1.Image, error) {
		return &inferencev1.Image{RawData: data, Width: int32(w), Height: int32(h), PixelFormat: format}, nil
	}
	small := func(bytesPerPixel int) bool { return h <= maxRawBytes/bytesPerPixel/w }
	switch m := img.(type) {
	case *image.Gray:
		if small(1) {
			return bare(inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8, rows(m.Pix, m.PixOffset(b.Min.X, b.Min.Y), m.Stride, w, h))
		}
	case *image.NRGBA:
		if small(4) {
			return bare(inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32, rows(m.Pix, m.PixOffset(b.Min.X, b.Min.Y), m.Stride, 4*w, h))
		}
	case *image.YCbCr:
		// A part that begins within a chroma sample has other samples than the
		// format, and goes as RGB; so does one of negative coordinates, which
		// YCbCr rounds the other way.
		cw, ch := (w+1)/2, (h+1)/2
		if aligned := b.Min.X >= 0 && b.Min.Y >= 0 && b.Min.X%2 == 0 && b.Min.Y%2 == 0; aligned && m.SubsampleRatio == image.YCbCrSubsampleRatio420 && w*h+2*cw*ch <= maxRawBytes {
			luma, chroma := m.YOffset(b.Min.X, b.Min.Y), m.COffset(b.Min.X, b.Min.Y)
			data := append([]byte(nil), rows(m.Y, luma, m.YStride, w, h)...)
			data = append(data, rows(m.Cb, chroma, m.CStride, cw, ch)...)
			return bare(inferencev1.PixelFormat_PIXEL_FORMAT_I420, append(data, rows(m.Cr, chroma, m.CStride, cw, ch)...))
		}
	}
	if !small(3) {
		var out bytes.Buffer
		if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 95}); err != nil {
			return nil, newLocalError(connect.CodeInvalidArgument, err) // too wide or high for the format
		}
		return &inferencev1.Image{RawData: out.Bytes()}, nil
	}
	m, ok := img.(*image.RGBA)
	if !ok {
		m = image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(m, m.Rect, img, b.Min, draw.Src)
		b = m.Rect
	}
	// Its colours are multiplied by alpha, which is how they look on black.
	data := make([]byte, 0, 3*w*h)
	for y := range h {
		row := m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):][:4*w]
		for x := 0; x < len(row); x += 4 {
			data = append(data, row[x:x+3]...)
		}
	}
	return bare(inferencev1.PixelFormat_PIXEL_FORMAT_RGB24, data)
}

// rows returns h rows of w bytes without what lies between them; pix itself when
// nothing does.
func rows(pix []byte, offset, stride, w, h int) []byte {
	if stride == w {
		return pix[offset : offset+w*h]
	}
	out := make([]byte, 0, w*h)
	for y := range h {
		out = append(out, pix[offset+y*stride:][:w]...)
	}
	return out
}
