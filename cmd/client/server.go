package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mienproject/mien/client"
)

// apiKeyVariable is the environment variable for the API key. There is no flag for it,
// because other users of the machine can see the flags of a process.
const apiKeyVariable = "MIEN_API_KEY" //nolint:gosec // its name, not a key

// client returns a client for the server. The error names every invalid flag.
func (c *config) client() (*client.Client, error) {
	if len(c.URL) == 0 {
		return nil, errors.New("--url: name a server")
	}
	opts := []client.Option{client.WithTimeout(c.Timeout), client.WithAttemptTimeout(c.Attempt), client.WithAddresses(c.URL[1:]...)}
	if c.GRPC {
		opts = append(opts, client.WithGRPC())
	}
	key, keyErr := c.apiKey()
	if key != "" {
		opts = append(opts, client.WithAPIKey(key))
	}
	secure, tlsErr := c.tls()
	if secure != nil {
		opts = append(opts, client.WithTLSConfig(secure))
	}
	if err := errors.Join(keyErr, tlsErr); err != nil {
		return nil, err
	}
	result, err := client.New(c.URL[0], opts...)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	return result, nil
}

// servers names the servers in messages.
func (c *config) servers() string { return strings.Join(c.URL, ", ") }

// apiKey returns the key to send, or "" for none.
func (c *config) apiKey() (string, error) {
	key, from := os.Getenv(apiKeyVariable), apiKeyVariable
	if c.APIKeyFile != "" {
		from = "--api-key-file"
		data, err := readSmall(c.APIKeyFile)
		if err != nil {
			return "", fmt.Errorf("%s: %w", from, err)
		}
		key = strings.TrimSpace(string(data))
		if key == "" {
			return "", fmt.Errorf("%s: %s is empty", from, c.APIKeyFile)
		}
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: it must be one key and nothing else, without spaces", from)
	}
	return key, nil
}

// readSmall reads a file that has a key, and fails if it is too large for one.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	const limit = 4 << 10
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("%s is larger than a key can be", path)
	}
	return data, err
}

// tls returns nil if no flag is about TLS.
func (c *config) tls() (*tls.Config, error) {
	if c.TLSCA == "" && c.TLSCert == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var errs []error
	for _, url := range c.URL {
		if !strings.HasPrefix(url, "https://") {
			errs = append(errs, fmt.Errorf("--tls-ca, --tls-cert and --tls-key: they have no effect with --url %s, which is not an https:// URL", url))
		}
	}
	if c.TLSCA != "" {
		data, err := os.ReadFile(c.TLSCA)
		config.RootCAs = x509.NewCertPool()
		if err == nil && !config.RootCAs.AppendCertsFromPEM(data) {
			err = fmt.Errorf("%s has no certificate in PEM", c.TLSCA)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--tls-ca: %w", err))
		}
	}
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			errs = append(errs, fmt.Errorf("--tls-cert and --tls-key: %w", err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, errors.Join(errs...)
}
