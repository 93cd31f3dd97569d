package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/service"
)

// TestRapidResets checks that a client which cancels each request as soon as it has begun
// (CVE-2023-44487) does not keep others from being answered, and leaves nothing behind.
func TestRapidResets(t *testing.T) {
	if raceDetector {
		t.Skip("with the race detector, the attack itself takes all CPU time: make attack runs it")
	}
	p := startProcess(t, "--model", "pigo")
	sample := readFile(t, samplePath)
	const connections = 8
	stop := make(chan struct{})
	sent := make(chan int, connections)
	for range connections {
		go func() {
			n := 0
			defer func() { sent <- n }() // if dialing fails, too
			resetRequests(t, p.url, stop, &n)
		}()
	}

	// A neighbor, while requests are reset.
	var slowest time.Duration
	asked, answered := 0, 0
	for began := time.Now(); time.Since(began) < 3*time.Second || asked < 20; asked++ {
		at := time.Now()
		res, err := http.Post(p.url+"/predict", "image/jpeg", strings.NewReader(string(sample)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		switch reason := res.Header.Get(service.ReasonHeader); {
		case res.StatusCode == http.StatusOK:
			answered++
		case reason != "OVERLOADED":
			t.Errorf("a neighbor: status %d, %s", res.StatusCode, reason)
		}
		slowest = max(slowest, time.Since(at))
	}
	close(stop)
	resets := 0
	for range connections {
		resets += <-sent
	}
	t.Logf("%d requests were reset; a neighbor got %d answers of %d, the slowest after %v", resets, answered, asked, slowest)
	if answered*20 < asked*19 {
		t.Errorf("a neighbor got %d answers of %d", answered, asked)
	}
	if resets < 10*connections {
		t.Errorf("only %d requests were reset", resets)
	}
	if slowest > 5*time.Second {
		t.Errorf("a neighbor waited %v", slowest)
	}
	waitFor(t, "no request is left", func() bool {
		_, metrics := ask(t, http.DefaultClient, http.MethodGet, p.admin+"/metrics")
		return strings.Contains(metrics, "\nmien_inflight_requests 0\n")
	})
}

// resetRequests begins requests, and resets each as soon as its header is sent, until
// stop is closed, and counts them in sent. It connects again if the server ends the
// connection.
func resetRequests(t *testing.T, url string, stop chan struct{}, sent *int) {
	for {
		c := dialHTTP2(t, url)
		// The answers are not of interest, but the server must be able to write them.
		go func() {
			for {
				if _, err := c.ReadFrame(); err != nil {
					return
				}
			}
		}()
		for stream := uint32(1); ; stream += 2 {
			select {
			case <-stop:
				c.conn.Close()
				return
			default:
			}
			err := c.request(stream, false, ":method", "POST", ":scheme", "http", ":path", "/predict", ":authority", "localhost", "content-type", "image/jpeg")
			if err == nil {
				err = c.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			if err != nil {
				break
			}
			*sent++
		}
		c.conn.Close()
	}
}

// TestHostileFiles checks that files made to take much time or memory are answered or
// refused, each in time, within the memory that the server reserves for images.
func TestHostileFiles(t *testing.T) {
	if raceDetector {
		t.Skip("with the race detector, the attack itself takes all CPU time: make attack runs it")
	}
	files := hostile(t)
	if len(files) == 0 {
		t.Skip("needs ../shared/cases/hostile, which are not part of the repository")
	}
	inflight, timeout := int64(1<<30), 20*time.Second
	if testing.Short() {
		inflight = 256 << 20 // most of them are refused
	}
	p := startProcess(t, "--model", "pigo", "--max-inflight-bytes", fmt.Sprint(inflight), "--timeout", timeout.String(), "--default-timeout", timeout.String())
	status := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	_, err := os.Stat(status)
	hasMemory := err == nil
	var before int64
	if hasMemory {
		before = peakMemory(t, status)
	}
	allowed := map[string]bool{"": true, "TOO_MANY_PIXELS": true, "CORRUPT_IMAGE": true, "OVERLOADED": true, "DEADLINE": true, "UNSUPPORTED_FORMAT": true}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		res, err := http.Post(p.url+"/predict", "application/octet-stream", f)
		took := time.Since(at)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		res.Body.Close()
		reason := res.Header.Get(service.ReasonHeader)
		t.Logf("%-26s %d %-16s %6.0f ms", filepath.Base(file), res.StatusCode, reason, milliseconds(took))
		if !allowed[reason] || (reason == "" && res.StatusCode != http.StatusOK) {
			t.Errorf("%s: status %d, %s", file, res.StatusCode, reason)
		}
		if took > timeout+2*time.Second {
			t.Errorf("%s took %v", file, took)
		}
	}
	if hasMemory {
		grown := peakMemory(t, status) - before
		t.Logf("the server took %d MiB", grown>>20)
		// Garbage counts until it is collected.
		if grown > 2*inflight {
			t.Errorf("the server took %d MiB for images, of which it may reserve %d", grown>>20, inflight>>20)
		}
	}
}

// TestTinyFilesInBatches sends batches of a few kilobytes whose images have as many pixels as
// possible. Images that are out of all proportion to their files are refused, and a neighbor
// is answered between the others, which have up to a megapixel each.
func TestTinyFilesInBatches(t *testing.T) {
	if raceDetector {
		t.Skip("takes minutes with the race detector: make attack runs it")
	}
	p := startProcess(t, append(patient, "--admin-listen", "127.0.0.1:0")...)
	client := grpcClient(t, p.url)
	sample := readFile(t, samplePath)
	huge := webpOf("VP8L", losslessOf(8000)[20:44]) // without the bytes that nobody reads
	for _, c := range []struct {
		name   string
		data   []byte
		images int
		reason string
	}{
		{"64 megapixels", huge, 100, "TOO_MANY_PIXELS"},
		{"a megapixel", losslessOf(960), 20, ""},
	} {
		batch := &inferencev1.PredictBatchRequest{}
		for range c.images {
			batch.Images = append(batch.Images, &inferencev1.Image{RawData: c.data})
		}
		before := cpuTime(t, p.cmd.Process.Pid)
		answered := make(chan int)
		go func() {
			n := 0
			defer func() { answered <- n }()
			stream, err := client.PredictBatch(t.Context(), batch)
			if err != nil {
				t.Error(err)
				return
			}
			defer stream.Close()
			for ; stream.Receive(); n++ {
				if got := stream.Msg().GetError().GetReason(); got != c.reason {
					t.Errorf("%s: %q, want %q", c.name, got, c.reason)
				}
			}
			if err := stream.Err(); err != nil {
				t.Error(err)
			}
		}()
		neighbors, n := 0, -1
		for n < 0 {
			if res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: sample}); err != nil || len(res.GetResults()) != 1 {
				t.Fatalf("a neighbor: %v, %v", res, err)
			}
			neighbors++
			select {
			case n = <-answered:
			default:
			}
		}
		if n != c.images {
			t.Errorf("%s: %d answers to %d images", c.name, n, c.images)
		}
		t.Logf("%d images of %s, %d bytes together, and %d calls of a neighbor took %v of CPU",
			c.images, c.name, c.images*len(c.data), neighbors, cpuTime(t, p.cmd.Process.Pid)-before)
	}
}
