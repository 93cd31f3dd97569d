package main

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sort"
	"strings"

	"github.com/mienproject/mien/service"
)

// limits are those whose defaults follow what the process may use.
type limits struct {
	batch, body, inflight byteSize
	pixels                int64
	requests, workers     int
	// memory is what the process takes when all of them are reached at once.
	memory int64
	// heap is what the collector works towards.
	heap int64
}

// What a server takes, as measured on Linux; docs/operations.md has the sum.
const (
	// processBytes is for an idle server, which takes 16 MiB, and for as much garbage.
	processBytes = 32 << 20
	// requestBytes is for what a request takes beside its message: 20 to 30 KiB, and
	// 256 KiB for an HTTP/2 stream that has to wait, as half of them may.
	requestBytes = 160 << 10
	// bodyFactor is what each byte of a message takes at its peak. A message that is
	// compressed takes the most: a buffer that may be twice its size as it came, another
	// one of twice its size unpacked, and the picture. In JSON, where the picture is
	// three quarters of the message, the text is there as well; but its size as it came
	// is at most three quarters too.
	bodyFactor = 5
	// bodyPart is the part of the memory for bodies, as one in so many, before
	// bodyFactor: pictures have a little more than bodies.
	bodyPart = 12
	// heapShare is the part of the memory that the heap may have, in percent. What
	// is left is for the kernel, whose sockets and page tables count as well.
	heapShare = 90
	// minInflight is the least for pictures with which a server is of use: a PNG of
	// 4 megapixels, or a photograph of any phone as JPEG, of which pigo needs little.
	minInflight = 24 << 20
)

// derive returns the limits of a server that may use that much memory (0: nobody
// knows) and has that many workers, unless flags say otherwise: what they say stays.
// The second result is what is left for pictures, of which the limit is at most all.
func (c *config) derive(memory int64, workers int) (l limits, left int64) {
	most := service.DefaultConfig()
	if memory == 0 {
		memory = math.MaxInt64 / 2
	}
	heap := memory / 100 * heapShare
	l.workers = or(c.Workers, workers)
	l.requests = or(c.MaxRequests, int(min(int64(most.MaxRequests), max(64, memory/(2<<20)))))
	fixed := processBytes + requestBytes*int64(clamp(l.requests, math.MaxInt32))

	// No less than the largest message.
	images := service.Config{MaxImageBytes: clamp(int64(c.MaxImageBytes), mostImages), MaxBatchBytes: clamp(int64(or(c.MaxBatchBytes, 1)), mostImages)}
	l.body = or(c.MaxBodyBytes, byteSize(min(most.MaxBodyBytes, max(images.LargestMessage(), (heap-fixed)/bodyPart))))
	body := clamp(int64(l.body), mostSize)
	// A batch leaves half of that to single calls, unless one image is more.
	l.batch = or(c.MaxBatchBytes, byteSize(max(images.MaxImageBytes, min(most.MaxBatchBytes, wholeMiB(service.LargestBatch(body/2))))))
	left = heap - fixed - bodyFactor*body
	l.inflight = or(c.MaxInflightBytes, byteSize(min(most.MaxInflightBytes, max(1<<20, wholeMiB(left)))))
	inflight := clamp(int64(l.inflight), mostSize)
	// Hardly a picture takes less than a byte for each.
	l.pixels = or(c.MaxPixels, min(most.MaxPixels, max(1, inflight)))

	l.memory = fixed + bodyFactor*body + inflight
	l.heap = min(heap, l.memory)
	return l, left
}

const (
	// mostImages is the largest image, and the largest batch, that flags allow.
	mostImages = math.MaxInt32 / 2
	// mostSize is above what any flag allows, which is checked later, and small enough
	// for sums of it.
	mostSize = 1 << 55
)

func clamp[T int | int64](n, most T) T { return max(0, min(n, most)) }

func wholeMiB(n int64) int64 { return n >> 20 << 20 }

// limit derives the limits from what this process may use, or says what to do when
// that is too little.
func (c *config) limit() error {
	r := c.resources
	workers := cores
	if !chosenProcs(os.Getenv("GOMAXPROCS")) {
		workers = r.workers(cores)
	}
	var left int64
	if c.limits, left = c.derive(r.memory, workers); c.MaxInflightBytes != nil || left >= minInflight {
		return nil
	}
	const step, most = 8 << 20, 1 << 30
	needs := 1 + sort.Search(most, func(n int) bool {
		_, left := c.derive(step*int64(n+1), workers)
		return left >= minInflight
	})
	var remedies []string
	if needs <= most { // or a flag is out of its bounds
		remedies = append(remedies, fmt.Sprintf("allow it %v", byteSize(step*int64(needs))))
	}
	smaller := *c
	for smaller.MaxImageBytes = byteSize(wholeMiB(int64(c.MaxImageBytes) - 1)); smaller.MaxImageBytes > 0; smaller.MaxImageBytes -= 1 << 20 {
		if _, left := smaller.derive(r.memory, workers); left >= minInflight {
			remedies = append(remedies, fmt.Sprintf("lower --max-image-bytes from %v to %v", c.MaxImageBytes, smaller.MaxImageBytes))
			break
		}
	}
	for _, set := range []struct {
		flag  string
		given bool
		value any
	}{
		{"--max-body-bytes", c.MaxBodyBytes != nil, c.limits.body},
		{"--max-batch-bytes", c.MaxBatchBytes != nil, c.limits.batch},
		{"--max-requests", c.MaxRequests != nil, c.limits.requests},
	} {
		if set.given {
			remedies = append(remedies, fmt.Sprintf("lower %s from %v", set.flag, set.value))
		}
	}
	return fmt.Errorf("this process may use %v of memory (%s), which leaves too little for pictures: %s",
		byteSize(r.memory), r.memoryFrom, strings.Join(remedies, ", or "))
}

// logLimits tells what the defaults were derived from, and what they are.
func (c *config) logLimits(log *slog.Logger) {
	r, l := c.resources, c.limits
	if c.resourcesErr != nil {
		log.Warn("the limits of this process's cgroups cannot be read: the defaults may be too large for its container", "error", c.resourcesErr)
	}
	attrs := []any{"memory", byteSize(r.memory).String(), "memory_from", r.memoryFrom}
	if r.cpus > 0 {
		attrs = append(attrs, "cpus", r.cpus, "cpus_from", r.cpusFrom)
	}
	log.Info("limits", append(attrs,
		"workers", l.workers,
		"max_inflight_bytes", l.inflight.String(),
		"max_body_bytes", l.body.String(),
		"max_batch_bytes", l.batch.String(),
		"max_image_bytes", c.MaxImageBytes.String(),
		"max_pixels", l.pixels,
		"max_requests", l.requests,
		"gomemlimit", byteSize(debug.SetMemoryLimit(-1)).String())...)
	if r.memory > 0 && l.memory > r.memory/100*heapShare {
		log.Warn("the limits that flags set exceed, all reached at once, the memory that this process may use: it may be killed",
			"needed", byteSize(l.memory*100/heapShare).String(), "memory", byteSize(r.memory).String(), "memory_from", r.memoryFrom)
	}
}
