package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// maxTokenBytes is the maximum length of a token. Longer ones are not even parsed.
	maxTokenBytes = 8 << 10
	// maxTokenKeys is the maximum number of keys in a set.
	maxTokenKeys = 100
	// leeway is how far the clocks of the issuer and of this server may differ.
	leeway = time.Minute
)

// signatures are the accepted algorithms: those with public keys. With a shared secret,
// everyone who can check a token could also make one.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Tokens accepts JSON Web Tokens (RFC 7519) of one issuer for one audience. The fields must
// not change once it is used. It is safe for concurrent use. Before Load, it accepts none.
type Tokens struct {
	// Issuer and Audience are the values that "iss" must have and "aud" must contain.
	Issuer, Audience string

	keys atomic.Pointer[[]jose.JSONWebKey]
}

// Load replaces all keys by those in a JSON Web Key Set (RFC 7517). It ignores keys that are
// not public keys for signatures. If it returns an error, the keys stay as they were.
func (t *Tokens) Load(set []byte) error {
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &list); err != nil {
		return fmt.Errorf("it is not a JSON Web Key Set: %w", err)
	}
	if len(list.Keys) > maxTokenKeys {
		return fmt.Errorf("it has %d keys; at most %d are allowed", len(list.Keys), maxTokenKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range list.Keys {
		var k jose.JSONWebKey
		// A set may have keys for other purposes, of types that this server does not know.
		if json.Unmarshal(raw, &k) == nil && k.IsPublic() && (k.Use == "" || k.Use == "sig") {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return fmt.Errorf("it has %d keys, and none of them is a public key for signatures", len(list.Keys))
	}
	t.keys.Store(&keys)
	return nil
}

// looksLikeToken reports whether a credential is a token, and not a key: only tokens have
// dots.
func looksLikeToken(credential string) bool { return strings.Count(credential, ".") == 2 }

// caller returns the subject of a valid token. Its errors have nothing of the token.
func (t *Tokens) caller(token string) (string, error) {
	if len(token) > maxTokenBytes {
		return "", errors.New("it is too long")
	}
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return "", errors.New("it is malformed, or signed with an algorithm that is not allowed")
	}
	claims, err := t.verify(parsed)
	if err != nil {
		return "", err
	}
	switch err := claims.ValidateWithLeeway(jwt.Expected{Issuer: t.Issuer, AnyAudience: jwt.Audience{t.Audience}}, leeway); {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return "", errors.New("it has another issuer than this server accepts")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return "", errors.New("it is for another audience than this server")
	case errors.Is(err, jwt.ErrExpired):
		return "", errors.New("it has expired")
	case err != nil:
		return "", errors.New("it is not valid yet")
	case claims.Expiry == nil:
		return "", errors.New("it does not expire; it needs the claim exp")
	case claims.Subject == "":
		return "", errors.New("it has no subject; it needs the claim sub")
	case len(claims.Subject) > maxNameBytes:
		return "", fmt.Errorf("its subject is longer than %d bytes", maxNameBytes)
	}
	return claims.Subject, nil
}

// verify returns the claims of a token that one of the keys has signed: the key with the id of
// the token or, if that has none, any.
func (t *Tokens) verify(token *jwt.JSONWebToken) (claims jwt.Claims, err error) {
	header := token.Headers[0]
	keys := t.keys.Load()
	if keys == nil {
		return claims, errors.New("this server has no keys to check it with")
	}
	for _, k := range *keys {
		if (header.KeyID != "" && k.KeyID != header.KeyID) || (k.Algorithm != "" && k.Algorithm != header.Algorithm) {
			continue
		}
		if token.Claims(k.Key, &claims) == nil {
			return claims, nil
		}
	}
	return jwt.Claims{}, errors.New("none of the issuer's keys has signed it")
}
