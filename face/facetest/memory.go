package facetest

import (
	"image"
	"math"
	"runtime"
	"testing"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/internal/freelist"
)

// Allocated returns how many bytes f allocates, garbage included, when all pools are empty.
func Allocated(f func()) int64 {
	// A garbage collection in the middle would make f allocate what it would otherwise find
	// in its pools.
	used := int64(math.MaxInt64)
	for range 3 {
		freelist.Empty()
		runtime.GC()
		runtime.GC() // empties the pools
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		used = min(used, int64(after.TotalAlloc-before.TotalAlloc))
	}
	return used
}

// CheckMemory checks that Detect allocates no more than Input says, on images of some sizes
// and for faces of some sizes.
func CheckMemory(t *testing.T, d face.Detector, images map[string]image.Image) {
	t.Helper()
	for name, img := range images {
		for _, smallest := range []float64{0, 1, 100} {
			opts := face.Options{MinFaceSize: smallest}
			size := img.Bounds().Size()
			want := d.Input(size.X, size.Y, opts).Memory(size.X, size.Y)
			used := Allocated(func() {
				if _, err := d.Detect(t.Context(), img, opts); err != nil {
					t.Fatal(err)
				}
			})
			t.Logf("%s of %v, smallest face %v: %d of %d bytes (%.2f)", name, size, smallest, used, want, float64(want)/float64(used))
			if used > want {
				t.Errorf("%s of %v, smallest face %v: %d bytes allocated, %d counted", name, size, smallest, used, want)
			}
		}
	}
}
