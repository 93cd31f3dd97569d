package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofrs/flock"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mienproject/mien/client"
	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// line is what one file gives: an answer or an error.
type line struct {
	File string `json:"file"`
	*Answer
	Error *failure `json:"error,omitempty"`
}

// Answer is exported for encoding/json, which sets no others that are embedded.
type Answer struct {
	Width   int32             `json:"width"`
	Height  int32             `json:"height"`
	Model   string            `json:"model"`
	Results []json.RawMessage `json:"results"`
}

type failure struct {
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// permanentReasons are the reasons that are a picture's own: asking again gives the same.
var permanentReasons = []string{
	client.ReasonEmptyImage, client.ReasonUnsupportedFormat, client.ReasonCorruptImage,
	client.ReasonTooManyPixels, client.ReasonTooManyBytes,
}

func (f *failure) isPermanent() bool { return slices.Contains(permanentReasons, f.Reason) }

// answerOf keeps of a reply what depends on the picture alone, so that two runs
// give the same lines.
func answerOf(res *inferencev1.InferResults) (*Answer, error) {
	a := &Answer{Width: res.GetWidth(), Height: res.GetHeight(), Model: res.GetModel(), Results: []json.RawMessage{}}
	for _, r := range res.GetResults() {
		// Fields at zero are spelt out, as in the server's own JSON.
		face, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(r)
		if err != nil {
			return nil, err
		}
		a.Results = append(a.Results, face)
	}
	return a, nil
}

// label is a file's name in text: bytes that are no UTF-8, which JSON cannot
// hold, are written as \xff.
func label(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, name[0])
		} else {
			b.WriteString(name[:n])
		}
		name = name[n:]
	}
	return b.String()
}

// printable keeps names and messages from moving a terminal's cursor.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// output is where lines go. Its methods are for one goroutine at a time.
type output struct {
	file   *os.File
	table  bool
	lock   *flock.Flock // nil for standard output
	synced time.Time
	// earlier is what the file has from earlier runs.
	earlier earlierRuns
}

// syncEvery is how much work a machine that stops may cost.
const syncEvery = 5 * time.Second

// open returns where the flags say that lines go. A file is locked until close.
func (c *config) open(stdout *os.File) (*output, error) {
	o := &output{file: stdout, table: c.Format == "table", synced: time.Now()}
	if c.Output == "" {
		return o, nil
	}
	f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644) //nolint:gosec // as a shell's > would
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	o.file, o.lock = f, flock.New(c.Output)
	if err := o.resume(c.Resume); err != nil {
		return nil, errors.Join(fmt.Errorf("--output %s: %w", c.Output, err), o.close())
	}
	return o, nil
}

// resume makes the file ready to be appended to.
func (o *output) resume(wanted bool) error {
	info, err := o.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // a pipe, or /dev/null
		if wanted {
			return errors.New("--resume goes on with files only")
		}
		return nil
	}
	locked, err := o.lock.TryLock()
	if err != nil {
		return err
	}
	if !locked {
		return errors.New("another process is writing to it")
	}
	if !wanted {
		if info.Size() > 0 {
			return errors.New("it has content already: --resume goes on with it; to start again, remove it")
		}
		return nil
	}
	if o.earlier, err = readAnswered(o.file); err != nil {
		return err
	}
	return o.file.Truncate(o.earlier.length)
}

// write writes l in one piece, so that no other end than that of the last line
// is ever missing.
func (o *output) write(l line, took time.Duration) error {
	text, err := o.format(l, took)
	if err != nil {
		return err
	}
	if _, err := o.file.Write(text); err != nil {
		return err
	}
	if o.lock != nil && time.Since(o.synced) >= syncEvery {
		o.synced = time.Now()
		return o.file.Sync()
	}
	return nil
}

const tableHeader = "FACES   BEST       MS  FILE\n"

func (o *output) format(l line, took time.Duration) ([]byte, error) {
	var b bytes.Buffer
	if !o.table {
		lines := json.NewEncoder(&b)
		lines.SetEscapeHTML(false)
		err := lines.Encode(l)
		return b.Bytes(), err
	}
	ms := took.Milliseconds()
	switch {
	case l.Error != nil:
		fmt.Fprintf(&b, "%5s  %5s  %7d  %s: %s\n", "-", "-", ms, printable(l.File), l.Error.summary())
	case len(l.Results) == 0:
		fmt.Fprintf(&b, "%5d  %5s  %7d  %s\n", 0, "-", ms, printable(l.File))
	default:
		// The first is the most confident.
		var best struct{ Confidence float64 }
		if err := json.Unmarshal(l.Results[0], &best); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%5d  %5.3f  %7d  %s\n", len(l.Results), best.Confidence, ms, printable(l.File))
	}
	return b.Bytes(), nil
}

func (f *failure) summary() string {
	if f.Reason != "" {
		return f.Reason
	}
	return f.Code
}

// close leaves the file to others. Standard output stays open.
func (o *output) close() error {
	if o.lock == nil {
		return nil
	}
	var err error
	if info, e := o.file.Stat(); e == nil && info.Mode().IsRegular() {
		err = o.file.Sync()
	}
	return errors.Join(err, o.file.Close(), o.lock.Close())
}

// earlierRuns is what an output file tells of the runs that wrote it.
type earlierRuns struct {
	// files that need not be asked about again, by label. The value is true for
	// those that were refused.
	files map[string]bool
	// length in bytes of the part to keep: without a last line that was not
	// finished, and without the errors at the end that are worth another try.
	length int64
}

// maxLine bounds the memory for a line that never ends. An answer of thousands
// of faces is a megabyte.
const maxLine = 64 << 20

// readAnswered reads an output file. One that holds anything but lines of this
// program is an error, for it would be damaged.
func readAnswered(r io.Reader) (earlierRuns, error) {
	a := earlierRuns{files: map[string]bool{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i+1], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	var offset int64
	for n := 1; lines.Scan(); n++ {
		text := lines.Bytes()
		offset += int64(len(text))
		notOurs := fmt.Errorf("line %d was not written by this program: name another file", n)
		if text[len(text)-1] != '\n' {
			const start = `{"file":"`
			if m := min(len(text), len(start)); string(text[:m]) != start[:m] {
				return earlierRuns{}, notOurs
			}
			break // cut off while it was written
		}
		var l struct {
			File    *string
			Results *[]json.RawMessage
			Error   *failure
		}
		if json.Unmarshal(text, &l) != nil || l.File == nil || (l.Results == nil) == (l.Error == nil) {
			return earlierRuns{}, notOurs
		}
		if l.Error != nil && !l.Error.isPermanent() {
			continue
		}
		a.files[*l.File] = l.Error != nil
		a.length = offset
	}
	return a, lines.Err()
}
