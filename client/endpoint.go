package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

const (
	// resolveEvery is how old the addresses of a name may be.
	resolveEvery = 5 * time.Second
	// resolveSoonest is how old they are at least when they are looked up again because a
	// connection was lost.
	resolveSoonest = time.Second
	// checkEvery is how often a server that was lost is asked whether it is back.
	checkEvery = time.Second
	// checkTimeout is how long a health check may take.
	checkTimeout = 3 * time.Second
	// silence is how long one of several servers may not answer a ping of its connection, or
	// not acknowledge what was sent, before the connection counts as lost. A part of it passes
	// before the ping is sent.
	silence = 2 * time.Second
)

// An endpoint is one server, of which there may be several. Its fields but for those of its
// state do not change.
type endpoint struct {
	inference inferencev1connect.InferenceClient
	streams   inferencev1connect.InferenceClient // which need HTTP/2
	health    *connect.Client[wrapperspb.StringValue, wrapperspb.Int32Value]
	// transports is empty with WithHTTPClient.
	transports []*http.Transport

	calls atomic.Int64 // in flight
	// lost is true from when a connection is lost until the server answers a health check.
	lost atomic.Bool
	// checked is when the last health check ended of a server that was lost, in nanoseconds of
	// Unix time. While one runs, it lies ahead.
	checked atomic.Int64
	// busyUntil is when the server may have room again, in nanoseconds of Unix time.
	busyUntil atomic.Int64
}

// A target is what an endpoint is opened for.
type target struct {
	base string // the URL
	// dial is what to dial instead of the URL's host: an address with a port, or a socket;
	// empty for the host.
	dial   string
	socket bool
	// several is true if there are other servers, to which calls can go.
	several bool
}

// newEndpoint opens an endpoint, without connecting.
func (c *config) newEndpoint(t target) *endpoint {
	e := &endpoint{}
	unary, streams := c.http, c.http
	if c.http == nil {
		secure := isSecure(t.base)
		open := func(http2 bool) connect.HTTPClient {
			transport := newTransport(http2, secure, t, c.tls)
			e.transports = append(e.transports, transport)
			return &http.Client{Transport: transport}
		}
		unary = open(c.grpc)
		streams = unary
		if !c.grpc && !secure {
			streams = open(true)
		}
	}
	options := []connect.ClientOption{connect.WithReadMaxBytes(maxAnswerBytes)}
	if c.grpc {
		options = append(options, connect.WithGRPC())
	}
	if c.apiKey != nil {
		options = append(options, connect.WithInterceptors(keySender("Bearer "+*c.apiKey)))
	}
	e.inference = inferencev1connect.NewInferenceClient(unary, t.base, options...)
	e.streams = inferencev1connect.NewInferenceClient(streams, t.base, options...)
	// The published client for grpc.health.v1 depends on all of gRPC. On the wire
	// the request is a string and the response a number, both in field 1.
	e.health = connect.NewClient[wrapperspb.StringValue, wrapperspb.Int32Value](unary, t.base+"/grpc.health.v1.Health/Check", options...)
	return e
}

// checkHealth returns nil if the server is ready. An *Error is final: waiting
// will not change it. The timeout is for servers that accept connections and do
// not answer.
func (e *endpoint) checkHealth(ctx context.Context) error {
	checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	res, err := e.health.CallUnary(checkCtx, connect.NewRequest(&wrapperspb.StringValue{Value: inferencev1connect.InferenceName}))
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

func (e *endpoint) closeIdleConnections() {
	for _, t := range e.transports {
		t.CloseIdleConnections()
	}
}

// isBusy reports whether the server has refused a call a moment ago.
func (e *endpoint) isBusy() bool { return time.Now().UnixNano() < e.busyUntil.Load() }

// checkLost asks in the background whether a server that was lost is back, unless it was asked
// a moment ago.
func (e *endpoint) checkLost() {
	now := time.Now().UnixNano()
	last := e.checked.Load()
	if now-last < checkEvery.Nanoseconds() || !e.checked.CompareAndSwap(last, now+checkTimeout.Nanoseconds()) {
		return
	}
	go func() {
		if e.checkHealth(context.Background()) == nil {
			e.lost.Store(false)
		}
		e.checked.Store(time.Now().UnixNano())
	}()
}

// servers are the endpoints of a client. It is safe for concurrent use.
type servers struct {
	config *config
	// sources are the addresses that the client was made with.
	sources []source

	// looking is held while names are looked up, and protects sources.
	looking sync.Mutex

	mu        sync.Mutex
	endpoints []*endpoint
	byTarget  map[target]*endpoint
	resolved  time.Time
	turn      int // where the search for the next endpoint begins
}

// A source is an address that the client was made with.
type source struct {
	base, socket string
	// host and port are those of a name that is looked up; empty if none is.
	host, port string
	// last are the targets that were found the last time.
	last []target
}

// targets returns what the source stands for now.
func (s *source) targets(ctx context.Context) []target {
	if s.host == "" {
		return []target{{base: s.base, dial: s.socket, socket: s.socket != ""}}
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.host)
	if err != nil && len(s.last) > 0 {
		return s.last
	}
	// An IPv4 and an IPv6 address are the same server for the dialer, which tries both.
	family := all[:0:0]
	for _, ip := range all {
		if ip.Unmap().Is4() == all[0].Unmap().Is4() {
			family = append(family, ip)
		}
	}
	if len(family) <= 1 {
		return []target{{base: s.base}}
	}
	var found []target
	for _, ip := range family {
		found = append(found, target{base: s.base, dial: net.JoinHostPort(ip.Unmap().String(), s.port)})
	}
	return found
}

// resolve finds the endpoints anew. Those that stay keep their connections.
func (s *servers) resolve(ctx context.Context) {
	var found []target
	for i := range s.sources {
		s.sources[i].last = s.sources[i].targets(ctx)
		found = append(found, s.sources[i].last...)
	}
	byTarget := make(map[target]*endpoint, len(found))
	var endpoints []*endpoint
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range found {
		t.several = len(found) > 1
		if byTarget[t] != nil {
			continue // named twice
		}
		e := s.byTarget[t]
		if e == nil {
			e = s.config.newEndpoint(t)
		}
		byTarget[t] = e
		endpoints = append(endpoints, e)
	}
	for t, e := range s.byTarget {
		if byTarget[t] == nil {
			e.closeIdleConnections()
		}
	}
	s.byTarget, s.endpoints, s.resolved = byTarget, endpoints, time.Now()
}

// refresh looks names up again in the background if the last time was longer ago than that.
// The first time it waits for them.
func (s *servers) refresh(ctx context.Context, after time.Duration) {
	s.mu.Lock()
	first, age := s.resolved.IsZero(), time.Since(s.resolved)
	s.mu.Unlock()
	switch {
	case first:
		s.looking.Lock()
		defer s.looking.Unlock()
		if s.count() == 0 {
			s.resolve(ctx)
		}
	case age >= after && s.looksUp() && s.looking.TryLock():
		go func() {
			defer s.looking.Unlock()
			// It is for later calls too, so it does not end with this one.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveEvery)
			defer cancel()
			s.resolve(ctx)
		}()
	}
}

// looksUp reports whether an address is a name. It reads no source as a whole, since resolve may
// be writing to it.
func (s *servers) looksUp() bool {
	for i := range s.sources {
		if s.sources[i].host != "" {
			return true
		}
	}
	return false
}

// pick returns the best endpoint for the next attempt of a call: one that is not lost, was not
// tried, has not refused a call a moment ago, and has the fewest calls in flight, in this order.
// fresh is true if it is not lost and was not tried.
func (s *servers) pick(ctx context.Context, tried []*endpoint) (best *endpoint, fresh bool) {
	s.refresh(ctx, resolveEvery)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	var bestRank rank
	for i := range s.endpoints {
		e := s.endpoints[(s.turn+i)%len(s.endpoints)]
		r := rank{calls: e.calls.Load()}
		if e.lost.Load() {
			e.checkLost()
		}
		for flag, against := range []bool{e.isBusy(), slices.Contains(tried, e), e.lost.Load()} {
			if against {
				r.against |= 1 << flag
			}
		}
		if best == nil || r.less(bestRank) {
			best, bestRank = e, r
		}
	}
	return best, bestRank.against <= 1
}

// maxProbes is how many servers are asked at once whether they are there.
const maxProbes = 3

// alive returns the first of a few untried servers to answer a health check, or nil if none
// does. It is for a call that has lost a server: others may be lost with it, and to find that
// out one after the other would take the time of each.
func (s *servers) alive(ctx context.Context, tried []*endpoint) *endpoint {
	var asked []*endpoint
	for len(asked) < maxProbes {
		e, fresh := s.pick(ctx, slices.Concat(tried, asked))
		if !fresh {
			break
		}
		asked = append(asked, e)
	}
	if len(asked) < 2 {
		return nil // there is no choice
	}
	answers := make(chan *endpoint, len(asked))
	for _, e := range asked {
		go func() { // it ends after checkTimeout
			if e.checkHealth(context.WithoutCancel(ctx)) != nil {
				e.lost.Store(true)
				e = nil
			}
			answers <- e
		}()
	}
	for range asked {
		select {
		case e := <-answers:
			if e != nil {
				return e
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// rank says what is against an endpoint, for an attempt.
type rank struct {
	against int
	calls   int64
}

func (r rank) less(than rank) bool {
	return r.against < than.against || (r.against == than.against && r.calls < than.calls)
}

// failed notes that an attempt has failed.
func (s *servers) failed(ctx context.Context, e *endpoint, failure *Error) {
	if connect.IsWireError(failure.cause) {
		e.busyUntil.Store(time.Now().Add(failure.RetryAfter).UnixNano())
		return
	}
	// The server did not answer: other connections to it are probably lost too.
	e.closeIdleConnections()
	if s.count() > 1 {
		e.lost.Store(true)
	}
	s.refresh(ctx, resolveSoonest)
}

func (s *servers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.endpoints)
}

// closeIdleConnections closes the connections of all servers that no call uses.
func (s *servers) closeIdleConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.endpoints {
		e.closeIdleConnections()
	}
}
