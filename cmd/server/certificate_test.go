package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

// authority is a certificate authority for tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a *authority) pem() []byte { return block("CERTIFICATE", a.certificate.Raw) }

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue returns a certificate for 127.0.0.1 and its key, in PEM.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(100 + a.serial), Subject: pkix.Name{CommonName: "mien test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
}

// replace replaces a file as careful tools do: completely or not at all.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// served returns the certificate that a new connection to url gets.
func served(t *testing.T, url string, pool *x509.CertPool) *x509.Certificate {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// until repeats a check for at most ten seconds.
func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	for began := time.Now(); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

// hangUp sends SIGHUP to this process, and so to all servers in it.
func hangUp(t *testing.T) {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateRotation replaces the certificate again and again under load, by SIGHUP
// and without it, and checks that no call fails, that an open stream goes on, and that new
// connections get the new certificate.
func TestCertificateRotation(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	rotate := func() *big.Int {
		cert, key := a.issue(t, nil)
		// Between these two lines the files do not fit together.
		replace(t, certFile, cert)
		replace(t, keyFile, key)
		p, _ := pem.Decode(cert)
		parsed, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.SerialNumber
	}
	rotate()
	s := start(t, append(patient, "--tls-cert", certFile, "--tls-key", keyFile)...)

	image := &inferencev1.Image{RawData: make([]byte, 40*40), Width: 40, Height: 40, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	var calls, streamed atomic.Int64
	var callers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}} {
		h := httpClient(t, 2, a.pool())
		client := inferencev1connect.NewInferenceClient(h, s.url, opts...)
		callers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if i%3 == 0 {
					h.CloseIdleConnections() // so that the next call needs a new handshake
				}
				if _, err := client.Predict(t.Context(), image); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	stream, err := inferencev1connect.NewInferenceClient(httpClient(t, 2, a.pool()), s.url, connect.WithGRPC()).PredictStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	callers.Go(func() {
		for ctx.Err() == nil {
			if err := stream.Send(image); err != nil {
				t.Errorf("stream: %v", err)
				return
			}
			if _, err := stream.Receive(); err != nil {
				t.Errorf("stream: %v", err)
				return
			}
			streamed.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
		_ = stream.CloseRequest()
		_, _ = stream.Receive()
		_ = stream.CloseResponse()
	})
	for i := range 6 {
		want := rotate()
		if i > 0 { // the first is noticed without a signal
			hangUp(t)
		}
		until(t, "a new connection gets the new certificate", func() bool { return served(t, s.url, a.pool()).SerialNumber.Cmp(want) == 0 })
	}
	cancel()
	callers.Wait()
	if calls.Load() < 50 || streamed.Load() < 10 {
		t.Errorf("only %d calls and %d images on the stream", calls.Load(), streamed.Load())
	}
	t.Logf("%d calls, %d images on one stream, 6 certificates", calls.Load(), streamed.Load())
	if _, log := s.stop(); strings.Count(log, `"msg":"reloaded"`) < 6 || !strings.Contains(log, `"because":"the files changed"`) || !strings.Contains(log, `"because":"SIGHUP"`) {
		t.Error(log)
	}
}

// TestBadCertificateIsNotUsed checks that the old certificate stays in use when the new
// files are broken, do not fit together or are missing, and that the log says so once.
func TestBadCertificateIsNotUsed(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := a.issue(t, nil)
	replace(t, certFile, cert)
	replace(t, keyFile, key)
	s := start(t, "--tls-cert", certFile, "--tls-key", keyFile)
	first := served(t, s.url, a.pool())

	_, otherKey := a.issue(t, nil)
	replace(t, keyFile, otherKey)
	time.Sleep(2*reloadInterval + reloadInterval/2) // noticed, and seen again
	replace(t, certFile, []byte("this is not PEM"))
	hangUp(t)
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2*reloadInterval + reloadInterval/2)
	if got := served(t, s.url, a.pool()); got.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("a bad certificate is served")
	}
	newCert, newKey := a.issue(t, nil)
	replace(t, certFile, newCert)
	replace(t, keyFile, newKey)
	until(t, "a good certificate is served again", func() bool {
		return served(t, s.url, a.pool()).SerialNumber.Cmp(first.SerialNumber) != 0
	})
	_, log := s.stop()
	if n := strings.Count(log, `"msg":"reload failed; what was loaded before stays in use"`); n < 2 || n > 4 {
		t.Errorf("the log has %d lines about failures:\n%s", n, log)
	}
	if !strings.Contains(log, "private key does not match") {
		t.Error(log)
	}
}

// TestTLSVersions checks that old versions of TLS are rejected.
func TestTLSVersions(t *testing.T) {
	cert, key, pool := certificate(t)
	s := start(t, "--tls-cert", cert, "--tls-key", key)
	for version, accepted := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: version, MaxVersion: version}}
		conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "https://"))
		if (err == nil) != accepted {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

// TestCertificateExpiry checks what the log says about a certificate as time goes by, and
// that the metric is the end of the certificate of the chain that ends first.
func TestCertificateExpiry(t *testing.T) {
	a := newAuthority(t)
	now := time.Now()
	cert, key := a.issue(t, func(c *x509.Certificate) { c.NotAfter = now.Add(30 * 24 * time.Hour) })
	var log bytes.Buffer
	certs := &certificates{log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := certs.load([][]byte{append(cert, a.pem()...), key}); err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	for _, c := range []struct {
		at   time.Duration
		want string
	}{
		{0, ""},
		{16*day - time.Hour, ""},
		{16*day + time.Hour, "level=WARN"},
		{16*day + 2*time.Hour, ""}, // once a day
		{17*day + 2*time.Hour, "level=WARN"},
		{31 * day, "level=ERROR"},
	} {
		log.Reset()
		certs.checkExpiry(now.Add(c.at))
		if got := log.String(); !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("after %v: %q, want %q", c.at, got, c.want)
		}
	}

	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace(t, certFile, append(cert, a.pem()...))
	replace(t, keyFile, key)
	s := start(t, "--admin-listen", "127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile)
	if got, want := scrape(t, s)["mien_tls_certificate_expiry_timestamp_seconds"], float64(now.Add(30*day).Unix()); got != want {
		t.Errorf("metric is %v, want %v", got, want)
	}
}

// TestHangUp checks that SIGHUP does not end a server that has nothing to reload.
func TestHangUp(t *testing.T) {
	p := startProcess(t, "--admin-listen", "off")
	p.signal(t, syscall.SIGHUP)
	p.signal(t, syscall.SIGHUP)
	time.Sleep(200 * time.Millisecond)
	if status, _ := get(t, p.url+"/readyz"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, line := range p.log {
		if line["msg"] == "reloading" && line["because"] == "SIGHUP" {
			return
		}
	}
	t.Errorf("SIGHUP is not in the log: %v", p.log)
}

// TestLogReaderLeaves checks that a server whose log nobody reads any more still answers,
// and stops gracefully.
func TestLogReaderLeaves(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "mien.sock")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--listen", "unix:"+socket, "--admin-listen", "off")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr, cmd.Stdout = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close() // the process has its own
	_ = read.Close()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	ask := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/predict", strings.NewReader("not an image"))
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusUnsupportedMediaType {
			return fmt.Errorf("status %d, %w", res.StatusCode, err)
		}
		return nil
	}
	until(t, "the server answers", func() bool { return ask() == nil })
	for range 3 { // each writes a line
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// clientWith returns a client with a certificate, in PEM; nil for none.
func clientWith(t *testing.T, version int, pool *x509.CertPool, cert, key []byte) *http.Client {
	t.Helper()
	h := httpClient(t, version, pool)
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		h.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return h
}

// TestClientCertificates checks which requests are served with which certificates and keys,
// and as whom.
func TestClientCertificates(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	cert, key := a.issue(t, nil)
	replace(t, certFile, cert)
	replace(t, keyFile, key)
	replace(t, caFile, a.pem())
	keys, secrets := keysFile(t, "acme")
	secure := []string{"--tls-cert", certFile, "--tls-key", keyFile, "--tls-client-ca", caFile}

	robot := func(c *x509.Certificate) { c.Subject.CommonName = "robot" }
	type pair struct{ cert, key []byte }
	certificates := map[string]pair{"none": {}}
	for name, issue := range map[string]func() ([]byte, []byte){
		"robot":         func() ([]byte, []byte) { return a.issue(t, robot) },
		"of a stranger": func() ([]byte, []byte) { return stranger.issue(t, robot) },
		"expired": func() ([]byte, []byte) {
			return a.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		},
		"for servers only": func() ([]byte, []byte) {
			return a.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
		},
	} {
		c, k := issue()
		certificates[name] = pair{c, k}
	}
	const handshake = "handshake"
	for _, server := range []struct {
		name string
		args []string
		// want says how a request with that certificate is served, without and with a key:
		// the identity in the log, handshake if there is no connection, or the reason.
		want map[string][2]string
	}{
		{"required by default", nil, map[string][2]string{
			"none": {handshake, handshake}, "robot": {"robot", "robot"}, "of a stranger": {handshake, handshake}, "expired": {handshake, handshake}, "for servers only": {handshake, handshake},
		}},
		{"required, with keys", []string{"--auth-keys", keys, "--tls-client-auth", "required"}, map[string][2]string{
			"none": {handshake, handshake}, "robot": {"UNAUTHENTICATED", "acme"}, "of a stranger": {handshake, handshake},
		}},
		{"optional", []string{"--tls-client-auth", "optional"}, map[string][2]string{
			"none": {"", ""}, "robot": {"robot", "robot"}, "of a stranger": {handshake, handshake}, "expired": {handshake, handshake},
		}},
		{"optional, with keys", []string{"--auth-keys", keys, "--tls-client-auth", "optional"}, map[string][2]string{
			"none": {"UNAUTHENTICATED", "acme"}, "robot": {"robot", "acme"}, "of a stranger": {handshake, handshake},
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			s := start(t, slices.Concat(patient, secure, server.args)...)
			want := map[string]string{} // by request id
			for name, answers := range server.want {
				for i, header := range []http.Header{{}, {"X-Api-Key": {secrets[0]}}} {
					for protocol, opts := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}} {
						id := strings.ReplaceAll(fmt.Sprintf("%s-%d-%s", name, i, protocol), " ", "_")
						h := clientWith(t, 2, a.pool(), certificates[name].cert, certificates[name].key)
						header.Set(requestIDHeader, id)
						_, err := inferencev1connect.NewInferenceClient(withHeaders(h, header.Clone()), s.url, opts...).Predict(t.Context(), tinyImage())
						switch answer := answers[i]; answer {
						case handshake:
							if err == nil || connect.IsWireError(err) {
								t.Errorf("%s: %v, want no connection", id, err)
							}
						case "UNAUTHENTICATED":
							if code, reason := reasonOf(t, err); code != connect.CodeUnauthenticated || reason != answer {
								t.Errorf("%s: %v", id, err)
							}
						default:
							want[id] = answer
							if err != nil {
								t.Errorf("%s: %v", id, err)
							}
						}
					}
				}
			}
			_, log := s.stop()
			for line := range strings.Lines(log) {
				var entry struct {
					Msg, Identity string
					ID            string `json:"request_id"`
				}
				if err := json.Unmarshal([]byte(line), &entry); err != nil {
					t.Fatal(err)
				}
				if identity, ok := want[entry.ID]; ok && entry.Msg == "request" {
					if entry.Identity != identity {
						t.Errorf("%s has identity %q, want %q", entry.ID, entry.Identity, identity)
					}
					delete(want, entry.ID)
				}
			}
			if len(want) > 0 {
				t.Errorf("not in the log: %v", want)
			}
		})
	}
	t.Run("another authority", func(t *testing.T) {
		s := start(t, slices.Concat(patient, secure)...)
		call := func(name string) error {
			h := clientWith(t, 1, a.pool(), certificates[name].cert, certificates[name].key)
			_, err := inferencev1connect.NewInferenceClient(h, s.url).Predict(t.Context(), tinyImage())
			return err
		}
		if err := call("robot"); err != nil {
			t.Fatal(err)
		}
		replace(t, caFile, append(stranger.pem(), []byte("\nnot PEM\n")...))
		hangUp(t)
		until(t, "the new authority counts", func() bool { return call("of a stranger") == nil })
		if err := call("robot"); err == nil {
			t.Error("the old authority still counts")
		}
		replace(t, caFile, []byte("not PEM"))
		hangUp(t)
		time.Sleep(100 * time.Millisecond)
		if err := call("of a stranger"); err != nil {
			t.Errorf("a broken file: %v", err)
		}
		replace(t, caFile, a.pem())
	})
}

// TestAdminSecured checks that operators need TLS and a key of their own, if configured.
func TestAdminSecured(t *testing.T) {
	cert, key, pool := certificate(t)
	callers, callerKeys := keysFile(t, "acme")
	operators, operatorKeys := keysFile(t, "prometheus")
	s := start(t, "--admin-listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--admin-tls", "--auth-keys", callers, "--admin-auth-keys", operators)
	if !strings.HasPrefix(s.admin, "https://") {
		t.Fatal(s.admin)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline"} {
		for secret, want := range map[string]int{"": 401, "wrong": 401, callerKeys[0]: 401, operatorKeys[0]: 200} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.admin+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+secret)
			res, err := httpClient(t, 1, pool).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want || (want == 401) != (res.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s with %q: %d, %v", path, secret, res.StatusCode, res.Header)
			}
		}
	}
	// An operator's key is no key of a caller.
	h := withHeaders(httpClient(t, 1, pool), http.Header{"X-Api-Key": {operatorKeys[0]}})
	if _, err := inferencev1connect.NewInferenceClient(h, s.url).Predict(t.Context(), tinyImage()); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Error(err)
	}
}
