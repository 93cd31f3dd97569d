package service

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// Model is a detector under the name that callers use for it.
type Model struct {
	Name     string
	Detector face.Detector
}

// Config says what a Service may use. DefaultConfig has every limit; Models is
// the caller's to set.
type Config struct {
	// Models by name; the first is the default. At least one.
	Models []Model
	// MaxImageBytes bounds raw_data, encoded or bare. Messages may be 5/12 larger, so
	// that base64 with line breaks fits.
	MaxImageBytes int64
	// MaxBatchBytes bounds the raw_data of all images of a batch together, as
	// MaxImageBytes does that of one. No image may be larger than that allows.
	MaxBatchBytes int64
	// MaxRequests is how many requests may be in flight, streams among them. Anything over
	// the limit is refused as OVERLOADED before its body is read.
	MaxRequests int
	// MaxBodyBytes bounds what has come of the bodies of all requests in flight. A
	// call for whose declared length or next bytes there is no room is refused as
	// OVERLOADED, unless a slower one can make room; streams, which have at most
	// half or one largest message, wait. A body that is compressed counts as what it
	// may become while it is unpacked.
	MaxBodyBytes int64
	// MaxPixels bounds width times height of one image.
	MaxPixels int64
	// MaxInflightBytes bounds the memory of all images that are being decoded or
	// searched for faces, by what decoding them takes at its peak, garbage of images before
	// them included. An image that needs more than this alone is refused.
	MaxInflightBytes int64
	// Workers is how many images are decoded or searched at once, each on one
	// core.
	Workers int
	// Queue is how many more may wait for a worker. Anything over the limit is refused
	// as OVERLOADED.
	Queue int
	// Timeout is the longest time that a call, or an image of a stream or batch, may
	// take, whatever deadline its caller sets.
	Timeout time.Duration
	// DefaultTimeout is the deadline of calls that set none.
	DefaultTimeout time.Duration
	// StreamIdle is how long a stream may bring no image, or take no answer, before
	// it is ended.
	StreamIdle time.Duration
	// Environment goes into the meta data of answers.
	Environment inferencev1.Environment
	// Logger gets what operators have to know: internal errors with their causes.
	Logger *slog.Logger
	// Observe, if not nil, is called for every image that the service was asked
	// about, when that is over: answered, failed, or refused before it was read.
	// It is called from many goroutines, with the context of the request, which
	// may have ended; record is not used afterwards, except by the code that put it into
	// that context.
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

// What no machine has, and no caller waits for. Sums of limits below these do not
// overflow.
const (
	maxWorkers = 1024 // each takes threads and memory
	maxBytes   = 1 << 50
	maxTime    = 365 * 24 * time.Hour
	// minInflightBytes is enough to decode a small image.
	minInflightBytes = 1 << 20
)

// A FieldError says what is wrong with one field of a Config.
type FieldError struct {
	// Field is the name of the field, and problem says what is wrong with it. Names of
	// other fields stand in braces there.
	Field, problem string
}

// Error calls the fields by the names that they have in Config.
func (e *FieldError) Error() string {
	return e.Message(func(field string) string { return field })
}

// Message calls the fields by the names that name returns for those in Config, such as
// the flags that set them.
func (e *FieldError) Message(name func(field string) string) string {
	return name(e.Field) + ": " + fieldInBraces.ReplaceAllStringFunc(e.problem, func(field string) string {
		return name(strings.Trim(field, "{}"))
	})
}

var fieldInBraces = regexp.MustCompile(`\{[A-Za-z]+\}`)

// Validate returns everything that is wrong with c, nil if nothing is.
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
		check(value > 0 && value <= maxTime, field, "%v is not above 0 and at most %v", value, maxTime)
	}
	check(len(c.Models) > 0, "Models", "at least one is needed")
	seen := map[string]bool{}
	for _, m := range c.Models {
		check(m.Name != "" && m.Detector != nil, "Models", "a model has a name and a detector")
		check(!seen[m.Name], "Models", "%q is there twice", m.Name)
		seen[m.Name] = true
	}
	const maxImage = math.MaxInt32 / 2
	within("MaxImageBytes", c.MaxImageBytes, 1, maxImage)
	within("MaxBatchBytes", c.MaxBatchBytes, 1, maxImage)
	within("MaxRequests", int64(c.MaxRequests), 1, math.MaxInt32)
	if largest := c.LargestMessage(); max(c.MaxImageBytes, c.MaxBatchBytes) <= maxImage { // or it is not this that is wrong
		check(c.MaxBodyBytes >= largest, "MaxBodyBytes", "%d is below %d, the largest message that {MaxImageBytes} and {MaxBatchBytes} allow", c.MaxBodyBytes, largest)
	}
	check(c.MaxBodyBytes <= maxBytes, "MaxBodyBytes", "%d is above %d", c.MaxBodyBytes, int64(maxBytes))
	within("MaxPixels", c.MaxPixels, 1, math.MaxInt32)
	check(c.MaxInflightBytes >= minInflightBytes, "MaxInflightBytes", "%d is below 1MiB, in which no image can be decoded", c.MaxInflightBytes)
	check(c.MaxInflightBytes <= maxBytes, "MaxInflightBytes", "%d is above %d", c.MaxInflightBytes, int64(maxBytes))
	within("Workers", int64(c.Workers), 1, maxWorkers)
	within("Queue", int64(c.Queue), 0, math.MaxInt32)
	duration("Timeout", c.Timeout)
	check(c.DefaultTimeout > 0, "DefaultTimeout", "%v is not above 0", c.DefaultTimeout)
	check(c.DefaultTimeout <= c.Timeout || c.Timeout <= 0, "DefaultTimeout", "%v is above {Timeout}, %v, which no call may exceed: lower the one or raise the other", c.DefaultTimeout, c.Timeout)
	duration("StreamIdle", c.StreamIdle)
	check(c.Logger != nil, "Logger", "it is needed")
	return wrong
}

// LargestMessage is the size of the largest message of any procedure, by
// MaxImageBytes and MaxBatchBytes. MaxBodyBytes is not below it.
func (c Config) LargestMessage() int64 { return maxMessage(max(c.MaxImageBytes, c.MaxBatchBytes)) }

// LargestBatch is the largest MaxBatchBytes with which LargestMessage is no more than
// message; not below 0.
func LargestBatch(message int64) int64 { return max(0, (message-maxMessage(0))/17*12) }
