// Package photo decodes untrusted image files into upright images, within limits.
//
// [Open] reads the header. It returns the size of the image and the memory that
// decoding will need, in a few microseconds and without decoding a pixel, so that a
// server can reject the image or wait for memory. [Photo.Decode] returns the image as
// a viewer shows it: with the EXIF orientation applied, and the origin at the top
// left. [Photo.Reduced] decodes less: without color, or at a half to an eighth of the
// size, which takes less time and memory.
//
// The package reads JPEG, PNG, GIF, WebP, BMP and TIFF. It recognizes them by
// content, never by name. Of an animation or a TIFF with several pages it reads the
// first image. An image keeps the color model and chroma subsampling of its file if
// package image supports them. A JPEG with other sampling factors becomes 4:4:4, and
// Y'CbCr of a TIFF becomes RGB. Y'CbCr is always full range; lossy WebP, which is
// limited range, is converted. As in [image.Image], colors are premultiplied by
// alpha, so transparent pixels read as black.
package photo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"strings"
)

// Every error of this package wraps one of these, except for the context's own.
var (
	// ErrEmpty means that the data has no bytes.
	ErrEmpty = errors.New("empty image")
	// ErrUnsupportedFormat means that the package does not read the format of the
	// content, or a feature of that format.
	ErrUnsupportedFormat = errors.New("unsupported image format")
	// ErrCorrupt means that the content starts as a supported format, but cannot be
	// decoded.
	ErrCorrupt = errors.New("corrupt image")
	// ErrTooManyPixels means that the image exceeds a limit, by its header.
	ErrTooManyPixels = errors.New("too many pixels")
	// ErrPixels means that raw pixels have no size, or not as many bytes as their size
	// needs.
	ErrPixels = errors.New("invalid pixels")
)

// Limits are the limits for an image.
type Limits struct {
	// MaxPixels is the maximum of width × height. 0 and values above 2³¹−1 mean
	// 2³¹−1.
	MaxPixels int64
	// MaxBytes is the maximum of MemoryBytes. 0 means no limit.
	MaxBytes int64
}

// Photo is an image whose header has been read. Do not modify its fields.
//
// A Photo refers to the data it was opened from, which must not change while
// the Photo, or an image that came out of it, is in use. One goroutine may use
// a Photo at a time; different Photos may share data.
type Photo struct {
	// Format is "jpeg", "png", "gif", "webp", "bmp", "tiff", or the name of a
	// PixelFormat.
	Format string
	// Width and Height are pixels of the upright image.
	Width, Height int
	// Orientation is the EXIF orientation, 1 to 8, that Decode applies. It is 1 if
	// the file has none, or one that cannot be read.
	Orientation int
	// Reduction is the factor by which the sides were divided: 1, 2, 4 or 8. Sides
	// are rounded up. It is 1 unless Reduced returned this Photo.
	Reduction int
	// Inset is the distance in pixels of full size from the upper left corner of the
	// reduced image to that of the image at full size, from 0 to Reduction-1. If a side
	// is not a multiple of Reduction, the pixels at one edge cover an area that is
	// partly outside of the image. In the file this is the right or the lower edge, so
	// that Inset is 0; the orientation may make it the left or the upper one.
	Inset image.Point
	// MemoryBytes is an upper bound of the memory that Decode holds at any time,
	// including its result but not the encoded data. It counts large buffers until they
	// can be collected, because the garbage collector may run late. It does not count
	// small ones, such as the tables of a decompressor for each strip of a TIFF.
	MemoryBytes int64

	title  string // the format as messages spell it
	header header
}

// header has what the header of a file says, in the orientation in which the image is
// stored.
type header struct {
	width, height int
	// capacity is the maximum number of pixels that the data can hold at the best
	// possible compression.
	capacity int64
	// truncated is the error for data that ends before the image does, if the header
	// shows this.
	truncated error
	// memory is an upper bound of what decode holds. orientMemory is what applying the
	// orientation adds.
	memory, orientMemory int64
	// reduction is the factor by which the sides were divided; 0 means 1. overhang is
	// how much of the last column and row is outside of the image, in pixels of full
	// size.
	reduction int
	overhang  image.Point
	// reduce returns the header for decoding less of the same image. It is nil if the
	// format does not support this.
	reduce func(Options) header
	// exif is a TIFF structure whose first directory contains the orientation.
	exif []byte
	// decode returns an image of width × height whose bounds begin at the origin.
	decode func(context.Context) (image.Image, error)
}

// Images of more than freePixels may have maxPixelsPerByte pixels for each byte of the file,
// so that the work for a file is in proportion to its length. Some codes can describe any
// number of pixels of one color in some bytes: those of lossless WebP and of fax in TIFF. A
// blank page of paper, scanned at 600 dpi, has 40,000 pixels per byte as a fax.
const (
	freePixels       = 1 << 20
	maxPixelsPerByte = 1 << 16
)

// overhead is the memory for tables and windows of a decoder, which do not grow with
// the image.
const overhead = 256 << 10

// Open reads the header of an encoded image. Its time depends on the length of data,
// and not on the size that the header claims.
//
// The error wraps ErrEmpty, ErrUnsupportedFormat, ErrCorrupt or ErrTooManyPixels.
func Open(data []byte, l Limits) (*Photo, error) {
	if len(data) == 0 {
		return nil, ErrEmpty
	}
	f, err := sniff(data)
	if err != nil {
		return nil, err
	}
	h, err := f.open(data)
	if err != nil {
		return nil, classify(f.title, err)
	}
	if err := l.checkPixels(h.width, h.height); err != nil {
		return nil, err
	}
	if h.width <= 0 || h.height <= 0 {
		return nil, fmt.Errorf("%w: %s: %d×%d pixels", ErrCorrupt, f.title, h.width, h.height)
	}
	if h.truncated != nil {
		return nil, classify(f.title, h.truncated)
	}
	// Reject sizes that the data cannot hold, before allocating.
	if int64(h.width)*int64(h.height) > h.capacity {
		return nil, classify(f.title, tooSmallFor(h.width, h.height, len(data)))
	}
	if pixels := int64(h.width) * int64(h.height); pixels > max(freePixels, int64(len(data))*maxPixelsPerByte) {
		return nil, fmt.Errorf("%w: this %s has %d×%d pixels in %d bytes; the limit for images of more than %d pixels is %d pixels per byte",
			ErrTooManyPixels, f.title, h.width, h.height, len(data), freePixels, maxPixelsPerByte)
	}
	p := &Photo{Format: f.name, title: f.title, Orientation: orientation(h.exif)}
	p.setHeader(h)
	if err := l.checkMemory(p); err != nil {
		return nil, err
	}
	return p, nil
}

// setHeader sets the fields that depend on the header.
func (p *Photo) setHeader(h header) {
	p.header = h
	t := transform{p.Orientation}
	size := t.size(image.Pt(h.width, h.height))
	p.Width, p.Height = size.X, size.Y
	p.Reduction, p.Inset = max(1, h.reduction), t.inset(h.overhang)
	p.MemoryBytes = h.memory + overhead
	if p.Orientation != 1 {
		p.MemoryBytes += h.orientMemory
	}
}

// Options says how much of an image is needed. The zero value means all of it.
type Options struct {
	// Gray means that only luminance is needed.
	Gray bool
	// Reduce is the largest factor by which the sides may be divided. The largest of
	// 1, 2, 4 and 8 that does not exceed it is used; 0 means 1.
	Reduce int
}

// Reduced returns a Photo whose Decode leaves out what o does not need, which takes
// less time and memory. Width, Height, Reduction, Inset and MemoryBytes of the result
// describe the image that its Decode returns. p is not modified.
//
// Reduced works for JPEGs that are gray or Y'CbCr. With Gray they become an
// [*image.Gray], whose pixels are the Y of the color image. A pixel of a reduced image
// is the mean of Reduction × Reduction pixels: pixel (x, y) covers, in pixels of full
// size, the area from (x, y)·Reduction − Inset to (x+1, y+1)·Reduction − Inset. If part
// of that area is outside of the image, it counts as the file stores it, which encoders
// fill with copies of the edge. All other images are returned unchanged, in color and
// with a Reduction of 1.
//
// Calls do not add up: the result of Reduced always starts from the image at full size.
func (p *Photo) Reduced(o Options) *Photo {
	reduced := *p
	if reduce := p.header.reduce; reduce != nil {
		h := reduce(o)
		h.reduce = reduce
		reduced.setHeader(h)
	}
	return &reduced
}

// FullSize converts a point of the image that Decode returns to the image at full size.
// Points are in pixels, and (0, 0) is the upper left corner of the upper left pixel. A
// point at an edge may end up to Reduction−1 pixels outside of the image.
func (p *Photo) FullSize(x, y float64) (float64, float64) {
	r := float64(p.Reduction)
	return float64(x*r) - float64(p.Inset.X), float64(y*r) - float64(p.Inset.Y)
}

func tooSmallFor(width, height, bytes int) error {
	return fmt.Errorf("the header says %d×%d pixels, which %d bytes cannot hold", width, height, bytes)
}

func (l Limits) checkPixels(width, height int) error {
	limit := l.MaxPixels
	if limit <= 0 || limit > math.MaxInt32 {
		limit = math.MaxInt32
	}
	// Divide rather than multiply, because the product for a TIFF can overflow 64 bits.
	if width > 0 && height > 0 && int64(width) > limit/int64(height) {
		return fmt.Errorf("%w: %d×%d = %.0f pixels, the limit is %d",
			ErrTooManyPixels, width, height, float64(width)*float64(height), limit)
	}
	return nil
}

func (l Limits) checkMemory(p *Photo) error {
	if l.MaxBytes > 0 && p.MemoryBytes > l.MaxBytes {
		return fmt.Errorf("%w: decoding this %s of %d×%d pixels takes up to %d bytes of memory, the limit is %d",
			ErrTooManyPixels, p.title, p.Width, p.Height, p.MemoryBytes, l.MaxBytes)
	}
	return nil
}

// Decode returns the upright image, whose bounds are Width × Height at the origin. Its
// type is one of the standard library's, and it may share memory with the data that the
// Photo was opened from.
//
// When ctx ends, Decode returns ctx.Err() as soon as its decoder asks for more data;
// the decoders of JPEG and WebP check ctx every few rows.
//
// If chroma is subsampled and a side is odd, applying the orientation moves colors by
// at most the width of one chroma sample. It does not move luma.
//
// Other errors wrap ErrCorrupt or ErrUnsupportedFormat.
func (p *Photo) Decode(ctx context.Context) (image.Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	img, err := p.header.decode(ctx)
	// Decoders replace or wrap the error of their reader.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, classify(p.title, err)
	}
	if want := image.Rect(0, 0, p.header.width, p.header.height); img.Bounds() != want {
		return nil, fmt.Errorf("%w: %s: the header says %v pixels, but the image has %v",
			ErrCorrupt, p.title, want.Size(), img.Bounds().Size())
	}
	return upright(img, p.Orientation), nil
}

// classify converts the error of a decoder to one of this package, in words for a
// reader who knows the image and not the decoder.
func classify(title string, err error) error {
	if errors.Is(err, ErrUnsupportedFormat) {
		return err
	}
	reason := err.Error()
	for _, prefix := range []string{
		"invalid JPEG format: ", "unsupported JPEG feature: ", "webp: ", "png: ", "invalid format: ",
		"unsupported feature: ", "lzw: ", "tiff/lzw: ", "flate: ", "zlib: ", "ccitt: ",
	} {
		reason = strings.TrimPrefix(reason, prefix)
	}
	var (
		jpegFeature jpeg.UnsupportedError
		pngFeature  png.UnsupportedError
	)
	switch {
	case errors.As(err, &truncatedError{}):
		return fmt.Errorf("%w: %s: %s", ErrCorrupt, title, reason)
	case errors.As(err, &jpegFeature), errors.As(err, &pngFeature):
		return fmt.Errorf("%w: this %s has an unsupported feature: %s", ErrUnsupportedFormat, title, reason)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %s: the file ends early", ErrCorrupt, title)
	}
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, title, reason)
}

// truncatedError reports how much of the image is in a file that ends early. It wraps
// io.ErrUnexpectedEOF.
type truncatedError struct {
	contents string // a clause: "it contains 90 % of the image"
}

// truncated returns the error for a file that contains done of the total parts of its
// image: rows, blocks, or what else the format counts.
func truncated(done, total int64) error {
	return truncatedError{"it contains " + percent(done, total) + " of the image"}
}

// percent formats done/total as a percentage, which is at most 99 %.
func percent(done, total int64) string {
	p := min(100*done/max(total, 1), 99)
	if p == 0 {
		return "less than 1 %"
	}
	return fmt.Sprintf("%d %%", p)
}

func (e truncatedError) Error() string { return "the file ends early: " + e.contents }

func (e truncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// catchPanics calls a decoder and turns a panic into an error. Decoders are
// third-party code that reads untrusted data: a panic must not stop the server.
func catchPanics[T any](decode func() (T, error)) (result T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the decoder panicked: %v", r)
		}
	}()
	return decode()
}

// decodeConfig reads a header with the decoder's own DecodeConfig, so that what the
// decoder would reject is rejected before decoding.
func decodeConfig(data []byte, decode func(io.Reader) (image.Config, error)) (image.Config, error) {
	return catchPanics(func() (image.Config, error) { return decode(bytes.NewReader(data)) })
}

// contextReader reads until ctx ends. It deliberately has neither ReadByte nor WriteTo,
// because decoders would use them to bypass the check.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// readSize is small because little data can cause much work: a progressive JPEG can
// have a whole scan in 70 bytes.
const readSize = 256

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p[:min(len(p), readSize)])
}
