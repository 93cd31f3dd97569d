package admission

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A house is a ledger with helpers for tests.
type house struct {
	*testing.T
	*Ledger
	revoked *calledBack
}

// calledBack counts the calls of the leases' revoke functions.
type calledBack struct {
	mu    sync.Mutex
	calls map[*Lease]int
}

func (c *calledBack) add(l *Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[l]++
}

func (c *calledBack) count(l *Lease) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[l]
}

func (c *calledBack) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

func newHouse(t *testing.T, limits Limits) *house {
	limits.InflateBytes, limits.Inflaters = 100, 4
	return &house{t, NewLedger(limits), &calledBack{calls: map[*Lease]int{}}}
}

// admit returns a request that is being read and holds n bytes.
func (h *house) admit(stream bool, n int64) *Lease {
	h.Helper()
	var l *Lease
	l = h.NewLease(stream, func() { h.revoked.add(l) })
	err := l.Admit()
	l.StartReading()
	if err = errors.Join(err, l.Grow(n)); err != nil {
		h.Fatal(err)
	}
	return l
}

// refused checks that ask, which asks for more for l, is refused and leaves l nothing. Then l
// takes again what it had.
func (h *house) refused(what string, l *Lease, ask func() error) {
	h.Helper()
	had, stats := l.Bytes(), h.Stats()
	if err := ask(); !errors.Is(err, ErrOverloaded) || l.Bytes() != 0 || h.Stats() != (LedgerStats{stats.Requests, stats.Streams, stats.Bytes - had}) {
		h.Errorf("%s: %v, %d bytes left, %+v", what, err, l.Bytes(), h.Stats())
	}
	if err := l.Grow(had); err != nil {
		h.Error(err)
	}
}

// want compares what is in flight.
func (h *house) want(requests, streams, bytes int64) {
	h.Helper()
	if got := h.Stats(); got != (LedgerStats{requests, streams, bytes}) {
		h.Errorf("%+v, want %d requests, %d streams and %d bytes", got, requests, streams, bytes)
	}
}

// isRevoked reports whether l was revoked, and checks that its holder knows.
func (h *house) isRevoked(l *Lease) bool {
	h.Helper()
	_, err := l.StopReading()
	revoked := l.Revoked()
	if revoked != errors.Is(err, ErrRevoked) || revoked != (h.revoked.count(l) == 1) || revoked != errors.Is(l.Grow(0), ErrRevoked) {
		h.Errorf("revoked: %v; StopReading: %v; called back %d times", revoked, err, h.revoked.count(l))
	}
	return revoked
}

var small = Limits{Requests: 4, Bytes: 100, StreamBytes: 50}

func TestLedgerCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, small)
		stream, other := h.admit(true, 20), h.admit(true, 30)
		if err := h.NewLease(true, nil).Admit(); !errors.Is(err, ErrOverloaded) {
			t.Errorf("more streams than half of the requests: %v", err)
		}
		single := h.admit(false, 10)
		h.want(3, 2, 60)
		if err := single.Grow(50); err != nil {
			t.Errorf("all that is left: %v", err)
		}
		single.Shrink(10)
		h.refused("a byte too many", single, func() error { return single.Grow(51) })
		h.refused("no stream has any left", stream, func() error { return stream.Grow(21) })
		if err := single.CheckRoom(40); err != nil {
			t.Error(err)
		}
		if err := single.CheckRoom(41); !errors.Is(err, ErrOverloaded) {
			t.Errorf("%v", err)
		}
		h.want(3, 2, 60)
		detached := stream.Detach()
		if stream.Bytes() != 0 || detached.Bytes() != 20 {
			t.Errorf("%d and %d bytes", stream.Bytes(), detached.Bytes())
		}
		detached.Release(5)
		h.want(3, 2, 55)
		stream.Close()
		stream.Close()
		h.want(2, 1, 55)
		detached.Close()
		other.Close()
		single.Close()
		h.want(0, 0, 0)
	})
}

// TestNotAllAreRefused: of requests that grow alike, some are refused, and what those give
// back lets the others grow to the end.
func TestNotAllAreRefused(t *testing.T) {
	for _, stream := range []bool{false, true} {
		h := newHouse(t, Limits{Requests: 20, Bytes: 100, StreamBytes: 100})
		var leases []*Lease
		for range 10 {
			leases = append(leases, h.admit(stream, 0))
		}
		refused := map[*Lease]bool{}
		for n := int64(1); n <= 25; n++ {
			for _, l := range leases {
				if !refused[l] {
					refused[l] = l.Grow(n) != nil
				}
			}
		}
		grown := 0
		for _, l := range leases {
			if !refused[l] {
				grown++
			}
		}
		if grown != 4 || h.Stats().Bytes != 100 {
			t.Errorf("streams: %t: %d of 10 requests for a quarter of the room were not refused; %+v", stream, grown, h.Stats())
		}
	}
}

// TestSlowMakeRoom: requests that are slow have to go when others need their room, the
// slowest first, and only if that helps.
func TestSlowMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, small)
		slowest := h.admit(false, 40)
		time.Sleep(time.Millisecond)
		slow := h.admit(false, 30)
		time.Sleep(time.Millisecond)
		worked := h.admit(false, 10)
		if was, err := worked.StopReading(); !was || err != nil {
			t.Errorf("%v, %v", was, err)
		}
		time.Sleep(SlowTime - 2*time.Millisecond)
		fast := h.admit(false, 20)
		h.refused("nobody is slow yet", fast, func() error { return fast.Grow(30) })
		time.Sleep(2 * time.Millisecond)
		h.refused("all that are slow have not so much", fast, func() error { return fast.Grow(100) })
		if h.revoked.total() > 0 {
			t.Errorf("%d revoked", h.revoked.total())
		}
		if err := fast.Grow(30); err != nil {
			t.Error(err)
		}
		h.want(3, 0, 70)
		if !h.isRevoked(slowest) || h.isRevoked(slow) || h.isRevoked(worked) {
			t.Error("another than the slowest had to go")
		}
		slowest.Close() // has nothing more
		h.want(3, 0, 70)
		slow.Close()
		worked.Close()
		fast.Close()
		h.want(0, 0, 0)
	})
}

// TestSlowLeavePlaces: a request that is slow, or behind, has to go for another at once,
// whatever it holds.
func TestSlowLeavePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, small)
		var all []*Lease
		for range small.Requests {
			l := h.admit(false, 0)
			l.Progress(PlaceBytes / 100) // enough for 10 ms
			all = append(all, l)
			time.Sleep(time.Millisecond)
		}
		if err := h.NewLease(false, nil).Admit(); !errors.Is(err, ErrOverloaded) {
			t.Errorf("nobody is behind: %v", err)
		}
		time.Sleep(8 * time.Millisecond)
		all[0].Progress(PlaceBytes / 100)
		another := h.admit(false, 0)
		if h.isRevoked(all[0]) || !h.isRevoked(all[1]) || h.isRevoked(all[2]) {
			t.Error("another than the first that is behind had to go")
		}
		h.want(4, 0, 0)
		// all[0] has stopped reading, and cannot go. This one has come fast, and pauses.
		fast := all[3]
		fast.StartReading()
		fast.Progress(10 * SlowBytes)
		all[2].StartReading()
		all[2].Progress(10 * SlowBytes)
		another.Progress(10 * SlowBytes)
		time.Sleep(SlowTime / 2)
		fast.Progress(SlowBytes)
		another.Progress(SlowBytes)
		if err := h.NewLease(false, nil).Admit(); !errors.Is(err, ErrOverloaded) {
			t.Errorf("nobody is slow: %v", err)
		}
		time.Sleep(SlowTime/2 + 1)
		last := h.admit(false, 0)
		if !h.isRevoked(all[2]) || h.isRevoked(fast) || h.isRevoked(another) {
			t.Error("another than the slow one had to go")
		}
		for _, l := range append(all, another, last) {
			l.Close()
		}
		h.want(0, 0, 0)
	})
}

// TestSlowMakesNoRoomForItself: a request that is the slowest cannot have what it holds.
func TestSlowMakesNoRoomForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, small)
		l := h.admit(false, 90)
		time.Sleep(SlowTime + 1)
		if err := l.Grow(110); !errors.Is(err, ErrRevoked) && !errors.Is(err, ErrOverloaded) {
			t.Errorf("%v", err)
		}
		l.Close()
		stream := h.admit(true, 50)
		time.Sleep(SlowTime + 1)
		if err := stream.GrowWait(t.Context(), 60); !errors.Is(err, ErrRevoked) || !h.isRevoked(stream) {
			t.Errorf("%v", err)
		}
		h.want(0, 0, 0)
	})
}

// grow waits for n bytes in a goroutine.
func grow(ctx context.Context, l *Lease, n int64) (ended chan error) {
	ended = make(chan error, 1)
	go func() { ended <- l.GrowWait(ctx, n) }()
	synctest.Wait()
	return ended
}

func isWaiting(ended chan error) bool {
	synctest.Wait()
	return len(ended) == 0
}

// TestStreamsWaitInOrder: streams wait for bytes in the order of arrival, at once when
// they are given back, and leave the line when their contexts end.
func TestStreamsWaitInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Limits{Requests: 10, Bytes: 100, StreamBytes: 50})
		holder := h.admit(true, 50).Detach() // under work, so that it is not slow
		began := time.Now()
		h.overflow = true // another has it
		a, b, c := h.admit(true, 0), h.admit(true, 0), h.admit(true, 0)
		if _, err := c.StopReading(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := grow(ctx, a, 30), grow(t.Context(), b, 20)
		holder.Release(10)
		if !isWaiting(first) || !isWaiting(second) {
			t.Error("one was served before its turn")
		}
		if err := c.Grow(5); !errors.Is(err, ErrOverloaded) {
			t.Errorf("a batch has what others wait for: %v", err)
		}
		third := grow(t.Context(), c, 5)
		time.Sleep(10 * SlowTime) // which makes nobody slow
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if !isWaiting(second) || !isWaiting(third) {
			t.Error("20 bytes got the room of ten")
		}
		holder.Release(15)
		if isWaiting(second) || isWaiting(third) || (<-second) != nil || (<-third) != nil {
			t.Error("they were not served")
		}
		if took := time.Since(began); took != 10*SlowTime {
			t.Errorf("%v", took)
		}
		if h.revoked.total() > 0 {
			t.Error("those that wait are not slow")
		}
		h.want(4, 4, 50)
	})
}

// TestStreamsAndSingleCalls: a stream that waits does not keep single calls from what
// is free, and they do not wait behind it.
func TestStreamsAndSingleCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, small)
		working := h.admit(false, 80)
		if _, err := working.StopReading(); err != nil {
			t.Fatal(err)
		}
		stream := h.admit(true, 0)
		waits := grow(t.Context(), stream, 30)
		time.Sleep(10 * SlowTime)
		single := h.admit(false, 15)
		if !isWaiting(waits) || h.Stats().Bytes != 95 {
			t.Errorf("%+v", h.Stats())
		}
		if stream.overflow {
			t.Error("it has the overflow allowance, though single calls give back what they have")
		}
		single.Close()
		working.Close()
		if err := <-waits; err != nil {
			t.Error(err)
		}
		h.want(1, 1, 30)
	})
}

// TestWaitingStreamsAndSlowOnes: a stream that waits gets the room of another as soon
// as that becomes slow, without anybody asking again.
func TestWaitingStreamsAndSlowOnes(t *testing.T) {
	for _, c := range []struct {
		name string
		// slow makes the other slow after that time.
		slow func(other *Lease)
		at   time.Duration
	}{
		{"it stops", func(*Lease) {}, SlowTime + 1},
		{"it stops later", func(other *Lease) {
			time.Sleep(SlowTime / 2)
			other.Progress(SlowBytes)
		}, SlowTime*3/2 + 1},
		{"it begins to be read later", func(other *Lease) {
			if _, err := other.StopReading(); err != nil {
				panic(err)
			}
			time.Sleep(SlowTime * 2) // and nothing is left to wait for
			other.StartReading()
			_, _ = other.StopReading()
			time.Sleep(SlowTime / 4)
			other.StartReading()
		}, SlowTime*13/4 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, Limits{Requests: 10, Bytes: 100, StreamBytes: 50})
				h.overflow = true
				began := time.Now()
				other, stream := h.admit(true, 50), h.admit(true, 0)
				waits := grow(t.Context(), stream, 10)
				c.slow(other)
				if err := <-waits; err != nil || time.Since(began) != c.at {
					t.Errorf("%v after %v, want %v", err, time.Since(began), c.at)
				}
				if !h.isRevoked(other) {
					t.Error("the other was not revoked")
				}
				h.want(1, 1, 10)
			})
		})
	}
}

// TestSlowThatGrows: a request that was slow before it held anything is in the way from
// the moment in which it does.
func TestSlowThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Limits{Requests: 10, Bytes: 100, StreamBytes: 50})
		h.overflow = true
		slow := h.admit(false, 0)
		working := h.admit(false, 85).Detach()
		time.Sleep(2 * SlowTime)
		stream := h.admit(true, 0)
		waits := grow(t.Context(), stream, 10)
		if err := <-waits; err != nil {
			t.Fatal(err)
		}
		more := grow(t.Context(), stream, 20)
		if err := slow.Grow(5); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !h.isRevoked(slow) || !isWaiting(more) {
			t.Error("the slow one is still there")
		}
		working.Close()
		if err := <-more; err != nil {
			t.Error(err)
		}
	})
}

// TestOverflow: of streams that wait for each other, one gets leave to go on after a
// while, and the next when that has ended.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Limits{Requests: 10, Bytes: 100, StreamBytes: 50})
		began := time.Now()
		a, b := h.admit(true, 25), h.admit(true, 25)
		first := grow(t.Context(), a, 40)
		second := grow(t.Context(), b, 40)
		if err := <-first; err != nil || time.Since(began) != SlowTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := a.GrowWait(t.Context(), 1000); err != nil { // to the end of its message
			t.Error(err)
		}
		time.Sleep(SlowTime / 2)
		if !isWaiting(second) {
			t.Error("both have the overflow allowance")
		}
		message := a.Detach()
		a.Close()
		if !isWaiting(second) {
			t.Error("the message of the first is still there")
		}
		message.Close()
		if err := <-second; err != nil || h.revoked.total() > 0 {
			t.Errorf("%v, %d revoked", err, h.revoked.total())
		}
		h.want(1, 1, 40)
	})
}

// TestInflate: as many inflate at once as there are workers, and the others wait in
// the order of arrival.
func TestInflate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, small)
		var some []*Lease
		for range 4 {
			l := h.admit(false, 0)
			if err := l.Inflate(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			some = append(some, l)
		}
		some[0].EndInflate()
		some[0].EndInflate()
		if err := some[0].Inflate(t.Context(), 25); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		some[1].Close()
		last := h.admit(false, 0)
		if err := last.Inflate(ctx, 26); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		some[2].Close()
		if err := last.Inflate(t.Context(), 26); err != nil {
			t.Error(err)
		}
	})
}

// TestBecomeStream checks that a request that becomes a stream counts as one from then on,
// with what it holds, and that it is refused where a new stream would be.
func TestBecomeStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, Limits{Requests: 4, Bytes: 1000, StreamBytes: 500})
		call := h.admit(false, 400)
		for range 2 { // the second time changes nothing
			if err := call.BecomeStream(); err != nil || h.Stats() != (LedgerStats{1, 1, 400}) || h.streamBytes != 400 {
				t.Fatalf("%v, %+v, %d bytes of streams", err, h.Stats(), h.streamBytes)
			}
		}
		h.refused("more than the part of streams", call, func() error { return call.Grow(501) })
		large := h.admit(false, 300)
		h.refused("no room for a stream", large, large.BecomeStream)
		if h.streamBytes != 400 {
			t.Errorf("%d bytes of streams", h.streamBytes)
		}
		// A slow stream has to go for it.
		time.Sleep(SlowTime + time.Second)
		if err := large.BecomeStream(); err != nil || !call.Revoked() || h.revoked.count(call) != 1 || h.streamBytes != 300 {
			t.Errorf("%v, %t, %d bytes of streams", err, call.Revoked(), h.streamBytes)
		}
		if err := call.BecomeStream(); !errors.Is(err, ErrRevoked) {
			t.Errorf("revoked: %v", err)
		}
		second := h.admit(true, 0)
		small := h.admit(false, 1)
		h.refused("a third of four requests", small, small.BecomeStream)
		for _, l := range []*Lease{call, large, second, small} {
			l.Close()
		}
		if h.Stats() != (LedgerStats{}) || h.streamBytes != 0 {
			t.Errorf("%+v, %d bytes of streams", h.Stats(), h.streamBytes)
		}
	})
}
