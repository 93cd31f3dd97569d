package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/face"
	inference "github.com/mienproject/mien/gen/inference"
	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/service"
)

// bySize is a detector whose faces depend on the size of the image.
var bySize = stub{
	info: face.Info{Family: "stub", Version: "1.0", MinConfidence: 0.25, MinFaceSize: 20},
	detect: func(_ context.Context, img image.Image, opts face.Options) (faces []face.Face, err error) {
		if opts.Truncated != nil && img.Bounds().Dx() == 39 {
			opts.Truncated()
		}
		for i := range img.Bounds().Dx() % 10 {
			f := face.Face{Box: face.Box{MinX: 1.3 * float64(i), MinY: 2.7, MaxX: 10 + float64(i)/3, MaxY: 12.2}, Confidence: 1 / (1.7 + float64(i))}
			if !opts.SkipLandmarks {
				f.Landmarks = &face.Landmarks{LeftEye: face.Point{X: 3.1, Y: 4.4}, RightEye: face.Point{X: 8.6, Y: 4}, Nose: face.Point{X: float64(i), Y: 7}, MouthLeft: face.Point{X: 4, Y: 9}, MouthRight: face.Point{X: 7, Y: 9.5}}
			}
			if f.Confidence >= opts.MinConfidence && (opts.MaxResults == 0 || len(faces) < opts.MaxResults) {
				faces = append(faces, f)
			}
		}
		return faces, nil
	},
}

// square returns a PNG in which bySize finds up to side % 10 faces.
func square(t testing.TB, side int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, side, side))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An openCall is a request of the Open Inference Protocol.
type openCall struct {
	model, version, id string
	images             [][]byte
	parameters         map[string]any // bool, int, float64 or string
	outputs            []string
	column             bool // the shape is [N, 1]
}

// An openAnswer is its answer: the outputs in order, as [name, datatype, shape, elements].
type openAnswer struct {
	model, version, id string
	outputs            []string
	elements           map[string][]float64
	truncated          bool
	ignored            string
	// code is for RPCs, and status for plain HTTP.
	code         connect.Code
	status       int
	reason, text string
	retry        bool
}

func (c openCall) shape() []int64 {
	if c.column {
		return []int64{int64(len(c.images)), 1}
	}
	return []int64{int64(len(c.images))}
}

// rawElements returns the elements of BYTES in raw form.
func rawElements(images [][]byte) (raw []byte) {
	for _, data := range images {
		raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(data))), data...)
	}
	return raw
}

func numbers(t *testing.T, datatype string, raw []byte) (out []float64) {
	t.Helper()
	for ; len(raw) >= 4; raw = raw[4:] {
		bits := binary.LittleEndian.Uint32(raw)
		if datatype == "FP32" {
			out = append(out, float64(math.Float32frombits(bits)))
		} else {
			out = append(out, float64(int32(bits)))
		}
	}
	if len(raw) > 0 {
		t.Errorf("%d bytes are left", len(raw))
	}
	return out
}

// message returns the message of ModelInfer.
func (c openCall) message(isRaw bool) *inference.ModelInferRequest {
	req := &inference.ModelInferRequest{ModelName: c.model, ModelVersion: c.version, Id: c.id, Parameters: map[string]*inference.InferParameter{}}
	for name, value := range c.parameters {
		p := &inference.InferParameter{}
		switch v := value.(type) {
		case bool:
			p.ParameterChoice = &inference.InferParameter_BoolParam{BoolParam: v}
		case int:
			p.ParameterChoice = &inference.InferParameter_Int64Param{Int64Param: int64(v)}
		case uint:
			p.ParameterChoice = &inference.InferParameter_Uint64Param{Uint64Param: uint64(v)}
		case float64:
			p.ParameterChoice = &inference.InferParameter_DoubleParam{DoubleParam: v}
		case string:
			p.ParameterChoice = &inference.InferParameter_StringParam{StringParam: v}
		}
		req.Parameters[name] = p
	}
	in := &inference.ModelInferRequest_InferInputTensor{Name: "image", Datatype: "BYTES", Shape: c.shape()}
	if isRaw {
		req.RawInputContents = [][]byte{rawElements(c.images)}
	} else {
		in.Contents = &inference.InferTensorContents{BytesContents: c.images}
	}
	req.Inputs = append(req.Inputs, in)
	for _, name := range c.outputs {
		req.Outputs = append(req.Outputs, &inference.ModelInferRequest_InferRequestedOutputTensor{Name: name})
	}
	return req
}

// openClient returns a client of the RPCs, over HTTP/2.
func openClient(t *testing.T, url string, opts ...connect.ClientOption) inferenceconnect.GRPCInferenceServiceClient {
	t.Helper()
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: h2}
	t.Cleanup(transport.CloseIdleConnections)
	return inferenceconnect.NewGRPCInferenceServiceClient(&http.Client{Transport: transport}, url, opts...)
}

func (c openCall) byRPC(t *testing.T, client inferenceconnect.GRPCInferenceServiceClient, isRaw bool) openAnswer {
	t.Helper()
	ctx, info := connect.NewClientContext(t.Context())
	res, err := client.ModelInfer(ctx, c.message(isRaw))
	a := openAnswer{elements: map[string][]float64{}}
	if err != nil {
		var retry time.Duration
		a.code, a.reason, retry = reasonOf(t, err)
		a.retry, a.text = retry > 0, err.Error()
		return a
	}
	a.model, a.version, a.id, a.ignored = res.GetModelName(), res.GetModelVersion(), res.GetId(), info.ResponseHeader().Get(service.IgnoredFieldsHeader)
	a.truncated = res.GetParameters()["truncated"].GetBoolParam()
	if (len(res.GetRawOutputContents()) > 0) != isRaw {
		t.Errorf("%d raw outputs", len(res.GetRawOutputContents()))
	}
	for i, out := range res.GetOutputs() {
		a.outputs = append(a.outputs, fmt.Sprint(out.GetName(), out.GetDatatype(), out.GetShape()))
		var elements []float64
		if isRaw {
			elements = numbers(t, out.GetDatatype(), res.GetRawOutputContents()[i])
		}
		for _, f := range out.GetContents().GetFp32Contents() {
			elements = append(elements, float64(f))
		}
		for _, n := range out.GetContents().GetIntContents() {
			elements = append(elements, float64(n))
		}
		a.elements[out.GetName()] = elements
	}
	return a
}

// body returns the body of a request of plain HTTP, and the length of its JSON if images
// follow it.
func (c openCall) body(t *testing.T, isBinary bool) (body []byte, length int) {
	t.Helper()
	in := map[string]any{"name": "image", "datatype": "BYTES", "shape": c.shape()}
	raw := rawElements(c.images)
	if isBinary {
		in["parameters"] = map[string]any{"binary_data_size": len(raw)}
	} else {
		data := []any{}
		for _, img := range c.images {
			if text := any(base64.StdEncoding.EncodeToString(img)); c.column {
				data = append(data, []any{text})
			} else {
				data = append(data, text)
			}
		}
		in["data"] = data
	}
	parameters := maps.Clone(c.parameters)
	if isBinary && c.outputs == nil {
		if parameters == nil {
			parameters = map[string]any{}
		}
		parameters["binary_data_output"] = true
	}
	request := map[string]any{"inputs": []any{in}, "parameters": parameters, "id": c.id}
	var outputs []any
	for _, name := range c.outputs {
		outputs = append(outputs, map[string]any{"name": name, "parameters": map[string]any{"binary_data": isBinary}})
	}
	if outputs != nil {
		request["outputs"] = outputs
	}
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if isBinary {
		return append(body, raw...), len(body)
	}
	return body, 0
}

func (c openCall) byREST(t *testing.T, client *http.Client, url string, isBinary bool) openAnswer {
	t.Helper()
	body, length := c.body(t, isBinary)
	header := http.Header{}
	if isBinary {
		header.Set(service.InferHeaderLength, strconv.Itoa(length))
	}
	path := "/v2/models/" + c.model
	if c.version != "" {
		path += "/versions/" + c.version
	}
	return postInfer(t, client, url+path+"/infer", header, body)
}

// postInfer sends a request of plain HTTP.
func postInfer(t *testing.T, client *http.Client, url string, header http.Header, body []byte) openAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := openAnswer{
		elements: map[string][]float64{}, reason: res.Header.Get(service.ReasonHeader), ignored: res.Header.Get(service.IgnoredFieldsHeader),
		retry: res.Header.Get("Retry-After") != "",
	}
	if res.StatusCode != http.StatusOK {
		var failure struct{ Error string }
		if err := json.Unmarshal(data, &failure); err != nil || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%d %q", res.StatusCode, data)
		}
		a.status, a.text = res.StatusCode, failure.Error
		return a
	}
	var rest []byte
	if text := res.Header.Get(service.InferHeaderLength); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		data, rest = data[:n], data[n:]
	}
	var answer struct {
		ModelName    string `json:"model_name"`
		ModelVersion string `json:"model_version"`
		ID           string
		Parameters   struct{ Truncated bool }
		Outputs      []struct {
			Name, Datatype string
			Shape          []int64
			Parameters     struct {
				Size int `json:"binary_data_size"`
			}
			Data *[]float64
		}
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	a.model, a.version, a.id, a.truncated = answer.ModelName, answer.ModelVersion, answer.ID, answer.Parameters.Truncated
	for _, out := range answer.Outputs {
		a.outputs = append(a.outputs, fmt.Sprint(out.Name, out.Datatype, out.Shape))
		if out.Data != nil {
			elements := *out.Data
			if out.Datatype == "FP32" {
				for i := range elements {
					elements[i] = float64(float32(elements[i]))
				}
			}
			a.elements[out.Name] = elements
			continue
		}
		a.elements[out.Name] = numbers(t, out.Datatype, rest[:out.Parameters.Size])
		rest = rest[out.Parameters.Size:]
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes belong to no output", len(rest))
	}
	return a
}

// openDoors are the forms in which a request can come.
func openDoors(t *testing.T, url string) map[string]func(*testing.T, openCall) openAnswer {
	t.Helper()
	doors := map[string]func(*testing.T, openCall) openAnswer{}
	for protocol, opt := range map[string]connect.ClientOption{
		"grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb(), "connect": connect.WithClientOptions(), "json": connect.WithProtoJSON(), "gzip": connect.WithSendGzip(),
	} {
		client := openClient(t, url, opt)
		for _, isRaw := range []bool{true, false} {
			doors[fmt.Sprint(protocol, " raw=", isRaw)] = func(t *testing.T, c openCall) openAnswer {
				t.Helper()
				return c.byRPC(t, client, isRaw)
			}
		}
	}
	client := httpClient(t)
	for _, isBinary := range []bool{true, false} {
		doors[fmt.Sprint("rest binary=", isBinary)] = func(t *testing.T, c openCall) openAnswer {
			t.Helper()
			return c.byREST(t, client, url, isBinary)
		}
	}
	return doors
}

// expected returns the answer that has the faces of Predict's answers, image by image.
func expected(t *testing.T, svc *service.Service, c openCall, options *inferencev1.DetectOptions) openAnswer {
	t.Helper()
	boxes, landmarks, scores, counts := []float64{}, []float64{}, []float64{}, []float64{}
	points := func(all ...*inferencev1.Point) (out []float64) {
		for _, p := range all {
			out = append(out, float64(p.GetX()), float64(p.GetY()))
		}
		return out
	}
	a := openAnswer{model: "stub", version: "1", id: c.id, elements: map[string][]float64{}}
	for _, data := range c.images {
		res, err := svc.Predict(t.Context(), &inferencev1.Image{RawData: data, Options: options})
		if err != nil {
			t.Fatal(err)
		}
		a.truncated = a.truncated || res.GetTruncated()
		counts = append(counts, float64(len(res.GetResults())))
		for _, r := range res.GetResults() {
			boxes = append(boxes, points(r.GetBox().GetUpLeft(), r.GetBox().GetLowerRight())...)
			scores = append(scores, float64(float32(r.GetConfidence())))
			if l := r.GetLandmarks(); l != nil {
				landmarks = append(landmarks, points(l.GetLeftEye(), l.GetRightEye(), l.GetNose(), l.GetMouthLeft(), l.GetMouthRight())...)
			}
		}
	}
	all := map[string][]float64{"boxes": boxes, "landmarks": landmarks, "scores": scores, "counts": counts}
	described := map[string]string{
		"boxes": fmt.Sprintf("boxesFP32[%d 4]", len(boxes)/4), "landmarks": fmt.Sprintf("landmarksFP32[%d 5 2]", len(landmarks)/10),
		"scores": fmt.Sprintf("scoresFP32[%d]", len(scores)), "counts": fmt.Sprintf("countsINT32[%d]", len(counts)),
	}
	names := c.outputs
	if names == nil {
		names = []string{"boxes", "landmarks", "scores", "counts"}
	}
	for _, name := range names {
		a.outputs = append(a.outputs, described[name])
		a.elements[name] = all[name]
	}
	return a
}

// TestOpenInference checks that every door of the Open Inference Protocol returns the faces
// of Predict, bit for bit.
func TestOpenInference(t *testing.T) {
	svc, url := start(t, bySize, nil)
	none, one, many := square(t, 30), square(t, 41), square(t, 57)
	f := func(v float32) *float32 { return &v }
	for name, c := range map[string]struct {
		call    openCall
		options *inferencev1.DetectOptions
		ignored string
	}{
		"one image":    {openCall{model: "stub", images: [][]byte{many}}, nil, ""},
		"a column":     {openCall{model: "stub", id: "a/b", images: [][]byte{one}, column: true}, nil, ""},
		"no face":      {openCall{model: "stub", version: "1", images: [][]byte{none}}, nil, ""},
		"truncated":    {openCall{model: "stub", images: [][]byte{square(t, 39)}}, nil, ""},
		"several":      {openCall{model: "stub", id: "7", images: [][]byte{many, none, one, many, one}}, nil, ""},
		"many, column": {openCall{model: "stub", images: slices.Repeat([][]byte{one, none, many, many}, 25), column: true}, nil, ""},
		"some outputs": {openCall{model: "stub", images: [][]byte{many, one}, outputs: []string{"counts", "scores"}}, nil, ""},
		"last output":  {openCall{model: "stub", images: [][]byte{many}, outputs: []string{"landmarks"}}, nil, ""},
		"options as numbers": {
			openCall{model: "stub", images: [][]byte{many}, parameters: map[string]any{"min_confidence": .27, "max_results": 3, "min_face_size": 0, "skip_landmarks": true, "any_orientation": false}},
			&inferencev1.DetectOptions{MinConfidence: f(.27), MaxResults: 3, SkipLandmarks: true}, "",
		},
		"options as text": {
			openCall{model: "stub", images: [][]byte{many, one}, parameters: map[string]any{"min_confidence": "0", "max_results": "2", "skip_landmarks": "true", "triton_enable_empty_final_response": true}},
			&inferencev1.DetectOptions{MinConfidence: f(0), MaxResults: 2, SkipLandmarks: true}, "",
		},
		"unknown parameters": {
			openCall{model: "stub", images: [][]byte{one}, parameters: map[string]any{"threshold": .9, "model": "other", "timeout": 1}},
			nil,
			"parameters.model, parameters.threshold, parameters.timeout",
		},
	} {
		want := expected(t, svc, c.call, c.options)
		want.ignored = c.ignored
		for door, send := range openDoors(t, url) {
			t.Run(name+"/"+door, func(t *testing.T) {
				got := send(t, c.call)
				for output, elements := range want.elements {
					if !slices.Equal(got.elements[output], elements) {
						t.Errorf("%s: %v, want %v", output, got.elements[output], elements)
					}
				}
				w := want
				got.elements, w.elements = nil, nil // they are compared above, where none equals empty
				if !reflect.DeepEqual(got, w) {
					t.Errorf("%+v, want %+v", got, w)
				}
			})
		}
	}
}

// TestOpenInferenceErrors checks the errors of every door.
func TestOpenInferenceErrors(t *testing.T) {
	d := bySize
	d.detect = func(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
		if opts.MaxResults == 500 && img.Bounds().Dx() == 41 {
			return nil, errors.New("secret: the disk is on fire")
		}
		if opts.MaxResults == 501 && img.Bounds().Dx() == 41 {
			panic("secret: the disk is on fire")
		}
		return bySize.detect(ctx, img, opts)
	}
	_, url := start(t, d, func(c *service.Config) {
		c.MaxImageBytes, c.MaxBatchBytes, c.MaxPixels, c.Workers = 4000, 3000, 10_000, 2
	})
	good := square(t, 41)
	for name, c := range map[string]struct {
		call   openCall
		code   connect.Code
		status int
		reason string
		text   string
	}{
		"unknown model":    {openCall{model: "nobody", images: [][]byte{good}}, connect.CodeNotFound, 404, "UNKNOWN_MODEL", `["stub" "other"]`},
		"unknown version":  {openCall{model: "stub", version: "2", images: [][]byte{good}}, connect.CodeNotFound, 404, "UNKNOWN_MODEL", `only the version "1"`},
		"unknown output":   {openCall{model: "stub", images: [][]byte{good}, outputs: []string{"counts", "labels"}}, connect.CodeInvalidArgument, 400, "INVALID_TENSOR", `"labels" is unknown`},
		"output twice":     {openCall{model: "stub", images: [][]byte{good}, outputs: []string{"boxes", "boxes"}}, connect.CodeInvalidArgument, 400, "INVALID_TENSOR", `twice`},
		"no image":         {openCall{model: "stub", images: [][]byte{}}, connect.CodeInvalidArgument, 400, "INVALID_TENSOR", "at least one"},
		"empty image":      {openCall{model: "stub", images: [][]byte{{}}}, connect.CodeInvalidArgument, 400, "EMPTY_IMAGE", "empty"},
		"text":             {openCall{model: "stub", images: [][]byte{[]byte("Hello, world")}}, connect.CodeInvalidArgument, 415, "UNSUPPORTED_FORMAT", "JPEG"},
		"one is text":      {openCall{model: "stub", images: [][]byte{good, []byte("Hello, world"), good}}, connect.CodeInvalidArgument, 415, "UNSUPPORTED_FORMAT", "image[1]: "},
		"cut off":          {openCall{model: "stub", images: [][]byte{good[:len(good)-40]}}, connect.CodeInvalidArgument, 400, "CORRUPT_IMAGE", "PNG"},
		"bad option":       {openCall{model: "stub", images: [][]byte{good}, parameters: map[string]any{"min_confidence": 1.5}}, connect.CodeInvalidArgument, 400, "INVALID_OPTIONS", "parameters.min_confidence is 1.5"},
		"no number":        {openCall{model: "stub", images: [][]byte{good}, parameters: map[string]any{"max_results": "many"}}, connect.CodeInvalidArgument, 400, "INVALID_OPTIONS", `parameters.max_results is "many"`},
		"too many pixels":  {openCall{model: "stub", images: [][]byte{good, square(t, 101)}}, connect.CodeInvalidArgument, 400, "TOO_MANY_PIXELS", "10000"},
		"too many images":  {openCall{model: "stub", images: slices.Repeat([][]byte{{1}}, 101)}, connect.CodeInvalidArgument, 400, "TOO_MANY_IMAGES", "100"},
		"too many bytes":   {openCall{model: "stub", images: [][]byte{make([]byte, 4001)}}, connect.CodeResourceExhausted, 413, "TOO_MANY_BYTES", "4000"},
		"too many of both": {openCall{model: "stub", images: [][]byte{make([]byte, 1501), make([]byte, 1500)}}, connect.CodeResourceExhausted, 413, "TOO_MANY_BYTES", "3000"},
		"far too many":     {openCall{model: "stub", images: [][]byte{make([]byte, 500_000)}}, connect.CodeResourceExhausted, 413, "TOO_MANY_BYTES", "bytes"},
		"panic":            {openCall{model: "stub", images: [][]byte{good}, parameters: map[string]any{"max_results": 501}}, connect.CodeInternal, 500, "INTERNAL", "the-request"},
		"panic of many":    {openCall{model: "stub", images: [][]byte{good, good}, parameters: map[string]any{"max_results": 501}}, connect.CodeInternal, 500, "INTERNAL", "the-request"},
		"bug":              {openCall{model: "stub", images: [][]byte{good, good}, parameters: map[string]any{"max_results": 500}}, connect.CodeInternal, 500, "INTERNAL", "the-request"},
	} {
		for door, send := range openDoors(t, url) {
			t.Run(name+"/"+door, func(t *testing.T) {
				got := send(t, c.call)
				isREST := strings.HasPrefix(door, "rest")
				if isREST && got.status != c.status || !isREST && got.code != c.code || got.reason != c.reason || !strings.Contains(got.text, c.text) || strings.Contains(got.text, "secret") {
					t.Errorf("%+v; want %v or %d, %s, %s", got, c.code, c.status, c.reason, c.text)
				}
				// Nothing stays reserved.
				if after := send(t, openCall{model: "stub", images: [][]byte{good, good}}); after.reason != "" || !slices.Equal(after.elements["counts"], []float64{1, 1}) {
					t.Errorf("the next good request: %+v", after)
				}
			})
		}
	}
}

// TestOpenInferenceMessages checks requests that only one of the doors can have.
func TestOpenInferenceMessages(t *testing.T) {
	_, url := start(t, bySize, nil)
	one := square(t, 41)
	client := openClient(t, url, connect.WithGRPC())
	good := func() *inference.ModelInferRequest { return openCall{images: [][]byte{one}}.message(true) }
	for name, c := range map[string]struct {
		change func(*inference.ModelInferRequest)
		text   string // of the error
	}{
		"the default model": {func(*inference.ModelInferRequest) {}, ""},
		"unknown input":     {func(r *inference.ModelInferRequest) { r.Inputs[0].Name = "images" }, `the input "images" is unknown`},
		"two inputs":        {func(r *inference.ModelInferRequest) { r.Inputs = append(r.Inputs, r.GetInputs()[0]) }, "2 inputs"},
		"no input":          {func(r *inference.ModelInferRequest) { r.Inputs = nil }, "0 inputs"},
		"datatype":          {func(r *inference.ModelInferRequest) { r.Inputs[0].Datatype = "UINT8" }, `datatype "UINT8"`},
		"shape":             {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{2} }, "shape [2] and 1 elements"},
		"shape of 3":        {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{1, 1, 1} }, "shape [1 1 1]"},
		"shape of none":     {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = nil }, "shape []"},
		"cut off":           {func(r *inference.ModelInferRequest) { r.RawInputContents[0] = r.GetRawInputContents()[0][:50] }, "in the middle of element 0"},
		"two contents":      {func(r *inference.ModelInferRequest) { r.RawInputContents = append(r.RawInputContents, nil) }, "one element"},
		"raw and not raw": {func(r *inference.ModelInferRequest) {
			r.Inputs[0].Contents = &inference.InferTensorContents{BytesContents: [][]byte{one}}
		}, "contents must then be empty"},
	} {
		t.Run(name, func(t *testing.T) {
			req := good()
			c.change(req)
			res, err := client.ModelInfer(t.Context(), req)
			if c.text == "" {
				if err != nil || res.GetModelName() != "stub" {
					t.Errorf("%v, %v", res, err)
				}
				return
			}
			if code, reason, _ := reasonOf(t, err); code != connect.CodeInvalidArgument || reason != "INVALID_TENSOR" || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestOpenInferenceElements checks that messages with millions of elements in few bytes are
// rejected before they take memory.
func TestOpenInferenceElements(t *testing.T) {
	_, url := start(t, bySize, nil)
	client := httpClient(t)
	input := func(inner []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), inner)
	}
	contents := func(inner []byte) []byte {
		return input(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), inner))
	}
	packed := func(number protowire.Number, n int) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), make([]byte, n))
	}
	const n = 2_000_000
	for name, c := range map[string]struct {
		contentType string
		body        []byte
	}{
		"inputs":         {"application/proto", bytes.Repeat(input(nil), n)},
		"raw contents":   {"application/proto", bytes.Repeat(packed(7, 0), n)},
		"bytes contents": {"application/proto", contents(bytes.Repeat(packed(8, 0), n))},
		"bool contents":  {"application/proto", contents(packed(1, n))},
		"shape":          {"application/proto", input(packed(3, n))},
		"parameters":     {"application/proto", bytes.Repeat(packed(4, 0), n)},
		"JSON inputs":    {"application/json", []byte(`{"inputs":[` + strings.Repeat("{},", n) + `{}]}`)},
		"JSON contents":  {"application/json", []byte(`{"inputs":[{"contents":{"bytesContents":[` + strings.Repeat(`"",`, n) + `""]}}]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := client.Post(url+inferenceconnect.GRPCInferenceServiceModelInferProcedure, c.contentType, bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "more than 1000 fields and elements") {
				t.Errorf("%d %q, %v", res.StatusCode, text, err)
			}
		})
	}
	for name, body := range map[string]string{
		"inputs": `{"inputs":[` + strings.Repeat("{},", n) + `{}]}`,
		"data":   `{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":[` + strings.Repeat(`"",`, n) + `""]}]}`,
	} {
		t.Run("rest "+name, func(t *testing.T) {
			got := postInfer(t, client, url+"/v2/models/stub/infer", http.Header{}, []byte(body))
			if got.status != http.StatusBadRequest || got.reason != "INVALID_TENSOR" || !strings.Contains(got.text, "more than 1000 fields and elements") {
				t.Errorf("%+v", got)
			}
		})
	}
	// A message with all that a request can have is far below the limit.
	full := openCall{model: "stub", images: slices.Repeat([][]byte{square(t, 41)}, 100), outputs: []string{"boxes", "landmarks", "scores", "counts"}, parameters: map[string]any{"min_confidence": .5, "max_results": 1, "min_face_size": 1, "skip_landmarks": true, "any_orientation": true}}
	if size := proto.Size(full.message(false)); size < 100 {
		t.Fatal(size)
	}
	for door, send := range openDoors(t, url) {
		if got := send(t, full); got.reason != "" {
			t.Errorf("%s: %+v", door, got)
		}
	}
}

// TestInferBodies checks requests of plain HTTP.
func TestInferBodies(t *testing.T) {
	_, url := start(t, bySize, nil)
	client := httpClient(t)
	one := square(t, 41)
	b64 := base64.StdEncoding.EncodeToString(one)
	raw := string(rawElements([][]byte{one}))
	in := func(more string) string {
		return `{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES",` + more + `}]}`
	}
	size := fmt.Sprintf(`"parameters":{"binary_data_size":%d}`, len(raw))
	for name, c := range map[string]struct {
		length, body string
		status       int
		reason, text string
		ignored      string
	}{
		"base64":                  {"", in(`"data":["` + b64 + `"]`), 200, "", "", ""},
		"base64 for URLs":         {"", in(`"data":["` + base64.RawURLEncoding.EncodeToString(one) + `"]`), 200, "", "", ""},
		"base64 in lines":         {"", in(`"data":[["` + b64[:40] + `\r\n` + b64[40:] + `"]]`), 200, "", "", ""},
		"escaped base64":          {"", in(`"data":["` + strings.ReplaceAll(b64, "/", `\/`) + `"]`), 200, "", "", ""},
		"a byte-order mark":       {"", "\ufeff" + in(`"data":["`+b64+`"]`), 200, "", "", ""},
		"length without binary":   {fmt.Sprint(len(in(`"data":["` + b64 + `"]`))), in(`"data":["` + b64 + `"]`), 200, "", "", ""},
		"binary":                  {fmt.Sprint(len(in(size))), in(size) + raw, 200, "", "", ""},
		"unknown fields":          {"", `{"hat":1,` + in(`"data":["` + b64 + `"],"shoe":2`)[1:], 200, "", "", "hat, inputs[].shoe"},
		"unknown names":           {"", `{"a":1,"b":2,"c":3,"d":4,"e":5,"parameters":{"k":1,"l":2,"m":3,"n":4},` + in(`"data":["` + b64 + `"]`)[1:], 200, "", "", "a, b, c, d, e, parameters.k, parameters.l, parameters.m, ..."},
		"nothing":                 {"", "", 400, "INVALID_JSON", "", ""},
		"null":                    {"", "null", 400, "INVALID_TENSOR", "0 inputs", ""},
		"a list":                  {"", "[]", 400, "INVALID_JSON", "", ""},
		"half JSON":               {"", in(`"data":["` + b64)[:60], 400, "INVALID_JSON", "", ""},
		"two values":              {"", in(`"data":["`+b64+`"]`) + "{}", 400, "INVALID_JSON", "", ""},
		"wrong type":              {"", `{"inputs":[{"name":1}]}`, 400, "INVALID_JSON", "inputs.name", ""},
		"no base64":               {"", in(`"data":["?"]`), 400, "INVALID_TENSOR", "element 0", ""},
		"a number":                {"", in(`"data":[1]`), 400, "INVALID_TENSOR", "list of strings", ""},
		"an object":               {"", in(`"data":{"a":"b"}`), 400, "INVALID_TENSOR", "list of strings", ""},
		"no data":                 {"", in(`"data":[]`), 400, "INVALID_TENSOR", "0 elements", ""},
		"negative length":         {"-1", in(`"data":["` + b64 + `"]`), 400, "INVALID_JSON", "Inference-Header-Content-Length", ""},
		"length over the body":    {"9999999", in(`"data":["` + b64 + `"]`), 400, "INVALID_JSON", "Inference-Header-Content-Length", ""},
		"binary without its size": {fmt.Sprint(len(in(`"data":[]`))), in(`"data":[]`) + raw, 400, "INVALID_TENSOR", "no parameter binary_data_size", ""},
		"binary and data":         {fmt.Sprint(len(in(size + `,"data":["` + b64 + `"]`))), in(size+`,"data":["`+b64+`"]`) + raw, 400, "INVALID_TENSOR", "both", ""},
		"binary, too short":       {fmt.Sprint(len(in(size))), in(size) + raw[1:], 400, "INVALID_TENSOR", "bytes follow the JSON", ""},
		"binary without length":   {"", in(size), 400, "INVALID_TENSOR", "bytes follow the JSON", ""},
		"no flag":                 {"", `{"parameters":{"binary_data_output":"maybe"},` + in(`"data":["` + b64 + `"]`)[1:], 400, "INVALID_TENSOR", "true or false", ""},
		"shared memory":           {"", in(`"parameters":{"shared_memory_region":"x","shared_memory_byte_size":9}`), 400, "INVALID_TENSOR", "0 elements", ""},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if c.length != "" {
				header.Set(service.InferHeaderLength, c.length)
			}
			got := postInfer(t, client, url+"/v2/models/stub/infer", header, []byte(c.body))
			if c.status == 200 {
				if got.reason != "" || !slices.Equal(got.elements["counts"], []float64{1}) || got.ignored != c.ignored {
					t.Errorf("%+v", got)
				}
				return
			}
			if got.status != c.status || got.reason != c.reason || !strings.Contains(got.text, c.text) {
				t.Errorf("%+v; want %d, %s, %s", got, c.status, c.reason, c.text)
			}
		})
	}
	t.Run("gzip", func(t *testing.T) {
		call := openCall{model: "stub", images: [][]byte{one, one}}
		body, length := call.body(t, true)
		header := http.Header{"Content-Encoding": {"gzip"}, service.InferHeaderLength: {strconv.Itoa(length)}}
		got := postInfer(t, client, url+"/v2/models/stub/infer", header, gzipped(t, body))
		if got.reason != "" || !slices.Equal(got.elements["counts"], []float64{1, 1}) {
			t.Errorf("%+v", got)
		}
		header.Set("Content-Encoding", "deflate")
		if got := postInfer(t, client, url+"/v2/models/stub/infer", header, body); got.status != http.StatusUnsupportedMediaType || got.reason != "UNSUPPORTED_ENCODING" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("one output in binary form", func(t *testing.T) {
		body := `{"parameters":{"binary_data_output":true},"outputs":[{"name":"scores","parameters":{"binary_data":false}},{"name":"boxes"}],` + in(`"data":["` + b64 + `"]`)[1:]
		got := postInfer(t, client, url+"/v2/models/stub/infer", http.Header{}, []byte(body))
		if !slices.Equal(got.outputs, []string{"scoresFP32[1]", "boxesFP32[1 4]"}) || len(got.elements["boxes"]) != 4 || len(got.elements["scores"]) != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestOpenInferenceMetadata checks what both doors say about the server and its models.
func TestOpenInferenceMetadata(t *testing.T) {
	svc, url := start(t, bySize, nil)
	rpc := openClient(t, url, connect.WithGRPC())
	get := func(path string) (int, string) {
		res, body := sendPredict(t, http.MethodGet, url+path, nil, nil)
		return res.StatusCode, string(body)
	}
	for path, want := range map[string]string{
		"/v2":              `{"extensions":["binary_tensor_data","model_configuration","statistics"],"name":"mien","version":"test"}`,
		"/v2/health/live":  `{"live":true}`,
		"/v2/health/ready": `{"ready":true}`,
		"/v2/models/stub": `{"inputs":[{"datatype":"BYTES","name":"image","shape":[-1]}],"name":"stub",` +
			`"outputs":[{"datatype":"FP32","name":"boxes","shape":[-1,4]},{"datatype":"FP32","name":"landmarks","shape":[-1,5,2]},{"datatype":"FP32","name":"scores","shape":[-1]},{"datatype":"INT32","name":"counts","shape":[-1]}],` +
			`"platform":"mien","versions":["1"]}`,
		"/v2/models/other/versions/1/ready": `{"name":"other","ready":true}`,
		"/v2/models/stub/config": `{"backend":"mien","input":[{"data_type":"TYPE_STRING","dims":[-1],"name":"image"}],"max_batch_size":0,"name":"stub",` +
			`"output":[{"data_type":"TYPE_FP32","dims":[-1,4],"name":"boxes"},{"data_type":"TYPE_FP32","dims":[-1,5,2],"name":"landmarks"},{"data_type":"TYPE_FP32","dims":[-1],"name":"scores"},{"data_type":"TYPE_INT32","dims":[-1],"name":"counts"}],` +
			`"parameters":{"default_min_confidence":{"string_value":"0.25"},"family":{"string_value":"stub"},"min_face_size":{"string_value":"20"},"version":{"string_value":"1.0"}},"platform":"mien"}`,
	} {
		if status, body := get(path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	for path, want := range map[string]int{"/v2/models/nobody": 404, "/v2/models/stub/versions/2": 404, "/v2/models/nobody/stats": 404, "/v2/nothing": 404, "/v2/models/stub/infer": 405} {
		status, body := get(path)
		var failure struct{ Error string }
		if err := json.Unmarshal([]byte(body), &failure); status != want || err != nil || failure.Error == "" {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	if res, body := sendPredict(t, http.MethodPost, url+"/v2/models/stub", nil, nil); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET" || !bytes.Contains(body, []byte(`"error"`)) {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}

	metadata, err := rpc.ModelMetadata(t.Context(), &inference.ModelMetadataRequest{Name: "stub", Version: "1"})
	if err != nil || metadata.GetName() != "stub" || len(metadata.GetOutputs()) != 4 || metadata.GetInputs()[0].GetDatatype() != "BYTES" {
		t.Errorf("%v, %v", metadata, err)
	}
	config, err := rpc.ModelConfig(t.Context(), &inference.ModelConfigRequest{Name: "stub"})
	if err != nil || config.GetConfig().GetOutput()[1].GetName() != "landmarks" || config.GetConfig().GetInput()[0].GetDataType() != inference.DataType_TYPE_STRING {
		t.Errorf("%v, %v", config, err)
	}
	_, err = rpc.ModelReady(t.Context(), &inference.ModelReadyRequest{Name: "nobody"})
	if code, reason, _ := reasonOf(t, err); code != connect.CodeNotFound || reason != "UNKNOWN_MODEL" || !strings.Contains(err.Error(), `name is "nobody"`) {
		t.Errorf("%v", err)
	}
	svc.Drain()
	ready, err := rpc.ServerReady(t.Context(), &inference.ServerReadyRequest{})
	model, errModel := rpc.ModelReady(t.Context(), &inference.ModelReadyRequest{Name: "stub"})
	if err != nil || errModel != nil || ready.GetReady() || model.GetReady() {
		t.Errorf("%v, %v, %v, %v", ready, err, model, errModel)
	}
	for _, path := range []string{"/v2/health/ready", "/v2/models/stub/ready"} {
		if status, body := get(path); status != http.StatusServiceUnavailable || !strings.Contains(body, `"ready":false`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for door, send := range openDoors(t, url) {
		if got := send(t, openCall{model: "stub", images: [][]byte{square(t, 41)}}); got.reason != "DRAINING" || !got.retry {
			t.Errorf("%s: %+v", door, got)
		}
	}
}

// TestOpenInferenceObserved checks that every image is observed once, and counted in the
// statistics of its model, by every door.
func TestOpenInferenceObserved(t *testing.T) {
	var seen calls
	_, url := start(t, bySize, func(c *service.Config) { c.Observe = seen.observe; c.Workers = 1 })
	rpc := openClient(t, url, connect.WithGRPC())
	one, many := square(t, 41), square(t, 57)
	of := func(model string) *inference.ModelStatistics {
		res, err := rpc.ModelStatistics(t.Context(), &inference.ModelStatisticsRequest{Name: model})
		if err != nil || len(res.GetModelStats()) != 1 {
			t.Fatalf("%v, %v", res, err)
		}
		return res.GetModelStats()[0]
	}
	var success, fail uint64
	for door, send := range openDoors(t, url) {
		procedure, protocol := inferenceconnect.GRPCInferenceServiceModelInferProcedure, door[:strings.IndexByte(door, ' ')]
		switch protocol {
		case "rest":
			procedure, protocol = "/v2/models/{model}/infer", "http"
		case "json", "gzip":
			protocol = "connect"
		case "grpc-web":
			protocol = "grpcweb"
		}
		check := func(name string, c openCall, codes ...connect.Code) []service.Record {
			_ = send(t, c)
			records := seen.take(t, len(codes))
			var got []connect.Code
			for _, r := range records {
				got = append(got, r.Code)
				if r.Procedure != procedure || r.Protocol != protocol || r.ID != "the-request" || !r.Handled {
					t.Errorf("%s, %s: %+v", door, name, r)
				}
			}
			if !slices.Equal(got, codes) {
				t.Errorf("%s, %s: codes %v, want %v", door, name, got, codes)
			}
			return records
		}
		if r := check("one", openCall{model: "stub", images: [][]byte{many}}, 0)[0]; r.Model != "stub" || r.Bytes != len(many) || r.Width != 57 || r.Faces != 3 {
			t.Errorf("%s: %+v", door, r)
		}
		if r := check("several", openCall{model: "stub", images: [][]byte{one, many, one}}, 0, 0, 0)[1]; r.Model != "stub" || r.Bytes != len(many) || r.Faces != 3 {
			t.Errorf("%s: %+v", door, r)
		}
		// After the failure, no further image is processed.
		check("one fails", openCall{model: "stub", images: [][]byte{one, []byte("text"), one}}, 0, connect.CodeInvalidArgument)
		check("bad", openCall{model: "stub", images: [][]byte{[]byte("text")}}, connect.CodeInvalidArgument)
		check("no model", openCall{model: "nobody", images: [][]byte{one}}, connect.CodeNotFound)
		success, fail = success+5, fail+2
		s := of("stub")
		in := s.GetInferenceStats()
		if s.GetInferenceCount() != success || s.GetExecutionCount() != success || in.GetSuccess().GetCount() != success || in.GetFail().GetCount() != fail || in.GetComputeInfer().GetCount() != success {
			t.Errorf("%s: %v", door, s)
		}
		parts := in.GetQueue().GetNs() + in.GetComputeInput().GetNs() + in.GetComputeInfer().GetNs() + in.GetComputeOutput().GetNs()
		if in.GetSuccess().GetNs() == 0 || parts != in.GetSuccess().GetNs() || s.GetLastInference() < uint64(time.Now().Add(-time.Minute).UnixMilli()) {
			t.Errorf("%s: %v", door, s)
		}
	}
	if other := of("other"); other.GetInferenceCount() != 0 || other.GetLastInference() != 0 {
		t.Errorf("%v", other)
	}
	// Images of other procedures count too.
	if _, err := clients(t, url)["grpc"].Predict(t.Context(), &inferencev1.Image{RawData: one}); err != nil {
		t.Fatal(err)
	}
	if s := of("stub"); s.GetInferenceCount() != success+1 {
		t.Errorf("%v", s)
	}
	all, err := rpc.ModelStatistics(t.Context(), &inference.ModelStatisticsRequest{})
	if err != nil || len(all.GetModelStats()) != 2 || all.GetModelStats()[1].GetName() != "other" {
		t.Errorf("%v, %v", all, err)
	}
}

// TestOpenInferenceOverload checks that a request of one image is refused while the queue is
// full, that several images of one request wait for each other instead, and that the
// deadline is one for all of them.
func TestOpenInferenceOverload(t *testing.T) {
	release := make(chan struct{})
	var running, most atomic.Int32
	d := bySize
	d.detect = func(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-release:
			return bySize.detect(ctx, img, opts)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	svc, url := start(t, d, func(c *service.Config) { c.Workers, c.Queue, c.Timeout = 2, 0, 30*time.Second })
	one := square(t, 41)
	doors := openDoors(t, url)
	answered := make(chan openAnswer, 1)
	go func() {
		answered <- doors["grpc raw=true"](t, openCall{model: "stub", images: slices.Repeat([][]byte{one}, 20)})
	}()
	eventually(t, "both workers are busy", func() bool { return svc.Stats().Busy == 2 })
	for door, send := range doors {
		if got := send(t, openCall{model: "stub", images: [][]byte{one}}); got.reason != "OVERLOADED" || !got.retry {
			t.Errorf("%s: %+v", door, got)
		}
	}
	close(release)
	if got := <-answered; got.reason != "" || len(got.elements["scores"]) != 20 || most.Load() != 2 {
		t.Errorf("%+v, %d at a time", got, most.Load())
	}
}

// TestOpenInferenceDeadline checks that a request ends at its deadline, however many images
// it has.
func TestOpenInferenceDeadline(t *testing.T) {
	d := bySize
	d.detect = func(ctx context.Context, _ image.Image, _ face.Options) ([]face.Face, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	svc, url := start(t, d, func(c *service.Config) {
		c.Workers, c.Timeout, c.DefaultTimeout = 1, 300*time.Millisecond, 50*time.Millisecond
	})
	for door, send := range openDoors(t, url) {
		for _, n := range []int{1, 3} {
			if got := send(t, openCall{model: "stub", images: slices.Repeat([][]byte{square(t, 41)}, n)}); got.reason != "DEADLINE" {
				t.Errorf("%s, %d images: %+v", door, n, got)
			}
		}
	}
	eventually(t, "everything is released", func() bool {
		s := svc.Stats()
		return s.Busy == 0 && s.BodyBytesInFlight == 0 && s.DecodedBytesInFlight == 0 && s.RequestsInFlight == 0
	})
}
