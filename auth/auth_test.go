package auth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mienproject/mien/auth"
)

// newKeys returns the keys of the callers with these names.
func newKeys(t testing.TB, names ...string) (keys *auth.Keys, secrets []string) {
	t.Helper()
	var file strings.Builder
	for _, name := range names {
		secret, line, err := auth.NewKey(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&file, line)
		secrets = append(secrets, secret)
	}
	keys = &auth.Keys{}
	if err := keys.Load([]byte(file.String())); err != nil {
		t.Fatal(err)
	}
	return keys, secrets
}

func request(t testing.TB, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func withCertificate(r *http.Request, c *x509.Certificate) *http.Request {
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
	return r
}

func TestAuthenticate(t *testing.T) {
	keys, secrets := newKeys(t, "acme", "acme", "other")
	named := &x509.Certificate{Subject: pkix.Name{CommonName: "robot"}}
	bearer := func(secret string) *http.Request { return request(t, "Authorization", "Bearer "+secret) }
	for _, c := range []struct {
		name string
		auth auth.Authenticator
		r    *http.Request
		want string // the caller's name; "" for nobody
		err  string // a part of the error; "" for none
	}{
		{"bearer", auth.Authenticator{Keys: keys}, bearer(secrets[0]), "acme", ""},
		{"the second key of the same caller", auth.Authenticator{Keys: keys}, bearer(secrets[1]), "acme", ""},
		{"another caller", auth.Authenticator{Keys: keys}, bearer(secrets[2]), "other", ""},
		{"bearer in lower case and with more space", auth.Authenticator{Keys: keys}, request(t, "authorization", "bearer   "+secrets[2]), "other", ""},
		{"header", auth.Authenticator{Keys: keys}, request(t, "X-Api-Key", secrets[2]), "other", ""},
		{"header beside a proxy's token", auth.Authenticator{Keys: keys}, request(t, "X-Api-Key", secrets[2], "Authorization", "Bearer eyJhbGciOi"), "other", ""},
		{"header beside basic", auth.Authenticator{Keys: keys}, request(t, "X-Api-Key", secrets[2], "Authorization", "Basic dTpw"), "other", ""},
		{"none", auth.Authenticator{Keys: keys}, request(t), "", "requires an API key: send it"},
		{"basic", auth.Authenticator{Keys: keys}, request(t, "Authorization", "Basic "+secrets[0]), "", "requires an API key"},
		{"wrong", auth.Authenticator{Keys: keys}, bearer("mien_wrong"), "", "not valid"},
		{"wrong header beside a right one", auth.Authenticator{Keys: keys}, request(t, "X-Api-Key", "wrong", "Authorization", "Bearer "+secrets[0]), "", "not valid"},
		{"prefix", auth.Authenticator{Keys: keys}, bearer(secrets[0][:len(secrets[0])-1]), "", "not valid"},
		{"its hash", auth.Authenticator{Keys: keys}, bearer("sha256:"), "", "not valid"},
		{"long", auth.Authenticator{Keys: keys}, bearer(secrets[0] + strings.Repeat("x", 1000)), "", "not valid"},
		{"empty", auth.Authenticator{Keys: keys}, bearer(""), "", "requires an API key"},
		{"no keys are configured", auth.Authenticator{}, bearer("anything"), "", ""},
		{"keys that were never loaded", auth.Authenticator{Keys: &auth.Keys{}}, bearer(""), "", "requires an API key"},
		{"keys that were never loaded, and one", auth.Authenticator{Keys: &auth.Keys{}}, bearer(secrets[0]), "", "not valid"},

		{"certificate", auth.Authenticator{Certificates: true}, withCertificate(request(t), named), "robot", ""},
		{"certificate instead of a key", auth.Authenticator{Keys: keys, Certificates: true}, withCertificate(request(t), named), "robot", ""},
		{"certificate and key", auth.Authenticator{Keys: keys, Certificates: true}, withCertificate(bearer(secrets[2]), named), "other", ""},
		{"certificate and wrong key", auth.Authenticator{Keys: keys, Certificates: true}, withCertificate(bearer("wrong"), named), "", "not valid"},
		{"certificate where a key is needed too", auth.Authenticator{Keys: keys, Certificates: true, KeyAlways: true}, withCertificate(request(t), named), "", "requires an API key: send it"},
		{"neither", auth.Authenticator{Keys: keys, Certificates: true}, request(t), "", "an API key or a client certificate"},
		{"certificate that nobody asked for", auth.Authenticator{Keys: keys}, withCertificate(request(t), named), "", "requires an API key"},
		{"certificate without a name", auth.Authenticator{Certificates: true}, withCertificate(request(t), &x509.Certificate{}), "", "no usable name"},
		{"no certificate, and none is needed", auth.Authenticator{Certificates: true}, request(t), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.auth.Authenticate(context.Background(), c.r)
			name := ""
			if caller, ok := got.(*auth.Caller); ok {
				name = caller.Name
			}
			if name != c.want {
				t.Errorf("caller %q, want %q", name, c.want)
			}
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			for _, secret := range secrets {
				if err != nil && strings.Contains(err.Error(), secret[:12]) {
					t.Errorf("the error has the key: %v", err)
				}
			}
		})
	}
	// A certificate that crypto/tls did not verify counts for nothing.
	r := request(t)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{named}}
	if got, err := (&auth.Authenticator{Keys: keys, Certificates: true}).Authenticate(t.Context(), r); err == nil {
		t.Errorf("an unverified certificate: %v", got)
	}
}

// TestCertificateNames: the subject's common name, or else the first alternative name.
func TestCertificateNames(t *testing.T) {
	u, err := url.Parse("spiffe://example.org/robot")
	if err != nil {
		t.Fatal(err)
	}
	a := auth.Authenticator{Certificates: true}
	for want, c := range map[string]*x509.Certificate{
		"cn":                         {Subject: pkix.Name{CommonName: "cn"}, DNSNames: []string{"dns"}},
		"dns":                        {DNSNames: []string{"dns", "dns2"}, EmailAddresses: []string{"a@example.org"}},
		"a@example.org":              {EmailAddresses: []string{"a@example.org"}, URIs: []*url.URL{u}},
		"spiffe://example.org/robot": {URIs: []*url.URL{u}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"10.0.0.1":                   {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
	} {
		got, err := a.Authenticate(t.Context(), withCertificate(request(t), c))
		if caller, ok := got.(*auth.Caller); err != nil || !ok || caller.Name != want || !caller.Certificate {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	const zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "c%d sha256:%064x\n", i, i)
		}
		return b.String()
	}
	for _, c := range []struct {
		name, file    string
		keys, callers int
		err           string
	}{
		{"one", "acme " + zeros, 1, 1, ""},
		{"comments, blank lines, tabs, CRLF", "# all keys\r\n\r\n \tacme\t" + strings.ToUpper(zeros[7:])[:0] + zeros + " # since May\r\n", 1, 1, ""},
		{"capital digits", "acme sha256:" + strings.Repeat("AB", 32), 1, 1, ""},
		{"rotation", "acme " + zeros + "\nacme sha256:" + strings.Repeat("ab", 32) + "\nother sha256:" + strings.Repeat("cd", 32), 3, 2, ""},
		{"as many as allowed", many(1000), 1000, 1000, ""},
		{"too many", many(1001), 0, 0, "line 1001: there are more than 1000 keys"},
		{"empty", "", 0, 0, "mien keys add"},
		{"only comments", "# nobody yet\n", 0, 0, "mien keys add"},
		{"no hash", "\nacme", 0, 0, "line 2: it has 1 fields"},
		{"three fields", "acme " + zeros + " x", 0, 0, "line 1: it has 3 fields"},
		{"a hash alone", zeros + " acme", 0, 0, "line 1: it does not begin with the name"},
		{"short hash", "acme " + zeros[:20], 0, 0, "64 hexadecimal digits"},
		{"another hash", "acme md5:00", 0, 0, "the hash of acme"},
		{"no digits", "acme sha256:" + strings.Repeat("xy", 32), 0, 0, "64 hexadecimal digits"},
		{"name with a quote", "a\"b " + zeros, 0, 0, "not a name"},
		{"long name", strings.Repeat("a", 65) + " " + zeros, 0, 0, "not a name"},
		{"the same key twice", "acme " + zeros + "\n\nother " + zeros, 0, 0, "line 3: the key of line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys := &auth.Keys{}
			err := keys.Load([]byte(c.file))
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if n, callers := keys.Names(); n != c.keys || callers != c.callers {
				t.Errorf("%d keys of %d callers, want %d of %d", n, callers, c.keys, c.callers)
			}
		})
	}
	t.Run("a key in place of its hash", func(t *testing.T) {
		secret, _, err := auth.NewKey("acme")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"acme " + secret, secret + " acme"} {
			if err := (&auth.Keys{}).Load([]byte(line)); err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
	t.Run("an error changes nothing", func(t *testing.T) {
		keys, secrets := newKeys(t, "acme")
		if err := keys.Load([]byte("acme")); err == nil {
			t.Fatal("no error")
		}
		if _, err := (&auth.Authenticator{Keys: keys}).Authenticate(t.Context(), request(t, "X-Api-Key", secrets[0])); err != nil {
			t.Error(err)
		}
	})
}

func TestNewKey(t *testing.T) {
	first, line, err := auth.NewKey("acme")
	if err != nil || !strings.HasPrefix(first, "mien_") || len(first) != len("mien_")+43 || strings.Contains(line, first[5:]) {
		t.Errorf("%q, %q, %v", first, line, err)
	}
	if second, _, _ := auth.NewKey("acme"); second == first {
		t.Error("the same key twice")
	}
	if _, _, err := auth.NewKey("two words"); err == nil {
		t.Error("a name with a space")
	}
}

// FuzzLoad checks that any file either is an error, or has keys that stay the same when it
// is loaded again.
func FuzzLoad(f *testing.F) {
	_, line, err := auth.NewKey("acme")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "#", line, line + " # x\r\n\n", "a b c", "a sha256:", "\xff sha256:00", line + "\n" + line} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		var keys auth.Keys
		err := keys.Load(file)
		n, callers := keys.Names()
		if (err == nil) != (n > 0) || callers > n {
			t.Fatalf("%v, %d keys of %d callers", err, n, callers)
		}
		if err == nil && (&auth.Keys{}).Load(file) != nil {
			t.Fatal("loaded only once")
		}
	})
}

// BenchmarkWrongKey shows what a wrong key costs a server with the maximum number of keys.
func BenchmarkWrongKey(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var file strings.Builder
			for i := range n {
				fmt.Fprintf(&file, "c%d sha256:%064x\n", i, i)
			}
			keys := &auth.Keys{}
			if err := keys.Load([]byte(file.String())); err != nil {
				b.Fatal(err)
			}
			a := auth.Authenticator{Keys: keys}
			r := request(b, "X-Api-Key", "mien_3Ld9cYV0xkq1ZcG7mU2fR5tB8wE4aH6jN0pS1vX2yQ4")
			for b.Loop() {
				if _, err := a.Authenticate(b.Context(), r); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
