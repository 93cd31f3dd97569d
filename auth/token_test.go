package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mienproject/mien/auth"
)

// issuer makes tokens for tests.
type issuer struct {
	keys map[string]crypto.Signer // by key id
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{keys: map[string]crypto.Signer{"rsa": rsaKey, "ec": ecKey, "ed": edKey}}
}

func (i *issuer) set(t testing.TB) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for id, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig"})
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// claims returns the claims of a valid token.
func claims() map[string]any {
	return map[string]any{"iss": "https://issuer.example", "aud": "mien", "sub": "robot", "exp": time.Now().Add(time.Hour).Unix()}
}

func sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestTokens checks which tokens are accepted, and what the errors say about the others.
func TestTokens(t *testing.T) {
	i, stranger := newIssuer(t), newIssuer(t)
	tokens := &auth.Tokens{Issuer: "https://issuer.example", Audience: "mien"}
	if err := tokens.Load(i.set(t)); err != nil {
		t.Fatal(err)
	}
	with := func(name string, value any) map[string]any {
		c := claims()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	ec := func(c map[string]any) string { return sign(t, jose.ES256, i.keys["ec"], "ec", c) }
	good := ec(claims())
	parts := strings.Split(good, ".")
	public, err := x509.MarshalPKIXPublicKey(i.keys["rsa"].Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, token, err string }{
		{"ES256", good, ""},
		{"RS256", sign(t, jose.RS256, i.keys["rsa"], "rsa", claims()), ""},
		{"PS512", sign(t, jose.PS512, i.keys["rsa"], "rsa", claims()), ""},
		{"EdDSA", sign(t, jose.EdDSA, i.keys["ed"], "ed", claims()), ""},
		{"without a key id", sign(t, jose.ES256, i.keys["ec"], "", claims()), ""},
		{"several audiences", ec(with("aud", []string{"other", "mien"})), ""},
		{"expired within the leeway", ec(with("exp", at(-30*time.Second))), ""},
		{"expired", ec(with("exp", at(-2*time.Minute))), "expired"},
		{"never expires", ec(with("exp", nil)), "exp"},
		{"not valid yet", ec(with("nbf", at(time.Hour))), "not valid yet"},
		{"issued in the future", ec(with("iat", at(time.Hour))), "not valid yet"},
		{"another issuer", ec(with("iss", "https://evil.example")), "issuer"},
		{"no issuer", ec(with("iss", nil)), "issuer"},
		{"another audience", ec(with("aud", "other")), "audience"},
		{"no audience", ec(with("aud", nil)), "audience"},
		{"no subject", ec(with("sub", nil)), "sub"},
		{"long subject", ec(with("sub", strings.Repeat("x", 257))), "256 bytes"},
		{"a stranger's key", sign(t, jose.ES256, stranger.keys["ec"], "ec", claims()), "none of the issuer's keys"},
		{"another key id", sign(t, jose.ES256, i.keys["ec"], "rsa", claims()), "none of the issuer's keys"},
		{"unknown key id", sign(t, jose.ES256, i.keys["ec"], "old", claims()), "none of the issuer's keys"},
		{"the public key as a secret", sign(t, jose.HS256, public, "rsa", claims()), "algorithm that is not allowed"},
		{"no signature", "eyJhbGciOiJub25lIn0." + parts[1] + ".", "algorithm that is not allowed"},
		{"other claims", parts[0] + "." + strings.Split(ec(with("sub", "admin")), ".")[1] + "." + parts[2], "none of the issuer's keys"},
		{"cut", good[:len(good)-4], "none of the issuer's keys"},
		{"not a token", "a.b.c", "malformed"},
		{"long", ec(with("more", strings.Repeat("x", 10_000))), "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := auth.Authenticator{Tokens: tokens}
			got, err := a.Authenticate(context.Background(), request(t, "Authorization", "Bearer "+c.token))
			if c.err == "" {
				if caller, ok := got.(*auth.Caller); err != nil || !ok || caller.Name != "robot" {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || !auth.Refused(err) {
				t.Errorf("%v, %v, want %q", got, err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), c.token) {
				t.Errorf("the error has the token: %v", err)
			}
		})
	}

	keys, secrets := newKeys(t, "acme")
	both := auth.Authenticator{Keys: keys, Tokens: tokens}
	for secret, want := range map[string]string{good: "robot", secrets[0]: "acme", "mien_wrong": "", "a.b.c": ""} {
		got, err := both.Authenticate(t.Context(), request(t, "Authorization", "Bearer "+secret))
		if caller, _ := got.(*auth.Caller); (want == "") != (err != nil) || (err == nil && caller.Name != want) {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	if _, err := (&auth.Authenticator{Tokens: tokens}).Authenticate(t.Context(), request(t)); err == nil || auth.Refused(err) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := (&auth.Authenticator{Tokens: &auth.Tokens{}}).Authenticate(t.Context(), request(t, "Authorization", "Bearer "+good)); err == nil {
		t.Error("accepted without keys")
	}
}

func TestTokenKeys(t *testing.T) {
	i := newIssuer(t)
	key := func(k jose.JSONWebKey) string {
		data, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	public := key(jose.JSONWebKey{Key: i.keys["ec"].Public(), KeyID: "ec"})
	for _, c := range []struct{ name, set, err string }{
		{"one", `{"keys": [` + public + `]}`, ""},
		{"beside keys of other types", `{"keys": [{"kty": "new", "kid": "x"}, {"kty": "oct", "k": "AAAA"}, ` + public + `]}`, ""},
		{"a secret", `{"keys": [{"kty": "oct", "k": "AAAA"}]}`, "none of them is a public key"},
		{"a private key", `{"keys": [` + key(jose.JSONWebKey{Key: i.keys["ec"], KeyID: "ec"}) + `]}`, "none of them is a public key"},
		{"for encryption", `{"keys": [` + key(jose.JSONWebKey{Key: i.keys["rsa"].Public(), Use: "enc"}) + `]}`, "none of them is a public key"},
		{"none", `{"keys": []}`, "0 keys"},
		{"a single key", public, "0 keys"},
		{"not JSON", "<html>", "not a JSON Web Key Set"},
		{"too many", `{"keys": [` + strings.Repeat(public+",", 100) + public + `]}`, "at most 100"},
	} {
		err := (&auth.Tokens{}).Load([]byte(c.set))
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

// FuzzToken checks that nothing but what the issuer has signed is accepted.
func FuzzToken(f *testing.F) {
	i := newIssuer(f)
	tokens := &auth.Tokens{Issuer: "https://issuer.example", Audience: "mien"}
	if err := tokens.Load(i.set(f)); err != nil {
		f.Fatal(err)
	}
	good := sign(f, jose.ES256, i.keys["ec"], "ec", claims())
	header, _, _ := strings.Cut(good, ".")
	payload := strings.Split(good, ".")[1]
	f.Add(good[:len(good)-1])
	f.Add("eyJhbGciOiJub25lIn0." + payload + ".")
	f.Add(header + "..")
	f.Add(fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":""}]}`, payload, header))
	a := auth.Authenticator{Tokens: tokens}
	f.Fuzz(func(t *testing.T, token string) {
		r := request(t)
		r.Header.Set("Authorization", "Bearer "+token)
		if caller, err := a.Authenticate(t.Context(), r); err == nil && !strings.HasPrefix(token, header+"."+payload+".") {
			t.Errorf("%q is accepted as %v", token, caller)
		}
	})
}
