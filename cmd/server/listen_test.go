package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestListenUnix checks that a socket file left by a crash is replaced, and that a
// socket in use and other files are not touched.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := listen(t.Context(), unixScheme+path, false)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := listen(t.Context(), unixScheme+path, false); err == nil {
		_ = l.Close()
		t.Error("took a socket that is in use")
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // listen was called with a Unix address
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listen(t.Context(), unixScheme+path, false)
	if err != nil {
		t.Fatalf("a socket that was left behind: %v", err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listen(t.Context(), unixScheme+path, false); err == nil {
		_ = l.Close()
		t.Error("took a file that is no socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

// TestListenReusePort checks that two listeners share a port if both use SO_REUSEPORT.
func TestListenReusePort(t *testing.T) {
	first, err := listen(t.Context(), "127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := listen(t.Context(), first.Addr().String(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if third, err := listen(t.Context(), first.Addr().String(), false); err == nil {
		_ = third.Close()
		t.Error("a third one came in without saying so")
	}
}

// TestListenRemedy checks that the suggested address can be used.
func TestListenRemedy(t *testing.T) {
	taken, err := listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	_, err = listen(t.Context(), addr, false)
	if err == nil {
		t.Fatal("a port that is in use was taken")
	}
	remedy := listenRemedy(t.Context(), addr, err)
	_, suggested, ok := strings.Cut(remedy, "--listen ")
	if !ok || suggested == addr || !strings.HasPrefix(suggested, "127.0.0.1:") {
		t.Fatalf("%q suggests no other port", remedy)
	}
	l, err := listen(t.Context(), suggested, false)
	if err != nil {
		t.Fatalf("%q suggests what cannot be had: %v", remedy, err)
	}
	_ = l.Close()
	for _, c := range []struct {
		addr, want string
		err        error
	}{
		{"127.0.0.1:80", "--listen 127.0.0.1:8080", syscall.EACCES},
		{"[::1]:80", "--listen [::1]:8080", syscall.EACCES},
		{"192.0.2.1:8080", "--listen :8080", syscall.EADDRNOTAVAIL},
		{":65535", "--listen :0", syscall.EADDRINUSE},
		{"unix:/run/mien.sock", "", syscall.EADDRINUSE},
		{":8080", "", syscall.EINVAL},
	} {
		if remedy := listenRemedy(t.Context(), c.addr, &net.OpError{Err: c.err}); !strings.HasSuffix(remedy, c.want) && !strings.Contains(remedy, c.want+" ") || (remedy == "") != (c.want == "") {
			t.Errorf("%s, %v: %q, want %q", c.addr, c.err, remedy, c.want)
		}
	}
}
