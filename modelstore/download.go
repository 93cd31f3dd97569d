package modelstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxAttempts = 4
	// maxRetryAfter bounds the pause that a server asks for.
	maxRetryAfter = time.Minute
)

// errRedirect means that a redirect would leave encryption.
var errRedirect = errors.New("redirected from https to http")

// retryableError is an error that a retry may fix.
type retryableError struct {
	error
	after time.Duration // the pause that the server asks for
}

func (t retryableError) Unwrap() error { return t.error }

// download fetches f to path. It replaces a file there atomically, and only by a
// verified f. The caller holds the lock of the model.
func (s *Store) download(ctx context.Context, f File, source *url.URL, path string) error {
	partial := path + ".partial"
	// Readable by all, as the folder is.
	out, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // G302, G304: see above
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	t := &transfer{store: s, client: s.client(), file: f, source: source, out: out, progress: newProgress(s.Progress, f)}
	err = t.run(ctx)
	t.progress.clear()
	rest, seekErr := out.Seek(0, io.SeekEnd)
	if closeErr := out.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("%w: %w", ErrCache, closeErr)
	}
	if err == nil {
		// The folder need not be synced: if the machine fails now, the next start
		// fetches the file again.
		if err = os.Rename(partial, path); err != nil {
			err = fmt.Errorf("%w: %w", ErrCache, err)
		}
	}
	if err != nil && seekErr == nil && rest == 0 {
		_ = os.Remove(partial) // an empty file does not matter
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrMismatch) {
		return fmt.Errorf("%s%s %w", redact(source), t.redirected, err)
	}
	return err
}

// transfer is a file on its way into the cache.
type transfer struct {
	store  *Store
	client *http.Client
	file   File
	source *url.URL
	// redirected is " (redirected to URL)" after a redirect, and otherwise empty.
	redirected string
	// out has the bytes that have arrived, also those of earlier processes. Its
	// offset is its length.
	out      *os.File
	progress *progress
}

// run fetches the file to out, verifies it and syncs it to disk.
func (t *transfer) run(ctx context.Context) error {
	pause := orDefault(t.store.Backoff, time.Second)
	for attempt := 1; ; attempt++ {
		err := t.attempt(ctx)
		var again retryableError
		if ctx.Err() != nil || !errors.As(err, &again) {
			return err
		}
		if attempt == maxAttempts {
			return fmt.Errorf("%w (tried %d times)", err, maxAttempts)
		}
		wait := max(pause, again.after)
		t.progress.clear()
		t.store.logger().Warn("fetching a model file failed; retrying",
			"from", redact(t.source), "error", err, "in", wait.String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w, after: %v", context.Cause(ctx), err) //nolint:errorlint // wraps the cause of the end only
		}
		pause *= 2
	}
}

// attempt fetches the missing part, and verifies the whole file.
func (t *transfer) attempt(ctx context.Context) error {
	have, err := t.out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if have < t.file.Size {
		if have, err = t.receive(ctx, have); err != nil {
			return err
		}
	}
	// Read from disk, so that the verified bytes are those that a reader gets.
	sum, err := hash(t.out)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if sum == t.file.SHA256 {
		// Some systems report a full disk only here.
		if err := t.out.Sync(); err != nil {
			return t.writeError(err)
		}
		return nil
	}
	if err := t.discard(); err != nil {
		return err
	}
	err = fmt.Errorf("%w: its SHA-256 is %s, not %s", ErrMismatch, sum, t.file.SHA256)
	if have > 0 {
		// The part from an earlier process may be the wrong one.
		return retryableError{error: err}
	}
	return err
}

// receive appends the rest of the file to out, which has the first have bytes. If
// the server sends only the whole file, that replaces them. It returns how many of
// the first bytes were kept. After an error, out has what arrived, for the next
// attempt.
func (t *transfer) receive(ctx context.Context, have int64) (kept int64, err error) {
	var (
		received atomic.Int64
		watching sync.WaitGroup
	)
	defer watching.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching.Go(func() { t.watchRate(ctx, &received, cancel) })

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.source.String(), nil)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
	}
	req.Header.Set("User-Agent", "mien (+https://github.com/mienproject/mien)")
	// No compression, so that sizes and ranges are those of the file.
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		// No If-Range, because the hash verifies that both parts belong together,
		// also across servers and mirrors.
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	t.redirected = ""
	res, err := t.client.Do(req)
	if err != nil {
		return 0, requestError(ctx, err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.Request != req {
		t.redirected = fmt.Sprintf(" (redirected to %s)", redact(res.Request.URL))
	}
	if err := t.checkResponse(res, have); err != nil {
		return 0, err
	}
	if res.StatusCode == http.StatusOK {
		have = 0
		if err := t.discard(); err != nil {
			return 0, err
		}
	}
	t.progress.start(have)

	body := &meteredReader{r: res.Body, received: &received, progress: t.progress}
	n, err := io.CopyN(t.out, body, t.file.Size-have)
	switch {
	case err == nil:
	case body.err == nil:
		return 0, t.writeError(err)
	case body.err == io.EOF, body.err == io.ErrUnexpectedEOF: //nolint:errorlint // as readers return them
		return 0, retryableError{error: fmt.Errorf("%w: it ended after %d of %d bytes", ErrUnavailable, have+n, t.file.Size)}
	default:
		return 0, requestError(ctx, body.err)
	}
	// An error here does not matter: all bytes have arrived.
	if n, _ := io.ReadFull(res.Body, make([]byte, 1)); n > 0 {
		if err := t.discard(); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%w: it is longer than %d bytes", ErrMismatch, t.file.Size)
	}
	return have, nil
}

// checkResponse returns an error unless the response, by its header, can be the file
// or its rest after the first have bytes.
func (t *transfer) checkResponse(res *http.Response, have int64) error {
	switch code := res.StatusCode; {
	case code == http.StatusOK:
		if n := res.ContentLength; n >= 0 && n != t.file.Size {
			return fmt.Errorf("%w: it has %d bytes, not %d", ErrMismatch, n, t.file.Size)
		}
		return nil
	case code == http.StatusPartialContent && have > 0:
		rest, ok := strings.CutPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have))
		_, size, _ := strings.Cut(rest, "/")
		if ok && (size == "*" || size == strconv.FormatInt(t.file.Size, 10)) {
			return nil
		}
		fallthrough
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0:
		// The next attempt requests the whole file.
		if err := t.discard(); err != nil {
			return err
		}
		return retryableError{error: fmt.Errorf("%w: for bytes %d to %d the server answers %s %q",
			ErrUnavailable, have, t.file.Size-1, res.Status, res.Header.Get("Content-Range"))}
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return retryableError{
			error: fmt.Errorf("%w: the server answers %s", ErrUnavailable, res.Status),
			after: retryAfter(res.Header),
		}
	default:
		return fmt.Errorf("%w: the server answers %s", ErrUnavailable, res.Status)
	}
}

// retryAfter returns the pause of the Retry-After header. A date, which is rare, is
// ignored.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
}

// watchRate cancels a transfer that is slower than MinRate.
func (t *transfer) watchRate(ctx context.Context, received *atomic.Int64, cancel context.CancelCauseFunc) {
	window := orDefault(t.store.RateWindow, 30*time.Second)
	minBytes := float64(orDefault(t.store.MinRate, 1024)) * window.Seconds()
	ticker := time.NewTicker(window)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if n := received.Swap(0); float64(n) < minBytes {
				cancel(retryableError{error: fmt.Errorf("%w: too slow: %d bytes in %v, the minimum is %.0f",
					ErrUnavailable, n, window, minBytes)})
				return
			}
		}
	}
}

// requestError returns the error of a failed request: the cause of its context's end
// if that has ended, and otherwise err.
func requestError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
	var certificate *tls.CertificateVerificationError
	if errors.Is(err, errRedirect) || errors.As(err, &certificate) {
		return err
	}
	return retryableError{error: err}
}

// withoutURL unwraps a url.Error, because the message already has the URL.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// writeError frees the space of the partial file, because the disk may be full, and
// returns the error.
func (t *transfer) writeError(err error) error {
	_ = t.discard() // the first error is the cause
	return fmt.Errorf("%w: %w", ErrCache, err)
}

func (t *transfer) discard() error {
	if err := t.out.Truncate(0); err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if _, err := t.out.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	return nil
}

// client returns the client for requests, with the store's redirect policy.
func (s *Store) client() *http.Client {
	// Idle connections would not be used again. watchRate also limits the time to
	// connect.
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	if s.Client != nil {
		client = *s.Client
	}
	next := client.CheckRedirect
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		// The header would reveal the query to the next server.
		req.Header.Del("Referer")
		switch {
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return fmt.Errorf("%w: %s", errRedirect, redact(req.URL))
		case next != nil:
			return next(req, via)
		case len(via) >= 10:
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
	return &client
}

// meteredReader reads a body, counts its bytes, shows the progress, and keeps the
// last error.
type meteredReader struct {
	r        io.Reader
	received *atomic.Int64
	progress *progress
	err      error
}

func (m *meteredReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.received.Add(int64(n))
	m.progress.add(n)
	m.err = err
	return n, err
}
