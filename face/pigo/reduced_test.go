package pigo

import (
	"testing"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face/facetest"
)

func TestReduced(t *testing.T) {
	d, err := New(cores.NewGate(2))
	if err != nil {
		t.Fatal(err)
	}
	facetest.CheckReduced(t, d)
}
