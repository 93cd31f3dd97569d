package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// asProgram makes this test binary run as the server, so that a test can send signals
// to a process.
const asProgram = "TEST_AS_PROGRAM"

// process is a server in a process of its own.
type process struct {
	url    string
	admin  string         // the admin address, if there is one
	limits map[string]any // the attributes of the log line "limits"
	cmd    *exec.Cmd
	// ended is closed when the process has ended. After that, log is its whole output.
	ended chan struct{}
	// Only the last lines of a long log are kept.
	log []map[string]any
}

const maxLogLines = 50_000

func startProcess(t testing.TB, args ...string) *process {
	t.Helper()
	return startCommand(t, append([]string{os.Args[0]}, args...)...)
}

// startCommand starts the server with a command that ends with the name of the program,
// and with arguments.
func startCommand(t testing.TB, command ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command(command[0], append(command[1:], "--listen", "127.0.0.1:0", "--log-format", "json")...)
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := make(chan string, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			line := map[string]any{}
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				line["text"] = lines.Text()
			}
			if p.log = append(p.log, line); len(p.log) > 2*maxLogLines {
				p.log = slices.Delete(p.log, 0, maxLogLines)
			}
			switch line["msg"] {
			case "limits":
				p.limits = line
			case "ready":
				url <- p.url
			}
			if u, ok := line["url"].(string); ok {
				p.url = u
			}
			if u, ok := line["metrics"].(string); ok {
				p.admin = strings.TrimSuffix(u, "/metrics")
			}
		}
		_ = p.cmd.Wait() // the exit code is checked by the tests
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // usually it has already ended
		<-p.ended
	})
	select {
	case <-url:
	case <-p.ended:
		t.Fatalf("did not start: %v", p.log)
	}
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Error(err)
	}
}

// wait waits until the process has ended, for at most a minute.
func (p *process) wait(t *testing.T) (code int) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// TestTerminateUnderLoad checks that a server which gets SIGTERM under load, over all
// protocols, answers each request that it has admitted, and refuses the others with a
// reason.
func TestTerminateUnderLoad(t *testing.T) {
	p := startProcess(t, append(patient, "--drain-delay", "500ms", "--drain-timeout", "60s", "--queue", "64")...)
	sample := &inferencev1.Image{RawData: make([]byte, 200*200), Width: 200, Height: 200, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	file := readFile(t, filepath.Join("../../photo/testdata", "gray16.png"))
	var (
		mu       sync.Mutex
		answered = map[string]bool{} // by request id
		count    atomic.Int64
		callers  sync.WaitGroup
	)
	ok := func(id string) {
		mu.Lock()
		defer mu.Unlock()
		answered[id] = true
		count.Add(1)
	}
	// Whether the failure of a request is acceptable. A connection that was not yet
	// accepted when the server closed its listener is reset.
	gone := atomic.Bool{}
	mayFail := func(err error) bool {
		if connect.CodeOf(err) != connect.CodeUnavailable {
			return gone.Load() && !strings.Contains(err.Error(), "internal error")
		}
		return true
	}
	until := func(kind string, call func(id string) error) {
		for n := range 2 {
			callers.Go(func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%s-%d-%d", kind, n, i)
					err := call(id)
					if err == nil {
						ok(id)
						continue
					}
					if !mayFail(err) {
						t.Errorf("%s: %v", id, err)
					}
					select {
					case <-p.ended:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
		}
	}
	ctx := t.Context()
	with := func(id string) context.Context {
		ctx, info := connect.NewClientContext(ctx)
		info.RequestHeader().Set(requestIDHeader, id)
		return ctx
	}
	for _, c := range []struct {
		name string
		http int
		opt  connect.ClientOption
	}{
		{"grpc", 2, connect.WithGRPC()},
		{"grpc-web", 1, connect.WithGRPCWeb()},
		{"connect", 2, connect.WithClientOptions()},
		{"json", 1, connect.WithProtoJSON()},
	} {
		client := inferencev1connect.NewInferenceClient(httpClient(t, c.http, nil), p.url, c.opt)
		until(c.name, func(id string) error {
			res, err := client.Predict(with(id), sample)
			if err == nil && res.GetWidth() != 200 {
				t.Errorf("%s: %v", id, res)
			}
			return err
		})
		until(c.name+"-batch", func(id string) error {
			stream, err := client.PredictBatch(with(id), &inferencev1.PredictBatchRequest{Images: []*inferencev1.Image{sample, sample, sample}})
			if err != nil {
				return err
			}
			n := 0
			for stream.Receive() {
				if e := stream.Msg().GetError(); e != nil {
					t.Errorf("%s: a batch that was taken on: %v", id, e)
				}
				n++
			}
			if err := errors.Join(stream.Err(), stream.Close()); err != nil {
				return err
			}
			if n != 3 {
				t.Errorf("%s: %d answers", id, n)
			}
			return nil
		})
		if c.http == 2 {
			until(c.name+"-stream", func(id string) error { return streamUntilDrained(with(id), t, client, id, sample) })
		}
	}
	h1 := httpClient(t, 1, nil)
	until("predict", func(id string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/predict", bytes.NewReader(file))
		if err != nil {
			return err
		}
		req.Header.Set(requestIDHeader, id)
		res, err := h1.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get(service.ReasonHeader) != "" {
			return connect.NewError(connect.CodeUnavailable, errors.New("refused"))
		}
		return err
	})

	for began := time.Now(); count.Load() < 50; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%d calls in a minute", count.Load())
		}
	}
	gone.Store(true)
	p.signal(t, syscall.SIGTERM)
	code := p.wait(t)
	callers.Wait()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Clients have received all answers that the server counted, and no admitted
	// request has failed.
	served, refused := 0, 0
	for _, line := range p.log {
		if line["msg"] != "request" {
			continue
		}
		id := fmt.Sprint(line["request_id"])
		switch {
		case line["code"] == "ok":
			served++
			if !answered[id] {
				t.Errorf("%s was answered, and its caller does not know: %v", id, line)
			}
		case slices.Contains([]any{"DRAINING", "OVERLOADED"}, line["reason"]):
			refused++
		default:
			t.Errorf("%v", line)
		}
	}
	if served != len(answered) {
		t.Errorf("%d answered, %d of them as the server knows", len(answered), served)
	}
	t.Logf("%d answered, %d refused", served, refused)
}

// streamUntilDrained streams images until one is answered with DRAINING. Each image
// must get an answer.
func streamUntilDrained(ctx context.Context, t *testing.T, client inferencev1connect.InferenceClient, id string, img *inferencev1.Image) error {
	stream, err := client.PredictStream(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stream.CloseResponse() }()
	var sent atomic.Int32
	stop := make(chan struct{})
	var sender sync.WaitGroup
	defer sender.Wait()
	once := sync.OnceFunc(func() { close(stop) })
	defer once()
	sender.Go(func() {
		for {
			select {
			case <-stop:
				_ = stream.CloseRequest()
				return
			case <-time.After(time.Millisecond):
				if stream.Send(img) != nil {
					return
				}
				sent.Add(1)
			}
		}
	})
	for n := int32(0); ; n++ {
		res, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			if n != sent.Load() {
				t.Errorf("%s: %d sent, %d answered", id, sent.Load(), n)
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch res.GetError().GetReason() {
		case "":
		case "DRAINING":
			once()
		default:
			t.Errorf("%s: image %d: %v", id, n, res.GetError())
		}
	}
}

// TestSecondSignal checks that a second SIGTERM skips the delay, and that a third ends
// requests in flight.
func TestSecondSignal(t *testing.T) {
	p := startProcess(t, append(patient, "--drain-delay", "10m", "--drain-timeout", "10m", "--workers", "1", "--queue", "0")...)
	client := grpcClient(t, p.url)
	// Searching a large image of noise for small faces takes long.
	failed := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := client.Predict(t.Context(), slowImage())
		failed <- err
	}()
	waitFor(t, "it is worked on", func() bool {
		_, err := client.Predict(t.Context(), &inferencev1.Image{})
		return connect.CodeOf(err) == connect.CodeUnavailable
	})
	p.signal(t, syscall.SIGTERM)
	waitFor(t, "the probe sees it", func() bool { return status(t, p.url+"/readyz") == http.StatusServiceUnavailable })
	if _, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{}); err != nil {
		t.Errorf("in the delay: %v", err)
	}
	p.signal(t, syscall.SIGTERM)
	waitFor(t, "nobody listens", func() bool { return status(t, p.url+"/livez") == 0 })
	select {
	case err := <-failed:
		if err == nil {
			t.Skipf("the slow call took only %v", time.Since(began))
		}
	default:
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	// The request that it ended may have the last word.
	if last := fmt.Sprint(p.log[max(0, len(p.log)-2):]); !strings.Contains(last, "another SIGTERM") {
		t.Errorf("its last words: %s", last)
	}
}

func slowImage() *inferencev1.Image {
	const side = 7000
	req := &inferencev1.Image{
		RawData: make([]byte, side*side/4), Width: side / 2, Height: side / 2, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8,
		Options: &inferencev1.DetectOptions{MinFaceSize: 20},
	}
	seed := uint32(1)
	for i := range req.GetRawData() {
		seed = seed*1664525 + 1013904223
		req.RawData[i] = byte(seed >> 24)
	}
	return req
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// status returns the status of a GET request, or 0 if there is no answer.
func status(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}
