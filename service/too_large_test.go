package service_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/service"
)

// jpegOf returns a JPEG of that size, with some detail everywhere.
func jpegOf(t *testing.T, width, height int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = byte(i*i>>7 ^ i>>3)
	}
	rgb := image.NewRGBA(img.Rect)
	for i, y := range img.Pix {
		x, row := i%width, i/width
		rgb.SetRGBA(x, row, color.RGBA{y, byte(x), byte(row), 255})
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, rgb, &jpeg.Options{Quality: 10}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestImagesThatNeverFit checks that images which exceed any limit are rejected as too
// large, instead of refused with the advice to try again.
func TestImagesThatNeverFit(t *testing.T) {
	photo := jpegOf(t, 1000, 1000)
	for _, c := range []struct {
		name, accept string
		limits       func(*service.Config)
		needs        face.Input
		text         string // "" if the image fits
	}{
		{name: "decoding", limits: func(c *service.Config) { c.MaxInflightBytes = 2_000_000 }, text: "this server has 2000000 for all images together"},
		{name: "decoding less", limits: func(c *service.Config) { c.MaxInflightBytes = 2_000_000 }, needs: face.Input{Gray: true, Reduce: 8}},
		{name: "not marking", limits: func(c *service.Config) { c.MaxInflightBytes = 4_000_000 }},
		{name: "annotating", accept: "image/jpeg", limits: func(c *service.Config) { c.MaxInflightBytes = 4_000_000 }, text: "this server has 4000000 for all images together; a JSON answer (Accept: application/json) takes less"},
		{name: "the annotated image", accept: "image/png", limits: func(c *service.Config) {
			c.MaxImageBytes, c.MaxBatchBytes, c.MaxBodyBytes = int64(len(photo)), 1, 17*int64(len(photo))/12+64<<10
		}, text: "for all requests together; a JSON answer (Accept: application/json) takes less"},
		{name: "pixels", limits: func(c *service.Config) { c.MaxPixels = 999_999 }, text: "the limit is 999999"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.needs.Reduce, c.needs.BytesPerPixel = max(1, c.needs.Reduce), 4./3
			svc, url := start(t, reducing{needs: c.needs}, c.limits)
			res, body := sendPredict(t, http.MethodPost, url+"/predict", map[string]string{"Accept": c.accept}, bytes.NewReader(photo))
			switch {
			case c.text == "" && res.StatusCode != http.StatusOK:
				t.Errorf("%d %.300q", res.StatusCode, body)
			case c.text != "" && (res.StatusCode != http.StatusBadRequest || res.Header.Get(service.ReasonHeader) != "TOO_MANY_PIXELS" || !strings.Contains(string(body), c.text)):
				t.Errorf("%d %s %.300q, want %q", res.StatusCode, res.Header.Get(service.ReasonHeader), body, c.text)
			}
			idle(t, svc)
		})
	}
}

// TestGarbageOfImages checks that the memory of answered images counts until it has
// been collected, however late the garbage collector runs.
func TestGarbageOfImages(t *testing.T) {
	const side, budget = 1000, 13_000_000 // enough for two images
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 60))
	var most atomic.Uint64
	d := stub{detect: func(context.Context, image.Image, face.Options) ([]face.Face, error) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		for old := most.Load(); m.HeapAlloc > old && !most.CompareAndSwap(old, m.HeapAlloc); old = most.Load() {
		}
		return nil, nil
	}}
	svc, _ := start(t, d, func(c *service.Config) { c.Workers, c.Queue, c.MaxInflightBytes = 3, 100, budget })
	data := make([]byte, 3*side*side) // decoded to 4·side·side bytes
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 20 {
				if _, err := svc.Predict(t.Context(), &inferencev1.Image{
					RawData: data, Width: side, Height: side, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_RGB24,
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if used := most.Load() - before.HeapAlloc; used > budget+2_000_000 {
		t.Errorf("%d bytes were in use, of which images may have %d", used, budget)
	}
	idle(t, svc)
}
