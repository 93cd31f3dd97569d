package photo

import (
	"errors"
	"io"
	"testing"
)

func TestTruncated(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		want        string
	}{
		{0, 0, "the file ends early: it contains less than 1 % of the image"},
		{0, 7, "the file ends early: it contains less than 1 % of the image"},
		{1, 101, "the file ends early: it contains less than 1 % of the image"},
		{1, 100, "the file ends early: it contains 1 % of the image"},
		{9, 10, "the file ends early: it contains 90 % of the image"},
		{999, 1000, "the file ends early: it contains 99 % of the image"},
		{10, 10, "the file ends early: it contains 99 % of the image"}, // rows, the last of which may be short
		{29, 100, "the file ends early: it contains 29 % of the image"},
	} {
		err := truncated(c.done, c.total)
		if err.Error() != c.want {
			t.Errorf("%d of %d: %q, want %q", c.done, c.total, err, c.want)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v is not io.ErrUnexpectedEOF", err)
		}
		if got := classify("PNG", err).Error(); got != "corrupt image: PNG: "+c.want {
			t.Errorf("classified: %q", got)
		}
	}
}
