// Package client asks a Mien server where the faces in an image are.
//
//	c, err := client.New("http://localhost:8080")
//	...
//	res, err := c.PredictFile(ctx, "photo.jpg", nil)
//
// The client uses Connect, or gRPC with [WithGRPC]. It gives each call a
// deadline. While the server is overloaded or cannot be reached, it retries within
// a budget. Errors keep the server's reason, see [Error]. The messages are those of
// package inferencev1, whose comments explain each field.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

const (
	// DefaultTimeout is the deadline, for all attempts together, of calls whose
	// context has none.
	DefaultTimeout = 10 * time.Second
	// DefaultAttempts is the maximum number of attempts of a call.
	DefaultAttempts = 4
	// DefaultReadyTimeout is how long WaitReady waits when its context has no
	// deadline.
	DefaultReadyTimeout = 10 * time.Second
	// MaxFileBytes is the size of the largest file that PredictFile reads. By
	// default a server accepts 16 MiB.
	MaxFileBytes = 64 << 20
)

// maxAnswerBytes is larger than any response to an image of 64 megapixels.
const maxAnswerBytes = 64 << 20

// Client calls a server, or several that have the same models. It is safe for concurrent
// use. A process needs only one: its calls share connections and the retry budget.
type Client struct {
	config  config
	servers servers
	budget  budget
}

type config struct {
	more           []string
	grpc           bool
	apiKey         *string
	tls            *tls.Config
	http           connect.HTTPClient
	timeout        time.Duration
	attemptTimeout time.Duration
	attempts       int
}

// Option configures a client.
type Option func(*config)

// WithGRPC makes the client use gRPC instead of Connect. gRPC needs HTTP/2 on the whole
// way to the server.
func WithGRPC() Option { return func(c *config) { c.grpc = true } }

// WithTimeout sets the deadline, for all attempts together, of calls whose context
// has none. It must be above 0; the default is DefaultTimeout. By default a server
// ends a call after 30 seconds.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithAddresses adds servers with the same models, whose addresses are like that of [New].
// Calls are spread over all of them. It cannot be combined with WithHTTPClient.
func WithAddresses(addresses ...string) Option {
	return func(c *config) { c.more = append(c.more, addresses...) }
}

// WithAttemptTimeout sets the maximum time of each attempt of a call, after which another
// server is tried, or the same one if there is no other. Choose a time in which a server that
// is busy answers: an attempt that is given up has cost its work. By default, only the deadline
// of the call ends an attempt. Connections that are lost without a sign are noticed without it.
func WithAttemptTimeout(d time.Duration) Option { return func(c *config) { c.attemptTimeout = d } }

// WithAttempts sets the maximum number of attempts of a call. A call is retried
// while the server is unavailable or cannot be reached, or the caller's quota is used
// up. The default is
// DefaultAttempts; 1 means no retries.
func WithAttempts(n int) Option { return func(c *config) { c.attempts = n } }

// WithAPIKey makes the client send an API key of the server's --auth-keys with each
// call. Use an https:// URL: over http://, everyone on the way can read the key.
func WithAPIKey(key string) Option { return func(c *config) { c.apiKey = &key } }

// WithTLSConfig sets the TLS configuration of an https:// URL: authorities to trust, or
// a client certificate. The client uses a copy, and no version below TLS 1.2. It cannot
// be combined with WithHTTPClient.
func WithTLSConfig(t *tls.Config) Option { return func(c *config) { c.tls = t } }

// WithHTTPClient makes the client use h for all calls. With it you can add headers, or
// use a proxy of your own. For WithGRPC and PredictStream, h must support
// HTTP/2. It cannot be combined with a unix:// URL, because h would not know how to
// dial the socket.
func WithHTTPClient(h connect.HTTPClient) Option { return func(c *config) { c.http = h } }

// New returns a client for the server at address, which is http://HOST:PORT,
// https://HOST:PORT, HOST:PORT (http), or unix:///PATH of a socket. An http or https
// URL may have a path, which a proxy may need. New does not connect. The error
// names every invalid argument.
//
// If HOST is a name with several addresses, as that of a headless service in Kubernetes, each
// of them is a server. The name is looked up again every few seconds while there are calls.
// A call goes to the server with the fewest calls in flight. If one is overloaded or lost, the
// call goes to another one at once. With an HTTP proxy, or WithHTTPClient, names are not looked
// up here.
func New(address string, opts ...Option) (*Client, error) {
	c := config{timeout: DefaultTimeout, attempts: DefaultAttempts}
	for _, opt := range opts {
		opt(&c)
	}
	var sources []source
	errs := c.validate()
	for _, address := range append([]string{address}, c.more...) {
		source, err := c.source(address)
		sources, errs = append(sources, source), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	client := &Client{config: c, budget: newBudget()}
	client.servers.config, client.servers.sources = &client.config, sources
	return client, nil
}

// validate returns what is wrong with the options, whatever the addresses are.
func (c *config) validate() []error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.timeout > 0, "WithTimeout: %v must be above 0", c.timeout)
	check(c.attemptTimeout >= 0, "WithAttemptTimeout: %v is below 0; 0 means no limit", c.attemptTimeout)
	check(c.attempts >= 1, "WithAttempts: %d must be at least 1, which means a single attempt", c.attempts)
	check(c.http == nil || len(c.more) == 0, "WithAddresses cannot be combined with WithHTTPClient, which does not know which server to call")
	check(c.apiKey == nil || isHeaderValue(*c.apiKey), "WithAPIKey: the key is empty, or has spaces or other characters that a key cannot have")
	check(c.http == nil || c.tls == nil, "WithTLSConfig cannot be combined with WithHTTPClient: configure TLS in the HTTP client")
	return errs
}

// source returns what an address stands for. It fails if the options do not fit it.
func (c *config) source(address string) (source, error) {
	base, socket, err := parseAddress(address)
	if err != nil {
		return source{}, err
	}
	s := source{base: base, socket: socket}
	var errs []error
	if c.tls != nil && !isSecure(base) {
		errs = append(errs, fmt.Errorf("WithTLSConfig has no effect: %q is not an https:// URL", address))
	}
	if c.http != nil && socket != "" {
		errs = append(errs, errors.New("WithHTTPClient cannot be combined with a unix:// URL: omit it, or use an http:// URL and an HTTP client that dials the socket"))
	}
	if c.http == nil && socket == "" {
		s.host, s.port = c.lookedUp(base)
	}
	return s, errors.Join(errs...)
}

// lookedUp returns the host and the port of a URL whose host is a name to look up, or nothing.
func (c *config) lookedUp(base string) (host, port string) {
	u, err := url.Parse(base)
	if err != nil {
		return "", ""
	}
	host, port = u.Hostname(), u.Port()
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return "", ""
	}
	if usesProxy(c.grpc, isSecure(base)) {
		// A proxy looks the name up itself. An error is that of the call.
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil || proxy != nil {
			return "", ""
		}
	}
	switch {
	case port != "":
	case isSecure(base):
		port = "443"
	default:
		port = "80"
	}
	return host, port
}

func isSecure(base string) bool { return strings.HasPrefix(base, "https://") }

// parseAddress returns the URL to call, and the socket to dial instead of the
// URL's host if there is one.
func parseAddress(address string) (base, socket string, err error) {
	fail := func() (string, string, error) {
		return "", "", fmt.Errorf("%q is not a server address: write it as http://localhost:8080, https://faces.example.com, localhost:8080 or unix:///run/mien.sock", address)
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

// usesProxy reports whether a proxy of the environment is used. Proxies do not support HTTP/2
// in cleartext.
func usesProxy(http2, secure bool) bool { return secure || !http2 }

// newTransport returns a transport for a target. In cleartext Connect uses HTTP/1.1, which
// every proxy understands.
func newTransport(http2, secure bool, to target, config *tls.Config) *http.Transport {
	if config = config.Clone(); config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	t := &http.Transport{
		Protocols: new(http.Protocols),
		// Enough for the connections of all concurrent calls.
		MaxIdleConnsPerHost: 256,
		// Shorter than the server's, so that the client closes first.
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig:     config,
		// Pings detect a connection whose other end vanished.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	switch {
	case secure && http2:
		t.Protocols.SetHTTP2(true)
	case secure:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	case http2:
		t.Protocols.SetUnencryptedHTTP2(true)
	default:
		t.Protocols.SetHTTP1(true)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if to.several {
		// Another server can take the call, so it is better to give up a connection that is
		// only slow than to wait for one that is lost.
		t.HTTP2.SendPingTimeout, t.HTTP2.PingTimeout = silence/2, silence/2
		dialer.Timeout = silence
		dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: silence / 2, Interval: silence / 2, Count: 1}
		dialer.Control = limitSilence
	}
	t.DialContext = dialer.DialContext
	switch {
	case to.socket:
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", to.dial)
		}
	case to.dial != "":
		t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, to.dial)
		}
	case usesProxy(http2, secure):
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// CloseIdleConnections closes the connections that no call uses. The client stays
// usable. With WithHTTPClient it does nothing.
func (c *Client) CloseIdleConnections() { c.servers.closeIdleConnections() }

// Predict finds the faces in one image. The error is an *Error.
func (c *Client) Predict(ctx context.Context, req *inferencev1.Image) (*inferencev1.InferResults, error) {
	return call(ctx, c, func(ctx context.Context, e *endpoint) (*inferencev1.InferResults, error) {
		return e.inference.Predict(ctx, req)
	})
}

// PredictBytes finds the faces in an encoded image: the content of a JPEG, PNG,
// GIF, WebP, BMP or TIFF file. opts may be nil. The error is an *Error.
func (c *Client) PredictBytes(ctx context.Context, data []byte, opts *inferencev1.DetectOptions) (*inferencev1.InferResults, error) {
	return c.Predict(ctx, &inferencev1.Image{RawData: data, Options: opts})
}

// PredictFile finds the faces in an image file of at most MaxFileBytes. opts may be
// nil. If the file cannot be opened or read, the error is that of package os. Any
// other error is an *Error; for a larger file its reason is ReasonTooManyBytes.
func (c *Client) PredictFile(ctx context.Context, path string, opts *inferencev1.DetectOptions) (*inferencev1.InferResults, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := Read(f)
	if err != nil {
		return nil, err
	}
	return c.PredictBytes(ctx, data, opts)
}

// Read reads r to its end. If there are more than MaxFileBytes, the error is an
// *Error with the reason ReasonTooManyBytes. Other errors are those of r.
func Read(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err == nil && len(data) > MaxFileBytes {
		return nil, &Error{
			Code: connect.CodeResourceExhausted, Reason: ReasonTooManyBytes,
			Message: fmt.Sprintf("the file is larger than %d MiB, which is the limit", MaxFileBytes>>20),
		}
	}
	return data, err
}

// ListModels returns the server's models, the default one first. The error is an
// *Error.
func (c *Client) ListModels(ctx context.Context) ([]*inferencev1.Model, error) {
	res, err := call(ctx, c, func(ctx context.Context, e *endpoint) (*inferencev1.ListModelsResponse, error) {
		return e.inference.ListModels(ctx, &inferencev1.ListModelsRequest{})
	})
	return res.GetModels(), err
}

// serving is SERVING of grpc.health.v1.HealthCheckResponse.
const serving = 1

// WaitReady checks the server's health until the server, or one of several, is ready; then it returns
// nil. It gives up when ctx ends, or after DefaultReadyTimeout if ctx has no
// deadline, and at once if waiting cannot help, as with a certificate that is not
// trusted. The error is an *Error with the cause of the last failure. Its code is
// Unavailable after a timeout, and Canceled if ctx was canceled.
func (c *Client) WaitReady(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultReadyTimeout)
		defer cancel()
	}
	last := errors.New("there was no time for a health check")
	var tried []*endpoint
	interrupted, err := retry(ctx,
		func() error {
			e, fresh := c.servers.pick(ctx, tried)
			if !fresh {
				tried = nil // once more
			}
			tried = append(tried, e)
			err := e.checkHealth(ctx)
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
