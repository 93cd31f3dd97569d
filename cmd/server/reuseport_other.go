//go:build !unix || solaris

package main

import (
	"errors"
	"syscall"
)

func setReusePort(_, _ string, _ syscall.RawConn) error {
	return errors.New("--reuse-port: not supported on this platform")
}
