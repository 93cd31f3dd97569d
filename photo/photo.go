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
	// Inset is how far the picture at full size begins inside of the reduced
	// one, in pixels of full size, from 0 to Reduction-1. Where a side is no
	// multiple of Reduction, the pixels of one edge cover an area that is partly
	// outside of the picture. In the file that is the right and the lower edge,
	// where it does no harm; turned upright it may be the left or the upper one.
	Inset image.Point
	// MemoryBytes is an upper bound of the memory that Decode holds at any
	// moment, its result included and the encoded data not. Large buffers
	// that are garbage by then are counted, for the collector may come late;
	// small ones, such as the tables of a decompressor for each strip of a
	// TIFF, are not.
	MemoryBytes int64

	title  string // the format's usual spelling
	header header
}

// header is what a format's header says, in the file's own orientation.
type header struct {
	width, height int
	// capacity is the most pixels that the data can hold, however well they
	// compress.
	capacity int64
	// truncated is the error for data that end before the picture does, where the
	// header tells.
	truncated error
	// memory bounds what decode holds; turnMemory, what the orientation adds.
	memory, turnMemory int64
	// reduction is what the sides were divided by, 0 standing for 1, and overhang
	// how much of the last column and row is outside of the picture.
	reduction int
	overhang  image.Point
	// reduce returns the header of the same picture with less in it. It is nil
	// where the format has no way to decode less.
	reduce func(Options) header
	// exif is a TIFF structure whose first directory has the orientation.
	exif []byte
	// decode returns an image of width × height at the origin.
	decode func(context.Context) (image.Image, error)
}

// overhead covers a decoder's tables and windows, none of which grows with the
// picture.
const overhead = 256 << 10

// Open reads the header of an encoded picture. Its cost grows with the length
// of data, never with what the header claims.
//
// The error wraps ErrEmpty, ErrUnsupportedFormat, ErrCorrupt or
// ErrTooManyPixels.
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
		p.MemoryBytes += h.turnMemory
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
// This works for JPEGs that are gray or Y'CbCr. With Gray they become an
// [*image.Gray], whose pixels are the Y of the color image. A pixel of a reduced image
// is the mean of Reduction × Reduction pixels, so that pixel (x, y) covers, in
// pixels of full size, the area from (x, y)·Reduction − Inset to
// (x+1, y+1)·Reduction − Inset; what of it is outside of the picture is what the
// file has there, which encoders fill with the likes of the edge. All other
// pictures are returned as they are, in color and with a Reduction of 1.
//
// Reduced calls do not add up: they all begin with the picture at full size.
func (p *Photo) Reduced(o Options) *Photo {
	reduced := *p
	if reduce := p.header.reduce; reduce != nil {
		h := reduce(o)
		h.reduce = reduce
		reduced.setHeader(h)
	}
	return &reduced
}

// FullSize returns where a point of the image that Decode gives is in the
// picture at full size. Points are in pixels, (0, 0) being the upper left corner
// of the upper left pixel. A point at an edge may come to lie up to Reduction−1
// pixels outside of the picture.
func (p *Photo) FullSize(x, y float64) (float64, float64) {
	r := float64(p.Reduction)
	return x*r - float64(p.Inset.X), y*r - float64(p.Inset.Y)
}

func tooSmallFor(width, height, bytes int) error {
	return fmt.Errorf("the header says %d×%d pixels, which %d bytes cannot hold", width, height, bytes)
}

func (l Limits) checkPixels(width, height int) error {
	limit := l.MaxPixels
	if limit <= 0 || limit > math.MaxInt32 {
		limit = math.MaxInt32
	}
	// Divided rather than multiplied: a TIFF's product overflows 64 bits.
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

// Decode returns the upright image, whose bounds are Width × Height at the
// origin. Its type is one of the standard library's, and it may share memory
// with the data that the Photo was opened from.
//
// When ctx ends, Decode returns ctx.Err() as soon as its decoder asks for more
// data; that of JPEGs looks after each row of blocks. WebP's decoder asks
// for all of it first; that work, about a second for 64 megapixels, is then still
// done.
//
// Where chroma is subsampled and a side is odd, turning the picture moves its
// colors, not its brightness, by at most the width of one chroma sample.
//
// Other errors wrap ErrCorrupt or ErrUnsupportedFormat.
func (p *Photo) Decode(ctx context.Context) (image.Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	img, err := p.header.decode(ctx)
	// The decoders hide the reader's error behind their own, or in it.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, classify(p.title, err)
	}
	if want := image.Rect(0, 0, p.header.width, p.header.height); img.Bounds() != want {
		return nil, fmt.Errorf("%w: %s: the header says %v pixels, the picture has %v",
			ErrCorrupt, p.title, want.Size(), img.Bounds().Size())
	}
	return upright(img, p.Orientation), nil
}

// classify converts a decoder's error to one of this package's, for a reader who
// knows the image and not the decoder.
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
		return fmt.Errorf("%w: a %s feature that is not read: %s", ErrUnsupportedFormat, title, reason)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %s: the file ends early", ErrCorrupt, title)
	}
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, title, reason)
}

// truncatedError reports how much of the picture is in a file that ends before
// the picture does. It wraps io.ErrUnexpectedEOF.
type truncatedError struct {
	there string // a clause: "90 % of the picture is there"
}

// truncated returns the error for a file that has done of the total parts of its
// picture: rows, blocks, or whatever the format counts in.
func truncated(done, total int64) error {
	return truncatedError{percent(done, total) + " of the picture is there"}
}

// percent says what share done is of total. It is never all of it.
func percent(done, total int64) string {
	p := min(100*done/max(total, 1), 99)
	if p == 0 {
		return "less than 1 %"
	}
	return fmt.Sprintf("%d %%", p)
}

func (e truncatedError) Error() string { return "the file ends early: " + e.there }

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

// decodeConfig reads a header with a decoder's own DecodeConfig, so that what the
// decoder would refuse is refused before it is asked.
func decodeConfig(data []byte, decode func(io.Reader) (image.Config, error)) (image.Config, error) {
	return catchPanics(func() (image.Config, error) { return decode(bytes.NewReader(data)) })
}

// contextReader reads until ctx ends.
//
// It deliberately has neither ReadByte nor WriteTo, with which decoders would bypass
// the check.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// readSize is small because little data can be much work: a progressive JPEG
// has whole scans in 70 bytes.
const readSize = 256

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p[:min(len(p), readSize)])
}
