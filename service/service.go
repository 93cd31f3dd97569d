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
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mienproject/mien/admission"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
)

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

// Predict finds the faces of one image, for Go programs that call the service without
// HTTP. Its errors are sentinels, which the handlers turn into those of the table.
func (s *Service) Predict(ctx context.Context, req *inferencev1.Image) (*inferencev1.InferResults, error) {
	return s.infer(ctx, &request{procedure: &procedures[0], record: RecordFrom(ctx)}, req, nil)
}

// A drawing marks faces in the upright picture img.
type drawing func(img image.Image, faces []face.Face) error

// infer finds the faces of one image, for the request rq. It is the one path of every way
// in. If draw is not nil, it gets the picture and its
// faces as part of the work in the slot.
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

	// What is wrong with the request itself is reported before it waits for anything.
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

	src := &source{service: s, request: rq, picture: picture, draw: draw != nil, leave: func() {}}
	// The slot is given back when the work has ended, which is not when the client has
	// left.
	defer func() { src.leave() }()
	faces, err := face.Detect(ctx, model.Detector, src, opts)
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

// source is the picture of a call, for face.Detect. It is decoded once there is memory
// and a worker for as much of it as the model needs.
type source struct {
	service *Service
	request *request
	picture *photo.Photo
	draw    bool // faces will be drawn on the whole picture

	leave   func()      // gives back what Decode has taken
	whole   image.Image // what was decoded, if it is all of the picture
	decoded time.Time   // when it was, if it was
}

// Size implements face.Source.
func (s *source) Size() image.Point { return image.Pt(s.picture.Width, s.picture.Height) }

// Decode implements face.Source.
func (s *source) Decode(ctx context.Context, in face.Input) (face.Decoded, error) {
	reduced := s.picture.Reduced(photo.Options{Gray: in.Gray, Reduce: in.Reduce})
	if err := s.admit(ctx, memoryOf(reduced)); err != nil {
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
	return face.Decoded{Image: img, Reduction: reduced.Reduction, FullSize: reduced.FullSize}, nil
}

// mark draws the faces. They are those that every other door answers, so if they were
// found in less than the whole picture, that is decoded now.
func (s *source) mark(ctx context.Context, faces []face.Face, draw drawing) (err error) {
	img := s.whole
	if img == nil {
		img, err = s.picture.Decode(ctx)
	}
	if err == nil {
		err = draw(img, faces)
	}
	return errors.Join(ctx.Err(), err)
}

// admit waits for a worker, and for the memory that decoding takes and that drawing
// will take.
func (s *source) admit(ctx context.Context, memory int64) error {
	if err := s.service.checkMemory(s.picture, "decoding", memory); err != nil {
		return err
	}
	if s.draw {
		// All of it once more, in RGBA, and encoded.
		memory += s.picture.MemoryBytes + 8*int64(s.picture.Width)*int64(s.picture.Height)
		if err := s.service.checkMemory(s.picture, "decoding and marking", memory); err != nil {
			return fmt.Errorf("%w; %s", err, jsonFits)
		}
	}
	leave, err := s.service.enter(ctx, memory, s.request.streamed)
	s.request.record.Queue = time.Since(s.request.record.Arrived)
	if err != nil {
		return err
	}
	s.leave = leave
	return nil
}

// jsonFits is the remedy for a picture that is too large to be marked.
const jsonFits = "it fits when the answer is JSON (Accept: application/json)"

// checkMemory refuses what needs more memory than all images together may take: to
// wait for it would not help.
func (s *Service) checkMemory(p *photo.Photo, doing string, memory int64) error {
	if limit := s.config.MaxInflightBytes; memory > limit {
		return fmt.Errorf("%w: %s this picture of %d×%d pixels takes up to %d bytes of memory, and this server has %d for all pictures together",
			photo.ErrTooManyPixels, doing, p.Width, p.Height, memory, limit)
	}
	return nil
}

// ListModels returns the models, the default one first.
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
