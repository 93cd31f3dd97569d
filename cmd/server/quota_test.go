package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// TestQuotaAtEveryDoor checks that a caller over its quota is refused in the protocol of its
// request, with the time after which it may try again, and that others are served.
func TestQuotaAtEveryDoor(t *testing.T) {
	file, secrets := keysFile(t, "greedy", "other")
	s := start(t, append(patient, "--auth-keys", file, "--quota-requests", "0.01")...)
	call := func(secret string, opts ...connect.ClientOption) error {
		h := withHeaders(httpClient(t, 2, nil), http.Header{"X-Api-Key": {secret}})
		_, err := inferencev1connect.NewInferenceClient(h, s.url, opts...).Predict(t.Context(), tinyImage())
		return err
	}
	if err := call(secrets[0]); err != nil {
		t.Fatal(err)
	}
	for protocol, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
		err := call(secrets[0], opts...)
		if code, reason := reasonOf(t, err); code != connect.CodeResourceExhausted || reason != "QUOTA" {
			t.Errorf("%s: %v", protocol, err)
		}
		if ce := new(connect.Error); !errors.As(err, &ce) || !isAbout(ce.Meta().Get("Retry-After"), 100) {
			t.Errorf("%s: Retry-After %q", protocol, ce.Meta().Get("Retry-After"))
		}
	}
	h := withHeaders(httpClient(t, 1, nil), http.Header{"X-Api-Key": {secrets[0]}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/predict", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Mien-Reason") != "QUOTA" || !isAbout(res.Header.Get("Retry-After"), 100) || !strings.Contains(string(text), "0.01 requests a second") {
		t.Errorf("/predict: %d, %v: %s", res.StatusCode, res.Header, text)
	}
	if err := call(secrets[1]); err != nil {
		t.Errorf("another caller: %v", err)
	}
	for range 3 { // free for all
		if status, _ := get(t, s.url+"/readyz"); status != 200 {
			t.Errorf("/readyz: %d", status)
		}
	}
}

func isAbout(seconds string, want int) bool {
	n, err := strconv.Atoi(seconds)
	return err == nil && n <= want && n > want-30
}

// TestQuotaOfStreams checks that the images of a stream or batch count, and wait for the quota
// instead of failing.
func TestQuotaOfStreams(t *testing.T) {
	s := start(t, append(patient, "--quota-requests", "20")...)
	client := inferencev1connect.NewInferenceClient(httpClient(t, 2, nil), s.url, connect.WithGRPC())
	images := make([]*inferencev1.Image, 50)
	for i := range images {
		images[i] = tinyImage()
	}
	began := time.Now()
	stream, err := client.PredictBatch(t.Context(), &inferencev1.PredictBatchRequest{Images: images})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for stream.Receive() {
		if e := stream.Msg().GetError(); e != nil {
			t.Error(e)
		}
		n++
	}
	if err := stream.Err(); err != nil || n != len(images) {
		t.Errorf("%d answers, %v", n, err)
	}
	// 20 requests at once, one of which is the call, and 31 at 20 a second.
	if took := time.Since(began); took < 1400*time.Millisecond {
		t.Errorf("the batch took only %v", took)
	}
	// An image that would have to wait longer than its deadline fails at once, and alone.
	short := start(t, "--quota-requests", "0.1", "--timeout", "2s", "--default-timeout", "2s")
	client = inferencev1connect.NewInferenceClient(httpClient(t, 2, nil), short.url, connect.WithGRPC())
	stream, err = client.PredictBatch(t.Context(), &inferencev1.PredictBatchRequest{Images: images[:2]})
	if err != nil {
		t.Fatal(err)
	}
	for stream.Receive() {
		if e := stream.Msg().GetError(); e.GetReason() != "QUOTA" || connect.Code(e.GetCode()) != connect.CodeResourceExhausted {
			t.Errorf("%v", stream.Msg())
		}
	}
	if err := stream.Err(); err != nil {
		t.Error(err)
	}
}

// TestQuotaOfPixelsAndConcurrency checks the other two quotas, for callers without an identity.
func TestQuotaOfPixelsAndConcurrency(t *testing.T) {
	pixels := start(t, append(patient, "--quota-pixels", "2000", "--max-pixels", "20000")...)
	client := grpcClient(t, pixels.url)
	gray := func(width, height int32) *inferencev1.Image {
		return &inferencev1.Image{RawData: make([]byte, width*height), Width: width, Height: height, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	}
	if _, err := client.Predict(t.Context(), gray(160, 120)); err != nil { // 19,200 of 20,000
		t.Fatal(err)
	}
	_, err := client.Predict(t.Context(), gray(160, 120))
	if code, reason := reasonOf(t, err); code != connect.CodeResourceExhausted || reason != "QUOTA" || !strings.Contains(err.Error(), "2000 pixels a second") {
		t.Errorf("pixels: %v", err)
	}
	if _, err := client.Predict(t.Context(), gray(20, 20)); err != nil {
		t.Errorf("a small image: %v", err)
	}

	few := start(t, append(patient, "--quota-concurrency", "1")...)
	client = grpcClient(t, few.url)
	stream, err := client.PredictStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(tinyImage()); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	_, err = client.Predict(t.Context(), tinyImage())
	if code, reason := reasonOf(t, err); code != connect.CodeResourceExhausted || reason != "QUOTA" {
		t.Errorf("concurrency: %v", err)
	}
	_ = stream.CloseRequest()
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	until(t, "the stream no longer counts", func() bool {
		_, err := client.Predict(t.Context(), tinyImage())
		return err == nil
	})
}

// TestGreedyCaller sends ten times its quota, and checks that another caller gets at least 95 %
// of its calls, and the greedy one about its quota.
func TestGreedyCaller(t *testing.T) {
	file, secrets := keysFile(t, "greedy", "other")
	const quota, seconds = 20, 3
	s := start(t, "--auth-keys", file, "--quota-requests", strconv.Itoa(quota))
	call := func(secret string) func(context.Context) error {
		h := withHeaders(httpClient(t, 2, nil), http.Header{"X-Api-Key": {secret}})
		client := inferencev1connect.NewInferenceClient(h, s.url)
		return func(ctx context.Context) error {
			_, err := client.Predict(ctx, tinyImage())
			return err
		}
	}
	// at calls at a rate, and counts the calls that succeed.
	at := func(rate int, call func(context.Context) error) (sent, served int64) {
		var n, ok atomic.Int64
		var calls sync.WaitGroup
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for began := time.Now(); time.Since(began) < seconds*time.Second; <-ticker.C {
			n.Add(1)
			calls.Go(func() {
				err := call(t.Context())
				if err == nil {
					ok.Add(1)
				} else if code, reason := reasonOf(t, err); code != connect.CodeResourceExhausted || reason != "QUOTA" {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		return n.Load(), ok.Load()
	}
	var greedySent, greedyServed int64
	var done sync.WaitGroup
	done.Go(func() { greedySent, greedyServed = at(10*quota, call(secrets[0])) })
	sent, served := at(quota*3/4, call(secrets[1]))
	done.Wait()
	t.Logf("greedy: %d of %d; other: %d of %d", greedyServed, greedySent, served, sent)
	if float64(served) < 0.95*float64(sent) {
		t.Errorf("the other caller got %d of %d calls", served, sent)
	}
	if limit := int64(quota * (seconds + 2)); greedyServed > limit || greedyServed < quota*seconds/2 {
		t.Errorf("the greedy caller got %d calls, want at most %d", greedyServed, limit)
	}
}

// TestNetwork checks which addresses without an identity count as one caller.
func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "unix": "unix",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
