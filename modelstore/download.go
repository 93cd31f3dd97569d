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
	// maxRetryAfter is the longest pause that a server may ask for.
	maxRetryAfter = time.Minute
)

// errRedirect is a redirect that would give up encryption.
var errRedirect = errors.New("redirected from https to http")

// retryableError is an error after which another try may help.
type retryableError struct {
	error
	after time.Duration // what the server asks to wait
}

func (t retryableError) Unwrap() error { return t.error }

// download puts f at path. Whatever is there already is replaced in one step,
// and only by f. The caller holds the lock of the model.
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
		// Should the machine fail before the folder is on disk, the file is
		// fetched again: there is no need to sync the folder.
		if err = os.Rename(partial, path); err != nil {
			err = fmt.Errorf("%w: %w", ErrCache, err)
		}
	}
	if err != nil && seekErr == nil && rest == 0 {
		_ = os.Remove(partial) // an empty file does no harm
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
	// redirected tells where the last answer came from, if not from source.
	redirected string
	// out has the bytes that have arrived, from earlier processes too. Its
	// offset is at its end.
	out      *os.File
	progress *progress
}

// run leaves the file, verified and on disk, in out.
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
		t.store.logger().Warn("fetching a model file failed and is tried again",
			"from", redact(t.source), "error", err, "in", wait.String())
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w, after: %v", context.Cause(ctx), err) //nolint:errorlint // what ended it is the error to tell
		}
		pause *= 2
	}
}

// attempt asks for what is missing, and verifies the whole.
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
	// From the disk, so that what is verified is what will be read.
	sum, err := hash(t.out)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if sum == t.file.SHA256 {
		// A full disk may be told only now.
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
		// The part that was there before may be the bad one.
		return retryableError{error: err}
	}
	return err
}

// receive appends to out what comes after the have bytes that it has, or
// replaces them when the server gives only the whole. It returns how many of
// them stayed. When it fails, out has what arrived, for the next try.
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
	// Sizes and ranges are those of the file itself.
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		// No If-Range: whether the rest belongs to what is here is for the hash
		// to say, across servers and mirrors.
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
	// An error here does not matter any more: all bytes are there.
	if n, _ := io.ReadFull(res.Body, make([]byte, 1)); n > 0 {
		if err := t.discard(); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%w: it is longer than %d bytes", ErrMismatch, t.file.Size)
	}
	return have, nil
}

// checkResponse tells by its header whether an answer can be the file, or the rest of
// it after the first have bytes.
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
		// The whole is asked for next.
		if err := t.discard(); err != nil {
			return err
		}
		return retryableError{error: fmt.Errorf("%w: asked for bytes %d to %d, the server answers %s %q",
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

// retryAfter reads the header of that name. Its other form, a date, is rare and
// gets the pause that there would be without.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
}

// watchRate ends a transfer that is too slow, or stands still.
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
				cancel(retryableError{error: fmt.Errorf("%w: too slow: %d bytes in %v, at least %.0f are expected",
					ErrUnavailable, n, window, minBytes)})
				return
			}
		}
	}
}

// requestError is the error of a request that has failed: what ended its context, if
// that did, or else err.
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

// withoutURL takes off what url.Error adds: the URL is in the message already.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// writeError gives room back to a disk that is full, and says so.
func (t *transfer) writeError(err error) error {
	_ = t.discard() // the first error is the one to tell
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

// client returns the client to ask, with the store's redirect policy.
func (s *Store) client() *http.Client {
	// Connections that would idle serve nobody: there is no next file. What
	// takes long to connect, watch ends.
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	if s.Client != nil {
		client = *s.Client
	}
	next := client.CheckRedirect
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		// It would tell the next server the query of the one before.
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

// meteredReader reads a body, counts and draws what comes, and remembers how it ended.
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
