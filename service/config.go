package service

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// Model is a detector with the name that clients use for it.
type Model struct {
	Name     string
	Detector face.Detector
}

// Config has the models and limits of a Service. DefaultConfig returns all limits, but
// no Models.
type Config struct {
	// Models are the available models. The first one is the default. At least one is
	// required.
	Models []Model
	// MaxImageBytes is the maximum of raw_data, encoded or raw pixels. Messages may be
	// 5/12 larger, so that base64 with line breaks fits.
	MaxImageBytes int64
	// MaxBatchBytes is the maximum of raw_data of all images of a batch together, in
	// the same way. It is also a limit for each of its images.
	MaxBatchBytes int64
	// MaxRequests is the maximum number of requests in flight, including streams.
	// Requests over the limit are refused as OVERLOADED before their bodies are read.
	MaxRequests int
	// MaxBodyBytes is the maximum number of bytes held for the bodies of all requests
	// in flight. A request whose declared length or next bytes do not fit is refused as
	// OVERLOADED, unless a slower request can be evicted. Streams, which may hold at
	// most half of the limit or one largest message, wait instead. While a compressed
	// body is inflated, it counts as the maximum size that it can inflate to.
	MaxBodyBytes int64
	// MaxPixels is the maximum of width × height of an image.
	MaxPixels int64
	// MaxInflightBytes is the maximum memory for all images that are being decoded or
	// searched for faces. Each image counts with the peak of its decoding, including
	// garbage of earlier images. An image that needs more than this on its own is
	// rejected.
	MaxInflightBytes int64
	// Workers is the number of images that are decoded or searched at the same time,
	// each on one core.
	Workers int
	// Gate counts each image for which a worker decodes or searches, so that models of the
	// same gate use the other cores only while those are free. Nil means a new gate.
	Gate *cores.Gate
	// Queue is the maximum number of images that wait for a worker. Images over the
	// limit are refused as OVERLOADED.
	Queue int
	// Timeout is the maximum time for a unary request, or for each image of a stream or
	// batch, whatever deadline the client sets.
	Timeout time.Duration
	// DefaultTimeout is the deadline of requests that set none.
	DefaultTimeout time.Duration
	// StreamIdle is how long a stream may send no image, or read no answer, before it
	// is ended.
	StreamIdle time.Duration
	// Environment is returned in the meta_data of answers.
	Environment inferencev1.Environment
	// Logger receives what operators must know: internal errors with their causes.
	Logger *slog.Logger
	// Charge, if not nil, is called before an image waits for a worker, with the number of its
	// pixels, or four times that if it is also searched in its quarter turns. one is true for
	// the image of a unary request, and false for one of a stream or batch, which Charge may
	// let wait until ctx ends. An error refuses the image; OverQuota makes one. ctx is derived
	// from the context of the HTTP request.
	Charge func(ctx context.Context, one bool, pixels int64) error
	// Overloaded, if not nil, is called before a unary request is answered with OVERLOADED. It
	// may set headers of the answer.
	Overloaded func(answer http.Header, r *http.Request)
	// Observe, if not nil, is called once for every image that the service was asked
	// about, when it has been answered, has failed or was refused. It is called from
	// many goroutines, with the context of the request, which may have ended. The
	// service does not use record afterward; only the code that put it into the
	// context may.
	Observe func(ctx context.Context, record *Record)
}

// DefaultConfig returns the limits of a server on this machine, without models.
func DefaultConfig() Config {
	workers := runtime.GOMAXPROCS(0)
	return Config{
		MaxImageBytes:    16 << 20,
		MaxBatchBytes:    64 << 20,
		MaxRequests:      1024,
		MaxBodyBytes:     512 << 20,
		MaxPixels:        64_000_000,
		MaxInflightBytes: 1 << 30,
		Workers:          workers,
		Queue:            4 * workers,
		Timeout:          30 * time.Second,
		DefaultTimeout:   10 * time.Second,
		StreamIdle:       5 * time.Minute,
		Environment:      inferencev1.Environment_ENVIRONMENT_PRODUCTION,
		Logger:           slog.New(slog.DiscardHandler),
	}
}

// Upper bounds for all limits. Sums of values within them do not overflow.
const (
	maxWorkers = 1024 // each takes threads and memory
	maxBytes   = 1 << 50
	maxTime    = 365 * 24 * time.Hour
	// minInflightBytes is enough to decode a small image.
	minInflightBytes = 1 << 20
)

// A FieldError describes what is wrong with one field of a Config.
type FieldError struct {
	// Field is the name of the field. problem says what is wrong with it, and has the
	// names of other fields in braces.
	Field, problem string
}

// Error returns the message with the names of the fields in Config.
func (e *FieldError) Error() string {
	return e.Message(func(field string) string { return field })
}

// Message returns the message with each field's name replaced by name(field), for
// example by the flag that sets it.
func (e *FieldError) Message(name func(field string) string) string {
	return name(e.Field) + ": " + fieldInBraces.ReplaceAllStringFunc(e.problem, func(field string) string {
		return name(strings.Trim(field, "{}"))
	})
}

var fieldInBraces = regexp.MustCompile(`\{[A-Za-z]+\}`)

// Validate returns all problems of c, or nil if there are none.
func (c Config) Validate() (wrong []*FieldError) {
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			wrong = append(wrong, &FieldError{field, fmt.Sprintf(format, args...)})
		}
	}
	within := func(field string, value, low, high int64) {
		check(value >= low && value <= high, field, "%d is not between %d and %d", value, low, high)
	}
	duration := func(field string, value time.Duration) {
		check(value > 0 && value <= maxTime, field, "%v must be above 0 and at most %v", value, maxTime)
	}
	check(len(c.Models) > 0, "Models", "at least one is required")
	seen := map[string]bool{}
	for _, m := range c.Models {
		check(m.Name != "" && m.Detector != nil, "Models", "a model must have a name and a detector")
		check(!seen[m.Name], "Models", "%q occurs twice", m.Name)
		seen[m.Name] = true
	}
	const maxImage = math.MaxInt32 / 2
	within("MaxImageBytes", c.MaxImageBytes, 1, maxImage)
	within("MaxBatchBytes", c.MaxBatchBytes, 1, maxImage)
	within("MaxRequests", int64(c.MaxRequests), 1, math.MaxInt32)
	if largest := c.LargestMessage(); max(c.MaxImageBytes, c.MaxBatchBytes) <= maxImage { // otherwise that is the problem
		check(c.MaxBodyBytes >= largest, "MaxBodyBytes", "%d is below %d, the largest message that {MaxImageBytes} and {MaxBatchBytes} allow", c.MaxBodyBytes, largest)
	}
	check(c.MaxBodyBytes <= maxBytes, "MaxBodyBytes", "%d is above %d", c.MaxBodyBytes, int64(maxBytes))
	within("MaxPixels", c.MaxPixels, 1, math.MaxInt32)
	check(c.MaxInflightBytes >= minInflightBytes, "MaxInflightBytes", "%d is below 1MiB, which is too little to decode any image", c.MaxInflightBytes)
	check(c.MaxInflightBytes <= maxBytes, "MaxInflightBytes", "%d is above %d", c.MaxInflightBytes, int64(maxBytes))
	within("Workers", int64(c.Workers), 1, maxWorkers)
	within("Queue", int64(c.Queue), 0, math.MaxInt32)
	duration("Timeout", c.Timeout)
	check(c.DefaultTimeout > 0, "DefaultTimeout", "%v is not above 0", c.DefaultTimeout)
	check(c.DefaultTimeout <= c.Timeout || c.Timeout <= 0, "DefaultTimeout", "%v is above {Timeout}, %v, which no request may exceed: lower this or raise {Timeout}", c.DefaultTimeout, c.Timeout)
	duration("StreamIdle", c.StreamIdle)
	check(c.Logger != nil, "Logger", "it is required")
	return wrong
}

// LargestMessage returns the size of the largest message of any procedure, which
// follows from MaxImageBytes and MaxBatchBytes. MaxBodyBytes must be at least this.
func (c Config) LargestMessage() int64 { return maxMessage(max(c.MaxImageBytes, c.MaxBatchBytes)) }

// LargestBatch returns the largest MaxBatchBytes for which LargestMessage is at most
// message, or 0.
func LargestBatch(message int64) int64 { return max(0, (message-maxMessage(0))/17*12) }
