package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/mienproject/mien/service"
)

// sites protects the server from pages of other sites, which a person on this machine or
// behind the same firewall may open in a browser. Such a page can send requests to servers
// that its author cannot reach.
type sites struct {
	// hosts are the names of --allowed-host.
	hosts []string
	// protection knows the origins without wildcards, and cors all origins.
	protection *http.CrossOriginProtection
	cors       *crossOrigin
}

// newSites returns the protection of a server whose pages of other origins are those of
// cors; nil for none.
func newSites(hosts, origins []string, cors *crossOrigin) *sites {
	s := &sites{hosts: hosts, protection: http.NewCrossOriginProtection(), cors: cors}
	for _, origin := range origins {
		if !strings.Contains(origin, "*") {
			_ = s.protection.AddTrustedOrigin(origin) // validate has checked it
		}
	}
	return s
}

type loopbackKey struct{}

// markLoopback remembers for the requests of a listener whether its address is one that only
// this machine can reach. It is used as http.Server's BaseContext.
func markLoopback(l net.Listener) context.Context {
	addr, _ := l.Addr().(*net.TCPAddr)
	return context.WithValue(context.Background(), loopbackKey{}, addr != nil && addr.IP.IsLoopback())
}

// checkHost returns an error if the request is for a host name that is not this server's.
// With DNS rebinding, an attacker makes a name of his own resolve to an address of this
// machine, and for a browser the server is then of the same origin as the attacker's page.
func (s *sites) checkHost(r *http.Request) error {
	loopback, _ := r.Context().Value(loopbackKey{}).(bool)
	if !loopback && len(s.hosts) == 0 {
		return nil
	}
	name := hostName(r.Host)
	if name == "" || isLoopbackName(name) || isAllowedHost(name, s.hosts) {
		return nil // browsers always send a name
	}
	if loopback {
		return fmt.Errorf("this server listens on a loopback address, and accepts no requests for the host name %q; to accept it, start the server with --allowed-host %s", shorten(name), shorten(name))
	}
	return fmt.Errorf("the host name %q is not among --allowed-host", shorten(name))
}

// checkOrigin returns an error if a page of another site sent the request, unless its origin
// is allowed. costly makes it check GET and HEAD too, which pages can send without asking.
func (s *sites) checkOrigin(r *http.Request, costly bool) error {
	checked := r
	if costly && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		checked = &http.Request{Method: http.MethodPost, URL: r.URL, Host: r.Host, Header: r.Header}
	}
	if s.protection.Check(checked) == nil || s.cors.allows(r) {
		return nil
	}
	const remedy = "; if it is a page of this server behind a proxy, make the proxy pass on the header Host, or use that flag too"
	if origin := r.Header.Get("Origin"); origin != "" && origin != "null" {
		return fmt.Errorf("pages of %q may not call this server; to allow them, start it with --cors-origin %s%s", shorten(origin), shorten(origin), remedy)
	}
	return errors.New("a page of another site may not call this server; to allow it, start the server with --cors-origin and the page's origin" + remedy)
}

// handler refuses requests of other sites. Health probes may use any name, such as the address
// of a pod, and tell nothing. Other public pages cost nothing; costly is true for the rest.
func (s *sites) handler(svc *service.Service, costly bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var err error
			if costly || !isProbe(r.URL.Path) {
				err = s.checkHost(r)
			}
			if err == nil {
				err = s.checkOrigin(r, costly)
			}
			if err != nil {
				svc.Refuse(w, r, service.PermissionDenied(err))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// operators is the middleware of the admin listener. Profiles cost time; Prometheus and people
// read metrics.
func (s *sites) operators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := s.checkHost(r)
		if err == nil {
			err = s.checkOrigin(r, true)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostName returns the name in a header Host, in lower case, without the port, the brackets
// of IPv6 and the dot at the end.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// isLoopbackName reports whether browsers never ask DNS for the name (RFC 6761, section 6.3),
// or it is a loopback address.
func isLoopbackName(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

func isAllowedHost(name string, allowed []string) bool {
	for _, pattern := range allowed {
		suffix, isWildcard := strings.CutPrefix(pattern, "*")
		if name == pattern || (isWildcard && strings.HasSuffix(name, suffix)) {
			return true
		}
	}
	return false
}

// hostPattern matches the values of --allowed-host: a name, a wildcard, or all names.
var hostPattern = regexp.MustCompile(`^(\*|(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*)$`)

// isHost reports whether s can be a value of --allowed-host.
func isHost(s string) bool {
	addr, err := netip.ParseAddr(s)
	return hostPattern.MatchString(s) || (err == nil && addr.String() == s)
}
