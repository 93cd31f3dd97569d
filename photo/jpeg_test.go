package photo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"io/fs"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/photo"
)

// jpegs are the JPEGs of testdata.
func jpegs(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, pattern := range []string{"*.jpg", "large/*.jpg"} {
		names, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(names) == 0 {
			t.Fatal("no files: ", err)
		}
		for _, name := range names {
			name, _ = filepath.Rel("testdata", name)
			files[name] = read(t, name)
		}
	}
	return files
}

// standardKnows says what can be concluded from the result of the standard library.
type standardKnows int

const (
	standardRejects   standardKnows = iota // it rejects the file, as it should
	standardLacks                          // it rejects a feature that this package reads
	standardMiscount                       // it decodes the file wrongly: see standardMiscounts
	standardKeepsMore                      // of damaged coefficients: see isWide
	standardReads
)

// standard decodes data with the standard library. If the library needs Huffman tables
// or an end marker that the file does not have, standard adds them.
func standard(data []byte) (image.Image, standardKnows) {
	if standardMiscounts(data) {
		return nil, standardMiscount
	}
	if isWide(data) {
		return nil, standardKeepsMore
	}
	return standardMended(data, false, false)
}

func standardMended(data []byte, ended, tabled bool) (image.Image, standardKnows) {
	img, err := jpeg.Decode(bytes.NewReader(data))
	switch {
	case err == nil:
		return img, standardReads
	case errors.Is(err, io.ErrUnexpectedEOF) && !ended:
		img, knows := standardMended(slices.Concat(data, []byte{0xff, 0xd9}), true, tabled)
		if last := bytes.LastIndexByte(data, 0xff); last > 0 && knows == standardRejects {
			// The file ends within a marker or its segment.
			img, knows = standardMended(slices.Concat(data[:last], []byte{0xff, 0xd9}), true, tabled)
		}
		return img, knows
	case strings.Contains(err.Error(), "uninitialized Huffman table") && !tabled:
		return standardMended(slices.Concat(data[:2], standardDHT(), data[2:]), ended, true)
	case strings.Contains(err.Error(), "subsampling ratio"), strings.Contains(err.Error(), "bad RST marker"):
		return nil, standardLacks
	}
	return nil, standardRejects
}

// standardMiscounts reports whether a JPEG has a scan of one of several components,
// some of them subsampled, for which the standard library counts blocks or restart
// intervals in MCUs. T.81, A.2.2 says that the blocks of the component count.
func standardMiscounts(data []byte) bool {
	var sampling map[byte]int
	width, height, h, v, restart := 0, 0, 0, 0, false
	for marker, p := range segments(data) {
		switch {
		case marker >= 0xc0 && marker <= 0xc2 && sampling == nil && len(p) >= 6:
			sampling = map[byte]int{}
			height, width = int(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint16(p[3:]))
			for c := p[6:]; len(c) >= 3; c = c[3:] {
				sampling[c[0]] = int(c[1])
				h, v = max(h, int(c[1]>>4)), max(v, int(c[1]&15))
			}
		case marker == 0xdd && len(p) == 2:
			restart = p[0]|p[1] > 0
		case marker == 0xda && len(p) == 6 && len(sampling) > 1 && h*v > 1:
			s := sampling[p[1]]
			blocks := func(size, factor, largest int) bool {
				own := (size*factor + 8*largest - 1) / (8 * largest)
				return own != min((size+8*largest-1)/(8*largest)*factor, (size+7)/8)
			}
			if restart || blocks(width, s>>4, h) || blocks(height, s&15, v) {
				return true
			}
		}
	}
	return false
}

// segments returns the segments of a JPEG that have a length, with their markers, up to the end
// marker or the first segment that is damaged.
func segments(data []byte) iter.Seq2[byte, []byte] {
	return func(yield func(byte, []byte) bool) {
		for i := 2; i+4 <= len(data); {
			if data[i] != 0xff || data[i+1] == 0 || data[i+1] == 0xff || data[i+1]&0xf8 == 0xd0 {
				i++
				continue
			}
			marker, size := data[i+1], int(binary.BigEndian.Uint16(data[i+2:]))
			if marker == 0xd9 || size < 2 || size > len(data)-i-2 || !yield(marker, data[i+4:][:size-2]) {
				return
			}
			i += 2 + size
		}
	}
}

// isWide reports whether the Huffman tables and scans of a progressive JPEG allow for AC
// coefficients of 15 bits or more and a sign. Valid ones have 10. This package and libjpeg keep
// 16 bits of each with its sign, and the standard library 32.
func isWide(data []byte) bool {
	progressive, size, low := false, byte(0), byte(0)
	for marker, p := range segments(data) {
		progressive = progressive || marker == 0xc2
		if marker == 0xda && len(p) > 0 {
			low = max(low, p[len(p)-1]&15)
		}
	}
	for table := range huffmanTables(data) {
		if table[0]>>4 == 1 {
			for _, symbol := range table[17:] {
				size = max(size, symbol&15)
			}
		}
	}
	return progressive && size+low > 14
}

// asStandard returns an error unless the result for data is that of the standard
// library: the same samples, bit for bit, or an error. It allows the differences that
// standardKnows lists.
func asStandard(data []byte) error {
	p, err := photo.Open(data, photo.Limits{MaxPixels: 4 << 20})
	if err != nil {
		return nil // rejected before any decoder was asked
	}
	img, err := p.Decode(context.Background())
	if !known(err) {
		return err
	}
	std, knows := standard(data)
	switch {
	case err == nil && knows == standardRejects:
		return errors.New("the standard library rejects it")
	case err != nil && knows == standardReads:
		if _, stdErr := jpeg.Decode(bytes.NewReader(data)); stdErr == nil {
			return fmt.Errorf("the error is %w, the standard library has none", err)
		}
	}
	gray, grayErr := p.Reduced(photo.Options{Gray: true}).Decode(context.Background())
	eighth, eighthErr := p.Reduced(photo.Options{Reduce: 8}).Decode(context.Background())
	if !known(grayErr) || !known(eighthErr) || fmt.Sprint(grayErr) != fmt.Sprint(err) || fmt.Sprint(eighthErr) != fmt.Sprint(err) {
		return fmt.Errorf("in gray the error is %w, at an eighth %w, in full %w", grayErr, eighthErr, err)
	}
	if err != nil {
		return nil
	}
	if p.Orientation != 1 {
		return nil // TestOrientation covers this
	}
	planes := planesOf(img)
	if knows == standardReads {
		if got, want := kind(img), kind(std); got != want || img.Bounds() != std.Bounds() {
			return fmt.Errorf("the image is %s of %v, the standard library's %s of %v", got, img.Bounds(), want, std.Bounds())
		}
		stdPlanes := planesOf(std)
		for i := range planes {
			if mean, most := planes[i].difference(stdPlanes[i]); most > 0 {
				return fmt.Errorf("plane %d is not the standard library's: off by %d, by %.3f on average", i, most, mean)
			}
		}
	}
	if len(planes) == 3 && kind(gray) == "*image.Gray" {
		if _, most := planesOf(gray)[0].difference(planes[0]); most > 0 {
			return fmt.Errorf("in gray, it is off by %d", most)
		}
	}
	if want := image.Pt((p.Width+7)/8, (p.Height+7)/8); len(planes) < 4 && eighth.Bounds().Size() != want {
		return fmt.Errorf("at an eighth it has %v, want %v", eighth.Bounds(), want)
	}
	return nil
}

// plane is a channel of an image.
type plane struct {
	pix                         []byte
	width, height, stride, step int
}

func (p plane) at(x, y int) int { return int(p.pix[y*p.stride+x*p.step]) }

// difference returns the mean and the largest difference of all samples.
func (p plane) difference(q plane) (mean float64, most int) {
	if p.width != q.width || p.height != q.height {
		return math.Inf(1), 255
	}
	sum := 0
	for y := range p.height {
		for x := range p.width {
			d := p.at(x, y) - q.at(x, y)
			d = max(d, -d)
			sum, most = sum+d, max(most, d)
		}
	}
	return float64(sum) / float64(p.width*p.height), most
}

func planesOf(img image.Image) []plane {
	size := img.Bounds().Size()
	four := func(pix []byte, stride int) (planes []plane) {
		for i := range 4 {
			planes = append(planes, plane{pix[i:], size.X, size.Y, stride, 4})
		}
		return planes
	}
	switch m := img.(type) {
	case *image.Gray:
		return []plane{{m.Pix, size.X, size.Y, m.Stride, 1}}
	case *image.YCbCr:
		last := m.COffset(size.X-1, size.Y-1)
		w, h := last%m.CStride+1, last/m.CStride+1
		return []plane{{m.Y, size.X, size.Y, m.YStride, 1}, {m.Cb, w, h, m.CStride, 1}, {m.Cr, w, h, m.CStride, 1}}
	case *image.NYCbCrA:
		return append(planesOf(&m.YCbCr), plane{m.A, size.X, size.Y, m.AStride, 1})
	case *image.RGBA:
		return four(m.Pix, m.Stride)
	case *image.CMYK:
		return four(m.Pix, m.Stride)
	}
	panic(fmt.Sprintf("%T", img))
}

func TestJPEGAsInStandardLibrary(t *testing.T) {
	for name, data := range jpegs(t) {
		if err := asStandard(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBrokenJPEGAsInStandardLibrary checks that a file which is cut short or damaged
// gives an error if it does in the standard library, and the same samples if it does
// not.
func TestBrokenJPEGAsInStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	step, rejected := 1, 0
	if testing.Short() {
		step = 5
	}
	for name, data := range jpegs(t) {
		if filepath.Dir(name) != "." {
			continue
		}
		check := func(what string, data []byte) {
			if err := asStandard(data); err != nil {
				t.Errorf("%s %s: %v", name, what, err)
			}
			if p, err := photo.Open(data, photo.Limits{}); err == nil {
				if _, err = p.Decode(t.Context()); err != nil {
					rejected++
				}
			}
		}
		for n := 0; n < len(data); n += step {
			check(fmt.Sprintf("cut to %d bytes", n), data[:n])
		}
		for range 200 / step {
			at, bit := 2+random.IntN(len(data)-2), random.IntN(8)
			broken := bytes.Clone(data)
			broken[at] ^= 1 << bit
			check(fmt.Sprintf("with bit %d of byte %d flipped", bit, at), broken)
		}
	}
	if rejected < 1000/step {
		t.Errorf("only %d of the broken files were rejected in decoding", rejected)
	}
}

// sharedJPEGs calls f with every JPEG of the labeled photographs in ../shared/faces, or
// with a tenth of them in short tests.
func sharedJPEGs(t *testing.T, f func(name string, data []byte)) {
	root := filepath.Join("..", "..", "shared", "faces")
	n := 0
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || strings.ToLower(filepath.Ext(path)) != ".jpg" {
			return err
		}
		if n++; testing.Short() && n%10 != 1 {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.HasPrefix(data, []byte("\xff\xd8")) { // some are PNGs
			f(path, data)
		}
		return err
	})
	switch {
	case err == nil && n > 0:
	case os.Getenv("CI") != "":
		t.Fatal("CI must have the labeled photographs: ", err)
	default:
		t.Skip("needs the labeled photographs of ../shared/faces, which are not part of the repository: ", err)
	}
}

func TestPhotographsAsInStandardLibrary(t *testing.T) {
	n, turned := 0, 0
	sharedJPEGs(t, func(name string, data []byte) {
		if p, err := photo.Open(data, photo.Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if p.Orientation != 1 {
			turned++
			// Without its orientation.
			data = append([]byte("\xff\xd8\xff\xfe\x00\x02"), data[2:]...)
			data = bytes.Replace(data, []byte("Exif\x00\x00"), []byte("none\x00\x00"), 1)
		}
		if err := asStandard(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		n++
	})
	t.Logf("%d photographs, of which %d were turned, have the standard library's samples", n, turned)
}

// TestReduced checks that a pixel of a reduced image is the mean of the pixels that it
// covers, in any orientation, whether or not the reduction divides the sides.
func TestReduced(t *testing.T) {
	for _, file := range []string{
		"444.jpg", "422.jpg", "440.jpg", "420.jpg", "411.jpg", "410.jpg", "444_even.jpg", "420_even.jpg",
		"gray.jpg", "progressive.jpg", "progressive_444.jpg", "progressive_gray.jpg", "scans.jpg", "restart.jpg",
	} {
		for orientation := 1; orientation <= 8; orientation++ {
			data := withOrientation(read(t, file), orientation)
			for _, reduce := range []int{2, 4, 8} {
				t.Run(fmt.Sprintf("%s/%d/%d", file, orientation, reduce), func(t *testing.T) {
					checkReduced(t, data, reduce, 0.6, 6)
				})
			}
		}
	}
}

// checkReduced compares each plane of the reduced image with the mean of the full one.
// They may differ by meanOff on average, and by mostOff in any sample: where the full
// image reaches black or white, its mean is different. It returns the largest
// differences.
func checkReduced(t *testing.T, data []byte, reduce int, meanOff float64, mostOff int) (worstMean float64, worst int) {
	t.Helper()
	p, err := photo.Open(data, photo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := p.Decode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	planes := planesOf(img)
	for _, gray := range []bool{false, true} {
		q := p.Reduced(photo.Options{Gray: gray, Reduce: reduce})
		img, err := q.Decode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := image.Pt((p.Width+reduce-1)/reduce, (p.Height+reduce-1)/reduce); image.Pt(q.Width, q.Height) != want || img.Bounds() != image.Rect(0, 0, want.X, want.Y) {
			t.Fatalf("%d×%d reduced by %d: %d×%d announced, %v decoded", p.Width, p.Height, reduce, q.Width, q.Height, img.Bounds())
		}
		if q.Reduction != reduce || q.Orientation != p.Orientation || q.Format != p.Format {
			t.Errorf("%+v reduced by %d is %+v", p, reduce, q)
		}
		if _, ok := img.(*image.Gray); gray && !ok {
			t.Errorf("asked for gray, got %T", img)
		}
		for i, small := range planesOf(img) {
			if i > 0 && p.Orientation != 1 {
				break // TestOrientation covers rotated chroma
			}
			full, sum, n, most := planes[i], 0, 0, 0
			for y := range small.height {
				for x := range small.width {
					x0, y0 := x*reduce-q.Inset.X, y*reduce-q.Inset.Y
					if x0 < 0 || y0 < 0 || x0+reduce > full.width || y0+reduce > full.height {
						continue // partly outside of the image
					}
					total := 0
					for v := range reduce {
						for u := range reduce {
							total += full.at(x0+u, y0+v)
						}
					}
					d := small.at(x, y) - (total+reduce*reduce/2)/(reduce*reduce)
					d = max(d, -d)
					sum, n, most = sum+d, n+1, max(most, d)
				}
			}
			// All samples inside of the image have been compared.
			if want := (full.width / reduce) * (full.height / reduce); n < want {
				t.Errorf("%d pixels lie inside, want %d", n, want)
			}
			mean := float64(sum) / float64(max(1, n))
			if mean > meanOff || most > mostOff {
				t.Errorf("plane %d is off by %.2f on average, by at most %d", i, mean, most)
			}
			worstMean, worst = max(worstMean, mean), max(worst, most)
		}
		// The corners of the image are within the image.
		left, top := q.FullSize(0, 0)
		right, bottom := q.FullSize(float64(q.Width), float64(q.Height))
		if r := float64(reduce); left > 0 || left <= -r || top > 0 || top <= -r ||
			right < float64(p.Width) || right >= float64(p.Width)+r || bottom < float64(p.Height) || bottom >= float64(p.Height)+r {
			t.Errorf("it covers from (%v, %v) to (%v, %v) of %d×%d", left, top, right, bottom, p.Width, p.Height)
		}
	}
	return worstMean, worst
}

func TestReducedPhotographs(t *testing.T) {
	for _, reduce := range []int{2, 4, 8} {
		worst, most, n := 0.0, 0, 0
		sharedJPEGs(t, func(name string, data []byte) {
			mean, off := checkReduced(t, data, reduce, 0.3, 40)
			worst, most, n = max(worst, mean), max(most, off), n+1
			if t.Failed() {
				t.Fatal(name)
			}
		})
		t.Logf("reduced by %d, %d photographs are off by at most %.3f on average, %d anywhere", reduce, n, worst, most)
	}
}

// TestReducedOthers checks that images which cannot be reduced are returned unchanged.
func TestReducedOthers(t *testing.T) {
	for _, file := range []string{"cmyk.jpg", "rgb.jpg", "rgb.png", "lossy.webp", "picture.gif"} {
		p, err := photo.Open(read(t, file), photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		q := p.Reduced(photo.Options{Gray: true, Reduce: 8})
		if q.Width != p.Width || q.Height != p.Height || q.Reduction != 1 || q.MemoryBytes != p.MemoryBytes {
			t.Errorf("%s: %+v became %+v", file, p, q)
		}
		img, err := q.Decode(t.Context())
		if err != nil {
			t.Error(err)
		} else if d := difference(img, decode(t, read(t, file))); d != 0 {
			t.Errorf("%s differs by %v", file, d)
		}
	}
	p, err := photo.Open(read(t, "420.jpg"), photo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for reduce, want := range map[int]int{-1: 1, 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 7: 4, 8: 8, 1000: 8} {
		if got := p.Reduced(photo.Options{Reduce: 2}).Reduced(photo.Options{Reduce: reduce}).Reduction; got != want {
			t.Errorf("of at most %d, %d was chosen, want %d", reduce, got, want)
		}
	}
	raw, err := photo.OpenRaw([]byte{1, 2, 3, 4}, photo.Gray8, 2, 2, photo.Limits{})
	if err != nil || raw.Reduced(photo.Options{Reduce: 8}).Reduction != 1 {
		t.Error(raw, err)
	}
}

func TestReducedMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's build allocates more")
	}
	for name, data := range jpegs(t) {
		if filepath.Dir(name) != "large" {
			continue
		}
		for _, orientation := range []int{1, 6} {
			p, err := photo.Open(withOrientation(data, orientation), photo.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for _, reduce := range []int{1, 2, 4, 8} {
				for _, gray := range []bool{false, true} {
					q := p.Reduced(photo.Options{Gray: gray, Reduce: reduce})
					used := allocated(func() { _, err = q.Decode(t.Context()) })
					if err != nil {
						t.Fatal(err)
					}
					const slack = 64 << 10 // allocated by the test itself
					if used > q.MemoryBytes+slack || q.MemoryBytes > 2*used+512<<10 && q.Reduction > 1 || q.MemoryBytes > p.MemoryBytes {
						t.Errorf("%s turned by %d, reduced by %d, gray %v: %d bytes, MemoryBytes is %d", name, orientation, reduce, gray, used, q.MemoryBytes)
					}
				}
			}
		}
	}
}

func TestCancelInScan(t *testing.T) {
	for _, file := range []string{"large/420.jpg", "large/progressive_420.jpg"} {
		p, err := photo.Open(read(t, file), photo.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 50 {
			ctx := &after{Context: t.Context(), n: n}
			if _, err := p.Decode(ctx); !errors.Is(err, ctx.Err()) || ctx.asked > n+3 {
				t.Fatalf("%s, ended after %d: %v, asked %d times", file, n, err, ctx.asked)
			}
		}
	}
}

// TestJPEGWideDC damages the tables of progressive JPEGs so that DC coefficients need more than
// 16 bits. The samples are still those of the standard library, which keeps 32, as the transform
// uses only the low 15 bits of them.
func TestJPEGWideDC(t *testing.T) {
	wide := 0
	for name, data := range jpegs(t) {
		if filepath.Dir(name) != "." || !strings.Contains(name, "progressive") {
			continue
		}
		for table := range huffmanTables(data) {
			if table[0]>>4 != 0 {
				continue
			}
			for i, symbol := range table[17:] {
				for damaged := byte(11); damaged < 16; damaged++ {
					table[17+i] = damaged
					if _, err := jpeg.Decode(bytes.NewReader(data)); err == nil {
						wide++
					}
					if err := asStandard(data); err != nil {
						t.Errorf("%s, symbol %d is %d: %v", name, i, damaged, err)
					}
				}
				table[17+i] = symbol
			}
		}
	}
	if wide == 0 {
		t.Error("the standard library reads none of the damaged files")
	}
	t.Logf("%d damaged files that the standard library reads", wide)
}

func FuzzDecodeJPEG(f *testing.F) {
	for name, data := range jpegs(f) {
		if filepath.Dir(name) == "." {
			f.Add(data)
		}
	}
	f.Add(scanBomb(read(f, "progressive.jpg"), 10))
	for _, sampling := range testSamplings {
		for script, scans := range testScripts(len(sampling)) {
			j := &testJPEG{
				width: 30, height: 20, sampling: sampling, script: scans, progressive: script == "progressive",
				restart: 2, noTables: script == "separate", adobe: -1,
			}
			if len(sampling) == 4 {
				j.adobe = 2
			}
			data, _ := j.encode()
			f.Add(data)
			f.Add(data[:len(data)-2]) // no end marker
			if at := bytes.Index(data, []byte{0xff, 0xd0}); at > 0 {
				f.Add(slices.Concat(data[:at], data[at+2:])) // a lost restart marker
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 || !bytes.HasPrefix(data, []byte("\xff\xd8")) {
			return
		}
		if p, err := photo.Open(data, photo.Limits{}); err != nil || p.Width*p.Height > 1<<16 {
			return
		}
		if err := asStandard(data); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzJPEGSampling makes JPEGs of any sampling factors, scans and restart interval.
func FuzzJPEGSampling(f *testing.F) {
	for i, sampling := range testSamplings {
		var factors uint32
		for _, s := range slices.Backward(sampling) {
			factors = factors<<8 | uint32(s)
		}
		f.Add(factors, uint8(37), uint8(23+i), uint8(i), uint8(i%5))
	}
	names := []string{"interleaved", "progressive", "separate", "chroma interleaved"}
	f.Fuzz(func(t *testing.T, factors uint32, width, height, script, restart uint8) {
		j := &testJPEG{width: int(width), height: int(height), restart: int(restart), adobe: -1}
		for ; factors > 0; factors >>= 8 {
			j.sampling = append(j.sampling, int(factors&0xff))
		}
		name := names[script%4]
		j.script, j.progressive = testScripts(len(j.sampling))[name], name == "progressive"
		n := len(j.sampling)
		if n != 1 && n < 3 || j.script == nil || width == 0 || height == 0 {
			return
		}
		if n == 4 {
			j.adobe = int(script / 4 % 2 * 2)
		}
		h, v := j.largest()
		readable := true
		for _, s := range j.sampling {
			if s>>4 < 1 || s>>4 > 4 || s&15 < 1 || s&15 > 4 {
				return
			}
			readable = readable && (n == 1 || h%(s>>4) == 0 && v%(s&15) == 0)
		}
		if slices.ContainsFunc(j.script, func(s testScan) bool { return unitBlocks(j.sampling, s) > 10 }) {
			return
		}
		data, _ := j.encode()
		img, err := decodeError(t, data)
		if !readable {
			if !errors.Is(err, photo.ErrUnsupportedFormat) {
				t.Fatalf("%s: %v", samplingName(j.sampling), err)
			}
			return
		}
		if err == nil {
			err = samePixels(img, j.want(t))
		}
		if err == nil {
			err = asStandard(data)
		}
		if err != nil {
			t.Fatalf("%s, %s: %v", samplingName(j.sampling), name, err)
		}
	})
}

// BenchmarkDecodeJPEG compares with the standard library on a photograph, and on 12
// megapixels made from it.
func BenchmarkDecodeJPEG(b *testing.B) {
	data, err := os.ReadFile(facetest.Path(b, "peoples.jpg"))
	if err != nil {
		b.Fatal(err)
	}
	files := []struct {
		name string
		data []byte
	}{{"840x558", data}, {"4000x3000", facetest.EnlargedJPEG(b, data, 4000, 3000)}}
	if progressive := os.Getenv("PROGRESSIVE_JPEG"); progressive != "" {
		// The standard library cannot write progressive files; cjpeg -progressive can.
		data, err := os.ReadFile(progressive)
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, files[0])
		files[2].name, files[2].data = "progressive", data
	}
	for _, file := range files {
		b.Run(file.name+"/standard", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jpeg.Decode(bytes.NewReader(file.data)); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, gray := range []bool{false, true} {
			for _, reduce := range []int{1, 2, 4, 8} {
				name := fmt.Sprintf("%s/color/%d", file.name, reduce)
				if gray {
					name = fmt.Sprintf("%s/gray/%d", file.name, reduce)
				}
				p, err := photo.Open(file.data, photo.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				q := p.Reduced(photo.Options{Gray: gray, Reduce: reduce})
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := q.Decode(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
