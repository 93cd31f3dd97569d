package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
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

// listenRemedy says what to do about err of listen; empty when that says it.
func listenRemedy(ctx context.Context, addr string, err error) string {
	host, port, splitErr := net.SplitHostPort(addr)
	if splitErr != nil || strings.HasPrefix(addr, unixScheme) {
		return ""
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "; stop the program that listens there, or listen on another port: --listen " + freeAddress(ctx, host, port)
	case errors.Is(err, syscall.EACCES):
		return "; this port is for privileged users: listen on one above 1023, such as --listen " + net.JoinHostPort(host, "8080")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("; this machine does not have that address: --listen :%s listens on all that it has", port)
	}
	return ""
}

// freeAddress returns an address with one of the ports behind port that is free now, or
// with port 0, for which the system picks one.
func freeAddress(ctx context.Context, host, port string) string {
	n, _ := strconv.ParseUint(port, 10, 16) // 0 for a name, whose number does not matter
	for next := n + 1; n > 0 && next <= n+20 && next <= math.MaxUint16; next++ {
		addr := net.JoinHostPort(host, strconv.FormatUint(next, 10))
		if l, err := listen(ctx, addr, false); err == nil {
			_ = l.Close() // it was only asked for
			return addr
		}
	}
	return net.JoinHostPort(host, "0")
}
