package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"io"
	"net/http"
	neturl "net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/face"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/service"
)

// calls stores the records that Config.Observe received.
type calls struct {
	mu    sync.Mutex
	calls []service.Record
}

func (c *calls) observe(_ context.Context, call *service.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, *call)
}

// take waits for n records and returns them. A record may come after its answer.
func (c *calls) take(t *testing.T, n int) []service.Record {
	t.Helper()
	var got []service.Record
	eventually(t, fmt.Sprintf("%d calls", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		got = slices.Clone(c.calls)
		return len(got) >= n
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
	if len(got) != n {
		t.Errorf("%d calls, want %d: %+v", len(got), n, got)
	}
	return got
}

// eventually waits until is returns true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestObserve checks that every image is observed once, whatever the outcome and the
// protocol.
func TestObserve(t *testing.T) {
	var seen calls
	d := stub{detect: func(_ context.Context, _ image.Image, opts face.Options) ([]face.Face, error) {
		if opts.MaxResults == 500 {
			return nil, errors.New("the disk is on fire")
		}
		time.Sleep(time.Millisecond)
		return []face.Face{{Box: face.Box{MaxX: 5, MaxY: 5}}}, nil
	}}
	svc, url := start(t, d, func(c *service.Config) { c.Observe = seen.observe; c.MaxImageBytes = 1 << 20 })
	good := &inferencev1.Image{RawData: sample(t)}
	for protocol, client := range clients(t, url) {
		began := time.Now()
		if _, err := client.Predict(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		c := seen.take(t, 1)[0]
		if c.ID != "the-request" || c.Procedure != inferencev1connect.InferencePredictProcedure || (c.Protocol != strings.ReplaceAll(protocol, "-", "") && protocol != "json") ||
			!c.Handled || c.Code != 0 || c.Reason != "" || c.Model != "stub" || c.Faces != 1 ||
			c.Bytes != len(good.GetRawData()) || c.Width != 320 || c.Height != 400 || c.Pixels != 320*400 {
			t.Errorf("%s: %+v", protocol, c)
		}
		if c.Arrived.Before(began) || c.Queue < 0 || c.Decode <= 0 || c.Detect < time.Millisecond ||
			c.Arrived.Add(c.Queue+c.Decode+c.Detect).After(time.Now()) {
			t.Errorf("%s: times %v, %v, %v, %v", protocol, c.Arrived, c.Queue, c.Decode, c.Detect)
		}
		for _, bad := range []struct {
			req    *inferencev1.Image
			code   connect.Code
			reason string
		}{
			{&inferencev1.Image{RawData: []byte("not an image")}, connect.CodeInvalidArgument, "UNSUPPORTED_FORMAT"},
			{&inferencev1.Image{RawData: make([]byte, 2<<20)}, connect.CodeResourceExhausted, "TOO_MANY_BYTES"},
			{&inferencev1.Image{RawData: good.GetRawData(), Options: &inferencev1.DetectOptions{MaxResults: 500}}, connect.CodeInternal, "INTERNAL"},
		} {
			if _, err := client.Predict(t.Context(), bad.req); err == nil {
				t.Error("no error")
			}
			if c := seen.take(t, 1)[0]; c.Code != bad.code || c.Reason != bad.reason {
				t.Errorf("%s: %v, %q, want %v, %q", protocol, c.Code, c.Reason, bad.code, bad.reason)
			}
		}
		if _, err := client.ListModels(t.Context(), &inferencev1.ListModelsRequest{}); err != nil {
			t.Error(err)
		}
	}
	post := func(path, contentType, encoding string, body []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
			if encoding != "" {
				req.Header.Set(name, encoding)
			}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	post("/predict", "image/jpeg", "", good.GetRawData())
	if c := seen.take(t, 1)[0]; c.Procedure != "/predict" || c.Protocol != "http" || c.Code != 0 || c.Faces != 1 {
		t.Errorf("%+v", c)
	}
	// What cannot be read is refused before the handler is called.
	const predict, batch = inferencev1connect.InferencePredictProcedure, inferencev1connect.InferencePredictBatchProcedure
	broken := []byte("\x1f\x8bnot gzip")
	for _, c := range []struct {
		procedure, contentType, encoding string
		body                             []byte
		code                             connect.Code
		reason                           string
	}{
		{predict, "application/json", "", []byte("{"), connect.CodeInvalidArgument, ""},
		{predict, "application/proto", "", []byte("\xff"), connect.CodeInvalidArgument, ""},
		{predict, "application/grpc-web+json", "", []byte("\x00\x00\x00\x00\x01{"), connect.CodeInvalidArgument, ""},
		{batch, "application/connect+json", "", enveloped(0, []byte("{")), connect.CodeInvalidArgument, ""},
		{predict, "application/proto", "gzip", broken, connect.CodeInvalidArgument, ""},
		{predict, "application/grpc-web+proto", "gzip", enveloped(1, broken), connect.CodeInvalidArgument, ""},
		{predict, "application/proto", "gzip", gzipped(t, make([]byte, 4<<20)), connect.CodeResourceExhausted, "TOO_MANY_BYTES"},
		{batch, "application/connect+proto", "gzip", enveloped(1, gzipped(t, make([]byte, 200<<20))), connect.CodeResourceExhausted, "TOO_MANY_BYTES"},
		// Messages that end early, in their prefix or after it.
		{predict, "application/grpc-web+proto", "", []byte("\x00\x00\x00\x00\x09{"), connect.CodeInvalidArgument, "INVALID_BODY"},
		{batch, "application/connect+json", "", []byte("\x00\x00"), connect.CodeInvalidArgument, "INVALID_BODY"},
		// These Connect itself refuses: no message, two of them, unknown flags.
		{predict, "application/grpc-web+proto", "", nil, connect.CodeUnimplemented, ""},
		{predict, "application/grpc-web+proto", "", slices.Concat(enveloped(0, nil), enveloped(0, nil)), connect.CodeUnimplemented, ""},
		{predict, "application/grpc-web+proto", "", enveloped(0x40, nil), connect.CodeInvalidArgument, ""},
		{batch, "application/connect+json", "", enveloped(0x40, []byte("{}")), connect.CodeInvalidArgument, ""},
	} {
		post(c.procedure, c.contentType, c.encoding, c.body)
		if r := seen.take(t, 1)[0]; r.Handled || r.Code != c.code || r.Reason != c.reason || !r.Arrived.IsZero() {
			t.Errorf("%s, %s, %s, %.20q: %+v, want %v, %q", c.procedure, c.contentType, c.encoding, c.body, r, c.code, c.reason)
		}
	}
	svc.Drain()
	for protocol, client := range clients(t, url) {
		if _, err := client.Predict(t.Context(), good); err == nil {
			t.Error("no error")
		}
		if c := seen.take(t, 1)[0]; c.Reason != "DRAINING" || c.Handled || !c.Arrived.IsZero() {
			t.Errorf("%s: %+v", protocol, c)
		}
	}
	if got := seen.take(t, 0); len(got) != 0 { // ListModels has no image
		t.Errorf("%+v", got)
	}
	eventually(t, "nothing in flight", func() bool { return svc.Stats().RequestsInFlight == 0 })
	if s := svc.Stats(); !s.Draining || s.Busy != 0 || s.DecodedBytesInFlight != 0 || s.DecodedBytesLimit != 1<<30 {
		t.Errorf("%+v", s)
	}
}

// TestMistakesInRequests checks that the mistakes of a client which Connect finds are answered
// as such, and not as failures of the server.
func TestMistakesInRequests(t *testing.T) {
	_, url := start(t, stub{}, nil)
	const get = "?connect=v1&encoding=proto&base64=1&message="
	message := base64.RawURLEncoding.EncodeToString(marshal(t, gray(1)))
	padded := base64.URLEncoding.EncodeToString(marshal(t, gray(1)))
	for _, c := range []struct {
		name, method, query, timeout, body string
		status                             int
		text                               string
	}{
		{"base64", "GET", get + message, "", "", http.StatusOK, ""},
		{"base64 with padding", "GET", get + neturl.QueryEscape(padded), "", "", http.StatusOK, ""},
		{"no base64", "GET", get + "%25%25", "", "", http.StatusBadRequest, "not base64"},
		{"a letter alone", "GET", get + "a", "", "", http.StatusBadRequest, "INVALID_BODY"},
		{"base64 in JSON", "POST", "", "", `{"rawData": "%%"}`, http.StatusBadRequest, "invalid_argument"},
		{"no time", "POST", "", "0", "{}", http.StatusGatewayTimeout, "DEADLINE"},
		{"less than no time", "POST", "", "-1", "{}", http.StatusBadRequest, "is negative"},
		{"no number", "POST", "", "x", "{}", http.StatusBadRequest, "invalid_argument"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url+predictPath+c.query, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if c.timeout != "" {
			req.Header.Set("Connect-Timeout-Ms", c.timeout)
		}
		res, err := httpClient(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != c.status || !strings.Contains(string(body), c.text) {
			t.Errorf("%s: %d, %s, %v; want %d with %q", c.name, res.StatusCode, body, err, c.status, c.text)
		}
	}
}
