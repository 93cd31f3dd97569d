package service

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrameTracker(t *testing.T) {
	for _, c := range []struct {
		name      string
		enveloped bool
		parts     []string // in the order in which they are received
		err       error    // returned with the last part
		complete  int      // the number of parts after which the message is complete; 0 for never
		// mayBeCompressed is the expected result at the end.
		mayBeCompressed bool
	}{
		{"a body", false, []string{"abc", "def"}, nil, 0, true},
		{"a body that ends with its last bytes", false, []string{"abc", "def"}, io.EOF, 2, true},
		{"a body that ends behind its last bytes", false, []string{"abc", ""}, io.EOF, 2, true},
		{"an empty body", false, []string{""}, io.EOF, 1, true},
		{"a body that breaks off", false, []string{"abc"}, io.ErrUnexpectedEOF, 0, true},
		{"a message", true, []string{"\x00\x00\x00\x00\x03abc"}, nil, 1, false},
		{"a compressed message", true, []string{"\x01\x00\x00\x00\x03abc"}, nil, 1, true},
		{"an empty message", true, []string{"\x00\x00\x00\x00\x00"}, nil, 1, false},
		{"a prefix in parts", true, []string{"\x01\x00", "\x00\x00", "\x02", "ab"}, nil, 4, true},
		{"the prefix alone", true, []string{"\x00\x00\x00\x00\x03", "ab", "c"}, nil, 3, false},
		{"half a message", true, []string{"\x00\x00\x00\x00\x03ab"}, io.EOF, 0, false},
		{"half a prefix", true, []string{"\x00\x00\x00"}, io.EOF, 0, false},
		{"a length of four bytes", true, []string{"\x00\x01\x00\x00\x00" + strings.Repeat("x", 1<<24-1), "x"}, nil, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := frameTracker{enveloped: c.enveloped}
			for range 2 { // and again after reset
				for i, part := range c.parts {
					var err error
					if i == len(c.parts)-1 {
						err = c.err
					}
					if complete := f.add([]byte(part), err); complete != (i+1 == c.complete) {
						t.Errorf("complete after part %d: %v", i+1, complete)
					}
				}
				if f.mayBeCompressed() != c.mayBeCompressed || f.size != int64(len(strings.Join(c.parts, ""))) {
					t.Errorf("compressed: %v; size %d", f.mayBeCompressed(), f.size)
				}
				f.reset()
			}
		})
	}
}

func TestLimitedReader(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int64
		want  error
	}{{"less", 6, io.EOF}, {"just fits", 5, io.EOF}, {"a byte too many", 4, errLimit}, {"nothing allowed", 0, errLimit}} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with its error": iotest.DataErrReader,
		} {
			l := &limitedReader{wrap(strings.NewReader("hello")), c.limit}
			var got []byte
			var err error
			for buffer := make([]byte, 100); err == nil; {
				var n int
				n, err = l.Read(buffer)
				got = slices.Concat(got, buffer[:n])
			}
			if !errors.Is(err, c.want) || !bytes.Equal(got, []byte("hello"[:min(5, c.limit)])) || l.left != max(0, c.limit-5) {
				t.Errorf("%s, %s: %q, %v, %d left", c.name, name, got, err, l.left)
			}
		}
	}
}
