package service_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mienproject/mien/service"
)

// spellings returns strings of JSON in different base64, which all mean the same bytes.
func spellings(data []byte) map[string]string {
	std := base64.StdEncoding.EncodeToString(data)
	wrapped := func(s, with string, every int) string {
		var b strings.Builder
		for ; len(s) > every; s = s[every:] {
			b.WriteString(s[:every] + with)
		}
		return b.String() + s + with
	}
	var escaped strings.Builder
	for _, c := range std {
		fmt.Fprintf(&escaped, `\u%04x`, c)
	}
	all := map[string]string{
		"as it is":               std,
		"no padding":             strings.TrimRight(std, "="),
		"URL-safe":               base64.URLEncoding.EncodeToString(data),
		"URL-safe, no padding":   base64.RawURLEncoding.EncodeToString(data),
		"lines as in MIME":       wrapped(std, `\r\n`, 76),
		"lines as in PEM":        wrapped(std, `\n`, 64),
		"one line end":           std + `\n`,
		"lines, no padding":      wrapped(strings.TrimRight(std, "="), `\n`, 76),
		"lines, URL-safe":        wrapped(base64.URLEncoding.EncodeToString(data), `\r\n`, 76),
		"bare lines":             wrapped(std, "\n", 76), // the output of base64 photo.jpg
		"bare lines, \\r\\n":     wrapped(std, "\r\n", 76),
		"spaces":                 "  " + wrapped(std, " ", 4) + " ",
		"tabs":                   wrapped(std, "\t", 10) + `\t`,
		"escaped white space":    wrapped(std, `\u000a`, 76) + `\u0020\u000D\u0009`,
		"one character a line":   wrapped(std, `\n`, 1),
		"slashes escaped":        strings.ReplaceAll(std, "/", `\/`),
		"escaped as Gson does":   strings.NewReplacer("=", `\u003d`, "+", `\u002b`).Replace(std),
		"all of it escaped":      escaped.String(),
		"white space in padding": strings.Replace(std, "==", "= =", 1),
	}
	for name, s := range all {
		all[name] = `"` + s + `"`
	}
	return all
}

// smallPNG returns an image whose base64 contains every letter.
func smallPNG(t *testing.T) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	for i := range img.Pix {
		img.Pix[i] = byte(i * i >> 3)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBase64 checks that every endpoint accepts every spelling, for all lengths of the
// image.
func TestBase64(t *testing.T) {
	_, server := start(t, one, nil)
	// All lengths of the last group, with all letters of the alphabet.
	pixels := make([]byte, 24*32)
	for i := range pixels {
		pixels[i] = byte(i * 37)
	}
	for _, width := range []int{22, 23, 24} {
		for name, value := range spellings(pixels[:width*31]) {
			t.Run(fmt.Sprint(width, "/", name), func(t *testing.T) {
				t.Parallel()
				image := fmt.Sprintf(`{"rawData": %s, "width": %d, "height": 31, "pixelFormat": "PIXEL_FORMAT_GRAY8", "imageId": "an id+"}`, value, width)
				batch := `{"images": [{"rawData": "AAAA"}, ` + image + `]}`
				byProtoName := strings.Replace(image, "rawData", "raw_data", 1)
				client := h2Client(t)
				for _, c := range []struct{ path, contentType, body string }{
					{predictPath, "application/json", image},
					{predictPath, "application/json; charset=utf-8", byProtoName},
					{"/Inference/Predict", "application/json", image},
					{predictPath, "application/grpc+json", string(enveloped(0, []byte(image)))},
					{predictPath + "Stream", "application/connect+json", string(enveloped(0, []byte(image)))},
					{predictPath + "Batch", "application/connect+json", string(enveloped(0, []byte(batch)))},
				} {
					res, out := send(t, client, server+c.path, map[string]string{"Content-Type": c.contentType, "Te": "trailers"}, []byte(c.body))
					if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte(`"confidence":0.75`)) || !bytes.Contains(out, []byte(`"an id+"`)) {
						t.Errorf("%s, %s: %s, %v: %.300s", c.path, c.contentType, res.Status, res.Trailer, out)
					}
				}
				for query, message := range map[string]string{
					"encoding=json":          url.QueryEscape(image),
					"encoding=json&base64=1": base64.RawURLEncoding.EncodeToString([]byte(image)),
				} {
					res, out := fetch(t, server+predictPath+"?connect=v1&"+query+"&message="+message)
					if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte(`"confidence":0.75`)) || !bytes.Contains(out, []byte(`"an id+"`)) {
						t.Errorf("GET, %s: %s: %.300s", query, res.Status, out)
					}
				}
			})
		}
	}
	t.Run("old JSON", func(t *testing.T) {
		if b64 := base64.StdEncoding.EncodeToString(smallPNG(t)); !strings.Contains(b64, "+") || !strings.Contains(b64, "/") {
			t.Fatalf("this shows nothing: %s", b64)
		}
		for cut := range 3 {
			photo := append(smallPNG(t), make([]byte, cut)...) // bytes after an image are ignored
			for name, value := range spellings(photo) {
				for _, prefix := range []string{"", "data:image/jpeg;base64,"} {
					body := `{"img_id": "a", "img_b64": "` + prefix + value[1:] + `}`
					res, out := sendPredict(t, http.MethodPost, server+"/predict", map[string]string{"Content-Type": "application/json"}, strings.NewReader(body))
					if !bytes.Contains(out, []byte(`"confidence":0.75`)) {
						t.Errorf("%s, %d more: %s: %.300s", name, cut, res.Status, out)
					}
				}
			}
		}
	})
}

// TestLargestImageInLines checks that every endpoint accepts an image of the maximum
// size even if its base64 has line breaks.
func TestLargestImageInLines(t *testing.T) {
	const size = 3 << 20
	_, server := start(t, one, func(c *service.Config) { c.MaxImageBytes, c.MaxBatchBytes = size, size })
	photo := append(smallPNG(t), make([]byte, size)...)[:size] // bytes after an image are ignored
	all := spellings(photo)
	for name, value := range map[string]string{
		"as it is": all["as it is"], "MIME": all["lines as in MIME"], "bare": all["bare lines, \\r\\n"],
		"PEM": strings.ReplaceAll(all["lines as in PEM"], `\n`, `\r\n`), // the longest
	} {
		image := `{"rawData": ` + value + `}`
		client := h2Client(t)
		for _, c := range []struct{ path, contentType, body string }{
			{predictPath, "application/json", image},
			{"/Inference/Predict", "application/json", image},
			{"/predict", "application/json", `{"img_id": "a", "img_b64": ` + value + `}`},
			{predictPath, "application/grpc+json", string(enveloped(0, []byte(image)))},
			{predictPath + "Stream", "application/connect+json", string(enveloped(0, []byte(image)))},
			{predictPath + "Batch", "application/connect+json", string(enveloped(0, []byte(`{"images": [`+image+`]}`)))},
		} {
			res, out := send(t, client, server+c.path, map[string]string{"Content-Type": c.contentType, "Te": "trailers"}, []byte(c.body))
			if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte(`"confidence":0.75`)) {
				t.Errorf("%s: %s, %s: %s, %v: %.300s", name, c.path, c.contentType, res.Status, res.Trailer, out)
			}
		}
	}
}

// TestBase64InURL checks that the parameter message may have either alphabet, padding,
// white space and an unescaped +, which means a space in forms.
func TestBase64InURL(t *testing.T) {
	_, server := start(t, one, nil)
	// Base64 that contains + and /, in JSON whose own base64 contains them too.
	image := fmt.Sprintf(`{"rawData":%q,"width":4,"height":6,"pixelFormat":"PIXEL_FORMAT_GRAY8","imageId":"þÿ?>~ a+b"}`,
		base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0xef, 0xbe, 0xff}, 6)))
	for i := range 3 {
		message := image[:len(image)-1] + strings.Repeat(" ", i) + "}"
		std := base64.StdEncoding.EncodeToString([]byte(message))
		if !strings.ContainsAny(std, "+") || !strings.ContainsAny(std, "/") {
			t.Fatalf("this shows nothing: %s", std)
		}
		for name, query := range map[string]string{
			"URL-safe":        base64.URLEncoding.EncodeToString([]byte(message)),
			"no padding":      base64.RawURLEncoding.EncodeToString([]byte(message)),
			"standard":        url.QueryEscape(std),
			"bare":            std,
			"bare no padding": strings.TrimRight(std, "="),
			"lines":           url.QueryEscape(std[:76] + "\r\n" + std[76:] + "\n"),
			"spaces":          url.QueryEscape(std[:76] + " " + std[76:] + " "),
			"spaces, bare":    strings.ReplaceAll(std[:76]+"%20"+std[76:], "=", "%3D"),
		} {
			res, out := fetch(t, server+predictPath+"?connect=v1&encoding=json&base64=1&message="+query)
			if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte(`"confidence":0.75`)) || !bytes.Contains(out, []byte(`"þÿ?>~ a+b"`)) {
				t.Errorf("%s, %d: %s: %s", name, i, res.Status, out)
			}
		}
		// As forms and Python encode it, with + for a space, and with an unescaped + of
		// the base64.
		spaced := strings.ReplaceAll(message, `",`, `", `)
		asForm := url.QueryEscape(spaced)
		if !strings.Contains(asForm, "+") || !strings.Contains(asForm, "%2B%2B") {
			t.Fatalf("this shows nothing: %s", asForm)
		}
		for name, query := range map[string]string{"form": asForm, "form, bare": strings.ReplaceAll(asForm, "%2B%2B", "++")} {
			res, out := fetch(t, server+predictPath+"?connect=v1&encoding=json&message="+query)
			if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte(`"confidence":0.75`)) || !bytes.Contains(out, []byte(`"þÿ?>~ a+b"`)) {
				t.Errorf("%s, %d: %s: %s", name, i, res.Status, out)
			}
		}
	}
}

// TestWrongBase64 checks that only white space, either alphabet and missing padding are
// accepted.
func TestWrongBase64(t *testing.T) {
	_, server := start(t, one, nil)
	for _, value := range []string{`"AA?A"`, `"AA=A"`, `"A"`, `"AAAAA"`, `"AA\\AA"`, `"AA\"AA"`, `"AA\u0022AA"`, `"AA\x20AA"`, `"AA\u00a0AA"`, `"+-AA"`, "\"AA\x00AA\"", "\"AA\x0bAA\"", `7`, `{}`} {
		image := `{"width":3,"height":1,"pixelFormat":"PIXEL_FORMAT_GRAY8","rawData":` + value + `}`
		res, out := send(t, httpClient(t), server+predictPath, map[string]string{"Content-Type": "application/json"}, []byte(image))
		if e := readError(t, out); res.StatusCode != http.StatusBadRequest || e.Code != "invalid_argument" || !strings.Contains(e.Message, "unmarshal message") {
			t.Errorf("%s: %s: %s", value, res.Status, out)
		}
		res, out = send(t, httpClient(t), server+"/predict", map[string]string{"Content-Type": "application/json"}, []byte(`{"img_id":"a","img_b64":`+value+`}`))
		if reason := res.Header.Get(service.ReasonHeader); reason != "INVALID_JSON" {
			t.Errorf("old, %s: %s, %s: %s", value, res.Status, reason, out)
		}
	}
}

// TestByteOrderMark checks JSON with a byte-order mark, which PowerShell and some
// editors write.
func TestByteOrderMark(t *testing.T) {
	_, server := start(t, one, nil)
	const mark = "\xef\xbb\xbf"
	b64 := base64.StdEncoding.EncodeToString(smallPNG(t))
	image := mark + `{"rawData":"` + b64 + `"}`
	small := mark + `{"rawData":"AAAA","width":3,"height":1,"pixelFormat":"PIXEL_FORMAT_GRAY8"}`
	old := mark + ` {"img_id":"a","img_b64":"` + b64 + `"}`
	client := h2Client(t)
	for _, c := range []struct{ path, contentType, body string }{
		{predictPath, "application/json", image},
		{"/Inference/Predict", "application/json", image},
		{predictPath, "application/grpc+json", string(enveloped(0, []byte(image)))},
		{predictPath + "Batch", "application/connect+json", string(enveloped(0, []byte(mark+`{"images":[`+strings.TrimPrefix(small, mark)+`]}`)))},
		{"/predict", "application/json", old},
		{"/predict", "application/octet-stream", old},
		{"/predict", "application/x-www-form-urlencoded", old},
	} {
		res, out := send(t, client, server+c.path, map[string]string{"Content-Type": c.contentType, "Te": "trailers"}, []byte(c.body))
		if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte(`"confidence":0.75`)) {
			t.Errorf("%s, %s: %s, %v: %.300s", c.path, c.contentType, res.Status, res.Trailer, out)
		}
	}
	res, out := fetch(t, server+predictPath+"?connect=v1&encoding=json&message="+url.QueryEscape(small))
	if res.StatusCode != http.StatusOK {
		t.Errorf("GET: %s: %s", res.Status, out)
	}
	res, out = send(t, client, server+"/inference.v1.Inference/ListModels", map[string]string{"Content-Type": "application/json"}, []byte(mark+"{}"))
	if res.StatusCode != http.StatusOK {
		t.Errorf("ListModels: %s: %s", res.Status, out)
	}
	// Only one mark is removed, and a mark alone is not JSON.
	for _, body := range []string{mark, mark + mark + "{}", "{" + mark + "}"} {
		if res, out := send(t, client, server+predictPath, map[string]string{"Content-Type": "application/json"}, []byte(body)); res.StatusCode != http.StatusBadRequest || readError(t, out).Message == "" {
			t.Errorf("%q: %s: %s", body, res.Status, out)
		}
	}
}

// lockedBuffer is a log that tests can read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func debugLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestIgnoredFields checks that unknown fields, as newer clients may send, are ignored
// and listed in the answer.
func TestIgnoredFields(t *testing.T) {
	var log lockedBuffer
	_, server := start(t, one, func(c *service.Config) { c.Logger = debugLogger(&log) })
	b64 := base64.StdEncoding.EncodeToString(smallPNG(t))
	image := func(more string) string { return `{"rawData":"` + b64 + `"` + more + `}` }
	var many, long strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `,"field%d":{}`, i)
		fmt.Fprintf(&long, `,"%s%d":[]`, strings.Repeat("f", 60), i)
	}
	for _, c := range []struct{ name, body, want string }{
		{"none", image(`,"imageId":"a","options":{"minConfidence":0.5,"max_results":2,"model":"stub"},"metaData":{"uuid":"x"}`), ""},
		{"proto's names", strings.Replace(image(`,"image_id":"a","meta_data":{"iso_date":"x"},"options":{"min_confidence":0.5}`), "rawData", "raw_data", 1), ""},
		{"in the wrong place", image(`,"minConfidence":2`), "minConfidence"},
		{"misspelled", image(`,"options":{"minConfidenc":2, "maxresults": {"a":[1,{"b":"}"}]}, "maxResults":1},"ImageId":null`), "options.minConfidenc, options.maxresults, ImageId"},
		{"the image's name", `{"image":"` + b64 + `"}`, "image"},
		{"the old JSON", `{"img_id":"a","img_b64":"` + b64 + `"}`, "img_id, img_b64"},
		{"name of an enum", image(`,"pixelFormat":"ENCODED","metaData":{"environment":"LIVE"}`), "pixelFormat, metaData.environment"},
		{"number of an enum", image(`,"pixelFormat":0`), ""},
		{"known name of an enum", image(`,"pixelFormat":"PIXEL_FORMAT_ENCODED"`), ""},
		{"null", image(`,"options":null,"pixelFormat":null`), ""},
		{"escaped", image(`,"\u006fptions":{"mode\u006c\"":1}`), "options.model%22"},
		{"not ASCII", image(`,"größe, x.y":1,"\ud83d\ude00":2,"":3`), "gr%C3%B6%C3%9Fe%2C%20x%2Ey, %F0%9F%98%80, \"\""},
		{"header injection", image(`,"x\r\nSet-Cookie: a":1`), "x%0D%0ASet-Cookie%3A%20a"},
		{"twice", image(`,"a":1,"a":2`), "a"},
		{"eight", image(`,"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8`), "a, b, c, d, e, f, g, h"},
		{"many", image(many.String()), "field0, field1, field2, field3, field4, field5, field6, field7, ..."},
		{"long", image(long.String()), strings.Repeat("f", 60) + "0, " + strings.Repeat("f", 60) + "1, " + strings.Repeat("f", 60) + "2, " + strings.Repeat("f", 60) + "3, ..."},
		{"very long", image(`,"` + strings.Repeat("é", 100_000) + `":1`), strings.Repeat("%C3%A9", 16) + "..."},
		{"a string with all there is", image(`,"x":"{\"y\\\":[,:","z":"\\"`), "x, z"},
		{"nested unknown", image(`,"x":{"options":{"y":1},"rawData":"a b"}`), "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{predictPath, "/Inference/Predict"} {
				log.take()
				res, out := send(t, httpClient(t), server+path, map[string]string{"Content-Type": "application/json"}, []byte(c.body))
				got, there := res.Header[service.IgnoredFieldsHeader]
				if there != (c.want != "") || strings.Join(got, "|") != c.want {
					t.Errorf("%s: %s, %q, want %q", path, res.Status, got, c.want)
				}
				if len(c.want) > 256 {
					t.Errorf("%d bytes", len(c.want))
				}
				// Ignored fields change nothing: an option whose name is misspelled is
				// not set.
				if fails := strings.HasPrefix(c.want, "im"); fails != (res.StatusCode == http.StatusBadRequest) || fails != bytes.Contains(out, []byte("EMPTY_IMAGE")) {
					t.Errorf("%s: %.300s", res.Status, out)
				}
				logged := log.take()
				if strings.Contains(logged, "unknown fields are ignored") != (c.want != "") || !strings.Contains(logged, strings.Trim(strconv.Quote(c.want), `"`)) ||
					(c.want != "" && !strings.Contains(logged, "level=DEBUG")) || strings.Contains(logged, b64[:100]) {
					t.Errorf("log: %.500s", logged)
				}
			}
			// gRPC with JSON does the same.
			res, _ := send(t, h2Client(t), server+predictPath, map[string]string{"Content-Type": "application/grpc+json", "Te": "trailers"}, enveloped(0, []byte(c.body)))
			if got := res.Header.Get(service.IgnoredFieldsHeader) + res.Trailer.Get(service.IgnoredFieldsHeader); got != c.want {
				t.Errorf("gRPC: %q, want %q", got, c.want)
			}
		})
	}
	t.Run("ListModels", func(t *testing.T) {
		res, _ := send(t, httpClient(t), server+"/inference.v1.Inference/ListModels", map[string]string{"Content-Type": "application/json"}, []byte(`{"family":"x"}`))
		if got := res.Header.Get(service.IgnoredFieldsHeader); got != "family" {
			t.Errorf("%q", got)
		}
	})
	t.Run("GET", func(t *testing.T) {
		res, _ := fetch(t, server+predictPath+"?connect=v1&encoding=json&message="+url.QueryEscape(`{"rawData":"AAAA","width":3,"height":1,"pixelFormat":"PIXEL_FORMAT_GRAY8","maxResults":1}`))
		if got := res.Header.Get(service.IgnoredFieldsHeader); got != "maxResults" {
			t.Errorf("%q", got)
		}
	})
	t.Run("streams", func(t *testing.T) {
		// A stream has no header for each message, but the log lists the fields.
		for path, body := range map[string]string{
			"Batch":  `{"images":[{"rawdata":"AAAA"},{"rawdata":"AAAA","options":{"x":1}}],"options":{}}`,
			"Stream": `{"rawdata":"AAAA","options":{"x":1}}`,
		} {
			log.take()
			res, out := send(t, h2Client(t), server+predictPath+path, map[string]string{"Content-Type": "application/connect+json"}, enveloped(0, []byte(body)))
			want := map[string]string{"Batch": `fields="images[].rawdata, images[].options.x, options"`, "Stream": `fields="rawdata, options.x"`}[path]
			if logged := log.take(); !strings.Contains(logged, want) {
				t.Errorf("%s: %s, %.200s; log: %s", path, res.Status, out, logged)
			}
		}
	})
	t.Run("binary", func(t *testing.T) {
		// A client cannot forge the list by an unknown field in a binary message.
		forged := append([]byte{0xc2, 0xa3, 0x09, 5}, "f\r\nor"...) // number 19000
		res, out := send(t, httpClient(t), server+predictPath, map[string]string{"Content-Type": "application/proto"}, forged)
		if got, there := res.Header[service.IgnoredFieldsHeader]; there || res.StatusCode != http.StatusBadRequest || readError(t, out).Message != "empty image" {
			t.Errorf("%s, %q: %s", res.Status, got, out)
		}
	})
	t.Run("old JSON", func(t *testing.T) {
		for body, want := range map[string]string{
			`{"img_id":"a","img_b64":"` + b64 + `"}`:                                    "",
			`{"img_id":"a","image_id":"b","img_b64":"` + b64 + `","IMG_ID":7}`:          "image_id, IMG_ID",
			`{"img_id":"a","img_base64":"` + b64 + `"}`:                                 "img_base64",
			`{"rawData":"` + b64 + `","options":{"minConfidence":0.5}}`:                 "rawData, options",
			`{"\u0069mg_id":"a","img_b64":"` + b64 + `","img_id ":{"img_b64":"a b c"}}`: "img_id%20",
		} {
			log.take()
			res, out := send(t, httpClient(t), server+"/predict", map[string]string{"Content-Type": "application/json"}, []byte(body))
			if got, there := res.Header[service.IgnoredFieldsHeader]; there != (want != "") || strings.Join(got, "|") != want {
				t.Errorf("%.30s: %s, %q, want %q", body, res.Status, got, want)
			}
			var p predicted
			if err := json.Unmarshal(out, &p); err != nil {
				t.Errorf("%s", out)
			}
			if logged := log.take(); strings.Contains(logged, "unknown fields are ignored") != (want != "") || !strings.Contains(logged, want) {
				t.Errorf("log: %.500s", logged)
			}
		}
	})
}
