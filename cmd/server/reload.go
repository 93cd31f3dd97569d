package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// reloadInterval is how often files are compared with what was loaded from them. Comparing
// their content, not their times, notices all ways of replacing a file, such as the links
// in a Kubernetes volume.
const reloadInterval = 2 * time.Second

// A source is files that together have one meaning, such as a certificate and its key.
type source struct {
	// what names the source in the log.
	what string
	// files are their paths.
	files []string
	// load uses the content of the files. If it returns an error, everything stays as it
	// was before.
	load func(contents [][]byte) error

	// seen is the content that load got last, whether it accepted it or not. changed is
	// other content that was read since.
	seen, changed [][]byte
	// readAt is when the files were read last.
	readAt time.Time
	// failed is the error that was logged last; "" after a success.
	failed string
}

// read returns the content of the files.
func (s *source) read(ctx context.Context) ([][]byte, error) {
	var contents [][]byte
	for _, path := range s.files {
		read := func() ([]byte, error) { return os.ReadFile(path) }
		if isURL(path) {
			read = func() ([]byte, error) { return download(ctx, path) }
		}
		data, err := read()
		if err != nil {
			return nil, err
		}
		contents = append(contents, data)
	}
	return contents, nil
}

func isURL(path string) bool { return strings.Contains(path, "://") }

const (
	// downloadInterval is how often URLs are read again. Issuers publish new keys long before
	// they use them.
	downloadInterval = 5 * time.Minute
	// downloadTime and maxDownload limit the time and the size of a download.
	downloadTime = 10 * time.Second
	maxDownload  = 1 << 20
)

// download returns the content of a URL.
func download(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// A client of its own has no idle connections to close.
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the status is %s", url, res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxDownload+1))
	if err == nil && len(data) > maxDownload {
		err = fmt.Errorf("%s has more than %d bytes", url, maxDownload)
	}
	return data, err
}

// first loads the source at start.
func (s *source) first() error {
	s.readAt = time.Now()
	contents, err := s.read(context.Background())
	if err != nil {
		return err
	}
	s.seen = contents
	return s.load(contents)
}

// isDue reports whether the files may be read again now. Those that are not regular files, such
// as a pipe from a shell, can be read only once.
func (s *source) isDue(now time.Time, forced bool) bool {
	for _, path := range s.files {
		if isURL(path) && !forced && now.Sub(s.readAt) < downloadInterval {
			return false
		}
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// isSettled reports whether contents is new, and was the same when the files were read
// before. Files that are written in place, and pairs of files, are not complete at once.
func (s *source) isSettled(contents [][]byte) bool {
	if slices.EqualFunc(s.seen, contents, bytes.Equal) {
		return false
	}
	if slices.ContainsFunc(s.files, isURL) {
		return true // nothing is written in place
	}
	before := s.changed
	s.changed = contents
	return slices.EqualFunc(before, contents, bytes.Equal)
}

// A reloader loads sources again when their files change, and on SIGHUP.
type reloader struct {
	sources []*source
	// every is called once in each interval.
	every func(now time.Time)
	log   *slog.Logger
}

// start watches the files until stop is called, and loads all of them when a signal comes
// from hangup.
func (r *reloader) start(ctx context.Context, hangup <-chan os.Signal) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(reloadInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				r.log.Info("reloading", "because", "SIGHUP", "files", r.files())
				r.reload(ctx, "SIGHUP")
			case now := <-ticker.C:
				r.reload(ctx, "")
				if r.every != nil {
					r.every(now)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (r *reloader) files() []string {
	files := []string{}
	for _, s := range r.sources {
		files = append(files, s.files...)
	}
	return files
}

// reload loads all sources because of what the caller says or, if that is "", those whose
// files have changed.
func (r *reloader) reload(ctx context.Context, because string) {
	for _, s := range r.sources {
		now := time.Now()
		if !s.isDue(now, because != "") {
			continue
		}
		s.readAt = now
		contents, err := s.read(ctx)
		if err == nil {
			if because == "" && !s.isSettled(contents) {
				continue
			}
			s.seen, s.changed = contents, nil
			err = s.load(contents)
		}
		attrs := []any{"what", s.what, "files", s.files}
		switch {
		case err == nil:
			s.failed = ""
			if because == "" {
				attrs = append(attrs, "because", "the files changed")
			} else {
				attrs = append(attrs, "because", because)
			}
			r.log.Info("reloaded", attrs...)
		case because != "" || err.Error() != s.failed: // a file that stays missing is logged once
			s.failed = err.Error()
			r.log.Error("reload failed; what was loaded before stays in use", append(attrs, "error", err)...)
		}
	}
}

// ignoreBrokenPipes lets the server outlive the reader of its log. Without this, Go ends
// a process that writes to a standard output or error that nobody reads any more.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }
