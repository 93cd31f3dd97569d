// Package service answers the calls of the Inference service: it admits them
// within limits, decodes the picture, asks the model, and turns what happened
// into an answer or an error of the one table in errors.go.
//
// It knows no flag, no environment variable, no concrete model and no metrics
// exporter: cmd/server hands those in.
package service

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mienproject/mien/admission"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
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
	// MaxRequests is how many requests may be in flight, streams among them. What
	// comes beyond is refused as OVERLOADED before its body is read.
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
	// looked at, by what decoding them takes at its peak, garbage of images before
	// them included. An image that needs more than this alone is refused.
	MaxInflightBytes int64
	// Workers is how many images are decoded or looked at at once, each on one
	// core.
	Workers int
	// Queue is how many more may wait for a worker. What comes beyond is refused
	// as OVERLOADED.
	Queue int
	// Timeout is the longest a call may take, or an image of a stream or batch,
	// whatever its caller allows.
	Timeout time.Duration
	// DefaultTimeout is what one may take whose caller set no deadline.
	DefaultTimeout time.Duration
	// StreamIdle is how long a stream may bring no image, or take no answer, before
	// it is ended.
	StreamIdle time.Duration
	// Environment goes into the meta data of answers.
	Environment inferencev1.Environment
	// Logger gets what operators have to know: internal errors with their causes.
	Logger *slog.Logger
	// Observe, if not nil, is told of every image that the service was asked
	// about, when that is over: answered, failed, or refused before it was read.
	// It is called from many goroutines, with the context of the request, which
	// may have ended; record is not used afterwards, but by whoever put it into that
	// context.
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
	mostWorkers = 1024 // each takes threads and memory
	mostBytes   = 1 << 50
	mostTime    = 365 * 24 * time.Hour
)

// Validate tells everything that is wrong with c, at once. Its messages name
// flags of the server, for that is where the values come from.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Models) > 0, "--model: at least one is needed")
	seen := map[string]bool{}
	for _, m := range c.Models {
		check(m.Name != "" && m.Detector != nil, "--model: a model has a name and a detector")
		check(!seen[m.Name], "--model: %q is there twice", m.Name)
		seen[m.Name] = true
	}
	const most = math.MaxInt32
	check(c.MaxImageBytes >= 1 && c.MaxImageBytes <= most/2, "--max-image-bytes: %d is not between 1 and %d", c.MaxImageBytes, most/2)
	check(c.MaxBatchBytes >= 1 && c.MaxBatchBytes <= most/2, "--max-batch-bytes: %d is not between 1 and %d", c.MaxBatchBytes, most/2)
	messages := c.MaxImageBytes <= most/2 && c.MaxBatchBytes <= most/2 // or their size is not the one to tell of
	check(c.MaxRequests >= 1 && c.MaxRequests <= most, "--max-requests: %d is not between 1 and %d", c.MaxRequests, most)
	largest := c.LargestMessage()
	check(c.MaxBodyBytes >= largest || !messages, "--max-body-bytes: %d is below %d, the largest message that --max-image-bytes and --max-batch-bytes allow", c.MaxBodyBytes, largest)
	check(c.MaxBodyBytes <= mostBytes, "--max-body-bytes: %d is above %d", c.MaxBodyBytes, int64(mostBytes))
	check(c.MaxPixels >= 1 && c.MaxPixels <= most, "--max-pixels: %d is not between 1 and %d", c.MaxPixels, most)
	check(c.MaxInflightBytes >= 1<<20, "--max-inflight-bytes: %d is below 1MiB, in which no image can be decoded", c.MaxInflightBytes)
	check(c.MaxInflightBytes <= mostBytes, "--max-inflight-bytes: %d is above %d", c.MaxInflightBytes, int64(mostBytes))
	check(c.Workers >= 1 && c.Workers <= mostWorkers, "--workers: %d is not between 1 and %d", c.Workers, mostWorkers)
	check(c.Queue >= 0 && c.Queue <= most, "--queue: %d is not between 0 and %d", c.Queue, most)
	check(c.Timeout > 0 && c.Timeout <= mostTime, "--timeout: %v is not above 0 and at most %v", c.Timeout, mostTime)
	check(c.DefaultTimeout > 0, "--default-timeout: %v is not above 0", c.DefaultTimeout)
	check(c.DefaultTimeout <= c.Timeout || c.Timeout <= 0, "--default-timeout: %v is above --timeout, %v, which no call may exceed: lower the one or raise the other", c.DefaultTimeout, c.Timeout)
	check(c.StreamIdle > 0 && c.StreamIdle <= mostTime, "--stream-idle-timeout: %v is not above 0 and at most %v", c.StreamIdle, mostTime)
	check(c.Logger != nil, "a logger is needed")
	return errors.Join(errs...)
}

// LargestMessage is the size of the largest message of any procedure, by
// MaxImageBytes and MaxBatchBytes. MaxBodyBytes is not below it.
func (c Config) LargestMessage() int64 { return maxMessage(max(c.MaxImageBytes, c.MaxBatchBytes)) }

// LargestBatch is the largest MaxBatchBytes with which LargestMessage is no more than
// message; not below 0.
func LargestBatch(message int64) int64 { return max(0, (message-maxMessage(0))/17*12) }

// Service answers the Inference service's calls. It is safe for concurrent use.
type Service struct {
	config Config
	ledger *admission.Ledger
	queue  *admission.Queue
	memory *admission.Memory
	// drained is closed when draining begins.
	drained chan struct{}
	drain   sync.Once
}

// New returns a service, or all that is wrong with c.
func New(c Config) (*Service, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := checkProcedures(); err != nil {
		return nil, err
	}
	return &Service{
		config:  c,
		ledger:  newLedger(c),
		queue:   admission.NewQueue(c.Workers, c.Queue),
		memory:  admission.NewMemory(c.MaxInflightBytes),
		drained: make(chan struct{}),
	}, nil
}

// Models returns the names of the models, the default one first.
func (s *Service) Models() []string {
	var names []string
	for _, m := range s.config.Models {
		names = append(names, m.Name)
	}
	return names
}

// Drain makes the service refuse new work as DRAINING: requests that come now, and
// images that come by open streams, which end soon after. Work that was admitted
// goes on, all of a batch too.
func (s *Service) Drain() { s.drain.Do(func() { close(s.drained) }) }

// Predict finds the faces of one image. It is the one path of every way in: its
// errors are sentinels, which Handler turns into the table's errors.
func (s *Service) Predict(ctx context.Context, req *inferencev1.Image) (*inferencev1.InferResults, error) {
	return s.infer(ctx, requestFrom(ctx), req, nil)
}

// infer is Predict. When draw is not nil it gets the picture and its faces, as
// part of the work that is admitted.
func (s *Service) infer(ctx context.Context, rq *request, req *inferencev1.Image, draw func(image.Image, []face.Face) error) (*inferencev1.InferResults, error) {
	record := rq.record
	record.Arrived = time.Now()
	record.Bytes = len(req.GetRawData())
	if rq.body != nil {
		rq.body.settle(int64(record.Bytes))
	}
	if !rq.admitted && s.draining() {
		return nil, errDraining
	}

	// What is wrong with the request itself is told before it waits for anything.
	model, err := s.model(rq.procedure, req.GetOptions().GetModel())
	if err != nil {
		return nil, err
	}
	record.Model = model.Name
	opts, err := detectOptions(rq.procedure, req.GetOptions(), model.Detector.Info())
	if err != nil {
		return nil, err
	}
	picture, err := s.open(rq.procedure, req)
	if err != nil {
		return nil, err
	}
	record.Width, record.Height = picture.Width, picture.Height

	needs := model.Detector.Needs(picture.Width, picture.Height, opts)
	looked := picture.Reduced(photo.Options{Gray: needs.Gray, Reduce: needs.Reduce})
	memory := memoryOf(looked)
	if err := s.checkMemory(picture, "decoding", memory); err != nil {
		return nil, err
	}
	if draw != nil {
		// All of it once more, in RGBA, and encoded.
		memory += picture.MemoryBytes + 8*int64(picture.Width)*int64(picture.Height)
		if err := s.checkMemory(picture, "decoding and marking", memory); err != nil {
			return nil, fmt.Errorf("%w; %s", err, jsonFits)
		}
	}
	leave, err := s.enter(ctx, memory, rq.streamed)
	record.Queue = time.Since(record.Arrived)
	if err != nil {
		return nil, err
	}
	// The slot is given back when the work has ended, which is not when the
	// caller has left.
	defer leave()

	started := time.Now()
	img, err := looked.Decode(ctx)
	record.Decode = time.Since(started)
	if err != nil {
		return nil, err
	}
	record.Pixels = int64(img.Bounds().Dx()) * int64(img.Bounds().Dy())
	started = time.Now()
	opts.MinFaceSize /= float64(looked.Reduction)
	faces, err := model.Detector.Detect(ctx, img, opts)
	record.Detect = time.Since(started)
	if err != nil {
		return nil, err
	}
	if looked.Reduction > 1 {
		for i := range faces {
			faces[i].Move(looked.FullSize, picture.Width, picture.Height)
		}
	}
	faces = face.Distinct(faces, model.Detector.Info().MaxIoU)
	record.Faces = len(faces)
	if draw != nil {
		// The faces are those that every other way in gives, so where they were
		// found in less than the whole picture, that is not the one to draw on.
		if needs.Gray || looked.Reduction > 1 {
			img, err = picture.Decode(ctx)
		}
		if err == nil {
			err = draw(img, faces)
		}
		if err := errors.Join(ctx.Err(), err); err != nil {
			return nil, err
		}
	}

	return &inferencev1.InferResults{
		ImageId:  req.GetImageId(),
		MetaData: s.metaData(record.ID),
		Results:  results(faces, picture.Width, picture.Height),
		Width:    int32(picture.Width),
		Height:   int32(picture.Height),
		Model:    model.Name,
		Timing: &inferencev1.Timing{
			Queue:  durationpb.New(record.Queue),
			Decode: durationpb.New(record.Decode),
			Detect: durationpb.New(record.Detect),
		},
	}, nil
}

// jsonFits is the remedy for a picture that is too large to be marked.
const jsonFits = "it fits when the answer is JSON (Accept: application/json)"

// checkMemory refuses what needs more memory than all images together may take: to
// wait for it would not help.
func (s *Service) checkMemory(p *photo.Photo, doing string, memory int64) error {
	if limit := s.config.MaxInflightBytes; memory > limit {
		return fmt.Errorf("%w: %s this picture of %d×%d pixels takes up to %d bytes of memory, the limit is %d (--max-inflight-bytes)",
			photo.ErrTooManyPixels, doing, p.Width, p.Height, memory, limit)
	}
	return nil
}

// ListModels tells the models, the default one first.
func (s *Service) ListModels(context.Context, *inferencev1.ListModelsRequest) (*inferencev1.ListModelsResponse, error) {
	res := &inferencev1.ListModelsResponse{}
	for i, m := range s.config.Models {
		info := m.Detector.Info()
		res.Models = append(res.Models, &inferencev1.Model{
			Name:                 m.Name,
			Family:               info.Family,
			Version:              info.Version,
			InputWidth:           int32(info.InputSize.X),
			InputHeight:          int32(info.InputSize.Y),
			Landmarks:            info.Landmarks,
			Default:              i == 0,
			DefaultMinConfidence: float32(info.MinConfidence),
			MinFaceSize:          int32(info.MinFaceSize),
		})
	}
	return res, nil
}

// model returns the model of that name, the default one for none.
func (s *Service) model(p *procedure, name string) (Model, error) {
	if name == "" {
		return s.config.Models[0], nil
	}
	for _, m := range s.config.Models {
		if m.Name == name {
			return m, nil
		}
	}
	return Model{}, fmt.Errorf("%w: %s is %q; this server has %q", errUnknownModel, p.optionName("model"), excerpt(name), s.Models())
}

// open reads the header of the request's image.
func (s *Service) open(p *procedure, req *inferencev1.Image) (*photo.Photo, error) {
	data := req.GetRawData()
	if n := int64(len(data)); n > s.config.MaxImageBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, this server takes %d", errTooManyBytes, p.image, n, s.config.MaxImageBytes)
	}
	// The memory that it takes depends on how much of it the model needs: infer looks
	// at that.
	limits := photo.Limits{MaxPixels: s.config.MaxPixels}
	if req.GetPixelFormat() == inferencev1.PixelFormat_PIXEL_FORMAT_ENCODED {
		p, err := photo.Open(data, limits)
		if errors.Is(err, photo.ErrUnsupportedFormat) && req.GetWidth() > 0 && req.GetHeight() > 0 {
			// In JSON, a format by a wrong name is ignored as an unknown field is.
			err = fmt.Errorf("%w; if these are bare pixels, pixel_format has to tell, as PIXEL_FORMAT_RGB24 does", err)
		}
		return p, err
	}
	format, err := pixelFormat(req.GetPixelFormat())
	if err != nil {
		return nil, err
	}
	return photo.OpenRaw(data, format, int(req.GetWidth()), int(req.GetHeight()), limits)
}

// memoryOf is what decoding a picture takes at its peak, and a byte a pixel for
// the luminance that a model may make of it, with a third of that for the same at a
// half, a quarter and so on of its size.
func memoryOf(p *photo.Photo) int64 {
	return p.MemoryBytes + 4*int64(p.Width)*int64(p.Height)/3
}

// isoDate is RFC 3339 as Python writes it: its versions before 3.11 read nothing else
// with datetime.fromisoformat.
const isoDate = "2006-01-02T15:04:05.000000-07:00"

func (s *Service) metaData(id string) *inferencev1.MetaData {
	now := time.Now().UTC()
	return &inferencev1.MetaData{
		Timestamp:   float64(now.UnixMicro()) / 1e6,
		Environment: s.config.Environment,
		Uuid:        id,
		IsoDate:     now.Format(isoDate),
	}
}
