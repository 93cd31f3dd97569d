package main

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

type connectionKey struct{}

// connectionAge asks clients to reconnect when their connection is older than
// most, so that long-lived ones spread over new replicas; 0 never does. Each
// connection has a limit of its own, up to a tenth to either side, or all that
// were opened together would come back together.
func connectionAge(server *http.Server, most time.Duration) {
	if most == 0 {
		return
	}
	server.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		age := time.Duration((0.9 + 0.2*rand.Float64()) * float64(most)) //nolint:gosec // nobody gains by guessing it
		return context.WithValue(ctx, connectionKey{}, time.Now().Add(age))
	}
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if old, ok := r.Context().Value(connectionKey{}).(time.Time); ok && time.Now().After(old) {
			// On HTTP/2, net/http turns this into a GOAWAY: what is in flight ends as
			// it would have.
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
