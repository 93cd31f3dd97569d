package modelstore_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/mienproject/mien/internal/terminaltest"
)

func TestProgressOnATerminal(t *testing.T) {
	screen, tty := terminaltest.Open(t)
	s := publish(t, cut(content, 50_000), whole).store(t)
	s.Progress = tty
	if _, err := s.Fetch(t.Context(), "small"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(tty, "END")
	var drawn strings.Builder
	for buffer := make([]byte, 1024); !strings.Contains(drawn.String(), "END"); {
		n, err := screen.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		drawn.Write(buffer[:n])
	}
	for _, want := range []string{
		`\rsmall\.onnx   0% \[\.+\] \( 0 B/200 kB`,
		`\rsmall\.onnx \(resumed\)   0% \[\.+\] \( 0 B/150 kB`,
		`\rsmall\.onnx \(resumed\) 100% \[=+\] \(150/150 kB.*\r\nEND`,
	} {
		if !regexp.MustCompile(want).MatchString(drawn.String()) {
			t.Errorf("drawn was %q, want it to match %q", &drawn, want)
		}
	}
	terminaltest.CheckWidth(t, drawn.String())
}
