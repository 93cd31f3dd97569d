package main

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

type connectionKey struct{}

// connectionAge asks clients to reconnect when their connection is older than this, so
// that long-lived ones spread over new replicas; 0 never does. Each connection has a
// limit of its own, up to a tenth to either side, or all that were opened together would
// come back together.
type connectionAge time.Duration

// limit is for http.Server's ConnContext: it gives a connection its limit.
func (age connectionAge) limit(ctx context.Context, _ net.Conn) context.Context {
	if age == 0 {
		return ctx
	}
	after := time.Duration((0.9 + 0.2*rand.Float64()) * float64(age)) //nolint:gosec // nobody gains by guessing it
	return context.WithValue(ctx, connectionKey{}, time.Now().Add(after))
}

// handler ends connections that are over their limit with their next answer.
func (age connectionAge) handler(next http.Handler) http.Handler {
	if age == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if old, ok := r.Context().Value(connectionKey{}).(time.Time); ok && time.Now().After(old) {
			// On HTTP/2, net/http turns this into a GOAWAY: what is in flight ends as
			// it would have.
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
