package service_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	inferenceconnect "github.com/mienproject/mien/gen/inference/inferenceconnect"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// An upload is a request whose body is sent slowly.
type upload struct {
	url, contentType string
	header           map[string]string
	body             []byte
	// first is the number of bytes sent at once. After that, each bytes are sent every
	// 50 ms, or none if each is 0.
	first, each int
	// undeclared leaves out the Content-Length.
	undeclared bool
}

// do sends the request, and returns what was answered before ctx ended.
func (u upload) do(ctx context.Context, t *testing.T, client *http.Client) (status int, text string) {
	t.Helper()
	r, w := io.Pipe()
	var writer sync.WaitGroup
	defer writer.Wait()
	defer r.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	writer.Go(func() {
		_, err := w.Write(u.body[:u.first])
		for rest := u.body[u.first:]; err == nil && len(rest) > 0; {
			select {
			case <-time.After(50 * time.Millisecond):
				n := min(len(rest), u.each)
				_, err = w.Write(rest[:n])
				rest = rest[n:]
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		_ = w.CloseWithError(err)
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.ContentLength = int64(len(u.body))
	if u.undeclared {
		req.ContentLength = -1
	}
	req.Header.Set("Content-Type", u.contentType)
	req.Header.Set("Te", "trailers")
	for key, value := range u.header {
		req.Header.Set(key, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(answer) + res.Trailer.Get("Grpc-Message") + res.Header.Get("Grpc-Message")
}

// TestUploadsOfBatchesLeaveRoom checks that batches being uploaded, none of them
// slowly, leave half of the requests and half of the bytes to unary requests.
func TestUploadsOfBatchesLeaveRoom(t *testing.T) {
	large := gray(1)
	large.ImageId = strings.Repeat("x", 60_000)
	for _, c := range []struct {
		name   string
		first  int
		limits func(*service.Config)
		max    int // batches at the same time
	}{
		{"bytes", 200_000, func(c *service.Config) { c.MaxBodyBytes = 1_000_000 }, 10},
		{"requests", 1000, func(c *service.Config) { c.MaxRequests = 8 }, 4},
	} {
		for _, door := range []struct {
			contentType, path string
			undeclared        bool
		}{
			{"application/grpc", inferencev1connect.InferencePredictBatchProcedure, false},
			{"application/connect+json", inferencev1connect.InferencePredictBatchProcedure, false},
			{"application/grpc", inferenceconnect.GRPCInferenceServiceModelInferProcedure, false},
			{"application/grpc", inferenceconnect.GRPCInferenceServiceModelInferProcedure, true},
			{"", "/v2/models/stub/infer", false},
			{"", "/v2/models/stub/infer", true},
		} {
			if c.first < 100_000 && door.path != inferencev1connect.InferencePredictBatchProcedure {
				continue // a small message may be one image
			}
			t.Run(fmt.Sprint(c.name, "/", door), func(t *testing.T) {
				svc, url := start(t, stub{}, func(config *service.Config) {
					config.MaxImageBytes, config.MaxBatchBytes = 30_000, 150_000
					c.limits(config)
				})
				batch := upload{
					url: url + door.path, contentType: door.contentType, undeclared: door.undeclared,
					body: prefixed(0, 260_000, 260_000), first: c.first, each: 1100,
				}
				ctx, cancel := context.WithCancel(t.Context())
				var batches sync.WaitGroup
				refused := make(chan string, 10)
				for range 10 {
					batches.Go(func() {
						if _, text := batch.do(ctx, t, http2Client(t)); ctx.Err() == nil {
							refused <- text
						}
					})
				}
				eventually(t, "a batch is refused", func() bool { return len(refused) > 0 })
				// Undeclared ones count as streams only later.
				eventually(t, "batches count as streams", func() bool { return svc.Stats().Streams > 0 })
				if s := svc.Stats(); s.Streams > c.max {
					t.Errorf("%d batches count as streams", s.Streams)
				}
				for range 3 {
					for protocol, client := range clients(t, url) {
						if _, err := client.Predict(t.Context(), large); err != nil {
							t.Errorf("%s: %v; %+v", protocol, err, svc.Stats())
						}
					}
				}
				cancel()
				batches.Wait()
				if text := <-refused; !strings.Contains(text, "overloaded") {
					t.Errorf("a batch that is too many is told: %s", text)
				}
				idle(t, svc)
			})
		}
	}
}

// doors are all endpoints for one image.
var doors = []struct {
	name, path, contentType string
	body                    func(*testing.T) []byte
	// deadline sets the client's deadline to one second; it is nil if the protocol has
	// no deadline.
	deadline map[string]string
}{
	{
		name: "JSON", path: inferencev1connect.InferencePredictProcedure, contentType: "application/json",
		body: func(t *testing.T) []byte {
			return []byte(`{"rawData": "` + base64.StdEncoding.EncodeToString(sample(t)) + `"}`)
		},
		deadline: map[string]string{"Connect-Timeout-Ms": "1000"},
	},
	{
		name: "Connect", path: inferencev1connect.InferencePredictProcedure, contentType: "application/proto",
		body:     func(t *testing.T) []byte { return marshal(t, &inferencev1.Image{RawData: sample(t)}) },
		deadline: map[string]string{"Connect-Timeout-Ms": "1000"},
	},
	{
		name: "gRPC", path: inferencev1connect.InferencePredictProcedure, contentType: "application/grpc",
		body:     func(t *testing.T) []byte { return message(0, marshal(t, &inferencev1.Image{RawData: sample(t)})) },
		deadline: map[string]string{"Grpc-Timeout": "1S"},
	},
	{
		name: "gRPC-Web", path: inferencev1connect.InferencePredictProcedure, contentType: "application/grpc-web",
		body:     func(t *testing.T) []byte { return message(0, marshal(t, &inferencev1.Image{RawData: sample(t)})) },
		deadline: map[string]string{"Grpc-Timeout": "1S"},
	},
	{
		name: "old procedure", path: "/Inference/Predict", contentType: "application/grpc",
		body:     func(t *testing.T) []byte { return message(0, marshal(t, &inferencev1.Image{RawData: sample(t)})) },
		deadline: map[string]string{"Grpc-Timeout": "1S"},
	},
	{
		name: "batch in gRPC", path: inferencev1connect.InferencePredictBatchProcedure, contentType: "application/grpc",
		body: func(t *testing.T) []byte {
			return message(0, marshal(t, &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{{RawData: sample(t)}}}))
		},
		deadline: map[string]string{"Grpc-Timeout": "1S"},
	},
	{
		name: "batch in Connect", path: inferencev1connect.InferencePredictBatchProcedure, contentType: "application/connect+json",
		body: func(t *testing.T) []byte {
			return message(0, []byte(`{"images": [{"rawData": "`+base64.StdEncoding.EncodeToString(sample(t))+`"}]}`))
		},
		deadline: map[string]string{"Connect-Timeout-Ms": "1000"},
	},
	{
		name: "ModelInfer", path: inferenceconnect.GRPCInferenceServiceModelInferProcedure, contentType: "application/grpc",
		body: func(t *testing.T) []byte {
			return message(0, marshal(t, openCall{images: [][]byte{sample(t)}}.message(true)))
		},
		deadline: map[string]string{"Grpc-Timeout": "1S"},
	},
	{
		name: "infer", path: "/v2/models/stub/infer",
		body: func(t *testing.T) []byte {
			body, _ := openCall{images: [][]byte{sample(t)}}.body(t, false)
			return body
		},
	},
	{
		name: "predict", path: "/predict", contentType: "image/jpeg",
		body: sample,
	},
	{
		name: "old JSON", path: "/predict", contentType: "application/json",
		body: func(t *testing.T) []byte {
			return []byte(`{"img_id": "1", "img_b64": "` + base64.StdEncoding.EncodeToString(sample(t)) + `"}`)
		},
	},
}

// TestUploadsAndDeadlines checks that at every endpoint the client's deadline begins
// with the request, so that it includes the upload, and that the server's own limits
// begin when the request has been read.
func TestUploadsAndDeadlines(t *testing.T) {
	for _, door := range doors {
		t.Run(door.name, func(t *testing.T) {
			t.Parallel() // they wait
			svc, url := start(t, stub{}, func(c *service.Config) { c.DefaultTimeout, c.Timeout = time.Second, time.Second })
			body := door.body(t)
			slowly := upload{url: url + door.path, contentType: door.contentType, body: body, each: 1 + len(body)/50} // 2.5 s
			status, text := slowly.do(t.Context(), t, http2Client(t))
			if status != http.StatusOK || !strings.Contains(text, "results") && !strings.Contains(text, "stub") {
				t.Errorf("without a deadline: %d %q", status, text)
			}
			if door.deadline == nil {
				return
			}
			slowly.header = door.deadline
			for _, each := range []int{slowly.each, 0} { // the second one stalls
				slowly.each = each
				began := time.Now()
				_, text = slowly.do(t.Context(), t, http2Client(t))
				if took := time.Since(began); took < 900*time.Millisecond || took > 2400*time.Millisecond {
					t.Errorf("with a deadline of 1 s, it ended after %v", took)
				}
				if !strings.Contains(text, "deadline") {
					t.Errorf("with a deadline of 1 s: %q", text)
				}
			}
			idle(t, svc)
		})
	}
}

// TestStalledUploads checks that a client whose body stalls gets an error that says so,
// and not one about a deadline that it did not set.
func TestStalledUploads(t *testing.T) {
	var (
		seen calls
		all  sync.WaitGroup
	)
	svc, url := start(t, stub{}, func(c *service.Config) { c.Observe = seen.observe })
	clients := map[string]*http.Client{"HTTP/1.1": httpClient(t), "HTTP/2": http2Client(t)}
	for _, door := range append(doors, struct {
		name, path, contentType string
		body                    func(*testing.T) []byte
		deadline                map[string]string
	}{
		name: "stream", path: inferencev1connect.InferencePredictStreamProcedure, contentType: "application/grpc",
		body: func(t *testing.T) []byte { return message(0, marshal(t, gray(1))) },
	}) {
		body := door.body(t)
		for version, client := range clients {
			if door.contentType == "application/grpc" && version == "HTTP/1.1" {
				continue
			}
			all.Go(func() {
				_, text := upload{url: url + door.path, contentType: door.contentType, body: body, first: len(body) / 2}.do(t.Context(), t, client)
				if !strings.Contains(text, "no byte of the request body was received for 20s") || strings.Contains(text, "deadline passed") {
					t.Errorf("%s, %s: %q", door.name, version, text)
				}
			})
		}
	}
	all.Wait()
	seen.mu.Lock()
	for _, c := range seen.calls {
		if c.Reason != "DEADLINE" {
			t.Errorf("%+v", c)
		}
	}
	seen.mu.Unlock()
	idle(t, svc)
}

// TestUploadsTooSlow checks that the error after the server's own time for a request
// says so, and how many bytes were received.
func TestUploadsTooSlow(t *testing.T) {
	svc, _ := start(t, stub{}, nil)
	url := serveWithin(t, svc, time.Second)
	for _, door := range doors {
		body := door.body(t)
		slowly := upload{url: url + door.path, contentType: door.contentType, body: body, each: 1 + len(body)/50} // 2.5 s
		for version, client := range map[string]*http.Client{"HTTP/1.1": httpClient(t), "HTTP/2": http2Client(t)} {
			if door.contentType == "application/grpc" && version == "HTTP/1.1" {
				continue
			}
			t.Run(door.name+" "+version, func(t *testing.T) {
				t.Parallel() // they wait
				_, text := slowly.do(t.Context(), t, client)
				if !strings.Contains(text, "the request body was received too slowly: ") || !strings.Contains(text, "bytes in 1s") {
					t.Errorf("%q", text)
				}
			})
		}
	}
}
