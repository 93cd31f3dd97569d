package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// InferHeaderLength is the header of requests and answers of OpenInference.REST that says
// how many bytes of the body are JSON. Binary tensors follow.
const InferHeaderLength = "Inference-Header-Content-Length"

// REST returns the handler of all paths of the protocol's plain HTTP, which begin with /v2.
// Tensors may be JSON or binary. It expects a Record in the context of requests.
func (o *OpenInference) REST() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, answer func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			body, err := answer(r)
			if err != nil {
				record := RecordFrom(r.Context())
				converted := o.service.connectError(r.Context(), record, err)
				writeError(w, failPlainly(w.Header(), record, converted), converted.Message())
				return
			}
			status := http.StatusOK
			if s, ok := body.(readiness); ok && !s.Ready {
				status = http.StatusServiceUnavailable
			}
			writeJSON(w, status, body)
		})
	}
	get("/v2", func(*http.Request) (any, error) { return plainMessage(o.serverMetadata()), nil })
	get("/v2/health/live", func(*http.Request) (any, error) { return map[string]bool{"live": true}, nil })
	get("/v2/health/ready", func(*http.Request) (any, error) { return readiness{Ready: o.isReady()}, nil })
	get("/v2/models/stats", o.getStatistics)
	infer := o.service.doorHandler(inferPath, func(w http.ResponseWriter, r *http.Request, rq *request) door {
		return &inferring{service: o.service, w: w, request: rq, model: r.PathValue("model"), version: r.PathValue("version")}
	})
	for _, path := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		get(path, o.ofModel(func(m Model) any { return plainMessage(modelMetadata(m)) }))
		get(path+"/ready", o.ofModel(func(m Model) any { return readiness{m.Name, o.isReady()} }))
		get(path+"/config", o.ofModel(func(m Model) any { return plainMessage(modelConfig(m)) }))
		get(path+"/stats", o.getStatistics)
		mux.Handle("POST "+path+"/infer", infer)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			notFound(w, r, mux)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isREST reports whether REST serves the path.
func isREST(path string) bool { return path == "/v2" || strings.HasPrefix(path, "/v2/") }

// readiness is the answer of the probes, with the name of the model if it is for one.
type readiness struct {
	Name  string `json:"name,omitempty"`
	Ready bool   `json:"ready"`
}

// ofModel returns the answer about the model that the URL names.
func (o *OpenInference) ofModel(answer func(Model) any) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		m, err := o.model(procedureAt(inferPath), r.PathValue("model"), r.PathValue("version"))
		if err != nil {
			return nil, err
		}
		return answer(m), nil
	}
}

func (o *OpenInference) getStatistics(r *http.Request) (any, error) {
	res, err := o.statistics(procedureAt(inferPath), r.PathValue("model"), r.PathValue("version"))
	return plainMessage(res), err
}

// notFound answers a path that does not exist, or not for the method.
func notFound(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); pattern != "" {
			w.Header().Set("Allow", method)
			writeError(w, http.StatusMethodNotAllowed, "the method must be "+method)
			return
		}
	}
	writeError(w, http.StatusNotFound, "this path does not exist; see /v2/models/{model}, with a name from ListModels")
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	out, err := json.Marshal(body)
	if err != nil {
		panic(err) // only maps, lists, numbers and texts
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(out) // the client may have disconnected
}

// writeError answers with an error as Triton does.
func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}

// plainMessage returns m in the JSON of the protocol: names as in the contract, and numbers
// of 64 bits as numbers, which protojson quotes.
func plainMessage(m proto.Message) any { return plainFields(m.ProtoReflect()) }

func plainFields(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		value := m.Get(f)
		switch {
		case f.IsList():
			list := []any{}
			for i := range value.List().Len() {
				list = append(list, plainValue(f, value.List().Get(i)))
			}
			out[f.TextName()] = list
		case f.IsMap():
			object := map[string]any{}
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				object[key.String()] = plainValue(f.MapValue(), value)
				return true
			})
			out[f.TextName()] = object
		default:
			out[f.TextName()] = plainValue(f, value)
		}
	}
	return out
}

func plainValue(f protoreflect.FieldDescriptor, value protoreflect.Value) any {
	switch {
	case f.Message() != nil:
		return plainFields(value.Message())
	case f.Enum() != nil:
		return f.Enum().Values().ByNumber(value.Enum()).Name()
	}
	return value.Interface()
}

// inferring is one request to infer.
type inferring struct {
	service *Service
	w       http.ResponseWriter
	request *request
	// model and version are those in the URL.
	model, version string
	query          *inferRequest
	// binary says which outputs the answer has in binary form.
	binary map[string]bool
}

// read implements door.
func (i *inferring) read(r *http.Request) ([]*inferencev1.Image, error) {
	content, err := i.request.content(i.w, r)
	if err != nil {
		return nil, err
	}
	data, err := readAll(content, r.ContentLength)
	if err != nil {
		return nil, err
	}
	if err := i.request.body.finish(); err != nil {
		return nil, err
	}
	parsed, err := parseInfer(data, r.Header.Get(InferHeaderLength))
	if parsed.ignored != "" {
		i.service.logIgnored(r.Context(), i.request.record, parsed.ignored)
		i.w.Header().Set(IgnoredFieldsHeader, parsed.ignored)
	}
	if err != nil {
		return nil, err
	}
	i.query, i.binary = &parsed.inferRequest, parsed.binary
	i.query.model, i.query.version = i.model, i.version
	images, err := i.query.messages(i.request.procedure)
	i.query.images = nil // inferTogether releases the images one by one
	return images, err
}

// answer implements door.
func (i *inferring) answer(ctx context.Context, images []*inferencev1.Image) error {
	i.request.record.Handled = true
	results, err := i.service.inferTogether(ctx, i.request, images)
	if err != nil {
		return err
	}
	i.write(results)
	return nil
}

// fail implements door.
func (i *inferring) fail(ctx context.Context, err error) {
	record := i.request.record
	converted := i.service.connectError(ctx, record, err)
	writeError(i.w, failPlainly(i.w.Header(), record, converted), converted.Message())
}

// inferAnswer is the JSON of an answer.
type inferAnswer struct {
	ID           string          `json:"id,omitempty"`
	ModelName    string          `json:"model_name"`
	ModelVersion string          `json:"model_version"`
	Parameters   map[string]bool `json:"parameters,omitempty"`
	Outputs      []inferOutput   `json:"outputs"`
}

type inferOutput struct {
	Name       string         `json:"name"`
	Datatype   string         `json:"datatype"`
	Shape      []int64        `json:"shape"`
	Parameters map[string]int `json:"parameters,omitempty"`
	Data       any            `json:"data,omitempty"` // a list, or nil if it is binary
}

// write answers with the outputs, each in the form that the client asks for.
func (i *inferring) write(results []*inferencev1.InferResults) {
	outputs, truncated := i.query.tensors(results)
	answer := inferAnswer{ID: i.query.id, ModelName: results[0].GetModel(), ModelVersion: modelVersion}
	if truncated {
		answer.Parameters = map[string]bool{truncatedParameter: true}
	}
	var binary []byte
	isBinary := false
	for _, t := range outputs {
		out := inferOutput{Name: t.name, Datatype: t.datatype, Shape: t.shape}
		switch {
		case i.binary[t.name]:
			raw := t.raw()
			binary, isBinary = append(binary, raw...), true
			out.Parameters = map[string]int{binarySizeParameter: len(raw)}
		case t.datatype == typeINT32:
			out.Data = append([]int32{}, t.ints...)
		default:
			out.Data = append([]float32{}, t.floats...)
		}
		answer.Outputs = append(answer.Outputs, out)
	}
	if !isBinary {
		writeJSON(i.w, http.StatusOK, answer)
		return
	}
	header, err := json.Marshal(answer)
	if err != nil {
		panic(err) // only numbers and texts
	}
	i.w.Header().Set("Content-Type", "application/octet-stream")
	i.w.Header().Set(InferHeaderLength, strconv.Itoa(len(header)))
	_, _ = i.w.Write(append(header, binary...)) // the client may have disconnected
}

// Parameters of inputs and outputs.
const (
	binarySizeParameter = "binary_data_size"
	binaryParameter     = "binary_data"
)

// parsedInfer is what the body of a request says.
type parsedInfer struct {
	inferRequest

	binary  map[string]bool
	ignored string
}

// inferBody is the JSON of a request.
type inferBody struct {
	ID         string     `json:"id"`
	Parameters parameters `json:"parameters"`
	Inputs     []struct {
		Name       string        `json:"name"`
		Datatype   string        `json:"datatype"`
		Shape      []int64       `json:"shape"`
		Parameters parameters    `json:"parameters"`
		Data       encodedImages `json:"data"`
	} `json:"inputs"`
	Outputs []struct {
		Name       string     `json:"name"`
		Parameters parameters `json:"parameters"`
	} `json:"outputs"`
}

// inferShape has the names of inferBody, and those of fields that repeat the URL.
var inferShape = &jsonShape{fields: map[string]jsonField{
	"id": {}, "parameters": {}, "model_name": {}, "model_version": {},
	"inputs":  {object: &jsonShape{prefix: "inputs[].", fields: map[string]jsonField{"name": {}, "datatype": {}, "shape": {}, "parameters": {}, "data": {}}}},
	"outputs": {object: &jsonShape{prefix: "outputs[].", fields: map[string]jsonField{"name": {}, "parameters": {}}}},
}}

// parameters are the values of an object as text: those of strings, and the JSON of others.
type parameters map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (p *parameters) UnmarshalJSON(data []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return err
	}
	*p = parameters{}
	for name, value := range values {
		text := string(value)
		if value[0] == '"' {
			if err := json.Unmarshal(value, &text); err != nil {
				return err
			}
		}
		(*p)[name] = text
	}
	return nil
}

// flag returns the value of a parameter that is true or false, or otherwise.
func (p parameters) flag(name string, otherwise bool) (bool, error) {
	text, given := p[name]
	if !given {
		return otherwise, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%w: the parameter %s is %q; it must be true or false", errTensor, name, excerpt(text))
	}
	return value, nil
}

// encodedImages are the elements of an input in JSON: strings of base64, in a list or in
// lists of one.
type encodedImages [][]byte

// UnmarshalJSON implements json.Unmarshaler. It changes data, to remove escapes and white
// space from base64.
func (e *encodedImages) UnmarshalJSON(data []byte) error {
	*e = encodedImages{}
	r := jsonReader{data: data}
	for {
		switch r.next() {
		case 0:
			return nil
		case '[', ']', ',':
			r.at++
		case '"':
			start, end, _ := r.quoted()
			text := data[start:end]
			if !r.isBare(text) {
				text = text[:r.compact(text)]
			}
			for len(text) > 0 && text[len(text)-1] == '=' {
				text = text[:len(text)-1]
			}
			alphabet := base64Alphabet(bytes.IndexByte(text, '-') >= 0 || bytes.IndexByte(text, '_') >= 0)
			image := make([]byte, alphabet.DecodedLen(len(text)))
			if _, err := alphabet.Decode(image, text); err != nil {
				return fmt.Errorf("%w: element %d of data is not base64: %v", errTensor, len(*e), err) //nolint:errorlint // its text only
			}
			*e = append(*e, image)
		default:
			return fmt.Errorf("%w: data must be a list of strings, each with an image in base64", errTensor)
		}
	}
}

// parseInfer reads the body of a request. headerLength is the header InferHeaderLength.
func parseInfer(data []byte, headerLength string) (parsed parsedInfer, err error) {
	text, rest := data, []byte(nil)
	if headerLength != "" {
		n, err := strconv.ParseUint(headerLength, 10, 63)
		if err != nil || n > uint64(len(data)) {
			return parsed, fmt.Errorf("%w: %s is %q; it must be the bytes of JSON at the beginning of the body, which has %d bytes", errNoJSON, InferHeaderLength, excerpt(headerLength), len(data))
		}
		text, rest = data[:n], data[n:]
	}
	text, ignored := prepareJSON(text, inferShape)
	parsed.ignored = ignored
	if commasInJSON(text, maxElements) > maxElements {
		return parsed, fmt.Errorf("%w: %w", errTensor, errTooManyElements(maxElements))
	}
	var body inferBody
	if err := json.Unmarshal(text, &body); err != nil {
		return parsed, wrongJSON(err)
	}
	if err := parsed.readInputs(&body, rest); err != nil {
		return parsed, err
	}
	return parsed, parsed.readOutputs(&body)
}

// wrongJSON converts an error of package json, whose own text has names of Go types.
func wrongJSON(err error) error {
	if errors.Is(err, errTensor) {
		return err
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%w: %s has a value of the wrong type, %s", errNoJSON, wrong.Field, wrong.Value)
	}
	return fmt.Errorf("%w: %v", errNoJSON, err) //nolint:errorlint // its text only
}

// readInputs reads the options and the images. rest is the body after the JSON.
func (q *parsedInfer) readInputs(body *inferBody, rest []byte) error {
	q.id, q.parameters = body.ID, body.Parameters
	var inputs []input
	for _, in := range body.Inputs {
		inputs = append(inputs, input{in.Name, in.Datatype, in.Shape})
	}
	if err := checkInputs(inputs); err != nil {
		return err
	}
	in := body.Inputs[0]
	size, isBinary := in.Parameters[binarySizeParameter]
	switch {
	case !isBinary && len(rest) > 0:
		return fmt.Errorf("%w: %d bytes follow the JSON, but the input %q has no parameter %s", errTensor, len(rest), inputName, binarySizeParameter)
	case isBinary && len(in.Data) > 0:
		return fmt.Errorf("%w: the input %q has both data and %s", errTensor, inputName, binarySizeParameter)
	case isBinary && size != strconv.Itoa(len(rest)):
		return fmt.Errorf("%w: %s of the input %q is %q, but %d bytes follow the JSON, whose length %s says", errTensor, binarySizeParameter, inputName, excerpt(size), len(rest), InferHeaderLength)
	case isBinary:
		var err error
		if q.images, err = splitElements(rest, maxItems); err != nil {
			return err
		}
	default:
		q.images = in.Data
	}
	return inputs[0].checkShape(len(q.images))
}

// readOutputs reads which outputs the answer has, and which of them in binary form.
func (q *parsedInfer) readOutputs(body *inferBody) (err error) {
	all, err := body.Parameters.flag(binaryOutputParameter, false)
	if err != nil {
		return err
	}
	var asked []string
	for _, out := range body.Outputs {
		asked = append(asked, out.Name)
	}
	if q.outputs, err = checkOutputs(asked); err != nil {
		return err
	}
	q.binary = map[string]bool{}
	for _, name := range q.outputs {
		q.binary[name] = all
	}
	for _, out := range body.Outputs {
		if q.binary[out.Name], err = out.Parameters.flag(binaryParameter, all); err != nil {
			return err
		}
	}
	names := slices.Collect(maps.Keys(body.Parameters))
	var f ignoredFields
	ignoredParameters(&f, names)
	q.ignored = joinIgnored(q.ignored, f.String())
	return nil
}
