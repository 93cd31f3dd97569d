package modelstore

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows on a terminal how much of a file has arrived. A nil progress
// shows nothing.
type progress struct {
	terminal *os.File
	file     File
	bar      *progressbar.ProgressBar // nil until a transfer starts
}

// newProgress returns nil unless w is a terminal.
func newProgress(w io.Writer, f File) *progress {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return &progress{terminal: file, file: f}
}

// start shows an empty bar. It stands for what is missing after the first have
// bytes of the file, so that rate and remaining time are those of this transfer.
func (p *progress) start(have int64) {
	if p == nil {
		return
	}
	description := p.file.Name
	if have > 0 {
		description += " (resumed)"
	}
	p.bar = progressbar.NewOptions64(p.file.Size-have,
		progressbar.OptionSetWriter(p.terminal),
		progressbar.OptionSetDescription(description),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionFullWidth(),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(p.terminal) }),
	)
	_ = p.bar.RenderBlank() // the terminal may be gone
}

// add counts n more bytes.
func (p *progress) add(n int) {
	if p != nil {
		_ = p.bar.Add(n) // the terminal may be gone
	}
}

// clear removes a bar that is not full, so that the line is free for a message.
func (p *progress) clear() {
	if p != nil && p.bar != nil && !p.bar.IsFinished() {
		_ = p.bar.Clear()
	}
}
