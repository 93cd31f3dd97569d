package photo_test

import (
	"errors"
	"image"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/mienproject/mien/photo"
)

// sharedCases returns the folder of small files that some decoder got wrong. Its README
// says what is right. It is not part of the repository.
func sharedCases(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "..", "shared", "cases")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to have the shared cases: ", err)
		}
		t.Skip("needs ../shared/cases, which is not part of the repository: ", err)
	}
	return dir
}

// TestCases decodes the PNGs, GIFs, BMPs and TIFFs of the shared cases.
func TestCases(t *testing.T) {
	dir := sharedCases(t)
	const none = -1 // the README has no mean luminance
	listed := map[string]bool{}
	for _, c := range []struct {
		file          string
		width, height int
		mean          float64 // of the luminance
		err           error
		text          string
	}{
		{"png_bad_crc_iccp.png", 160, 200, 164, nil, ""},
		{"png_bad_crc_text.png", 160, 200, 164, nil, ""},
		{"png_exif6_ztxt_rawprofile.png", 200, 160, 164, nil, ""}, // no orientation that counts
		{"png_no_iend.png", 160, 200, 164, nil, ""},
		{"png_too_much_data.png", 160, 200, 164, nil, ""},
		{"png_xmp_orientation6.png", 200, 160, 164, nil, ""}, // no orientation that counts
		{"tilted_head.png", 393, 437, 160.5, nil, ""},
		{"gif_frame_larger_than_screen.gif", 160, 200, 164, nil, ""},
		{"gif_not_enough_data.gif", 0, 0, none, photo.ErrCorrupt, "98 % of the image"},
		{"gif_stray_byte_between_blocks.gif", 160, 200, 164, nil, ""},
		{"gif_too_much_data.gif", 160, 196, 163.2, nil, ""},
		{"gif_zero_screen.gif", 160, 200, 164, nil, ""},
		{"bmp_16_555.bmp", 160, 200, 164.6, nil, ""},
		{"bmp_reserved_nonzero.bmp", 160, 200, 164, nil, ""},
		{"bmp_v4_32_alpha0_rgb.bmp", 160, 200, 164, nil, ""},
		{"bmp_v5_32_alpha0_bitfields.bmp", 160, 200, 164, nil, ""},
		{"bmp_v5_32_alpha0_rgb.bmp", 160, 200, 164, nil, ""},
		{"raw_dng_like_thumbnail.tif", 0, 0, none, photo.ErrUnsupportedFormat, "camera raw"},
		{"tiff_big.tif", 0, 0, none, photo.ErrUnsupportedFormat, "BigTIFF"},
		{"tiff_cmyk.tif", 160, 200, 164, nil, ""},
		{"tiff_float.tif", 0, 0, none, photo.ErrUnsupportedFormat, "floating point"},
		{"tiff_g3.tif", 160, 200, 164, nil, ""},
		{"tiff_g4.tif", 160, 200, 164, nil, ""},
		{"tiff_jpeg.tif", 160, 200, 164, nil, ""},
		{"tiff_planar_strip.tif", 160, 200, 164, nil, ""},
		{"tiff_planar_tiled_16.tif", 160, 200, 164, nil, ""},
		{"tiff_planar_tiled_16_garbage.tif", 100, 40, 164, nil, ""},
		{"tiff_planar_tiled_8.tif", 160, 200, 164, nil, ""},
		{"tiff_rgb_extra_unspecified.tif", 160, 200, 164, nil, ""},
		{"tiff_zstd.tif", 0, 0, none, photo.ErrUnsupportedFormat, "Zstandard"},
		{"tall600x11928.jpg", 600, 11928, none, nil, ""},
	} {
		listed[c.file] = true
		t.Run(c.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, c.file))
			if err != nil {
				t.Fatal(err)
			}
			p, err := photo.Open(data, photo.Limits{})
			var img image.Image
			if err == nil {
				img, err = p.Decode(t.Context())
			}
			if !errors.Is(err, c.err) || (err != nil && !strings.Contains(err.Error(), c.text)) {
				t.Fatalf("got %v, want %v with %q in it", err, c.err, c.text)
			}
			if err != nil {
				return
			}
			if p.Width != c.width || p.Height != c.height || img.Bounds().Size() != image.Pt(c.width, c.height) {
				t.Errorf("%d×%d, an image of %v, want %d×%d", p.Width, p.Height, img.Bounds(), c.width, c.height)
			}
			if mean := meanLuminance(img); c.mean != none && math.Abs(mean-c.mean) > 1 {
				t.Errorf("the mean luminance is %.2f, want %.1f", mean, c.mean)
			}
		})
	}
	for _, pattern := range []string{"png_*", "gif_*", "bmp_*", "tiff_*", "raw_*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			if !listed[filepath.Base(file)] {
				t.Errorf("%s is not in the table", file)
			}
		}
	}
}

// meanLuminance returns the mean luminance, 0 to 255, on a black background.
func meanLuminance(img image.Image) float64 {
	var sum float64
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			sum += .299*float64(r) + .587*float64(g) + .114*float64(b)
		}
	}
	return sum / 257 / float64(b.Dx()*b.Dy())
}

// hostile are the shared cases that would take much time or memory.
var hostile = []struct {
	file          string
	width, height int
	err           error
}{
	{"bmp_huge.bmp", 0, 0, photo.ErrTooManyPixels},
	{"bmp_lie.bmp", 0, 0, photo.ErrCorrupt},
	{"gif.gif", 8000, 8000, nil},
	{"gif_canvas.gif", 8000, 8000, nil},
	{"gif_multi.gif", 500, 500, nil},
	{"jpeg_prog444.jpg", 8000, 8000, nil},
	{"jpeg_scans_189.jpg", 0, 0, photo.ErrCorrupt},
	{"png_gray1.png", 8000, 8000, nil},
	{"png_rgb16.png", 8000, 8000, nil},
	{"png_rgba16.png", 8000, 8000, nil},
	{"png_rgba8.png", 8000, 8000, nil},
	{"png_tall.png", 0, 0, nil},
	{"tiff_hugecount.tif", 0, 0, photo.ErrCorrupt},
	{"tiff_rgb16_deflate.tif", 5600, 5600, nil},
	{"webp_ll.webp", 0, 0, photo.ErrTooManyPixels}, // 46 bytes
	{"webp_lossy.webp", 8000, 8000, nil},
}

// TestHostileCases checks that their headers are read, or rejected, in little time and
// memory.
func TestHostileCases(t *testing.T) {
	dir := filepath.Join(sharedCases(t), "hostile")
	for _, c := range hostile {
		data, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		var p *photo.Photo
		used := allocated(func() { p, err = photo.Open(data, photo.Limits{MaxPixels: 64 << 20}) })
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.file, err, c.err)
		} else if err == nil && c.width > 0 && (p.Width != c.width || p.Height != c.height) {
			t.Errorf("%s: %d×%d, want %d×%d", c.file, p.Width, p.Height, c.width, c.height)
		}
		if used > 1<<20 {
			t.Errorf("%s: it took %d bytes of memory to find out", c.file, used)
		}
	}
}

// TestHostileMemory checks that decoding them takes no more memory than MemoryBytes.
func TestHostileMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's build allocates more, and takes minutes: make memory runs it")
	}
	dir := filepath.Join(sharedCases(t), "hostile")
	for _, c := range hostile {
		if c.err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		p, err := photo.Open(data, photo.Limits{MaxPixels: 64 << 20})
		if err != nil {
			t.Fatal(c.file, err)
		}
		used := allocated(func() { _, err = p.Decode(t.Context()) })
		if err != nil && !errors.Is(err, photo.ErrCorrupt) {
			t.Errorf("%s: %v", c.file, err)
		}
		t.Logf("%-24s %5d×%-5d %11d of %11d bytes, %v", c.file, p.Width, p.Height, used, p.MemoryBytes, err)
		if used > p.MemoryBytes {
			t.Errorf("%s: Decode allocated %d bytes, MemoryBytes is %d", c.file, used, p.MemoryBytes)
		}
		runtime.GC()
	}
}
