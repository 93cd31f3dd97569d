package service

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	inference "github.com/mienproject/mien/gen/inference"
	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// A kind says what messages the requests of a procedure have.
type kind int

const (
	noImages   kind = iota
	oneImage        // one message with one image
	someImages      // one message with one image or more, which are answered together
	streaming       // a sequence of messages with one image each
	batch           // one message with many images, each of which has an answer
)

// unary reports whether a request with images has one answer. Such a request is refused
// where the images of others wait. If its message is larger than that of one image, it
// counts as a stream for the limits of requests and bytes.
func (k kind) unary() bool { return k == oneImage || k == someImages }

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
	// limits are those of the parts of one message.
	limits partLimits
	// plain is true for plain HTTP, and false for an RPC.
	plain bool
	// image, options and model are used in error messages: the name of the image, the
	// prefix of the names of options, and the name of the model if it is not an option.
	image, options, model string
}

// partLimits limits the parts of a message, many of which fit into few bytes.
type partLimits struct {
	// images is the maximum number of images of a batch. 0 means that the type of the
	// message already limits it to one.
	images int
	// elements is the maximum number of fields and elements of all kinds. 0 means that
	// the type of the message limits them.
	elements int
}

func ofImage(c Config) int64  { return c.MaxImageBytes }
func ofBatch(c Config) int64  { return c.MaxBatchBytes }
func ofEither(c Config) int64 { return max(c.MaxImageBytes, c.MaxBatchBytes) }

// maxItems is the maximum number of images in a batch.
const maxItems = 100

const (
	// oldProcedure is the path of Predict in the system that Mien replaces, whose
	// contract had no package.
	oldProcedure = "/Inference/Predict"
	// predictPath is the path of PredictHandler.
	predictPath = "/predict"
	// inferPath stands for the paths at which OpenInference.REST infers.
	inferPath = "/v2/models/{model}/infer"
)

// maxElements is the maximum number of fields and elements in a request of the Open
// Inference Protocol. A request with maxItems images and all options has a quarter.
const maxElements = 1000

// procedures is the table. Paths that are not in it are not served.
var procedures = []procedure{
	{path: inferencev1connect.InferencePredictProcedure, kind: oneImage, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: oldProcedure, kind: oneImage, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: predictPath, kind: oneImage, maxImages: ofImage, plain: true, image: "the image"},
	{path: inferencev1connect.InferencePredictStreamProcedure, kind: streaming, maxImages: ofImage, image: "raw_data", options: "options."},
	{path: inferencev1connect.InferencePredictBatchProcedure, kind: batch, maxImages: ofBatch, limits: partLimits{images: maxItems}, image: "raw_data", options: "options."},
	{path: inferencev1connect.InferenceListModelsProcedure, kind: noImages},
	{path: inferenceconnect.GRPCInferenceServiceModelInferProcedure, kind: someImages, maxImages: ofEither, limits: partLimits{elements: maxElements}, image: inputName, options: "parameters.", model: "model_name"},
	{path: inferPath, kind: someImages, maxImages: ofEither, limits: partLimits{elements: maxElements}, plain: true, image: inputName, options: "parameters.", model: "the model in the URL"},
	{path: inferenceconnect.GRPCInferenceServiceServerLiveProcedure, kind: noImages},
	{path: inferenceconnect.GRPCInferenceServiceServerReadyProcedure, kind: noImages},
	{path: inferenceconnect.GRPCInferenceServiceServerMetadataProcedure, kind: noImages},
	{path: inferenceconnect.GRPCInferenceServiceModelReadyProcedure, kind: noImages, model: "name"},
	{path: inferenceconnect.GRPCInferenceServiceModelMetadataProcedure, kind: noImages, model: "name"},
	{path: inferenceconnect.GRPCInferenceServiceModelConfigProcedure, kind: noImages, model: "name"},
	{path: inferenceconnect.GRPCInferenceServiceModelStatisticsProcedure, kind: noImages, model: "name"},
}

// procedureOf returns the row for the path of a URL, or nil if there is none.
func procedureOf(path string) *procedure {
	if strings.HasPrefix(path, "/v2/models/") && strings.HasSuffix(path, "/infer") {
		path = inferPath
	}
	return procedureAt(path)
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

// checkProcedures returns an error if a procedure of a contract is not in the table.
func checkProcedures() error {
	for _, service := range []protoreflect.ServiceDescriptor{
		inferencev1.File_inference_v1_inference_proto.Services().ByName("Inference"),
		inference.File_inference_grpc_service_proto.Services().ByName("GRPCInferenceService"),
	} {
		methods := service.Methods()
		for i := range methods.Len() {
			path := fmt.Sprintf("/%s/%s", service.FullName(), methods.Get(i).Name())
			if procedureAt(path) == nil {
				return fmt.Errorf("procedure %s is not in the table of procedures", path)
			}
		}
	}
	return nil
}
