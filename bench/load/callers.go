package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	"github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

var protocols = []string{"grpc", "grpcweb", "connect", "json", "predict"}

// newCaller returns a caller for the protocol. Messages are marshaled beforehand, so
// that the caller takes as little CPU time from the server as possible.
func newCaller(protocol, url, model string, photos [][]byte) (caller, error) {
	if protocol == "predict" {
		query := ""
		if model != "" {
			query = "?model=" + model
		}
		return &poster{url + "/predict" + query, client(false), photos}, nil
	}
	codec := ready{name: "proto"}
	opts := []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)}
	switch protocol {
	case "grpc":
		opts = append(opts, connect.WithGRPC())
	case "grpcweb":
		opts = append(opts, connect.WithGRPCWeb())
	case "json":
		codec.name = "json"
	}
	opts = append(opts, connect.WithCodec(codec))
	c := &rpc{}
	for _, photo := range photos {
		m := &inferencev1.Image{RawData: photo, Options: &inferencev1.DetectOptions{Model: model}}
		marshal := proto.Marshal
		if codec.name == "json" {
			marshal = protojson.Marshal
		}
		b, err := marshal(m)
		if err != nil {
			return nil, err
		}
		c.messages = append(c.messages, b)
	}
	// gRPC calls use several connections, as from several processes.
	for range connections {
		h := client(protocol == "grpc")
		c.http = append(c.http, h)
		c.clients = append(c.clients, connect.NewClient[[]byte, []byte](h, url+inferencev1connect.InferencePredictProcedure, opts...))
		if protocol != "grpc" {
			break // HTTP/1.1 opens as many as it needs
		}
	}
	return c, nil
}

const connections = 8

// client returns a client that uses HTTP/2 in cleartext, or HTTP/1.1, and no proxy.
func client(two bool) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(two)
	p.SetHTTP1(!two)
	return &http.Client{Transport: &http.Transport{
		Protocols: p, MaxIdleConnsPerHost: 256, MaxIdleConns: 256, DisableCompression: true,
		IdleConnTimeout: time.Minute,
	}}
}

// rpc calls Predict in one of Connect's protocols.
type rpc struct {
	http     []*http.Client
	clients  []*connect.Client[[]byte, []byte]
	messages [][]byte
	calls    atomic.Uint64
}

func (c *rpc) call(ctx context.Context, photo int) error {
	n := c.calls.Add(1) % uint64(len(c.clients))
	_, err := c.clients[n].CallUnary(ctx, connect.NewRequest(&c.messages[photo]))
	var told *connect.Error
	if !errors.As(err, &told) {
		return err
	}
	r := &refusal{code: told.Code().String()}
	for _, d := range told.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*errdetails.ErrorInfo); ok {
				r.reason = info.GetReason()
			}
		}
	}
	if r.reason == "" {
		return err
	}
	return r
}

func (c *rpc) close() {
	for _, h := range c.http {
		h.CloseIdleConnections()
	}
}

// ready is a codec for messages that are already marshaled.
type ready struct{ name string }

// Name implements connect.Codec.
func (r ready) Name() string { return r.name }

// Marshal implements connect.Codec.
func (r ready) Marshal(message any) ([]byte, error) { return r.MarshalAppend(nil, message) }

// MarshalAppend copies the message, because Connect reuses the memory for other
// messages.
func (ready) MarshalAppend(dst []byte, message any) ([]byte, error) {
	b, ok := message.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not a message", message)
	}
	return append(dst, *b...), nil
}

// Unmarshal implements connect.Codec. Answers are not needed, but Connect uses it to
// read errors of gRPC.
func (ready) Unmarshal(data []byte, message any) error {
	if m, ok := message.(proto.Message); ok {
		return proto.Unmarshal(data, m)
	}
	return nil
}

// poster sends photographs to /predict.
type poster struct {
	url    string
	http   *http.Client
	photos [][]byte
}

func (p *poster) call(ctx context.Context, photo int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(p.photos[photo]))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "image/jpeg")
	res, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if reason := res.Header.Get("Mien-Reason"); reason != "" {
		return &refusal{res.Status, reason}
	}
	if res.StatusCode != http.StatusOK || !json.Valid(body) {
		return fmt.Errorf("%s", res.Status)
	}
	return nil
}

func (p *poster) close() { p.http.CloseIdleConnections() }
