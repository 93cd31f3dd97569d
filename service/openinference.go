package service

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	inference "github.com/mienproject/mien/gen/inference"
	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// OpenInference serves the models by the Open Inference Protocol, of which Triton and KServe
// are other servers: by its RPCs, and by its plain HTTP. It translates; everything else is
// as for Predict. It is safe for concurrent use.
type OpenInference struct {
	service *Service
	version string
	ready   func() bool
}

// OpenInference returns the doors of the Open Inference Protocol. They report the server's
// version, and that the server is ready while ready returns true.
func (s *Service) OpenInference(version string, ready func() bool) *OpenInference {
	return &OpenInference{service: s, version: version, ready: ready}
}

// Handler returns the path and the HTTP handler of the protocol's RPCs, for gRPC, gRPC-Web
// and Connect. It expects a Record in the context of requests.
func (o *OpenInference) Handler() (path string, handler http.Handler) {
	return "/" + inferenceconnect.GRPCInferenceServiceName + "/", o.service.serveRPCs(func(c *rpcs) http.Handler {
		_, h := inferenceconnect.NewGRPCInferenceServiceHandler(&openRPCs{o, c}, c.options())
		return h
	})
}

// extensions are those of the protocol that both doors support.
var extensions = []string{"binary_tensor_data", "model_configuration", "statistics"}

func (o *OpenInference) serverMetadata() *inference.ServerMetadataResponse {
	return &inference.ServerMetadataResponse{Name: "mien", Version: o.version, Extensions: extensions}
}

// isReady reports whether requests are accepted.
func (o *OpenInference) isReady() bool { return o.ready() && !o.service.draining() }

// model returns the model of that name and version. p says how clients name it.
func (o *OpenInference) model(p *procedure, name, version string) (Model, error) {
	m, err := o.service.model(p, name)
	if err == nil && version != "" && version != modelVersion {
		err = wrongVersion(version)
	}
	return m, err
}

func modelMetadata(m Model) *inference.ModelMetadataResponse {
	of := func(info tensorInfo) *inference.ModelMetadataResponse_TensorMetadata {
		return &inference.ModelMetadataResponse_TensorMetadata{Name: info.name, Datatype: info.datatype, Shape: info.shape}
	}
	res := &inference.ModelMetadataResponse{
		Name: m.Name, Versions: []string{modelVersion}, Platform: "mien",
		Inputs: []*inference.ModelMetadataResponse_TensorMetadata{of(inputInfo)},
	}
	for _, info := range outputInfos {
		res.Outputs = append(res.Outputs, of(info))
	}
	return res
}

func modelConfig(m Model) *inference.ModelConfig {
	info := m.Detector.Info()
	config := &inference.ModelConfig{
		Name: m.Name, Platform: "mien", Backend: "mien",
		Input: []*inference.ModelInput{{Name: inputInfo.name, DataType: inputInfo.config, Dims: inputInfo.shape}},
		Parameters: map[string]*inference.ModelParameter{
			"family":                 {StringValue: info.Family},
			"version":                {StringValue: info.Version},
			"default_min_confidence": {StringValue: strconv.FormatFloat(info.MinConfidence, 'g', -1, 32)},
			"min_face_size":          {StringValue: strconv.Itoa(info.MinFaceSize)},
		},
	}
	for _, out := range outputInfos {
		config.Output = append(config.Output, &inference.ModelOutput{Name: out.name, DataType: out.config, Dims: out.shape})
	}
	return config
}

// statistics returns those of a model, or of all models if name is empty.
func (o *OpenInference) statistics(p *procedure, name, version string) (*inference.ModelStatisticsResponse, error) {
	names := o.service.Models()
	if name != "" {
		names = []string{name}
	}
	res := &inference.ModelStatisticsResponse{}
	for _, name := range names {
		m, err := o.model(p, name, version)
		if err != nil {
			return nil, err
		}
		res.ModelStats = append(res.ModelStats, o.service.statistics.message(m.Name))
	}
	return res, nil
}

// openRPCs implements inferenceconnect.GRPCInferenceServiceHandler for one request at a time.
type openRPCs struct {
	*OpenInference

	rpcs *rpcs
}

// ServerLive implements inferenceconnect.GRPCInferenceServiceHandler.
func (*openRPCs) ServerLive(context.Context, *inference.ServerLiveRequest) (*inference.ServerLiveResponse, error) {
	return &inference.ServerLiveResponse{Live: true}, nil
}

// ServerReady implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ServerReady(context.Context, *inference.ServerReadyRequest) (*inference.ServerReadyResponse, error) {
	return &inference.ServerReadyResponse{Ready: c.isReady()}, nil
}

// ModelReady implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ModelReady(_ context.Context, req *inference.ModelReadyRequest) (*inference.ModelReadyResponse, error) {
	_, err := c.model(c.rpcs.request.procedure, req.GetName(), req.GetVersion())
	return &inference.ModelReadyResponse{Ready: c.isReady()}, err
}

// ServerMetadata implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ServerMetadata(context.Context, *inference.ServerMetadataRequest) (*inference.ServerMetadataResponse, error) {
	return c.serverMetadata(), nil
}

// ModelMetadata implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ModelMetadata(_ context.Context, req *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	m, err := c.model(c.rpcs.request.procedure, req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	return modelMetadata(m), nil
}

// ModelConfig implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ModelConfig(_ context.Context, req *inference.ModelConfigRequest) (*inference.ModelConfigResponse, error) {
	m, err := c.model(c.rpcs.request.procedure, req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	return &inference.ModelConfigResponse{Config: modelConfig(m)}, nil
}

// ModelStatistics implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ModelStatistics(_ context.Context, req *inference.ModelStatisticsRequest) (*inference.ModelStatisticsResponse, error) {
	return c.statistics(c.rpcs.request.procedure, req.GetName(), req.GetVersion())
}

// ModelInfer implements inferenceconnect.GRPCInferenceServiceHandler.
func (c *openRPCs) ModelInfer(ctx context.Context, req *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	rq := c.rpcs.request
	q, err := readInfer(req)
	if err != nil {
		return nil, err
	}
	images, err := q.messages(rq.procedure)
	if err != nil {
		return nil, err
	}
	isRaw := len(req.GetRawInputContents()) > 0
	req.Reset() // inferTogether releases the images one by one
	results, err := c.service.inferTogether(ctx, rq, images)
	if err != nil {
		return nil, err
	}
	return q.response(results, isRaw), nil
}

// readInfer reads the message of ModelInfer.
func readInfer(req *inference.ModelInferRequest) (*inferRequest, error) {
	var inputs []input
	for _, in := range req.GetInputs() {
		inputs = append(inputs, input{in.GetName(), in.GetDatatype(), in.GetShape()})
	}
	if err := checkInputs(inputs); err != nil {
		return nil, err
	}
	q := &inferRequest{model: req.GetModelName(), version: req.GetModelVersion(), id: req.GetId(), parameters: map[string]string{}}
	for name, value := range req.GetParameters() {
		q.parameters[name] = parameterText(value)
	}
	raw, contents := req.GetRawInputContents(), req.GetInputs()[0].GetContents().GetBytesContents()
	var err error
	switch {
	case len(raw) == 0:
		q.images = contents
	case len(raw) > 1 || len(contents) > 0:
		return nil, fmt.Errorf("%w: raw_input_contents must have one element, for the only input, and contents must then be empty", errTensor)
	default:
		if q.images, err = splitElements(raw[0], maxItems); err != nil {
			return nil, err
		}
	}
	if err := inputs[0].checkShape(len(q.images)); err != nil {
		return nil, err
	}
	var asked []string
	for _, out := range req.GetOutputs() {
		asked = append(asked, out.GetName())
	}
	q.outputs, err = checkOutputs(asked)
	return q, err
}

// parameterText returns the value of a parameter as text.
func parameterText(p *inference.InferParameter) string {
	switch v := p.GetParameterChoice().(type) {
	case *inference.InferParameter_BoolParam:
		return strconv.FormatBool(v.BoolParam)
	case *inference.InferParameter_Int64Param:
		return strconv.FormatInt(v.Int64Param, 10)
	case *inference.InferParameter_StringParam:
		return v.StringParam
	case *inference.InferParameter_DoubleParam:
		return strconv.FormatFloat(v.DoubleParam, 'g', -1, 64)
	case *inference.InferParameter_Uint64Param:
		return strconv.FormatUint(v.Uint64Param, 10)
	}
	return ""
}

// response returns the answer of ModelInfer. If isRaw is true, the elements are in
// raw_output_contents: as the images were sent, so the outputs come back.
func (q *inferRequest) response(results []*inferencev1.InferResults, isRaw bool) *inference.ModelInferResponse {
	outputs, truncated := q.tensors(results)
	res := &inference.ModelInferResponse{ModelName: results[0].GetModel(), ModelVersion: modelVersion, Id: q.id}
	if truncated {
		res.Parameters = map[string]*inference.InferParameter{truncatedParameter: {ParameterChoice: &inference.InferParameter_BoolParam{BoolParam: true}}}
	}
	for _, t := range outputs {
		out := &inference.ModelInferResponse_InferOutputTensor{Name: t.name, Datatype: t.datatype, Shape: t.shape}
		if isRaw {
			res.RawOutputContents = append(res.RawOutputContents, t.raw())
		} else {
			out.Contents = &inference.InferTensorContents{Fp32Contents: t.floats, IntContents: t.ints}
		}
		res.Outputs = append(res.Outputs, out)
	}
	return res
}

// ignoredByInfer returns the parameters of a message of ModelInfer that have no effect.
func ignoredByInfer(req *inference.ModelInferRequest) string {
	var f ignoredFields
	ignoredParameters(&f, slices.Collect(maps.Keys(req.GetParameters())))
	return f.String()
}
