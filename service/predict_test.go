package service_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/pigo"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
	"github.com/mienproject/mien/service"
)

// one is a detector that finds one face.
var one = stub{
	info: face.Info{MinConfidence: 0.5},
	detect: func(_ context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
		f := face.Face{Box: face.Box{MinX: 0, MinY: 20, MaxX: 110, MaxY: 120}, Confidence: 0.75}
		if !opts.SkipLandmarks {
			f.Landmarks = &face.Landmarks{LeftEye: face.Point{X: 31, Y: 52}, MouthRight: face.Point{X: 71, Y: 92}}
		}
		if f.Confidence < opts.MinConfidence {
			return nil, nil
		}
		return []face.Face{f}, nil
	},
}

// predicted is an answer of /predict.
type predicted struct {
	Message *string           `json:"message"`
	Results []json.RawMessage `json:"results"`
}

// sendPredict sends body to /predict and returns the answer.
func sendPredict(t *testing.T, method, url string, header map[string]string, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[http.CanonicalHeaderKey(k)] = strings.Split(v, "\n")
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, out
}

// form returns a form and its content type. Each part has a name, a file name and a
// value.
func form(t *testing.T, parts ...[3]string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		disposition := "form-data"
		if p[0] != "" {
			disposition += fmt.Sprintf(`; name=%q`, p[0])
		}
		if p[1] != "" {
			disposition += fmt.Sprintf(`; filename=%q`, p[1])
		}
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}})
		if err == nil {
			_, err = io.WriteString(part, p[2])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

// TestPredictPath checks the answers to all kinds of requests to /predict.
func TestPredictPath(t *testing.T) {
	_, url := start(t, one, func(c *service.Config) { c.MaxImageBytes = 1 << 20 })
	photo := string(sample(t))
	b64 := base64.StdEncoding.EncodeToString(sample(t))
	const (
		oldJSON = "application/json"
		asForm  = "application/x-www-form-urlencoded" // the type that curl --data-binary declares
	)
	multi := func(parts ...[3]string) [2]string {
		contentType, body := form(t, parts...)
		return [2]string{contentType, body}
	}
	many := make([][3]string, 1000)
	for i := range many {
		many[i] = [3]string{fmt.Sprintf("part%d", i), "", "x"}
	}
	for _, c := range []struct {
		name    string
		method  string // POST if empty
		query   string
		typed   [2]string // content type and body
		status  int
		reason  string // empty if the request succeeds
		message string // the beginning of the message
		whole   bool   // message is the whole message
	}{
		// Clients of the old system.
		{name: "old", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"` + b64 + `"}`}},
		{name: "old, data URL", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"data:image/jpeg;base64,` + b64 + `"}`}},
		{name: "old, charset", typed: [2]string{"application/json; charset=utf-8", `{"img_id":"a","img_b64":"` + b64 + `"}`}},
		{name: "old, unknown field", typed: [2]string{oldJSON, `{"img_id":"a","x":[1],"img_b64":"` + b64 + `"}`}},
		{name: "old, names in another case beside", typed: [2]string{oldJSON, `{"IMG_ID":1,"img_id":"a","Img_Id":[],"img_b64":"` + b64 + `","IMG_B64":"??","Img_b64":{}}`}},
		{name: "old, names escaped", typed: [2]string{oldJSON, `{"\u0069mg_id":"a","img\u005fb64":"` + b64 + `"}`}},
		{name: "old, the last one counts", typed: [2]string{oldJSON, `{"img_id":"","img_b64":"??","img_id":"a","img_b64":"` + b64 + `"}`}},
		{name: "old, id in another case", typed: [2]string{oldJSON, `{"IMG_ID":"a","Img_Id":"a","img_b64":"` + b64 + `"}`}, status: 200, reason: "INVALID_JSON", message: "'image id not exists.'", whole: true},
		{name: "old, image in another case", typed: [2]string{oldJSON, `{"img_id":"a","IMG_B64":"` + b64 + `","img_B64":"` + b64 + `"}`}, status: 200, reason: "EMPTY_IMAGE", message: "inference failed: "},
		{name: "old, broken lines", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"` + b64[:76] + `\r\n` + b64[76:] + `\n"}`}},
		{name: "old, no padding", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"` + strings.TrimRight(b64, "=") + `"}`}},
		{name: "old, declared as a form", typed: [2]string{asForm, ` {"img_id":"a","img_b64":"` + b64 + `"}`}},
		{name: "old, no id", typed: [2]string{oldJSON, `{"img_b64":"` + b64 + `"}`}, status: 200, reason: "INVALID_JSON", message: "'image id not exists.'", whole: true},
		{name: "old, empty id", typed: [2]string{oldJSON, `{"img_id":"","img_b64":"` + b64 + `"}`}, status: 200, reason: "INVALID_JSON", message: "'image id not exists.'", whole: true},
		{name: "old, an empty object", typed: [2]string{oldJSON, `{}`}, status: 200, reason: "INVALID_JSON", message: "'image id not exists.'", whole: true},
		{name: "old, id is null", typed: [2]string{oldJSON, `{"img_id":null,"img_b64":"` + b64 + `"}`}, status: 200, reason: "INVALID_JSON", message: "'image id not exists.'", whole: true},
		{name: "old, nothing", typed: [2]string{oldJSON, ``}, status: 200, reason: "INVALID_JSON", message: "please post JSON format data", whole: true},
		{name: "old, no JSON", typed: [2]string{oldJSON, `hello`}, status: 200, reason: "INVALID_JSON", message: "please post JSON format data", whole: true},
		{name: "old, an array", typed: [2]string{oldJSON, `[]`}, status: 200, reason: "INVALID_JSON", message: "please post JSON format data", whole: true},
		{name: "old, half of it", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"` + b64}, status: 200, reason: "INVALID_JSON", message: "please post JSON format data", whole: true},
		{name: "old, not UTF-8", typed: [2]string{oldJSON, "{\"img_id\":\"\xff\xfe\",\"img_b64\":\"\"}"}, status: 200, reason: "INVALID_JSON", message: "please post JSON format data: the body is not UTF-8"},
		{name: "old, id is a number", typed: [2]string{oldJSON, `{"img_id":7,"img_b64":""}`}, status: 200, reason: "INVALID_JSON", message: "inference failed: request body is not the expected JSON: img_id is a number"},
		{name: "old, no image", typed: [2]string{oldJSON, `{"img_id":"a"}`}, status: 200, reason: "EMPTY_IMAGE", message: "inference failed: "},
		{name: "old, empty image", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":""}`}, status: 200, reason: "EMPTY_IMAGE", message: "inference failed: "},
		{name: "old, no base64", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"??"}`}, status: 200, reason: "INVALID_JSON", message: "inference failed: request body is not the expected JSON: img_b64 is not base64"},
		{name: "old, no image", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"aGVsbG8="}`}, status: 200, reason: "UNSUPPORTED_FORMAT", message: "inference failed: "},
		{name: "old, broken image", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"` + b64[:4000] + `"}`}, status: 200, reason: "CORRUPT_IMAGE", message: "inference failed: "},
		{name: "old, 50 MB", typed: [2]string{oldJSON, `{"img_id":"a","img_b64":"` + strings.Repeat("A", 50_000_000) + `"}`}, status: 200, reason: "TOO_MANY_BYTES", message: "inference failed: "},

		// Users of curl.
		{name: "image", typed: [2]string{"image/jpeg", photo}},
		{name: "image, declared as a form", typed: [2]string{asForm, photo}},
		{name: "image, declared as nothing", typed: [2]string{"", photo}},
		{name: "image, PUT", method: http.MethodPut, typed: [2]string{"", photo}},
		{name: "image in a form", typed: multi([3]string{"image", "photo.jpg", photo})},
		{name: "image in a form, by another name", typed: multi([3]string{"photo", "photo.jpg", photo})},
		{name: "image in a form, no file name", typed: multi([3]string{"image", "", photo})},
		{name: "image in a form, with options", typed: multi([3]string{"min_confidence", "", "0.7"}, [3]string{"image", "a", photo})},
		{name: "options", query: "?min_confidence=0.7&max_results=3&min_face_size=20&skip_landmarks=false&model=stub", typed: [2]string{"image/jpeg", photo}},
		{name: "nothing", typed: [2]string{"", ""}, status: 400, reason: "EMPTY_IMAGE", message: "please post JSON format data, or an image: "},
		{name: "no image", typed: [2]string{"text/plain", "hello"}, status: 415, reason: "UNSUPPORTED_FORMAT", message: "please post JSON format data, or an image: "},
		{name: "half an image", typed: [2]string{"image/jpeg", photo[:5000]}, status: 400, reason: "CORRUPT_IMAGE"},
		{name: "too large", typed: [2]string{"image/jpeg", photo + strings.Repeat("x", 3<<20)}, status: 413, reason: "TOO_MANY_BYTES"},
		{name: "too large for an image", typed: [2]string{"image/jpeg", photo + strings.Repeat("x", 1<<20)}, status: 413, reason: "TOO_MANY_BYTES", message: "too many bytes: the image has "},
		{name: "too large in a form", typed: multi([3]string{"image", "a", photo + strings.Repeat("x", 3<<20)}), status: 413, reason: "TOO_MANY_BYTES"},
		{name: "unknown model", query: "?model=yolo", typed: [2]string{"image/jpeg", photo}, status: 404, reason: "UNKNOWN_MODEL", message: `unknown model: model is "yolo"; this server has ["stub" "other"]`},
		{name: "unknown option", query: "?min_confidenc=1", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: "min_confidenc" is unknown`},
		{name: "option twice", query: "?model=stub&model=other", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: "invalid options: model is given 2 times; give it once, in the query or in the form"},
		{name: "option in query and form", query: "?model=stub", typed: multi([3]string{"model", "", "stub"}, [3]string{"image", "a", photo}), status: 400, reason: "INVALID_OPTIONS"},
		{name: "option that is no number", query: "?max_results=many", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: max_results is "many"; allowed is a whole number from 0 to 2147483647; 0 means all`},
		{name: "option that is negative", query: "?max_results=-1", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: max_results is -1; allowed is a whole number from 0 to 2147483647; 0 means all`},
		{name: "option that is too large", query: "?max_results=2147483648", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: max_results is "2147483648"; allowed is a whole number from 0 to 2147483647; 0 means all`},
		{name: "option that is no whole number", query: "?min_face_size=20.5", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: min_face_size is "20.5"; allowed is a whole number of pixels from 0 to 2147483647; 0 lets the model choose`},
		{name: "face size below 0", query: "?min_face_size=-1", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: min_face_size is -1; allowed is a whole number of pixels from 0`},
		{name: "option that is neither", query: "?skip_landmarks=maybe", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: skip_landmarks is "maybe"; allowed is true or false`},
		{name: "option that is empty", query: "?min_confidence=", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: min_confidence is ""; allowed is a number from 0 to 1`},
		{name: "option that is long", query: "?min_confidence=" + strings.Repeat("9", 1000), typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: `invalid options: min_confidence is "99999`},
		{name: "field out of range", typed: multi([3]string{"image", "a", photo}, [3]string{"min_confidence", "", "1.5"}), status: 400, reason: "INVALID_OPTIONS", message: `invalid options: min_confidence is 1.5; allowed is a number from 0 to 1`},
		{name: "field that is no number", typed: multi([3]string{"image", "a", photo}, [3]string{"min_confidence", "", "high"}), status: 400, reason: "INVALID_OPTIONS", message: `invalid options: min_confidence is "high"; allowed is a number from 0 to 1`},
		{name: "unknown field", typed: multi([3]string{"image", "a", photo}, [3]string{"minConfidence", "", "1"}), status: 400, reason: "INVALID_OPTIONS", message: `invalid options: "minConfidence" is unknown; allowed are min_confidence,`},
		{name: "unknown model in a field", typed: multi([3]string{"image", "a", photo}, [3]string{"model", "", "yolo"}), status: 404, reason: "UNKNOWN_MODEL", message: `unknown model: model is "yolo"; this server has ["stub" "other"]`},
		{name: "option out of range", query: "?min_confidence=2", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS", message: "invalid options: min_confidence is 2; allowed is a number from 0 to 1"},
		{name: "option that is not a number", query: "?min_confidence=nan", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS"},
		{name: "model that is not UTF-8", query: "?model=%ff", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS"},
		{name: "broken query", query: "?model=%zz", typed: [2]string{"image/jpeg", photo}, status: 400, reason: "INVALID_OPTIONS"},
		{name: "form without an image", typed: multi([3]string{"model", "", "stub"}), status: 400, reason: "INVALID_FORM", message: "request body is not the expected form: it has no image"},
		{name: "form with two images", typed: multi([3]string{"image", "a", photo}, [3]string{"image", "b", photo}), status: 400, reason: "INVALID_FORM"},
		{name: "form with an empty image", typed: multi([3]string{"image", "a", ""}), status: 400, reason: "EMPTY_IMAGE"},
		{name: "form with a part without a name", typed: multi([3]string{"", "", photo}), status: 400, reason: "INVALID_FORM", message: "request body is not the expected form: part 1 has no name"},
		{name: "form of 1000 parts", typed: multi(many...), status: 400, reason: "INVALID_FORM", message: "request body is not the expected form: it has more than 16 parts"},
		{name: "form with a long field", typed: multi([3]string{"model", "", strings.Repeat("x", 5000)}), status: 400, reason: "INVALID_FORM"},
		{name: "form without a boundary", typed: [2]string{"multipart/form-data", photo}, status: 400, reason: "INVALID_FORM"},
		{name: "form that breaks off", typed: [2]string{"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=image\r\n\r\nabc"}, status: 400, reason: "INVALID_FORM"},
		{name: "form that is none", typed: [2]string{"multipart/form-data; boundary=x", photo}, status: 400, reason: "INVALID_FORM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			method := c.method
			if method == "" {
				method = http.MethodPost
			}
			res, out := sendPredict(t, method, url+"/predict"+c.query, map[string]string{"Content-Type": c.typed[0]}, strings.NewReader(c.typed[1]))
			var p predicted
			if err := json.Unmarshal(out, &p); err != nil || p.Message == nil || p.Results == nil {
				t.Fatalf("%s: %.200s, %v; want message and results", res.Status, out, err)
			}
			if ct := res.Header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type is %q", ct)
			}
			if got := res.Header.Get(service.ReasonHeader); got != c.reason {
				t.Errorf("reason %q, want %q; %s", got, c.reason, *p.Message)
			}
			if c.reason == "" {
				const want = `{"box":{"upLeft":{"x":0,"y":20},"lowerRight":{"x":110,"y":120}},` +
					`"landmarks":{"leftEye":{"x":31,"y":52},"rightEye":{"x":0,"y":0},"nose":{"x":0,"y":0},"mouthLeft":{"x":0,"y":0},"mouthRight":{"x":71,"y":92}},"confidence":0.75}`
				if res.StatusCode != http.StatusOK || *p.Message != "" || len(p.Results) != 1 || string(p.Results[0]) != want {
					t.Errorf("%s: %s", res.Status, out)
				}
				return
			}
			if res.StatusCode != c.status || len(p.Results) != 0 {
				t.Errorf("%s, %d results; want %d and none", res.Status, len(p.Results), c.status)
			}
			if !strings.HasPrefix(*p.Message, c.message) || *p.Message == "" || (c.whole && *p.Message != c.message) || len(*p.Message) > 500 {
				t.Errorf("message %q, want %q", *p.Message, c.message)
			}
		})
	}
	t.Run("another method", func(t *testing.T) {
		res, _ := sendPredict(t, http.MethodDelete, url+"/predict", nil, nil)
		if allow := res.Header.Get("Allow"); res.StatusCode != http.StatusMethodNotAllowed || !strings.Contains(allow, "POST") || !strings.Contains(allow, "PUT") {
			t.Errorf("%s, Allow: %s", res.Status, allow)
		}
	})
}

// TestPredictHints checks the hints for frequent mistakes with the options of curl.
func TestPredictHints(t *testing.T) {
	_, url := start(t, one, nil)
	const asForm = "application/x-www-form-urlencoded"
	stripped := strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(string(sample(t))) // like curl -d @photo.jpg
	png := "\x89PNG\x1a" + strings.Repeat("IHDR", 500)
	field := func(name, file, value string) [2]string {
		contentType, body := form(t, [3]string{name, file, value})
		return [2]string{contentType, body}
	}
	const dataHint, fileHint = "send the file with --data-binary @photo.jpg or -T photo.jpg", "to send a file with curl, put an @ before its name"
	for _, c := range []struct {
		name   string
		typed  [2]string
		told   string
		noHint bool
	}{
		{name: "-d @photo.jpg", typed: [2]string{asForm, stripped}, told: dataHint},
		{name: "-d @photo.png", typed: [2]string{asForm, png}, told: dataHint},
		{name: "-d photo.jpg", typed: [2]string{asForm, "photo.jpg"}, told: `the body is the text "photo.jpg": ` + fileHint + ", as in --data-binary @photo.jpg"},
		{name: "-d image=@photo.jpg", typed: [2]string{asForm, "image=@photo.jpg"}, told: `the body is the text "image=@photo.jpg": ` + fileHint},
		{name: "-F image=photo.jpg", typed: field("image", "", "photo.jpg"), told: `the form's image is the text "photo.jpg": ` + fileHint + ", as in -F image=@photo.jpg"},
		{name: "-F image=größe.jpg", typed: field("image", "", "größe.jpg"), told: `the form's image is the text "größe.jpg": ` + fileHint},
		// For other causes there is no hint.
		{name: "half a file", typed: [2]string{asForm, string(sample(t))[:5000]}, noHint: true},
		{name: "a file of text in a form", typed: field("image", "notes.txt", "photo.jpg"), noHint: true},
		{name: "stripped, but not by curl", typed: [2]string{"image/jpeg", stripped}, noHint: true},
		{name: "nothing", typed: [2]string{asForm, ""}, noHint: true},
		{name: "nothing in a form", typed: field("image", "", ""), noHint: true},
		{name: "long text", typed: [2]string{asForm, strings.Repeat("photo\n", 200)}, noHint: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, out := sendPredict(t, http.MethodPost, url+"/predict", map[string]string{"Content-Type": c.typed[0]}, strings.NewReader(c.typed[1]))
			var p predicted
			if err := json.Unmarshal(out, &p); err != nil || p.Message == nil || res.StatusCode < 400 {
				t.Fatalf("%s: %s, %v", res.Status, out, err)
			}
			if !strings.Contains(*p.Message, c.told) || (c.noHint && strings.Contains(*p.Message, "curl")) {
				t.Errorf("%q, want %q", *p.Message, c.told)
			}
		})
	}
}

// TestPredictEncodings checks that /predict accepts every kind of body compressed with
// gzip, within the same limits, and names unsupported encodings.
func TestPredictEncodings(t *testing.T) {
	svc, url := start(t, one, func(c *service.Config) { c.MaxImageBytes, c.MaxBatchBytes = 1<<20, 1<<20 })
	photo := sample(t)
	old := []byte(`{"img_id":"a","img_b64":"` + base64.StdEncoding.EncodeToString(photo) + `"}`)
	formType, inForm := form(t, [3]string{"image", "photo.jpg", string(photo)}, [3]string{"max_results", "", "3"})
	limit := (1<<20)/12*17 + 64<<10
	packed := func(b []byte) []byte { return gzipped(t, b) }
	bomb := packed(bytes.Repeat([]byte(" "), 8<<20))
	for _, c := range []struct {
		name, contentType, encoding string
		body                        []byte
		status                      int
		reason                      string
		told                        string
	}{
		{name: "image", contentType: "image/jpeg", encoding: "gzip", body: packed(photo)},
		{name: "image, x-gzip", encoding: "x-gzip", body: packed(photo)},
		{name: "image, GZIP", encoding: "GZIP", body: packed(photo)},
		{name: "image, two members", encoding: "gzip", body: append(packed(photo[:1000]), packed(photo[1000:])...)},
		{name: "image, identity", encoding: "identity", body: photo},
		{name: "old JSON", contentType: "application/json", encoding: "gzip", body: packed(old)},
		{name: "old JSON, by content", encoding: "gzip", body: packed(old)},
		{name: "form", contentType: formType, encoding: "gzip", body: packed([]byte(inForm))},
		{name: "deflate", encoding: "deflate", body: photo, status: 415, reason: "UNSUPPORTED_ENCODING", told: `Content-Encoding is "deflate"; allowed are gzip and identity`},
		{name: "br", encoding: "br", body: photo, status: 415, reason: "UNSUPPORTED_ENCODING", told: `"br"`},
		{name: "zstd", contentType: formType, encoding: "zstd", body: photo, status: 415, reason: "UNSUPPORTED_ENCODING", told: `"zstd"`},
		{name: "gzip twice", encoding: "gzip, gzip", body: photo, status: 415, reason: "UNSUPPORTED_ENCODING", told: `"gzip, gzip"`},
		{name: "gzip and br in two lines", encoding: "gzip\nbr", body: packed(photo), status: 415, reason: "UNSUPPORTED_ENCODING", told: `"gzip, br"`},
		{name: "old JSON, br", contentType: "application/json", encoding: "br", body: old, status: 200, reason: "UNSUPPORTED_ENCODING", told: `inference failed: unsupported encoding: Content-Encoding is "br"`},
		{name: "large, br", encoding: "br", body: make([]byte, 1<<20), status: 415, reason: "UNSUPPORTED_ENCODING", told: `"br"`},
		{name: "not gzip", encoding: "gzip", body: photo, status: 400, reason: "INVALID_BODY", told: "request body is not valid gzip"},
		{name: "not gzip, in a form", contentType: formType, encoding: "gzip", body: []byte(inForm), status: 400, reason: "INVALID_BODY", told: "request body is not valid gzip"},
		{name: "half of it", encoding: "gzip", body: packed(photo)[:5000], status: 400, reason: "INVALID_BODY", told: "request body is not valid gzip"},
		{name: "half of it, in a form", contentType: formType, encoding: "gzip", body: packed([]byte(inForm))[:5000], status: 400, reason: "INVALID_BODY", told: "request body is not valid gzip"},
		{name: "another checksum", encoding: "gzip", body: append(packed(photo)[:len(packed(photo))-8], make([]byte, 8)...), status: 400, reason: "INVALID_BODY", told: "checksum"},
		{name: "nothing", encoding: "gzip", status: 400, reason: "EMPTY_IMAGE"},
		{name: "too large", encoding: "gzip", body: packed(append(bytes.Clone(photo), make([]byte, 1<<20)...)), status: 413, reason: "TOO_MANY_BYTES", told: "the image has"},
		{name: "a bomb", encoding: "gzip", body: bomb, status: 413, reason: "TOO_MANY_BYTES", told: fmt.Sprintf("more than %d bytes", limit)},
		{name: "a bomb in a form", contentType: formType, encoding: "gzip", body: packed(append([]byte(inForm), make([]byte, 3<<20)...)), told: ""},
		{name: "a bomb as a form's image", contentType: formType, encoding: "gzip", body: packed([]byte(strings.Replace(inForm, string(photo[:4]), strings.Repeat(" ", 3<<20), 1))), status: 413, reason: "TOO_MANY_BYTES"},
		{name: "a bomb as JSON", contentType: "application/json", encoding: "gzip", body: bomb, status: 200, reason: "TOO_MANY_BYTES"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, out := sendPredict(t, http.MethodPost, url+"/predict", map[string]string{"Content-Type": c.contentType, "Content-Encoding": c.encoding}, bytes.NewReader(c.body))
			var p predicted
			if err := json.Unmarshal(out, &p); err != nil || p.Message == nil {
				t.Fatalf("%s: %.200s, %v", res.Status, out, err)
			}
			status := c.status
			if c.reason == "" {
				status = 200
			}
			if got := res.Header.Get(service.ReasonHeader); res.StatusCode != status || got != c.reason || (len(p.Results) == 1) != (c.reason == "") || !strings.Contains(*p.Message, c.told) {
				t.Errorf("%s, %s: %.300s; want %d, %s, %q", res.Status, got, out, status, c.reason, c.told)
			}
			if accepts := res.Header.Get("Accept-Encoding"); (accepts == "gzip") != (c.reason == "UNSUPPORTED_ENCODING") {
				t.Errorf("Accept-Encoding is %q", accepts)
			}
			idle(t, svc)
		})
	}
}

// TestPredictPathAnswers checks that the answer has the media type that the client
// prefers.
func TestPredictPathAnswers(t *testing.T) {
	_, url := start(t, one, nil)
	for _, c := range []struct{ accept, want string }{
		{"", "application/json"},
		{"*/*", "application/json"},
		{"image/jpeg", "image/jpeg"},
		{"image/png", "image/png"},
		{"image/*", "image/jpeg"},
		{"image/*;q=0.5, image/png", "image/png"},
		{"application/json;q=0.1, image/png;q=0.2", "image/png"},
		{"image/jpeg;q=0, image/*", "image/png"},
		{"text/html,application/xhtml+xml,image/avif,image/webp,image/png,*/*;q=0.8", "image/png"},
		{"text/html", "application/json"},
		{"image/webp, nonsense;;q", "application/json"},
	} {
		t.Run(c.accept, func(t *testing.T) {
			res, out := sendPredict(t, http.MethodPost, url+"/predict", map[string]string{"Accept": c.accept}, bytes.NewReader(sample(t)))
			if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != c.want {
				t.Fatalf("%s, Content-Type %q, want %q", res.Status, got, c.want)
			}
			if c.want == "application/json" {
				return
			}
			img, format, err := image.Decode(bytes.NewReader(out))
			if err != nil || "image/"+format != c.want || img.Bounds() != image.Rect(0, 0, 320, 400) {
				t.Errorf("%s, %v, %v", format, img, err)
			}
		})
	}
	t.Run("failure", func(t *testing.T) {
		res, out := sendPredict(t, http.MethodPost, url+"/predict", map[string]string{"Accept": "image/png"}, strings.NewReader("hello"))
		if res.StatusCode != http.StatusUnsupportedMediaType || !json.Valid(out) {
			t.Errorf("%s: %s", res.Status, out)
		}
	})
}

// TestPredictPathRefuses checks failures that do not depend on the image, and images
// that are too large: with their status, and for clients of the old system as that
// system answered.
func TestPredictPathRefuses(t *testing.T) {
	photo := sample(t)
	old := []byte(`{"img_id":"a","img_b64":"` + base64.StdEncoding.EncodeToString(photo) + `"}`)
	for _, c := range []struct {
		name   string
		change func(*service.Config)
		detect func(context.Context) error
		full   bool // all workers are busy
		drain  bool
		status int
		reason string
		again  bool // the answer has Retry-After
	}{
		{name: "draining", drain: true, status: 503, reason: "DRAINING", again: true},
		{name: "overloaded", full: true, status: 503, reason: "OVERLOADED", again: true},
		{
			name: "deadline", change: func(c *service.Config) { c.DefaultTimeout = 50 * time.Millisecond },
			detect: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, status: 504, reason: "DEADLINE",
		},
		{name: "bug", detect: func(context.Context) error { return errors.New("secret") }, status: 500, reason: "INTERNAL"},
		{name: "too many pixels", change: func(c *service.Config) { c.MaxPixels = 1000 }, status: 400, reason: "TOO_MANY_PIXELS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			busy, release := make(chan struct{}), make(chan struct{})
			d := stub{detect: func(ctx context.Context, _ image.Image, _ face.Options) ([]face.Face, error) {
				switch {
				case c.full:
					close(busy)
					<-release
				case c.detect != nil:
					return nil, c.detect(ctx)
				}
				return nil, nil
			}}
			svc, url := start(t, d, func(s *service.Config) {
				if c.full {
					s.Workers, s.Queue = 1, 0
				}
				if c.change != nil {
					c.change(s)
				}
			})
			if c.drain {
				svc.Drain()
			}
			if c.full {
				var first sync.WaitGroup
				first.Go(func() {
					if res, out := sendPredict(t, http.MethodPost, url+"/predict", nil, bytes.NewReader(photo)); res.StatusCode != http.StatusOK {
						t.Errorf("the first call: %s: %s", res.Status, out)
					}
				})
				defer first.Wait()
				defer close(release)
				<-busy
			}
			for contentType, body := range map[string][]byte{"application/json": old, "image/jpeg": photo} {
				status, begins := c.status, ""
				if contentType == "application/json" {
					status, begins = http.StatusOK, "inference failed: "
				}
				res, out := sendPredict(t, http.MethodPost, url+"/predict", map[string]string{"Content-Type": contentType}, bytes.NewReader(body))
				var p predicted
				if err := json.Unmarshal(out, &p); err != nil || p.Message == nil || p.Results == nil || len(p.Results) != 0 ||
					*p.Message == "" || !strings.HasPrefix(*p.Message, begins) || strings.Contains(*p.Message, "secret") {
					t.Errorf("%s: %s, %v; want a message and no results", contentType, out, err)
				}
				if got := res.Header.Get(service.ReasonHeader); res.StatusCode != status || got != c.reason || (res.Header.Get("Retry-After") != "") != c.again {
					t.Errorf("%s: %s, %v; want %d and %s", contentType, res.Status, res.Header, status, c.reason)
				}
			}
		})
	}
}

// FuzzPredictPath checks that every request gets an answer of a known form.
func FuzzPredictPath(f *testing.F) {
	config := service.DefaultConfig()
	config.Models = []service.Model{{Name: "stub", Detector: one}}
	svc, err := service.New(config)
	if err != nil {
		f.Fatal(err)
	}
	contentType, body := "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\nGIF89a\r\n--x--\r\n"
	f.Add(contentType, "", body)
	f.Add("application/json", "model=stub", `{"img_id":"a","img_b64":"data:,R0lGODlh"}`)
	f.Add("", "min_confidence=.5&max_results=2", "GIF89a")
	statuses := []int{200, 400, 404, 413, 415, 499, 503, 504}
	f.Fuzz(func(t *testing.T, contentType, query, body string) {
		if len(body) > 1<<16 {
			return // this test is not about decoding
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://mien/predict", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.RawQuery = query
		req.Header["Content-Type"] = []string{contentType}
		w := newRecorder()
		svc.PredictHandler().ServeHTTP(w, req)
		var p predicted
		if err := json.Unmarshal(w.body.Bytes(), &p); err != nil || p.Message == nil || p.Results == nil || !slices.Contains(statuses, w.status) {
			t.Errorf("%d %s: %v", w.status, w.body.Bytes(), err)
		}
	})
}

// recorder is a response writer with deadlines, like the server's.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newRecorder() *recorder { return &recorder{header: http.Header{}, status: http.StatusOK} }

func (r *recorder) Header() http.Header             { return r.header }
func (r *recorder) WriteHeader(status int)          { r.status = status }
func (r *recorder) Write(p []byte) (int, error)     { return r.body.Write(p) }
func (r *recorder) SetReadDeadline(time.Time) error { return nil }

// TestBrokenChunks checks that a client which sends malformed HTTP gets an error that
// says so, and that one which disconnects in the middle counts as canceled.
func TestBrokenChunks(t *testing.T) {
	const connectJSON, predict = "application/json", "/inference.v1.Inference/Predict"
	ways := map[string]struct {
		path, contentType, begin string
		status                   int
		told                     []string
	}{
		"image":    {"/predict", "image/jpeg", "\xff\xd8\xff", 400, []string{"Mien-Reason: INVALID_BODY", `"message":"malformed HTTP body: `}},
		"form":     {"/predict", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=image\r\n\r\nabc", 400, []string{"Mien-Reason: INVALID_BODY"}},
		"old":      {"/predict", "application/json", `{"img_id":`, 200, []string{"Mien-Reason: INVALID_BODY", `"message":"inference failed: malformed HTTP body`}},
		"connect":  {predict, connectJSON, `{"rawData":`, 400, []string{`{"code":"invalid_argument","message":"malformed HTTP body: `, `"reason":"INVALID_BODY"`}},
		"old name": {"/Inference/Predict", connectJSON, `{"rawData":`, 400, []string{`"reason":"INVALID_BODY"`}},
		"gRPC-Web": {predict, "application/grpc-web+proto", "\x00\x00\x00\x00\x10abc", 200, []string{"Grpc-Status: 3", "Grpc-Message: malformed HTTP body"}},
		"batch":    {predict + "Batch", "application/connect+json", "\x00\x00\x00\x00\x10{", 200, []string{`"code":"invalid_argument"`, `"reason":"INVALID_BODY"`}},
	}
	calls := make(chan service.Record, 1)
	_, url := start(t, one, func(c *service.Config) {
		c.Observe = func(_ context.Context, call *service.Record) { calls <- *call }
	})
	dial := func(t *testing.T, name, rest string) net.Conn {
		t.Helper()
		w := ways[name]
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%s",
			w.path, w.contentType, len(w.begin), w.begin, rest); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for name, w := range ways {
		for what, rest := range map[string]string{
			"no length": "zz\r\n", "no end": "3\r\nabcdef\r\n", "a length without end": strings.Repeat("0", 5000),
			"no trailer": "0\r\nthis is none\r\n\r\n",
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				conn := dial(t, name, rest)
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				answer, err := httputil.DumpResponse(res, true)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != w.status {
					t.Errorf("%s, want %d", res.Status, w.status)
				}
				for _, told := range w.told {
					if !bytes.Contains(answer, []byte(told)) {
						t.Errorf("it does not tell %q:\n%s", told, answer)
					}
				}
				if call := <-calls; call.Code != connect.CodeInvalidArgument || call.Reason != "INVALID_BODY" {
					t.Errorf("observed %v, %q", call.Code, call.Reason)
				}
			})
		}
		for where, rest := range map[string]string{"a chunk": "3\r\na", "a length": "3", "the trailer": "0\r\n"} {
			t.Run(name+"/leaves in "+where, func(t *testing.T) {
				_ = dial(t, name, rest).Close()
				if call := <-calls; call.Code != connect.CodeCanceled {
					t.Errorf("observed %v, %q", call.Code, call.Reason)
				}
			})
		}
	}
}

// TestAnyOrientation: a photograph that lies on its side or stands on its head has the
// same face as upright, at every door.
func TestAnyOrientation(t *testing.T) {
	d, err := pigo.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen calls
	_, url := start(t, d, func(c *service.Config) {
		c.Observe, c.Timeout, c.DefaultTimeout = seen.observe, time.Minute, time.Minute
	})
	upright, _, err := image.Decode(bytes.NewReader(sample(t)))
	if err != nil {
		t.Fatal(err)
	}
	client := clients(t, url)["grpc"]
	ask := func(img image.Image, options *inferencev1.DetectOptions) *inferencev1.InferResults {
		t.Helper()
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: b.Bytes(), Options: options})
		if err != nil {
			t.Fatal(err)
		}
		if c := seen.take(t, 1)[0]; c.AnyOrientation != options.GetAnyOrientation() {
			t.Errorf("the record says %v", c.AnyOrientation)
		}
		return res
	}
	const large = 100 // pixels: fewer windows to search
	want := ask(upright, &inferencev1.DetectOptions{MinFaceSize: large}).GetResults()[0]
	size := upright.Bounds().Size()
	// Where a point of the upright image is, as a line between pixels, in the turned one.
	turns := []func(x, y int32) (int32, int32){
		func(x, y int32) (int32, int32) { return int32(size.Y) - y, x },
		func(x, y int32) (int32, int32) { return int32(size.X) - x, int32(size.Y) - y },
		func(x, y int32) (int32, int32) { return y, int32(size.X) - x },
	}
	for i, at := range turns {
		turned := photo.Turn(upright, i+1)
		results := ask(turned, &inferencev1.DetectOptions{AnyOrientation: true, MinFaceSize: large}).GetResults()
		if len(results) != 1 {
			t.Errorf("%d quarters: %d faces, want 1", i+1, len(results))
			continue
		}
		far := func(got *inferencev1.Point, x, y int32) bool {
			return max(got.GetX()-x, x-got.GetX(), got.GetY()-y, y-got.GetY()) > 2 // pixels, of 400
		}
		box, old := results[0].GetBox(), want.GetBox()
		x0, y0 := at(old.GetUpLeft().GetX(), old.GetUpLeft().GetY())
		x1, y1 := at(old.GetLowerRight().GetX(), old.GetLowerRight().GetY())
		if far(box.GetUpLeft(), min(x0, x1), min(y0, y1)) || far(box.GetLowerRight(), max(x0, x1), max(y0, y1)) {
			t.Errorf("%d quarters: the box is %v, upright %v", i+1, box, old)
		}
		for name, get := range map[string]func(*inferencev1.Landmarks) *inferencev1.Point{
			"left eye": (*inferencev1.Landmarks).GetLeftEye, "right eye": (*inferencev1.Landmarks).GetRightEye, "nose": (*inferencev1.Landmarks).GetNose,
			"left of the mouth": (*inferencev1.Landmarks).GetMouthLeft, "right of the mouth": (*inferencev1.Landmarks).GetMouthRight,
		} {
			old := get(want.GetLandmarks())
			if x, y := at(old.GetX(), old.GetY()); far(get(results[0].GetLandmarks()), x, y) {
				t.Errorf("%d quarters: the %s is at %v, upright at %v", i+1, name, get(results[0].GetLandmarks()), old)
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, turned); err != nil {
			t.Fatal(err)
		}
		res, out := sendPredict(t, http.MethodPost, url+"/predict?any_orientation=true&min_face_size=100", nil, &b)
		if seen.take(t, 1); res.StatusCode != http.StatusOK || bytes.Count(out, []byte(`"box"`)) != 1 {
			t.Errorf("%d quarters at /predict: %d, %s", i+1, res.StatusCode, out)
		}
	}
}
