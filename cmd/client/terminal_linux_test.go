package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mienproject/mien/internal/terminaltest"
	"github.com/mienproject/mien/service"
)

// onTerminal runs the program with standard error on a terminal, and with standard
// output on it too if shared is true. It returns what the terminal showed, and the
// output.
func onTerminal(t *testing.T, shared bool, dir string, args ...string) (shown, stdout string) {
	t.Helper()
	screen, tty := terminaltest.Open(t)
	cmd := program(t, dir, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, tty
	if shared {
		cmd.Stdout = tty
	}
	drawn := make(chan string)
	go func() {
		var b strings.Builder
		for buffer := make([]byte, 4096); !strings.Contains(b.String(), "END"); {
			n, err := screen.Read(buffer)
			b.Write(buffer[:n])
			if err != nil {
				break
			}
		}
		drawn <- b.String()
	}()
	err := cmd.Run()
	io.WriteString(tty, "END")
	shown = <-drawn
	if err != nil {
		t.Errorf("%v\n%q", err, shown)
	}
	return shown, out.String()
}

// barPattern matches a bar with count, rate and times.
var barPattern = regexp.MustCompile(`[1-9]\d?% \[=+>.*\] \(\d+/40, [\d.]+ images/s\) \[\d+s:\d+s\]`)

func TestTerminal(t *testing.T) {
	dir := folder(t, 40)
	// Slow enough for the bar to move.
	next := handler(service.DefaultConfig())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		next.ServeHTTP(w, r)
	}))
	defer server.Close()
	args := []string{"--concurrency", "1", "--url", server.URL, "photos"}
	shown, out := onTerminal(t, false, dir, args...)
	if len(answers(t, out)) != 40 || strings.Contains(out, "\x1b") {
		t.Errorf("output was %q", out)
	}
	if !barPattern.MatchString(shown) || !strings.Contains(shown, "40 of 40 answered, 0 faces, 0 failed") {
		t.Errorf("the terminal showed %q", shown)
	}
	terminaltest.CheckWidth(t, shown)
	shown, _ = onTerminal(t, true, dir, args...)
	if !strings.Contains(shown, strings.TrimSpace(tableHeader)) || !barPattern.MatchString(shown) ||
		len(regexp.MustCompile(`(?m)(^|\r|\x1b\[2K) +0      - +\d+  photos/./\d+\.jpg\r$`).FindAllString(shown, -1)) != 40 {
		t.Errorf("the terminal showed %q", shown)
	}

	shown, out = onTerminal(t, false, dir, "--progress", "never", "photos")
	if len(answers(t, out)) != 40 || strings.Contains(shown, "%") {
		t.Errorf("with --progress never the terminal showed %q", shown)
	}
	if shown, _ = onTerminal(t, true, dir, "--format", "jsonl", "photos"); !strings.Contains(shown, `{"file":"photos/a/0000.jpg"`) {
		t.Errorf("the terminal showed %q", shown)
	}
}

// TestTable checks that an error is shown once, with its message, where the table and the errors go
// to the same terminal.
func TestTable(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "good.jpg"), readFile(t, samplePath))
	writeFile(t, filepath.Join(dir, "bad.jpg"), []byte("not an image"))
	screen, tty := terminaltest.Open(t)
	cmd := program(t, dir, "--progress", "never", "good.jpg", "bad.jpg")
	cmd.Stdout, cmd.Stderr = tty, tty
	if _, failed := errors.AsType[*exec.ExitError](cmd.Run()); !failed {
		t.Error("the run did not fail")
	}
	io.WriteString(tty, "END")
	var shown strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(shown.String(), "END"); {
		n, err := screen.Read(buffer)
		shown.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	if text := shown.String(); strings.Count(text, "bad.jpg: UNSUPPORTED_FORMAT: ") != 1 || strings.Count(text, "bad.jpg") != 1 {
		t.Errorf("the terminal showed %q", text)
	}
}

// TestPipe checks that without a terminal, standard output has only lines, and standard
// error only errors.
func TestPipe(t *testing.T) {
	r := runProgram(t, folder(t, 40), "photos")
	if r.code != exitOK || len(answers(t, r.stdout)) != 40 || r.stderr != "" {
		t.Errorf("exit code %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
}
