package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// expiryWarning is how long before its end the log warns about a certificate: enough for
// people to renew it, and less than what is left when ACME clients do, which is a month.
const expiryWarning = 14 * 24 * time.Hour

// certificates has the server's TLS certificate, and the authorities of its clients. It is
// safe for concurrent use: new connections get what was loaded last, and open ones keep what
// they have.
type certificates struct {
	current atomic.Pointer[tls.Certificate]
	// authorities may have issued the certificates of clients. If it is nil, clients are not
	// asked for certificates.
	authorities atomic.Pointer[x509.CertPool]
	// clients says whether clients need a certificate, if there are authorities.
	clients tls.ClientAuthType
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

// loadAuthorities uses the certificates of authorities, in PEM.
func (c *certificates) loadAuthorities(contents [][]byte) error {
	pool, n := x509.NewCertPool(), 0
	for rest := contents[0]; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it has a %s where only certificates are allowed", block.Type)
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		pool.AddCert(authority)
		n++
	}
	if n == 0 {
		return errors.New("it has no certificate in PEM")
	}
	c.authorities.Store(pool)
	return nil
}

// serverOnly returns a configuration that uses what was loaded last for each connection, and
// does not ask clients for certificates.
func (c *certificates) serverOnly() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// config is like serverOnly, but asks clients for certificates if there are authorities.
func (c *certificates) config() *tls.Config {
	config := c.serverOnly()
	if c.authorities.Load() == nil {
		return config
	}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := c.serverOnly()
		current.ClientAuth, current.ClientCAs = c.clients, c.authorities.Load()
		// A resumed session would have a certificate that was verified before, maybe with
		// authorities that have been removed since.
		current.SessionTicketsDisabled = true
		return current, nil
	}
	return config
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

// The values of --tls-client-auth.
const (
	clientAuthRequired = "required"
	clientAuthOptional = "optional"
)

// certificates loads the certificate of --tls-cert and the authorities of --tls-client-ca. It
// returns nil if the server does not use TLS.
func (c *config) certificates(log *slog.Logger) (*certificates, []*source, error) {
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil, nil, nil
	}
	certs := &certificates{log: log, clients: tls.RequireAndVerifyClientCert}
	if c.TLSClientAuth == clientAuthOptional {
		certs.clients = tls.VerifyClientCertIfGiven
	}
	sources := []*source{{what: "TLS certificate", files: []string{c.TLSCert, c.TLSKey}, load: certs.load}}
	var errs []error
	if err := sources[0].first(); err != nil {
		errs = append(errs, fmt.Errorf("--tls-cert and --tls-key: %w", err))
	}
	if c.TLSClientCA != "" {
		authorities := &source{what: "client authorities", files: []string{c.TLSClientCA}, load: certs.loadAuthorities}
		sources = append(sources, authorities)
		if err := authorities.first(); err != nil {
			errs = append(errs, fmt.Errorf("--tls-client-ca: %s: %w", c.TLSClientCA, err))
		}
	}
	return certs, sources, errors.Join(errs...)
}
