package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/schollz/progressbar/v3"
)

// screen writes messages to standard error, and a progress bar to the last line of
// a terminal. It is safe for concurrent use.
type screen struct {
	mu       sync.Mutex
	stderr   io.Writer
	terminal bool // stderr is a terminal
	wantsBar bool
	// shared is true if the output goes to a terminal too, where it must not
	// overwrite the bar.
	shared bool
	// together is true if both go to terminals, which are the same one.
	together bool
	bar      *progressbar.ProgressBar // nil for none
}

func newScreen(stderr, stdout *os.File, cfg *config) *screen {
	terminal := isTerminal(stderr)
	return &screen{
		stderr: stderr, terminal: terminal,
		wantsBar: terminal && cfg.Progress == "auto",
		shared:   cfg.Output == "" && isTerminal(stdout),
		together: terminal && cfg.Output == "" && isTerminal(stdout),
	}
}

// begin shows a bar for total files.
func (s *screen) begin(total int) {
	if !s.wantsBar || total < 2 {
		return
	}
	s.bar = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(s.stderr),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionFullWidth(),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("images"),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish(),
	)
	s.draw()
}

// step counts one more file as done.
func (s *screen) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Add(1) // the terminal may be gone
	}
}

// end removes the bar.
func (s *screen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.bar = nil
}

// printf writes a message on a line of its own.
func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.stderr, "mien-client: %s\n", fmt.Sprintf(format, args...))
	s.draw()
}

// withoutBar calls write, and removes the bar meanwhile if the output would
// overwrite it.
func (s *screen) withoutBar(write func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared {
		s.clear()
		defer s.draw()
	}
	return write()
}

func (s *screen) clear() {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
}

func (s *screen) draw() {
	if s.bar != nil {
		_ = s.bar.RenderBlank()
	}
}
