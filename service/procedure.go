package service

import (
	"fmt"
	"slices"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// A kind is what a request of a procedure brings.
type kind int

const (
	noImages  kind = iota
	oneImage       // one message with one image
	streaming      // messages that follow each other, with an image each
	batch          // one message with many images
)

// many reports whether a request has many images. It counts as a stream then: its
// images wait where single calls are refused, and it may take half of the requests and
// of their bytes at most. Config.Observe gets its images one by one.
func (k kind) many() bool { return k == streaming || k == batch }

// A procedure is a row of the table of everything that the service can be asked.
type procedure struct {
	// path is that of the URL, and the Procedure of its Records.
	path string
	kind kind
	// maxImages returns how many bytes of images one message may have; nil for none.
	maxImages func(Config) int64
	// maxItems is how many images one message may have, 0 if the type of the message
	// says so already.
	maxItems int
	// image and options are the words of the door in error messages: for the image, and
	// what stands before the name of an option.
	image, options string
}

func ofImage(c Config) int64 { return c.MaxImageBytes }
func ofBatch(c Config) int64 { return c.MaxBatchBytes }

// maxItems is how many images a batch may have.
const maxItems = 100

const (
	// oldProcedure is Predict in the system that Mien replaces, whose contract had no
	// package.
	oldProcedure = "/Inference/Predict"
	// predictPath is that of PredictHandler.
	predictPath = "/predict"
)

// procedures is the table. What is not in it is not served.
var procedures = []procedure{
	{path: inferencev1connect.InferencePredictProcedure, kind: oneImage, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: oldProcedure, kind: oneImage, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: predictPath, kind: oneImage, maxImages: ofImage, image: "the image"},
	{path: inferencev1connect.InferencePredictStreamProcedure, kind: streaming, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: inferencev1connect.InferencePredictBatchProcedure, kind: batch, maxImages: ofBatch, maxItems: maxItems, image: "raw_data", options: "options."},
	{path: inferencev1connect.InferenceListModelsProcedure, kind: noImages},
}

// procedureAt returns the row of a path, nil if there is none.
func procedureAt(path string) *procedure {
	i := slices.IndexFunc(procedures, func(p procedure) bool { return p.path == path })
	if i < 0 {
		return nil
	}
	return &procedures[i]
}

// kindAt returns the kind of what is at a path, noImages if it is not in the table.
func kindAt(path string) kind {
	if p := procedureAt(path); p != nil {
		return p.kind
	}
	return noImages
}

// imageBytes returns how many bytes of images one message may have.
func (p *procedure) imageBytes(c Config) int64 {
	if p.maxImages == nil {
		return 0
	}
	return p.maxImages(c)
}

// checkProcedures returns an error if a procedure of the contract is not in the table.
func checkProcedures() error {
	methods := inferencev1.File_inference_v1_inference_proto.Services().ByName("Inference").Methods()
	for i := range methods.Len() {
		path := fmt.Sprintf("/%s/%s", inferencev1connect.InferenceName, methods.Get(i).Name())
		if procedureAt(path) == nil {
			return fmt.Errorf("procedure %s is not in the table of procedures", path)
		}
	}
	return nil
}
