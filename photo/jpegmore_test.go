package photo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mienproject/mien/photo"
)

// testSamplings are sampling factors that libjpeg reads, h<<4 | v for each
// component.
var testSamplings = [][]int{
	{0x22}, // which counts as 1×1
	{0x11, 0x11, 0x11},
	{0x21, 0x11, 0x11},
	{0x12, 0x11, 0x11},
	{0x22, 0x11, 0x11},
	{0x41, 0x11, 0x11},
	{0x42, 0x11, 0x11},
	{0x22, 0x21, 0x21},
	{0x41, 0x21, 0x21},
	{0x22, 0x22, 0x22},
	// The standard library rejects these:
	{0x31, 0x11, 0x11},
	{0x13, 0x11, 0x11},
	{0x32, 0x11, 0x11},
	{0x33, 0x11, 0x11},
	{0x14, 0x11, 0x11},
	{0x24, 0x11, 0x11},
	{0x44, 0x11, 0x11},
	{0x11, 0x21, 0x21},
	{0x11, 0x22, 0x22},
	{0x11, 0x22, 0x11},
	{0x12, 0x21, 0x11},
	{0x11, 0x31, 0x11},
	{0x11, 0x41, 0x12},
	{0x22, 0x11, 0x12},
	{0x22, 0x21, 0x12},
	{0x21, 0x12, 0x11},
	{0x33, 0x31, 0x13},
	{0x22, 0x22, 0x11},
	// Four components, of which it reads the first two:
	{0x11, 0x11, 0x11, 0x11},
	{0x22, 0x11, 0x11, 0x22},
	{0x21, 0x11, 0x11, 0x21},
	{0x11, 0x21, 0x12, 0x22},
}

func samplingName(sampling []int) string {
	var names []string
	for _, s := range sampling {
		names = append(names, fmt.Sprintf("%dx%d", s>>4, s&15))
	}
	return strings.Join(names, ",")
}

// testScripts are scripts of scans for n components, by name.
func testScripts(n int) map[string][]testScan {
	scripts := map[string][]testScan{"interleaved": interleaved(n), "progressive": progressive(n)}
	if n > 1 {
		scripts["separate"] = separate(n)
		scripts["chroma interleaved"] = []testScan{
			{components: []int{0}, last: 63}, {components: []int{1, 2}, last: 63},
		}
		if n > 3 {
			scripts["chroma interleaved"] = append(scripts["chroma interleaved"], testScan{components: []int{3}, last: 63})
		}
	}
	return scripts
}

// forTestJPEGs calls f with JPEGs of all samplings, scripts and restart intervals.
func forTestJPEGs(t *testing.T, f func(t *testing.T, j *testJPEG)) {
	for _, sampling := range testSamplings {
		for script, scans := range testScripts(len(sampling)) {
			restarts := []int{0, 1, 3, 100}
			if testing.Short() {
				restarts = []int{0, 3}
			}
			for _, restart := range restarts {
				for _, size := range []image.Point{{37, 23}, {97, 121}} {
					if slices.ContainsFunc(scans, func(s testScan) bool { return unitBlocks(sampling, s) > 10 }) {
						continue
					}
					for _, adobe := range []int{-1, 0, 2} {
						if adobe >= 0 && len(sampling) < 3 || adobe < 0 && len(sampling) > 3 || adobe == 2 && len(sampling) == 3 {
							continue
						}
						j := &testJPEG{
							width: size.X, height: size.Y, sampling: sampling, script: scans,
							progressive: script == "progressive", restart: restart, adobe: adobe,
						}
						name := fmt.Sprintf("%s/%s/restart %d/%v/adobe %d", samplingName(sampling), script, restart, size, adobe)
						t.Run(name, func(t *testing.T) { f(t, j) })
					}
				}
			}
		}
	}
}

// want returns the image of a testJPEG by definition: each pixel has the samples that
// cover it.
func (j *testJPEG) want(t testing.TB) image.Image {
	t.Helper()
	var planes []plane
	for i := range j.sampling {
		planes = append(planes, j.component(t, i))
	}
	h, v := j.largest()
	r := image.Rect(0, 0, j.width, j.height)
	rgba, cmyk, gray := image.NewRGBA(r), image.NewCMYK(r), image.NewGray(r)
	ycc := image.NewYCbCr(r, image.YCbCrSubsampleRatio444)
	for y := range j.height {
		for x := range j.width {
			var c [4]uint8
			for i, p := range planes {
				c[i] = uint8(p.at(x*(j.sampling[i]>>4)/h, y*(j.sampling[i]&15)/v))
			}
			at := ycc.YOffset(x, y)
			gray.Pix[at], ycc.Y[at], ycc.Cb[at], ycc.Cr[at] = c[0], c[0], c[1], c[2]
			rgba.SetRGBA(x, y, color.RGBA{c[0], c[1], c[2], 255})
			if j.adobe == 2 {
				c[0], c[1], c[2] = color.YCbCrToRGB(c[0], c[1], c[2])
			} else {
				c[0], c[1], c[2] = 255-c[0], 255-c[1], 255-c[2]
			}
			cmyk.SetCMYK(x, y, color.CMYK{c[0], c[1], c[2], 255 - c[3]})
		}
	}
	switch {
	case len(planes) == 1:
		return gray
	case len(planes) == 4:
		return cmyk
	case j.adobe == 0:
		return rgba
	}
	return ycc
}

// samePixels compares two images, whose chroma subsampling may differ.
func samePixels(got, want image.Image) error {
	if got.Bounds() != want.Bounds() || fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
		return fmt.Errorf("%T of %v, want %T of %v", got, got.Bounds(), want, want.Bounds())
	}
	for y := range got.Bounds().Dy() {
		for x := range got.Bounds().Dx() {
			if a, b := got.At(x, y), want.At(x, y); a != b {
				return fmt.Errorf("(%d, %d) is %v, want %v", x, y, a, b)
			}
		}
	}
	return nil
}

// TestJPEGSampling checks that each component is as image/jpeg decodes it alone,
// whatever the sampling factors, the scans and the restart interval.
func TestJPEGSampling(t *testing.T) {
	forTestJPEGs(t, func(t *testing.T, j *testJPEG) {
		data, _ := j.encode()
		want := j.want(t)
		if err := samePixels(decode(t, data), want); err != nil {
			t.Fatal(err)
		}
		if err := asStandard(data); err != nil {
			t.Error(err)
		}
		turned, upright := planesOf(decode(t, withOrientation(data, 6)))[0], planesOf(want)[0]
		for y := range j.height {
			for x := range j.width {
				if got, want := turned.at(j.height-1-y, x), upright.at(x, y); got != want {
					t.Fatalf("turned, (%d, %d) is %v, want %v", x, y, got, want)
				}
			}
		}
		if !j.progressive {
			j.noTables = true
			data, _ = j.encode()
			if err := samePixels(decode(t, data), want); err != nil {
				t.Errorf("without Huffman tables: %v", err)
			}
		}
	})
}

func TestReducedJPEGSampling(t *testing.T) {
	forTestJPEGs(t, func(t *testing.T, j *testJPEG) {
		if j.restart > 0 || j.width < 50 || len(j.sampling) > 3 || j.adobe >= 0 {
			t.Skip("no reduction, or tested with others")
		}
		data, _ := j.encode()
		for _, reduce := range []int{2, 4, 8} {
			for _, orientation := range []int{1, 6} {
				checkReduced(t, withOrientation(data, orientation), reduce, 0.6, 6)
			}
		}
	})
}

// TestJPEGRejected checks that features which libjpeg rejects, or which only some of
// its builds support, are rejected with their name.
func TestJPEGRejected(t *testing.T) {
	base := &testJPEG{width: 20, height: 20, sampling: []int{0x11, 0x11, 0x11}, script: interleaved(3), adobe: -1}
	data, _ := base.encode()
	sof := bytes.Index(data, []byte{0xff, 0xc0})
	with := func(offset int, value byte) []byte {
		data := bytes.Clone(data)
		data[sof+offset] = value
		return data
	}
	for _, c := range []struct {
		name string
		data []byte
		text string
	}{
		{"arithmetic", read(t, "arithmetic.jpg"), "arithmetic coding (SOF9)"},
		{"progressive, arithmetic", with(1, 0xca), "arithmetic coding (SOF10)"},
		{"lossless", with(1, 0xc3), "lossless coding (SOF3)"},
		{"lossless, arithmetic", with(1, 0xcb), "lossless arithmetic coding (SOF11)"},
		{"hierarchical", with(1, 0xc5), "hierarchical coding (SOF5)"},
		{"JPEG-LS", append([]byte{0xff, 0xd8, 0xff, 0xf7}, data[sof+2:]...), "JPEG-LS (SOF55)"},
		{"12 bits", with(4, 12), "12-bit samples"},
		{"two components", with(9, 2), "2 components"},
		{"sampling that does not divide", with(11, 0x31), ""},
		{"fractional sampling", bytes.Replace(with(11, 0x31), []byte{2, 0x11, 0}, []byte{2, 0x21, 0}, 1), "sampling factors of 2×1 that do not divide the largest ones, 3×1"},
		{"CMYK or not", func() []byte {
			j := &testJPEG{width: 20, height: 20, sampling: []int{0x11, 0x11, 0x11, 0x11}, script: interleaved(4), adobe: -1}
			data, _ := j.encode()
			return data
		}(), "four components without an Adobe marker"},
	} {
		_, err := photo.Open(c.data, photo.Limits{})
		if c.text == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, photo.ErrUnsupportedFormat) || !strings.Contains(err.Error(), "this JPEG has an unsupported feature: "+c.text) {
			t.Errorf("%s: %v, want ErrUnsupportedFormat with %q in it", c.name, err, c.text)
		}
	}
	_, err := photo.Open(with(11, 0x51), photo.Limits{})
	if !errors.Is(err, photo.ErrCorrupt) || !strings.Contains(err.Error(), "sampling factors of 5×1; the format allows 1 to 4") {
		t.Error(err)
	}
}

// TestJPEGWithoutEnd checks that a file without its end marker, or with half of it,
// decodes to the same image.
func TestJPEGWithoutEnd(t *testing.T) {
	check := func(name string, data []byte) {
		want := decode(t, data)
		for n := 1; n <= 2; n++ {
			if err := samePixels(decode(t, data[:len(data)-n]), want); err != nil {
				t.Errorf("%s without its last %d bytes: %v", name, n, err)
			}
		}
		// Without some of its data it is an error.
		p, err := photo.Open(data[:len(data)-4], photo.Limits{})
		if err == nil {
			_, err = p.Decode(t.Context())
		}
		if !errors.Is(err, photo.ErrCorrupt) || !strings.Contains(err.Error(), "the file ends early") {
			t.Errorf("%s without its last 4 bytes: %v", name, err)
		}
	}
	for name, data := range jpegs(t) {
		if filepath.Dir(name) == "." && name != "arithmetic.jpg" {
			check(name, data)
		}
	}
	for script, scans := range testScripts(3) {
		j := &testJPEG{width: 50, height: 50, sampling: []int{0x22, 0x11, 0x11}, script: scans, progressive: script == "progressive", adobe: -1}
		data, _ := j.encode()
		check(script, data)
	}
}

// TestJPEGCutShort checks that a file which is cut short gives an error that says how
// much of it is left: the share of its blocks or, if a progressive file has all blocks,
// the share of their detail.
func TestJPEGCutShort(t *testing.T) {
	for _, sampling := range [][]int{{0x11}, {0x22, 0x11, 0x11}, {0x31, 0x11, 0x11}} {
		for script, scans := range testScripts(len(sampling)) {
			t.Run(samplingName(sampling)+"/"+script, func(t *testing.T) {
				j := &testJPEG{width: 97, height: 121, sampling: sampling, script: scans, progressive: script == "progressive", restart: 5, adobe: -1}
				data, cuts := j.cuts()
				if _, err := decodeError(t, data[:cuts[len(cuts)-1].end]); err != nil {
					t.Errorf("nothing is missing, but: %v", err)
				}
				step := 1
				if testing.Short() {
					step = 7
				}
				detail := 0
				for i := 0; i < len(cuts)-1; i += step {
					detail = cuts[i].check(t, data, detail)
				}
				if j.progressive && detail < 95 {
					t.Errorf("the cut at %d of %d bytes leaves %d %% of the detail, want 95 or more", cuts[len(cuts)-2].end, len(data), detail)
				}
			})
		}
	}
}

// jpegCut is a cut after a unit of a scan, and what the error must say.
type jpegCut struct {
	unit, scan int
	end        int  // bytes that are left
	min, max   int  // percentage of the blocks
	complete   bool // all blocks are left, so the error must say how much of their detail is
}

// cuts returns the file, and all cuts after a unit. The last one loses nothing but the
// end marker.
func (j *testJPEG) cuts() (data []byte, cuts []jpegCut) {
	data, ends := j.encode()
	// In progressive files, blocks are counted in the first scan only, which has DC.
	newBlocks := make([]int, len(j.script)) // in each unit of each scan
	total := 0
	for s, scan := range j.script {
		if s == 0 || !j.progressive {
			newBlocks[s] = unitBlocks(j.sampling, scan)
			total += newBlocks[s] * len(ends[s])
		}
	}
	left := 0
	for s := range j.script {
		for n, end := range ends[s] {
			left += newBlocks[s]
			if data[end-1] == 0xff {
				end++ // the stuffed zero
			}
			// The byte at the cut may contain the next units as well.
			most := min(left+3*newBlocks[s], total)
			cuts = append(cuts, jpegCut{n, s, end, 100 * left / total, 100 * most / total, left == total})
		}
	}
	return data, cuts
}

// check decodes data up to the cut, which must leave at least as much detail as an
// earlier cut does. It returns the percentage of the detail.
func (c jpegCut) check(t *testing.T, data []byte, detail int) int {
	t.Helper()
	_, err := decodeError(t, data[:c.end])
	if !errors.Is(err, photo.ErrCorrupt) {
		t.Fatalf("cut after unit %d of scan %d: %v", c.unit, c.scan, err)
	}
	if !c.complete {
		if got := percentIn(percentOfBlocks, err); got < c.min || got > c.max {
			t.Errorf("cut after unit %d of scan %d: %v, want %d to %d %%", c.unit, c.scan, err, c.min, c.max)
		}
		return detail
	}
	got := percentIn(percentOfDetail, err)
	if got < detail {
		t.Errorf("cut after unit %d of scan %d: %v, but an earlier cut leaves %d %%", c.unit, c.scan, err, detail)
	}
	return got
}

// TestJPEGEarlyEndMarker checks that an end marker in the middle is a cut as well.
func TestJPEGEarlyEndMarker(t *testing.T) {
	j := &testJPEG{width: 97, height: 121, sampling: []int{0x22, 0x11, 0x11}, script: interleaved(3), adobe: -1}
	data, ends := j.encode()
	at := ends[0][len(ends[0])/2]
	_, err := decodeError(t, append(bytes.Clone(data[:at]), 0xff, 0xd9))
	if !errors.Is(err, photo.ErrCorrupt) || percentIn(percentOfBlocks, err) != 51 {
		t.Errorf("with an end marker after 29 of 56 units: %v", err)
	}
}

var (
	percentOfBlocks = regexp.MustCompile(`JPEG: the file ends early: it contains (less than 1|\d+) % of the image$`)
	percentOfDetail = regexp.MustCompile(`JPEG: the file ends early: it contains all of the image, with (less than 1|\d+) % of its detail$`)
)

// percentIn returns the percentage in the message of err, or -1 if there is none.
func percentIn(pattern *regexp.Regexp, err error) int {
	m := pattern.FindStringSubmatch(err.Error())
	if m == nil {
		return -1
	}
	percent, _ := strconv.Atoi(m[1]) // "less than 1" is 0
	return percent
}

func decodeError(t *testing.T, data []byte) (image.Image, error) {
	p, err := photo.Open(data, photo.Limits{})
	if err != nil {
		return nil, err
	}
	return p.Decode(t.Context())
}

// restartJPEG is a JPEG with restart markers, and what it decodes to.
type restartJPEG struct {
	*testJPEG
	data    []byte
	markers []int // the offsets of the restart markers
	whole   image.Image
}

func newRestartJPEG(t *testing.T, sampling []int) *restartJPEG {
	t.Helper()
	f := &restartJPEG{testJPEG: &testJPEG{width: 97, height: 121, sampling: sampling, script: interleaved(len(sampling)), restart: 7, adobe: -1}}
	data, ends := f.encode()
	f.data, f.whole = data, decode(t, data)
	for i := ends[0][0]; i < len(data)-2; i++ {
		if data[i] == 0xff && data[i+1]&0xf8 == 0xd0 {
			f.markers = append(f.markers, i)
		}
	}
	if want := (len(ends[0]) - 1) / f.restart; len(f.markers) != want {
		t.Fatalf("%d restart markers, want %d", len(f.markers), want)
	}
	return f
}

// without returns the file without those markers.
func (f *restartJPEG) without(lost ...int) []byte {
	out := bytes.Clone(f.data)
	for _, i := range slices.Backward(lost) {
		out = slices.Delete(out, f.markers[i], f.markers[i]+2)
	}
	return out
}

// check wants the intervals after the lost markers to be gray in img, and all other
// pixels to be unchanged.
func (f *restartJPEG) check(t *testing.T, img image.Image, lost []int) {
	t.Helper()
	gray := color.Color(color.YCbCr{128, 128, 128})
	across, _ := f.units()
	h, v := f.largest()
	if len(f.sampling) == 1 {
		h, v, gray = 1, 1, color.Gray{128}
	}
	for y := range f.height {
		for x := range f.width {
			interval := (y/(8*v)*across + x/(8*h)) / f.restart
			want := f.whole.At(x, y)
			if slices.Contains(lost, interval-1) {
				want = gray
			}
			if got := img.At(x, y); got != want {
				t.Fatalf("(%d, %d) is %v, want %v", x, y, got, want)
			}
		}
	}
}

// forRestartJPEGs calls test with files of several samplings.
func forRestartJPEGs(t *testing.T, test func(t *testing.T, f *restartJPEG)) {
	for _, sampling := range [][]int{{0x11}, {0x22, 0x11, 0x11}, {0x21, 0x11, 0x11}} {
		t.Run(samplingName(sampling), func(t *testing.T) { test(t, newRestartJPEG(t, sampling)) })
	}
}

// TestJPEGLostRestartMarker checks that a lost restart marker costs the blocks up to the
// next one, which become gray, and no others.
func TestJPEGLostRestartMarker(t *testing.T) {
	type loss struct {
		name string
		data []byte
		lost []int
	}
	forRestartJPEGs(t, func(t *testing.T, f *restartJPEG) {
		var losses []loss
		for i, at := range f.markers {
			damaged := bytes.Clone(f.data)
			damaged[at+1] = 0 // turns the marker into data
			losses = append(losses,
				loss{fmt.Sprintf("marker %d lost", i), f.without(i), []int{i}},
				loss{fmt.Sprintf("marker %d damaged", i), damaged, []int{i}})
		}
		for i := 1; i+1 < len(f.markers); i++ {
			losses = append(losses, loss{fmt.Sprintf("markers %d and %d lost", i-1, i), f.without(i-1, i), []int{i - 1, i}})
		}
		for _, l := range losses {
			t.Run(l.name, func(t *testing.T) { f.check(t, decode(t, l.data), l.lost) })
		}
	})
}

// TestJPEGThreeLostRestartMarkers checks that three lost markers in a row are an error,
// as in libjpeg.
func TestJPEGThreeLostRestartMarkers(t *testing.T) {
	forRestartJPEGs(t, func(t *testing.T, f *restartJPEG) {
		for i := 2; i+1 < len(f.markers); i++ {
			if _, err := decodeError(t, f.without(i-2, i-1, i)); !errors.Is(err, photo.ErrCorrupt) {
				t.Errorf("markers %d to %d: %v", i-2, i, err)
			}
		}
	})
}

func TestReducedJPEGLostRestartMarker(t *testing.T) {
	forRestartJPEGs(t, func(t *testing.T, f *restartJPEG) {
		p, err := photo.Open(f.without(2), photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []photo.Options{{Gray: true}, {Reduce: 2}, {Gray: true, Reduce: 8}} {
			if _, err := p.Reduced(o).Decode(t.Context()); err != nil {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}

// TestJPEGCutBeforeRestartMarker checks that a file which ends before a marker is cut
// short, and not taken as one that has lost the marker.
func TestJPEGCutBeforeRestartMarker(t *testing.T) {
	forRestartJPEGs(t, func(t *testing.T, f *restartJPEG) {
		for _, end := range []string{"", "\xff\xd9"} {
			cut := append(bytes.Clone(f.data[:f.markers[3]]), end...)
			if _, err := decodeError(t, cut); !errors.Is(err, photo.ErrCorrupt) || !percentOfBlocks.MatchString(err.Error()) {
				t.Errorf("with %q at the end: %v", end, err)
			}
		}
	})
}

// TestProgressiveJPEGLostRestartMarker checks that a marker lost in one scan leaves the
// rest of the file decodable.
func TestProgressiveJPEGLostRestartMarker(t *testing.T) {
	j := &testJPEG{width: 97, height: 121, sampling: []int{0x22, 0x11, 0x11}, script: progressive(3), progressive: true, restart: 7, adobe: -1}
	data, ends := j.encode()
	whole := decode(t, data)
	for s := range ends {
		at := ends[s][6]
		if data[at] == 0 { // a stuffed byte
			at++
		}
		if !bytes.Equal(data[at:at+2], []byte{0xff, 0xd0}) {
			t.Fatalf("no marker at the end of unit 6 of scan %d: %x", s, data[at:at+2])
		}
		img, err := decodeError(t, slices.Delete(bytes.Clone(data), at, at+2))
		if err != nil {
			t.Errorf("scan %d: %v", s, err)
			continue
		}
		if got, want := img.At(96, 120), whole.At(96, 120); got != want {
			t.Errorf("scan %d: the last pixel is %v, want %v", s, got, want)
		}
	}
}

func TestJPEGMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's build allocates more")
	}
	for _, sampling := range testSamplings {
		for _, adobe := range []int{-1, 0, 2} {
			if adobe >= 0 && len(sampling) < 3 || adobe < 0 && len(sampling) > 3 || adobe == 2 && len(sampling) == 3 {
				continue
			}
			for script, scans := range testScripts(len(sampling)) {
				if script != "separate" && script != "progressive" {
					continue
				}
				if script == "progressive" { // the usual script has an interleaved first scan
					var one []testScan
					for i := range sampling {
						one = append(one, testScan{[]int{i}, 0, 0, 0, 0}, testScan{[]int{i}, 1, 63, 0, 0})
					}
					scans = one
				}
				j := &testJPEG{width: 611, height: 497, sampling: sampling, script: scans, progressive: script == "progressive", adobe: adobe}
				data, _ := j.encode()
				for _, orientation := range []int{1, 6} {
					p, err := photo.Open(withOrientation(data, orientation), photo.Limits{})
					if err != nil {
						t.Fatal(err)
					}
					for _, reduce := range []int{1, 2, 8} {
						for _, gray := range []bool{false, true} {
							q := p.Reduced(photo.Options{Gray: gray, Reduce: reduce})
							used := allocated(func() { _, err = q.Decode(t.Context()) })
							if err != nil {
								t.Fatal(err)
							}
							const slack = 64 << 10 // allocated by the test itself
							if used > q.MemoryBytes+slack || q.MemoryBytes > used+used/4+300<<10 {
								t.Errorf("%s, %s, adobe %d, orientation %d, reduced by %d, gray %v: %d bytes, MemoryBytes is %d",
									samplingName(sampling), script, adobe, orientation, reduce, gray, used, q.MemoryBytes)
							}
						}
					}
				}
			}
		}
	}
}

// TestJPEGCapacity checks that the capacity is larger if luma is smaller than the
// image, but not unlimited.
func TestJPEGCapacity(t *testing.T) {
	j := &testJPEG{width: 3000, height: 3000, sampling: []int{0x11, 0x22, 0x22}, script: separate(3), adobe: -1}
	across, down := j.units()
	for _, s := range j.sampling { // one color, which makes the smallest file
		j.blocks = append(j.blocks, make([][64]int, across*down*(s>>4)*(s&15)))
	}
	data, _ := j.encode()
	if got, want := decode(t, data).At(2999, 2999), (color.YCbCr{128, 128, 128}); got != want {
		t.Errorf("the last pixel is %v, want %v", got, want)
	}
	sof := bytes.Index(data, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(data[sof+5:], 65000)
	binary.BigEndian.PutUint16(data[sof+7:], 65000)
	if _, err := photo.Open(data, photo.Limits{}); !errors.Is(err, photo.ErrTooManyPixels) {
		t.Error(err)
	}
	binary.BigEndian.PutUint16(data[sof+5:], 40000)
	binary.BigEndian.PutUint16(data[sof+7:], 40000)
	if _, err := photo.Open(data, photo.Limits{}); !errors.Is(err, photo.ErrCorrupt) || !strings.Contains(err.Error(), "the header says") {
		t.Error(err)
	}
}
