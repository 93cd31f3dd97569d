package service

import (
	"net/http"
	"sync"
	"time"
)

// connection sets the deadlines of a request's connection for as long as the request is
// being answered. Its methods may be called from any goroutine, but for watch and unwatch.
type connection struct {
	control *http.ResponseController
	// timer interrupts a Read that takes too long.
	timer *time.Timer
	// asked is when the Read that waits, or the last one, was called.
	asked time.Time

	mu    sync.Mutex
	ended bool // the request: its writer must not be used any more
}

// watch interrupts the Read that follows if it takes longer than wait.
func (c *connection) watch(wait time.Duration) {
	c.asked = time.Now()
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.interrupt)
		return
	}
	c.timer.Reset(wait)
}

// unwatch ends what watch began.
func (c *connection) unwatch() { c.timer.Stop() }

// interrupt makes the Read that waits fail, and all that follow.
func (c *connection) interrupt() { c.setReadDeadline(time.Now()) }

// setReadDeadline sets the deadline for reading the body; a zero time removes it. Not
// every writer can; then the server's own deadline holds.
func (c *connection) setReadDeadline(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = c.control.SetReadDeadline(at)
	}
}

// setWriteDeadline sets the deadline for writing the answer; a zero time removes it.
func (c *connection) setWriteDeadline(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = c.control.SetWriteDeadline(at)
	}
}

// end is called when the request has been answered.
func (c *connection) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}
