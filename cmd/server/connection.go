package main

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

type connectionKey struct{}

// connectionAge closes connections that are older than this with their next answer, so
// that clients reconnect and use new replicas too; 0 means never. Each connection has a
// limit of its own, up to a tenth lower or higher. Otherwise all connections that were
// opened together would reconnect together.
type connectionAge time.Duration

// limit sets the limit of a connection. It is used as http.Server's ConnContext.
func (age connectionAge) limit(ctx context.Context, _ net.Conn) context.Context {
	if age == 0 {
		return ctx
	}
	after := time.Duration((0.9 + 0.2*rand.Float64()) * float64(age)) //nolint:gosec // it need not be unpredictable
	return context.WithValue(ctx, connectionKey{}, time.Now().Add(after))
}

// handler closes connections that are older than their limit.
func (age connectionAge) handler(next http.Handler) http.Handler {
	if age == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if old, ok := r.Context().Value(connectionKey{}).(time.Time); ok && time.Now().After(old) {
			// On HTTP/2, net/http converts this to a GOAWAY, and requests in flight are
			// still answered.
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
