//go:build !linux

package client

import "syscall"

// limitSilence does nothing: only keep-alive packets notice that a connection is lost.
func limitSilence(_, _ string, _ syscall.RawConn) error { return nil }
