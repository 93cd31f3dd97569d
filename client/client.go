// Package client asks a Mien server where the faces in an image are.
//
//	c, err := client.New("http://localhost:8080")
//	...
//	res, err := c.PredictFile(ctx, "photo.jpg", nil)
//
// It speaks Connect, or gRPC with [WithGRPC]; gives each call a deadline; tries
// again, within a budget, while the server is overloaded or away; and returns
// errors that keep the server's reason, see [Error]. The messages are those of
// the contract, whose comments tell what each field means.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

const (
	// DefaultTimeout is what a call may take, all its attempts together, whose
	// context has no deadline.
	DefaultTimeout = 10 * time.Second
	// DefaultAttempts is how often a call is tried at most.
	DefaultAttempts = 4
	// DefaultReadyTimeout is how long WaitReady waits when its context has no
	// deadline.
	DefaultReadyTimeout = 10 * time.Second
	// MaxFileBytes is the largest file that PredictFile reads. Servers take 16
	// MiB unless they are configured otherwise.
	MaxFileBytes = 64 << 20
)

// maxAnswerBytes is more than any answer about 64 megapixels has.
const maxAnswerBytes = 64 << 20

// Client calls one server. It is safe for concurrent use, and one is enough for
// a process: its calls share connections and the budget for second attempts.
type Client struct {
	inference inferencev1connect.InferenceClient
	streams   inferencev1connect.InferenceClient // which need HTTP/2
	health    *connect.Client[wrapperspb.StringValue, wrapperspb.Int32Value]
	// transports are none when the caller brought its own.
	transports []*http.Transport
	timeout    time.Duration
	attempts   int
	budget     budget
}

type config struct {
	grpc     bool
	http     connect.HTTPClient
	timeout  time.Duration
	attempts int
}

// Option changes what New makes.
type Option func(*config)

// WithGRPC speaks gRPC rather than Connect. It needs HTTP/2 all the way to the
// server, as gRPC does.
func WithGRPC() Option { return func(c *config) { c.grpc = true } }

// WithTimeout sets what a call may take, all its attempts together, whose
// context has no deadline. The default is DefaultTimeout; it has to be above 0.
// A server ends a call after 30 seconds, unless it is configured otherwise.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithAttempts sets how often a call is tried at most, while the server says
// that it is unavailable or cannot be reached. The default is DefaultAttempts; 1
// means that nothing is tried twice.
func WithAttempts(n int) Option { return func(c *config) { c.attempts = n } }

// WithHTTPClient uses h for all calls, for instance one that trusts a
// certificate authority of your own or adds headers. With WithGRPC, and for
// PredictStream, it has to speak HTTP/2. It does not go with unix:// URLs, whose
// dialling it would not know.
func WithHTTPClient(h connect.HTTPClient) Option { return func(c *config) { c.http = h } }

// New returns a client of the server at address: http://HOST:PORT,
// https://HOST:PORT, either with a path that a proxy in front wants, HOST:PORT
// (http), or unix:///PATH of a socket. It does not connect yet. The error tells
// all that is wrong with the arguments.
func New(address string, opts ...Option) (*Client, error) {
	c := config{timeout: DefaultTimeout, attempts: DefaultAttempts}
	for _, opt := range opts {
		opt(&c)
	}
	base, socket, err := parseAddress(address)
	errs := []error{err}
	if c.timeout <= 0 {
		errs = append(errs, fmt.Errorf("WithTimeout: %v is not above 0", c.timeout))
	}
	if c.attempts < 1 {
		errs = append(errs, fmt.Errorf("WithAttempts: %d is below 1, which means a single attempt", c.attempts))
	}
	if c.http != nil && socket != "" {
		errs = append(errs, errors.New("WithHTTPClient: leave it out for a unix:// URL, or give it a dialler of its own and New an http:// URL"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	client := &Client{timeout: c.timeout, attempts: c.attempts, budget: newBudget()}
	streams := c.http
	if c.http == nil {
		secure := strings.HasPrefix(base, "https://")
		c.http = client.newHTTPClient(newTransport(c.grpc, secure, socket))
		streams = c.http
		if !c.grpc && !secure {
			streams = client.newHTTPClient(newTransport(true, secure, socket))
		}
	}
	options := []connect.ClientOption{connect.WithReadMaxBytes(maxAnswerBytes)}
	if c.grpc {
		options = append(options, connect.WithGRPC())
	}
	client.inference = inferencev1connect.NewInferenceClient(c.http, base, options...)
	client.streams = inferencev1connect.NewInferenceClient(streams, base, options...)
	// grpc.health.v1 has no client that would not bring all of gRPC along. On the
	// wire its request is a string and its answer a number, both in field 1.
	client.health = connect.NewClient[wrapperspb.StringValue, wrapperspb.Int32Value](c.http, base+"/grpc.health.v1.Health/Check", options...)
	return client, nil
}

// newHTTPClient returns an HTTP client newHTTPClient t, which is this client's from now on.
func (c *Client) newHTTPClient(t *http.Transport) *http.Client {
	c.transports = append(c.transports, t)
	return &http.Client{Transport: t}
}

// parseAddress returns the URL to call, and the socket to dial instead of the
// URL's host if there is one.
func parseAddress(address string) (base, socket string, err error) {
	fail := func() (string, string, error) {
		return "", "", fmt.Errorf("%q is no address of a server: write it as http://localhost:8080, https://faces.example.com, localhost:8080 or unix:///run/mien.sock", address)
	}
	// unix:PATH is how the server's --listen writes it.
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return fail()
		}
		return "http://localhost", path, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fail()
	}
	return strings.TrimRight(u.String(), "/"), "", nil
}

// newTransport dials socket, or what the URL says when it is empty. Connect
// takes HTTP/1.1 in cleartext, which every proxy on the way understands.
func newTransport(grpc, secure bool, socket string) *http.Transport {
	t := &http.Transport{
		Protocols: new(http.Protocols),
		// As many as are in use at once may wait for the next call.
		MaxIdleConnsPerHost: 256,
		// Less than the server's own, so that it is the client that closes.
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		// A connection whose other end went away without a word is noticed.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	switch {
	case secure && grpc:
		t.Protocols.SetHTTP2(true)
	case secure:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	case grpc:
		t.Protocols.SetUnencryptedHTTP2(true)
	default:
		t.Protocols.SetHTTP1(true)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	t.DialContext = dialer.DialContext
	if socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	} else if secure || !grpc {
		// Proxies do not speak HTTP/2 in cleartext.
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// CloseIdleConnections gives back what no call uses now. The client stays
// usable. With WithHTTPClient it does nothing.
func (c *Client) CloseIdleConnections() {
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Predict finds the faces of one image. The error is an *Error.
func (c *Client) Predict(ctx context.Context, req *inferencev1.Image) (*inferencev1.InferResults, error) {
	return call(ctx, c, func(ctx context.Context) (*inferencev1.InferResults, error) {
		return c.inference.Predict(ctx, req)
	})
}

// PredictBytes finds the faces of an encoded image: the content of a JPEG, PNG,
// GIF, WebP, BMP or TIFF file. opts may be nil. The error is an *Error.
func (c *Client) PredictBytes(ctx context.Context, data []byte, opts *inferencev1.DetectOptions) (*inferencev1.InferResults, error) {
	return c.Predict(ctx, &inferencev1.Image{RawData: data, Options: opts})
}

// PredictFile finds the faces of an image file of at most MaxFileBytes; a larger
// one is an *Error of reason ReasonTooManyBytes. opts may be nil. What goes wrong
// with opening and reading is the error of package os; all else is an *Error.
func (c *Client) PredictFile(ctx context.Context, path string, opts *inferencev1.DetectOptions) (*inferencev1.InferResults, error) {
	f, err := os.Open(path) //nolint:gosec // whose path it is has the say
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := Read(f)
	if err != nil {
		return nil, err
	}
	return c.PredictBytes(ctx, data, opts)
}

// Read reads r to its end, which has to come within MaxFileBytes; more is an
// *Error of reason ReasonTooManyBytes.
func Read(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err == nil && len(data) > MaxFileBytes {
		return nil, &Error{
			Code: connect.CodeResourceExhausted, Reason: ReasonTooManyBytes,
			Message: fmt.Sprintf("this is larger than %d MiB, and not read any further", MaxFileBytes>>20),
		}
	}
	return data, err
}

// ListModels tells the server's models, the default one first. The error is an
// *Error.
func (c *Client) ListModels(ctx context.Context) ([]*inferencev1.Model, error) {
	res, err := call(ctx, c, func(ctx context.Context) (*inferencev1.ListModelsResponse, error) {
		return c.inference.ListModels(ctx, &inferencev1.ListModelsRequest{})
	})
	return res.GetModels(), err
}

// serving is SERVING of grpc.health.v1.HealthCheckResponse.
const serving = 1

// WaitReady returns nil as soon as the server says that it is ready, asking
// again and again until ctx ends, or for DefaultReadyTimeout if ctx has no
// deadline. What waiting does not mend, such as a certificate that is not
// trusted, is returned at once. The error is an *Error that tells the last
// reason: of code Unavailable when the time was over, Canceled when ctx was.
func (c *Client) WaitReady(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultReadyTimeout)
		defer cancel()
	}
	last := errors.New("there was no time for a health check")
	interrupted, err := retry(ctx,
		func() error {
			err := c.checkHealth(ctx)
			if err != nil && ctx.Err() == nil {
				last = err
			}
			return err
		},
		func(attempt int, err error) (time.Duration, bool) {
			_, final := errors.AsType[*Error](err)
			return backoff(attempt), !final
		})
	switch {
	case !interrupted:
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return newLocalError(connect.CodeCanceled, fmt.Errorf("the server was not ready when the wait was canceled: %w: %w", last, ctx.Err()))
	default:
		return newLocalError(connect.CodeUnavailable, fmt.Errorf("the server did not become ready: %w", last))
	}
}

// checkHealth returns nil if the server is ready. An *Error is final: waiting
// will not change it. The timeout is for servers that accept connections and do
// not answer.
func (c *Client) checkHealth(ctx context.Context) error {
	checkCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	res, err := c.health.CallUnary(checkCtx, connect.NewRequest(&wrapperspb.StringValue{Value: inferencev1connect.InferenceName}))
	if err != nil {
		failure := newError(err)
		switch {
		case ctx.Err() != nil:
		case failure.Code == connect.CodeUnimplemented:
			return newLocalError(failure.Code, fmt.Errorf("the server at this address is not a Mien server: %w", failure.cause))
		case failure.Code == connect.CodeUnauthenticated, failure.Code == connect.CodePermissionDenied, isPermanent(failure):
			return failure
		}
		return errors.New(failure.Message)
	}
	if res.Msg.GetValue() != serving {
		return errors.New("the server is starting or stopping")
	}
	return nil
}
