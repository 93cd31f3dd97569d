package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nginx starts nginx in front of the server. More are additional directives of its location.
// It returns the ports for HTTP and HTTPS.
func nginx(t testing.TB, s *server, more string) (plain, secure string) {
	t.Helper()
	tool(t, "nginx")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t)
	plain, secure = freeAddress(t), freeAddress(t)
	config := temp(t, "nginx.conf", []byte(nginxConfig(dir, fmt.Sprintf(`
	client_max_body_size 16m;
	server {
		listen %s;
		listen %s ssl;
		ssl_certificate %s;
		ssl_certificate_key %s;
		location / {
			proxy_pass %s;
			%s
		}
	}
`, plain, secure, cert, key, s.url, more))))
	startProxy(t, exec.Command("nginx", "-p", dir, "-c", config), secure)
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	return port(plain), port(secure)
}

// nginxConfig returns a configuration for the directives of HTTP, with all files in a folder.
func nginxConfig(dir, directives string) string {
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "\t%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return fmt.Sprintf(`
daemon off;
master_process off;
pid %s/pid;
error_log stderr;
events {}
http {
	access_log off;
%s%s}
`, dir, temporary.String(), directives)
}

// startProxy starts a proxy, and waits until it listens at an address. It runs until the test ends.
func startProxy(t testing.TB, cmd *exec.Cmd, address string) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("%s: %s", cmd.Path, excerpt(log.Bytes()))
		}
	})
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close() // it only shows that the proxy listens
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended before it listened", cmd.Path)
		default:
		}
		if time.Since(began) > patience {
			t.Fatalf("%s does not listen", cmd.Path)
		}
	}
}

// freeAddress returns an address of this machine whose port is free.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestPageBehindNginx opens the page through nginx as it comes, which sends the address of the
// server as Host. Browsers say that its requests are of the same origin, except in cleartext
// to a name that is not this machine's: then nginx must pass on the name, or the origin must be
// allowed.
func TestPageBehindNginx(t *testing.T) {
	t.Parallel()
	local := func(port string) string { return "http://localhost:" + port }
	named := func(port string) string { return "http://faces.test:" + port }
	secureNamed := func(port string) string { return "https://faces.test:" + port }

	s := start(t)
	plain, secure := nginx(t, s, "")
	play(t, s, pageTask{Scenario: "proxied", Trusted: []string{local(plain), secureNamed(secure)}, Refused: []string{named(plain)}})

	passing := start(t, "--allowed-host", "faces.test")
	plain, _ = nginx(t, passing, "proxy_set_header Host $http_host;")
	play(t, passing, pageTask{Scenario: "proxied", Trusted: []string{named(plain)}})
}
