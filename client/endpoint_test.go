package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// replica is one of several servers, on a real listener.
type replica struct {
	inferencev1connect.UnimplementedInferenceHandler
	addr     string
	calls    atomic.Int64
	overload atomic.Bool
	frozen   atomic.Bool
	server   *http.Server
}

func (r *replica) Predict(ctx context.Context, _ *inferencev1.Image) (*inferencev1.InferResults, error) {
	r.calls.Add(1)
	if r.overload.Load() {
		return nil, unavailable(time.Hour)
	}
	for r.frozen.Load() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2 * time.Millisecond)
	return &inferencev1.InferResults{Model: r.addr}, nil
}

func (r *replica) PredictStream(_ context.Context, stream *connect.BidiStream[inferencev1.Image, inferencev1.InferResults]) error {
	r.calls.Add(1)
	if r.overload.Load() {
		return unavailable(time.Hour)
	}
	for {
		if _, err := stream.Receive(); err != nil {
			return nil
		}
		if err := stream.Send(&inferencev1.InferResults{Model: r.addr}); err != nil {
			return err
		}
	}
}

// newReplica returns a server that listens on addr.
func newReplica(t *testing.T, addr string) *replica {
	t.Helper()
	r := &replica{}
	r.listen(t, addr)
	t.Cleanup(func() { r.frozen.Store(false); r.server.Close() })
	return r
}

func (r *replica) listen(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(inferencev1connect.NewInferenceHandler(r))
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(inferencev1connect.InferenceName)))
	r.server = &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	r.server.Protocols.SetHTTP1(true)
	r.server.Protocols.SetUnencryptedHTTP2(true)
	go r.server.Serve(l)
}

// replicated calls test for both protocols, with three servers and a client of them.
func replicated(t *testing.T, opts []client.Option, test func(t *testing.T, c *client.Client, all []*replica)) {
	t.Helper()
	for name, grpc := range map[string]bool{"connect": false, "grpc": true} {
		t.Run(name, func(t *testing.T) {
			var all []*replica
			for range 3 {
				all = append(all, newReplica(t, "127.0.0.1:0"))
			}
			opts := append([]client.Option{client.WithAddresses(all[1].addr, all[2].addr)}, opts...)
			if grpc {
				opts = append(opts, client.WithGRPC())
			}
			test(t, newClient(t, all[0].addr, opts...), all)
		})
	}
}

// many makes calls, eight at a time, and returns how many each server has answered.
func many(t *testing.T, c *client.Client, calls int) map[string]int {
	t.Helper()
	answered := map[string]int{}
	var mu sync.Mutex
	var callers sync.WaitGroup
	left := atomic.Int64{}
	left.Store(int64(calls))
	for range 8 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				res, err := c.Predict(t.Context(), image1)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answered[res.GetModel()]++
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	return answered
}

// TestSpread checks that calls are spread over all servers.
func TestSpread(t *testing.T) {
	replicated(t, nil, func(t *testing.T, c *client.Client, all []*replica) {
		answered := many(t, c, 300)
		for _, r := range all {
			if n := answered[r.addr]; n < 70 {
				t.Errorf("%d of 300 calls on one of three servers: %v", n, answered)
			}
		}
	})
}

// TestOverloadedElsewhere checks that a refused call goes to another server at once, however
// many were refused before, and that a server which refuses is asked less.
func TestOverloadedElsewhere(t *testing.T) {
	replicated(t, nil, func(t *testing.T, c *client.Client, all []*replica) {
		all[0].overload.Store(true)
		all[1].overload.Store(true)
		if answered := many(t, c, 100); answered[all[2].addr] != 100 {
			t.Errorf("%v", answered)
		}
		if n := all[0].calls.Load() + all[1].calls.Load(); n > 30 {
			t.Errorf("%d calls were refused", n)
		}
		for answer, err := range c.PredictStream(t.Context(), func(yield func(*inferencev1.Image) bool) { yield(image1) }) {
			if err != nil || answer.GetModel() != all[2].addr {
				t.Errorf("%v, %v", answer, err)
			}
		}
	})
}

// TestAllOverloaded checks that the pauses and the budget hold when no server has room.
func TestAllOverloaded(t *testing.T) {
	replicated(t, nil, func(t *testing.T, c *client.Client, all []*replica) {
		for _, r := range all {
			r.overload.Store(true)
		}
		for range 20 {
			if _, err := c.Predict(t.Context(), image1); client.Reason(err) != client.ReasonOverloaded {
				t.Errorf("%v", err)
			}
		}
		for _, r := range all {
			if n := r.calls.Load(); n != 20 {
				t.Errorf("%d requests for 20 calls on one of three servers", n)
			}
		}
	})
}

// TestLostServer checks that no call is lost with a server, however many were in flight, and
// that it is used again when it is back.
func TestLostServer(t *testing.T) {
	replicated(t, nil, func(t *testing.T, c *client.Client, all []*replica) {
		many(t, c, 50)
		lost := time.AfterFunc(20*time.Millisecond, func() { all[0].server.Close() })
		defer lost.Stop()
		many(t, c, 300)
		if answered := many(t, c, 100); answered[all[0].addr] != 0 {
			t.Errorf("%v, want none by a server that is gone", answered)
		}
		all[0].listen(t, all[0].addr)
		for began := time.Now(); many(t, c, 30)[all[0].addr] == 0; {
			if time.Since(began) > 20*time.Second {
				t.Fatal("the server is back, and no call goes to it")
			}
		}
	})
}

// TestAttemptTimeout checks that an attempt ends in time, and that the call goes on elsewhere.
func TestAttemptTimeout(t *testing.T) {
	opts := []client.Option{client.WithAttemptTimeout(300 * time.Millisecond), client.WithTimeout(time.Minute)}
	replicated(t, opts, func(t *testing.T, c *client.Client, all []*replica) {
		all[0].frozen.Store(true)
		for range 3 {
			if _, err := c.Predict(t.Context(), image1); err != nil {
				t.Error(err)
			}
		}
	})
	// Without another server, the same one is asked again.
	r := newReplica(t, "127.0.0.1:0")
	r.frozen.Store(true)
	c := newClient(t, r.addr, client.WithAttemptTimeout(50*time.Millisecond), client.WithTimeout(time.Minute))
	_, err := c.Predict(t.Context(), image1)
	if n := r.calls.Load(); connect.CodeOf(err) != connect.CodeUnavailable || n != client.DefaultAttempts {
		t.Errorf("%v after %d attempts", err, n)
	}
}

// TestVanishedServer checks that a server whose host has vanished costs a call a moment, and
// not its deadline. The link to it is a proxy that stops to pass anything on.
func TestVanishedServer(t *testing.T) {
	a, b := newReplica(t, "127.0.0.1:0"), newReplica(t, "127.0.0.1:0")
	link := newLink(t, a.addr)
	c := newClient(t, link.addr, client.WithAddresses(b.addr), client.WithGRPC(), client.WithTimeout(time.Minute))
	many(t, c, 50) // both have connections
	link.cut.Store(true)
	began := time.Now()
	if answered := many(t, c, 50); answered[b.addr] != 50 {
		t.Errorf("%v, want all by the other server", answered)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestVanishedServers checks that servers that vanish together, as those on one host do, cost a
// call one wait and not one for each.
func TestVanishedServers(t *testing.T) {
	const hosts = 3
	var links []*link
	var urls []string
	for range hosts {
		l := newLink(t, newReplica(t, "127.0.0.1:0").addr)
		links, urls = append(links, l), append(urls, l.addr)
	}
	last := newReplica(t, "127.0.0.1:0")
	c := newClient(t, last.addr, client.WithAddresses(urls...), client.WithGRPC(), client.WithTimeout(time.Minute))
	many(t, c, 100) // all have connections
	for _, l := range links {
		l.cut.Store(true)
	}
	longest := time.Duration(0)
	for range 8 {
		began := time.Now()
		if _, err := c.Predict(t.Context(), image1); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(began))
	}
	t.Logf("the longest call took %v", longest)
	if waits := 2 * 2 * time.Second; longest >= waits {
		t.Errorf("the longest call took %v, two waits or more", longest)
	}
}

// link passes connections on to a server until it is cut.
type link struct {
	addr string
	cut  atomic.Bool
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: listener.Addr().String()}
	var conns []net.Conn
	var mu sync.Mutex
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	pass := func(to, from net.Conn) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				to.Close()
				return
			}
			if !l.cut.Load() {
				to.Write(buffer[:n])
			}
		}
	}
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				here.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, here, there)
			mu.Unlock()
			go pass(there, here)
			go pass(here, there)
		}
	}()
	return l
}

// TestNames checks that all addresses of a name are used, and that they are looked up again.
func TestNames(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs several loopback addresses")
	}
	first := newReplica(t, "127.0.0.2:0")
	_, port, _ := net.SplitHostPort(first.addr)
	all := []*replica{first, newReplica(t, "127.0.0.3:"+port), newReplica(t, "127.0.0.4:"+port)}
	names := newNames(t)
	names.set([4]byte{127, 0, 0, 2}, [4]byte{127, 0, 0, 3})
	c := newClient(t, "http://mien.test:"+port)
	if answered := many(t, c, 100); answered[all[0].addr] < 30 || answered[all[1].addr] < 30 {
		t.Errorf("%v, want them spread over two servers", answered)
	}
	// A replica is replaced.
	names.set([4]byte{127, 0, 0, 3}, [4]byte{127, 0, 0, 4})
	for began := time.Now(); many(t, c, 50)[all[2].addr] == 0; {
		if time.Since(began) > 30*time.Second {
			t.Fatal("no call goes to the new server")
		}
	}
	if answered := many(t, c, 100); answered[all[0].addr] != 0 {
		t.Errorf("%v, want none by a server that is not there any more", answered)
	}
	names.fail.Store(true)
	time.Sleep(6 * time.Second) // until the addresses are looked up again
	many(t, c, 50)
	if answered := many(t, c, 100); answered[all[1].addr] < 30 || answered[all[2].addr] < 30 {
		t.Errorf("%v, want the last known servers", answered)
	}
}

// names is a DNS server that knows one name, for all lookups of this process.
type names struct {
	mu        sync.Mutex
	addresses [][4]byte
	fail      atomic.Bool
}

func newNames(t *testing.T) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{}
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if n.fail.Load() {
			return nil, errors.New("no DNS server")
		}
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = old; conn.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer, err := n.answer(buffer[:size]); err == nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return n
}

func (n *names) set(addresses ...[4]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = addresses
}

func (n *names) answer(request []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(request); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("%d questions: %w", len(m.Questions), err)
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	n.mu.Lock()
	defer n.mu.Unlock()
	if q.Type == dnsmessage.TypeA {
		for _, a := range n.addresses {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
				Body:   &dnsmessage.AResource{A: a},
			})
		}
	}
	return m.Pack()
}
