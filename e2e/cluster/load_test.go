package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mienproject/mien/client"
)

// A caller sends an image, and returns when it has the answer.
type caller func(ctx context.Context, image []byte) error

// callers are the kinds of clients that the tests call one or more servers with. Each caller
// that they return has connections of its own.
var callers = map[string]func(t testing.TB, urls ...string) caller{
	// It never calls again, and calls only the first server.
	"http/1.1": func(t testing.TB, urls ...string) caller {
		t.Helper()
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		return func(ctx context.Context, image []byte) error { return post(ctx, transport, urls[0], image) }
	},
	"grpc":    func(t testing.TB, urls ...string) caller { t.Helper(); return predict(t, urls, client.WithGRPC()) },
	"connect": func(t testing.TB, urls ...string) caller { t.Helper(); return predict(t, urls) },
}

func post(ctx context.Context, transport http.RoundTripper, url string, image []byte) error {
	ctx, cancel := context.WithTimeout(ctx, client.DefaultTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/predict", bytes.NewReader(image))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "image/jpeg")
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"confidence"`)) {
		return fmt.Errorf("%s %s: %s", response.Status, response.Header.Get("Mien-Reason"), body)
	}
	return nil
}

// predict calls with the client's defaults.
func predict(t testing.TB, urls []string, options ...client.Option) caller {
	t.Helper()
	c, err := client.New(urls[0], append(options, client.WithAddresses(urls[1:]...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return func(ctx context.Context, image []byte) error {
		results, err := c.PredictBytes(ctx, image, nil)
		if err == nil && len(results.GetResults()) == 0 {
			return errors.New("no face was found")
		}
		return err
	}
}

// An outcome is what became of the calls of a load.
type outcome struct {
	times    []time.Duration // of the answered calls, sorted
	failures map[string]int
}

func (o *outcome) failed() int {
	n := 0
	for _, count := range o.failures {
		n += count
	}
	return n
}

// percentile returns the time that p percent of the answered calls did not exceed.
func (o *outcome) percentile(p int) time.Duration {
	if len(o.times) == 0 {
		return 0
	}
	return o.times[(len(o.times)-1)*p/100].Round(time.Millisecond)
}

func (o *outcome) String() string {
	text := fmt.Sprintf("%d answered, %d failed, p50 %v, p99 %v, longest %v",
		len(o.times), o.failed(), o.percentile(50), o.percentile(99), o.percentile(100))
	for failure, count := range o.failures {
		text += fmt.Sprintf("\n\t%d × %s", count, failure)
	}
	return text
}

// A load is calls that go on until stop: as many at a time as there are workers, each of
// which calls again when it has an answer.
type load struct {
	group   sync.WaitGroup
	cancel  context.CancelFunc
	mutex   sync.Mutex
	outcome outcome
}

func startLoad(t testing.TB, kind string, image []byte, workers int, urls ...string) *load {
	t.Helper()
	running, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel, outcome: outcome{failures: map[string]int{}}}
	start := time.Now()
	for range workers {
		call := callers[kind](t, urls...)
		l.group.Go(func() {
			for running.Err() == nil {
				l.record(start, time.Now(), call(t.Context(), image))
			}
		})
	}
	return l
}

func (l *load) record(start, called time.Time, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	took := time.Since(called)
	if err == nil {
		l.outcome.times = append(l.outcome.times, took)
		return
	}
	text := err.Error()
	if failure := (*client.Error)(nil); errors.As(err, &failure) {
		text = fmt.Sprint(failure.Code, " ", failure.Reason, " ", text)
	}
	l.outcome.failures[fmt.Sprintf("after %.0f s, within %.1f s: %.200s", called.Sub(start).Seconds(), took.Seconds(), strings.TrimSpace(text))]++
}

// stop lets the calls in flight end, and returns what became of all.
func (l *load) stop() *outcome {
	l.cancel()
	l.group.Wait()
	slices.Sort(l.outcome.times)
	return &l.outcome
}
