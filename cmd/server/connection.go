package main

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

type connectionKey struct{}

// lifetime is that of a connection.
type lifetime struct {
	opened, old time.Time
}

// minAge is how old a connection has to be before a refused call closes it, so that a client
// that is refused again and again reconnects at most once in this time.
const minAge = time.Second

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
	now := time.Now()
	return context.WithValue(ctx, connectionKey{}, lifetime{opened: now, old: now.Add(after)})
}

// handler closes connections that are older than their limit.
func (age connectionAge) handler(next http.Handler) http.Handler {
	if age == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l, ok := r.Context().Value(connectionKey{}).(lifetime); ok && time.Now().After(l.old) {
			closeConnection(w.Header())
		}
		next.ServeHTTP(w, r)
	})
}

// overloaded closes the connection of a call that is refused, so that the next attempt may
// reach another replica.
func (age connectionAge) overloaded(answer http.Header, r *http.Request) {
	if l, ok := r.Context().Value(connectionKey{}).(lifetime); ok && time.Since(l.opened) >= minAge {
		closeConnection(answer)
	}
}

// closeConnection closes the connection with this answer. On HTTP/2, net/http converts the
// header to a GOAWAY, and requests in flight are still answered.
func closeConnection(answer http.Header) { answer.Set("Connection", "close") }
