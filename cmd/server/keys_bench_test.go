package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// asBare makes this test binary run as a server with this program's HTTP settings whose
// only handler answers each request with status 401. It prints its URL.
const asBare = "TEST_AS_BARE_SERVER"

func serveBare() {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", l.Addr())
	server, err := newServer(&config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no key", http.StatusUnauthorized)
	}), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	panic(server.Serve(l))
}

// BenchmarkKeys measures the CPU time that a server takes for a request, user and system
// time together, when 1,000 come in each second on eight connections: with a wrong key, with
// a right one, and, to compare, those of /livez and those of a server that is nothing but
// net/http. The kernel counts CPU time in hundredths of a second, so it needs thousands of
// requests:
//
//	go test -run '^$' -bench BenchmarkKeys -benchtime 5000x ./cmd/server
func BenchmarkKeys(b *testing.B) {
	file, secrets := keysFile(b, "acme")
	mien := startProcess(b, "--model", pigoName, "--admin-listen", "", "--auth-keys", file)
	bare := exec.Command(os.Args[0])
	bare.Env = append(os.Environ(), asBare+"=1")
	out, err := bare.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := bare.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = bare.Process.Kill() // it never ends
		_ = bare.Wait()
	})
	var bareURL string
	if _, err := fmt.Fscanln(out, &bareURL); err != nil {
		b.Fatal(err)
	}
	wrong := http.Header{"Authorization": {"Bearer mien_3Ld9cYV0xkq1ZcG7mU2fR5tB8wE4aH6jN0pS1vX2yQ4"}}
	right := http.Header{"Authorization": {"Bearer " + secrets[0]}}
	const listModels = inferencev1connect.InferenceListModelsProcedure
	for _, version := range []int{1, 2} {
		for _, c := range []struct {
			name, method, url string
			process           int
			header            http.Header
			contentType, body string
			status            int
		}{
			{"bare/get", "GET", bareURL + "/", bare.Process.Pid, wrong, "", "", 401},
			{"bare/post", "POST", bareURL + "/", bare.Process.Pid, wrong, "application/json", "{}", 401},
			{"livez", "GET", mien.url + "/livez", mien.cmd.Process.Pid, nil, "", "", 200},
			{"wrong/predict", "POST", mien.url + "/predict", mien.cmd.Process.Pid, wrong, "image/jpeg", "", 401},
			{"wrong/connect", "POST", mien.url + listModels, mien.cmd.Process.Pid, wrong, "application/json", "{}", 401},
			{"wrong/grpc", "POST", mien.url + listModels, mien.cmd.Process.Pid, wrong, "application/grpc", "\x00\x00\x00\x00\x00", 200},
			{"right/connect", "POST", mien.url + listModels, mien.cmd.Process.Pid, right, "application/json", "{}", 200},
		} {
			b.Run(fmt.Sprintf("%s/HTTP%d", c.name, version), func(b *testing.B) {
				send := func(client *http.Client) {
					req, err := http.NewRequestWithContext(b.Context(), c.method, c.url, strings.NewReader(c.body))
					if err != nil {
						b.Error(err)
						return
					}
					maps.Copy(req.Header, c.header)
					if c.contentType != "" {
						req.Header.Set("Content-Type", c.contentType)
						req.Header.Set("Te", "trailers")
					}
					res, err := client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					if _ = res.Body.Close(); res.StatusCode != c.status {
						b.Errorf("status %d, want %d", res.StatusCode, c.status)
					}
				}
				pace(b, version, 200, send) // connections are opened
				before := cpuTime(b, c.process)
				b.ResetTimer()
				pace(b, version, b.N, send)
				b.ReportMetric(float64((cpuTime(b, c.process)-before).Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(0, "ns/op") // how long it took is not of interest
			})
		}
	}
}

// pace sends n requests, 1,000 a second, through eight clients in turn.
func pace(b *testing.B, version, n int, send func(*http.Client)) {
	const clients = 8
	var all sync.WaitGroup
	for i := range clients {
		client := httpClient(b, version, nil)
		all.Go(func() {
			tick := time.NewTicker(clients * time.Millisecond)
			defer tick.Stop()
			for range (n + clients - 1 - i) / clients {
				<-tick.C
				send(client)
			}
			client.CloseIdleConnections()
		})
	}
	all.Wait()
}

// cpuTime returns the CPU time that a process has taken.
func cpuTime(b testing.TB, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip("needs Linux: ", err)
	}
	// The name of the program, which may contain spaces, is in parentheses.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(string(field))
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ is 100 on every platform that Go supports
}

// BenchmarkKeysNeighbor measures how much 1,000 requests a second slow a caller with a right key,
// who sends one image after the other: those with a wrong key, and, to compare, those of /livez.
// They take turns, 50 images each:
//
//	go test -run '^$' -bench BenchmarkKeysNeighbor -benchtime 1000x ./cmd/server
func BenchmarkKeysNeighbor(b *testing.B) {
	file, secrets := keysFile(b, "acme")
	mien := startProcess(b, "--model", pigoName, "--admin-listen", "", "--auth-keys", file)
	image := readFile(b, samplePath)
	client := httpClient(b, 1, nil)
	right := func() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, mien.url+"/predict", bytes.NewReader(image))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secrets[0])
		res, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
			b.Fatal(res.Status)
		}
	}
	neighbors := map[string]func(*http.Client){
		"livez": func(c *http.Client) {
			if res, err := c.Get(mien.url + "/livez"); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		},
		"wrong": func(c *http.Client) {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, mien.url+"/predict", nil)
			if err != nil {
				b.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer mien_3Ld9cYV0xkq1ZcG7mU2fR5tB8wE4aH6jN0pS1vX2yQ4")
			if res, err := c.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		},
		"none": nil,
	}
	took := map[string]time.Duration{}
	const turn = 50
	images := 0
	for ; images < b.N; images += turn {
		for name, send := range neighbors {
			ctx, stop := context.WithCancel(b.Context())
			var all sync.WaitGroup
			if send != nil {
				all.Go(func() { paceUntil(ctx, b, send) })
				time.Sleep(100 * time.Millisecond)
			}
			began := time.Now()
			for range turn {
				right()
			}
			took[name] += time.Since(began)
			stop()
			all.Wait()
		}
	}
	for name, t := range took {
		b.ReportMetric(t.Seconds()*1e3/float64(images), name+"-ms/image")
	}
	b.ReportMetric(took["wrong"].Seconds()/took["livez"].Seconds(), "wrong/livez")
	b.ReportMetric(0, "ns/op")
}

// paceUntil sends 1,000 requests a second through eight clients until ctx ends.
func paceUntil(ctx context.Context, b *testing.B, send func(*http.Client)) {
	const clients = 8
	var all sync.WaitGroup
	for range clients {
		client := httpClient(b, 1, nil)
		all.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(clients * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				send(client)
			}
		})
	}
	all.Wait()
}
