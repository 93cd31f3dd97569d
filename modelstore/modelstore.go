// Package modelstore fetches the models that Mien knows by name, once, and keeps
// them in the user's cache.
//
// Every file has a pinned size and SHA-256. Nothing is handed out that was not
// checked against them just now, whether it came over the wire or lay in the
// cache, and nothing else is ever moved to a file's name: a source that lies, a
// disk that fills up or a process that is killed leaves at most a ".partial"
// file, which the next attempt goes on from.
//
// The cache has <model>/<file>, which is what a mirror serves: a copy of a
// warm cache behind any HTTP server is one.
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

// What can go wrong. Every error of this package wraps one of these, except for
// the context's own.
var (
	// ErrUnknownModel means that no model has that name.
	ErrUnknownModel = errors.New("unknown model")
	// ErrUnavailable means that the source cannot be reached, does not have the
	// file, or takes too long to deliver it.
	ErrUnavailable = errors.New("cannot be fetched")
	// ErrMismatch means that the source has something else under the file's name.
	ErrMismatch = errors.New("is not the file that Mien knows")
	// ErrCache means that the folder of the models cannot be read or written.
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

// errDamaged is a file of the cache that is not what it should be.
var errDamaged = errors.New("damaged")

// Store is where models are kept and fetched to. Its zero value fetches from the
// publishers, into the user's cache, in silence. Its fields must not change once
// it is in use.
type Store struct {
	// Dir is the folder for the models, made when it is missing. Empty means
	// mien/models in os.UserCacheDir.
	Dir string
	// Mirror is an http or https URL below which <model>/<file> is fetched,
	// instead of from the publisher. It may carry a user, a password and a query,
	// none of which is ever logged or in an error.
	Mirror string
	// Models are those that the store has; nil means Known().
	Models []Model

	// Timeout is the longest that Fetch may take, tries, pauses and waiting for
	// another process included. 0 means 10 minutes.
	Timeout time.Duration
	// MinRate is the fewest bytes per second, on average over each RateWindow,
	// at which a transfer is let go on; below it the transfer counts as failed.
	// 0 means 1024.
	MinRate int64
	// RateWindow is the time that MinRate is measured over, and so the longest
	// that a silent server is waited for. 0 means 30 seconds.
	RateWindow time.Duration
	// Backoff is the pause before a file's second try. It doubles with every try
	// after that; there are four. 0 means one second.
	Backoff time.Duration

	// Client makes the requests. nil means a plain one that honors the usual
	// proxy variables. Its own redirect policy is asked after the store's, which
	// follows none from https to http.
	Client *http.Client
	// Progress gets a progress bar if it is a terminal, and nothing if it is not.
	// nil means nothing.
	Progress io.Writer
	// Logger gets a line for each file that is fetched, and for each failure that
	// is not the end. nil means nothing.
	Logger *slog.Logger
}

// Fetch returns the path of a model that can be loaded: its file, or the folder
// that holds its files, with nothing else in it, when there are several. Files
// that are in the cache and undamaged are used without any request, also from a
// folder that cannot be written.
//
// It is safe for concurrent use, by several processes too: one of them fetches,
// the others wait for it.
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
	// Looked at before it is locked, because a lock needs a folder that can be
	// written: a warm cache in an image or on a read-only volume has none.
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

// dir returns the folder of all models.
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

// verify returns nil when path has f. Otherwise the error is fs.ErrNotExist,
// errDamaged, or ErrCache when the file cannot be read.
func verify(path string, f File) error {
	file, err := os.Open(path) //nolint:gosec // G304: below the cache folder
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

// fetchMissing fetches those of m's files that dir lacks.
func (s *Store) fetchMissing(ctx context.Context, m Model, dir string) error {
	timeout := orDefault(s.Timeout, 10*time.Minute)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: not done after %v", ErrUnavailable, timeout))
	defer cancel()

	// Others may need to read what one user, say the one who builds an image,
	// has fetched; nothing in it is secret.
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
		case err == nil: // by whoever held the lock before
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

// lock keeps other processes, and other goroutines of this one, from fetching
// the same model.
//
// Temporary files with unique names would be harmless without a lock, but then
// every server of a fleet that shares a volume fetches for itself, no start goes
// on from what a killed one has left, and somebody has to guess when leftovers
// are dead. The operating system frees this lock when its holder dies, however
// it dies. The file of a lock stays: removing it would let two processes hold
// locks on two files of one name.
func (s *Store) lock(ctx context.Context, path string) (unlock func(), err error) {
	l := flock.New(path, flock.SetPermissions(0o644))
	locked, err := l.TryLock()
	if err == nil && !locked {
		s.logger().Info("waiting for another process that fetches this model", "lock", path)
		locked, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if ctx.Err() != nil && !locked {
		return nil, fmt.Errorf("waiting for the process that holds %s: %w", path, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: locking %s: %w", ErrCache, path, err)
	}
	return func() { _ = l.Unlock() }, nil // the end of the process frees it too
}

// source returns where f is fetched from.
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

// Validate tells what is wrong with the settings, as far as that can be told
// without fetching anything.
func (s *Store) Validate() error {
	if s.Mirror == "" {
		return nil
	}
	_, err := parseMirror(s.Mirror)
	return err
}

// parseMirror reads a mirror's URL. The error has no part of it, for it may be the
// one that is a secret: a password with a slash in it is a port that is no number.
func parseMirror(mirror string) (*url.URL, error) {
	u, err := url.Parse(mirror)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" {
		return nil, errors.New("is no http:// or https:// URL, such as https://models.example.com/mien; what is special in a user or a password has to be percent-encoded")
	}
	return u, nil
}

// redact is u as it may be seen: without what may be a secret.
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
