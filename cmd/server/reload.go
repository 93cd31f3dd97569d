package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
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
	// failed is the error that was logged last; "" after a success.
	failed string
}

// read returns the content of the files.
func (s *source) read() ([][]byte, error) {
	var contents [][]byte
	for _, path := range s.files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		contents = append(contents, data)
	}
	return contents, nil
}

// first loads the source at start.
func (s *source) first() error {
	contents, err := s.read()
	if err != nil {
		return err
	}
	s.seen = contents
	return s.load(contents)
}

// isRegular reports whether all files that exist are regular files. Others, such as a pipe
// from a shell, can be read only once.
func (s *source) isRegular() bool {
	for _, path := range s.files {
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
				r.reload("SIGHUP")
			case now := <-ticker.C:
				r.reload("")
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
func (r *reloader) reload(because string) {
	for _, s := range r.sources {
		if !s.isRegular() {
			continue
		}
		contents, err := s.read()
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
