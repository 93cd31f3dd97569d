package service

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mienproject/mien/annotate"
	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/photo"
	"github.com/mienproject/mien/reason"
)

// TruncatedHeader is a header of answers of PredictHandler: "true" if faces may be missing,
// as InferResults.truncated says.
const TruncatedHeader = "Mien-Truncated"

// ReasonHeader is a header of answers of PredictHandler. It has the reason of a
// failure, the same as google.rpc.ErrorInfo in the other protocols.
const ReasonHeader = "Mien-Reason"

// PredictHandler returns the handler of POST and PUT /predict. It accepts
//
//   - the JSON of the system that Mien replaces, {"img_id": …, "img_b64": …}, and
//     answers as that system did: always with status 200, and with failures in
//     "message";
//   - an image file of any declared type, or a form with an image, with options in the
//     query, and answers with a status that fits the outcome.
//
// The answer is {"message": …, "results": […]}, or the annotated image if the request's
// Accept prefers image/jpeg or image/png. It expects a Record in the context of
// requests.
func (s *Service) PredictHandler() http.Handler {
	return s.doorHandler(predictPath, func(w http.ResponseWriter, r *http.Request, rq *request) door {
		p := &prediction{service: s, w: w, request: rq, accept: accepted(r.Header.Values("Accept"))}
		p.mediaType, p.mediaParams, _ = mime.ParseMediaType(r.Header.Get("Content-Type")) // the content decides, whatever the header says
		p.old = p.mediaType == jsonType
		return p
	})
}

// The texts of the old system, including its quotes.
const (
	oldNoID   = "'image id not exists.'"
	oldNoJSON = "please post JSON format data"
	oldFailed = "inference failed: "
)

// prediction is one request to PredictHandler.
type prediction struct {
	service *Service
	w       http.ResponseWriter
	request *request
	// mediaType and mediaParams are those of the request's Content-Type.
	mediaType   string
	mediaParams map[string]string
	// old is true if the request uses the JSON of the old system.
	old bool
	// accept is the media type of the answer.
	accept string
	// hint suggests what may be wrong with an image that cannot be read. It may be
	// empty.
	hint string
}

// oldError is a failure with the exact message of the old system.
type oldError struct {
	message string
	err     error
}

func (e oldError) Error() string { return e.message }
func (e oldError) Unwrap() error { return e.err }

// read reads the request: the image, or the JSON that contains it. Options are in the
// query, and in the fields of a form.
func (p *prediction) read(r *http.Request) ([]*inferencev1.Image, error) {
	options, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the query is malformed: %v", errOptions, err) //nolint:errorlint // its text only
	}
	content, err := p.request.content(p.w, r)
	if err != nil {
		return nil, err
	}
	var data []byte
	if p.mediaType == formType {
		var fromFile bool
		data, fromFile, err = readForm(content, p.mediaParams["boundary"], options)
		if !fromFile {
			p.hint = textHint(data, "the form's image", "-F image=@")
		}
	} else {
		data, err = readAll(content, r.ContentLength)
		if p.mediaType == "application/x-www-form-urlencoded" {
			p.hint = curlHint(data)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := p.request.body.finish(); err != nil {
		return nil, err
	}
	req, err := p.image(r.Context(), data, options)
	return []*inferencev1.Image{req}, err
}

const formType = "multipart/form-data"

// image converts what was read to the request message of the RPCs.
func (p *prediction) image(ctx context.Context, data []byte, options url.Values) (*inferencev1.Image, error) {
	req := &inferencev1.Image{RawData: data}
	var err error
	if req.Options, err = queryOptions(options); err != nil {
		return nil, err
	}
	start := bytes.TrimLeft(bytes.TrimPrefix(data, byteOrderMark), " \t\r\n")
	p.old = p.old || (p.mediaType != formType && bytes.HasPrefix(start, []byte("{")))
	if !p.old {
		return req, nil
	}
	text, ignored := prepareJSON(data, oldShape)
	p.service.logIgnored(ctx, p.request.record, ignored)
	if ignored != "" {
		p.w.Header().Set(IgnoredFieldsHeader, ignored)
	}
	return req, readOld(text, req)
}

// answer answers in the media type that the client prefers.
func (p *prediction) answer(ctx context.Context, images []*inferencev1.Image) error {
	req := images[0]
	if p.accept != jsonType {
		return p.mark(ctx, req)
	}
	res, err := p.service.infer(ctx, p.request, req, nil)
	if err != nil {
		return err
	}
	p.tell(res)
	p.write(http.StatusOK, "", res.GetResults())
	return nil
}

// tell sets the headers for what the answer has no field for.
func (p *prediction) tell(res *inferencev1.InferResults) {
	if res.GetTruncated() {
		p.w.Header().Set(TruncatedHeader, "true")
	}
}

// mark answers with the annotated image.
func (p *prediction) mark(ctx context.Context, req *inferencev1.Image) error {
	var encoded chunks
	res, err := p.service.infer(ctx, p.request, req, func(img image.Image, faces []face.Face) error {
		return annotate.Encode(&encoded, annotate.Draw(img, faces), annotate.Format(strings.TrimPrefix(p.accept, "image/")))
	})
	if err != nil {
		return err
	}
	if limit := p.service.config.MaxBodyBytes; encoded.size > limit {
		return fmt.Errorf("%w: the annotated image has %d bytes, but this server has %d for all requests together; %s", photo.ErrTooManyPixels, encoded.size, limit, jsonFits)
	}
	// The answer may wait long for a slow client, so its reservation replaces that of
	// the request.
	req.Reset()
	if err := p.request.body.replaceReservation(encoded.size); err != nil {
		return err
	}
	p.tell(res)
	p.w.Header().Set("Content-Type", p.accept)
	for _, part := range encoded.parts {
		_, _ = p.w.Write(part) // the client may have disconnected
	}
	return nil
}

// chunks stores what is written to it in parts, because growing a single buffer would
// take up to three times the memory.
type chunks struct {
	parts [][]byte
	size  int64
}

const chunkSize = 1 << 20

// Write implements io.Writer.
func (c *chunks) Write(p []byte) (int, error) {
	n := len(p)
	c.size += int64(n)
	for len(p) > 0 {
		last := len(c.parts) - 1
		if last < 0 || len(c.parts[last]) == chunkSize {
			c.parts = append(c.parts, make([]byte, 0, chunkSize))
			last++
		}
		part := c.parts[last]
		add := min(len(p), chunkSize-len(part))
		c.parts[last] = append(part, p[:add]...)
		p = p[add:]
	}
	return n, nil
}

// write writes {"message", "results"}.
func (p *prediction) write(status int, message string, results []*inferencev1.Result) {
	writePrediction(p.w, status, message, results)
}

// writePrediction writes {"message", "results"} to w.
func writePrediction(w http.ResponseWriter, status int, message string, results []*inferencev1.Result) {
	body := struct {
		Message string            `json:"message"`
		Results []json.RawMessage `json:"results"`
	}{Message: message, Results: make([]json.RawMessage, 0, len(results))}
	for _, r := range results {
		b, err := jsonMarshal.Marshal(r)
		if err != nil {
			panic(err) // every result can be marshaled
		}
		body.Results = append(body.Results, b)
	}
	out, err := json.Marshal(body)
	if err != nil {
		panic(err) // the parts are valid JSON
	}
	out = append(out, '\n')
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	w.WriteHeader(status)
	_, _ = w.Write(out) // the client may have disconnected
}

// fail answers with the error.
func (p *prediction) fail(ctx context.Context, err error) {
	converted := p.service.connectError(ctx, p.request.record, err)
	status := failPlainly(p.w.Header(), p.request.record, converted)
	message := converted.Message()
	switch p.request.record.Reason {
	case reason.EmptyImage, reason.UnsupportedFormat, reason.CorruptImage, reason.TooManyPixels:
		message += p.hint
	}
	var word oldError
	switch {
	case p.old && errors.As(err, &word):
		message = word.message
	case p.old:
		message = oldFailed + message
	case p.request.record.Reason == reason.UnsupportedFormat || p.request.record.Reason == reason.EmptyImage:
		// The client may have meant to send the old system's JSON.
		message = oldNoJSON + ", or an image: " + message
	}
	if p.old {
		p.write(http.StatusOK, message, nil)
		return
	}
	p.write(status, message, nil)
}

// readOld reads the old system's JSON, which prepareJSON has prepared, into req.
func readOld(body []byte, req *inferencev1.Image) error {
	if !utf8.Valid(body) {
		return oldError{oldNoJSON + ": the body is not UTF-8", errNoJSON}
	}
	// The old system accepted only these exact names. Package json ignores case, so
	// OtherID and OtherImage catch the names in other spellings: of several fields that
	// match a key only without case, json uses the first one.
	var old struct {
		OtherID    ignored `json:"IMG_ID"`
		ID         *string `json:"img_id"`
		OtherImage ignored `json:"IMG_B64"`
		Image      *string `json:"img_b64"`
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return oldError{oldNoJSON, errNoJSON} // json.Unmarshal would accept null
	}
	if err := json.Unmarshal(body, &old); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return fmt.Errorf("%w: %s is a %s; it must be a string", errNoJSON, wrong.Field, wrong.Value)
		}
		return oldError{oldNoJSON, errNoJSON}
	}
	if old.ID == nil || *old.ID == "" {
		return oldError{oldNoID, errNoJSON}
	}
	req.ImageId, req.RawData = *old.ID, nil
	if old.Image == nil {
		return fmt.Errorf("%w: img_b64 is missing", photo.ErrEmpty)
	}
	data := *old.Image
	if prefix, rest, ok := strings.Cut(data, ","); ok && strings.HasPrefix(prefix, "data:") {
		data = rest
	}
	raw, err := base64Alphabet(strings.ContainsAny(data, "-_")).DecodeString(data)
	if err != nil {
		return fmt.Errorf("%w: img_b64 is not base64: %v", errNoJSON, err) //nolint:errorlint // its text only
	}
	req.RawData = raw
	return nil
}

// base64Alphabet returns base64 without padding, in the alphabet for URLs or the other.
func base64Alphabet(forURLs bool) *base64.Encoding {
	if forURLs {
		return base64.RawURLEncoding
	}
	return base64.RawStdEncoding
}

// ignored accepts any JSON.
type ignored struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (*ignored) UnmarshalJSON([]byte) error { return nil }

const (
	maxParts = 16
	maxField = 4 << 10
)

// textHint returns a hint if data, which should be an image, is a short text: probably
// curl was told to send the name of the file. what describes where data was found, and
// option is the curl option that sends the file. Otherwise it returns "".
func textHint(data []byte, what, option string) string {
	const longest = 256
	if len(data) == 0 || len(data) > longest || !utf8.Valid(data) || bytes.ContainsFunc(data, unicode.IsControl) {
		return ""
	}
	return fmt.Sprintf("; %s is the text %q: to send a file with curl, put an @ before its name, as in %sphoto.jpg", what, data, option)
}

// curlHint returns a hint if data may be an image that curl -d has damaged, and ""
// otherwise. Like --data-binary, curl -d declares the body as a form.
func curlHint(data []byte) string {
	const enough = 512 // nearly every image of this many bytes contains a line break
	if len(data) >= enough && !bytes.ContainsAny(data, "\r\n") {
		return "; the body has no line breaks, which curl -d removes: send the file with --data-binary @photo.jpg or -T photo.jpg"
	}
	return textHint(data, "the body", "--data-binary @")
}

// readForm returns the image of a form, and adds its other fields to options. fromFile
// is true if the image had a file name.
func readForm(body io.Reader, boundary string, options url.Values) (data []byte, fromFile bool, err error) {
	if boundary == "" {
		return nil, false, fmt.Errorf("%w: its Content-Type has no boundary; curl -F image=@photo.jpg sets one", errForm)
	}
	reader := multipart.NewReader(body, boundary)
	found := false
	for n := 1; ; n++ {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, unreadable(err, errForm)
		}
		name := part.FormName()
		switch {
		case n > maxParts:
			return nil, false, fmt.Errorf("%w: it has more than %d parts; send one image, and options", errForm, maxParts)
		case name == "":
			return nil, false, fmt.Errorf("%w: part %d has no name; send it as curl -F image=@photo.jpg does", errForm, n)
		case part.FileName() != "" || name == "image":
			if found {
				return nil, false, fmt.Errorf("%w: part %d, %q, is a second image; send one image per request", errForm, n, name)
			}
			if data, err = io.ReadAll(part); err != nil {
				return nil, false, unreadable(err, errForm)
			}
			found, fromFile = true, part.FileName() != ""
		default:
			value, err := io.ReadAll(io.LimitReader(part, maxField+1))
			if err != nil {
				return nil, false, unreadable(err, errForm)
			}
			if len(value) > maxField {
				return nil, false, fmt.Errorf("%w: field %q is longer than %d bytes; send an image in a part named image, or in a part with a file name", errForm, name, maxField)
			}
			options.Add(name, string(value))
		}
	}
	if !found {
		return nil, false, fmt.Errorf("%w: it has no image; send one as curl -F image=@photo.jpg does", errForm)
	}
	return data, fromFile, nil
}

// An option reads the text of an option.
type option struct {
	allowed string
	read    func(string) error
}

// set reads the option that clients call name.
func (o option) set(name, value string) error {
	if err := o.read(value); err != nil {
		return fmt.Errorf("%w: %s is %q; allowed is %s", errOptions, name, excerpt(value), o.allowed)
	}
	return nil
}

// optionsInto returns all options by name. They are read into o.
func optionsInto(o *inferencev1.DetectOptions) map[string]option {
	return map[string]option{
		"min_confidence": {allowedConfidence, func(v string) error {
			f, err := strconv.ParseFloat(v, 32)
			o.MinConfidence = new(float32(f))
			return err
		}},
		"max_results":   {allowedResults, func(v string) error { return parseInt32(v, &o.MaxResults) }},
		"min_face_size": {allowedFaceSize, func(v string) error { return parseInt32(v, &o.MinFaceSize) }},
		"skip_landmarks": {"true or false", func(v string) (err error) {
			o.SkipLandmarks, err = strconv.ParseBool(v)
			return err
		}},
		"any_orientation": {"true or false", func(v string) (err error) {
			o.AnyOrientation, err = strconv.ParseBool(v)
			return err
		}},
		"model": {"a name from ListModels", func(v string) error {
			if !utf8.ValidString(v) {
				return errors.New("not UTF-8")
			}
			o.Model = v
			return nil
		}},
	}
}

// queryOptions reads the options of a query or a form.
func queryOptions(values url.Values) (*inferencev1.DetectOptions, error) {
	o := &inferencev1.DetectOptions{}
	set := optionsInto(o)
	for name, all := range values {
		option, known := set[name]
		if !known {
			return nil, fmt.Errorf("%w: %q is unknown; allowed are min_confidence, max_results, min_face_size, skip_landmarks, any_orientation and model", errOptions, excerpt(name))
		}
		if len(all) > 1 {
			return nil, fmt.Errorf("%w: %s is given %d times; give it once, in the query or in the form", errOptions, name, len(all))
		}
		if err := option.set(name, all[0]); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// excerpt shortens a value for a message.
func excerpt(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

func parseInt32(v string, into *int32) error {
	n, err := strconv.ParseInt(v, 10, 32)
	*into = int32(n)
	return err
}

// The media types of answers. The preferred one is first.
const jsonType = "application/json"

var answerTypes = []string{jsonType, "image/jpeg", "image/png"}

// accepted chooses the media type of the answer by the Accept headers of the request
// (RFC 9110, section 12.5.1). If none is acceptable, it is JSON.
func accepted(headers []string) string {
	best, bestQ := jsonType, 0.0
	for _, offer := range answerTypes {
		group, _, _ := strings.Cut(offer, "/")
		q, specific := 0.0, 0
		for item := range strings.SplitSeq(strings.Join(headers, ","), ",") {
			pattern, params, err := mime.ParseMediaType(item)
			if err != nil {
				continue
			}
			how := 1 + slices.Index([]string{"*/*", group + "/*", offer}, pattern)
			if how <= specific {
				continue
			}
			specific, q = how, 1
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil {
					q = 0
				}
			}
		}
		if q > bestQ {
			best, bestQ = offer, q
		}
	}
	return best
}
