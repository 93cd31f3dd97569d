package service_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"google.golang.org/protobuf/proto"
)

const predictPath = "/inference.v1.Inference/Predict"

// gzipped compresses data.
func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// h2Client speaks HTTP/2 in cleartext, as gRPC clients do.
func h2Client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send posts a request, and returns the answer with all of its body, so that the
// trailers can be read.
func send(t *testing.T, client *http.Client, url string, header map[string]string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := client.Do(req)
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

// enveloped adds the prefix of gRPC and Connect's streams to a message.
func enveloped(flags byte, message []byte) []byte {
	n := len(message)
	return append([]byte{flags, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, message...)
}

// TestUnknownEncodings checks that a request with an unknown compression is rejected as
// UNIMPLEMENTED, and that no answer has an empty encoding, which makes gRPC clients
// report INTERNAL.
func TestUnknownEncodings(t *testing.T) {
	_, url := start(t, one, nil)
	image, err := proto.Marshal(&inferencev1.Image{RawData: sample(t)})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := proto.Marshal(&inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{{RawData: sample(t)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, contentType, header string
		body                            []byte
	}{
		{"gRPC", predictPath, "application/grpc", "Grpc-Encoding", enveloped(1, image)},
		{"gRPC, old name", "/Inference/Predict", "application/grpc", "Grpc-Encoding", enveloped(1, image)},
		{"gRPC batch", predictPath + "Batch", "application/grpc+proto", "Grpc-Encoding", enveloped(1, batch)},
		{"gRPC stream", predictPath + "Stream", "application/grpc", "Grpc-Encoding", enveloped(1, image)},
		{"gRPC-Web", predictPath, "application/grpc-web+proto", "Grpc-Encoding", enveloped(1, image)},
		{"gRPC-Web batch", predictPath + "Batch", "application/grpc-web+proto", "Grpc-Encoding", enveloped(1, batch)},
		{"Connect", predictPath, "application/proto", "Content-Encoding", image},
		{"Connect batch", predictPath + "Batch", "application/connect+proto", "Connect-Content-Encoding", enveloped(1, batch)},
		{"Connect stream", predictPath + "Stream", "application/connect+proto", "Connect-Content-Encoding", enveloped(1, image)},
	} {
		for _, encoding := range []string{"deflate", "br", "zstd", "gzip, gzip"} {
			t.Run(c.name+"/"+encoding, func(t *testing.T) {
				res, out := send(t, h2Client(t), url+c.path, map[string]string{"Content-Type": c.contentType, c.header: encoding, "Te": "trailers"}, c.body)
				for _, header := range []http.Header{res.Header, res.Trailer} {
					for key, values := range header {
						if strings.Contains(key, "Encoding") && (len(values) != 1 || values[0] != "gzip") {
							t.Errorf("%s is %q", key, values)
						}
					}
				}
				told := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status") + " " + res.Header.Get("Grpc-Message") + res.Trailer.Get("Grpc-Message")
				want := "12 unknown compression"
				if strings.HasPrefix(c.name, "Connect") {
					told, want = string(out), `{"code":"unimplemented","message":"unknown compression`
				}
				if !strings.Contains(told, want) || !strings.Contains(told, encoding) || !strings.Contains(told, "gzip") {
					t.Errorf("%s, %v, %v: %q; want %q", res.Status, res.Header, res.Trailer, out, want)
				}
			})
		}
	}
}

// TestGzipByAnyName checks that the case of content codings does not matter, and that
// x-gzip means gzip (RFC 9110, section 8.4.1).
func TestGzipByAnyName(t *testing.T) {
	_, server := start(t, one, nil)
	message := &inferencev1.Image{RawData: sample(t), ImageId: "compressed"}
	binary, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	packed := gzipped(t, binary)
	answered := func(t *testing.T, res *http.Response, out []byte) {
		t.Helper()
		if res.StatusCode != http.StatusOK || !bytes.Contains(out, []byte("compressed")) {
			t.Errorf("%s, %v: %q", res.Status, res.Trailer, out)
		}
	}
	for _, name := range []string{"gzip", "GZIP", "Gzip", "x-gzip", "X-GZip", " gzip "} {
		t.Run(name, func(t *testing.T) {
			client := h2Client(t)
			res, out := send(t, client, server+predictPath, map[string]string{"Content-Type": "application/proto", "Content-Encoding": name}, packed)
			answered(t, res, out)
			res, out = send(t, client, server+predictPath, map[string]string{"Content-Type": "application/grpc", "Grpc-Encoding": name, "Te": "trailers"}, enveloped(1, packed))
			answered(t, res, out)
			res, out = send(t, client, server+predictPath+"Stream", map[string]string{"Content-Type": "application/connect+proto", "Connect-Content-Encoding": name}, enveloped(1, packed))
			answered(t, res, out)
			small := gzipped(t, []byte(`{"rawData":"AAAAAA==","width":2,"height":2,"pixelFormat":"PIXEL_FORMAT_GRAY8","imageId":"compressed"}`))
			res, out = fetch(t, server+predictPath+"?connect=v1&encoding=json&base64=1&message="+base64.RawURLEncoding.EncodeToString(small)+"&compression="+url.QueryEscape(name))
			answered(t, res, out)
		})
	}
	t.Run("Identity", func(t *testing.T) {
		res, out := send(t, h2Client(t), server+predictPath, map[string]string{"Content-Type": "application/proto", "Content-Encoding": "Identity"}, binary)
		answered(t, res, out)
	})
}

func fetch(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := httpClient(t).Do(req)
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

// TestWrongDoor checks that a request which no procedure can answer gets a text that
// says what to send.
func TestWrongDoor(t *testing.T) {
	_, url := start(t, one, nil)
	t.Run("gRPC-Web as text", func(t *testing.T) {
		for _, contentType := range []string{"application/grpc-web-text", "application/grpc-web-text+proto"} {
			res, out := send(t, httpClient(t), url+predictPath, map[string]string{"Content-Type": contentType}, []byte(base64.StdEncoding.EncodeToString(enveloped(0, nil))))
			if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != contentType || len(out) != 0 ||
				res.Header.Get("Grpc-Status") != "12" || !strings.Contains(res.Header.Get("Grpc-Message"), "mode=grpcweb") {
				t.Errorf("%s, %v: %q", res.Status, res.Header, out)
			}
		}
	})
	t.Run("stream over HTTP/1.1", func(t *testing.T) {
		for contentType, status := range map[string]int{
			"application/connect+proto": 200, "application/connect+json": 200, "application/grpc-web+proto": 200, "application/grpc": 200,
			"application/json": 505, "image/jpeg": 505, "": 505,
		} {
			res, out := send(t, httpClient(t), url+predictPath+"Stream", map[string]string{"Content-Type": contentType}, enveloped(0, nil))
			told := string(out) + res.Header.Get("Grpc-Message") + res.Trailer.Get("Grpc-Message")
			if res.StatusCode != status || !res.Close || !strings.Contains(told, "PredictStream needs HTTP/2") || !strings.Contains(told, "PredictBatch") {
				t.Errorf("%q: %s, closed %v, %v, %v: %q", contentType, res.Status, res.Close, res.Header, res.Trailer, out)
			}
			if code := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status"); strings.HasPrefix(contentType, "application/grpc") != (code == "12") {
				t.Errorf("%q: gRPC's status is %q", contentType, code)
			}
			if strings.HasPrefix(contentType, "application/connect+") && !strings.Contains(told, `"code":"unimplemented"`) {
				t.Errorf("%q: %q", contentType, out)
			}
		}
	})
	t.Run("content type", func(t *testing.T) {
		for _, contentType := range []string{"image/jpeg", "application/x-www-form-urlencoded", "", "text/plain"} {
			res, out := send(t, httpClient(t), url+predictPath, map[string]string{"Content-Type": contentType}, []byte(`{}`))
			if res.StatusCode != http.StatusUnsupportedMediaType || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" ||
				!strings.Contains(string(out), "application/json") || !strings.Contains(string(out), "/predict") || (contentType != "" && !strings.Contains(string(out), contentType)) {
				t.Errorf("%q: %s, %v: %q", contentType, res.Status, res.Header, out)
			}
		}
		for _, procedure := range []string{"Stream", "Batch"} {
			res, out := send(t, h2Client(t), url+predictPath+procedure, map[string]string{"Content-Type": "application/json"}, []byte(`{}`))
			if res.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(string(out), "application/connect+json") || strings.Contains(string(out), "--json") {
				t.Errorf("%s: %s: %q", procedure, res.Status, out)
			}
		}
		res, out := fetch(t, url+predictPath)
		if res.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(string(out), "encoding=json") {
			t.Errorf("GET: %s: %q", res.Status, out)
		}
	})
	t.Run("message of GET", func(t *testing.T) {
		for _, message := range []string{"%7B%7D", "a", "*"} {
			for _, procedure := range []string{predictPath, inferencev1connect.InferenceListModelsProcedure} {
				res, out := fetch(t, url+procedure+"?connect=v1&encoding=json&base64=1&message="+message)
				if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(out), `"invalid_argument"`) || !strings.Contains(string(out), "is not base64 for URLs") {
					t.Errorf("%s of %s: %s: %q", message, procedure, res.Status, out)
				}
			}
		}
	})
}

// jsonError is an error in the JSON of Connect.
type jsonError struct{ Code, Message string }

func readError(t *testing.T, out []byte) (e jsonError) {
	t.Helper()
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatalf("%v: %.200s", err, out)
	}
	return e
}
