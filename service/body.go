package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
)

const (
	// bodyStall is how long a body may pause in the middle of a message.
	bodyStall = 20 * time.Second
	// messageTime is how long one message of a stream may take to arrive. The
	// server's own time-outs bound all others.
	messageTime = time.Minute
	// refusalPatience is how long a refusal waits for the body that goes with it.
	refusalPatience = 100 * time.Millisecond
	// mostInflation is how much gzip can make of a byte.
	mostInflation = 1032
)

// body is a request's body within its limits. It counts its bytes, takes them
// from those that all requests have together, and fails for good when one of the
// limits is reached, with an error that Connect passes on to the caller in its
// protocol. It is not safe for concurrent use, but for interrupt.
type body struct {
	io.ReadCloser
	service    *Service
	call       *Call
	control    *http.ResponseController
	ctx        context.Context // of the request
	declared   int64           // its length; -1 when unknown
	limit      int64           // of one message
	images     int64           // that limit holds, in bytes
	left       int64           // of limit
	held       int64           // what it has taken from all requests' bytes
	inflating  int64           // what it has taken of the part for compressed ones
	settled    bool            // it takes no more
	admitted   bool            // it counts as a request in flight
	compressed bool            // each byte may become many

	// streamed tells a stream of messages; between them it may idle, for so long.
	streamed bool
	idle     time.Duration
	// began is when the first byte of the message came; zero before that.
	began time.Time
	// timer interrupts a Read that takes too long.
	timer *time.Timer
	err   error

	mu    sync.Mutex
	ended bool // the request: its writer is no more
}

// bounded returns the request's body, within limits. It is the call's from now
// on, and has to be ended.
func (s *Service) bounded(w http.ResponseWriter, r *http.Request) *body {
	b := &body{
		ReadCloser: r.Body,
		service:    s,
		call:       CallFrom(r.Context()),
		control:    http.NewResponseController(w),
		ctx:        r.Context(),
		declared:   r.ContentLength,
		images:     s.maxImages(r.URL.Path),
		streamed:   r.URL.Path == inferencev1connect.InferencePredictStreamProcedure,
		idle:       bodyStall,
	}
	b.limit = maxMessage(b.images)
	b.left = b.limit
	for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		if encoding := r.Header.Get(name); encoding != "" && encoding != "identity" {
			b.compressed = true
		}
	}
	if r.Method == http.MethodGet {
		if encoding := r.URL.Query().Get("compression"); encoding != "" && encoding != "identity" {
			b.declared, b.compressed = int64(len(r.URL.RawQuery)), true
		}
	}
	if b.streamed {
		b.idle = s.config.StreamIdle
	} else if b.declared > b.limit {
		// Said to be too large: nothing has to be read to refuse it.
		b.err = b.over()
	}
	b.call.body = b
	return b
}

// maxImages is how many bytes of images a procedure takes in one message.
func (s *Service) maxImages(procedure string) int64 {
	switch procedure {
	case inferencev1connect.InferencePredictBatchProcedure:
		return s.config.MaxBatchBytes
	case inferencev1connect.InferenceListModelsProcedure:
		return 0
	default:
		return s.config.MaxImageBytes
	}
}

// maxMessage is the size of a message that holds so many bytes of images in
// base64, and something for all the rest.
func maxMessage(images int64) int64 { return images/3*4 + 64<<10 }

// admit takes the request on before its body is read, or tells why not.
func (b *body) admit(single bool) error {
	err := b.reserve(single)
	if err != nil {
		// On HTTP/1.1, net/http reads what is short of the body before it answers, so
		// that the connection can be used again. It must not wait long for that.
		b.bound((*http.ResponseController).SetReadDeadline, time.Now().Add(refusalPatience))
	}
	return err
}

func (b *body) reserve(single bool) error {
	a := b.service.admission
	if err := a.arrive(single); err != nil {
		return err
	}
	b.admitted = true
	if b.err != nil || b.streamed {
		return nil
	}
	reserve := max(b.declared, 0)
	if b.compressed {
		reserve = b.limit
		if b.declared >= 0 {
			reserve = min(b.limit, b.declared*mostInflation)
		}
		if err := a.inflate(reserve); err != nil {
			return err
		}
		b.inflating = reserve
	}
	if err := a.reserve(reserve); err != nil {
		return err
	}
	b.held = reserve
	return nil
}

// Close implements io.Closer. Closing the body is for net/http, which does it when
// the answer is on its way: to do it before would be to wait for what was not read.
func (b *body) Close() error { return nil }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than allowed tells a body that is too large from one that
	// just fits.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	b.watch()
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if n > 0 && b.began.IsZero() {
		b.began = time.Now()
		if b.streamed && b.compressed {
			if err := b.take(b.limit); err != nil {
				return 0, err
			}
		}
	}
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		b.err = b.over()
		return n, b.err
	}
	b.left -= int64(n)
	if more := b.limit - b.left - b.held; more > 0 && !b.settled {
		if err := b.take(more); err != nil {
			return 0, err
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.err = b.late()
		return n, b.err
	}
	return n, err
}

// take takes n more bytes from those of all requests. A single call is refused
// when there are not enough; a stream waits, and its caller feels it.
func (b *body) take(n int64) error {
	a := b.service.admission
	var err error
	if b.streamed {
		ctx, cancel := context.WithTimeout(b.ctx, b.service.config.Timeout)
		defer cancel()
		if b.compressed && b.inflating == 0 {
			if err = a.inflating.Acquire(ctx, n); err == nil {
				b.inflating = n
			}
		}
		if err == nil {
			err = a.await(ctx, n)
		}
		if err != nil && b.ctx.Err() == nil {
			err = fmt.Errorf("%w: no memory for the next image within %v; try again later", errOverloaded, b.service.config.Timeout)
		}
	} else {
		err = a.reserve(n)
	}
	if err != nil {
		told, _ := tell(b.call, err)
		b.err = told
		return told
	}
	b.held += n
	return nil
}

// watch interrupts the Read that follows when it takes too long.
func (b *body) watch() {
	wait := b.idle
	if b.streamed && !b.began.IsZero() {
		wait = min(bodyStall, max(messageTime-time.Since(b.began), time.Millisecond))
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(wait, b.interrupt)
		return
	}
	b.timer.Reset(wait)
}

// interrupt makes Read fail, the one that waits and all to come. It may be called
// at any time, from any goroutine.
func (b *body) interrupt() { b.bound((*http.ResponseController).SetReadDeadline, time.Now()) }

// bound sets a deadline of the request's connection, as long as there is one.
func (b *body) bound(set func(*http.ResponseController, time.Time) error, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		_ = set(b.control, at) // not every writer can; then the server's own time holds
	}
}

// settle gives back what is held beyond size, when a message has been read.
func (b *body) settle(size int64) {
	b.settled = true
	b.deflate()
	if over := b.held - size; over > 0 {
		b.service.admission.release(over)
		b.held = size
	}
}

// deflate gives back the part for compressed bodies.
func (b *body) deflate() {
	if b.inflating > 0 {
		b.service.admission.inflating.Release(b.inflating)
		b.inflating = 0
	}
}

// exchange makes what is held that of the answer.
func (b *body) exchange(size int64) error {
	b.settle(size)
	if more := size - b.held; more > 0 {
		return b.take(more)
	}
	return nil
}

// next begins the next message of a stream. What is held for the last one is the
// caller's to release.
func (b *body) next() (held int64) {
	held = b.held
	b.held, b.left, b.settled, b.began = 0, b.limit, false, time.Time{}
	return held
}

// end gives back all that the request held.
func (b *body) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
	}
	b.deflate()
	if b.held > 0 {
		b.service.admission.release(b.held)
	}
	if b.admitted {
		b.service.admission.depart()
	}
	b.held, b.admitted = 0, false
}

func (b *body) over() error {
	told, _ := tell(b.call, fmt.Errorf("%w: the message is larger than %d bytes, which hold %d bytes of images in base64",
		errTooManyBytes, b.limit, b.images))
	return told
}

func (b *body) late() error {
	err := context.DeadlineExceeded
	switch {
	case b.streamed && b.service.admission.draining():
		err = errDraining
	case b.streamed && b.began.IsZero() && b.ctx.Err() == nil:
		err = deadlineError(fmt.Sprintf("no image came for %v", b.idle))
	}
	told, _ := tell(b.call, err)
	return told
}
