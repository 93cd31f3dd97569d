package modelstore

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

const (
	barWidth  = 30
	drawEvery = 100 * time.Millisecond
)

// bar draws on one line of a terminal how far a file is. A nil bar draws
// nothing.
type bar struct {
	terminal *os.File
	name     string
	total    int64

	done     int64 // bytes of the file
	received int64 // those of them that came since started
	started  time.Time
	drawn    time.Time
	length   int // of what is on the line now
}

// newBar returns nil unless w is a terminal.
func newBar(w io.Writer, f File) *bar {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return &bar{terminal: file, name: f.Name, total: f.Size}
}

// start begins to measure; have bytes of the file are there already.
func (b *bar) start(have int64) {
	if b == nil {
		return
	}
	b.done, b.received, b.started = have, 0, time.Now()
	b.draw()
}

func (b *bar) add(n int64) {
	if b == nil {
		return
	}
	b.done += n
	b.received += n
	if time.Since(b.drawn) >= drawEvery {
		b.draw()
	}
}

// finish leaves the line to whoever writes next.
func (b *bar) finish(ok bool) {
	if b == nil {
		return
	}
	if !ok || b.started.IsZero() {
		b.clear()
		return
	}
	b.draw()
	fmt.Fprintln(b.terminal)
}

func (b *bar) clear() {
	if b == nil || b.length == 0 {
		return
	}
	fmt.Fprintf(b.terminal, "\r%*s\r", b.length, "")
	b.length = 0
}

func (b *bar) draw() {
	b.drawn = time.Now()
	width, _, err := term.GetSize(int(b.terminal.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	line := b.line(width)
	// Written over with blanks rather than erased by an escape sequence, which
	// not every console knows.
	fmt.Fprintf(b.terminal, "\r%-*s", b.length, line)
	b.length = len(line)
}

// line is what fits into width columns; a full one would wrap.
func (b *bar) line(width int) string {
	share := min(float64(b.done)/float64(b.total), 1)
	numbers := fmt.Sprintf("%3.0f%%  %s of %s", 100*share, humanize.Bytes(uint64(b.done)), humanize.Bytes(uint64(b.total)))
	if elapsed := b.drawn.Sub(b.started); b.received > 0 && elapsed >= drawEvery {
		rate := float64(b.received) / elapsed.Seconds()
		numbers += fmt.Sprintf("  %s/s", humanize.Bytes(uint64(rate)))
		if rest := b.total - b.done; rest > 0 {
			left := time.Duration(float64(rest) / rate * float64(time.Second))
			numbers += fmt.Sprintf("  %v left", (left + time.Second - 1).Truncate(time.Second))
		} else {
			numbers += fmt.Sprintf("  in %v", elapsed.Round(drawEvery))
		}
	}
	filled := int(share * barWidth)
	drawing := "[" + strings.Repeat("=", filled) + strings.Repeat(" ", barWidth-filled) + "]"
	for _, line := range []string{b.name + "  " + drawing + " " + numbers, b.name + "  " + numbers, numbers} {
		if len(line) < width {
			return line
		}
	}
	return ""
}
