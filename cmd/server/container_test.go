package main

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/mienproject/mien/service"
)

// requireCgroup makes tests fail instead of being skipped if they cannot create a
// cgroup.
const requireCgroup = "TEST_REQUIRE_CGROUP"

// cgroup is a memory cgroup for a test.
type cgroup struct {
	dir     string
	version int
}

// newCgroup creates a cgroup with that memory limit in bytes. It skips the test if
// cgroups cannot be created.
func newCgroup(t *testing.T, memory int64) *cgroup {
	t.Helper()
	g, err := makeCgroup(memory)
	if err == nil {
		t.Cleanup(func() {
			if err := os.Remove(g.dir); err != nil {
				t.Error(err)
			}
		})
		return g
	}
	if os.Getenv(requireCgroup) != "" {
		t.Fatalf("%s is set, and there can be no memory cgroup: %v", requireCgroup, err)
	}
	t.Skipf("needs root, and a file system of cgroups that can be written: %v", err)
	return nil
}

func makeCgroup(memory int64) (*cgroup, error) {
	const root = "/sys/fs/cgroup"
	g := &cgroup{version: 1, dir: filepath.Join(root, "memory")}
	limits := []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"} // without swap
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		g = &cgroup{version: 2, dir: root}
		limits = []string{"memory.max"}
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return nil, err
		}
	}
	g.dir = filepath.Join(g.dir, fmt.Sprint("mien-test-", os.Getpid()))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	for _, file := range limits {
		err := os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(memory, 10)), 0)
		if err != nil && !strings.Contains(file, "memsw") { // some kernels do not count swap
			return nil, errors.Join(err, os.Remove(g.dir))
		}
	}
	return g, nil
}

// command returns a command that runs this program in the cgroup, with args.
func (g *cgroup) command(args ...string) []string {
	return append([]string{"sh", "-c", `echo $$ > "$0"/cgroup.procs && exec "$@"`, g.dir, os.Args[0]}, args...)
}

// kills returns how many processes of the cgroup the kernel has killed.
func (g *cgroup) kills(t *testing.T) int {
	t.Helper()
	file := map[int]string{1: "memory.oom_control", 2: "memory.events"}[g.version]
	data := readFile(t, filepath.Join(g.dir, file))
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			kills, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatal(err)
			}
			return kills
		}
	}
	t.Fatalf("%s does not count kills: %s", file, data)
	return 0
}

// peak returns the peak memory of the cgroup since the last call, or since its creation
// on kernels that cannot reset it.
func (g *cgroup) peak(t *testing.T) int64 {
	t.Helper()
	file := filepath.Join(g.dir, map[int]string{1: "memory.max_usage_in_bytes", 2: "memory.peak"}[g.version])
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) { // before Linux 5.19
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if g.version == 1 {
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestContainer checks that a default server in the memory cgroup of a small container
// is not killed, whatever it receives: the worst images of each format, as large as
// possible and larger, many at the same time, with large messages beside them. Each
// request is answered, or refused with its reason.
func TestContainer(t *testing.T) {
	if raceDetector || testing.Short() {
		t.Skip("the race detector takes several times as much memory: make container-test runs it")
	}
	large := map[string][]byte{}
	for _, w := range worst {
		large[w.name] = w.make(8000)
	}
	for _, c := range []struct {
		mib   int64
		model string
	}{{256, mtcnnName}, {512, pigoName}, {1024, mtcnnName}} {
		mib := c.mib
		t.Run(fmt.Sprint(mib, "MiB"), func(t *testing.T) {
			g := newCgroup(t, mib<<20)
			// The limits of memory have their defaults. Those of time are raised, so
			// that a slow machine answers what it admits.
			p := startCommand(t, g.command("--model", c.model, "--admin-listen", "", "--timeout", "10m", "--default-timeout", "10m")...)
			said := func(key string) string { return fmt.Sprint(p.limits[key]) }
			if said("memory") != byteSize(mib<<20).String() || !strings.HasPrefix(said("memory_from"), "cgroup ") {
				t.Errorf("%v", p.limits)
			}
			inflight, err := humanize.ParseBytes(said("max_inflight_bytes"))
			if err != nil {
				t.Fatal(err)
			}
			many := &crowd{t: t, p: p, g: g, client: httpClient(t, 1, nil)}
			t.Logf("%v; %d MiB at the start", p.limits, g.peak(t)>>20)

			largest := map[string][]byte{}
			for _, w := range worst {
				largest[w.name] = largestWithin(t, c.model, w.make, int64(inflight))
				many.say(w.name+", as large as fits", many.send(6, "/predict", nil, largest[w.name]))
				if got := many.got["200 "]; got == 0 {
					t.Errorf("%s: none was answered: %v", w.name, many.got)
				}
				many.say(w.name+", 64 megapixels", many.send(6, "/predict", nil, large[w.name]))
			}
			many.say("marked", many.send(6, "/predict", map[string]string{"Accept": "image/png"}, pngOf(1024, 8, 6, 4096, false)))
			for _, file := range hostile(t) {
				many.say(filepath.Base(file), many.send(6, "/predict", nil, readFile(t, file)))
			}
			// Compressed messages of the maximum size take the most memory for their
			// size: random bytes do not shrink. Images are sent at the same time.
			noise := make([]byte, 16<<20)
			_, _ = rand.Read(noise)
			packed := gzipOf(jsonOf(noise))
			for _, n := range []int{1, 1, 2} { // more could block each other
				many.say("compressed messages",
					many.send(n, "/inference.v1.Inference/Predict", gzipHeader(jsonHeader), packed),
					many.send(4, "/predict", nil, largest["PNG, RGBA of 8 bits"]))
			}
			// Everything together, and messages of the maximum size.
			var all []func()
			for _, data := range largest {
				all = append(all, many.send(2, "/predict", nil, data), many.send(2, "/inference.v1.Inference/Predict", jsonHeader, jsonOf(data)))
			}
			junk := make([]byte, 16<<20)
			copy(junk, "\xff\xd8\xff\xe0")
			all = append(all,
				many.send(8, "/inference.v1.Inference/Predict", jsonHeader, jsonOf(junk)),
				many.send(4, "/inference.v1.Inference/Predict", jsonHeader, jsonOf(junk[:4<<20])),
				many.send(4, "/predict", nil, junk),
				many.send(8, "/inference.v1.Inference/Predict", gzipHeader(jsonHeader), packed),
				many.send(8, "/predict", gzipHeader(nil), gzipOf(noise)))
			many.say("all together", all...)

			sample := many.post("/predict", nil, readFile(t, samplePath))
			if sample != "200 " {
				t.Errorf("a neighbor, afterward: %s", sample)
			}
		})
	}
}

// TestContainerTooSmall checks that a default server does not start in a container in
// which it would be killed.
func TestContainerTooSmall(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes several times as much memory: make container-test runs it")
	}
	g := newCgroup(t, 64<<20)
	args := g.command("--listen", "127.0.0.1:0", "--admin-listen", "")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, _ := cmd.CombinedOutput() // the exit code is checked below
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "64MiB of memory (cgroup ") || !strings.Contains(string(out), "allow it to use 208MiB") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// crowd sends many requests to a server in a cgroup at the same time.
type crowd struct {
	t      *testing.T
	p      *process
	g      *cgroup
	client *http.Client

	mu  sync.Mutex
	got map[string]int // how often the last call of say got each status and reason
}

var jsonHeader = map[string]string{"Content-Type": "application/json"}

func gzipHeader(other map[string]string) map[string]string {
	header := map[string]string{"Content-Encoding": "gzip"}
	maps.Copy(header, other)
	return header
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func jsonOf(data []byte) []byte {
	return []byte(`{"rawData": "` + base64.StdEncoding.EncodeToString(data) + `"}`)
}

// send returns a function that posts the same body n times at the same time.
func (c *crowd) send(n int, path string, header map[string]string, body []byte) func() {
	return func() {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				got := c.post(path, header, body)
				c.mu.Lock()
				defer c.mu.Unlock()
				c.got[got]++
			})
		}
		all.Wait()
	}
}

// post returns the status, and the reason if there is one.
func (c *crowd) post(path string, header map[string]string, body []byte) string {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.p.url+path, bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	for key, value := range header {
		req.Header.Set(key, value)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	reason := res.Header.Get(service.ReasonHeader)
	var failure struct {
		Details []struct {
			Debug struct{ Reason string }
		}
	}
	if json.Unmarshal(answer, &failure) == nil && len(failure.Details) > 0 {
		reason = failure.Details[0].Debug.Reason
	}
	return fmt.Sprint(res.StatusCode, " ", reason)
}

// say runs all functions at the same time, and logs the results.
func (c *crowd) say(what string, all ...func()) {
	c.t.Helper()
	c.got = map[string]int{}
	began := time.Now()
	var group sync.WaitGroup
	for _, do := range all {
		group.Go(do)
	}
	group.Wait()
	c.t.Logf("%-50s %5.1f s, at most %4d MiB: %v", what, time.Since(began).Seconds(), c.g.peak(c.t)>>20, c.got)
	for _, got := range slices.Sorted(maps.Keys(c.got)) {
		switch got {
		case "200 ", "400 TOO_MANY_PIXELS", "400 CORRUPT_IMAGE", "503 OVERLOADED", "400 UNSUPPORTED_FORMAT", "415 UNSUPPORTED_FORMAT":
		default:
			c.t.Errorf("%s: %d × %s", what, c.got[got], got)
		}
	}
	if kills := c.g.kills(c.t); kills > 0 {
		c.t.Fatalf("%s: the server was killed", what)
	}
	select {
	case <-c.p.ended:
		c.t.Fatalf("%s: the server has ended: %v", what, c.p.log)
	default:
	}
}

// hostile are files made to harm decoders, if they are available.
func hostile(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../../shared/cases/hostile/*.*")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".py") })
	if len(files) == 0 {
		t.Log("without ../shared/cases/hostile, which is not there")
	}
	return files
}
