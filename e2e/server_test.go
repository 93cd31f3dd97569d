package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A server is a running Mien.
type server struct {
	t   testing.TB
	cmd *exec.Cmd
	// url is its address, such as http://127.0.0.1:41234. addr is that without the
	// scheme.
	url, addr string

	exited chan struct{} // closed when the server has ended and its log was read
	code   int           // exit code, valid after exited is closed
	killed bool          // the test killed it, so no graceful stop is expected

	mu  sync.Mutex
	log []logLine
}

// A logLine is one line of the server's log.
type logLine struct {
	text string
	attr map[string]any // nil if the line is not JSON
}

// start starts the server on a free port and waits until it listens. When the test
// ends, the server is stopped, which must be graceful.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	return startEnv(t, nil, args...)
}

// startEnv is like start, with variables added to the environment.
func startEnv(t testing.TB, env []string, args ...string) *server {
	t.Helper()
	return startProgram(t, binary, env, args...)
}

// startProgram is like startEnv, with another build of the server.
func startProgram(t testing.TB, program string, env []string, args ...string) *server {
	t.Helper()
	args = append([]string{"--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", "json", "--drain-delay", "0s"}, args...)
	s := &server{t: t, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	s.cmd.Env = append(environ(), env...)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go s.follow(stderr, listening)
	t.Cleanup(s.cleanup)

	select {
	case s.url = <-listening:
	case <-s.exited:
		t.Fatal("the server ended before it listened")
	case <-time.After(patience):
		t.Fatal("the server does not listen")
	}
	_, s.addr, _ = strings.Cut(s.url, "://")
	return s
}

// follow reads the log until the server has ended.
func (s *server) follow(stderr io.Reader, listening chan<- string) {
	defer close(s.exited)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		line := logLine{text: lines.Text()}
		if json.Unmarshal(lines.Bytes(), &line.attr) != nil {
			line.attr = nil
		}
		s.mu.Lock()
		s.log = append(s.log, line)
		s.mu.Unlock()
		if url, ok := line.attr["url"].(string); ok && line.attr["msg"] == "listening" {
			select {
			case listening <- url:
			default: // another address than the first
			}
		}
	}
	_ = s.cmd.Wait() // the exit code is checked later
	s.code = s.cmd.ProcessState.ExitCode()
}

// terminate sends SIGTERM, like an orchestrator.
func (s *server) terminate() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("SIGTERM: %v", err)
	}
}

// kill ends the server like a crash.
func (s *server) kill() {
	s.t.Helper()
	s.killed = true
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Errorf("SIGKILL: %v", err)
	}
	<-s.exited
}

// stop stops the server and returns its whole log, because the line of a request may be
// written after its answer has arrived.
func (s *server) stop() []logLine {
	s.t.Helper()
	select {
	case <-s.exited:
	default:
		s.terminate()
	}
	return s.wait()
}

// wait waits for the server to end.
func (s *server) wait() []logLine {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Error("the server does not stop")
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	return s.lines()
}

func (s *server) lines() []logLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]logLine(nil), s.log...)
}

func (s *server) cleanup() {
	log := s.stop()
	if s.code != 0 && !s.killed {
		s.t.Errorf("the server's exit code is %d, want 0", s.code)
	}
	for _, line := range log {
		if line.attr == nil {
			s.t.Errorf("the server wrote a line that is no JSON: %s", line.text)
		}
		if line.attr["level"] == "ERROR" {
			s.t.Errorf("the server logged an error: %s", line.text)
		}
	}
	if s.t.Failed() {
		s.tell(log)
	}
}

// tell logs what may explain why the test failed: the last lines of the server's log,
// except for files of the page that were served successfully.
func (s *server) tell(log []logLine) {
	s.t.Helper()
	const most = 25
	log = slices.DeleteFunc(slices.Clone(log), func(line logLine) bool {
		path, _ := line.attr["path"].(string)
		status, _ := line.attr["status"].(float64)
		return status < 400 && (path == "/" || strings.HasPrefix(path, "/page/"))
	})
	if more := len(log) - most; more > 0 {
		s.t.Logf("server: ... %d lines before", more)
		log = log[more:]
	}
	for _, line := range log {
		s.t.Log("server: ", line.text)
	}
}

// urls waits until the server is ready, and returns its addresses.
func (s *server) urls() []string {
	s.t.Helper()
	for began := time.Now(); message(s.lines(), "ready") == nil; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			s.t.Fatal("the server is not ready")
		}
	}
	var urls []string
	for _, line := range s.lines() {
		if url, ok := line.attr["url"].(string); ok && line.attr["msg"] == "listening" {
			urls = append(urls, url)
		}
	}
	return urls
}

// admin waits until the server is ready, and returns the address for operators,
// without the scheme.
func (s *server) admin() string {
	s.t.Helper()
	s.urls()
	metrics, _ := message(s.lines(), "admin")["metrics"].(string)
	return strings.TrimSuffix(strings.TrimPrefix(metrics, "http://"), "/metrics")
}

// message returns the first line with that message, or nil if there is none.
func message(log []logLine, msg string) map[string]any {
	for _, line := range log {
		if line.attr["msg"] == msg {
			return line.attr
		}
	}
	return nil
}

// requests returns the lines of requests whose path begins with prefix.
func requests(log []logLine, prefix string) []map[string]any {
	var found []map[string]any
	for _, line := range log {
		path, _ := line.attr["path"].(string)
		if line.attr["msg"] == "request" && strings.HasPrefix(path, prefix) {
			found = append(found, line.attr)
		}
	}
	return found
}

// requested waits until the log, which is written after the answers, has that many such
// lines, and returns them.
func (s *server) requested(prefix string, n int) []map[string]any {
	s.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if found := requests(s.lines(), prefix); len(found) >= n || time.Since(began) > patience {
			return found
		}
	}
}

const procedure = "/inference.v1.Inference/"
