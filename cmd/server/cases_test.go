package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/service"
)

// TestCases checks that a default server answers each of the shared cases, small files
// that some decoder got wrong, as their README says: with its size and its face, or
// with the reason of an error.
func TestCases(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "cases")
	files, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to have the shared cases")
		}
		t.Skip("needs ../shared/cases, which are not part of the repository")
	}
	type answer struct {
		width, height, faces int
		reason               string
	}
	one := answer{160, 200, 1, ""}    // the sample image
	turned := answer{200, 160, 1, ""} // MTCNN finds the face on its side
	broken, unsupported := answer{reason: "CORRUPT_IMAGE"}, answer{reason: "UNSUPPORTED_FORMAT"}
	want := map[string]answer{
		"bmp_16_555.bmp":                 one,
		"bmp_reserved_nonzero.bmp":       one,
		"bmp_v4_32_alpha0_rgb.bmp":       one,
		"bmp_v5_32_alpha0_bitfields.bmp": one,
		"bmp_v5_32_alpha0_rgb.bmp":       one,

		"gif_frame_larger_than_screen.gif":  one,
		"gif_not_enough_data.gif":           broken,
		"gif_stray_byte_between_blocks.gif": one,
		"gif_too_much_data.gif":             {160, 196, 1, ""},
		"gif_zero_screen.gif":               one,

		"jpeg_arithmetic.jpg":            unsupported,
		"jpeg_chroma_finer.jpg":          one,
		"jpeg_cut_eoi_half.jpg":          one,
		"jpeg_no_dht_mjpeg.jpg":          one,
		"jpeg_no_eoi.jpg":                one,
		"jpeg_prog_truncated_90.jpg":     broken,
		"jpeg_progressive_restart_3.jpg": {193, 241, 1, ""},
		"jpeg_rst_missing_one.jpg":       one,
		"jpeg_sampling_2x2_1x1_1x2.jpg":  one,
		"jpeg_sampling_3x1.jpg":          one,
		"jpeg_scans_restart_3.jpg":       {193, 241, 1, ""},
		"jpeg_truncated_90.jpg":          broken,
		"jpeg_xmp_only6.jpg":             turned,

		"png_bad_crc_iccp.png":          one,
		"png_bad_crc_text.png":          one,
		"png_exif6_ztxt_rawprofile.png": turned,
		"png_no_iend.png":               one,
		"png_too_much_data.png":         one,
		"png_xmp_orientation6.png":      turned,

		"raw_dng_like_thumbnail.tif":       unsupported,
		"tiff_big.tif":                     unsupported,
		"tiff_cmyk.tif":                    one,
		"tiff_float.tif":                   unsupported,
		"tiff_g3.tif":                      {160, 200, 1, ""}, // black and white
		"tiff_g4.tif":                      {160, 200, 1, ""},
		"tiff_jpeg.tif":                    one,
		"tiff_planar_strip.tif":            one,
		"tiff_planar_tiled_16.tif":         one,
		"tiff_planar_tiled_16_garbage.tif": {100, 40, 0, ""}, // a part of the image
		"tiff_planar_tiled_8.tif":          one,
		"tiff_rgb_extra_unspecified.tif":   one,
		"tiff_zstd.tif":                    unsupported,

		"webp_alpha.webp":     one,
		"webp_anim.webp":      one,
		"webp_exif_vp8x.webp": one,
		"webp_grey0.webp":     {64, 64, 0, ""},
		"webp_grey128.webp":   {64, 64, 0, ""},
		"webp_grey255.webp":   {64, 64, 0, ""},
		"webp_lossy.webp":     one,
		"webp_trailing.webp":  one,
	}
	// For these files, the number of faces is checked too.
	ofModels := []string{"checked_shirt.jpeg", "tall600x11928.jpg", "tilted_head.png", "README.md"}

	s := start(t)
	client := httpClient(t, 1, nil)
	for _, file := range files {
		name := filepath.Base(file)
		if slices.Contains(ofModels, name) {
			continue
		}
		w, listed := want[name]
		if !listed {
			t.Errorf("%s is not in the table", name)
			continue
		}
		data := readFile(t, file)
		for _, door := range []struct {
			path string
			body []byte
		}{{"/predict", data}, {"/inference.v1.Inference/Predict", jsonOf(data)}} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+door.path, bytes.NewReader(door.body))
			if err != nil {
				t.Fatal(err)
			}
			asJSON := door.path != "/predict"
			if asJSON {
				req.Header.Set("Content-Type", "application/json")
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Width, Height int
				Results       []struct{}
				Details       []struct{ Debug struct{ Reason string } }
			}
			err = json.NewDecoder(res.Body).Decode(&got)
			_ = res.Body.Close()
			reason := res.Header.Get(service.ReasonHeader)
			if len(got.Details) > 0 {
				reason = got.Details[0].Debug.Reason
			}
			if err != nil || reason != w.reason || len(got.Results) != w.faces || asJSON && (got.Width != w.width || got.Height != w.height) {
				t.Errorf("%s at %s: %s %s, %+v, %v; want %+v", name, door.path, res.Status, reason, got, err, w)
			}
		}
	}
	for name := range want {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, string(filepath.Separator)+name) }) {
			t.Errorf("%s is not there", name)
		}
	}
}
