package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/mienproject/mien/face/facetest"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

var soakTime = flag.Duration("soak-time", 36*time.Second, "how long TestSoakAtCapacity keeps a server at capacity")

// soakRounds is the number of measurements of a soak. Between them, the server is at
// capacity.
const soakRounds = 12

// TestSoakAtCapacity keeps a server with three models at capacity, by callers that want
// answers, callers that send what must be refused, and callers that leave. It checks that
// each answer is that of the idle server, and that memory, goroutines and descriptors do
// not grow from round to round.
func TestSoakAtCapacity(t *testing.T) {
	if raceDetector || testing.Short() {
		t.Skip("takes half a minute: make soak-test runs it")
	}
	_, models := onnxShelf(t)
	file, secrets := keysFile(t, "acme")
	p := startProcess(t, "--model", mtcnnName, "--model", pigoName, "--model", "yunet="+filepath.Join(models, "yunet_n_dynamic.onnx"),
		"--auth-keys", file, "--admin-listen", "127.0.0.1:0")
	s := &soaker{url: p.url, key: secrets[0], sample: readFile(t, samplePath), bomb: gzipped(t, 100<<20)}
	s.ask(t)

	var rounds []footprint
	for i := range soakRounds {
		ctx, cancel := context.WithTimeout(t.Context(), *soakTime/soakRounds)
		resident := watchResident(ctx, t, p)
		s.round(ctx, t)
		cancel()
		f := measureIdle(t, p)
		f.resident = <-resident
		rounds = append(rounds, f)
		t.Logf("round %d, %v: %v; %v", i+1, time.Now().Format(time.TimeOnly), f, s)
		if t.Failed() {
			break
		}
	}
	s.check(t)
	checkFlat(t, rounds)
	s.ask(t) // the idle server still answers as before
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// soaker has the callers of a soak.
type soaker struct {
	url, key string
	// sample is a valid image, and bomb 100 MB that are small with gzip.
	sample, bomb []byte
	// calls have the answers of the idle server.
	calls []*soakCall

	good, overloaded, bad, left atomic.Int64
	// reached counts the calls of each bad caller that were refused as they must be.
	reached [6]atomic.Int64
}

// soakCall is a call and its answer.
type soakCall struct {
	image  *inferencev1.Image
	answer *inferencev1.InferResults
	// text is the answer of /predict.
	text string
}

func (s *soaker) String() string {
	return fmt.Sprintf("%d good answers, %d overloaded; %d bad calls were refused; %d callers left", s.good.Load(), s.overloaded.Load(), s.bad.Load(), s.left.Load())
}

// ask asks the idle server for the answer to each call, in each protocol. They must be
// equal, and those of before, if there were any.
func (s *soaker) ask(t *testing.T) {
	t.Helper()
	if s.calls == nil {
		for _, subset := range []string{"wider_val_416", "lfw_5pt", "negatives"} {
			photos := facetest.Subset(t, subset)
			for i := range 5 {
				data := readFile(t, photos[i*len(photos)/5].Path)
				for _, model := range []string{mtcnnName, pigoName, "yunet"} {
					s.calls = append(s.calls, &soakCall{image: &inferencev1.Image{RawData: data, Options: &inferencev1.DetectOptions{Model: model}}})
				}
			}
		}
	}
	faces := 0
	protocols, closeIdle := s.protocols()
	defer closeIdle()
	for _, c := range s.calls {
		for name, client := range protocols {
			res, err := client.Predict(t.Context(), c.image)
			if err != nil {
				t.Fatalf("the idle server: %s: %v", name, err)
			}
			if c.answer == nil {
				c.answer = answerOf(res)
			}
			if !proto.Equal(c.answer, answerOf(res)) {
				t.Fatalf("the idle server: %s: %v, want %v", name, res, c.answer)
			}
		}
		faces += len(c.answer.GetResults())
		text, err := s.predict(t.Context(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, c)
		if err != nil || (c.text != "" && c.text != text) {
			t.Fatalf("the idle server: /predict: %s, %v, want %s", text, err, c.text)
		}
		c.text = text
	}
	if faces < len(s.calls) {
		t.Fatalf("only %d faces in %d images", faces, len(s.calls))
	}
}

// answerOf returns what is the same in each answer to an image.
func answerOf(res *inferencev1.InferResults) *inferencev1.InferResults {
	res = proto.CloneOf(res)
	res.MetaData, res.Timing, res.Index = nil, nil, nil
	return res
}

// protocols returns clients with a key, on connections of their own.
func (s *soaker) protocols() (clients map[string]inferencev1connect.InferenceClient, closeIdle func()) {
	h1, h2 := &http.Transport{Protocols: new(http.Protocols)}, &http.Transport{Protocols: new(http.Protocols)}
	h1.Protocols.SetHTTP1(true)
	h2.Protocols.SetUnencryptedHTTP2(true)
	key := http.Header{"X-Api-Key": {s.key}}
	one, two := withHeaders(&http.Client{Transport: h1}, key), withHeaders(&http.Client{Transport: h2}, key)
	clients = map[string]inferencev1connect.InferenceClient{
		"grpc":     inferencev1connect.NewInferenceClient(two, s.url, connect.WithGRPC()),
		"grpc-web": inferencev1connect.NewInferenceClient(one, s.url, connect.WithGRPCWeb()),
		"json":     inferencev1connect.NewInferenceClient(one, s.url, connect.WithProtoJSON()),
	}
	return clients, func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
	}
}

// predict calls /predict.
func (s *soaker) predict(ctx context.Context, client *http.Client, c *soakCall) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/predict?model="+c.image.GetOptions().GetModel(), bytes.NewReader(c.image.GetRawData()))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Api-Key", s.key)
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if why := res.Header.Get(service.ReasonHeader); err == nil && why != "" {
		err = errors.New(why)
	}
	return string(text), err
}

// round runs all callers until ctx ends, and waits for their last answers.
func (s *soaker) round(ctx context.Context, t *testing.T) {
	protocols, closeIdle := s.protocols()
	defer closeIdle()
	h1 := &http.Client{Transport: &http.Transport{}}
	defer h1.CloseIdleConnections()
	var callers sync.WaitGroup
	until := func(pause time.Duration, call func()) {
		callers.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				call()
				time.Sleep(pause)
			}
		})
	}
	// Four good callers at a time, and those below, keep two workers busy.
	for _, client := range protocols {
		until(0, func() {
			c := s.any()
			res, err := client.Predict(t.Context(), c.image)
			s.answered(t, c, res, err)
		})
	}
	until(0, func() {
		c := s.any()
		text, err := s.predict(t.Context(), h1, c)
		if s.answered(t, c, c.answer, err) && text != c.text {
			t.Errorf("/predict: %s, want %s", text, c.text)
		}
	})
	until(100*time.Millisecond, func() { s.stream(t, protocols["grpc"]) })
	until(100*time.Millisecond, func() { s.batch(t, protocols["grpc-web"]) })
	for i, call := range s.badCalls(t, protocols["grpc"], h1) {
		until(50*time.Millisecond, func() {
			s.bad.Add(1)
			if call() {
				s.reached[i].Add(1)
			}
		})
	}
	for _, leave := range s.leavers(t, protocols) {
		until(20*time.Millisecond, func() {
			leave(time.Duration(rand.IntN(100)) * time.Millisecond)
			s.left.Add(1)
		})
	}
	callers.Wait()
}

func (s *soaker) any() *soakCall { return s.calls[rand.IntN(len(s.calls))] }

// answered compares an answer with that of the idle server. It reports whether it is an
// answer.
func (s *soaker) answered(t *testing.T, c *soakCall, res *inferencev1.InferResults, err error) bool {
	switch {
	case err == nil && !proto.Equal(answerOf(res), c.answer):
		t.Errorf("%v, want %v", res, c.answer)
	case err == nil:
		s.good.Add(1)
		return true
	case err.Error() == "OVERLOADED", connect.CodeOf(err) == connect.CodeResourceExhausted:
		s.overloaded.Add(1)
	default:
		t.Errorf("a good call: %v", err)
	}
	return false
}

// stream sends a few images through a stream.
func (s *soaker) stream(t *testing.T, client inferencev1connect.InferenceClient) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := client.PredictStream(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	var calls []*soakCall
	for range 5 {
		calls = append(calls, s.any())
	}
	go func() {
		for _, c := range calls {
			_ = stream.Send(c.image) // the error comes from Receive
		}
		_ = stream.CloseRequest()
	}()
	for _, c := range calls {
		res, err := stream.Receive()
		s.answered(t, c, res, err)
	}
}

// batch sends a few images in a batch.
func (s *soaker) batch(t *testing.T, client inferencev1connect.InferenceClient) {
	var calls []*soakCall
	req := &inferencev1.PredictBatchRequest{}
	for range 5 {
		c := s.any()
		calls = append(calls, c)
		req.Images = append(req.Images, c.image)
	}
	stream, err := client.PredictBatch(t.Context(), req)
	if err != nil {
		t.Error(err)
		return
	}
	defer stream.Close()
	seen := 0
	for ; stream.Receive(); seen++ {
		s.answered(t, calls[stream.Msg().GetIndex()], stream.Msg(), nil)
	}
	if err := stream.Err(); err != nil || seen != len(calls) {
		t.Errorf("a batch: %d answers, %v", seen, err)
	}
}

// badCalls returns calls that must be refused. They report whether they were refused as
// they must be, rather than for lack of room.
func (s *soaker) badCalls(t *testing.T, client inferencev1connect.InferenceClient, h1 *http.Client) []func() bool {
	image := func(data []byte, reasons ...string) bool {
		_, err := client.Predict(t.Context(), &inferencev1.Image{RawData: data})
		if err == nil {
			t.Errorf("an answer to %.20q", data)
			return false
		}
		_, reason := reasonOf(t, err)
		if slices.Contains(reasons, reason) {
			return true
		}
		if reason != "OVERLOADED" {
			t.Errorf("a bad call: %v", err)
		}
		return false
	}
	post := func(path, contentType, key string, body []byte, want int) bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return false
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("X-Api-Key", key)
		res, err := h1.Do(req)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return false
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode == want && res.Trailer.Get("Grpc-Status") != "0"
	}
	return []func() bool{
		func() bool { return image(s.sample[:100+rand.IntN(5000)], "CORRUPT_IMAGE") },
		func() bool { return image(hugePNG(16_000), "TOO_MANY_PIXELS") },
		func() bool { return post("/predict", "image/jpeg", "mien_wrong", s.sample, http.StatusUnauthorized) },
		func() bool {
			return post(inferencev1connect.InferencePredictProcedure, "application/json", s.key, []byte(`{"rawData": 1}`), http.StatusBadRequest)
		},
		func() bool {
			return post(inferencev1connect.InferencePredictStreamProcedure, "application/grpc", s.key, []byte("\x00\x00\xff"), http.StatusOK) // the status is in the trailer
		},
		func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+inferencev1connect.InferencePredictProcedure, bytes.NewReader(s.bomb))
			if err != nil {
				t.Error(err)
				return false
			}
			req.Header = http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}, "X-Api-Key": {s.key}}
			res, err := h1.Do(req)
			if err != nil {
				t.Errorf("a bomb: %v", err)
				return false
			}
			_ = res.Body.Close()
			return res.StatusCode == http.StatusTooManyRequests
		},
	}
}

// leavers returns callers that leave after a time.
func (s *soaker) leavers(t *testing.T, protocols map[string]inferencev1connect.InferenceClient) []func(time.Duration) {
	unary := func(client inferencev1connect.InferenceClient) func(time.Duration) {
		return func(after time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			_, _ = client.Predict(ctx, s.any().image) // the answer may have been faster
		}
	}
	return []func(time.Duration){
		unary(protocols["grpc"]),
		unary(protocols["json"]),
		func(after time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			stream, err := protocols["grpc"].PredictStream(ctx)
			if err != nil {
				return
			}
			for stream.Send(s.any().image) == nil {
			}
		},
		// A connection that ends in the middle of a body.
		func(after time.Duration) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: %s\r\nContent-Length: 1000000\r\n\r\nbegin", s.key)
			time.Sleep(after)
		},
	}
}

// check checks that all callers got somewhere.
func (s *soaker) check(t *testing.T) {
	t.Helper()
	good, overloaded := s.good.Load(), s.overloaded.Load()
	if good < int64(len(s.calls)) || overloaded > good/20 {
		t.Errorf("%d good answers, and %d were refused for lack of room", good, overloaded)
	}
	for i := range s.reached {
		if s.reached[i].Load() == 0 {
			t.Errorf("bad caller %d was never refused as it must be", i)
		}
	}
	if s.left.Load() == 0 {
		t.Error("nobody left")
	}
}

// A footprint is what a process takes.
type footprint struct {
	// live are bytes that are in use when nobody calls, without garbage, and resident
	// the most bytes in RAM at capacity.
	live, resident          int64
	goroutines, descriptors int
}

func (f footprint) String() string {
	return fmt.Sprintf("%.1f MiB live, %d MiB resident at most, %d goroutines, %d descriptors", float64(f.live)/(1<<20), f.resident>>20, f.goroutines, f.descriptors)
}

// measureIdle waits until a server has answered everything, and measures it.
func measureIdle(t *testing.T, p *process) (f footprint) {
	t.Helper()
	admin := server{admin: p.admin}
	waitFor(t, "no request is left", func() bool { return scrape(t, admin)["mien_inflight_requests"] == 0 })
	// Connections end a moment after their clients have closed them.
	var last footprint
	waitFor(t, "nothing changes any more", func() bool {
		for range 2 { // pools keep their contents for one more collection
			status, _ := get(t, p.admin+"/debug/pprof/heap?gc=1")
			if status != http.StatusOK {
				t.Fatalf("/debug/pprof/heap: %d", status)
			}
		}
		time.Sleep(200 * time.Millisecond)
		m := scrape(t, admin)
		last, f = f, footprint{
			live:       int64(m["go_memstats_heap_alloc_bytes"] + m["go_memstats_stack_inuse_bytes"]),
			goroutines: int(m["go_goroutines"]), descriptors: int(m["process_open_fds"]),
		}
		return f.goroutines == last.goroutines && f.descriptors == last.descriptors
	})
	return f
}

// watchResident returns the most memory in RAM that a server takes until ctx ends.
func watchResident(ctx context.Context, t *testing.T, p *process) <-chan int64 {
	most := make(chan int64, 1)
	go func() {
		n := int64(0)
		for ctx.Err() == nil {
			n = max(n, int64(scrape(t, server{admin: p.admin})["process_resident_memory_bytes"]))
			time.Sleep(min(time.Second, *soakTime/soakRounds/10))
		}
		most <- n
	}()
	return most
}

// checkFlat checks that the last quarter of a soak takes no more than the first one, in
// which pools are filled.
func checkFlat(t *testing.T, rounds []footprint) {
	t.Helper()
	if len(rounds) < soakRounds {
		return // it has failed
	}
	highest := func(rounds []footprint) (f footprint) {
		for _, r := range rounds {
			f.live, f.resident = max(f.live, r.live), max(f.resident, r.resident)
			f.goroutines, f.descriptors = max(f.goroutines, r.goroutines), max(f.descriptors, r.descriptors)
		}
		return f
	}
	first, last := highest(rounds[:soakRounds/4]), highest(rounds[soakRounds-soakRounds/4:])
	t.Logf("first quarter: %v; last quarter: %v", first, last)
	if last.live > first.live+first.live/10 || last.goroutines > first.goroutines+2 || last.descriptors > first.descriptors+2 {
		t.Errorf("it grew from %v to %v", first, last)
	}
	// What is in RAM at a time depends on which images meet.
	if last.resident > first.resident*5/4 {
		t.Errorf("it grew from %v to %v", first, last)
	}
}
