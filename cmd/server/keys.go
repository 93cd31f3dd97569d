package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mienproject/mien/auth"
)

// addCommand is Kong's name of the command "keys add".
const addCommand = "keys add <name>"

// keysCommand is the command "keys".
type keysCommand struct {
	Add struct {
		Name string `arg:"" help:"Name of the caller, which logs, metrics and traces will have."`
	} `cmd:"" help:"Make a key for a caller. With --auth-keys, its line is added to that file, and only the key is printed. Otherwise the first line of the output is the key, and the second its line for the file. The key is shown only once."`
}

// addKey makes a key, prints it to stdout, and adds its line to the file of --auth-keys. It
// returns the exit code.
func (c *config) addKey(stdout, stderr io.Writer) int {
	secret, line, err := auth.NewKey(c.Keys.Add.Name)
	if err != nil {
		return misconfigured(stderr, err)
	}
	if c.AuthKeys == "" {
		fmt.Fprintf(stdout, "%s\n%s\n", secret, line)
		fmt.Fprintf(stderr, "The first line is the key: give it to %s. It is not stored anywhere. Add the second line to the file of --auth-keys.\n", c.Keys.Add.Name)
		return 0
	}
	if err := appendLine(c.AuthKeys, line); err != nil {
		fmt.Fprintf(stderr, "mien: --auth-keys: %v\n", err)
		return 1
	}
	fmt.Fprintln(stdout, secret)
	fmt.Fprintf(stderr, "This is the key: give it to %s. %s has only its hash.\n", c.Keys.Add.Name, c.AuthKeys)
	return 0
}

// appendLine adds a line to a file, and creates the file if there is none.
func appendLine(path, line string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line += "\n"
	// The last line of an edited file may not be ended.
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = io.WriteString(f, line)
	return err
}

// loadKeys loads the file of keys that a flag names. It returns nil if there is none.
func loadKeys(flag, path string) (*auth.Keys, *source, error) {
	if path == "" {
		return nil, nil, nil
	}
	keys := &auth.Keys{}
	s := &source{what: "API keys", files: []string{path}, load: func(contents [][]byte) error { return keys.Load(contents[0]) }}
	err := s.first()
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("%s: %w; to make the file and its first key, run: mien keys add NAME --auth-keys %s", flag, err, path)
	case err != nil:
		err = fmt.Errorf("%s: %s: %w", flag, path, err)
	}
	return keys, s, err
}

// tokens loads the set of --auth-jwks. It returns nil if there is none.
func (c *config) tokens() (*auth.Tokens, *source, error) {
	if c.AuthJWKS == "" {
		return nil, nil, nil
	}
	tokens := &auth.Tokens{Issuer: c.AuthIssuer, Audience: c.AuthAudience}
	s := &source{what: "keys of tokens", files: []string{c.AuthJWKS}, load: func(contents [][]byte) error { return tokens.Load(contents[0]) }}
	if err := s.first(); err != nil {
		return nil, nil, fmt.Errorf("--auth-jwks: %s: %w", c.AuthJWKS, err)
	}
	return tokens, s, nil
}
