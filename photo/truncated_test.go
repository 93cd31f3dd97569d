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
		{0, 0, "the file ends early: less than 1 % of the picture is there"},
		{0, 7, "the file ends early: less than 1 % of the picture is there"},
		{1, 101, "the file ends early: less than 1 % of the picture is there"},
		{1, 100, "the file ends early: 1 % of the picture is there"},
		{9, 10, "the file ends early: 90 % of the picture is there"},
		{999, 1000, "the file ends early: 99 % of the picture is there"},
		{10, 10, "the file ends early: 99 % of the picture is there"}, // rows, the last of which may be short
		{29, 100, "the file ends early: 29 % of the picture is there"},
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
