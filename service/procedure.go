package service

import (
	"fmt"
	"slices"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// A kind says what messages the requests of a procedure have.
type kind int

const (
	noImages  kind = iota
	oneImage       // one message with one image
	streaming      // a sequence of messages with one image each
	batch          // one message with many images
)

// many reports whether a request has many images. Such a request counts as a stream:
// its images wait where unary requests are refused, and all streams together may take
// at most half of the requests and of their bytes. Config.Observe is called for each of
// its images.
func (k kind) many() bool { return k == streaming || k == batch }

// A procedure is a row in the table of all procedures.
type procedure struct {
	// path is the path of the URL, and the Procedure of Records.
	path string
	kind kind
	// maxImages returns the maximum bytes of all images in one message; nil means no
	// images.
	maxImages func(Config) int64
	// maxItems is the maximum number of images in one message. It is 0 if the type of
	// the message already limits it to one.
	maxItems int
	// image and options are used in error messages: the name of the image, and the
	// prefix of the names of options.
	image, options string
}

func ofImage(c Config) int64 { return c.MaxImageBytes }
func ofBatch(c Config) int64 { return c.MaxBatchBytes }

// maxItems is the maximum number of images in a batch.
const maxItems = 100

const (
	// oldProcedure is the path of Predict in the system that Mien replaces, whose
	// contract had no package.
	oldProcedure = "/Inference/Predict"
	// predictPath is the path of PredictHandler.
	predictPath = "/predict"
)

// procedures is the table. Paths that are not in it are not served.
var procedures = []procedure{
	{path: inferencev1connect.InferencePredictProcedure, kind: oneImage, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: oldProcedure, kind: oneImage, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: predictPath, kind: oneImage, maxImages: ofImage, image: "the image"},
	{path: inferencev1connect.InferencePredictStreamProcedure, kind: streaming, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: inferencev1connect.InferencePredictBatchProcedure, kind: batch, maxImages: ofBatch, maxItems: maxItems, image: "raw_data", options: "options."},
	{path: inferencev1connect.InferenceListModelsProcedure, kind: noImages},
}

// procedureAt returns the row for path, or nil if there is none.
func procedureAt(path string) *procedure {
	i := slices.IndexFunc(procedures, func(p procedure) bool { return p.path == path })
	if i < 0 {
		return nil
	}
	return &procedures[i]
}

// kindAt returns the kind of the procedure at path, or noImages if path is not in the
// table.
func kindAt(path string) kind {
	if p := procedureAt(path); p != nil {
		return p.kind
	}
	return noImages
}

// imageBytes returns the maximum bytes of all images in one message.
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
