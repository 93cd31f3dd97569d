package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"
)

// security has what protects the server from strangers, as the flags configure it.
type security struct {
	// certificates is nil if the server does not use TLS.
	certificates *certificates
	// files loads what comes from files again.
	files *reloader
}

// newSecurity loads all files. The error lists all problems.
func newSecurity(cfg *config, log *slog.Logger) (*security, error) {
	s := &security{files: &reloader{log: log}}
	var errs []error
	load := func(from *source, err error) {
		errs = append(errs, err)
		if from != nil {
			s.files.sources = append(s.files.sources, from)
		}
	}
	certs, from, err := cfg.certificates(log)
	load(from, err)
	if s.certificates = certs; certs != nil {
		s.files.every = func(now time.Time) { certs.checkExpiry(now) }
	}
	return s, errors.Join(errs...)
}

// tls returns nil if the server does not use TLS.
func (s *security) tls() *tls.Config {
	if s.certificates == nil {
		return nil
	}
	return s.certificates.config()
}
