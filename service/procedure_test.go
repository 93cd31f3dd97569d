package service

import (
	"context"
	"image"
	"slices"
	"strings"
	"testing"

	"github.com/mienproject/mien/face"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

type noModel struct{ face.Detector }

func (noModel) Detect(context.Context, image.Image, face.Options) ([]face.Face, error) {
	return nil, nil
}

// TestProcedureMissing checks that a service does not start if a procedure of the
// contract is not in its table.
func TestProcedureMissing(t *testing.T) {
	config := DefaultConfig()
	config.Models = []Model{{Name: "none", Detector: noModel{}}}
	if _, err := New(config); err != nil {
		t.Fatal(err)
	}
	all := procedures
	defer func() { procedures = all }()
	procedures = slices.DeleteFunc(slices.Clone(all), func(p procedure) bool {
		return p.path == inferencev1connect.InferencePredictBatchProcedure
	})
	if _, err := New(config); err == nil || !strings.Contains(err.Error(), "PredictBatch") {
		t.Errorf("%v", err)
	}
}

// TestOutcomes checks that each error occurs once in the table, with a code and a
// status that belong together.
func TestOutcomes(t *testing.T) {
	for _, o := range append(slices.Clone(outcomes), internal) {
		if o.reason != strings.ToUpper(o.reason) || o.code == 0 || o.status < 400 || o.status > 599 {
			t.Errorf("%+v", o)
		}
		if same := outcomeOf(o.reason); same.status != o.status || same.code != o.code {
			t.Errorf("%s has status %d and code %v, and %d and %v", o.reason, o.status, o.code, same.status, same.code)
		}
	}
}
