package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReusePort runs three processes on one port under load, kills one of them, and
// replaces all of them one by one. Every call must succeed after at most one retry.
func TestReusePort(t *testing.T) {
	t.Parallel()
	const delay = "--drain-delay=200ms"
	first := start(t, "--reuse-port", delay)
	// A later --listen adds to the earlier one, whose free port is not used.
	another := func() *server { return start(t, "--reuse-port", delay, "--listen", first.addr) }
	old := []*server{first, another(), another()}
	for _, s := range old {
		s.urls() // waits until the server is ready
	}

	photo := small.load(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	call := func() error {
		res, err := client.Post(first.url+"/predict?max_results=1", "image/jpeg", bytes.NewReader(photo))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		var answer struct{ Results []face }
		if err := json.Unmarshal(body, &answer); err != nil || res.StatusCode != http.StatusOK || len(answer.Results) != 1 {
			return fmt.Errorf("%s: %s", res.Status, excerpt(body))
		}
		return nil
	}
	var calls, again, lost atomic.Int64
	// A killed process closes its connections before its port, so a client that tries
	// again at once may be queued there and disconnected again. Real clients pause
	// before they retry; these wait until the port is closed.
	var dying sync.RWMutex
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				calls.Add(1)
				err := call()
				if err == nil {
					continue
				}
				again.Add(1)
				dying.RLock()
				dying.RUnlock() //nolint:staticcheck // it only waits
				// Other connections to a stopped process are closed too.
				transport.CloseIdleConnections()
				if second := call(); second != nil {
					lost.Add(1)
					t.Errorf("lost: %v, and then %v", err, second)
				}
			}
		})
	}
	// more waits until that many more calls were made.
	more := func(n int64) {
		for until, began := calls.Load()+n, time.Now(); calls.Load() < until; time.Sleep(time.Millisecond) {
			if time.Since(began) > patience {
				t.Error("the calls do not go on")
				return
			}
		}
	}
	more(20)
	dying.Lock()
	old[1].kill()
	dying.Unlock()
	more(20)
	var replaced []*server
	for i, s := range old {
		replaced = append(replaced, another())
		replaced[i].urls()
		if i != 1 {
			s.stop()
		}
		more(10)
	}
	close(done)
	load.Wait()
	t.Logf("%d calls, %d of them made a second time, %d lost", calls.Load(), again.Load(), lost.Load())
	// Each call uses a connection of its own, so that they are distributed.
	transport.DisableKeepAlives = true
	for range 16 {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	served := 0
	for _, s := range replaced {
		if len(requests(s.stop(), "/predict")) > 0 {
			served++
		}
	}
	if served < 2 {
		t.Errorf("%d of the three new processes were called: the port is not shared", served)
	}
}
