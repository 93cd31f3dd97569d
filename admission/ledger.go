package admission

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Limits are those of a Ledger.
type Limits struct {
	// Requests is how many requests may be in flight. Streams may be half of them, so
	// that there is always a place for single calls.
	Requests int64
	// Bytes is how many bytes of request bodies may be in flight, and StreamBytes the
	// part of them that streams may take.
	Bytes, StreamBytes int64
	// InflateBytes is how many bytes may be inflated from compressed messages at once,
	// by at most Inflaters requests.
	InflateBytes int64
	Inflaters    int
}

// Ledger counts the requests in flight and the bytes of their bodies.
//
// A request that finds no room is refused, unless slow ones have to go for it: the
// ledger revokes their leases, slowest first. Streams hold what has come of their next
// message while they wait for room for more. They could all wait for each other, so one
// of them after the other gets the overflow allowance: leave to read its message to the
// end whatever is free.
type Ledger struct {
	limits   Limits
	inflated pool

	mu                sync.Mutex
	requests, streams int64
	// bytes are in flight, streamBytes of them those of streams.
	bytes, streamBytes int64
	// overflow is true while a stream holds the overflow allowance.
	overflow bool
	// reading are the leases whose requests wait for their callers.
	reading map[*Lease]struct{}
	// waiters are the streams that wait for bytes, of *ledgerWaiter, in the order of
	// arrival.
	waiters list.List
	// timer serves the waiters at the time wakeAt, when another request will have become
	// slow or the overflow allowance is due. wakeAt is zero while the timer is not set.
	timer  *time.Timer
	wakeAt time.Time
	// revoked are the leases whose revoke functions unlock has to call.
	revoked []*Lease
}

type ledgerWaiter struct {
	lease *Lease
	n     int64
	since time.Time
	// reading is true if the request waited for its caller before: it does so again
	// when it is served.
	reading bool
	ready   chan struct{} // closed when the lease has the bytes
}

// NewLedger returns a Ledger with these limits.
func NewLedger(limits Limits) *Ledger {
	return &Ledger{limits: limits, inflated: pool{limit: limits.InflateBytes}, reading: map[*Lease]struct{}{}}
}

// NewLease returns a lease that holds nothing yet. stream is true for requests that may
// stay for long or take many images. The caller has to close it.
//
// revoke is called, once at most and from any goroutine, after the lease was revoked. It
// has to interrupt the reading of the request's body, and must not use the ledger.
func (g *Ledger) NewLease(stream bool, revoke func()) *Lease {
	return &Lease{ledger: g, stream: stream, revoke: revoke}
}

// LedgerStats is what is in flight at one moment.
type LedgerStats struct{ Requests, Streams, Bytes int64 }

// Stats returns what is in flight now.
func (g *Ledger) Stats() LedgerStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return LedgerStats{g.requests, g.streams, g.bytes}
}

// unlock releases the lock, and then calls back the leases that were revoked under it.
// Waiting streams have what is left of what those held.
func (g *Ledger) unlock() {
	if len(g.revoked) > 0 {
		g.serve(false)
	}
	revoked := g.revoked
	g.revoked = nil
	g.mu.Unlock()
	for _, l := range revoked {
		l.revoke()
	}
}

// The methods below need the lock.

// evict revokes the lease of the slowest request that is being read, of streams only or
// of all. It returns false if none is slow, or if all that are slow hold fewer than n
// bytes together: then none of them has to go, for it would be in vain. With n = 0 it
// makes a place for a request.
func (g *Ledger) evict(n int64, streams bool) bool {
	var slowest *Lease
	free := int64(0)
	now := time.Now()
	slow := now.Add(-SlowTime)
	for l := range g.reading {
		isSlow := l.pace.Before(slow) || (n == 0 && l.isBehind(now))
		if !isSlow || (streams && !l.stream) || (n > 0 && l.bytes == 0) {
			continue
		}
		free += l.bytes
		if slowest == nil || l.pace.Before(slowest.pace) {
			slowest = l
		}
	}
	if slowest == nil || free < n {
		return false
	}
	slowest.end()
	slowest.revoked = true
	g.revoked = append(g.revoked, slowest)
	return true
}

// makeRoom makes room for n bytes of a stream or a single call, or returns why it
// cannot. Waiting streams come first.
func (g *Ledger) makeRoom(n int64, stream bool) error {
	if stream {
		if err := g.makeStreamRoom(n); err != nil {
			return err
		}
	}
	for g.bytes+n > g.limits.Bytes {
		if !g.evict(g.bytes+n-g.limits.Bytes, false) {
			return fmt.Errorf("%w: the requests in flight have %d bytes, and there is no room for %d more; try again later", ErrOverloaded, g.bytes, n)
		}
	}
	return nil
}

// makeStreamRoom makes room for n bytes in the part of streams, or returns why it cannot.
func (g *Ledger) makeStreamRoom(n int64) error {
	for g.streamBytes+n > g.limits.StreamBytes || g.waiters.Len() > 0 {
		if !g.evict(n, true) {
			return fmt.Errorf("%w: the streams and batches in flight hold all of their part of the memory for requests, and there is no room for %d bytes more; try again later", ErrOverloaded, n)
		}
		g.serve(false)
	}
	return nil
}

// admitStream returns an error if there is no place for one more stream.
func (g *Ledger) admitStream() error {
	if g.streams >= max(1, g.limits.Requests/2) {
		return fmt.Errorf("%w: %d streams and batches are open; try again later", ErrOverloaded, g.streams)
	}
	return nil
}

// fits reports whether n more bytes of a stream fit. If evicting is true, slow requests
// have to go for them, even if what they hold is not enough: the stream will wait.
func (g *Ledger) fits(n int64, evicting bool) bool {
	for g.streamBytes+n > g.limits.StreamBytes {
		if !evicting || !g.evict(1, true) {
			return false
		}
	}
	for g.bytes+n > g.limits.Bytes {
		if !evicting || !g.evict(1, false) {
			return false
		}
	}
	return true
}

// serve gives the waiting streams what is there, one after the other, and sets the
// timer for those that go on waiting.
func (g *Ledger) serve(evicting bool) {
	now := time.Now()
	for first := g.waiters.Front(); first != nil; first = g.waiters.Front() {
		w := first.Value.(*ledgerWaiter)
		due := w.since.Add(SlowTime)
		switch {
		case g.fits(w.n, evicting):
			w.lease.take(w.n)
		case g.overflowHelps(w) && !now.Before(due):
			g.overflow, w.lease.overflow = true, true
		default:
			if g.overflowHelps(w) {
				g.wake(due)
			}
			if evicting {
				g.wakeWhenSlow(now)
			}
			return
		}
		g.waiters.Remove(first)
		if w.reading {
			w.lease.startReading(now)
		}
		close(w.ready)
	}
	g.wakeAt = time.Time{}
	if g.timer != nil {
		g.timer.Stop()
	}
}

// overflowHelps reports whether the overflow allowance is free and w waits for what
// streams hold. What single calls hold comes back by itself.
func (g *Ledger) overflowHelps(w *ledgerWaiter) bool {
	return !g.overflow && g.streamBytes+w.n > g.limits.StreamBytes
}

// wakeWhenSlow sets the timer for the moment at which the next request becomes slow, if
// it stays as it is.
func (g *Ledger) wakeWhenSlow(now time.Time) {
	var next time.Time
	for l := range g.reading {
		if at := l.slowAt(); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() {
		g.wake(next)
	}
}

// wake sets the timer to serve the waiters at that time, if it is not set to an earlier
// one.
func (g *Ledger) wake(at time.Time) {
	if g.waiters.Len() == 0 || (!g.wakeAt.IsZero() && !at.Before(g.wakeAt)) {
		return
	}
	g.wakeAt = at
	if g.timer != nil {
		g.timer.Reset(time.Until(at))
		return
	}
	g.timer = time.AfterFunc(time.Until(at), func() {
		g.mu.Lock()
		defer g.unlock()
		g.wakeAt = time.Time{}
		g.serve(true)
	})
}

// A Lease is what one request has taken of a Ledger: its place, bytes, and leave to
// inflate. Its methods are for one goroutine at a time.
type Lease struct {
	ledger *Ledger
	revoke func()
	// since is how many bytes came after pace.
	since int
	// got is how many bytes came since the request began to wait for its caller.
	got atomic.Int64
	// inflating is how much of the ledger's pool it has.
	inflating int64

	// The ledger's lock guards the rest.
	stream   bool
	bytes    int64
	overflow bool
	admitted bool // it has a place
	revoked  bool
	// pace is when the last SlowBytes bytes were complete, and began is when the request
	// began to wait for its caller.
	pace, began time.Time
}

// Admit takes a place among the requests in flight, or returns an error that wraps
// ErrOverloaded.
func (l *Lease) Admit() error {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	if l.stream {
		if err := g.admitStream(); err != nil {
			return err
		}
	}
	for g.requests >= g.limits.Requests {
		if !g.evict(0, false) {
			return fmt.Errorf("%w: %d requests are in flight; try again later", ErrOverloaded, g.requests)
		}
	}
	l.admitted = true
	g.requests++
	if l.stream {
		g.streams++
	}
	return nil
}

// BecomeStream makes the lease that of a stream, with its place and all that it holds, or
// gives its bytes back and returns an error that wraps ErrOverloaded.
func (l *Lease) BecomeStream() error {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	switch {
	case l.revoked:
		return ErrRevoked
	case l.stream:
		return nil
	}
	if err := g.admitStream(); err != nil {
		return l.refused(err)
	}
	if err := g.makeStreamRoom(max(1, l.bytes)); err != nil {
		return l.refused(err)
	}
	l.stream = true
	g.streams++
	g.streamBytes += l.bytes
	return nil
}

// refused gives back the bytes of a request that will be answered with err, which it
// returns. Requests that arrive together and grow alike would otherwise all be refused,
// each because of the bytes of others that were refused before it. The caller holds the
// lock.
func (l *Lease) refused(err error) error {
	l.giveBack(l.bytes)
	return err
}

// giveBack lets waiting streams have n of the bytes. The caller holds the lock.
func (l *Lease) giveBack(n int64) {
	l.take(-n)
	l.ledger.serve(false)
}

// take adds n bytes that are there. The caller holds the lock.
func (l *Lease) take(n int64) {
	l.bytes += n
	l.ledger.bytes += n
	if l.stream {
		l.ledger.streamBytes += n
	}
}

// end gives everything back but what is inflated. The caller holds the lock.
func (l *Lease) end() {
	l.take(-l.bytes)
	if l.overflow {
		l.overflow, l.ledger.overflow = false, false
	}
	if l.admitted {
		l.admitted = false
		l.ledger.requests--
		if l.stream {
			l.ledger.streams--
		}
	}
	delete(l.ledger.reading, l)
}

// slowAt is when the request becomes slow, if nothing comes.
func (l *Lease) slowAt() time.Time { return l.pace.Add(SlowTime + 1) }

// isBehind reports whether fewer bytes have come than PlaceBytes in each SlowTime, since the
// request began to wait for them.
func (l *Lease) isBehind(now time.Time) bool {
	due := now.Sub(l.began) * PlaceBytes / SlowTime
	return l.got.Load() < int64(due)
}

// missing returns how many bytes are missing to n. A stream that has the overflow
// allowance misses none. The caller holds the lock.
func (l *Lease) missing(n int64) int64 {
	if l.overflow {
		return 0
	}
	return max(0, n-l.bytes)
}

// CheckRoom returns an error that wraps ErrOverloaded if n more bytes would be refused
// now. It takes nothing: the bytes are reserved as they arrive.
func (l *Lease) CheckRoom(n int64) error {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	return g.makeRoom(n, l.stream)
}

// Grow makes the lease hold n bytes if it holds fewer, or gives all of its bytes back and
// returns at once an error that wraps ErrOverloaded.
func (l *Lease) Grow(n int64) error {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	if l.revoked {
		return ErrRevoked
	}
	more := l.missing(n)
	if more == 0 {
		return nil
	}
	if err := g.makeRoom(more, l.stream); err != nil {
		return l.refused(err)
	}
	if l.revoked { // to make room for itself
		return ErrRevoked
	}
	l.take(more)
	l.grown()
	return nil
}

// grown lets waiting streams have what a slow request has just taken. The caller holds
// the lock.
func (l *Lease) grown() {
	if _, reading := l.ledger.reading[l]; reading && !time.Now().Before(l.slowAt()) {
		l.ledger.wake(time.Now())
	}
}

// GrowWait is Grow for streams: it waits for the bytes until ctx ends, and returns
// ctx.Err() then. While it waits, the request does not count as slow.
func (l *Lease) GrowWait(ctx context.Context, n int64) error {
	w, err := l.wait(n)
	if w == nil || err != nil {
		return err
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	select {
	case <-w.ready: // at the same moment
		return nil
	default:
	}
	for e := g.waiters.Front(); e != nil; e = e.Next() {
		if e.Value.(*ledgerWaiter) == w {
			g.waiters.Remove(e)
			break
		}
	}
	g.serve(false)
	return ctx.Err()
}

// wait makes the lease hold n bytes, or returns what waits for them.
func (l *Lease) wait(n int64) (*ledgerWaiter, error) {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	if l.revoked {
		return nil, ErrRevoked
	}
	more := l.missing(n)
	if more == 0 {
		return nil, nil
	}
	g.serve(true)
	fits := g.waiters.Len() == 0 && g.fits(more, true)
	if l.revoked { // to make room for itself, or for those before it
		return nil, ErrRevoked
	}
	if fits {
		l.take(more)
		l.grown()
		return nil, nil
	}
	w := &ledgerWaiter{lease: l, n: more, since: time.Now(), ready: make(chan struct{})}
	_, w.reading = g.reading[l]
	delete(g.reading, l)
	g.waiters.PushBack(w)
	g.serve(true)
	return w, nil
}

// Shrink makes the lease hold n bytes if it holds more.
func (l *Lease) Shrink(n int64) {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	if l.bytes > n {
		l.giveBack(l.bytes - n)
	}
}

// Release gives n of the bytes back. Unlike the others, it may be called by several
// goroutines at once.
func (l *Lease) Release(n int64) {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	l.giveBack(n)
}

// Detach moves the bytes, and the overflow allowance, to a lease of their own, which has
// to be closed. It cannot be revoked.
func (l *Lease) Detach() *Lease {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	d := g.NewLease(l.stream, nil)
	d.bytes, d.overflow = l.bytes, l.overflow
	l.bytes, l.overflow = 0, false
	return d
}

// Bytes returns how many bytes the lease holds.
func (l *Lease) Bytes() int64 {
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	return l.bytes
}

// StartReading says that from now on the request waits for its caller, who may be slow.
func (l *Lease) StartReading() {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	if !l.revoked {
		l.startReading(time.Now())
	}
}

func (l *Lease) startReading(now time.Time) {
	l.since, l.pace, l.began = 0, now, now
	l.got.Store(0)
	l.ledger.reading[l] = struct{}{}
	l.ledger.wake(l.slowAt())
}

// Progress says that n more bytes of the body have come.
func (l *Lease) Progress(n int) {
	l.got.Add(int64(n))
	if l.since += n; l.since < SlowBytes {
		return
	}
	l.since = 0
	l.ledger.mu.Lock()
	defer l.ledger.unlock()
	l.pace = time.Now()
}

// StopReading ends what StartReading began, and reports whether it had. It returns
// ErrRevoked if the lease was revoked.
func (l *Lease) StopReading() (was bool, err error) {
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	if l.revoked {
		return false, ErrRevoked
	}
	_, was = g.reading[l]
	delete(g.reading, l)
	return was, nil
}

// Revoked reports whether the lease was revoked.
func (l *Lease) Revoked() bool {
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	return l.revoked
}

// Inflate waits until a compressed message may be inflated to n bytes, in the order of
// arrival, or until ctx ends. EndInflate ends it.
func (l *Lease) Inflate(ctx context.Context, n int64) error {
	g := l.ledger
	n = max(n, g.limits.InflateBytes/int64(g.limits.Inflaters))
	if err := g.inflated.acquire(ctx, n); err != nil {
		return err
	}
	l.inflating += n
	return nil
}

// EndInflate ends what Inflate began, if it has.
func (l *Lease) EndInflate() {
	l.ledger.inflated.release(l.inflating)
	l.inflating = 0
}

// Close gives everything back. It may be called again.
func (l *Lease) Close() {
	l.EndInflate()
	g := l.ledger
	g.mu.Lock()
	defer g.unlock()
	l.end()
	g.serve(false)
}
