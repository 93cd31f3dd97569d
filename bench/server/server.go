// Package server builds the server of this repository and runs it for measurements.
package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Root is the folder of the repository.
func Root() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(self), "..", "..")
}

// A Server is a running server.
type Server struct {
	// URL is its address for clients, and Admin the one for operators, or "" if there
	// is none.
	URL, Admin string

	process *exec.Cmd
	exited  chan struct{} // closed when the log has ended
	folder  string        // folder of the binary
	// complaints has everything in the log except requests, for the error if the server
	// ends. It is complete when exited is closed.
	complaints bytes.Buffer
}

// Start builds the server, starts it on a free port with args, and with env added to
// the environment of this process, and waits until it is ready. The caller must close
// it.
func Start(ctx context.Context, env []string, args ...string) (s *Server, err error) {
	folder, err := os.MkdirTemp("", "mien-bench-")
	if err != nil {
		return nil, err
	}
	s = &Server{folder: folder, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	binary := filepath.Join(folder, "mien")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/server") //nolint:gosec // into a folder of its own
	build.Dir = Root()
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return s, fmt.Errorf("go build ./cmd/server: %w\n%s", err, out)
	}
	args = append([]string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json", "--drain-delay", "0s"}, args...)
	s.process = exec.Command(binary, args...) //nolint:gosec,noctx // the binary was built above; Close stops it gracefully
	s.process.Env = append(environment(), env...)
	stderr, err := s.process.StderrPipe()
	if err != nil {
		return s, err
	}
	if err := s.process.Start(); err != nil {
		return s, err
	}
	ready := make(chan struct{})
	go s.follow(stderr, ready)
	select {
	case <-ready:
		return s, nil
	case <-s.exited:
		return s, fmt.Errorf("the server ended before it was ready:\n%s", s.complaints.String())
	case <-ctx.Done():
		return s, ctx.Err()
	}
}

// environment returns the environment of this process without variables that configure
// the server.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MIEN_") && !strings.HasPrefix(kv, "OTEL_") && !strings.HasPrefix(kv, "RUN_ENV=") {
			env = append(env, kv)
		}
	}
	return env
}

// follow reads the log to its end.
func (s *Server) follow(log io.Reader, ready chan<- struct{}) {
	defer close(s.exited)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line struct {
			Level   string `json:"level"`
			Msg     string `json:"msg"`
			URL     string `json:"url"`
			Metrics string `json:"metrics"`
		}
		err := json.Unmarshal(lines.Bytes(), &line)
		switch {
		case err != nil:
		case line.Msg == "listening":
			s.URL = line.URL
		case line.Msg == "admin":
			s.Admin = strings.TrimSuffix(line.Metrics, "/metrics")
		case line.Msg == "ready":
			close(ready)
		}
		if err != nil || line.Level != "INFO" {
			fmt.Fprintln(&s.complaints, lines.Text())
		}
	}
}

// Close stops the server gracefully, and removes its binary. It returns an error if
// that fails.
func (s *Server) Close() error {
	defer func() { _ = os.RemoveAll(s.folder) }() // a temporary folder
	if s.process == nil || s.process.Process == nil {
		return nil
	}
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have ended
	<-s.exited
	if err := s.process.Wait(); err != nil {
		return fmt.Errorf("the server: %w\n%s", err, s.complaints.String())
	}
	return nil
}
