package e2e

import (
	"bytes"
	"context"
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

	"github.com/mienproject/mien/client"
)

// A balancer is a load balancer whose configuration docs/operations.md shows.
type balancer struct {
	name string
	file string // name of the block in the document
	// wrap makes a whole configuration of the block, with files in a folder. nil means that it is one.
	wrap    func(dir, block string) string
	command func(t testing.TB, dir, config string) *exec.Cmd
}

var balancers = []balancer{
	{
		name: "haproxy", file: "haproxy.cfg",
		command: func(t testing.TB, _, config string) *exec.Cmd {
			t.Helper()
			return exec.Command(tool(t, "haproxy"), "-db", "-f", config)
		},
	},
	{
		name: "nginx", file: "nginx.conf",
		wrap: nginxConfig,
		command: func(t testing.TB, dir, config string) *exec.Cmd {
			t.Helper()
			return exec.Command(tool(t, "nginx"), "-p", dir, "-c", config)
		},
	},
	{
		name: "caddy", file: "Caddyfile",
		wrap: func(_, block string) string { return strings.Replace(block, "{\n", "{\n\tadmin off\n", 1) },
		command: func(t testing.TB, dir, config string) *exec.Cmd {
			t.Helper()
			cmd := exec.Command(tool(t, filepath.Join(root, ".bin", "caddy", "bin", "caddy")), "run", "--adapter", "caddyfile", "--config", config)
			cmd.Env = append(environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			return cmd
		},
	},
}

// start starts the balancer in front of three servers. It returns its addresses for HTTP/1.1
// and gRPC, which may be the same.
func (b balancer) start(t testing.TB, servers []*server) (http1, grpc string) {
	t.Helper()
	const document = "docs/operations.md"
	blocks, err := parseBlocks(document, read(t, filepath.Join(root, document)))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(blocks, func(found block) bool { return found.mark == "file" && found.argument == b.file })
	if i < 0 {
		t.Fatalf("%s has no block %s", document, b.file)
	}
	http1, grpc = freeAddress(t), freeAddress(t)
	if b.name != "nginx" {
		grpc = http1
	}
	config := strings.NewReplacer(
		"10.0.0.1:8080", servers[0].addr, "10.0.0.2:8080", servers[1].addr, "10.0.0.3:8080", servers[2].addr,
		"bind :8000", "bind "+http1, "listen 8000", "listen "+http1, "http://:8000", "http://"+http1,
		"listen 8001", "listen "+grpc,
	).Replace(blocks[i].code)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if b.wrap != nil {
		config = b.wrap(dir, config)
	}
	startProxy(t, b.command(t, dir, temp(t, b.file, []byte(config))), grpc)
	return http1, grpc
}

// A balanced load is callers that call through a balancer, each again when it has an answer.
type balanced struct {
	kind          string
	call          func(context.Context) error
	mayFail       bool // there are no retries
	calls, failed atomic.Int64
	mu            sync.Mutex
	failures      map[string]int
}

func (l *balanced) once(ctx context.Context) {
	l.calls.Add(1)
	err := l.call(ctx)
	if err == nil {
		return
	}
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures == nil {
		l.failures = map[string]int{}
	}
	l.failures[err.Error()]++
}

// predicts calls with the Go client, over one connection for all gRPC calls.
func predicts(t testing.TB, url string, image []byte, options ...client.Option) func(context.Context) error {
	t.Helper()
	c, err := client.New(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return func(ctx context.Context) error {
		results, err := c.PredictBytes(ctx, image, nil)
		if err == nil && len(results.GetResults()) != 1 {
			return fmt.Errorf("%d faces, want 1", len(results.GetResults()))
		}
		return err
	}
}

// posts calls /predict over HTTP/1.1, without retries.
func posts(t testing.TB, url string, image []byte) func(context.Context) error {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/predict", bytes.NewReader(image))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "image/jpeg")
		res, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"confidence"`))) {
			err = errors.New(res.Status)
		}
		return err
	}
}

// underLoad ends a server that is called by all loads, with two callers each. It logs what
// failed until each load has made 50 calls more. Only loads without retries may have failures.
func underLoad(t *testing.T, loads []*balanced, s *server, end func()) {
	t.Helper()
	before := len(requests(s.lines(), "/"))
	var callers sync.WaitGroup
	done := make(chan struct{})
	for _, l := range loads {
		for range 2 {
			callers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						l.once(t.Context())
					}
				}
			})
		}
	}
	more := func(n int64) {
		began := time.Now()
		for _, l := range loads {
			for until := l.calls.Load() + n; l.calls.Load() < until; time.Sleep(time.Millisecond) {
				if time.Since(began) > patience {
					t.Errorf("%s: the calls do not go on", l.kind)
					return
				}
			}
		}
	}
	more(20)
	s.requested("/", before+10) // waits until the server has answered as many
	end()
	more(50)
	close(done)
	callers.Wait()
	for _, l := range loads {
		t.Logf("%s: %d calls, %d failed %v", l.kind, l.calls.Load(), l.failed.Load(), l.failures)
		if !l.mayFail && l.failed.Load() > 0 {
			t.Errorf("%s: %d of %d calls failed, want 0", l.kind, l.failed.Load(), l.calls.Load())
		}
	}
}

// spread makes calls with four callers, and checks that each server gets its share of them, to a tenth.
func spread(t *testing.T, servers []*server, path string, call func(context.Context) error) {
	t.Helper()
	const calls = 300
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range calls / 4 {
				if err := call(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if t.Failed() {
		return
	}
	count := func() (counts []int, sum int) {
		for _, s := range servers {
			n := len(requests(s.lines(), path))
			counts, sum = append(counts, n), sum+n
		}
		return counts, sum
	}
	counts, sum := count()
	for began := time.Now(); sum < calls && time.Since(began) < patience; time.Sleep(time.Millisecond) {
		counts, sum = count() // lines are written after the answers
	}
	t.Logf("%s: %v", path, counts)
	const share, tolerance = calls / 3, calls / 30
	if sum != calls || slices.Min(counts) < share-tolerance || slices.Max(counts) > share+tolerance {
		t.Errorf("%s: the servers got %v calls, want %d ± %d each", path, counts, share, tolerance)
	}
}

// TestBalancers calls three servers through each balancer, by gRPC over one connection and by
// HTTP/1.1. The calls must be spread evenly. Then a server is stopped, and another one killed:
// no call may fail that is retried, once for the stop and as by default for the kill.
func TestBalancers(t *testing.T) {
	t.Parallel()
	image := small.load(t)
	for _, b := range balancers {
		t.Run(b.name, func(t *testing.T) {
			var servers []*server
			for range 3 {
				s := start(t, "--model", "pigo", "--queue", "64", "--drain-delay", "2s")
				s.urls() // waits until the server is ready
				servers = append(servers, s)
			}
			http1, grpc := b.start(t, servers)
			http1, grpc = "http://"+http1, "http://"+grpc
			// The balancer may check the servers before it calls them.
			for url, options := range map[string][]client.Option{http1: nil, grpc: {client.WithGRPC()}} {
				if c, err := client.New(url, options...); err != nil || c.WaitReady(t.Context()) != nil {
					t.Fatalf("%s is not ready", url)
				}
			}
			single, twice := client.WithAttempts(1), client.WithAttempts(2)
			t.Run("spread", func(t *testing.T) {
				spread(t, servers, procedure, predicts(t, grpc, image, client.WithGRPC(), single))
				spread(t, servers, "/predict", posts(t, http1, image))
			})
			loads := func(t *testing.T, retrying string, more ...client.Option) []*balanced {
				t.Helper()
				return []*balanced{
					{kind: "gRPC, one attempt", mayFail: true, call: predicts(t, grpc, image, client.WithGRPC(), single)},
					{kind: "/predict, one attempt", mayFail: true, call: posts(t, http1, image)},
					{kind: "gRPC, " + retrying, call: predicts(t, grpc, image, append(more, client.WithGRPC())...)},
					{kind: "Connect over HTTP/1.1, " + retrying, call: predicts(t, http1, image, more...)},
				}
			}
			t.Run("stop", func(t *testing.T) {
				underLoad(t, loads(t, "two attempts", twice), servers[0], func() { servers[0].stop() })
			})
			t.Run("kill", func(t *testing.T) {
				underLoad(t, loads(t, "the client's defaults"), servers[1], func() {
					// Calls are in the server when it is killed: they wait in it while another one
					// answers calls, or until all callers may wait.
					if err := servers[1].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
						t.Error(err)
					}
					answered := func() int { return len(requests(servers[2].lines(), "/")) }
					until, began := answered()+3, time.Now()
					for answered() < until && time.Since(began) < time.Second {
						time.Sleep(time.Millisecond)
					}
					servers[1].kill()
				})
			})
		})
	}
}
