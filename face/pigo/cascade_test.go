package pigo

import (
	"context"
	"encoding/binary"
	"errors"
	"image"
	"math"
	"math/rand"
	"runtime"
	"slices"
	"testing"

	pigo "github.com/esimov/pigo/core"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/face/luma"
)

// runCascade is the library's scan.
func runCascade(library *pigo.Pigo, img luma.Plane, s sizes) []window {
	var found []window
	for _, d := range library.RunCascade(pigo.CascadeParams{
		MinSize: s.smallest, MaxSize: s.largest, ShiftFactor: s.shift, ScaleFactor: s.scale,
		ImageParams: params(img),
	}, 0) {
		found = append(found, window{d.Row, d.Col, d.Scale, d.Q})
	}
	return found
}

// cascades returns our cascade and the library's.
func cascades(t testing.TB, file []byte) (*faceCascade, *pigo.Pigo) {
	t.Helper()
	ours, err := parseFaceCascade(file)
	if err != nil {
		t.Fatal(err)
	}
	library, err := pigo.NewPigo().Unpack(file)
	if err != nil {
		t.Fatal(err)
	}
	return ours, library
}

// lenient returns the cascade's file with such low thresholds that many windows pass
// all of its first trees.
func lenient(trees int) []byte {
	const treeSize = 512
	file := slices.Clone(faceFinder[:16+trees*treeSize])
	binary.LittleEndian.PutUint32(file[12:], uint32(trees))
	for t := range trees {
		threshold := file[16+(t+1)*treeSize-4:]
		binary.LittleEndian.PutUint32(threshold, math.Float32bits(-0.3*float32(t+1)))
	}
	return file
}

// compareScans fails the test if our windows differ from the library's.
func compareScans(t *testing.T, ours *faceCascade, library *pigo.Pigo, img luma.Plane, s sizes) (found int) {
	t.Helper()
	bands := s.bands(nil, img, 1)
	alone, err1 := ours.scan(t.Context(), new(room), bands, nil)
	parallel, err2 := ours.scanParallel(t.Context(), cores.NewGate(runtime.GOMAXPROCS(0)), bands, nil)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	want := runCascade(library, img, s)
	for _, got := range [][]window{alone, parallel} {
		if !slices.Equal(got, want) {
			t.Errorf("%d×%d, stride %d, %+v: %d windows, the library finds %d", img.Width, img.Height, img.Stride, s, len(got), len(want))
		}
	}
	return len(want)
}

// TestScanIsTheLibrarys compares windows and scores with the library's, bit for bit.
func TestScanIsTheLibrarys(t *testing.T) {
	ours, library := cascades(t, faceFinder)
	photo := luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg"), nil)
	part := luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg").(*image.YCbCr).SubImage(image.Rect(41, 57, 280, 300)), nil)
	for _, c := range []struct {
		name string
		img  luma.Plane
		s    sizes
		// least is the minimum number of windows, so that the test cannot pass without
		// comparing any.
		floor int
	}{
		{"photograph", photo, sizes{20, 1000, .1, 1.1}, 20},
		{"photograph, large windows", photo, sizes{57, 1000, .1, 1.1}, 20},
		{"photograph, dense", photo, sizes{100, 1000, .03, 1.04}, 500},
		{"photograph, coarse", photo, sizes{20, 1000, .5, 1.5}, 0},
		{"photograph, gaps between windows", photo, sizes{20, 1000, 1.7, 3}, 0},
		{"photograph, sizes by two", photo, sizes{200, 260, .03, 1}, 100},
		{"part of a photograph", part, sizes{33, 1000, .1, 1.1}, 5},
		{"noise, wide", noise(3000, 90), sizes{20, 1000, .1, 1.1}, 0},
		{"noise, high", noise(90, 3000), sizes{20, 1000, .1, 1.1}, 0},
		{"noise, many bands", noise(700, 500), sizes{16, 200, .1, 1.1}, 0},
		{"noise, single pixels", noise(60, 50), sizes{1, 50, .05, 1.05}, 0},
		{"nothing but large windows", noise(700, 600), sizes{maxTiled, 600, .1, 1.05}, 0},
		{"just a window", noise(22, 22), sizes{20, 20, .1, 1.1}, 0},
		{"just a window of an odd size", noise(22, 22), sizes{21, 1000, .1, 1.1}, 0},
		{"less than a window", noise(21, 40), sizes{20, 1000, .1, 1.1}, 0},
		{"no size", noise(100, 100), sizes{20, 19, .1, 1.1}, 0},
		{"no image", luma.Plane{}, sizes{20, 1000, .1, 1.1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.largest = min(c.s.largest, max(c.img.Width, c.img.Height))
			if n := compareScans(t, ours, library, c.img, c.s); n < c.floor {
				t.Errorf("only %d windows on a face, want %d", n, c.floor)
			}
		})
	}
}

// TestScanOfManyWindowsIsTheLibrarys compares scans in which a large part of all
// windows pass, for every size that uses tiles and some larger ones.
func TestScanOfManyWindowsIsTheLibrarys(t *testing.T) {
	for _, trees := range []int{1, 2, 20} {
		ours, library := cascades(t, lenient(trees))
		found := 0
		for size := 1; size <= 300; size++ {
			img := noise(size+20+size%7, size+15+size%5)
			img.Width -= size % 3 // without changing the stride
			found += compareScans(t, ours, library, img, sizes{size, size, .02, 1.1})
		}
		if found < 1000 {
			t.Errorf("%d trees: only %d windows", trees, found)
		}
	}
}

// TestScansShareMemory checks that a scan does not depend on what an earlier scan left
// in memory.
func TestScansShareMemory(t *testing.T) {
	d, err := New(cores.NewGate(runtime.GOMAXPROCS(0)))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewSource(2))
	var w workspace
	for range 20 {
		img := noise(22+random.Intn(300), 22+random.Intn(300))
		got, _, err := d.candidates(t.Context(), &w, img, minWindow)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := d.candidates(t.Context(), new(workspace), img, minWindow)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d×%d: %v, in new memory %v", img.Width, img.Height, got, want)
		}
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	faces, _ := cascades(t, faceFinder)
	img := luma.Of(facetest.Decode(t, "../../service/selftest/sample.jpg"), nil)
	var r room
	var bands []band
	var found []window
	// AllocsPerRun runs once without counting, which makes the memory that is kept.
	allocs := testing.AllocsPerRun(3, func() {
		bands = wholeImage(img).bands(bands[:0], img, 1)
		var err error
		if found, err = faces.scan(t.Context(), &r, bands, found[:0]); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// countedContext counts calls of Err, and is canceled at one of them.
type countedContext struct {
	context.Context
	seen, limit int
}

func (l *countedContext) Err() error {
	if l.seen++; l.seen > l.limit {
		return context.Canceled
	}
	return nil
}

// TestScanChecksItsContext checks that a scan checks its context at least once per
// millisecond of work, and never again after it is canceled.
func TestScanChecksItsContext(t *testing.T) {
	faces, _ := cascades(t, faceFinder)
	everything := lenient(400)
	for tree := range 400 {
		binary.LittleEndian.PutUint32(everything[16+512*(tree+1)-4:], math.Float32bits(-1000))
	}
	yes, _ := cascades(t, everything)
	for _, c := range []struct {
		name          string
		cascade       *faceCascade
		width, height int
		s             sizes
		windowsACheck int
	}{
		{"noise", faces, 4000, 4000, sizes{80, 80, .1, 1.1}, 10_000},
		{"large windows", faces, 2000, 2000, sizes{500, 1000, .1, 1.1}, 1},
		{"all windows pass 400 trees", yes, 200, 200, sizes{20, 20, .1, 1.1}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			bands := c.s.bands(nil, noise(c.width, c.height), 1)
			windows := 0
			for _, b := range bands {
				windows += b.rows * b.cols
			}
			all := &countedContext{t.Context(), 0, math.MaxInt}
			if _, err := c.cascade.scan(all, new(room), bands, nil); err != nil {
				t.Fatal(err)
			}
			if all.seen*c.windowsACheck < windows {
				t.Errorf("checked %d times while it scanned %d windows", all.seen, windows)
			}
			half := &countedContext{t.Context(), 0, all.seen / 2}
			if _, err := c.cascade.scan(half, new(room), bands, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
			if half.seen != half.limit+1 {
				t.Errorf("went on for %d checks after it was canceled", half.seen-half.limit-1)
			}
		})
	}
}

func TestParseFaceCascadeRefuses(t *testing.T) {
	change := func(at int, value uint32) []byte {
		file := slices.Clone(faceFinder)
		binary.LittleEndian.PutUint32(file[at:], value)
		return file
	}
	for name, file := range map[string][]byte{
		"nothing":         nil,
		"half a header":   faceFinder[:10],
		"a header":        faceFinder[:16],
		"truncated":       faceFinder[:len(faceFinder)-1],
		"longer":          append(slices.Clone(faceFinder), 0),
		"no trees":        change(12, 0),
		"too many trees":  change(12, 1<<31),
		"another depth":   change(8, 7),
		"NaN leaf":        change(16+63*4, math.Float32bits(float32(math.NaN()))),
		"infinite bounds": change(len(faceFinder)-4, math.Float32bits(float32(math.Inf(-1)))),
	} {
		if c, err := parseFaceCascade(file); err == nil {
			t.Errorf("%s: parsed as %d trees", name, len(c.trees))
		}
	}
}

// FuzzParseFaceCascade checks that every cascade that can be parsed gives the same
// results as in the library.
func FuzzParseFaceCascade(f *testing.F) {
	f.Add(faceFinder[:16])
	f.Add(lenient(1))
	f.Add(lenient(3))
	img := noise(60, 50)
	f.Fuzz(func(t *testing.T, file []byte) {
		ours, err := parseFaceCascade(file)
		if err != nil {
			return
		}
		library, err := pigo.NewPigo().Unpack(file)
		if err != nil {
			t.Fatal(err)
		}
		compareScans(t, ours, library, img, sizes{15, 45, .1, 1.1})
	})
}

// FuzzScan compares scans of images with any stride and sizes with the library's. The
// image is repeated to fill its size.
func FuzzScan(f *testing.F) {
	f.Add([]byte{1, 200, 33, 7, 90}, uint16(100), uint16(80), uint16(0), uint16(20), 0.1, 1.1)
	f.Add([]byte("\x00\xff"), uint16(300), uint16(260), uint16(3), uint16(150), 0.03, 1.02)
	f.Add([]byte("a face, perhaps"), uint16(22), uint16(22), uint16(100), uint16(21), 0.5, 2.0)
	type pair struct {
		ours    *faceCascade
		library *pigo.Pigo
	}
	var pairs []pair
	for _, file := range [][]byte{faceFinder, lenient(3), lenient(30)} {
		ours, library := cascades(f, file)
		pairs = append(pairs, pair{ours, library})
	}
	f.Fuzz(func(t *testing.T, content []byte, width, height, more, smallest uint16, shift, scale float64) {
		img := luma.Plane{Width: int(width % 400), Height: int(height % 400)}
		img.Stride = img.Width + int(more%50)
		if !(shift >= 0.01 && shift < 100 && scale >= 0 && scale < 100) || len(content) == 0 {
			return
		}
		// The last row ends at the end of the image.
		img.Pix = make([]uint8, max(0, img.Stride*img.Height-int(more%50)))
		for i := range img.Pix {
			img.Pix[i] = content[i%len(content)] + uint8(i/len(content))
		}
		s := sizes{1 + int(smallest%400), max(img.Width, img.Height), shift, scale}
		// The whole test takes less than a tenth of a second.
		bands, windows := s.bands(nil, img, 1), 0
		for _, b := range bands {
			windows += b.rows * b.cols
		}
		if windows > 100_000 {
			return
		}
		for _, p := range pairs {
			compareScans(t, p.ours, p.library, img, s)
		}
	})
}

// wholeImage has the sizes that the library's own program scans.
func wholeImage(img luma.Plane) sizes {
	return sizes{minWindow, min(img.Width, img.Height), shiftFactor, scaleFactor}
}

// BenchmarkScan measures the scan of a photograph for faces of at least 20 pixels, by
// the library and by this package, on the number of cores that -cpu sets.
func BenchmarkScan(b *testing.B) {
	faces, theirs := cascades(b, faceFinder)
	img := luma.Of(facetest.Decode(b, facetest.Path(b, "peoples.jpg")), nil)
	s := wholeImage(img)
	b.Run("by=library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			theirs.RunCascade(pigo.CascadeParams{
				MinSize: s.smallest, MaxSize: s.largest, ShiftFactor: s.shift, ScaleFactor: s.scale,
				ImageParams: params(img),
			}, 0)
		}
	})
	b.Run("by=mien", func(b *testing.B) {
		var bands []band
		var found []window
		gate := cores.NewGate(runtime.GOMAXPROCS(0))
		once := func() {
			gate.Hold()
			defer gate.Release()
			bands = s.bands(bands[:0], img, 1)
			var err error
			if found, err = faces.scanParallel(b.Context(), gate, bands, found[:0]); err != nil {
				b.Fatal(err)
			}
		}
		once() // makes the memory that is kept
		b.ReportAllocs()
		for b.Loop() {
			once()
		}
	})
}
