package admission

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// enter waits in q in a goroutine, and tells order its name when it has a slot, which
// it keeps until release is closed. Names of images of three pixels end with "large"; others
// have one pixel.
func enter(t *testing.T, q *Queue, name string, stream *Stream, order chan<- string, release <-chan struct{}) {
	t.Helper()
	pixels := int64(1)
	if strings.HasSuffix(name, "large") {
		pixels = 3
	}
	go func() {
		leave, err := q.Enter(t.Context(), stream, pixels)
		if err != nil {
			order <- name + ": " + err.Error()
			return
		}
		order <- name
		<-release
		leave(true)
	}()
	synctest.Wait()
}

func TestQueueOrder(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		arrive  []string // calls begin with c, images of three streams with s, t and u
		want    []string
	}{
		{"nobody waits", 3, []string{"c1", "s1", "c2"}, []string{"c1", "s1", "c2"}},
		{"first come, first served", 1, []string{"c1", "c2", "c3"}, []string{"c1", "c2", "c3"}},
		{"streams among themselves", 1, []string{"s1", "s2", "s3"}, []string{"s1", "s2", "s3"}},
		{"in turn", 1, []string{"s1", "s2", "s3", "s4", "c1", "c2"}, []string{"s1", "c1", "s2", "c2", "s3", "s4"}},
		{"large images of streams", 1, []string{"s1", "s2 large", "s3 large", "c1", "c2", "c3", "c4", "c5"}, []string{"s1", "c1", "s2 large", "c2", "c3", "c4", "s3 large", "c5"}},
		{"large and small images of two streams", 1, []string{"s1 large", "s2 large", "s3 large", "t1", "t2", "t3", "t4"}, []string{"s1 large", "t1", "t2", "t3", "s2 large", "t4", "s3 large"}},
		{"a stream that comes later", 1, []string{"s1", "s2", "s3", "s4", "t1 large", "t2", "u1"}, []string{"s1", "t1 large", "u1", "s2", "s3", "s4", "t2"}},
		{"two streams and calls", 1, []string{"s1 large", "s2 large", "s3 large", "t1", "t2", "t3", "c1", "c2", "c3", "c4"}, []string{"s1 large", "c1", "t1", "c2", "t2", "c3", "t3", "c4", "s2 large", "s3 large"}},
		{"large calls", 1, []string{"c1", "c2 large", "c3", "s1", "s2", "s3", "s4"}, []string{"c1", "c2 large", "s1", "s2", "s3", "c3", "s4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := NewQueue(c.workers, 10)
				order, release := make(chan string, 10), make(chan struct{})
				streams := map[byte]*Stream{'c': nil, 's': {}, 't': {}, 'u': {}}
				for _, name := range c.arrive {
					enter(t, q, name, streams[name[0]], order, release)
				}
				close(release)
				synctest.Wait()
				var got []string
				for range c.arrive {
					got = append(got, <-order)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("%v, want %v", got, c.want)
				}
				if s := q.Stats(); s.Busy != 0 || s.Calls != 0 || s.Images != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestQueueRefuses: a full queue refuses calls at once, and images wait.
func TestQueueRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1, 1)
		order, release := make(chan string, 10), make(chan struct{})
		if err := q.Full(); err != nil {
			t.Error(err)
		}
		enter(t, q, "c1", nil, order, release)
		enter(t, q, "c2", nil, order, release)
		enter(t, q, "s1", &Stream{}, order, release)
		if err := q.Full(); !errors.Is(err, ErrOverloaded) {
			t.Errorf("a full queue: %v", err)
		}
		if _, err := q.Enter(t.Context(), nil, 1); !errors.Is(err, ErrOverloaded) {
			t.Errorf("a call: %v", err)
		}
		if s := q.Stats(); s != (QueueStats{Busy: 1, Workers: 1, Calls: 1, Limit: 1, Images: 1}) {
			t.Errorf("%+v", s)
		}
		close(release)
	})
}

// TestQueueDeadlines: a call that the queue could not serve in time is refused when it
// comes, and one whose time runs out in the queue leaves it.
func TestQueueDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1, 10)
		for range minSamples {
			leave, err := q.Enter(t.Context(), nil, 1)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			leave(true)
		}
		order, release := make(chan string, 10), make(chan struct{})
		for _, name := range []string{"c1", "c2", "c3"} {
			enter(t, q, name, nil, order, release)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := q.Enter(ctx, nil, 1)
		var wait *WaitError
		if !errors.As(err, &wait) || wait.Wait != 2*time.Second || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 0 {
			t.Errorf("two are before it, of 1 s each: %v after %v", err, time.Since(began))
		}
		ctx, cancel = context.WithTimeout(t.Context(), 2100*time.Millisecond)
		defer cancel()
		if _, err := q.Enter(ctx, nil, 1); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &wait) || time.Since(began) != 2100*time.Millisecond {
			t.Errorf("with a little more time: %v after %v", err, time.Since(began))
		}
		if s := q.Stats(); s.Calls != 2 {
			t.Errorf("%+v: it has not left", s)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.Enter(ended, &Stream{}, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		close(release)
	})
}

// TestQueueWithoutWork: the time in a slot without work does not count as a measurement.
func TestQueueWithoutWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1, 10)
		for range minSamples {
			leave, err := q.Enter(t.Context(), nil, 1)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			leave(false)
		}
		if wait := q.times.wait(time.Now(), 10, 1); wait != 0 {
			t.Errorf("%v", wait)
		}
	})
}
