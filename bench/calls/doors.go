// Package calls sends images to servers that find faces, one after the other or at a
// given rate, over every protocol that the server of this repository or one beside it
// speaks.
package calls

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

var (
	// Protocols are the protocols of Mien.
	Protocols = []string{"grpc", "grpcweb", "connect", "json", "predict"}
	// Others is how other servers are asked: "file" posts an image, "form" posts it in the
	// field "image" of a form, and both get {"faces": [{"box": [4 numbers], "score": …,
	// "landmarks": [5 points of 2 numbers] or null}]}; "oldgrpc" and "flask" are the two
	// doors of the system that Mien replaces.
	Others = []string{"file", "form", "oldgrpc", "flask"}
)

// Options are the options of a call, for servers that know them.
type Options struct {
	Model string
	// MinConfidence is the lowest confidence of a face in an answer; nil means the
	// model's default.
	MinConfidence *float32
	SkipLandmarks bool
}

// A Door sends images to a server. It may be used concurrently.
type Door interface {
	// Message returns what is to be sent for an encoded image, so that as little as
	// possible is left to do in a call.
	Message(image []byte) ([]byte, error)
	// Call sends a message. It returns a *RefusedError if the server gave a reason.
	Call(ctx context.Context, message []byte) (Answer, error)
	Close()
}

// Messages returns the messages of all images.
func Messages(d Door, images [][]byte) ([][]byte, error) {
	messages := make([][]byte, len(images))
	for i, image := range images {
		var err error
		if messages[i], err = d.Message(image); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// An Answer is what a server answered.
type Answer struct {
	body  []byte
	faces func(body []byte) ([]face.Face, error)
}

// Faces reads the faces in an answer, in the order of the server.
func (a Answer) Faces() ([]face.Face, error) { return a.faces(a.body) }

// RefusedError is the error of a call that the server refused.
type RefusedError struct{ Code, Reason string }

func (r *RefusedError) Error() string { return r.Reason + " (" + r.Code + ")" }

// Open returns a door to the server at base, such as http://127.0.0.1:8080. Paths of Mien
// are added to it, and "file", "form" and "flask" post to base itself.
func Open(protocol, base string, o Options) (Door, error) {
	switch protocol {
	case "predict":
		return &poster{url: base + "/predict" + o.query(), http: client(false), pack: asIs, faces: facesOfPredict}, nil
	case "file":
		return &poster{url: base, http: client(false), pack: asIs, faces: facesOfOthers}, nil
	case "form":
		return &poster{url: base, http: client(false), pack: form, faces: facesOfOthers}, nil
	case "flask":
		return &poster{url: base, http: client(false), pack: oldJSON, faces: facesOfPredict}, nil
	case "grpc", "grpcweb", "connect", "json", "oldgrpc":
		return openRPC(protocol, base, o), nil
	default:
		return nil, fmt.Errorf("the protocol %q is none of %v and %v", protocol, Protocols, Others)
	}
}

// query returns the options of /predict.
func (o Options) query() string {
	q := url.Values{}
	if o.Model != "" {
		q.Set("model", o.Model)
	}
	if o.MinConfidence != nil {
		q.Set("min_confidence", strconv.FormatFloat(float64(*o.MinConfidence), 'f', -1, 32))
	}
	if o.SkipLandmarks {
		q.Set("skip_landmarks", "true")
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

const connections = 8

// client returns a client that uses HTTP/2 in cleartext, or HTTP/1.1, and no proxy.
func client(two bool) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(two)
	p.SetHTTP1(!two)
	return &http.Client{Transport: &http.Transport{
		Protocols: p, MaxIdleConnsPerHost: 256, MaxIdleConns: 256, DisableCompression: true,
		IdleConnTimeout: time.Minute,
	}}
}

// rpc calls Predict in one of Connect's protocols.
type rpc struct {
	options Options
	json    bool
	http    []*http.Client
	clients []*connect.Client[[]byte, []byte]
	calls   atomic.Uint64
}

func openRPC(protocol, base string, o Options) *rpc {
	c := &rpc{options: o, json: protocol == "json"}
	codec := ready{name: "proto"}
	if c.json {
		codec.name = "json"
	}
	opts := []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil), connect.WithCodec(codec)}
	switch protocol {
	case "grpc", "oldgrpc":
		opts = append(opts, connect.WithGRPC())
	case "grpcweb":
		opts = append(opts, connect.WithGRPCWeb())
	}
	// gRPC calls use several connections, as from several processes. HTTP/1.1 opens as
	// many as it needs.
	n, two := 1, false
	if protocol == "grpc" || protocol == "oldgrpc" {
		n, two = connections, true
	}
	procedure := inferencev1connect.InferencePredictProcedure
	if protocol == "oldgrpc" {
		procedure = "/Inference/Predict"
	}
	for range n {
		h := client(two)
		c.http = append(c.http, h)
		c.clients = append(c.clients, connect.NewClient[[]byte, []byte](h, base+procedure, opts...))
	}
	return c
}

func (c *rpc) Message(image []byte) ([]byte, error) {
	m := &inferencev1.Image{RawData: image}
	if c.options != (Options{}) {
		m.Options = &inferencev1.DetectOptions{Model: c.options.Model, MinConfidence: c.options.MinConfidence, SkipLandmarks: c.options.SkipLandmarks}
	}
	if c.json {
		return protojson.Marshal(m)
	}
	return proto.Marshal(m)
}

func (c *rpc) Call(ctx context.Context, message []byte) (Answer, error) {
	n := c.calls.Add(1) % uint64(len(c.clients))
	res, err := c.clients[n].CallUnary(ctx, connect.NewRequest(&message))
	if err == nil {
		return Answer{*res.Msg, c.faces}, nil
	}
	var told *connect.Error
	if !errors.As(err, &told) {
		return Answer{}, err
	}
	r := &RefusedError{Code: told.Code().String()}
	for _, d := range told.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*errdetails.ErrorInfo); ok {
				r.Reason = info.GetReason()
			}
		}
	}
	if r.Reason == "" {
		return Answer{}, err
	}
	return Answer{}, r
}

func (c *rpc) faces(body []byte) ([]face.Face, error) {
	var res inferencev1.InferResults
	unmarshal := proto.Unmarshal
	if c.json {
		unmarshal = protojson.Unmarshal
	}
	if err := unmarshal(body, &res); err != nil {
		return nil, err
	}
	var faces []face.Face
	for _, r := range res.GetResults() {
		faces = append(faces, FaceOf(r))
	}
	return faces, nil
}

// FaceOf returns a result of the contract as a face.
func FaceOf(r *inferencev1.Result) face.Face {
	from, to := point(r.GetBox().GetUpLeft()), point(r.GetBox().GetLowerRight())
	f := face.Face{
		Box:        face.Box{MinX: from.X, MinY: from.Y, MaxX: to.X, MaxY: to.Y},
		Confidence: r.GetConfidence(),
	}
	if l := r.GetLandmarks(); l != nil {
		f.Landmarks = &face.Landmarks{
			LeftEye: point(l.GetLeftEye()), RightEye: point(l.GetRightEye()), Nose: point(l.GetNose()),
			MouthLeft: point(l.GetMouthLeft()), MouthRight: point(l.GetMouthRight()),
		}
	}
	return f
}

func point(p *inferencev1.Point) face.Point {
	return face.Point{X: float64(p.GetX()), Y: float64(p.GetY())}
}

func (c *rpc) Close() {
	for _, h := range c.http {
		h.CloseIdleConnections()
	}
}

// ready is a codec for messages that are already marshaled.
type ready struct{ name string }

// Name implements connect.Codec.
func (r ready) Name() string { return r.name }

// Marshal implements connect.Codec.
func (r ready) Marshal(message any) ([]byte, error) { return r.MarshalAppend(nil, message) }

// MarshalAppend copies the message, because Connect reuses the memory for other
// messages.
func (ready) MarshalAppend(dst []byte, message any) ([]byte, error) {
	b, ok := message.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not a message", message)
	}
	return append(dst, *b...), nil
}

// Unmarshal implements connect.Codec. Answers are copied, because Connect reuses the
// memory, and errors of gRPC are messages.
func (ready) Unmarshal(data []byte, message any) error {
	switch m := message.(type) {
	case *[]byte:
		*m = bytes.Clone(data)
	case proto.Message:
		return proto.Unmarshal(data, m)
	}
	return nil
}

// poster posts images, or a text with an image in it.
type poster struct {
	url   string
	http  *http.Client
	pack  func(image []byte) (body []byte, err error)
	faces func(body []byte) ([]face.Face, error)
}

func (p *poster) Message(image []byte) ([]byte, error) { return p.pack(image) }

func asIs(image []byte) ([]byte, error) { return image, nil }

const boundary = "one-image"

func form(image []byte) ([]byte, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary(boundary); err != nil {
		return nil, err
	}
	head := textproto.MIMEHeader{}
	head.Set("Content-Disposition", `form-data; name="image"; filename="image.jpg"`)
	head.Set("Content-Type", "image/jpeg")
	part, err := w.CreatePart(head)
	if err != nil {
		return nil, err
	}
	if _, err := part.Write(image); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

func oldJSON(image []byte) ([]byte, error) {
	return json.Marshal(map[string]string{"img_id": "image", "img_b64": base64.StdEncoding.EncodeToString(image)})
}

// contentType tells the kinds of messages apart by their beginning.
func contentType(message []byte) string {
	switch {
	case bytes.HasPrefix(message, []byte("--"+boundary)):
		return "multipart/form-data; boundary=" + boundary
	case bytes.HasPrefix(message, []byte("{")):
		return "application/json"
	default:
		return http.DetectContentType(message)
	}
}

func (p *poster) Call(ctx context.Context, message []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(message))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", contentType(message))
	res, err := p.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	// An image can have thousands of faces if every confidence is asked for.
	const maxAnswer = 64 << 20
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Answer{}, err
	}
	if reason := res.Header.Get("Mien-Reason"); reason != "" {
		return Answer{}, &RefusedError{res.Status, reason}
	}
	// Other servers refuse with a status alone.
	if res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests {
		return Answer{}, &RefusedError{res.Status, http.StatusText(res.StatusCode)}
	}
	if res.StatusCode != http.StatusOK || !json.Valid(body) {
		return Answer{}, fmt.Errorf("%s", res.Status)
	}
	return Answer{body, p.faces}, nil
}

func (p *poster) Close() { p.http.CloseIdleConnections() }

func facesOfPredict(body []byte) ([]face.Face, error) {
	var answer struct {
		Message string            `json:"message"`
		Results []json.RawMessage `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Message != "" {
		return nil, errors.New(answer.Message)
	}
	var faces []face.Face
	for _, result := range answer.Results {
		var r inferencev1.Result
		if err := protojson.Unmarshal(result, &r); err != nil {
			return nil, err
		}
		faces = append(faces, FaceOf(&r))
	}
	return faces, nil
}

func facesOfOthers(body []byte) ([]face.Face, error) {
	var answer struct {
		Faces []struct {
			Box       [4]float64     `json:"box"`
			Score     float64        `json:"score"`
			Landmarks *[5][2]float64 `json:"landmarks"`
		} `json:"faces"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Faces == nil {
		return nil, errors.New(`the answer has no "faces"`)
	}
	var faces []face.Face
	for _, a := range answer.Faces {
		f := face.Face{Box: face.Box{MinX: a.Box[0], MinY: a.Box[1], MaxX: a.Box[2], MaxY: a.Box[3]}, Confidence: a.Score}
		if l := a.Landmarks; l != nil {
			at := func(i int) face.Point { return face.Point{X: l[i][0], Y: l[i][1]} }
			f.Landmarks = &face.Landmarks{LeftEye: at(0), RightEye: at(1), Nose: at(2), MouthLeft: at(3), MouthRight: at(4)}
		}
		faces = append(faces, f)
	}
	return faces, nil
}
