package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
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
	"github.com/minio/minio-go/v7"
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
	sink  sink
	table bool
	// earlier is what the output has from earlier runs.
	earlier earlierRuns
}

// sink is where lines go.
type sink interface {
	// write writes a line. retried means that the next run writes another one for the same
	// file; such lines come last.
	write(text []byte, retried bool) error
	close() error
}

// open returns the output that the flags name.
func (c *config) open(ctx context.Context, stdout *os.File) (*output, error) {
	o := &output{table: c.Format == "table"}
	var err error
	switch {
	case c.Output == "":
		o.sink = &fileSink{file: stdout}
	case isObject(c.Output):
		var storage *minio.Client
		if storage, err = c.objects(); err == nil {
			o.sink, o.earlier, err = openObjectSink(ctx, storage, c.Output, c.shard, c.Resume)
		}
	default:
		o.sink, o.earlier, err = openFileSink(c.Output, c.Resume)
	}
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	return o, nil
}

// fileSink appends lines to a file, or to standard output.
type fileSink struct {
	file   *os.File
	lock   *flock.Flock // nil for standard output
	synced time.Time
}

// syncEvery bounds the work that is lost if the machine stops.
const syncEvery = 5 * time.Second

// openFileSink opens a file, which is locked until close.
func openFileSink(path string, resume bool) (*fileSink, earlierRuns, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644) //nolint:gosec // as a shell's > would
	if err != nil {
		return nil, earlierRuns{}, err
	}
	s := &fileSink{file: f, lock: flock.New(path), synced: time.Now()}
	earlier, err := s.resume(resume)
	if err != nil {
		return nil, earlier, errors.Join(fmt.Errorf("%s: %w", path, err), s.close())
	}
	return s, earlier, nil
}

// resume prepares the file for appending.
func (s *fileSink) resume(wanted bool) (earlierRuns, error) {
	info, err := s.file.Stat()
	if err != nil {
		return earlierRuns{}, err
	}
	if !info.Mode().IsRegular() { // a pipe, or /dev/null
		if wanted {
			return earlierRuns{}, errors.New("--resume needs a regular file")
		}
		return earlierRuns{}, nil
	}
	locked, err := s.lock.TryLock()
	if err != nil {
		return earlierRuns{}, err
	}
	if !locked {
		return earlierRuns{}, errors.New("another process is writing to it")
	}
	if !wanted {
		if info.Size() > 0 {
			return earlierRuns{}, errors.New("it has content already: use --resume to continue it, or remove it to start again")
		}
		return earlierRuns{}, nil
	}
	earlier, err := readAnswered(s.file)
	if err != nil {
		return earlierRuns{}, err
	}
	return earlier, s.file.Truncate(earlier.length)
}

// write implements sink, with one system call, so that only the last line can ever be
// incomplete.
func (s *fileSink) write(text []byte, _ bool) error {
	if _, err := s.file.Write(text); err != nil {
		return err
	}
	if s.lock != nil && time.Since(s.synced) >= syncEvery {
		s.synced = time.Now()
		return s.file.Sync()
	}
	return nil
}

// close closes and unlocks the file. Standard output stays open.
func (s *fileSink) close() error {
	if s.lock == nil {
		return nil
	}
	var err error
	if info, e := s.file.Stat(); e == nil && info.Mode().IsRegular() {
		err = s.file.Sync()
	}
	return errors.Join(err, s.file.Close(), s.lock.Close())
}

// write writes l.
func (o *output) write(l line, took time.Duration) error {
	text, err := o.format(l, took)
	if err != nil {
		return err
	}
	return o.sink.write(text, l.Error != nil && !l.Error.isPermanent())
}

// writeHeader writes the first line of a table.
func (o *output) writeHeader() error { return o.sink.write([]byte(tableHeader), false) }

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
		fmt.Fprintf(&b, "%5s  %5s  %7d  %s: %s\n", "-", "-", ms, printable(l.File), printable(inFlags(l.Error.summary())))
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

// summary is the error as client.Error has it.
func (f *failure) summary() string {
	return cmp.Or(f.Reason, f.Code) + ": " + f.Message
}

// inFlags has the names of this program's flags instead of those of the server's options.
func inFlags(message string) string { return flagNames.Replace(message) }

var flagNames = strings.NewReplacer("options.model", "--model", "options.min_confidence", "--min-confidence",
	"options.max_results", "--max-results", "options.min_face_size", "--min-face-size",
	"options.skip_landmarks", "--skip-landmarks", "options.any_orientation", "--any-orientation")

func (o *output) close() error { return o.sink.close() }

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
