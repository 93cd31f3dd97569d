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
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events {}
http {
	access_log off;
	client_max_body_size 16m;
	%[2]s
	server {
		listen %[3]s;
		listen %[4]s ssl;
		ssl_certificate %[5]s;
		ssl_certificate_key %[6]s;
		location / {
			proxy_pass %[7]s;
			%[8]s
		}
	}
}
`, dir, temporary.String(), plain, secure, cert, key, s.url, more), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-p", dir, "-c", config)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("nginx: %s", log.String())
		}
	})
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", secure)
		if err == nil {
			_ = conn.Close() // it only shows that nginx listens
			break
		}
		if time.Since(began) > patience {
			t.Fatalf("nginx does not listen: %s", log.String())
		}
	}
	port := func(address string) string { _, p, _ := net.SplitHostPort(address); return p }
	return port(plain), port(secure)
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
