package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"

	"connectrpc.com/authn"

	"github.com/mienproject/mien/auth"
	"github.com/mienproject/mien/service"
)

// security has what protects the server from strangers, as the flags configure it.
type security struct {
	// certificates is nil if the server does not use TLS.
	certificates *certificates
	// auth determines who sends a request, and admin who sends one to the admin listener.
	auth, admin auth.Authenticator
	// quotas is nil if there are none.
	quotas *auth.Quotas
	// proxies report the addresses of callers without an identity.
	proxies proxies
	// adminTLS says whether the admin listener uses TLS.
	adminTLS bool
	// files loads what comes from files again.
	files *reloader
}

// newSecurity loads all files. The error lists all problems.
func newSecurity(cfg *config, log *slog.Logger) (*security, error) {
	s := &security{files: &reloader{log: log}, adminTLS: cfg.AdminTLS, proxies: cfg.proxies}
	if q := cfg.quota(); q.IsLimited() {
		s.quotas = auth.NewQuotas(q)
	}
	certs, sources, err := cfg.certificates(log)
	if s.certificates = certs; certs != nil {
		s.files.every = certs.checkExpiry
		s.auth.Certificates = cfg.TLSClientCA != ""
		s.auth.KeyAlways = certs.clients == tls.RequireAndVerifyClientCert
	}
	var ofCallers, ofOperators, ofTokens *source
	var errCallers, errOperators, errTokens error
	s.auth.Tokens, ofTokens, errTokens = cfg.tokens()
	s.auth.Keys, ofCallers, errCallers = loadKeys("--auth-keys", cfg.AuthKeys)
	s.admin.Keys, ofOperators, errOperators = loadKeys("--admin-auth-keys", cfg.AdminAuthKeys)
	for _, from := range append(sources, ofCallers, ofTokens, ofOperators) {
		if from != nil {
			s.files.sources = append(s.files.sources, from)
		}
	}
	return s, errors.Join(err, errCallers, errTokens, errOperators)
}

// headers returns the headers in which pages may send keys.
func (s *security) headers() []string {
	if s.auth.Keys == nil && s.auth.Tokens == nil {
		return nil
	}
	return []string{"Authorization", auth.KeyHeader}
}

// callers returns the middleware that determines who sends a request, and refuses those of
// nobody before their bodies are read. It does not use authn's own middleware, which answers
// each refusal as an RPC: /predict has answers of its own.
func (s *security) callers(svc *service.Service) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info, err := s.auth.Authenticate(r.Context(), r)
			if err != nil {
				challenge(w, err)
				svc.Refuse(w, r, service.Unauthenticated(err))
				return
			}
			ctx := authn.SetInfo(r.Context(), info)
			if caller := auth.CallerOf(ctx); caller != nil {
				service.RecordFrom(ctx).Identity = caller.Name
			}
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// account returns the middleware that refuses requests over the quota of their callers before
// their bodies are read. Callers without an identity are told apart by their addresses.
func (s *security) account(svc *service.Service) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if s.quotas == nil {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := "identity " + service.RecordFrom(r.Context()).Identity
			if auth.CallerOf(r.Context()) == nil {
				address, _ := s.proxies.caller(r)
				name = "address " + network(address)
			}
			account := s.quotas.Account(name)
			if err := account.Begin(); err != nil {
				svc.Refuse(w, r, overQuota(err))
				return
			}
			defer account.End()
			next.ServeHTTP(w, r.WithContext(auth.WithAccount(r.Context(), account)))
		})
	}
}

// charge charges an image to the account of its caller. It is service.Config's Charge.
func charge(ctx context.Context, one bool, pixels int64) error {
	account := auth.AccountOf(ctx)
	switch {
	case account == nil:
		return nil
	case one:
		return overQuota(account.Charge(pixels))
	default:
		return overQuota(account.ChargeWaiting(ctx, pixels))
	}
}

// overQuota converts an error of an account for the service.
func overQuota(err error) error {
	if quota, ok := errors.AsType[*auth.QuotaError](err); ok {
		return service.OverQuota(err, quota.RetryAfter)
	}
	return err
}

// network returns the network of an address that one client is likely to have alone: IPv6
// hands out 64 bits to each.
func network(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Is4() {
		return address
	}
	prefix, _ := addr.Prefix(64) // never fails for IPv6
	return prefix.String()
}

// operators is the middleware of the admin listener.
func (s *security) operators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.admin.Authenticate(r.Context(), r); err != nil {
			challenge(w, err)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// challenge adds the header that an answer with status 401 needs (RFC 6750, section 3).
func challenge(w http.ResponseWriter, err error) {
	value := `Bearer realm="mien"`
	if auth.Refused(err) {
		value += `, error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", value)
}

// isPreflight reports whether a browser asks what a page may send. Such a request has
// neither keys nor a body.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// tls returns nil if the server does not use TLS.
func (s *security) tls() *tls.Config {
	if s.certificates == nil {
		return nil
	}
	return s.certificates.config()
}
