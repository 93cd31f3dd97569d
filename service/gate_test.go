package service_test

import (
	"context"
	"image"
	"testing"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/service"
)

// TestImagesHoldTheirCores checks that an image counts in the gate from before it is decoded
// until its answer, and once, although its model enters the gate.
func TestImagesHoldTheirCores(t *testing.T) {
	gate := cores.NewGate(2)
	arrived, leave := make(chan int), make(chan struct{})
	d := stub{detect: func(ctx context.Context, _ image.Image, _ face.Options) ([]face.Face, error) {
		gate.Enter(ctx)
		defer gate.Leave(ctx)
		arrived <- gate.Idle()
		<-leave
		return nil, nil
	}}
	svc, _ := start(t, d, func(c *service.Config) { c.Gate, c.Workers = gate, 2 })
	ended := make(chan error)
	for want := 1; want >= 0; want-- {
		go func() {
			_, err := svc.Predict(t.Context(), &inferencev1.Image{RawData: make([]byte, 64), Width: 8, Height: 8, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8})
			ended <- err
		}()
		if idle := <-arrived; idle != want {
			t.Errorf("%d cores are idle, want %d", idle, want)
		}
	}
	close(leave)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if idle := gate.Idle(); idle != 2 {
		t.Errorf("%d cores are idle after all answers, want 2", idle)
	}
}
