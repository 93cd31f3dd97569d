package photo

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"

	"golang.org/x/image/bmp"
)

const formatNames = "JPEG, PNG, GIF, WebP, BMP or TIFF"

type format struct {
	name, title string
	magic       []string // '?' stands for any byte
	open        func(data []byte) (header, error)
}

var formats = []format{
	{"jpeg", "JPEG", []string{"\xff\xd8"}, openJPEG},
	{"png", "PNG", []string{"\x89PNG\r\n\x1a\n"}, openPNG},
	{"gif", "GIF", []string{"GIF87a", "GIF89a"}, openGIF},
	{"webp", "WebP", []string{"RIFF????WEBP"}, openWebP},
	{"bmp", "BMP", []string{"BM????\x00\x00\x00\x00"}, openBMP},
	{"tiff", "TIFF", []string{"II*\x00", "MM\x00*"}, openTIFF},
}

// unread is what people send all the same, and the name to tell them.
var unread = []struct{ magic, name string }{
	{"????ftyphei", "HEIC"},
	{"????ftyphev", "HEIC"},
	{"????ftypmif1", "HEIF"},
	{"????ftypmsf1", "HEIF"},
	{"????ftypavi", "AVIF"},
	{"????ftyp", "video"},
	{"\xff\x0a", "JPEG XL"},
	{"\x00\x00\x00\x0cJXL ", "JPEG XL"},
	{"\x00\x00\x00\x0cjP  ", "JPEG 2000"},
	{"\xff\x4f\xff\x51", "JPEG 2000"},
	{"II+\x00", "BigTIFF"},
	{"MM\x00+", "BigTIFF"},
	{"8BPS", "Photoshop's PSD"},
	{"\x00\x00\x01\x00", "ICO"},
	{"%PDF-", "PDF"},
	{"<svg", "SVG"},
	{"<?xml", "XML (SVG)"},
	{"<!DOCTYPE", "HTML"},
	{"<html", "HTML"},
	{"data:", "a data URL"},
	{"/9j/", "base64 text"},
	{"iVBORw0KGgo", "base64 text"},
	{"R0lGOD", "base64 text"},
	{"UklGR", "base64 text"},
}

// sniff tells the format by its first bytes.
func sniff(data []byte) (format, error) {
	for _, f := range formats {
		for _, magic := range f.magic {
			if matches(data, magic) {
				return f, nil
			}
		}
	}
	for _, s := range unread {
		if matches(data, s.magic) {
			return format{}, fmt.Errorf("%w: %s is not read; send %s", ErrUnsupportedFormat, s.name, formatNames)
		}
	}
	return format{}, fmt.Errorf("%w: the content is not %s", ErrUnsupportedFormat, formatNames)
}

func matches(data []byte, magic string) bool {
	if len(data) < len(magic) {
		return false
	}
	for i := range len(magic) {
		if magic[i] != '?' && magic[i] != data[i] {
			return false
		}
	}
	return true
}

// pixelBytes is the size of a pixel in the image that a decoder makes for m.
func pixelBytes(m color.Model) int64 {
	if _, ok := m.(color.Palette); ok {
		return 1
	}
	switch m {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.RGBAModel, color.NRGBAModel, color.CMYKModel:
		return 4
	}
	return 8
}

// deflateRatio is the most bytes that one byte of deflate becomes: 258 for two
// bits.
const deflateRatio = 1032

func openPNG(data []byte) (header, error) {
	cfg, err := config(data, png.DecodeConfig)
	if err != nil {
		return header{}, err
	}
	// DecodeConfig has read IHDR, which is always the first chunk.
	const depth, colorType, interlaced = 24, 25, 28
	channels := map[byte]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[colorType]]
	rowBytes := (int64(cfg.Width)*channels*int64(data[depth])+7)/8 + 1

	each := pixelBytes(cfg.ColorModel)
	h := header{width: cfg.Width, height: cfg.Height, decode: decoder(data, png.Decode)}
	for rest := data[8:]; len(rest) >= 12; {
		size := int64(binary.BigEndian.Uint32(rest))
		if size > int64(len(rest)-12) {
			break // Decode says what is wrong with it
		}
		switch string(rest[4:8]) {
		case "tRNS": // grey becomes colour with alpha
			switch cfg.ColorModel {
			case color.GrayModel:
				each = 4
			case color.Gray16Model:
				each = 8
			}
		case "eXIf":
			if h.exif == nil {
				h.exif = trimEXIF(rest[8 : 8+size])
			}
		}
		rest = rest[12+size:]
	}
	// Deflate of one-bit pixels.
	h.capacity = int64(len(data)) * deflateRatio * 8
	pixels := int64(cfg.Width) * int64(cfg.Height)
	h.turned = pixels * each
	h.memory = pixels*each + 2*rowBytes
	if data[interlaced] != 0 {
		// The seven passes are pictures of their own, which add up to another
		// whole one, with 2.75 times the row.
		h.memory += pixels*each + 4*rowBytes
	}
	return h, nil
}

func openGIF(data []byte) (header, error) {
	cfg, err := config(data, gif.DecodeConfig)
	if err != nil {
		return header{}, err
	}
	decode := decoder(data, gif.Decode) // stops after the first frame
	pixels := int64(cfg.Width) * int64(cfg.Height)
	return header{
		width: cfg.Width, height: cfg.Height,
		// LZW: 12 bits stand for at most 4096 pixels.
		capacity: int64(len(data)) * 4096 * 8 / 12,
		// The frame, a second one if it is interlaced, and the canvas.
		memory: pixels * (1 + 1 + 4),
		decode: func(ctx context.Context) (image.Image, error) {
			img, err := decode(ctx)
			if err != nil {
				return nil, err
			}
			return onCanvas(ctx, img, img.Bounds().Min, cfg.Width, cfg.Height)
		},
	}, nil
}

// onCanvas puts an animation's frame where it belongs on a transparent canvas.
func onCanvas(ctx context.Context, frame image.Image, at image.Point, width, height int) (image.Image, error) {
	from := frame.Bounds()
	to := from.Sub(from.Min).Add(at)
	whole := image.Rect(0, 0, width, height)
	if from == whole && to == whole {
		return frame, nil
	}
	canvas := image.NewRGBA(whole)
	const rows = 64
	for y := to.Min.Y; y < to.Max.Y; y += rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		band := image.Rect(to.Min.X, y, to.Max.X, min(y+rows, to.Max.Y))
		draw.Draw(canvas, band, frame, band.Min.Sub(to.Min).Add(from.Min), draw.Src)
	}
	return canvas, nil
}

func openBMP(data []byte) (header, error) {
	cfg, err := config(data, bmp.DecodeConfig)
	if err != nil {
		return header{}, err
	}
	// DecodeConfig has found these, and no compression.
	offset := int64(binary.LittleEndian.Uint32(data[10:]))
	bits := int64(binary.LittleEndian.Uint16(data[28:]))
	if cfg.Width == 0 {
		return header{}, nil // 0×0, which the decoder takes
	}
	rowBytes := (int64(cfg.Width)*bits + 31) / 32 * 4
	h := header{
		width: cfg.Width, height: cfg.Height,
		capacity: max(0, int64(len(data))-offset) / rowBytes * int64(cfg.Width),
		decode:   decoder(data, bmp.Decode),
	}
	h.memory = int64(cfg.Width)*int64(cfg.Height)*pixelBytes(cfg.ColorModel) + rowBytes
	return h, nil
}
