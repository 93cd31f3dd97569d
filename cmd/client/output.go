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

// line is the result of one file: an answer or an error.
type line struct {
	File string `json:"file"`
	*Answer
	Error *failure `json:"error,omitempty"`
}

// Answer is exported because encoding/json does not set unexported embedded structs.
type Answer struct {
	Width   int32             `json:"width"`
	Height  int32             `json:"height"`
	Model   string            `json:"model"`
	Results []json.RawMessage `json:"results"`
	// Truncated means that faces may be missing.
	Truncated bool `json:"truncated,omitempty"`
}

type failure struct {
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// permanentReasons are the reasons that depend on the image alone: a retry fails in the same way.
var permanentReasons = []string{
	client.ReasonEmptyImage, client.ReasonUnsupportedFormat, client.ReasonCorruptImage,
	client.ReasonTooManyPixels, client.ReasonTooManyBytes,
}

func (f *failure) isPermanent() bool { return slices.Contains(permanentReasons, f.Reason) }

// answerOf returns the parts of a response that depend only on the image, so that
// two runs give the same lines.
func answerOf(res *inferencev1.InferResults) (*Answer, error) {
	a := &Answer{Width: res.GetWidth(), Height: res.GetHeight(), Model: res.GetModel(), Truncated: res.GetTruncated(), Results: []json.RawMessage{}}
	for _, r := range res.GetResults() {
		// Include fields that are zero, as the server's JSON does.
		face, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(r)
		if err != nil {
			return nil, err
		}
		a.Results = append(a.Results, face)
	}
	return a, nil
}

// label returns a file's name as text. Bytes that are not UTF-8, which JSON cannot
// hold, become escapes such as \xff.
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

// printable quotes names and messages with control characters, which could move a
// terminal's cursor.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// output writes lines. It is not safe for concurrent use.
type output struct {
	file   *os.File
	table  bool
	lock   *flock.Flock // nil for standard output
	synced time.Time
	// earlier is what the file has from earlier runs.
	earlier earlierRuns
}

// syncEvery bounds the work that is lost if the machine stops.
const syncEvery = 5 * time.Second

// open returns the output that the flags name. A file is locked until close.
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

// resume prepares the file for appending.
func (o *output) resume(wanted bool) error {
	info, err := o.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // a pipe, or /dev/null
		if wanted {
			return errors.New("--resume needs a regular file")
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
			return errors.New("it has content already: use --resume to continue it, or remove it to start again")
		}
		return nil
	}
	if o.earlier, err = readAnswered(o.file); err != nil {
		return err
	}
	return o.file.Truncate(o.earlier.length)
}

// write writes l with one system call, so that only the last line can ever be
// incomplete.
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
		var best struct {
			Confidence float64 `json:"confidence"`
		}
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

// close closes and unlocks the file. Standard output stays open.
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

// earlierRuns is what an output file says about the runs that wrote it.
type earlierRuns struct {
	// files has the labels of files that have their final result. The value is true
	// if that is an error.
	files map[string]bool
	// length is the number of bytes to keep: without an incomplete last line, and
	// without errors at the end that a retry may fix.
	length int64
}

// maxLine bounds the memory for a malformed line. A line with thousands of faces
// has a megabyte.
const maxLine = 64 << 20

// readAnswered reads an output file. If the file has anything but lines of this
// program, it returns an error, so that the file is not overwritten.
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
			break // the last write was interrupted
		}
		var l struct {
			File    *string            `json:"file"`
			Results *[]json.RawMessage `json:"results"`
			Error   *failure           `json:"error"`
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
