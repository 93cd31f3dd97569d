package modelstore_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a terminal of 80 columns: what is written to tty
// can be read from screen.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal to test with: ", err)
	}
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close(); tty.Close() })
	return screen, tty
}

func TestProgressOnATerminal(t *testing.T) {
	screen, tty := terminal(t)
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
		`\rsmall\.onnx  \[ {30}\]   0%  0 B of 200 kB`,
		`\rsmall\.onnx  \[={7} {23}\]  25%  50 kB of 200 kB`, // resumed
		`\rsmall\.onnx  \[={30}\] 100%  200 kB of 200 kB.*\r\nEND`,
	} {
		if !regexp.MustCompile(want).MatchString(drawn.String()) {
			t.Errorf("drawn was %q, want it to match %q", &drawn, want)
		}
	}
	for line := range strings.FieldsFuncSeq(drawn.String(), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if len(line) >= 80 {
			t.Errorf("a line of %d columns: %q", len(line), line)
		}
	}
}
