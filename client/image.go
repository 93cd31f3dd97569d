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

// maxRawBytes is the largest image that a server accepts by default.
const maxRawBytes = 16 << 20

// PredictImage finds the faces in an image in memory, which must be upright.
// Coordinates in the result are relative to img.Bounds().Min. opts may be nil. If
// you have the file that the image came from, prefer PredictFile or PredictBytes.
//
// *image.Gray, *image.NRGBA and *image.YCbCr with 4:2:0 subsampling are sent as they
// are, other types as 24-bit RGB with transparency on black, as the server shows
// it. An image that has more than 16 MiB in this form (5 megapixels in RGB, 11 in
// 4:2:0), which a server rejects by default, is sent as a JPEG of quality 95.
//
// The error is an *Error. img must not change before PredictImage returns.
func (c *Client) PredictImage(ctx context.Context, img image.Image, opts *inferencev1.DetectOptions) (*inferencev1.InferResults, error) {
	req, err := newRequest(img)
	if err != nil {
		return nil, err
	}
	req.Options = opts
	return c.Predict(ctx, req)
}

// newRequest returns a request with the pixels of img.
func newRequest(img image.Image) (*inferencev1.Image, error) {
	b := img.Bounds()
	if b.Empty() {
		return nil, newLocalError(connect.CodeInvalidArgument, fmt.Errorf("an image of %d×%d pixels is empty", b.Dx(), b.Dy()))
	}
	w, h := b.Dx(), b.Dy()
	fits := func(bytesPerPixel int) bool { return h <= maxRawBytes/bytesPerPixel/w }
	raw := func(format inferencev1.PixelFormat, data []byte) *inferencev1.Image {
		return &inferencev1.Image{RawData: data, Width: int32(w), Height: int32(h), PixelFormat: format}
	}
	switch m := img.(type) {
	case *image.Gray:
		if fits(1) {
			return raw(inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8, packRows(m.Pix, m.PixOffset(b.Min.X, b.Min.Y), m.Stride, w, h)), nil
		}
	case *image.NRGBA:
		if fits(4) {
			return raw(inferencev1.PixelFormat_PIXEL_FORMAT_RGBA32, packRows(m.Pix, m.PixOffset(b.Min.X, b.Min.Y), m.Stride, 4*w, h)), nil
		}
	case *image.YCbCr:
		if data := i420(m); data != nil {
			return raw(inferencev1.PixelFormat_PIXEL_FORMAT_I420, data), nil
		}
	}
	if fits(3) {
		return raw(inferencev1.PixelFormat_PIXEL_FORMAT_RGB24, rgb24(img)), nil
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: 95}); err != nil {
		return nil, newLocalError(connect.CodeInvalidArgument, err) // too wide or too high for a JPEG
	}
	return &inferencev1.Image{RawData: out.Bytes()}, nil
}

// i420 returns the samples of m as planes without gaps, or nil if the format
// cannot hold them or they are too large. A sub-image that begins within a
// chroma sample would need other chroma samples. So would one with negative
// coordinates, which image.YCbCr rounds toward zero.
func i420(m *image.YCbCr) []byte {
	b := m.Bounds()
	w, h := b.Dx(), b.Dy()
	chromaWidth, chromaHeight := (w+1)/2, (h+1)/2
	aligned := b.Min.X >= 0 && b.Min.Y >= 0 && b.Min.X%2 == 0 && b.Min.Y%2 == 0
	if !aligned || m.SubsampleRatio != image.YCbCrSubsampleRatio420 || w*h+2*chromaWidth*chromaHeight > maxRawBytes {
		return nil
	}
	luma, chroma := m.YOffset(b.Min.X, b.Min.Y), m.COffset(b.Min.X, b.Min.Y)
	data := append([]byte(nil), packRows(m.Y, luma, m.YStride, w, h)...)
	data = append(data, packRows(m.Cb, chroma, m.CStride, chromaWidth, chromaHeight)...)
	return append(data, packRows(m.Cr, chroma, m.CStride, chromaWidth, chromaHeight)...)
}

// rgb24 returns three bytes a pixel. They are multiplied by alpha, which is how
// transparent colors look on black.
func rgb24(img image.Image) []byte {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	m, ok := img.(*image.RGBA)
	if !ok {
		m = image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(m, m.Rect, img, b.Min, draw.Src)
		b = m.Rect
	}
	data := make([]byte, 0, 3*w*h)
	for y := range h {
		row := m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):][:4*w]
		for x := 0; x < len(row); x += 4 {
			data = append(data, row[x:x+3]...)
		}
	}
	return data
}

// packRows returns h rows of w bytes without the bytes between them. If there are none,
// it returns a part of pix itself.
func packRows(pix []byte, offset, stride, w, h int) []byte {
	if stride == w {
		return pix[offset : offset+w*h]
	}
	out := make([]byte, 0, w*h)
	for y := range h {
		out = append(out, pix[offset+y*stride:][:w]...)
	}
	return out
}
