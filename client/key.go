package client

import (
	"context"
	"strings"

	"connectrpc.com/connect"
)

// keySender sends an API key in the header Authorization of each call.
type keySender string

const authorization = "Authorization"

// WrapUnary implements connect.Interceptor.
func (k keySender) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set(authorization, string(k))
		return next(ctx, req)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (k keySender) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set(authorization, string(k))
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (keySender) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// isHeaderValue reports whether s can be a key in a header: visible ASCII, without spaces.
func isHeaderValue(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}
