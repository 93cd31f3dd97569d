// Package service implements the Inference service. It admits requests within limits,
// decodes the image, runs the model, and returns the result, or an error from the table
// in errors.go.
//
// It knows no flags, no environment variables, no concrete models and no metrics
// exporter: cmd/server passes those in.
package service

import (
	"context"
	"errors"
	"fmt"
	"image"
	"sync"
	"time"

	"connectrpc.com/connect"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mienproject/mien/admission"
	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/internal/freelist"
	"github.com/mienproject/mien/photo"
)

// Service implements the Inference service. It is safe for concurrent use.
type Service struct {
	config Config
	ledger *admission.Ledger
	queue  *admission.Queue
	memory *admission.Memory
	// drained is closed when draining begins.
	drained    chan struct{}
	drain      sync.Once
	statistics *statistics
	// errorWriter writes errors in the protocol of an RPC, outside of Connect's handlers.
	errorWriter *connect.ErrorWriter
}

// New returns a service. If c is invalid, the error lists every problem.
func New(c Config) (*Service, error) {
	if wrong := c.Validate(); len(wrong) > 0 {
		var errs []error
		for _, err := range wrong {
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	if err := checkProcedures(); err != nil {
		return nil, err
	}
	if c.Gate == nil {
		c.Gate = cores.NewGate(c.Workers)
	}
	return &Service{
		errorWriter: connect.NewErrorWriter(),
		config:      c,
		ledger:      newLedger(c),
		queue:       admission.NewQueue(c.Workers, c.Queue),
		memory:      admission.NewMemory(c.MaxInflightBytes, freelist.Empty),
		drained:     make(chan struct{}),
		statistics:  newStatistics(c.Models),
	}, nil
}

// Models returns the names of the models. The first one is the default.
func (s *Service) Models() []string {
	var names []string
	for _, m := range s.config.Models {
		names = append(names, m.Name)
	}
	return names
}

// Drain makes the service refuse new requests with DRAINING, and new images on open
// streams, which end soon after. Admitted work continues, including all images of a
// batch.
func (s *Service) Drain() { s.drain.Do(func() { close(s.drained) }) }

// Predict finds the faces in one image, for Go programs that call the service without
// HTTP. Its errors are sentinels, which the handlers convert according to the table in
// errors.go.
func (s *Service) Predict(ctx context.Context, req *inferencev1.Image) (*inferencev1.InferResults, error) {
	return s.infer(ctx, &request{procedure: &procedures[0], record: RecordFrom(ctx)}, req, nil)
}

// A drawing draws faces on the upright image img.
type drawing func(img image.Image, faces []face.Face) error

// infer finds the faces in one image, for the request rq. All protocols use this path. If
// draw is not nil, it is called with the image and its faces while the worker slot is
// still held.
func (s *Service) infer(ctx context.Context, rq *request, req *inferencev1.Image, draw drawing) (*inferencev1.InferResults, error) {
	record := rq.record
	record.Arrived = time.Now()
	record.Bytes = len(req.GetRawData())
	if rq.body != nil {
		rq.body.settle(int64(record.Bytes))
	}
	if !rq.admitted && s.draining() {
		return nil, errDraining
	}

	// Report an invalid request before it waits for anything.
	model, err := s.model(rq.procedure, req.GetOptions().GetModel())
	if err != nil {
		return nil, err
	}
	record.Model = model.Name
	opts, err := detectOptions(rq.procedure, req.GetOptions(), model.Detector.Info())
	if err != nil {
		return nil, err
	}
	opened, err := s.open(rq.procedure, req)
	if err != nil {
		return nil, err
	}
	record.AnyOrientation = opts.AnyOrientation
	record.Width, record.Height = opened.Width, opened.Height
	if err := s.charge(ctx, rq, opened.Width, opened.Height, opts.AnyOrientation); err != nil {
		return nil, err
	}

	src := &source{service: s, request: rq, photo: opened, draw: draw != nil, anyOrientation: opts.AnyOrientation, leave: func() {}}
	// The slot is released when the work has ended, even if the client has disconnected
	// before.
	defer func() { src.leave() }()
	opts.Truncated = func() { record.Truncated = true }
	faces, err := face.Detect(s.config.Gate.Within(ctx), model.Detector, src, opts)
	if !src.decoded.IsZero() {
		record.Detect = time.Since(src.decoded)
	}
	if err != nil {
		return nil, err
	}
	record.Faces = len(faces)
	if draw != nil {
		if err := src.mark(ctx, faces, draw); err != nil {
			return nil, err
		}
	}
	return &inferencev1.InferResults{
		ImageId:   req.GetImageId(),
		MetaData:  s.metaData(record.ID),
		Results:   results(faces, opened.Width, opened.Height),
		Width:     int32(opened.Width),
		Height:    int32(opened.Height),
		Model:     model.Name,
		Truncated: record.Truncated,
		Timing: &inferencev1.Timing{
			Queue:  durationpb.New(record.Queue),
			Decode: durationpb.New(record.Decode),
			Detect: durationpb.New(record.Detect),
		},
	}, nil
}

// charge has Config.Charge decide whether an image fits into the quota of its sender.
func (s *Service) charge(ctx context.Context, rq *request, width, height int, anyOrientation bool) error {
	if s.config.Charge == nil {
		return nil
	}
	return s.config.Charge(ctx, rq.stream == nil, pixelsOf(width, height, anyOrientation))
}

// pixelsOf returns the pixels that a request for an image of that size has to pay for.
func pixelsOf(width, height int, anyOrientation bool) int64 {
	pixels := int64(width) * int64(height)
	if anyOrientation {
		pixels *= 4
	}
	return pixels
}

// source is the image of a request, for face.Detect. It is decoded, as far as the model
// needs, once there is memory and a worker for it.
type source struct {
	service *Service
	request *request
	photo   *photo.Photo
	draw    bool // whether faces will be drawn on the whole image
	// anyOrientation is whether Turn of what is decoded will be called.
	anyOrientation bool

	leave   func()      // releases what Decode has taken
	whole   image.Image // the decoded image if nothing was left out, or nil
	decoded time.Time   // when decoding ended, or zero
}

// Size implements face.Source.
func (s *source) Size() image.Point { return image.Pt(s.photo.Width, s.photo.Height) }

// Decode implements face.Source.
func (s *source) Decode(ctx context.Context, in face.Input) (face.Decoded, error) {
	reduced := s.photo.Reduced(photo.Options{Gray: in.Gray, Reduce: in.Reduce})
	memory := memoryOf(reduced, in)
	if s.anyOrientation {
		memory *= 2 // beside the image there is a copy, turned
	}
	if err := s.admit(ctx, memory); err != nil {
		return face.Decoded{}, err
	}
	started := time.Now()
	img, err := reduced.Decode(ctx)
	s.request.record.Decode = time.Since(started)
	if err != nil {
		return face.Decoded{}, err
	}
	s.request.record.Pixels = int64(img.Bounds().Dx()) * int64(img.Bounds().Dy())
	if !in.Gray && reduced.Reduction == 1 {
		s.whole = img
	}
	s.decoded = time.Now()
	return face.Decoded{
		Image:     img,
		Reduction: reduced.Reduction,
		FullSize:  reduced.FullSize,
		Turn:      func(quarters int) image.Image { return photo.Turn(img, quarters) },
	}, nil
}

// mark draws the faces on the whole image. The faces are the same as in all other
// answers, so if they were found in a reduced image, the whole image is decoded now.
func (s *source) mark(ctx context.Context, faces []face.Face, draw drawing) (err error) {
	img := s.whole
	if img == nil {
		img, err = s.photo.Decode(ctx)
	}
	if err == nil {
		err = draw(img, faces)
	}
	return errors.Join(ctx.Err(), err)
}

// admit waits for a worker, and for the memory that decoding and drawing take.
func (s *source) admit(ctx context.Context, memory int64) error {
	if err := s.service.checkMemory(s.photo, "decoding", memory); err != nil {
		return err
	}
	if s.draw {
		// The whole image, a copy in RGBA, and the encoded result.
		memory += s.photo.MemoryBytes + 8*int64(s.photo.Width)*int64(s.photo.Height)
		if err := s.service.checkMemory(s.photo, "decoding and annotating", memory); err != nil {
			return fmt.Errorf("%w; %s", err, jsonFits)
		}
	}
	leave, err := s.service.enter(ctx, memory, pixelsOf(s.photo.Width, s.photo.Height, s.anyOrientation), s.request.stream)
	s.request.record.Queue = time.Since(s.request.record.Arrived)
	if err != nil {
		return err
	}
	s.service.config.Gate.Hold()
	s.leave = func() {
		s.service.config.Gate.Release()
		leave()
	}
	return nil
}

// jsonFits is the remedy for an image that is too large to be annotated.
const jsonFits = "a JSON answer (Accept: application/json) takes less memory"

// checkMemory rejects an image that needs more memory than all images together may
// take, because waiting would not help.
func (s *Service) checkMemory(p *photo.Photo, doing string, memory int64) error {
	if limit := s.config.MaxInflightBytes; memory > limit {
		return fmt.Errorf("%w: %s this image of %d×%d pixels takes up to %d bytes of memory, but this server has %d for all images together",
			photo.ErrTooManyPixels, doing, p.Width, p.Height, memory, limit)
	}
	return nil
}

// ListModels returns the models. The first one is the default.
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

// model returns the model with that name, or the default model if name is empty.
func (s *Service) model(p *procedure, name string) (Model, error) {
	if name == "" {
		return s.config.Models[0], nil
	}
	for _, m := range s.config.Models {
		if m.Name == name {
			return m, nil
		}
	}
	return Model{}, fmt.Errorf("%w: %s is %q; this server has %q", errUnknownModel, p.modelName(), excerpt(name), s.Models())
}

// open reads the header of the request's image.
func (s *Service) open(p *procedure, req *inferencev1.Image) (*photo.Photo, error) {
	data := req.GetRawData()
	if n := int64(len(data)); n > s.config.MaxImageBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes; the limit of this server is %d", errTooManyBytes, p.image, n, s.config.MaxImageBytes)
	}
	// Memory is not limited here, because it depends on how much of the image the model
	// needs. infer checks it.
	limits := photo.Limits{MaxPixels: s.config.MaxPixels}
	if req.GetPixelFormat() == inferencev1.PixelFormat_PIXEL_FORMAT_ENCODED {
		p, err := photo.Open(data, limits)
		if errors.Is(err, photo.ErrUnsupportedFormat) && req.GetWidth() > 0 && req.GetHeight() > 0 {
			// In JSON, an unknown name of a format is ignored like an unknown field.
			err = fmt.Errorf("%w; if these are raw pixels, set pixel_format, for example to PIXEL_FORMAT_RGB24", err)
		}
		return p, err
	}
	format, err := pixelFormat(req.GetPixelFormat())
	if err != nil {
		return nil, err
	}
	return photo.OpenRaw(data, format, int(req.GetWidth()), int(req.GetHeight()), limits)
}

// memoryOf returns the memory that decoding p and detecting in it take at their peak.
func memoryOf(p *photo.Photo, in face.Input) int64 {
	return p.MemoryBytes + in.Memory(p.Width, p.Height)
}

// isoDate is RFC 3339 as Python writes it. Before Python 3.11, datetime.fromisoformat
// reads nothing else.
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
