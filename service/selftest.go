package service

import (
	"context"
	_ "embed" // the picture
	"fmt"
	"math"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/photo"
)

// selfTestPicture is testdata/sample.jpg of github.com/esimov/pigo v1.4.6, MIT
// licensed; see selftest/LICENSE. It shows one face.
//
//go:embed selftest/sample.jpg
var selfTestPicture []byte

// Where the face of selfTestPicture is, read off the picture.
var (
	selfTestBox   = face.Box{MinX: 60, MinY: 85, MaxX: 254, MaxY: 339}
	selfTestLeft  = face.Point{X: 115, Y: 184}
	selfTestRight = face.Point{X: 203, Y: 183}
)

// SelfTest asks every model for the face in a built-in picture. An error names
// the model, and tells what it found instead.
func (s *Service) SelfTest(ctx context.Context) error {
	// Not under the callers' limits, which may be lower than this picture.
	picture, err := photo.Open(selfTestPicture, photo.Limits{MaxPixels: 1 << 20})
	if err != nil {
		return fmt.Errorf("self-test picture: %w", err)
	}
	img, err := picture.Decode(ctx)
	if err != nil {
		return fmt.Errorf("self-test picture: %w", err)
	}
	for _, m := range s.config.Models {
		info := m.Detector.Info()
		faces, err := m.Detector.Detect(ctx, img, face.Options{MinConfidence: info.MinConfidence})
		if err != nil {
			return fmt.Errorf("model %q: self-test: %w", m.Name, err)
		}
		if !isSelfTestFace(faces, info.Landmarks) {
			return fmt.Errorf("model %q: self-test: the picture has one face, at %v; found were %+v", m.Name, selfTestBox, faces)
		}
	}
	return nil
}

func isSelfTestFace(faces []face.Face, landmarks bool) bool {
	// Models draw their boxes somewhat differently.
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
