package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/png"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/internal/freelist"
)

var soak = flag.Bool("soak", false, "send 100,000 images through one stream, and as many in batches, rather than a tenth of that")

// TestSoak sends very many small images through one stream and in batches. They are
// answered in order, each invalid image with an error, and memory does not grow.
func TestSoak(t *testing.T) {
	images := 10_000
	switch {
	case *soak:
		images = 100_000
	case raceDetector:
		images = 500 // the race detector makes everything ten times slower
	}
	s := start(t, patient...)
	for _, way := range []struct {
		name string
		send func(*testing.T, string, int, func(done int))
	}{{"stream", soakStream}, {"batches", soakBatches}} {
		t.Run(way.name, func(t *testing.T) {
			var first, last uint64
			began := time.Now()
			way.send(t, s.url, images, func(done int) {
				// First until all pools are filled, and then ten times as many.
				if done%(images/10) == 0 {
					last = inUse()
					if first == 0 {
						first = last
					}
				}
			})
			t.Logf("%d images in %v; %d KiB in use after a tenth, %d KiB after all", images, time.Since(began).Round(time.Millisecond), first>>10, last>>10)
			if last > first+16<<20 {
				t.Errorf("memory grew from %d KiB to %d KiB", first>>10, last>>10)
			}
		})
	}
}

// TestSoakBombs checks that images of 64 megapixels in a few kilobytes, which are valid
// and must be decoded, are answered a few at a time within the memory limit, and that
// the images between them are answered too.
func TestSoakBombs(t *testing.T) {
	if raceDetector {
		t.Skip("takes minutes with the race detector: make soak-test runs it")
	}
	const side, bombs, each = 8000, 8, 2
	var bomb bytes.Buffer
	if err := png.Encode(&bomb, image.NewGray(image.Rect(0, 0, side, side))); err != nil {
		t.Fatal(err)
	}
	s := start(t, append(patient, "--workers", "2", "--queue", "32", "--max-inflight-bytes", "400MiB", "--max-body-bytes", "96MiB")...)
	h2 := httpClient(t, 2, nil)
	client := inferencev1connect.NewInferenceClient(h2, s.url, connect.WithGRPC())
	var all errgroup.Group
	var left atomic.Int32
	left.Store(bombs)
	for range bombs {
		all.Go(func() error {
			defer left.Add(-1)
			for range each {
				res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: bomb.Bytes()})
				if err != nil || res.GetWidth() != side || len(res.GetResults()) != 0 {
					return fmt.Errorf("a bomb: %v, %w", res, err)
				}
			}
			return nil
		})
	}
	sample, between, most := readFile(t, samplePath), 0, uint64(0)
	for left.Load() > 0 {
		res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: sample})
		if err != nil || len(res.GetResults()) != 1 {
			t.Fatalf("a neighbor: %v, %v", res, err)
		}
		between++
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d bombs, %d neighbors between them, at most %d MiB in use", bombs*each, between, most>>20)
	// The server's limits, plus memory for the clients in the same process, and
	// garbage.
	if limit := uint64(400<<20 + 96<<20 + 256<<20); most > limit {
		t.Errorf("%d MiB were in use, want %d", most>>20, limit>>20)
	}
	if between == 0 {
		t.Error("no neighbor was answered")
	}
}

// inUse returns the memory in use by clients and server together.
func inUse() uint64 {
	freelist.Empty()
	runtime.GC()
	runtime.GC() // pools of the standard library keep their contents for one more collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// soakImage returns a small image, a little different from its neighbors. One in a
// hundred is invalid.
func soakImage(i int) *inferencev1.Image {
	req := &inferencev1.Image{
		RawData: make([]byte, 64*64), Width: 64, Height: 64, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
		ImageId: fmt.Sprint(i),
	}
	for p := range req.GetRawData() {
		req.RawData[p] = byte(p * i)
	}
	if i%100 == 99 {
		req.RawData = req.GetRawData()[1:]
	}
	return req
}

func assertSoaked(t *testing.T, res *inferencev1.InferResults, i, index int) {
	t.Helper()
	reason := ""
	if i%100 == 99 {
		reason = "INVALID_PIXELS"
	}
	if res.GetImageId() != fmt.Sprint(i) || int(res.GetIndex()) != index || res.GetError().GetReason() != reason || (res.GetWidth() == 64) != (reason == "") {
		t.Fatalf("image %d: %v", i, res)
	}
}

func soakStream(t *testing.T, url string, images int, done func(int)) {
	stream, err := grpcClient(t, url).PredictStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		for i := range images {
			if err := stream.Send(soakImage(i)); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseRequest()
	}()
	for i := range images {
		res, err := stream.Receive()
		if err != nil {
			t.Fatalf("image %d: %v", i, err)
		}
		assertSoaked(t, res, i, i)
		done(i + 1)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := errors.Join(<-sent, stream.CloseResponse()); err != nil {
		t.Error(err)
	}
}

func soakBatches(t *testing.T, url string, images int, done func(int)) {
	clients := []inferencev1connect.InferenceClient{
		grpcClient(t, url),
		inferencev1connect.NewInferenceClient(httpClient(t, 1, nil), url, connect.WithGRPCWeb()),
		inferencev1connect.NewInferenceClient(httpClient(t, 1, nil), url, connect.WithProtoJSON()),
	}
	const each = 100
	for from := 0; from < images; from += each {
		req := &inferencev1.PredictBatchRequest{}
		for i := range each {
			req.Images = append(req.Images, soakImage(from+i))
		}
		stream, err := clients[from/each%len(clients)].PredictBatch(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int32]bool{}
		for stream.Receive() {
			res := stream.Msg()
			assertSoaked(t, res, from+int(res.GetIndex()), int(res.GetIndex()))
			seen[res.GetIndex()] = true
		}
		if err := errors.Join(stream.Err(), stream.Close()); err != nil || len(seen) != each {
			t.Fatalf("%d answers, %v", len(seen), err)
		}
		done(from + each)
	}
}
