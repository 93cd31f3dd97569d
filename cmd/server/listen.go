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

// unixScheme is the prefix of addresses that are paths of Unix sockets.
const unixScheme = "unix:"

// listen listens on host:port or unix:PATH. With reusePort, other processes may listen
// on the same port.
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
	// A killed process leaves its socket file behind. A running process accepts connections.
	conn, dialErr := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if dialErr == nil {
		_ = conn.Close() // nothing was sent on it
		return nil, fmt.Errorf("%w: another process is listening there", err)
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode().Type() != os.ModeSocket || !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return config.Listen(ctx, "unix", path)
}

// listenRemedy returns what to do about an error of listen, or "" if the error already
// says it.
func listenRemedy(ctx context.Context, addr string, err error) string {
	host, port, splitErr := net.SplitHostPort(addr)
	if splitErr != nil || strings.HasPrefix(addr, unixScheme) {
		return ""
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "; stop the program that is listening there, or use another port: --listen " + freeAddress(ctx, host, port)
	case errors.Is(err, syscall.EACCES):
		return "; only privileged users may use this port: use one above 1023, such as --listen " + net.JoinHostPort(host, "8080")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "; this machine does not have that address: to listen on all of its addresses, use --listen :" + port
	}
	return ""
}

// freeAddress returns host with a port after port that is free now, or with port 0, for
// which the system picks a free port.
func freeAddress(ctx context.Context, host, port string) string {
	n, _ := strconv.ParseUint(port, 10, 16) // 0 for the name of a service
	for next := n + 1; n > 0 && next <= n+20 && next <= math.MaxUint16; next++ {
		addr := net.JoinHostPort(host, strconv.FormatUint(next, 10))
		if l, err := listen(ctx, addr, false); err == nil {
			_ = l.Close() // only whether it is free matters
			return addr
		}
	}
	return net.JoinHostPort(host, "0")
}
