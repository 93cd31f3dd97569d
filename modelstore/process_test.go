package modelstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mienproject/mien/modelstore"
)

// helperVariable makes the test binary a process that downloads a model. Its value is a
// helper in JSON.
const helperVariable = "MIEN_MODELSTORE_HELPER"

type helper struct {
	Dir    string
	Models []modelstore.Model
	// MaxFileSize limits the size of files that the process may write, on systems that
	// support this.
	MaxFileSize uint64
}

// limitFileSize makes writes beyond max fail.
var limitFileSize = func(uint64) error { return fmt.Errorf("cannot be limited here") }

// help downloads the first model, prints its path or the error, and logs to standard
// error.
func help(config string) int {
	var h helper
	if err := json.Unmarshal([]byte(config), &h); err != nil {
		panic(err)
	}
	if h.MaxFileSize > 0 {
		if err := limitFileSize(h.MaxFileSize); err != nil {
			panic(err)
		}
	}
	s := &modelstore.Store{
		Dir: h.Dir, Models: h.Models, Backoff: time.Microsecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	path, err := s.Fetch(context.Background(), h.Models[0].Name)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(path)
	return 0
}

// command returns a command that downloads the model of s.
func command(t *testing.T, s *modelstore.Store, maxFileSize uint64) *exec.Cmd {
	t.Helper()
	config, err := json.Marshal(helper{Dir: s.Dir, Models: s.Models, MaxFileSize: maxFileSize})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), helperVariable+"="+string(config))
	return cmd
}

func TestTwoProcessesAtOnce(t *testing.T) {
	// The answer is delayed until one process waits for the other, or sends a request
	// too.
	var (
		waiting = make(chan struct{})
		once    sync.Once
		asked   atomic.Int32
	)
	p := publish(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			once.Do(func() { close(waiting) })
		}
		select {
		case <-waiting:
			whole(w, r)
		case <-r.Context().Done():
		}
	})
	s := p.store(t)
	var group sync.WaitGroup
	for range 2 {
		cmd := command(t, s, 0)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stdout strings.Builder
		cmd.Stdout = &stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			var log strings.Builder
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				fmt.Fprintln(&log, lines.Text())
				if strings.Contains(lines.Text(), "waiting for another process") {
					once.Do(func() { close(waiting) })
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s%s", err, &stdout, &log)
				return
			}
			if want := filepath.Join(s.Dir, "small", "small.onnx"); strings.TrimSpace(stdout.String()) != want {
				t.Errorf("path %s, want %s", &stdout, want)
			}
		})
	}
	group.Wait()
	if n := len(p.asked()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	check(t, filepath.Join(s.Dir, "small", "small.onnx"), content)
}

func TestKilledInTheMiddle(t *testing.T) {
	for name, after := range map[string]http.HandlerFunc{"ranges": whole, "no ranges": rangeless} {
		t.Run(name, func(t *testing.T) {
			const part = 50_000
			p := publish(t, stall(part), after)
			s := p.store(t)
			cmd := command(t, s, 0)
			cmd.Stderr = io.Discard
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for t.Context().Err() == nil && largest(s.Dir) < part {
				time.Sleep(time.Millisecond)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("it was not killed")
			}
			if _, err := os.Stat(filepath.Join(s.Dir, "small", "small.onnx")); err == nil {
				t.Error("half a file has the name of the whole")
			}

			path, err := s.Fetch(t.Context(), "small")
			if err != nil {
				t.Fatal(err)
			}
			check(t, path, content)
			if asked, want := p.asked(), fmt.Sprintf("/small.onnx bytes=%d-", part); len(asked) != 2 || asked[1] != want {
				t.Errorf("asked for %q, want the last to be %q", asked, want)
			}
		})
	}
}

// largest returns the size of the largest file below dir.
func largest(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size = max(size, info.Size())
			}
		}
		return nil
	})
	return size
}
