package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"slices"
	"strings"
)

const formatNames = "JPEG, PNG, GIF, WebP, BMP or TIFF"

type format struct {
	name, title string
	magic       []string // '?' matches any byte
	open        func(data []byte) (header, error)
}

var formats = []format{
	{"jpeg", "JPEG", []string{"\xff\xd8"}, openJPEG},
	{"png", "PNG", []string{pngSignature}, openPNG},
	{"gif", "GIF", []string{"GIF87a", "GIF89a"}, openGIF},
	{"webp", "WebP", []string{"RIFF????WEBP"}, openWebP},
	// Two letters are not enough. The reserved words and the offset that follow may
	// have any value, but the size of the second header is one of a few.
	{"bmp", "BMP", []string{
		"BM????????????\x0c\x00\x00\x00", "BM????????????\x10\x00\x00\x00", "BM????????????\x28\x00\x00\x00",
		"BM????????????\x34\x00\x00\x00", "BM????????????\x38\x00\x00\x00", "BM????????????\x40\x00\x00\x00",
		"BM????????????\x6c\x00\x00\x00", "BM????????????\x7c\x00\x00\x00",
	}, openBMP},
	{"tiff", "TIFF", []string{"II*\x00", "MM\x00*"}, openTIFF},
}

// unsupportedMagic has the first bytes of unsupported formats, and their names for the
// error message.
var unsupportedMagic = []struct{ magic, name string }{
	{"????ftyphei", "HEIC"},
	{"????ftyphev", "HEIC"},
	{"????ftypmif1", "HEIF"},
	{"????ftypmsf1", "HEIF"},
	{"????ftypavi", "AVIF"},
	{"????ftypcrx", "camera raw (Canon's CR3)"},
	{"????ftypqt", "video (QuickTime)"},
	{"????ftyp", "video"},
	{"????moov", "video (QuickTime)"},
	{"????mdat", "video (QuickTime)"},
	{"????wide", "video (QuickTime)"},
	{"????free", "video (QuickTime)"},
	{"????skip", "video (QuickTime)"},
	{"????pnot", "video (QuickTime)"},
	{"\x1a\x45\xdf\xa3", "video (Matroska or WebM)"},
	{"RIFF????AVI ", "video (AVI)"},
	{"RIFF????WAVE", "sound (WAV)"},
	{"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video (Windows Media)"},
	{"FLV\x01", "video (Flash)"},
	{"OggS", "video or sound (Ogg)"},
	{"\x00\x00\x01\xba", "video (MPEG)"},
	{"\x00\x00\x01\xb3", "video (MPEG)"},
	{"\xff\x0a", "JPEG XL"},
	{"\x00\x00\x00\x0cJXL ", "JPEG XL"},
	{"\x00\x00\x00\x0cjP  ", "JPEG 2000"},
	{"\xff\x4f\xff\x51", "JPEG 2000"},
	{"II\xbc\x01", "JPEG XR"},
	{"II+\x00", "BigTIFF"},
	{"MM\x00+", "BigTIFF"},
	{"IIU\x00", "camera raw (Panasonic's RW2)"},
	{"IIRO", "camera raw (Olympus's ORF)"},
	{"IIRS", "camera raw (Olympus's ORF)"},
	{"MMOR", "camera raw (Olympus's ORF)"},
	{"FUJIFILMCCD-RAW", "camera raw (Fujifilm's RAF)"},
	{"II\x1a\x00\x00\x00HEAPCCDR", "camera raw (Canon's CRW)"},
	{"\x00MRM", "camera raw (Minolta's MRW)"},
	{"FOVb", "camera raw (Sigma's X3F)"},
	{"8BPS", "Photoshop's PSD"},
	{"gimp xcf", "GIMP's XCF"},
	{"\x00\x00\x01\x00", "ICO"},
	{"icns", "ICNS"},
	{"qoif", "QOI"},
	{"v/1\x01", "OpenEXR"},
	{"#?RADIANCE", "Radiance HDR"},
	{"#?RGBE", "Radiance HDR"},
	{"DDS ", "DDS"},
	{"\xabKTX ", "KTX"},
	{"farbfeld", "farbfeld"},
	{"FLIF", "FLIF"},
	{"BPG\xfb", "BPG"},
	{"\x8aMNG\r\n\x1a\n", "MNG"},
	{"\x8bJNG\r\n\x1a\n", "JNG"},
	{"\x01\xda\x00", "SGI"},
	{"\x01\xda\x01", "SGI"},
	{"\x59\xa6\x6a\x95", "Sun raster"},
	{"SIMPLE  = ", "FITS"},
	{"\xd7\xcd\xc6\x9a", "WMF"},
	{"\x01\x00\x09\x00\x00\x03", "WMF"},
	{"\x01\x00\x00\x00????????????????????????????????????\x20EMF", "EMF"},
	{"AT&TFORM", "DjVu"},
	{"/* XPM */", "XPM"},
	{"%!PS", "PostScript (EPS)"},
	{"\xc5\xd0\xd3\xc6", "PostScript (EPS)"},
	{"%PDF-", "PDF"},
	{"<svg", "SVG"},
	{"<?xml", "XML (SVG)"},
	{"<!DOCTYPE", "HTML"},
	{"<html", "HTML"},
	{"PK\x03\x04", "a ZIP archive"},
	{"\x1f\x8b", "gzip"},
	{"data:", "a data URL"},
	{"/9j/", "base64 text"},
	{"iVBORw0KGgo", "base64 text"},
	{"R0lGOD", "base64 text"},
	{"UklGR", "base64 text"},
}

// unsupportedChecks recognizes unsupported formats that need more than a comparison of
// their first bytes.
var unsupportedChecks = []struct {
	is   func(data []byte) bool
	name string
}{
	{isCUR, "CUR"},
	{isPNM, "PNM (PBM, PGM, PPM, PAM or PFM)"},
	{isPCX, "PCX"},
	{isDICOM, "DICOM"},
	{isTGA, "TGA"},
}

// sniff recognizes a format by its first bytes.
func sniff(data []byte) (format, error) {
	for _, f := range formats {
		for _, magic := range f.magic {
			if matches(data, magic) {
				return f, nil
			}
		}
	}
	if name := unsupportedName(data); name != "" {
		return format{}, unsupported(name)
	}
	return format{}, fmt.Errorf("%w: the content is not %s", ErrUnsupportedFormat, formatNames)
}

// unsupported returns the error for content in the unsupported format of that name.
func unsupported(name string) error {
	return fmt.Errorf("%w: %s is not supported; send %s", ErrUnsupportedFormat, name, formatNames)
}

func unsupportedName(data []byte) string {
	for _, s := range unsupportedMagic {
		if matches(data, s.magic) {
			return s.name
		}
	}
	for _, s := range unsupportedChecks {
		if s.is(data) {
			return s.name
		}
	}
	return ""
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

// isCUR recognizes cursors. A TGA may start with the same bytes.
func isCUR(data []byte) bool {
	return len(data) > 5 && bytes.HasPrefix(data, []byte("\x00\x00\x02\x00")) && data[4] != 0 && data[5] == 0
}

func isPNM(data []byte) bool {
	if len(data) < 3 || data[0] != 'P' || strings.IndexByte("1234567fF", data[1]) < 0 {
		return false
	}
	return strings.IndexByte(" \t\r\n#", data[2]) >= 0
}

func isPCX(data []byte) bool {
	const header = 128
	if len(data) < header || data[0] != 10 || data[2] != 1 {
		return false
	}
	version, bits := data[1], data[3]
	return version <= 5 && version != 1 && (bits == 1 || bits == 2 || bits == 4 || bits == 8) && data[64] == 0
}

func isDICOM(data []byte) bool {
	const preamble = 128
	return len(data) > preamble && bytes.HasPrefix(data[preamble:], []byte("DICM"))
}

// isTGA checks for the signature at the end, which old files do not have, or for a
// plausible header.
func isTGA(data []byte) bool {
	const header = 18
	if bytes.HasSuffix(data, []byte("TRUEVISION-XFILE.\x00")) {
		return true
	}
	if len(data) < header {
		return false
	}
	colorMap, kind, mapBits, bits := data[1], data[2], data[7], data[16]
	const reserved = 0xc0
	if binary.LittleEndian.Uint16(data[12:]) == 0 || binary.LittleEndian.Uint16(data[14:]) == 0 || data[17]&reserved != 0 {
		return false
	}
	colorBits := []byte{15, 16, 24, 32}
	noMap := colorMap == 0 && string(data[3:8]) == "\x00\x00\x00\x00\x00"
	switch kind {
	case 1, 9: // indices
		return colorMap == 1 && bits == 8 && slices.Contains(colorBits, mapBits)
	case 2, 10: // colors
		return noMap && slices.Contains(colorBits, bits)
	case 3, 11: // gray
		return noMap && bits == 8
	}
	return false
}

// pixelBytes returns the bytes that a pixel takes in the image that a decoder makes for
// m.
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

// deflateRatio is the maximum expansion of deflate: two bits can become 258 bytes.
const deflateRatio = 1032

// onCanvas draws an animation's frame at its position on a transparent canvas.
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
