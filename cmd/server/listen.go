package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// unixScheme begins addresses that are paths of sockets.
const unixScheme = "unix:"

// listen listens on host:port, or unix:PATH. With reusePort other processes may
// listen on the same port.
func listen(ctx context.Context, addr string, reusePort bool) (net.Listener, error) {
	var config net.ListenConfig
	path, isUnix := strings.CutPrefix(addr, unixScheme)
	if !isUnix {
		if reusePort {
			config.Control = setReusePort
		}
		return config.Listen(ctx, "tcp", addr)
	}
	l, err := config.Listen(ctx, "unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	// A process that was killed leaves its socket behind; one that lives answers.
	conn, dialErr := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if dialErr == nil {
		_ = conn.Close() // nothing was said on it
		return nil, fmt.Errorf("%w: another process listens there", err)
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode().Type() != os.ModeSocket || !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return config.Listen(ctx, "unix", path)
}
