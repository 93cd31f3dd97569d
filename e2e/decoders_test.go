package e2e

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reading is the result of a decoder for a file.
type reading struct {
	Error         string
	Width, Height int
	// Mean is the mean luminance, from 0 to 255, with transparent pixels as black.
	Mean *float64
}

// disagreement is a set of files for which Mien intentionally differs from other
// decoders.
type disagreement struct {
	files string // a pattern
	peer  string // "pillow", "vips", or "" for both
	what  string // "reads" or "refuses" a file that Mien does not; or "size" or "mean"
	// says is a part of Mien's error, if it rejects the file.
	says string
	why  string
}

var disagreements = []disagreement{
	// Files that Mien rejects.
	{"*cut_most.*", "vips", "reads", "% of the image", "libvips fills up what is missing"},
	{"*cut_half.*", "vips", "reads", "% of the image", "libvips fills up what is missing"},
	{"gif_not_enough_data.gif", "vips", "reads", "98 % of the image", "libvips fills up what is missing"},
	{"jpeg_truncated_90.jpg", "vips", "reads", "% of the image", "libvips fills up what is missing"},
	{"jpeg_prog_truncated_90.jpg", "vips", "reads", "the file ends early", "libvips fills up what is missing"},
	{"jpeg_arithmetic.jpg", "", "reads", "arithmetic coding", "hardly anybody sends it, and browsers do not read it"},
	{"tiff_*zstd.tif", "", "reads", "compression 50000 (Zstandard)", "not worth a library"},
	{"tiff_1_tiff_ccitt.tif", "", "reads", "compression 2 (CCITT run lengths)", "golang.org/x/image lacks it"},
	{"tiff_LA_jpeg.tif", "", "reads", "JPEG of 2 samples", "a JPEG of two components"},
	{"tiff_F_*.tif", "", "reads", "SampleFormat 3 (floating point", "what is white is in no file"},
	{"tiff_float.tif", "", "reads", "SampleFormat 3 (floating point", "what is white is in no file"},
	{"*_big.tif", "", "reads", "BigTIFF", "for files of more than 4 GB"},
	{"raw_dng_like_thumbnail.tif", "", "reads", "camera raw (DNG)", "they read the preview"},

	// Files that Mien reads.
	{"png_bad_crc_*.png", "pillow", "refuses", "", "Pillow minds checksums that libpng warns of"},
	{"jpeg_no_eoi.jpg", "pillow", "refuses", "", "only the end marker is missing"},
	{"jpeg_cut_eoi_half.jpg", "pillow", "refuses", "", "only the end marker is missing"},
	{"gif_stray*.gif", "vips", "refuses", "", "Pillow and browsers skip such bytes"},
	{"tiff_planar_tiled_*.tif", "vips", "refuses", "", "libvips has no tiles in separate planes"},
	{"vips_pyramid.tif", "pillow", "refuses", "", "Pillow 9 fails to look for the orientation"},
	{"tiff_YCbCr_raw.tif", "pillow", "refuses", "", "Pillow 9 cannot read what it has written"},
	{"exif_*_5.jpg", "pillow", "refuses", "", "Pillow 9 fails to write the orientation back"},
	{"exif_*_1[012].jpg", "pillow", "refuses", "", "Pillow 9 fails to write the orientation back"},

	// Orientation.
	{"tif_orientation_[5678].tif", "pillow", "size", "", "Pillow 9 leaves TIFFs as they are stored"},
	{"exif_own_13.jpg", "pillow", "size", "", "the type is the offset of a directory"},
	{"exif_own_1.jpg", "pillow", "size", "", "a byte, which libexif reads too"},
	{"png_exif6_ztxt_rawprofile.png", "pillow", "size", "", "a text of ImageMagick's, which browsers do not look for"},
	{"png_xmp_orientation6.png", "pillow", "size", "", "XMP, which browsers do not look for"},

	// Colors.
	{"bmp_*_8888_masks_zero.bmp", "", "mean", "", "alpha is 0 everywhere: opaque, as in browsers and OpenCV"},
	{"bmp_v5_32_alpha0_bitfields.bmp", "", "mean", "", "alpha is 0 everywhere: opaque, as in browsers and OpenCV"},
	{"bmp_40_32_reserved.bmp", "vips", "mean", "", "ImageMagick takes the reserved byte for alpha, Pillow does not"},
	{"bmp_RGBA.bmp", "vips", "mean", "", "ImageMagick takes the reserved byte for alpha, Pillow does not"},
	{"gif_screen_large.gif", "pillow", "mean", "", "Pillow fills the screen with its background"},
	{"tiff_YCbCr_*.tif", "vips", "mean", "", "libvips does not convert Y'CbCr without JPEG"},
	{"tiff_planar_tiled_16.tif", "pillow", "mean", "", "Pillow 9 gets the tiles at the edges wrong"},
	{"tiff_rgb_extra_unspecified.tif", "vips", "mean", "", "libvips takes a sample that nothing is said of for alpha"},
}

// TestDecoders checks that Mien reads what Pillow and libvips read, with the same size
// and luminance, and rejects what they reject. The table above lists and explains the
// exceptions.
func TestDecoders(t *testing.T) {
	t.Parallel()
	script := filepath.Join(root, "e2e", "python", "decoders.py")
	dir := t.TempDir()
	r := runIn(t, root, 10*time.Minute, []string{"PYTHONDONTWRITEBYTECODE=1"}, nil, python, script, "make", filepath.Join(root, "service", "selftest", "sample.jpg"), dir)
	r.must(t)
	t.Logf("%s", r.stderr)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 400 {
		t.Fatalf("%d variants, %v", len(files), err)
	}
	// Hostile files are in a folder of their own, and other tests use them.
	cases, err := filepath.Glob(filepath.Join(root, "..", "shared", "cases", "*.*"))
	if err != nil || len(cases) == 0 {
		if inCI() {
			t.Fatal("CI has to have the shared cases: ", err)
		}
		t.Log("without ../shared/cases, which is no part of the repository")
	}
	for _, file := range cases {
		if filepath.Ext(file) != ".md" {
			files = append(files, file)
		}
	}

	out := runIn(t, root, 30*time.Minute, []string{"PYTHONDONTWRITEBYTECODE=1"}, nil, python, append([]string{script, "read"}, files...)...).must(t)
	s := start(t)
	used := make([]bool, len(disagreements))
	compared := 0
	for line := range bytes.Lines(out) {
		var peers struct {
			File         string
			Pillow, Vips reading
		}
		if err := json.Unmarshal(line, &peers); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		mien := readByMien(t, s, peers.File)
		name := filepath.Base(peers.File)
		for _, peer := range []struct {
			name string
			reading
		}{{"pillow", peers.Pillow}, {"vips", peers.Vips}} {
			compared++
			what := differs(mien, peer.reading)
			if what == "" {
				continue
			}
			known := false
			for i, d := range disagreements {
				match, err := filepath.Match(d.files, name)
				if err != nil {
					t.Fatal(err)
				}
				if match && (d.peer == "" || d.peer == peer.name) && d.what == what && strings.Contains(mien.Error, d.says) {
					known, used[i] = true, true
				}
			}
			if !known {
				t.Errorf("%s: %s %s: %v, Mien %v", name, peer.name, what, peer.reading, mien)
			}
		}
	}
	if want := 2 * len(files); compared != want {
		t.Errorf("%d readings were compared, want %d", compared, want)
	}
	for i, d := range disagreements {
		if !used[i] && len(cases) > 0 {
			t.Errorf("there is no such disagreement any more: %+v", d)
		}
	}
}

// differs returns how the results of a peer and of Mien differ.
func differs(mien, peer reading) string {
	const tolerance = 1 // in 1/255
	switch {
	case mien.Error != "" && peer.Error != "":
		return ""
	case mien.Error != "":
		return "reads"
	case peer.Error != "":
		return "refuses"
	case mien.Width != peer.Width || mien.Height != peer.Height:
		return "size"
	case peer.Mean != nil && !(math.Abs(*mien.Mean-*peer.Mean) <= tolerance):
		return "mean"
	}
	return ""
}

func (r reading) String() string {
	b, _ := json.Marshal(r)
	return string(b)
}

// readByMien requests the annotated image with a minimum confidence that no face
// reaches, so that the answer is the image as the server decodes it.
func readByMien(t *testing.T, s *server, file string) reading {
	t.Helper()
	r := curl(t, nil, "--data-binary", "@"+file, "--header", "Content-Type: application/octet-stream", "--header", "Accept: image/png", s.url+"/predict?min_confidence=1")
	if r.status != 200 {
		var refusal struct{ Message string }
		if err := json.Unmarshal(r.body, &refusal); err != nil || refusal.Message == "" || r.status != 400 && r.status != 415 {
			t.Errorf("%s: %d, %s", filepath.Base(file), r.status, excerpt(r.body))
		}
		return reading{Error: refusal.Message}
	}
	img, err := png.Decode(bytes.NewReader(r.body))
	if err != nil {
		t.Fatal(file, err)
	}
	mean := meanLuminance(img)
	return reading{Width: img.Bounds().Dx(), Height: img.Bounds().Dy(), Mean: &mean}
}

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
