package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	inference "github.com/mienproject/mien/gen/inference"
	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

var update = flag.Bool("update", false, "rewrite the files in testdata/surface from what the server does now")

// TestSurface compares everything that clients and operators depend on with the files
// in testdata/surface: statuses, reasons, JSON keys, response headers, flags and their
// variables, metrics and their labels, keys of the log, and the texts of the system
// that Mien replaces. Other texts, numbers and times may change. After an intended
// change, run it with -update and read the difference.
func TestSurface(t *testing.T) {
	t.Run("flags", func(t *testing.T) {
		var help bytes.Buffer
		if code := run(t.Context(), []string{"--help"}, &help, io.Discard); code != 0 {
			t.Fatalf("--help: exit code %d", code)
		}
		flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(help.String(), -1)
		var lines []string
		for _, f := range flags {
			lines = append(lines, f[1])
		}
		lines = append(lines, regexp.MustCompile(`\$[A-Z_]{5,}`).FindAllString(help.String(), -1)...)
		slices.Sort(lines)
		compareGolden(t, "flags.txt", strings.Join(slices.Compact(lines), "\n")+"\n")
	})
	t.Run("requests", func(t *testing.T) {
		s := start(t, append(patient, "--admin-listen", "127.0.0.1:0", "--log-level", "debug", "--model", "pigo,pigo-reference",
			"--max-image-bytes", "128KiB", "--max-batch-bytes", "128KiB", "--max-pixels", "200000", "--cors-origin", "https://page.example")...)
		requests := surfaceRequests(t)
		out := recordSurface(t, s, requests)
		out += disconnectEarly(t, s) + breakChunks(t, s)
		metrics := recordMetrics(t, s, len(requests)+2)
		_, log := s.stop()
		compareGolden(t, "requests.txt", out+"\n"+logKeys(t, log))
		compareGolden(t, "request-log.txt", requestLog(t, log))
		compareGolden(t, "metrics.txt", metrics)
	})
	t.Run("deadline", func(t *testing.T) {
		s := start(t, "--timeout", "1ns", "--default-timeout", "1ns")
		out := recordSurface(t, s, everyDoor("deadline", &inferencev1.Image{RawData: readFile(t, samplePath)}))
		_, log := s.stop()
		compareGolden(t, "deadline.txt", out+"\n"+requestLog(t, log))
	})
	t.Run("unauthenticated", func(t *testing.T) {
		file, _ := keysFile(t, "acme")
		s := start(t, "--auth-keys", file)
		out := recordSurface(t, s, everyDoor("unauthenticated", &inferencev1.Image{RawData: readFile(t, samplePath)}))
		_, log := s.stop()
		compareGolden(t, "unauthenticated.txt", out+"\n"+requestLog(t, log))
	})
	t.Run("quota", func(t *testing.T) {
		s := start(t, "--quota-requests", "0.001")
		_, _ = grpcClient(t, s.url).ListModels(t.Context(), &inferencev1.ListModelsRequest{}) // uses up the quota
		out := recordSurface(t, s, everyDoor("quota", &inferencev1.Image{RawData: readFile(t, samplePath)}))
		out = regexp.MustCompile(`(Retry-After: |retryDelay=|RetryInfo after )[0-9hms.]+`).ReplaceAllString(out, "${1}some time")
		compareGolden(t, "quota.txt", out)
	})
	t.Run("overloaded", func(t *testing.T) {
		s := start(t, "--max-requests", "1", "--admin-listen", "127.0.0.1:0")
		end := openStream(t, s)
		out := recordSurface(t, s, everyDoor("overloaded", &inferencev1.Image{RawData: readFile(t, samplePath)}))
		out += "# the stream that was open\n" + end(true)
		_, log := s.stop()
		compareGolden(t, "overloaded.txt", out+"\n"+requestLog(t, log))
	})
	t.Run("draining", func(t *testing.T) {
		p := startProcess(t, "--admin-listen", "127.0.0.1:0", "--drain-delay", "0s")
		end := openStream(t, server{url: p.url, admin: p.admin})
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		out := "# a stream that is open\n" + end(false)
		<-p.ended
		var log strings.Builder
		for _, line := range p.log {
			text, err := json.Marshal(line)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&log, string(text))
		}
		compareGolden(t, "draining.txt", out+"\n"+requestLog(t, log.String())+logKeys(t, log.String()))
	})
}

// compareGolden compares text with a file of testdata/surface, or writes it with -update.
func compareGolden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "surface", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(string(readFile(t, path)), "\n")
	got := strings.Split(text, "\n")
	if slices.Equal(got, want) {
		return
	}
	section, shown := "", 0
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if strings.HasPrefix(w, "#") {
			section = w
		}
		if g != w && shown < 20 {
			shown++
			t.Errorf("%s:%d, below %q:\n got  %s\n want %s", path, i+1, section, g, w)
		}
	}
}

// A surfaceRequest is a request of the fixed list.
type surfaceRequest struct {
	name         string
	http         int // major version
	method, path string
	header       http.Header
	body         []byte
	// answer is a message of the type that a binary answer has.
	answer proto.Message
}

// envelope adds the prefix of gRPC and of Connect's streams to a message.
func envelope(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

func marshalFor(mediaType string, m proto.Message) []byte {
	var data []byte
	var err error
	if strings.HasSuffix(mediaType, "json") {
		data, err = protojson.Marshal(m)
	} else {
		data, err = proto.Marshal(m)
	}
	if err != nil {
		panic(err)
	}
	return data
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// doorTypes are the content types of the protocols, for one image and for many.
var (
	singleTypes   = []string{"application/grpc", "application/grpc+json", "application/grpc-web+proto", "application/proto", "application/json"}
	envelopeTypes = []string{"application/grpc", "application/grpc-web+json", "application/connect+proto", "application/connect+json"}
)

// rpc returns a call of procedure with messages, in the protocol of that content type.
func rpc(name, procedure, mediaType string, messages ...proto.Message) surfaceRequest {
	r := surfaceRequest{
		name: name + ", " + mediaType + " " + procedure, http: 2, method: http.MethodPost, path: procedure,
		header: http.Header{"Content-Type": {mediaType}}, answer: &inferencev1.InferResults{},
	}
	switch {
	case strings.HasSuffix(procedure, "/ListModels"):
		r.answer = &inferencev1.ListModelsResponse{}
	case strings.HasSuffix(procedure, "/ModelInfer"):
		r.answer = &inference.ModelInferResponse{}
	}
	if strings.HasPrefix(mediaType, "application/grpc") && !strings.Contains(mediaType, "web") {
		r.header.Set("Te", "trailers")
	}
	for _, m := range messages {
		data := marshalFor(mediaType, m)
		if mediaType != "application/json" && mediaType != "application/proto" {
			data = envelope(0, data)
		}
		r.body = append(r.body, data...)
	}
	return r
}

// predict returns a request to /predict.
func predict(name, contentType, query string, body []byte, header ...string) surfaceRequest {
	r := surfaceRequest{name: name + ", /predict" + query, http: 1, method: http.MethodPost, path: "/predict" + query, header: http.Header{}, body: body}
	if contentType != "" {
		r.header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.header.Set(header[i], header[i+1])
	}
	return r
}

// modelInfer returns the message of the Open Inference Protocol for these images.
func modelInfer(model string, images ...[]byte) *inference.ModelInferRequest {
	in := &inference.ModelInferRequest_InferInputTensor{Name: "image", Datatype: "BYTES", Shape: []int64{int64(len(images))}}
	return &inference.ModelInferRequest{ModelName: model, Id: "x", Inputs: []*inference.ModelInferRequest_InferInputTensor{in}, RawInputContents: [][]byte{elements(images)}}
}

// elements returns the elements of an input, each after its length.
func elements(images [][]byte) (raw []byte) {
	for _, data := range images {
		raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(data))), data...)
	}
	return raw
}

// infer returns a request of the Open Inference Protocol in plain HTTP. more is added to its
// JSON. If isBinary is true, the images and the outputs are binary.
func infer(name, path, more string, isBinary bool, images ...[]byte) surfaceRequest {
	r := surfaceRequest{name: name + ", " + path, http: 1, method: http.MethodPost, path: path, header: http.Header{}}
	in := map[string]any{"name": "image", "datatype": "BYTES", "shape": []int{len(images)}}
	raw := elements(images)
	if isBinary {
		r.name += ", binary"
		in["parameters"] = map[string]any{"binary_data_size": len(raw)}
		more += `"parameters":{"binary_data_output":true},`
	} else {
		in["data"] = images // package json encodes bytes in base64
	}
	text, err := json.Marshal(map[string]any{"inputs": []any{in}})
	if err != nil {
		panic(err)
	}
	r.body = append([]byte("{"+more), text[1:]...)
	if isBinary {
		r.header.Set(service.InferHeaderLength, strconv.Itoa(len(r.body)))
		r.body = append(r.body, raw...)
	}
	return r
}

// everyDoor returns the same request for every protocol.
func everyDoor(name string, img *inferencev1.Image) (all []surfaceRequest) {
	for _, mediaType := range singleTypes {
		all = append(all, rpc(name, inferencev1connect.InferencePredictProcedure, mediaType, img))
	}
	query := neturl.Values{"connect": {"v1"}, "encoding": {"json"}, "message": {string(marshalFor("json", img))}}
	if encoded := query.Encode(); len(encoded) < maxHeaderBytes/2 {
		all = append(all, surfaceRequest{name: name + ", GET", http: 1, method: http.MethodGet, path: inferencev1connect.InferencePredictProcedure + "?" + encoded})
	}
	all = append(all, rpc(name, "/Inference/Predict", "application/grpc", img))
	for _, mediaType := range envelopeTypes {
		all = append(all, rpc(name, inferencev1connect.InferencePredictStreamProcedure, mediaType, img),
			rpc(name, inferencev1connect.InferencePredictBatchProcedure, mediaType, &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{img}}))
	}
	if img.GetPixelFormat() == inferencev1.PixelFormat_PIXEL_FORMAT_ENCODED && img.GetOptions() == nil {
		old, err := json.Marshal(map[string]any{"img_id": "1", "img_b64": base64.StdEncoding.EncodeToString(img.GetRawData())})
		if err != nil {
			panic(err)
		}
		form := "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n" + string(img.GetRawData()) + "\r\n--b--\r\n"
		all = append(all,
			predict(name+", old JSON", "application/json", "", old),
			predict(name+", old JSON undeclared", "text/plain", "", old),
			predict(name+", raw", "image/jpeg", "", img.GetRawData()),
			predict(name+", form", "multipart/form-data; boundary=b", "", []byte(form)),
			predict(name+", marked", "image/jpeg", "", img.GetRawData(), "Accept", "image/png"),
			infer(name, "/v2/models/pigo/infer", "", false, img.GetRawData()),
			infer(name, "/v2/models/pigo/versions/1/infer", "", true, img.GetRawData()))
		for _, mediaType := range []string{"application/grpc", "application/json"} {
			all = append(all, rpc(name, inferenceconnect.GRPCInferenceServiceModelInferProcedure, mediaType, modelInfer("pigo", img.GetRawData())))
		}
	}
	return all
}

// surfaceRequests is the fixed list: each reason that a request can cause, in each
// protocol.
func surfaceRequests(t *testing.T) (all []surfaceRequest) {
	sample := readFile(t, samplePath)
	confidence := func(f float32) *inferencev1.DetectOptions { return &inferencev1.DetectOptions{MinConfidence: &f} }
	for _, c := range []struct {
		name string
		img  *inferencev1.Image
	}{
		{"a face", &inferencev1.Image{RawData: sample, ImageId: "x"}},
		{"bare pixels", &inferencev1.Image{RawData: make([]byte, 64*64), Width: 64, Height: 64, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}},
		{"no bytes", &inferencev1.Image{}},
		{"no image", &inferencev1.Image{RawData: []byte("hello")}},
		{"half an image", &inferencev1.Image{RawData: sample[:2000]}},
		{"bad option", &inferencev1.Image{RawData: []byte("P"), Options: confidence(2)}},
		{"negative option", &inferencev1.Image{RawData: []byte("P"), Options: &inferencev1.DetectOptions{MaxResults: -1}}},
		{"unknown model", &inferencev1.Image{RawData: []byte("P"), Options: &inferencev1.DetectOptions{Model: "nobody"}}},
		{"wrong pixels", &inferencev1.Image{RawData: []byte("1234"), Width: 9, Height: 9, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_RGB24}},
		{"too many pixels", &inferencev1.Image{RawData: gifHeader(1000, 1000)}},
		{"too many bytes", &inferencev1.Image{RawData: make([]byte, 129<<10)}},
		{"a message too large", &inferencev1.Image{RawData: make([]byte, 600<<10)}},
	} {
		all = append(all, everyDoor(c.name, c.img)...)
	}
	const single, stream, batch = inferencev1connect.InferencePredictProcedure, inferencev1connect.InferencePredictStreamProcedure, inferencev1connect.InferencePredictBatchProcedure
	for _, mediaType := range singleTypes {
		all = append(all, rpc("models", inferencev1connect.InferenceListModelsProcedure, mediaType, &inferencev1.ListModelsRequest{}))
	}
	img, empty := &inferencev1.Image{RawData: sample}, &inferencev1.Image{}
	for _, mediaType := range envelopeTypes {
		all = append(all,
			rpc("two good and a bad one", stream, mediaType, img, empty, img),
			rpc("none", stream, mediaType),
			rpc("none", batch, mediaType, &inferencev1.PredictBatchRequest{}),
			rpc("101 images", batch, mediaType, &inferencev1.PredictBatchRequest{Images: slices.Repeat([]*inferencev1.Image{{}}, 101)}),
			rpc("two messages", batch, mediaType, &inferencev1.PredictBatchRequest{}, &inferencev1.PredictBatchRequest{}))
	}
	for _, mediaType := range singleTypes {
		unreadable := rpc("unreadable", single, mediaType)
		unreadable.body = []byte("\x08\x01{")
		compressed := rpc("compressed", single, mediaType, img)
		bomb := rpc("a bomb", single, mediaType, &inferencev1.Image{RawData: make([]byte, 2<<20)})
		unknown := rpc("unknown compression", single, mediaType, img)
		if strings.HasPrefix(mediaType, "application/grpc") {
			unreadable.body = envelope(0, unreadable.body)
			for _, r := range []*surfaceRequest{&compressed, &bomb} {
				r.body = envelope(1, zip(r.body[5:]))
				r.header.Set("Grpc-Encoding", "gzip")
			}
			unknown.header.Set("Grpc-Encoding", "br")
			unknown.body[0] = 1
		} else {
			for _, r := range []*surfaceRequest{&compressed, &bomb} {
				r.body = zip(r.body)
				r.header.Set("Content-Encoding", "gzip")
			}
			unknown.header.Set("Content-Encoding", "br")
		}
		all = append(all, unreadable, compressed, bomb, unknown)
	}
	newer := rpc("unknown fields", single, "application/json")
	newer.body = []byte(`{"rawData": "", "shoeSize": 1, "options": {"hat": true}}`)
	http1 := rpc("HTTP/1.1", stream, "application/connect+json", empty)
	http1.http = 1
	bare1 := rpc("HTTP/1.1", stream, "application/json", empty)
	bare1.http = 1
	preflight := surfaceRequest{name: "preflight", http: 1, method: http.MethodOptions, path: single, header: http.Header{
		"Origin": {"https://page.example"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"content-type"},
	}}
	stranger := preflight
	stranger.name, stranger.header = "another origin's preflight", maps.Clone(preflight.header)
	stranger.header.Set("Origin", "https://else.example")
	page := predict("from a page", "image/jpeg", "", sample, "Origin", "https://page.example")
	all = append(all, newer, http1, bare1, preflight, stranger, page,
		rpc("no such procedure", "/inference.v1.Inference/Nothing", "application/grpc", empty),
		rpc("wrong type", single, "text/plain", empty), rpc("wrong type", batch, "application/json", empty),
		rpc("wrong type", single, "application/grpc-web-text", empty))
	for _, path := range []string{"/", "/openapi.yaml", "/livez", "/readyz", "/nothing", "/predict"} {
		all = append(all, surfaceRequest{name: "GET " + path, http: 1, method: http.MethodGet, path: path})
	}
	put := predict("PUT", "", "", sample)
	put.method = http.MethodPut
	b64 := base64.StdEncoding.EncodeToString(sample)
	all = append(all, put,
		predict("options", "image/jpeg", "?min_confidence=0.5&max_results=1&min_face_size=20&skip_landmarks=true&any_orientation=false&model=pigo", sample),
		predict("JPEG wanted", "image/jpeg", "", sample, "Accept", "image/jpeg"),
		predict("data URL", "application/json", "", []byte(`{"img_id": "1", "img_b64": "data:image/jpeg;base64,`+b64+`"}`)),
		predict("unknown fields", "application/json", "", []byte(`{"img_id": "1", "img_b64": "", "hat": 1}`)),
		predict("no id", "application/json", "", []byte(`{"img_b64": "`+b64+`"}`)),
		predict("empty id", "application/json", "", []byte(`{"img_id": "", "img_b64": ""}`)),
		predict("no image", "application/json", "", []byte(`{"img_id": "1"}`)),
		predict("a number", "application/json", "", []byte(`{"img_id": 1, "img_b64": ""}`)),
		predict("no base64", "application/json", "", []byte(`{"img_id": "1", "img_b64": "?"}`)),
		predict("a list", "application/json", "", []byte(`[1]`)),
		predict("half JSON", "application/json", "", []byte(`{"img_id": `)),
		predict("nothing", "application/json", "", nil),
		predict("no UTF-8", "application/json", "", []byte("{\"img_id\": \"\xff\"}")),
		predict("unknown option", "image/jpeg", "?hat=1", sample),
		predict("bad option", "image/jpeg", "?max_results=many", sample),
		predict("option out of bounds", "image/jpeg", "?min_confidence=2", sample),
		predict("option twice", "image/jpeg", "?model=a&model=b", sample),
		predict("unknown model", "image/jpeg", "?model=nobody", sample),
		predict("bad query", "image/jpeg", "?a;b", sample),
		predict("bad query, old JSON", "application/json", "?hat=1", []byte(`{"img_id": "1", "img_b64": "`+b64+`"}`)),
		predict("form without boundary", "multipart/form-data", "", []byte("x")),
		predict("form without image", "multipart/form-data; boundary=b", "", []byte("--b--\r\n")),
		predict("gzip", "image/jpeg", "", zip(sample), "Content-Encoding", "gzip"),
		predict("bad gzip", "image/jpeg", "", []byte("no gzip"), "Content-Encoding", "gzip"),
		predict("a bomb", "image/jpeg", "", zip(make([]byte, 2<<20)), "Content-Encoding", "gzip"),
		predict("unknown compression", "image/jpeg", "", sample, "Content-Encoding", "br"))
	all = append(all, openInferenceRequests(sample)...)
	for i := range all {
		if all[i].header == nil {
			all[i].header = http.Header{}
		}
	}
	return all
}

// openInferenceRequests are those that only the Open Inference Protocol has.
func openInferenceRequests(sample []byte) (all []surfaceRequest) {
	const path = "/v2/models/pigo/infer"
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))) // never fails
	tiny := b.Bytes()
	for _, mediaType := range []string{"application/grpc", "application/json"} {
		const procedure = inferenceconnect.GRPCInferenceServiceModelInferProcedure
		version := modelInfer("pigo", sample)
		version.ModelVersion = "2"
		tensor := modelInfer("pigo", sample)
		tensor.Inputs[0].Datatype = "UINT8"
		all = append(all,
			rpc("two images", procedure, mediaType, modelInfer("pigo", sample, tiny)),
			rpc("too many bytes together", procedure, mediaType, modelInfer("pigo", make([]byte, 100<<10), make([]byte, 100<<10))),
			rpc("101 images", procedure, mediaType, modelInfer("pigo", slices.Repeat([][]byte{{1}}, 101)...)),
			rpc("unknown model", procedure, mediaType, modelInfer("nobody", sample)),
			rpc("unknown version", procedure, mediaType, version),
			rpc("a wrong tensor", procedure, mediaType, tensor))
	}
	all = append(all,
		infer("two images", path, "", true, sample, tiny),
		infer("too many bytes together", path, "", false, make([]byte, 100<<10), make([]byte, 100<<10)),
		infer("101 images", path, "", false, slices.Repeat([][]byte{{1}}, 101)...),
		infer("unknown model", "/v2/models/nobody/infer", "", false, sample),
		infer("unknown version", "/v2/models/pigo/versions/2/infer", "", false, sample),
		infer("some outputs", path, `"id":"x","outputs":[{"name":"counts"},{"name":"scores"}],`, false, sample),
		infer("an unknown output", path, `"outputs":[{"name":"labels"}],`, false, sample),
		infer("options", path, `"parameters":{"min_confidence":0.5,"max_results":1,"skip_landmarks":true},`, false, sample),
		infer("a bad option", path, `"parameters":{"min_confidence":2},`, false, sample),
		infer("unknown names", path, `"hat":1,"parameters":{"threshold":0.5},`, false, sample),
		predict("half JSON", "application/json", "", []byte(`{"inputs": `)))
	all[len(all)-1].name, all[len(all)-1].path = "half JSON, "+path, path
	for _, path := range []string{
		"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/pigo", "/v2/models/pigo/versions/1", "/v2/models/pigo/ready",
		"/v2/models/pigo/config", "/v2/models/pigo/stats", "/v2/models/stats", "/v2/models/nobody", "/v2/models/pigo/versions/2/ready", "/v2/nothing", path,
	} {
		all = append(all, surfaceRequest{name: "GET " + path, http: 1, method: http.MethodGet, path: path})
	}
	return all
}

// gifHeader returns the header of a GIF of that size.
func gifHeader(width, height uint16) []byte {
	data := binary.LittleEndian.AppendUint16([]byte("GIF89a"), width)
	data = binary.LittleEndian.AppendUint16(data, height)
	return append(data, 0, 0, 0, 0x2c, 0, 0, 0, 0, byte(width), byte(width>>8), byte(height), byte(height>>8), 0, 2, 0, 0x3b)
}

// recordSurface sends the requests one after another, and describes the answers.
func recordSurface(t *testing.T, s server, requests []surfaceRequest) string {
	t.Helper()
	var out strings.Builder
	clients := []*http.Client{nil, httpClient(t, 1, nil), httpClient(t, 2, nil)}
	for _, c := range clients[1:] {
		c.Transport.(*http.Transport).DisableCompression = true
	}
	for i, r := range requests {
		id := fmt.Sprintf("r%03d", i) // identifies its line in the log
		req, err := http.NewRequestWithContext(t.Context(), r.method, s.url+r.path, bytes.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		if r.header != nil {
			req.Header = r.header.Clone()
		}
		req.Header.Set(requestIDHeader, id)
		res, err := clients[r.http].Do(req)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		fmt.Fprintf(&out, "# %s: %s\n%s", id, r.name, describeAnswer(t, res, r.answer))
		_ = res.Body.Close()
	}
	return out.String()
}

// freeHeaders are headers whose values may change, but not their names.
var freeHeaders = []string{"Date", "Content-Length", "X-Request-Id", "Grpc-Message", "Etag", service.InferHeaderLength}

func describeHeader(kind string, h http.Header) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(h)) {
		switch name := http.CanonicalHeaderKey(key); {
		case key == "Content-Length", key == "Date": // set by net/http
		case name == "Grpc-Status-Details-Bin":
			data, err := base64.RawStdEncoding.DecodeString(h[key][0])
			var status rpcstatus.Status
			if err == nil {
				err = proto.Unmarshal(data, &status)
			}
			if err != nil {
				fmt.Fprintf(&out, "%s %s cannot be read: %v\n", kind, name, err)
				continue
			}
			for _, detail := range status.GetDetails() {
				fmt.Fprintf(&out, "%s %s %s\n", kind, name, describeDetail(detail.GetTypeUrl(), detail.GetValue()))
			}
		case slices.Contains(freeHeaders, name):
			fmt.Fprintf(&out, "%s %s\n", kind, name)
		default:
			fmt.Fprintf(&out, "%s %s: %s\n", kind, name, strings.Join(h[key], " | "))
		}
	}
	return out.String()
}

// describeDetail describes a detail of an error.
func describeDetail(url string, value []byte) string {
	_, name, _ := strings.Cut(url, "/")
	if name == "" {
		name = url
	}
	switch name {
	case "google.rpc.ErrorInfo":
		var info errdetails.ErrorInfo
		if err := proto.Unmarshal(value, &info); err == nil {
			return fmt.Sprintf("%s %s of %s", name, info.GetReason(), info.GetDomain())
		}
	case "google.rpc.RetryInfo":
		var info errdetails.RetryInfo
		if err := proto.Unmarshal(value, &info); err == nil {
			return fmt.Sprintf("%s after %v", name, info.GetRetryDelay().AsDuration())
		}
	}
	return name + " unreadable"
}

func describeAnswer(t *testing.T, res *http.Response, answer proto.Message) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		body = fmt.Append(body, "\nreading failed")
	}
	var out strings.Builder
	fmt.Fprintf(&out, "status %d\n%s", res.StatusCode, describeHeader("header", res.Header))
	contentType := res.Header.Get("Content-Type")
	switch {
	case len(body) == 0:
	case strings.HasPrefix(contentType, "application/json"):
		fmt.Fprintf(&out, "body %s\n", describeJSON(body))
	case strings.HasPrefix(contentType, "application/proto"):
		fmt.Fprintf(&out, "body %s\n", describeMessage(body, answer))
	case strings.HasPrefix(contentType, "application/grpc"), strings.HasPrefix(contentType, "application/connect+"):
		out.WriteString(describeFrames(body, contentType, answer))
	default:
		fmt.Fprintf(&out, "body of some bytes\n")
	}
	out.WriteString(describeHeader("trailer", res.Trailer))
	return out.String()
}

// describeFrames describes the messages of a stream or of gRPC. Those of a batch are
// sorted, because they come in any order.
func describeFrames(body []byte, contentType string, answer proto.Message) string {
	var lines []string
	for len(body) > 0 {
		if len(body) < 5 || len(body) < 5+int(binary.BigEndian.Uint32(body[1:])) {
			lines = append(lines, "frame that is cut off\n")
			break
		}
		flags, size := body[0], int(binary.BigEndian.Uint32(body[1:]))
		data := body[5 : 5+size]
		body = body[5+size:]
		if flags&1 != 0 {
			if r, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
				data, _ = io.ReadAll(r)
			}
		}
		switch {
		case flags&0x80 != 0: // the trailers of gRPC-Web
			trailer := http.Header{}
			for line := range strings.Lines(string(data)) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
				trailer.Add(key, strings.TrimSpace(value))
			}
			lines = append(lines, describeHeader("web trailer", trailer))
		case flags&2 != 0: // the end of a stream in Connect
			lines = append(lines, fmt.Sprintf("end %s\n", describeJSON(data)))
		case strings.HasSuffix(contentType, "json"):
			lines = append(lines, fmt.Sprintf("message %s\n", describeJSON(data)))
		default:
			lines = append(lines, fmt.Sprintf("message %s\n", describeMessage(data, answer)))
		}
	}
	return strings.Join(lines, "")
}

func describeMessage(data []byte, answer proto.Message) string {
	m := answer.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(data, m); err != nil {
		return "unreadable"
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return "unreadable"
	}
	return "proto " + describeJSON(text)
}

// oldTexts are the texts of the system that Mien replaces, which its clients may
// compare.
var oldTexts = []string{"'image id not exists.'", "please post JSON format data", "inference failed: "}

// contractKeys are the JSON keys whose values are part of the contract.
var contractKeys = []string{"code", "reason", "domain", "type", "retryDelay", "environment", "imageId", "image_id", "model", "name", "family", "default", "index", "model_name", "model_version", "modelName", "modelVersion", "id", "datatype"}

// describeJSON lists the paths that JSON has, and the values of those in contractKeys.
func describeJSON(data []byte) string {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return "unreadable JSON"
	}
	seen := map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if len(v) == 0 {
				seen[path+"{}"] = true
			}
			for key, inner := range v {
				walk(strings.TrimPrefix(path+"."+key, "."), inner)
			}
			if kind, ok := v["type"].(string); ok {
				if text, ok := v["value"].(string); ok {
					raw, err := base64.RawStdEncoding.DecodeString(text)
					if err != nil {
						raw, _ = base64.StdEncoding.DecodeString(text)
					}
					seen[path+".value="+describeDetail(kind, raw)] = true
				}
			}
		case []any:
			seen[path+"[]"] = true
			for _, inner := range v {
				walk(path+"[]", inner)
			}
		default:
			key := path[strings.LastIndex(path, ".")+1:]
			text, isText := v.(string)
			switch {
			case slices.Contains(contractKeys, key):
				seen[fmt.Sprintf("%s=%v", path, v)] = true
			case key == "message" && isText && slices.ContainsFunc(oldTexts, func(old string) bool { return strings.HasPrefix(text, old) }):
				for _, old := range oldTexts {
					if strings.HasPrefix(text, old) {
						exact := "…"
						if text == old {
							exact = ""
						}
						seen[fmt.Sprintf("%s=%q%s", path, old, exact)] = true
					}
				}
			case key == "message" && text == "":
				seen[path+`=""`] = true
			default:
				seen[fmt.Sprintf("%s %T", path, v)] = true
			}
		}
	}
	walk("", value)
	return strings.Join(slices.Sorted(maps.Keys(seen)), ", ")
}

// disconnectEarly closes the connection before the whole body is sent.
func disconnectEarly(t *testing.T, s server) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: left-in-the-middle\r\nContent-Length: 1000\r\n\r\nhello")
	_ = conn.Close()
	return ""
}

// breakChunks sends a body that is malformed HTTP.
func breakChunks(t *testing.T, s server) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: broken-chunks\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return "# broken chunks\n" + describeAnswer(t, res, nil)
}

// openStream opens a stream that sends nothing, and waits until the server has received
// it. end describes the answer when the stream has ended; it can end the stream itself.
func openStream(t *testing.T, s server) (end func(closing bool) string) {
	t.Helper()
	read, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+inferencev1connect.InferencePredictStreamProcedure, read)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/connect+json"}, requestIDHeader: {"open-stream"}}
	client := httpClient(t, 2, nil)
	answer := make(chan string, 1)
	go func() {
		res, err := client.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		answer <- describeAnswer(t, res, &inferencev1.InferResults{})
	}()
	eventually(t, s, map[string]float64{"mien_streams": 1})
	return func(closing bool) string {
		if closing {
			_ = write.Close()
		}
		defer write.Close()
		return <-answer
	}
}

// recordMetrics describes the metrics of a server that has answered n requests, not
// counting probes.
func recordMetrics(t *testing.T, s server, n int) string {
	t.Helper()
	probes := 4 // two of Kubernetes, and two of the Open Inference Protocol
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		counted := 0.0
		for key, value := range scrape(t, s) {
			if strings.HasPrefix(key, "mien_requests_total{") {
				counted += value
			}
		}
		if int(counted) == n-probes {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%v requests are counted, want %d", counted, n-probes)
		}
	}
	_, text := get(t, s.admin+"/metrics")
	free := regexp.MustCompile(`(version|revision|go|le)="[^"]*"`)
	counted := regexp.MustCompile(`^mien_(requests|images|refusals)_total`)
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "# TYPE ") {
			lines = append(lines, line)
		}
		if !strings.HasPrefix(line, "mien_") {
			continue
		}
		series, value, _ := cutLast(line, " ")
		series = free.ReplaceAllString(series, "$1")
		if counted.MatchString(series) {
			series += " " + value
		}
		lines = append(lines, series)
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n") + "\n"
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// logKeys lists the keys of the lines in the log by their messages. The messages
// themselves are texts.
func logKeys(t *testing.T, log string) string {
	t.Helper()
	keys := map[string]map[string]bool{}
	for text := range strings.Lines(log) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		msg, ok := line["msg"].(string)
		if !ok || strings.HasPrefix(msg, "http") {
			continue // logged by net/http
		}
		if keys[msg] == nil {
			keys[msg] = map[string]bool{}
		}
		for key := range line {
			keys[msg][key] = true
		}
	}
	var lines []string
	for _, k := range keys {
		// Values that depend on the machine.
		for _, key := range []string{"memory_from", "cpus", "cpus_from"} {
			delete(k, key)
		}
		lines = append(lines, "log "+strings.Join(slices.Sorted(maps.Keys(k)), " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// requestLog lists the lines of the log about requests and images: their outcomes, and
// their keys.
func requestLog(t *testing.T, log string) string {
	t.Helper()
	var lines []string
	for text := range strings.Lines(log) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		id, ok := line["request_id"].(string)
		if !ok {
			continue
		}
		parts := []string{id + ":", fmt.Sprint(line["msg"])}
		for _, key := range slices.Sorted(maps.Keys(line)) {
			switch v := line[key].(type) {
			case float64:
				if slices.Contains([]string{"status", "images", "failed", "faces"}, key) {
					parts = append(parts, key+"="+strconv.Itoa(int(v)))
					continue
				}
				parts = append(parts, key)
			case string:
				if slices.Contains([]string{"protocol", "procedure", "code", "reason", "model", "http", "method", "level", "fields"}, key) {
					parts = append(parts, key+"="+v)
					continue
				}
				parts = append(parts, key)
			default:
				parts = append(parts, key)
			}
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
