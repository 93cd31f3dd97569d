package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// expiryWarning is how long before its end the log warns about a certificate: enough for
// people to renew it, and less than what is left when ACME clients do, which is a month.
const expiryWarning = 14 * 24 * time.Hour

// certificates has the server's TLS certificate. It is safe for concurrent use: new
// connections get the certificate that was loaded last, and open ones keep theirs.
type certificates struct {
	current atomic.Pointer[tls.Certificate]
	// warned is when the log last warned about the current certificate. Only one goroutine
	// at a time calls load and checkExpiry.
	warned time.Time
	log    *slog.Logger
}

// load uses a certificate chain and its private key, both in PEM.
func (c *certificates) load(contents [][]byte) error {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	c.warned = time.Time{}
	c.checkExpiry(time.Now())
	return nil
}

// config returns a configuration that has the current certificate for each connection.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// expires returns when the first certificate of the chain expires.
func (c *certificates) expires() time.Time {
	var first time.Time
	for _, der := range c.current.Load().Certificate {
		parsed, err := x509.ParseCertificate(der)
		if err == nil && (first.IsZero() || parsed.NotAfter.Before(first)) {
			first = parsed.NotAfter
		}
	}
	return first
}

// checkExpiry warns once a day about a certificate that expires soon or has expired.
func (c *certificates) checkExpiry(now time.Time) {
	end := c.expires()
	left := end.Sub(now)
	if left > expiryWarning || now.Sub(c.warned) < 24*time.Hour {
		return
	}
	c.warned = now
	if left <= 0 {
		c.log.Error("the TLS certificate has expired: clients reject it", "expired", end)
		return
	}
	c.log.Warn("the TLS certificate expires soon: replace the files of --tls-cert and --tls-key", "expires", end, "in", left.Round(time.Minute).String())
}

// certificates loads the certificate of --tls-cert. It returns nil if there is none.
func (c *config) certificates(log *slog.Logger) (*certificates, *source, error) {
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil, nil, nil
	}
	certs := &certificates{log: log}
	s := &source{what: "TLS certificate", files: []string{c.TLSCert, c.TLSKey}, load: certs.load}
	if err := s.first(); err != nil {
		return nil, nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	return certs, s, nil
}
