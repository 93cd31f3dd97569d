package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	adminDefault = "127.0.0.1:9464"
	// adminOff disables the listener. In environment variables an empty value means not
	// set, so another value is needed.
	adminOff = "off"
)

// adminAddress returns the address for operators, or "" if it is disabled.
func (c *config) adminAddress() string {
	switch {
	case c.AdminListen == nil && c.ReusePort:
		return "" // another process has the address, or will need it
	case c.AdminListen == nil:
		return adminDefault
	case *c.AdminListen == adminOff:
		return ""
	}
	return *c.AdminListen
}

// listenAdmin opens the listener for operators, or returns nil if it is disabled.
func (c *config) listenAdmin(ctx context.Context) (net.Listener, error) {
	addr := c.adminAddress()
	if addr == "" {
		return nil, nil
	}
	l, err := listen(ctx, addr, false)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--admin-listen: %w; use another address for metrics and profiles, such as --admin-listen 127.0.0.1:0, which picks a free port, or disable them with --admin-listen %s", err, adminOff)
	}
	if err != nil {
		return nil, fmt.Errorf("--admin-listen: %w", err)
	}
	return l, nil
}

// serveAdmin serves operators on l until stop is called, which is after draining, so
// that they can watch it.
func serveAdmin(l net.Listener, m *metrics, sec *security, site *sites, log *slog.Logger) (stop func()) {
	server := &http.Server{
		Handler:           chain(adminRoutes(m, log), site.operators, sec.operators),
		BaseContext:       markLoopback,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		// No WriteTimeout, because a profile takes as long as the client asks for.
		IdleTimeout: 2 * time.Minute,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if sec.adminTLS {
		server.TLSConfig = sec.certificates.serverOnly()
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := serveOn(server, l, sec.adminTLS); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin listener ended", "error", err)
		}
	}()
	return func() {
		_ = server.Close() // nobody waits for the answers
		<-ended
	}
}

func adminRoutes(m *metrics, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return mux
}
