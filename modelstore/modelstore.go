// Package modelstore fetches the models that Mien knows by name, once, and keeps
// them in the user's cache.
//
// Every file has a pinned size and SHA-256. Fetch verifies them each time, for
// downloaded and for cached files. Only a verified file gets its final name. If the
// source sends something else, the disk fills up or the process is killed, at most a
// ".partial" file remains, with which the next attempt continues.
//
// The cache has the layout <model>/<file>, which is also that of a mirror: a copy of
// a complete cache, served by any HTTP server, is a mirror.
package modelstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Every error of this package wraps one of these, except for the context's own.
var (
	// ErrUnknownModel means that no model has that name.
	ErrUnknownModel = errors.New("unknown model")
	// ErrUnavailable means that the source cannot be reached, does not have the
	// file, or is too slow.
	ErrUnavailable = errors.New("cannot be fetched")
	// ErrMismatch means that the source has other content under the file's name.
	ErrMismatch = errors.New("is not the file that Mien knows")
	// ErrCache means that the folder for models cannot be read or written.
	ErrCache = errors.New("cannot be kept in the cache")
)

// FetchError says why a model could not be fetched. It wraps one of this
// package's errors, or the context's own. It names no flag or variable: only the
// program knows where Dir and Mirror come from.
type FetchError struct {
	// Model is the one that was asked for. Its files are those that a mirror has to
	// serve.
	Model Model
	// Err is the cause. It names the URL or the path.
	Err error
}

// Error implements error.
func (e *FetchError) Error() string { return fmt.Sprintf("model %q: %v", e.Model.Name, e.Err) }

// Unwrap returns the cause.
func (e *FetchError) Unwrap() error { return e.Err }

// errDamaged means that a cached file has the wrong size or hash.
var errDamaged = errors.New("damaged")

// Store fetches models and keeps them in a folder. The zero value fetches from the
// publishers into the user's cache, and logs nothing. The fields must not change
// after the first call of a method.
type Store struct {
	// Dir is the folder for models, which Fetch creates if necessary. Empty means
	// mien/models in os.UserCacheDir.
	Dir string
	// Mirror is an http or https URL below which <model>/<file> is fetched,
	// instead of from the publisher. It may have a user, a password and a query,
	// which never appear in logs or errors.
	Mirror string
	// Models are the models that can be fetched; nil means Known().
	Models []Model

	// Timeout limits Fetch, including retries, pauses and waiting for another
	// process. 0 means 10 minutes.
	Timeout time.Duration
	// MinRate is the minimum rate of a transfer in bytes per second, on average over
	// each RateWindow. A slower transfer fails. 0 means 1024.
	MinRate int64
	// RateWindow is the time over which MinRate is measured, and thus the timeout for
	// a server that sends nothing. 0 means 30 seconds.
	RateWindow time.Duration
	// Backoff is the pause before a file's second attempt. It doubles with each of the
	// further attempts, of which there are at most four in all. 0 means one second.
	Backoff time.Duration

	// Client makes the requests. nil means a client that uses the usual proxy
	// variables. Its redirect policy applies after that of the store, which follows no
	// redirect from https to http.
	Client *http.Client
	// Progress shows a progress bar if it is a terminal. nil means none.
	Progress io.Writer
	// Logger logs each file that is fetched, and each failure that is retried. nil
	// means no logs.
	Logger *slog.Logger
}

// Fetch returns the path of a model: its file or, if it has several, the folder that
// has these files and nothing else. If the cache has intact files, Fetch makes no
// request, and the folder need not be writable.
//
// It is safe for concurrent use, also by several processes: one fetches, the others
// wait for it.
//
// The error is ErrUnknownModel, or a *FetchError that names the cause.
func (s *Store) Fetch(ctx context.Context, name string) (path string, err error) {
	m, err := s.find(name)
	if err != nil {
		return "", err
	}
	path, err = s.fetch(ctx, m)
	if err != nil {
		return "", &FetchError{Model: m, Err: err}
	}
	return path, nil
}

func (s *Store) find(name string) (Model, error) {
	models := s.Models
	if models == nil {
		models = Known()
	}
	names := make([]string, len(models))
	for i, m := range models {
		if m.Name == name {
			return m, nil
		}
		names[i] = m.Name
	}
	return Model{}, fmt.Errorf("%w %q: those that can be fetched are %s", ErrUnknownModel, name, strings.Join(names, ", "))
}

func (s *Store) fetch(ctx context.Context, m Model) (string, error) {
	root, err := s.dir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, m.Name)
	// Check before locking, because a lock needs a writable folder, which a complete
	// cache in a container image or on a read-only volume does not have.
	complete := true
	for _, f := range m.Files {
		err := verify(filepath.Join(dir, f.Name), f)
		if errors.Is(err, ErrCache) {
			return "", err
		}
		complete = complete && err == nil
	}
	if !complete {
		if err := s.fetchMissing(ctx, m, dir); err != nil {
			return "", err
		}
	}
	if len(m.Files) == 1 {
		return filepath.Join(dir, m.Files[0].Name), nil
	}
	return dir, nil
}

// dir returns the folder for all models.
func (s *Store) dir() (string, error) {
	if s.Dir != "" {
		return s.Dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCache, err)
	}
	return filepath.Join(cache, "mien", "models"), nil
}

// verify returns nil if the file at path is f. Otherwise the error is
// fs.ErrNotExist, errDamaged, or ErrCache if the file cannot be read.
func verify(path string, f File) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if info.Size() != f.Size && info.Mode().IsRegular() {
		return fmt.Errorf("%w: it has %d bytes, not %d", errDamaged, info.Size(), f.Size)
	}
	sum, err := hash(file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if sum != f.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %s, not %s", errDamaged, sum, f.SHA256)
	}
	return nil
}

// hash returns the SHA-256 of all of file, in hexadecimal.
func hash(file *os.File) (string, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fetchMissing fetches the files of m that dir does not have.
func (s *Store) fetchMissing(ctx context.Context, m Model, dir string) error {
	timeout := orDefault(s.Timeout, 10*time.Minute)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: not done after %v", ErrUnavailable, timeout))
	defer cancel()

	// Other users may have to read the files, for instance in a container image.
	// They are not secret.
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: see above
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	unlock, err := s.lock(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()

	for _, f := range m.Files {
		path := filepath.Join(dir, f.Name)
		switch err := verify(path, f); {
		case err == nil: // another process has fetched it meanwhile
			continue
		case errors.Is(err, ErrCache):
			return err
		case errors.Is(err, errDamaged):
			s.logger().Warn("a cached model file is damaged and is fetched again", "path", path, "error", err)
		}
		source, err := s.source(m, f)
		if err != nil {
			return err
		}
		s.logger().Info("fetching a model file", "model", m.Name, "from", redact(source), "to", path, "bytes", f.Size)
		if err := s.download(ctx, f, source, path); err != nil {
			return err
		}
	}
	return nil
}

// lock prevents other processes, and other goroutines of this one, from fetching the
// same model.
//
// Temporary files with unique names would need no lock. But then all servers that
// share a volume would fetch the model, no server could continue an interrupted
// download, and nobody would know when to remove old files. The operating system
// releases the lock when its process ends. The lock file stays, because after its
// removal two processes could lock two files of the same name.
func (s *Store) lock(ctx context.Context, path string) (unlock func(), err error) {
	l := flock.New(path, flock.SetPermissions(0o644))
	locked, err := l.TryLock()
	if err == nil && !locked {
		s.logger().Info("waiting for another process that is fetching this model", "lock", path)
		locked, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if ctx.Err() != nil && !locked {
		return nil, fmt.Errorf("waiting for the process that holds %s: %w", path, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: locking %s: %w", ErrCache, path, err)
	}
	return func() { _ = l.Unlock() }, nil // the end of the process releases it too
}

// source returns the URL of f.
func (s *Store) source(m Model, f File) (*url.URL, error) {
	if s.Mirror == "" {
		u, err := url.Parse(f.URL)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return u, nil
	}
	u, err := parseMirror(s.Mirror)
	if err != nil {
		return nil, fmt.Errorf("%w: the mirror %w", ErrUnavailable, err)
	}
	return u.JoinPath(m.Name, f.Name), nil
}

// Validate checks the settings without making a request.
func (s *Store) Validate() error {
	if s.Mirror == "" {
		return nil
	}
	_, err := parseMirror(s.Mirror)
	return err
}

// parseMirror parses a mirror's URL. The error has no part of it, which could be a
// secret: if a password has a slash, url.Parse reports a part of it as the port.
func parseMirror(mirror string) (*url.URL, error) {
	u, err := url.Parse(mirror)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" {
		return nil, errors.New("is not an http:// or https:// URL, such as https://models.example.com/mien; special characters in a user or a password must be percent-encoded")
	}
	return u, nil
}

// redact returns u for logs and errors, without parts that may be secret.
func redact(u *url.URL) string {
	const secret = "xxxxx"
	seen := *u
	if seen.User != nil {
		seen.User = url.User(secret) // a token may be the user
	}
	if seen.RawQuery != "" {
		seen.RawQuery = secret
	}
	return seen.String()
}

func (s *Store) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

func orDefault[T ~int64](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}
