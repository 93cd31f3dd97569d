package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"

	"github.com/mienproject/mien/service"
)

// limits has the limits whose defaults depend on the resources of the process.
type limits struct {
	batch, body, inflight byteSize
	pixels                int64
	requests, workers     int
	// memory is what the process takes in bytes if all limits are reached at once.
	memory int64
	// heap is the limit for the garbage collector, in bytes: GOMEMLIMIT.
	heap int64
}

// What a server takes, measured on Linux. docs/operations.md explains the sum.
const (
	// processBytes is for the server itself: 16 MiB when idle, and the same amount of
	// garbage.
	processBytes = 32 << 20
	// requestBytes is what a request takes in addition to its message: 20 to 30 KiB,
	// and 256 KiB for an HTTP/2 stream that must wait, which half of them may do.
	requestBytes = 160 << 10
	// bodyFactor is the maximum memory for each byte of a message. A compressed message
	// takes most: a buffer of up to twice its size for the compressed bytes, another
	// one of up to twice its size for the inflated ones, and the image. In JSON the
	// text is in memory too, but then the image and the compressed bytes have at most
	// three quarters of its size.
	bodyFactor = 5
	// bodyPart is the divisor for the share of the memory that bodies get, before
	// bodyFactor. Images get a little more than bodies.
	bodyPart = 12
	// heapShare is the share of the memory for the heap, in percent. The rest is for
	// the kernel, whose sockets and page tables count as well.
	heapShare = 90
	// minInflight is the minimum memory for images with which a server is useful. It is
	// enough for a PNG of 4 megapixels, or for the JPEG of any phone, of which pigo
	// needs only a part.
	minInflight = 24 << 20
)

// derive returns the limits of a server that may use that many bytes of memory (0 if
// unknown) and has that many workers. Limits set by flags are not changed. left is the
// memory that remains for images. The limit for images is at most left, unless a flag
// sets it.
func (c *config) derive(memory int64, workers int) (l limits, left int64) {
	defaults := service.DefaultConfig()
	if memory == 0 {
		memory = math.MaxInt64 / 2
	}
	heap := memory / 100 * heapShare
	l.workers = or(c.Workers, workers)
	l.requests = or(c.MaxRequests, int(min(int64(defaults.MaxRequests), max(64, memory/(2<<20)))))
	fixed := processBytes + requestBytes*int64(clamp(l.requests, math.MaxInt32))

	// At least the size of the largest message.
	images := service.Config{MaxImageBytes: clamp(int64(c.MaxImageBytes), maxImageSize), MaxBatchBytes: clamp(int64(or(c.MaxBatchBytes, 1)), maxImageSize)}
	l.body = or(c.MaxBodyBytes, byteSize(min(defaults.MaxBodyBytes, max(images.LargestMessage(), (heap-fixed)/bodyPart))))
	body := clamp(int64(l.body), maxSize)
	// A batch leaves half of that to unary requests, unless one image needs more.
	l.batch = or(c.MaxBatchBytes, byteSize(max(images.MaxImageBytes, min(defaults.MaxBatchBytes, wholeMiB(service.LargestBatch(body/2))))))
	left = heap - fixed - bodyFactor*body
	l.inflight = or(c.MaxInflightBytes, byteSize(min(defaults.MaxInflightBytes, max(1<<20, wholeMiB(left)))))
	inflight := clamp(int64(l.inflight), maxSize)
	// Almost every image takes at least one byte per pixel.
	l.pixels = or(c.MaxPixels, min(defaults.MaxPixels, max(1, inflight)))

	l.memory = fixed + bodyFactor*body + inflight
	l.heap = min(heap, l.memory)
	return l, left
}

const (
	// maxImageSize is the maximum size of an image, and of a batch, that flags allow.
	maxImageSize = math.MaxInt32 / 2
	// maxSize is larger than any flag allows, which is checked later, and small enough
	// that sums of it do not overflow.
	maxSize = 1 << 55
)

func clamp[T int | int64](n, limit T) T { return max(0, min(n, limit)) }

func wholeMiB(n int64) int64 { return n >> 20 << 20 }

// limit derives the limits from the resources of this process. If these are too small,
// the error says what to do.
func (c *config) limit() error {
	r := c.resources
	workers := procs
	if !chosenProcs(os.Getenv("GOMAXPROCS")) {
		workers = r.workers(procs)
	}
	var left int64
	if c.limits, left = c.derive(r.memory, workers); c.MaxInflightBytes != nil || left >= minInflight {
		return nil
	}
	const step, maxSteps = 8 << 20, 1 << 30
	needs := 1 + sort.Search(maxSteps, func(n int) bool {
		_, left := c.derive(step*int64(n+1), workers)
		return left >= minInflight
	})
	var remedies []string
	if needs <= maxSteps { // otherwise a flag has an invalid value
		remedies = append(remedies, fmt.Sprintf("allow it to use %v", byteSize(step*int64(needs))))
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
	return fmt.Errorf("this process may use %v of memory (%s), which leaves too little for images: %s",
		byteSize(r.memory), r.memoryFrom, strings.Join(remedies, ", or "))
}

// logLimits logs the limits, and the resources from which their defaults were derived.
func (c *config) logLimits(log *slog.Logger) {
	r, l := c.resources, c.limits
	if c.resourcesErr != nil && runtime.GOOS == "linux" { // other systems have no cgroups
		log.Warn("the limits of this process's cgroups cannot be read, so the defaults may be too large for its container", "error", c.resourcesErr)
	}
	attrs := []any{"memory", "unknown"}
	if r.memory > 0 {
		attrs = []any{"memory", byteSize(r.memory).String(), "memory_from", r.memoryFrom}
	}
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
		"gomemlimit", byteSize(debug.SetMemoryLimit(-1)).String(),
		"gogc", cmp.Or(os.Getenv("GOGC"), strconv.Itoa(heapGrowth)))...)
	if r.memory > 0 && l.memory > r.memory/100*heapShare {
		log.Warn("the limits set by flags add up to more memory than this process may use, so it may be killed",
			"needed", byteSize(l.memory*100/heapShare).String(), "memory", byteSize(r.memory).String(), "memory_from", r.memoryFrom)
	}
}
