package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A sample has metrics of the server at one time.
type sample struct {
	at          time.Time
	memory, cpu float64 // resident bytes, and seconds since its start
	workers     float64
}

// A watcher reads the server's metrics.
type watcher struct {
	url  string
	http *http.Client
}

func newWatcher(admin string) *watcher {
	return &watcher{admin + "/metrics", &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
}

func (w *watcher) look(ctx context.Context) (sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return sample{}, err
	}
	res, err := w.http.Do(req)
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	if res.StatusCode != http.StatusOK {
		return sample{}, fmt.Errorf("%s: %s", w.url, res.Status)
	}
	return read(res.Body)
}

// read parses the needed metrics from Prometheus's text format.
func read(text io.Reader) (sample, error) {
	s := sample{at: time.Now()}
	want := map[string]*float64{
		"process_resident_memory_bytes": &s.memory, "process_cpu_seconds_total": &s.cpu, "mien_workers": &s.workers,
	}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if into, ok := want[name]; ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return s, fmt.Errorf("%s: %w", name, err)
			}
			*into = v
			delete(want, name)
		}
	}
	if err := lines.Err(); err != nil {
		return s, err
	}
	for name := range want {
		return s, fmt.Errorf("the metrics do not include %s", name)
	}
	return s, nil
}

// watch samples the metrics at regular intervals until stop is called, which returns
// the samples.
func (w *watcher) watch(ctx context.Context, every time.Duration) (stop func() ([]sample, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var (
		seen   []sample
		failed error
	)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for failed == nil {
			s, err := w.look(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				failed = err
			default:
				seen = append(seen, s)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() ([]sample, error) {
		cancel()
		<-done
		return seen, failed
	}
}
