// Package page writes what was measured into the docs: tables, numbers and plots.
package page

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Decimals formats a number as in the docs: .9 for 0.9.
func Decimals(v float64, digits int) string {
	if math.IsNaN(v) {
		return "–"
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if v < 1 {
		s = strings.TrimPrefix(s, "0")
	}
	return s
}

// Table returns a table in Markdown, whose first row is the header, with its
// columns aligned: the first one to the left, the others to the right.
func Table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + pad)
			} else {
				b.WriteString(" | " + pad + cell)
			}
		}
		b.WriteString(" |\n")
		if n == 0 {
			for i, width := range widths {
				if i == 0 {
					b.WriteString("|" + strings.Repeat("-", width+2))
				} else {
					b.WriteString("|" + strings.Repeat("-", width+1) + ":")
				}
			}
			b.WriteString("|\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Replace replaces the report between the two lines of a page that say by which command it was
// written, such as "make eval".
func Replace(page []byte, command, report string) ([]byte, error) {
	begin, end := "<!-- "+command+": begin -->\n", "<!-- "+command+": end -->\n"
	before, rest, ok1 := bytes.Cut(page, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("no lines %s and %s to write between", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return bytes.Join([][]byte{before, []byte(begin), []byte(report), []byte(end), after}, nil), nil
}

// Write replaces the report of the page at path, as Replace does, and writes the drawing that it
// shows beside the page.
func Write(path, command, report, drawing string, svg []byte) error {
	before, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err
	}
	after, err := Replace(before, command, report)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	const readable fs.FileMode = 0o644
	return errors.Join(os.WriteFile(path, after, readable), os.WriteFile(filepath.Join(filepath.Dir(path), drawing), svg, readable))
}
