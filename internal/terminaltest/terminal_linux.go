package terminaltest

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// Columns is the width of every terminal.
const Columns = 80

// Open returns both ends of a terminal: what is written to tty can be read from
// screen. It skips the test where the system has no pseudoterminals.
func Open(t *testing.T) (screen, tty *os.File) {
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
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: Columns}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = screen.Close(), tty.Close() })
	return screen, tty
}

// erase matches the escape sequences that erase a line, or the rest of it.
var erase = regexp.MustCompile(`\x1b\[\d?K`)

// CheckWidth reports an error for each line of shown, the output to a terminal, that is
// wider than the terminal.
func CheckWidth(t *testing.T, shown string) {
	t.Helper()
	for _, line := range regexp.MustCompile(`[\r\n]+`).Split(erase.ReplaceAllString(shown, ""), -1) {
		if len(line) > Columns {
			t.Errorf("a line of %d columns: %q", len(line), line)
		}
	}
}
