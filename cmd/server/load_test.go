package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// TestHostileClients attacks the server in many ways at the same time, and checks that
// an ordinary client still gets its answers.
func TestHostileClients(t *testing.T) {
	const inflight = 64 << 20
	s := start(t, append(patient, "--max-inflight-bytes", "64MiB", "--max-body-bytes", "128MiB", "--queue", "64", "--workers", "2")...)
	addr := strings.TrimPrefix(s.url, "http://")
	sample := readFile(t, samplePath)
	ctx, cancel := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	defer attackers.Wait()
	defer cancel()
	var reached [6]atomic.Int32 // how often each kind of attack reached the server
	attack := func(kind, n int, what func() bool) {
		for range n {
			attackers.Go(func() {
				for ctx.Err() == nil {
					if what() {
						reached[kind].Add(1)
					}
					time.Sleep(20 * time.Millisecond) // many clients, but not a whole core of work
				}
			})
		}
	}
	// dial sends the beginning of a request, and keeps the connection open for a while.
	dial := func(begin string) bool {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = io.WriteString(conn, begin)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return err == nil
	}
	// Slow bodies: the header and a little of the body.
	attack(0, 30, func() bool {
		return dial("POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000\r\n\r\nlittle")
	})
	// Half-open connections, of either version of HTTP.
	attack(1, 30, func() bool { return dial("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") || dial("POST /pre") })
	// Headers that are too large.
	h1 := httpClient(t, 1, nil)
	post := func(contentType, encoding string, body []byte, header string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+inferencev1connect.InferencePredictProcedure, bytes.NewReader(body))
		if err != nil {
			return 0
		}
		req.Header.Set("Content-Type", contentType)
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		if header != "" {
			req.Header.Set("X-Large", header)
		}
		res, err := h1.Do(req)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode
	}
	large := strings.Repeat("x", 200<<10)
	attack(2, 2, func() bool {
		return post("application/json", "", []byte("{}"), large) == http.StatusRequestHeaderFieldsTooLarge
	})
	// Gzip bombs, of 100 MB each.
	bomb := gzipped(t, 100<<20)
	bombers, asks := 10, 5
	if raceDetector {
		bombers, asks = 1, 2 // with the race detector, more would take all CPU time
	}
	attack(3, bombers, func() bool {
		status := post("application/json", "gzip", bomb, "")
		return status == 429 || status == 503
	})
	// Small files with images of 64 megapixels, more than fit into memory.
	client := inferencev1connect.NewInferenceClient(httpClient(t, 2, nil), s.url, connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
	reason := func(data []byte) string {
		_, err := client.Predict(ctx, &inferencev1.Image{RawData: data})
		if err == nil || ctx.Err() != nil {
			return ""
		}
		_, reason := reasonOf(t, err)
		return reason
	}
	attack(4, 10, func() bool {
		r := reason(hugePNG(8000))
		return r == "TOO_MANY_PIXELS" || r == "CORRUPT_IMAGE" || r == "OVERLOADED"
	})
	// Clients that do not read their answers, on streams with long answers.
	attack(5, 5, func() bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		stream, err := client.PredictStream(ctx)
		if err != nil {
			return false
		}
		sent := make(chan int)
		go func() {
			n := 0
			for stream.Send(&inferencev1.Image{ImageId: strings.Repeat("x", 50_000)}) == nil {
				n++
			}
			sent <- n
		}()
		<-ctx.Done()
		_ = stream.CloseResponse()
		return <-sent > 0
	})

	asked := 0
	var most uint64
	honest := httpClient(t, 2, nil)
	for began := time.Now(); time.Since(began) < 5*time.Second || asked < asks; asked++ {
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("an honest client was answered %d times in three minutes", asked)
		}
		for _, opts := range [][]connect.ClientOption{{connect.WithGRPC()}, {connect.WithProtoJSON()}} {
			res, err := inferencev1connect.NewInferenceClient(honest, s.url, opts...).Predict(t.Context(), &inferencev1.Image{RawData: sample})
			if err != nil || len(res.GetResults()) != 1 {
				t.Fatalf("an honest client: %v, %v", res, err)
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	cancel()
	attackers.Wait()
	t.Logf("%d times answered; at most %d MiB in use, of attackers too", asked, most>>20)
	for kind := range reached {
		if reached[kind].Load() == 0 {
			t.Errorf("attack %d never got anywhere", kind)
		}
	}
	// Garbage counts as in use until it is collected, and the attackers in this process
	// use memory too.
	if most > 4*(inflight+128<<20) {
		t.Errorf("%d MiB were in use", most>>20)
	}
	_, log := s.stop()
	for _, reason := range []string{"TOO_MANY_BYTES", "CANCELED"} {
		if !strings.Contains(log, reason) {
			t.Errorf("%s is not in the log", reason)
		}
	}
}

// gzipped returns n spaces, compressed.
func gzipped(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.CopyN(w, endless{}, int64(n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestConnectionAge checks that old connections are replaced, and that unary requests
// and streams on them are not harmed.
func TestConnectionAge(t *testing.T) {
	s := start(t, append(patient, "--max-connection-age", "300ms")...)
	gray := &inferencev1.Image{RawData: make([]byte, 64*64), Width: 64, Height: 64, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	for version, opt := range map[int]connect.ClientOption{1: connect.WithProtoJSON(), 2: connect.WithGRPC()} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			client := inferencev1connect.NewInferenceClient(httpClient(t, version, nil), s.url, opt)
			connections := map[string]bool{}
			var mu sync.Mutex
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
				mu.Lock()
				defer mu.Unlock()
				connections[i.Conn.LocalAddr().String()] = true
			}})
			streamed := make(chan error, 1)
			if version == 1 {
				streamed <- nil
			} else {
				stream, err := client.PredictStream(ctx)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					for i := range int32(15) { // much longer than a connection may last
						if err := stream.Send(gray); err != nil {
							streamed <- err
							return
						}
						if res, err := stream.Receive(); err != nil || res.GetIndex() != i {
							streamed <- fmt.Errorf("%v, %w", res, err)
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
					_ = stream.CloseRequest()
					_, err := stream.Receive()
					_ = stream.CloseResponse()
					if errors.Is(err, io.EOF) {
						err = nil
					}
					streamed <- err
				}()
			}
			for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				if _, err := client.Predict(ctx, gray); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				n := len(connections)
				mu.Unlock()
				if n >= 4 {
					break
				}
				if time.Since(began) > 30*time.Second {
					t.Fatalf("%d connections in 30 s", n)
				}
			}
			if err := <-streamed; err != nil {
				t.Errorf("the stream: %v", err)
			}
		})
	}
}

// TestOverloadedConnections checks that a refused call closes its connection once it is a second
// old, and that refused streams and batches do not.
func TestOverloadedConnections(t *testing.T) {
	s := start(t, append(patient, "--max-requests", "1", "--max-connection-age", "1h", "--admin-listen", "127.0.0.1:0")...)
	end := openStream(t, s) // it takes the one place
	t.Cleanup(func() { end(true) })
	gray := &inferencev1.Image{RawData: make([]byte, 64*64), Width: 64, Height: 64, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	predict := func(ctx context.Context, c inferencev1connect.InferenceClient) error {
		_, err := c.Predict(ctx, gray)
		return err
	}
	stream := func(ctx context.Context, c inferencev1connect.InferenceClient) error {
		stream, err := c.PredictStream(ctx)
		if err != nil {
			return err
		}
		_ = stream.CloseRequest() // Receive returns the cause
		_, err = stream.Receive()
		return errors.Join(err, stream.CloseResponse())
	}
	batch := func(ctx context.Context, c inferencev1connect.InferenceClient) error {
		stream, err := c.PredictBatch(ctx, &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{gray}})
		if err != nil {
			return err
		}
		stream.Receive()
		return errors.Join(stream.Err(), stream.Close())
	}
	for _, c := range []struct {
		name    string
		version int
		opts    []connect.ClientOption
		call    func(context.Context, inferencev1connect.InferenceClient) error
		closes  bool
	}{
		{"Connect on HTTP/1", 1, nil, predict, true},
		{"JSON on HTTP/1", 1, []connect.ClientOption{connect.WithProtoJSON()}, predict, true},
		{"gRPC-Web on HTTP/1", 1, []connect.ClientOption{connect.WithGRPCWeb()}, predict, true},
		{"gRPC", 2, []connect.ClientOption{connect.WithGRPC()}, predict, true},
		{"Connect on HTTP/2", 2, nil, predict, true},
		{"stream", 2, []connect.ClientOption{connect.WithGRPC()}, stream, false},
		{"batch", 2, []connect.ClientOption{connect.WithGRPC()}, batch, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := inferencev1connect.NewInferenceClient(httpClient(t, c.version, nil), s.url, c.opts...)
			var connections []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
				connections = append(connections, i.Conn.LocalAddr().String())
			}})
			call := func() string {
				t.Helper()
				if err := c.call(ctx, client); connect.CodeOf(err) != connect.CodeUnavailable {
					t.Fatalf("%v, want an overloaded server", err)
				}
				return connections[len(connections)-1]
			}
			first := call()
			if young := call(); young != first {
				t.Error("a young connection was closed")
			}
			time.Sleep(minAge)
			if old := call(); old != first {
				t.Error("the connection was closed before")
			}
			if after := call(); (after != first) != c.closes {
				t.Errorf("closed: %t, want %t", after != first, c.closes)
			}
		})
	}
}

// TestStalledStreamsDoNotBlock checks that streams whose clients read no answers do not
// block other requests on the same connection. With Go's default buffers for a
// connection or a stream, they would fill all of its buffer.
func TestStalledStreamsDoNotBlock(t *testing.T) {
	s := start(t, append(patient, "--workers", "2")...)
	h2 := httpClient(t, 2, nil)
	// A few answers fill this window.
	h2.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	// Compressed answers would take too long to fill the window.
	client := inferencev1connect.NewInferenceClient(h2, s.url, connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
	ctx, cancel := context.WithCancel(t.Context())
	// Otherwise each of the first requests would open its own connection.
	if _, err := client.ListModels(ctx, &inferencev1.ListModelsRequest{}); err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	var stalled atomic.Int32
	const many = 40
	for range many {
		stream, err := client.PredictStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var sent atomic.Int64
		streams.Go(func() {
			// While the answers wait, the server must read less than the buffer holds,
			// because Go reports what has been read only after the answers are sent.
			for stream.Send(&inferencev1.Image{ImageId: strings.Repeat("x", 20_000)}) == nil {
				sent.Add(1)
			}
		})
		streams.Go(func() {
			for last := int64(-1); last != sent.Load() || last == 0; {
				last = sent.Load()
				time.Sleep(300 * time.Millisecond)
			}
			stalled.Add(1)
			<-ctx.Done()
			_ = stream.CloseResponse()
		})
	}
	waitFor(t, "all are stalled", func() bool { return stalled.Load() == many })
	soon, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	res, err := client.Predict(soon, &inferencev1.Image{RawData: make([]byte, 600*600), Width: 600, Height: 600, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8})
	if err != nil || res.GetWidth() != 600 {
		t.Errorf("%v, %v", res, err)
	}
	cancel()
	streams.Wait()
}
