package photo_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mienproject/mien/photo"
)

// TestJPEGAndWebPCases decodes the JPEGs and WebPs of ../shared/cases, files that some
// decoder got wrong. Their mean luminance is that of Pillow 13 with libjpeg-turbo 3.2
// and libwebp 1.6, with LOAD_TRUNCATED_IMAGES for files that end early.
func TestJPEGAndWebPCases(t *testing.T) {
	dir := filepath.Join("..", "..", "shared", "cases")
	for _, c := range []struct {
		file          string
		width, height int
		luminance     float64
		err           error
		text          string
	}{
		{file: "jpeg_no_dht_mjpeg.jpg", width: 160, height: 200, luminance: 163.97},
		{file: "jpeg_sampling_2x2_1x1_1x2.jpg", width: 160, height: 200, luminance: 163.96},
		{file: "jpeg_sampling_3x1.jpg", width: 160, height: 200, luminance: 163.96},
		{file: "jpeg_chroma_finer.jpg", width: 160, height: 200, luminance: 163.97},
		{file: "jpeg_rst_missing_one.jpg", width: 160, height: 200, luminance: 161.02},
		{file: "jpeg_no_eoi.jpg", width: 160, height: 200, luminance: 163.96},
		{file: "jpeg_cut_eoi_half.jpg", width: 160, height: 200, luminance: 163.96},
		{file: "jpeg_progressive_restart_3.jpg", width: 193, height: 241, luminance: 163.96},
		{file: "jpeg_scans_restart_3.jpg", width: 193, height: 241, luminance: 163.96},
		{file: "jpeg_xmp_only6.jpg", width: 200, height: 160, luminance: 163.96},
		{file: "jpeg_arithmetic.jpg", err: photo.ErrUnsupportedFormat, text: "this JPEG has an unsupported feature: arithmetic coding (SOF9)"},
		{file: "jpeg_truncated_90.jpg", err: photo.ErrCorrupt, text: "JPEG: the file ends early: it contains 85 % of the image"},
		{file: "jpeg_prog_truncated_90.jpg", err: photo.ErrCorrupt, text: "JPEG: the file ends early: it contains all of the image, with 91 % of its detail"},

		{file: "webp_grey0.webp", width: 64, height: 64, luminance: 0},
		{file: "webp_grey128.webp", width: 64, height: 64, luminance: 128},
		{file: "webp_grey255.webp", width: 64, height: 64, luminance: 255},
		{file: "webp_lossy.webp", width: 160, height: 200, luminance: 164.10},
		{file: "webp_trailing.webp", width: 160, height: 200, luminance: 164.10},
		{file: "webp_anim.webp", width: 160, height: 200, luminance: 164.08},
		{file: "webp_exif_vp8x.webp", width: 160, height: 200, luminance: 164.10},
		{file: "webp_alpha.webp", width: 160, height: 200, luminance: 164.11},
	} {
		t.Run(c.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, c.file))
			if err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip("needs the case files, which are not part of the repository: ", err)
			}
			p, err := photo.Open(data, photo.Limits{})
			for _, o := range []photo.Options{{}, {Gray: true}, {Reduce: 2}, {Gray: true, Reduce: 8}} {
				err := err
				if err == nil {
					q := p.Reduced(o)
					img, decodeErr := q.Decode(t.Context())
					if err = decodeErr; err == nil {
						if p.Width != c.width || p.Height != c.height {
							t.Errorf("%d×%d, want %d×%d", p.Width, p.Height, c.width, c.height)
						}
						// The first plane is luminance, not multiplied by alpha. If the
						// reduction does not divide the sides, the edge has too much
						// weight in the mean.
						whole := c.width%q.Reduction == 0 && c.height%q.Reduction == 0
						if got := planesOf(img)[0].mean(); whole && math.Abs(got-c.luminance) > 0.5 {
							t.Errorf("%+v: luminance %.2f, want %.2f", o, got, c.luminance)
						}
					}
				}
				if !errors.Is(err, c.err) || err != nil && !strings.HasSuffix(err.Error(), c.text) {
					t.Errorf("%+v: %v, want %v with %q", o, err, c.err, c.text)
				}
			}
		})
	}
}

func (p plane) mean() float64 {
	sum := 0
	for y := range p.height {
		for x := range p.width {
			sum += p.at(x, y)
		}
	}
	return float64(sum) / float64(p.width*p.height)
}
