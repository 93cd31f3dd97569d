package client

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSilence makes a connection fail when what was sent is not acknowledged in time. Without
// it, the system sends it again for a quarter of an hour.
func limitSilence(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// A system that cannot do so waits longer.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	})
}
