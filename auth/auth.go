// Package auth determines who sends a request, before anything of its body is read. It
// knows nothing about images, procedures or protocols.
//
// A caller has API keys or tokens, which come in the headers of each request, or a TLS
// certificate. All of them only have a name, which logs, metrics, traces and quotas use: all callers may do the
// same.
package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/authn"
)

// KeyHeader is the header for a key, for clients that cannot send Authorization or send
// something else in it.
const KeyHeader = "X-Api-Key"

// maxNameBytes is the maximum length of the name of a caller, which quotas keep.
const maxNameBytes = 256

// Errors of Authenticate. Neither has anything of the key.
var (
	errNoKey       = errors.New("this server requires an API key: send it as Authorization: Bearer KEY, or as " + KeyHeader + ": KEY")
	errNoToken     = errors.New("this server requires a token: send it as Authorization: Bearer TOKEN")
	errWrongToken  = errors.New("the token is not valid")
	errWrongKey    = errors.New("the API key is not valid: it is misspelled, or was removed from the server's list")
	errNoName      = errors.New("the client certificate has no usable name: it needs a common name or a subject alternative name of at most 256 bytes")
	errNoKeyOrCert = errors.New("this server requires an API key or a client certificate: send a key as Authorization: Bearer KEY, or as " + KeyHeader + ": KEY")
)

// A Caller is who sent a request.
type Caller struct {
	// Name is the name in the line of the key, or that of the certificate.
	Name string
	// Certificate is true if the caller has identified itself by its certificate.
	Certificate bool
}

// Authenticator checks requests. Its fields must not change once it is used. Authenticate
// is safe for concurrent use.
type Authenticator struct {
	// Keys has the accepted keys. If it is nil, requests need none.
	Keys *Keys
	// Tokens checks tokens, which replace keys. If it is nil, requests have none.
	Tokens *Tokens
	// Certificates makes the certificate of the connection, which crypto/tls has verified,
	// the identity of requests without a key.
	Certificates bool
	// KeyAlways makes requests need a key even if their connection has a certificate.
	KeyAlways bool
}

// Authenticate returns the *Caller of a request. It is an authn.AuthFunc. A request with a
// key or token has the name of the key's line or the token's subject, whatever its
// certificate. It returns nil and no error if nothing is required, and there is nothing.
func (a *Authenticator) Authenticate(_ context.Context, r *http.Request) (any, error) {
	if secret := credential(r); secret != "" && a.needsCredential() {
		return a.bySecret(secret)
	}
	if a.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && !(a.needsCredential() && a.KeyAlways) {
		name := certificateName(r.TLS.VerifiedChains[0][0])
		if name == "" || len(name) > maxNameBytes {
			return nil, errNoName
		}
		return &Caller{Name: name, Certificate: true}, nil
	}
	switch {
	case !a.needsCredential():
		return nil, nil
	case a.Certificates && !a.KeyAlways:
		return nil, errNoKeyOrCert
	case a.Keys == nil:
		return nil, errNoToken
	default:
		return nil, errNoKey
	}
}

func (a *Authenticator) needsCredential() bool { return a.Keys != nil || a.Tokens != nil }

// bySecret returns the caller with a key or token.
func (a *Authenticator) bySecret(secret string) (any, error) {
	if a.Tokens != nil && (a.Keys == nil || looksLikeToken(secret)) {
		name, err := a.Tokens.caller(secret)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errWrongToken, err)
		}
		return &Caller{Name: name}, nil
	}
	if name := a.Keys.caller(secret); name != "" {
		return &Caller{Name: name}, nil
	}
	return nil, errWrongKey
}

// CallerOf returns the caller that Authenticate found for a request, from its context. It
// returns nil if there is none.
func CallerOf(ctx context.Context) *Caller {
	caller, _ := authn.GetInfo(ctx).(*Caller)
	return caller
}

// Refused reports whether err means that a key or token was sent and is wrong. If it is false, none
// was sent.
func Refused(err error) bool { return errors.Is(err, errWrongKey) || errors.Is(err, errWrongToken) }

// credential returns the key in a request, or "". KeyHeader comes first, because a proxy
// may use Authorization for a purpose of its own.
func credential(r *http.Request) string {
	if secret := r.Header.Get(KeyHeader); secret != "" {
		return secret
	}
	token, _ := authn.BearerToken(r)
	return strings.TrimSpace(token)
}

// certificateName returns the name of a client certificate: the common name of its subject,
// or its first alternative name, in the order DNS, email, URI, IP. It returns "" if it has
// none.
func certificateName(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.EmailAddresses) > 0:
		return c.EmailAddresses[0]
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	case len(c.IPAddresses) > 0:
		return c.IPAddresses[0].String()
	}
	return ""
}
