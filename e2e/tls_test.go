package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// selfSigned makes a certificate for this machine and returns the paths of it and of
// its key.
func selfSigned(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Mien's tests"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return temp(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		temp(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	s := start(t, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("the log says %s, want https", s.url)
	}
	for http, flag := range map[string]string{"1.1": "--http1.1", "2": "--http2"} {
		t.Run("curl over HTTP "+http, func(t *testing.T) {
			r := curl(t, sample.request(t), append(asJSON, flag, "--cacert", cert, s.url+procedure+"Predict")...)
			sample.check(t, r.want(t, 200, "application/json").body)
			if r.http != http {
				t.Errorf("HTTP version is %s", r.http)
			}
		})
	}
	t.Run("buf curl", func(t *testing.T) {
		sample.check(t, bufCurl(t, s, "grpc", "Predict", sample.request(t), "--cacert", cert).must(t))
	})
	t.Run("grpcurl", func(t *testing.T) {
		r := run(t, sample.request(t), "grpcurl", "-cacert", cert, "-max-time", "60", "-d", "@", s.addr, procedure[1:]+"Predict")
		sample.check(t, r.must(t))
	})
	t.Run("without the certificate", func(t *testing.T) {
		const untrusted = 60 // curl's exit code
		if r := run(t, nil, "curl", "--silent", "--show-error", s.url+"/livez"); r.code != untrusted {
			t.Errorf("curl trusts an unknown certificate: %v", r)
		}
	})
	t.Run("cleartext", func(t *testing.T) {
		url := "http://" + s.addr + "/livez"
		if r := curl(t, nil, url); r.status != 400 {
			t.Errorf("status is %d, want 400", r.status)
		}
	})
}
