package service

import (
	"context"
	_ "embed" // for the image
	"errors"
	"fmt"
	"image"
	"math"
	"strings"
	"sync"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/photo"
)

// selfTestImage is testdata/sample.jpg of github.com/esimov/pigo v1.4.6, MIT
// licensed; see selftest/LICENSE. It shows one face. The file was progressive; as a
// baseline file, made by "jpegtran -copy none -optimize", it has the same pixels, and is
// decoded in a third of the time.
//
//go:embed selftest/sample.jpg
var selfTestImage []byte

// The position of the face in selfTestImage, measured by hand.
var (
	selfTestBox   = face.Box{MinX: 60, MinY: 85, MaxX: 254, MaxY: 339}
	selfTestLeft  = face.Point{X: 115, Y: 184}
	selfTestRight = face.Point{X: 203, Y: 183}
)

// selfTestMinFace is the smallest face that the test looks for: a search for smaller ones would
// delay each start by some milliseconds.
const selfTestMinFace = 100

// SelfTest runs every model on a built-in image with one face. An error names the
// models that failed, and says what they found instead.
func (s *Service) SelfTest(ctx context.Context) error {
	// This does not use the limits for clients, which may be lower.
	opened, err := photo.Open(selfTestImage, photo.Limits{MaxPixels: 1 << 20})
	if err != nil {
		return fmt.Errorf("self-test image: %w", err)
	}
	img, err := opened.Decode(ctx)
	if err != nil {
		return fmt.Errorf("self-test image: %w", err)
	}
	// Beside each other, so that the server is ready sooner.
	errs := make([]error, len(s.config.Models))
	var all sync.WaitGroup
	for i, m := range s.config.Models {
		all.Go(func() {
			if err := selfTest(ctx, m.Detector, img); err != nil {
				errs[i] = fmt.Errorf("model %q: self-test: %w", m.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// selfTest runs a model on the built-in image.
func selfTest(ctx context.Context, d face.Detector, img image.Image) error {
	info := d.Info()
	faces, err := face.Detect(ctx, d, face.Whole(img, photo.Turn), face.Options{MinConfidence: info.MinConfidence, MinFaceSize: selfTestMinFace})
	if err != nil {
		return err
	}
	if !isSelfTestFace(faces, info.Landmarks) {
		return fmt.Errorf("the built-in image has one face, at %s; this model finds %s; its file may be damaged, or may contain another network than expected",
			place(face.Face{Box: selfTestBox, Landmarks: &face.Landmarks{LeftEye: selfTestLeft, RightEye: selfTestRight}}), places(faces))
	}
	return nil
}

// places describes the positions of the first few faces.
func places(faces []face.Face) string {
	if len(faces) == 0 {
		return "none"
	}
	const limit = 3
	var all []string
	for _, f := range faces[:min(limit, len(faces))] {
		all = append(all, place(f))
	}
	if len(faces) > limit {
		all = append(all, fmt.Sprintf("%d more", len(faces)-limit))
	}
	return strings.Join(all, ", ")
}

func place(f face.Face) string {
	text := fmt.Sprintf("(%.0f, %.0f) to (%.0f, %.0f)", f.Box.MinX, f.Box.MinY, f.Box.MaxX, f.Box.MaxY)
	if l := f.Landmarks; l != nil {
		text += fmt.Sprintf(" with eyes at (%.0f, %.0f) and (%.0f, %.0f)", l.LeftEye.X, l.LeftEye.Y, l.RightEye.X, l.RightEye.Y)
	}
	return text
}

func isSelfTestFace(faces []face.Face, landmarks bool) bool {
	// Boxes of different models differ somewhat.
	if len(faces) != 1 || face.IoU(faces[0].Box, selfTestBox) < 0.6 {
		return false
	}
	if !landmarks {
		return true
	}
	l := faces[0].Landmarks
	near := func(a, b face.Point) bool { return math.Hypot(a.X-b.X, a.Y-b.Y) < 20 }
	return l != nil && near(l.LeftEye, selfTestLeft) && near(l.RightEye, selfTestRight)
}
