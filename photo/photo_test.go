package photo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/mienproject/mien/photo"
)

// samples are the files of testdata that can be decoded, with the expected results.
var samples = []struct {
	file, format  string
	width, height int
	image         image.Image // of the expected type
	tolerance     int         // allowed mean difference from rgb.png, in 1/255; -1 if it is a different image
}{
	{"444.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio444}, 12},
	{"422.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio422}, 25},
	{"440.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio440}, 25},
	{"420.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, 25},
	{"411.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio411}, 25},
	{"410.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio410}, 30},
	{"444_even.jpg", "jpeg", 40, 24, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio444}, -1},
	{"422_even.jpg", "jpeg", 40, 24, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio422}, -1},
	{"440_even.jpg", "jpeg", 40, 24, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio440}, -1},
	{"420_even.jpg", "jpeg", 40, 24, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, -1},
	{"411_even.jpg", "jpeg", 40, 24, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio411}, -1},
	{"410_even.jpg", "jpeg", 40, 24, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio410}, -1},
	{"progressive.jpg", "jpeg", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, 25},
	{"gray.jpg", "jpeg", 37, 23, &image.Gray{}, -1},
	{"rgb.jpg", "jpeg", 37, 23, &image.RGBA{}, 12},
	{"cmyk.jpg", "jpeg", 37, 23, &image.CMYK{}, 12},
	{"rgb.png", "png", 37, 23, &image.RGBA{}, 0},
	{"interlaced.png", "png", 37, 23, &image.RGBA{}, 0},
	{"alpha.png", "png", 37, 23, &image.NRGBA{}, -1},
	{"gray16.png", "png", 37, 23, &image.Gray16{}, -1},
	{"paletted.png", "png", 37, 23, &image.Paletted{}, 40},
	{"picture.gif", "gif", 37, 23, &image.Paletted{}, 20},
	{"interlaced.gif", "gif", 37, 23, &image.Paletted{}, 20},
	{"lossy.webp", "webp", 37, 23, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, 12},
	{"exif6.webp", "webp", 23, 37, &image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}, -1},
	{"lossless.webp", "webp", 37, 23, &image.NRGBA{}, 0},
	{"alpha.webp", "webp", 37, 23, &image.NYCbCrA{YCbCr: image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio420}}, -1},
	{"lossless_alpha.webp", "webp", 37, 23, &image.NRGBA{}, -1},
	{"animated.webp", "webp", 41, 29, &image.RGBA{}, -1},
	{"rgb.bmp", "bmp", 37, 23, &image.RGBA{}, 0},
	{"v5.bmp", "bmp", 37, 23, &image.NRGBA{}, -1},
	{"paletted.bmp", "bmp", 37, 23, &image.Paletted{}, 40},
	{"rle.bmp", "bmp", 37, 23, &image.Paletted{}, 40},
	{"none.tif", "tiff", 37, 23, &image.RGBA{}, 0},
	{"lzw.tif", "tiff", 37, 23, &image.RGBA{}, 0},
	{"deflate.tif", "tiff", 37, 23, &image.RGBA{}, 0},
	{"packbits.tif", "tiff", 37, 23, &image.RGBA{}, 0},
	{"tiled.tif", "tiff", 37, 23, &image.RGBA{}, 0},
	{"paletted.tif", "tiff", 37, 23, &image.Paletted{}, 12},
	{"alpha16.tif", "tiff", 37, 23, &image.NRGBA64{}, -1},
	{"g4.tif", "tiff", 37, 23, &image.Gray{}, -1},
	{"jpeg.tif", "tiff", 37, 23, &image.RGBA{}, 12},
	{"paletted4.tif", "tiff", 37, 23, &image.Paletted{}, 40},
}

func TestFormats(t *testing.T) {
	reference := decode(t, read(t, "rgb.png"))
	for _, s := range samples {
		t.Run(s.file, func(t *testing.T) {
			p, err := photo.Open(read(t, s.file), photo.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if p.Format != s.format || p.Width != s.width || p.Height != s.height {
				t.Errorf("Open: %s of %d×%d, want %s of %d×%d", p.Format, p.Width, p.Height, s.format, s.width, s.height)
			}
			img, err := p.Decode(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := image.Rect(0, 0, s.width, s.height); img.Bounds() != want {
				t.Errorf("bounds %v, want %v", img.Bounds(), want)
			}
			if got, want := kind(img), kind(s.image); got != want {
				t.Errorf("the image is %s, want %s", got, want)
			}
			if s.tolerance >= 0 {
				if d := difference(img, reference); d > float64(s.tolerance) {
					t.Errorf("differs from rgb.png by %.1f on average, want at most %d", d, s.tolerance)
				}
			}
		})
	}
}

func TestAnimatedWebPIsItsFirstFrameOnTheCanvas(t *testing.T) {
	whole := decode(t, read(t, "animated.webp"))
	frame := decode(t, read(t, "alpha.webp"))
	if _, _, _, a := whole.At(0, 0).RGBA(); a != 0 {
		t.Errorf("alpha %d outside the frame, want 0", a)
	}
	// Colors are less precise because they are stored premultiplied by alpha.
	inside := whole.(*image.RGBA).SubImage(image.Rect(4, 6, 41, 29))
	if d := difference(inside, frame); d > 1 {
		t.Errorf("differs by %.2f inside the frame", d)
	}
}

// TestWebPThatAnnouncesAlpha checks files that have the flag for alpha but no alpha,
// which some programs write.
func TestWebPThatAnnouncesAlpha(t *testing.T) {
	data := bytes.Clone(read(t, "exif6.webp"))
	plain := decode(t, data)
	const flags, alpha = 20, 1 << 4
	data[flags] |= alpha
	if img := decode(t, data); !reflect.DeepEqual(img, plain) {
		t.Error("the flag makes a difference")
	}
}

func TestGIFFrameOffset(t *testing.T) {
	palette := color.Palette{color.RGBA{200, 10, 10, 255}, color.RGBA{10, 200, 10, 255}}
	frame := image.NewPaletted(image.Rect(5, 3, 15, 9), palette)
	frame.SetColorIndex(5, 3, 1)
	second := image.NewPaletted(image.Rect(0, 0, 20, 12), palette)
	var buf bytes.Buffer
	err := gif.EncodeAll(&buf, &gif.GIF{
		Image: []*image.Paletted{frame, second}, Delay: []int{10, 10},
		Config: image.Config{ColorModel: palette, Width: 20, Height: 12},
	})
	if err != nil {
		t.Fatal(err)
	}
	img := decode(t, buf.Bytes())
	if img.Bounds() != image.Rect(0, 0, 20, 12) {
		t.Fatalf("bounds %v, want those of the canvas", img.Bounds())
	}
	for _, c := range []struct {
		x, y int
		want color.RGBA
	}{{5, 3, color.RGBA{10, 200, 10, 255}}, {14, 8, color.RGBA{200, 10, 10, 255}}, {4, 3, color.RGBA{}}, {15, 8, color.RGBA{}}, {14, 9, color.RGBA{}}} {
		if got := color.RGBAModel.Convert(img.At(c.x, c.y)); got != c.want {
			t.Errorf("(%d, %d) is %v, want %v", c.x, c.y, got, c.want)
		}
	}

	// Cut off after the first frame, it is the same image.
	n := bytes.LastIndexByte(buf.Bytes(), 0x2c)
	if cut := decode(t, buf.Bytes()[:n]); !reflect.DeepEqual(cut, img) {
		t.Error("the second frame makes a difference")
	}
}

func TestErrors(t *testing.T) {
	big := read(t, "rgb.png")
	for _, c := range []struct {
		name string
		data []byte
		l    photo.Limits
		want error
		text string
	}{
		{"nothing", nil, photo.Limits{}, photo.ErrEmpty, "empty image"},
		{"text", []byte("What is this?"), photo.Limits{}, photo.ErrUnsupportedFormat, "the content is not JPEG, PNG, GIF, WebP, BMP or TIFF"},
		{"one byte", []byte{0xff}, photo.Limits{}, photo.ErrUnsupportedFormat, "JPEG, PNG"},
		{"a message that begins with BM", []byte("BMW makes cars in Munich"), photo.Limits{}, photo.ErrUnsupportedFormat, "the content is not"},
		{"HEIC", []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), photo.Limits{}, photo.ErrUnsupportedFormat, "HEIC is not supported; send JPEG, PNG, GIF, WebP, BMP or TIFF"},
		{"AVIF", []byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00"), photo.Limits{}, photo.ErrUnsupportedFormat, "AVIF is not supported"},
		{"JPEG XL", []byte("\xff\x0a\x01\x02"), photo.Limits{}, photo.ErrUnsupportedFormat, "JPEG XL is not supported"},
		{"SVG", []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), photo.Limits{}, photo.ErrUnsupportedFormat, "SVG is not supported"},
		{"PDF", []byte("%PDF-1.7"), photo.Limits{}, photo.ErrUnsupportedFormat, "PDF is not supported"},
		{"base64", []byte("/9j/4AAQSkZJRgABAQ"), photo.Limits{}, photo.ErrUnsupportedFormat, "base64 text is not supported"},
		{"arithmetic JPEG", read(t, "arithmetic.jpg"), photo.Limits{}, photo.ErrUnsupportedFormat, "this JPEG has an unsupported feature"},
		{"JPEG cut short", read(t, "420.jpg")[:600], photo.Limits{}, photo.ErrCorrupt, "JPEG: "},
		{"JPEG header cut short", read(t, "420.jpg")[:30], photo.Limits{}, photo.ErrCorrupt, "JPEG: the file ends early"},
		{"WebP cut short", cut(read(t, "lossy.webp"), .9), photo.Limits{}, photo.ErrCorrupt, "WebP: the file ends early: it contains 89 % of the image"},
		{"lossless WebP cut short", cut(read(t, "lossless.webp"), .5), photo.Limits{}, photo.ErrCorrupt, "WebP: the file ends early: it contains 45 % of the image"},
		{"animated WebP cut short", cut(read(t, "animated.webp"), .2), photo.Limits{}, photo.ErrCorrupt, "% of the image"},
		{"WebP header cut short", read(t, "lossy.webp")[:15], photo.Limits{}, photo.ErrCorrupt, "WebP: the file ends early: it contains less than 1 % of the image"},
		{"PNG with a wrong checksum", flip(big, bytes.Index(big, []byte("IDAT"))+20), photo.Limits{}, photo.ErrCorrupt, "PNG: the checksum of the pixels is wrong"},
		{"one pixel too many", big, photo.Limits{MaxPixels: 37*23 - 1}, photo.ErrTooManyPixels, "37×23 = 851 pixels, the limit is 850"},
		{"a byte too many", big, photo.Limits{MaxBytes: 1000}, photo.ErrTooManyPixels, "the limit is 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := photo.Open(c.data, c.l)
			if err == nil {
				_, err = p.Decode(t.Context())
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %q, want %q with %q in it", err, c.want, c.text)
			}
		})
	}
	if _, err := photo.Open(big, photo.Limits{MaxPixels: 37 * 23}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func cut(data []byte, share float64) []byte { return data[:int(share*float64(len(data)))] }

// TestUnsupportedFormatNames checks that the error for an unsupported format names it.
func TestUnsupportedFormatNames(t *testing.T) {
	after := func(n int, text string) string { return strings.Repeat("\x00", n) + text }
	tga := func(colorMap, kind, bits byte) string {
		h := []byte{0, colorMap, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 37, 0, 23, 0, bits, 0x20, 1, 2, 3}
		if colorMap == 1 {
			h[5], h[7] = 255, 24
		}
		return string(h)
	}
	pcx := []byte(after(128, ""))
	pcx[0], pcx[1], pcx[2], pcx[3] = 10, 5, 1, 8
	for content, name := range map[string]string{
		"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00":  "HEIC",
		"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01":  "camera raw (Canon's CR3)",
		"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00":  "video",
		"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00":  "video (QuickTime)",
		"\x00\x00\x10\x00moov\x00\x00\x00lmvhd":     "video (QuickTime)",
		"\x00\x00\x10\x00mdat\x00\x00\x00":          "video (QuickTime)",
		"\x00\x00\x00\x08wide\x00\x10\x00\x00mdat":  "video (QuickTime)",
		"\x00\x00\x00\x08free\x00\x10\x00\x00mdat":  "video (QuickTime)",
		"\x00\x00\x00\x08skip\x00\x10\x00\x00mdat":  "video (QuickTime)",
		"\x00\x00\x00\x14pnot\x00\x00\x00\x00":      "video (QuickTime)",
		"\x1aE\xdf\xa3\x9fB\x86\x81\x01":            "video (Matroska or WebM)",
		"RIFF\x00\x00\x00\x00AVI LIST":              "video (AVI)",
		"IIU\x00\x18\x00\x00\x00":                   "camera raw (Panasonic's RW2)",
		"IIRO\x08\x00\x00\x00":                      "camera raw (Olympus's ORF)",
		"IIRS\x08\x00\x00\x00":                      "camera raw (Olympus's ORF)",
		"MMOR\x00\x00\x00\x08":                      "camera raw (Olympus's ORF)",
		"FUJIFILMCCD-RAW 0201FF129502":              "camera raw (Fujifilm's RAF)",
		"II\x1a\x00\x00\x00HEAPCCDR":                "camera raw (Canon's CRW)",
		"\x00MRM\x00\x01":                           "camera raw (Minolta's MRW)",
		"FOVb\x00\x00\x02\x00":                      "camera raw (Sigma's X3F)",
		"II*\x00\x10\x00\x00\x00CR\x02\x00\x00\x00": "camera raw (Canon's CR2)",
		"%!PS-Adobe-3.0 EPSF-3.0":                   "PostScript (EPS)",
		"\xc5\xd0\xd3\xc6\x20\x00\x00\x00":          "PostScript (EPS)",
		"\x00\x00\x02\x00\x01\x00\x20\x20\x00\x00":  "CUR",
		"\x00\x00\x01\x00\x01\x00\x20\x20\x00\x00":  "ICO",
		tga(0, 2, 24):                               "TGA",
		tga(0, 10, 32):                              "TGA",
		tga(0, 3, 8):                                "TGA",
		tga(1, 1, 8):                                "TGA",
		tga(1, 9, 8):                                "TGA",
		"\x07anything\x00TRUEVISION-XFILE.\x00":     "TGA",
		"icns\x00\x00\x10\x00":                      "ICNS",
		"qoif\x00\x00\x00\x25":                      "QOI",
		"v/1\x01\x02\x00\x00\x00":                   "OpenEXR",
		"#?RADIANCE\nFORMAT=":                       "Radiance HDR",
		"#?RGBE\nFORMAT=":                           "Radiance HDR",
		"DDS |\x00\x00\x00":                         "DDS",
		"farbfeld\x00\x00\x00\x25":                  "farbfeld",
		"\x8bJNG\r\n\x1a\n\x00":                     "JNG",
		"\x8aMNG\r\n\x1a\n\x00":                     "MNG",
		"\xd7\xcd\xc6\x9a\x00\x00":                  "WMF",
		"\x01\x00\x00\x00" + after(36, " EMF"):      "EMF",
		"P6\n37 23\n255\n":                          "PNM",
		"P1 2 2 0 1 1 0":                            "PNM",
		"P7\nWIDTH 37":                              "PNM",
		"Pf\n37 23\n-1.0\n":                         "PNM",
		string(pcx):                                 "PCX",
		after(128, "DICM"):                          "DICOM",
		"II\xbc\x01\x20\x00":                        "JPEG XR",
		"II+\x00\x08\x00\x00\x00":                   "BigTIFF",
		"gimp xcf v011\x00":                         "GIMP's XCF",
		"PK\x03\x04\x14\x00":                        "a ZIP archive",
		"SIMPLE  =                    T":            "FITS",
	} {
		_, err := photo.Open([]byte(content), photo.Limits{})
		if !errors.Is(err, photo.ErrUnsupportedFormat) || !strings.Contains(err.Error(), name) || !strings.HasSuffix(err.Error(), "is not supported; send JPEG, PNG, GIF, WebP, BMP or TIFF") {
			t.Errorf("%.20q: got %v, want %s", content, err, name)
		}
	}
	for _, content := range []string{
		"Images of my cat", "P9\n", "PONG", "BM and other letters", "The quick brown fox", "{\"image\": 1}",
		after(40, ""), after(17, "") + "\x18\x00", "\x0a\x05\x01\x08", "moov", "free beer for all",
		strings.Repeat("\xff\x00", 100), strings.Repeat("ab", 1000),
	} {
		_, err := photo.Open([]byte(content), photo.Limits{})
		if !errors.Is(err, photo.ErrUnsupportedFormat) || !strings.Contains(err.Error(), "the content is not JPEG") {
			t.Errorf("%.20q: got %v", content, err)
		}
	}
}

// TestTruncation checks that a file which is cut anywhere gives an error that says so,
// or the image if the missing part is not needed.
func TestTruncation(t *testing.T) {
	for _, s := range samples {
		data := read(t, s.file)
		for n := range data {
			p, err := photo.Open(data[:n], photo.Limits{})
			if err == nil {
				_, err = p.Decode(t.Context())
			}
			if !known(err) {
				t.Errorf("%s cut to %d bytes: %v", s.file, n, err)
			}
		}
	}
}

// after is a context that ends after n calls of Err.
type after struct {
	context.Context
	n, asked int
}

func (c *after) Err() error {
	if c.asked++; c.asked > c.n {
		return context.DeadlineExceeded
	}
	return nil
}

func TestCancel(t *testing.T) {
	for _, s := range samples {
		p, err := photo.Open(read(t, s.file), photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 { // before decoding, and while reading
			ctx := &after{Context: t.Context(), n: n}
			if _, err := p.Decode(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, photo.ErrCorrupt) {
				t.Errorf("%s, ended after %d: %v, want the context's error", s.file, n, err)
			}
			// One more call to notice the end, and one for a decoder that checks twice.
			if ctx.asked > n+3 {
				t.Errorf("%s went on to read %d times after the end", s.file, ctx.asked-n)
			}
		}
		if _, err := p.Decode(t.Context()); err != nil {
			t.Errorf("%s, decoded again: %v", s.file, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	for _, file := range []string{"420.jpg", "exif6.webp", "lzw.tif"} {
		data := read(t, file)
		before := bytes.Clone(data)
		want := decode(t, data)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if got := decode(t, data); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: the image differs", file)
				}
			})
		}
		wg.Wait()
		if !bytes.Equal(data, before) {
			t.Errorf("%s: the data have changed", file)
		}
	}
}

// TestMemoryBytes checks that all that Decode allocates, including garbage, stays below
// MemoryBytes, and that MemoryBytes is not much larger.
func TestMemoryBytes(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's build allocates twice where bytes.Buffer grows")
	}
	check := func(name string, data []byte, most float64) {
		t.Helper()
		p, err := photo.Open(data, photo.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		used := allocated(func() { _, err = p.Decode(t.Context()) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%-28s %4d×%-4d %9d of %9d bytes (%.2f)", name, p.Width, p.Height, used, p.MemoryBytes, float64(p.MemoryBytes)/float64(used))
		slack := int64(64 << 10) // allocated by the test itself
		if used > p.MemoryBytes+slack {
			t.Errorf("%s: Decode allocated %d bytes, MemoryBytes is %d", name, used, p.MemoryBytes)
		}
		if float64(p.MemoryBytes) > most*float64(used) {
			t.Errorf("%s: MemoryBytes is %d, Decode allocated only %d", name, p.MemoryBytes, used)
		}
	}

	files, err := filepath.Glob("testdata/large/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		data := read(t, "large/"+name)
		most := 1.5
		switch name {
		case "lossless.webp", "lossless_alpha.webp", "alpha.webp":
			most = 2.5
		}
		check(name, data, most)
		if turned := withOrientation(data, 6); turned != nil {
			check(name+" turned", turned, most)
		}
	}

	plain := read(t, "large/rgb.png")
	check("rgb.png with tRNS", insertChunk(plain, "tRNS", []byte{0, 1, 0, 2, 0, 3}), 1.5)
	gray := image.NewGray(image.Rect(0, 0, 1600, 1200))
	var asPNG bytes.Buffer
	if err := png.Encode(&asPNG, gray); err != nil {
		t.Fatal(err)
	}
	check("gray.png", asPNG.Bytes(), 1.5)
	check("gray.png with tRNS", insertChunk(asPNG.Bytes(), "tRNS", []byte{0, 1}), 1.5)
	check("a frame on a canvas.gif", frameOnCanvas(t, 1600, 1200), 1.5)
	check("bmp", bitmap(1600, 1200), 1.5)
	check("runs.bmp", bmpOf(40, 1600, 1200, 8, 1, make([]byte, 1024), bytes.Repeat([]byte{255, 7, 255, 8, 255, 7, 255, 8, 255, 7, 255, 8, 255, 7, 0, 0}, 1200)), 1.5)
	check("16 bits.bmp", bmpOf(40, 1600, 1200, 16, 0, nil, make([]byte, 2*1600*1200)), 1.5)
	check("masks.bmp", bmpOf(124, 1600, 1200, 32, 3, long(0xff0000, 0xff00, 0xff, 0xff000000), make([]byte, 4*1600*1200)), 1.5)
	for _, k := range []tiffKind{
		{bits: 8, samples: 3, photometric: 2, compression: 8, separate: true},
		{bits: 16, samples: 3, photometric: 2, compression: 8, separate: true},
		{bits: 16, samples: 4, photometric: 2, compression: 8, extra: []uint32{2}, predict: true},
		{bits: 8, samples: 4, photometric: 5, compression: 8},
		{bits: 16, samples: 4, photometric: 5, compression: 8, tiled: true},
		{bits: 16, samples: 4, photometric: 5, compression: 5},
		{bits: 8, samples: 6, photometric: 2, compression: 8},
		{bits: 1, samples: 1, photometric: 1, compression: 32773},
		{bits: 4, samples: 1, photometric: 3, compression: 1},
		{bits: 16, samples: 1, photometric: 0, compression: 1, reversed: true},
		{bits: 8, samples: 3, photometric: 6, compression: 8},
	} {
		k.size = image.Pt(1000, 1001)
		data := tiffOf(k, func(x, _, s int) uint16 { return uint16(x*s) >> (16 - k.bits) })
		if k.photometric == 6 { // chroma is stored once for two rows
			data = withTag(t, data, 257, func(uint32) uint32 { return 2000 })
			data = withTag(t, data, 278, func(uint32) uint32 { return 2000 })
		}
		check(fmt.Sprintf("%+v.tif", k), data, 1.5)
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, image.NewRGBA(image.Rect(0, 0, 1600, 1200)), nil); err != nil {
		t.Fatal(err)
	}
	check("jpeg.tif", tiffWith(append(make([]byte, 8), buf.Bytes()...), tiffTags{order: binary.LittleEndian, numbers: map[uint16][]uint32{
		256: {1600}, 257: {1200}, 258: {8, 8, 8}, 259: {7}, 262: {6}, 277: {3}, 273: {8}, 279: {uint32(buf.Len())},
	}}), 1.5)
	check("deflate bomb.tif", deflateBomb(2048, 2048), 1.5)

	for _, f := range []photo.PixelFormat{photo.Gray8, photo.RGB24, photo.RGBA32, photo.I420, photo.NV12} {
		const w, h = 1601, 1201
		p, err := photo.OpenRaw(make([]byte, rawSize(f, w, h)), f, w, h, photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		used := allocated(func() { _, err = p.Decode(t.Context()) })
		if err != nil {
			t.Fatal(err)
		}
		// The runtime rounds large allocations up to pages of 8 KB.
		if used > p.MemoryBytes+8<<10 {
			t.Errorf("%v: %d bytes, MemoryBytes is %d", f, used, p.MemoryBytes)
		}
	}
}

func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// TestPhotographs decodes the photographs of ../shared, one for each orientation of the
// same scene.
func TestPhotographs(t *testing.T) {
	dir := filepath.Join("..", "..", "shared", "faces", "exif")
	list, err := os.ReadFile(filepath.Join(dir, "annotations.jsonl"))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs the photographs of ../shared, which are not part of the repository: ", err)
	}
	var first image.Image
	for line := range bytes.Lines(list) {
		var want struct {
			File                       string
			Width, Height, Orientation int
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, want.File))
		if err != nil {
			t.Fatal(err)
		}
		p, err := photo.Open(data, photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Width != want.Width || p.Height != want.Height || p.Orientation != want.Orientation {
			t.Errorf("%s: %d×%d, orientation %d, want %+v", want.File, p.Width, p.Height, p.Orientation, want)
		}
		img := decode(t, data)
		if first == nil {
			first = img
		}
		if d := difference(img, first); d > 8 {
			t.Errorf("%s: differs by %.1f from the first", want.File, d)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, file := range []string{"progressive.jpg", "rgb.png", "lossy.webp", "lzw.tif"} {
		data := read(b, file)
		b.Run(file, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := photo.Open(data, photo.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUpright(b *testing.B) {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, image.NewYCbCr(image.Rect(0, 0, 4000, 3000), image.YCbCrSubsampleRatio420), nil); err != nil {
		b.Fatal(err)
	}
	for o := 1; o <= 8; o++ {
		p, err := photo.Open(withOrientation(buf.Bytes(), o), photo.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(o), func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Decode(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t testing.TB, data []byte) image.Image {
	t.Helper()
	p, err := photo.Open(data, photo.Limits{})
	if err != nil {
		t.Error(err)
		return image.NewGray(image.Rectangle{})
	}
	img, err := p.Decode(t.Context())
	if err != nil {
		t.Error(err)
		return image.NewGray(image.Rectangle{})
	}
	if want := image.Rect(0, 0, p.Width, p.Height); img.Bounds() != want {
		t.Errorf("bounds %v, want %v", img.Bounds(), want)
	}
	return img
}

// known reports whether err is nil or an error that Open and Decode may return for bad
// data. A panic of a decoder is not, even if it was caught.
func known(err error) bool {
	switch {
	case err == nil:
		return true
	case strings.Contains(err.Error(), "panicked"):
		return false
	}
	for _, want := range []error{photo.ErrEmpty, photo.ErrUnsupportedFormat, photo.ErrCorrupt, photo.ErrTooManyPixels} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// kind returns the type of an image, with its subsampling if it has one.
func kind(img image.Image) string {
	switch m := img.(type) {
	case *image.YCbCr:
		return fmt.Sprintf("%T %v", m, m.SubsampleRatio)
	case *image.NYCbCrA:
		return fmt.Sprintf("%T %v", m, m.SubsampleRatio)
	}
	return fmt.Sprintf("%T", img)
}

// difference returns the mean difference of colors, in 1/255.
func difference(a, b image.Image) float64 {
	if a.Bounds().Size() != b.Bounds().Size() {
		return math.Inf(1)
	}
	var sum float64
	size := a.Bounds().Size()
	for y := range size.Y {
		for x := range size.X {
			r, g, bl, al := a.At(a.Bounds().Min.X+x, a.Bounds().Min.Y+y).RGBA()
			r2, g2, bl2, al2 := b.At(b.Bounds().Min.X+x, b.Bounds().Min.Y+y).RGBA()
			for _, d := range []float64{float64(r) - float64(r2), float64(g) - float64(g2), float64(bl) - float64(bl2), float64(al) - float64(al2)} {
				sum += math.Abs(d)
			}
		}
	}
	return sum / float64(3*257*size.X*size.Y)
}

func flip(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 0xff
	return data
}
