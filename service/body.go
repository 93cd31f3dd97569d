package service

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/admission"
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
	// prefixSize is the size of what is before each message of a stream and of
	// gRPC: a byte of flags, the first of which tells that the message is
	// compressed, and its length.
	prefixSize = 5
)

// body is a request's body within its limits. It counts its bytes, takes them
// from those that all requests have together as they come, so that slow callers
// hold no more than they have sent, and fails for good when one of the limits is
// reached, with an error that Connect passes on to the caller in its protocol. It
// is not safe for concurrent use, but for interrupt.
type body struct {
	io.ReadCloser
	service  *Service
	call     *Call
	control  *http.ResponseController
	ctx      context.Context // of the request
	declared int64           // its length; -1 when unknown
	limit    int64           // of one message
	images   int64           // that limit holds, in bytes
	left     int64           // of limit
	whole    bool            // the message has come
	settled  bool            // it has been read, and takes no more
	// compressed tells that each byte may become many; query that the message is in
	// the URL; enveloped that each message has a prefix, of which so much has come.
	compressed, query, enveloped bool
	http1                        bool
	prefix                       [prefixSize]byte
	prefixed                     int

	// streamed tells a stream of messages; between them it may idle, for so long.
	streamed bool
	idle     time.Duration
	// many tells a call with many images, a stream or a batch: it counts as a stream,
	// and its bytes are of the part that streams have.
	many bool
	// opened is when the header had come, began when the first byte of the message
	// came (zero before that), and asked when the Read that waits, or the last one,
	// was called.
	opened, began, asked time.Time
	// timer interrupts a Read that takes too long.
	timer *time.Timer
	err   error

	// lease is what the request has taken. It is revoked when the body is slow and
	// others need its room.
	lease *admission.Lease

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
		opened:     time.Now(),
	}
	b.many = b.streamed || r.URL.Path == inferencev1connect.InferencePredictBatchProcedure
	b.lease = s.ledger.NewLease(b.many, b.interrupt)
	b.limit = maxMessage(b.images)
	b.left = b.limit
	b.http1 = r.ProtoMajor == 1
	if b.streamed {
		b.idle = s.config.StreamIdle
	} else if b.declared > b.limit {
		// Said to be too large: nothing has to be read to refuse it.
		_ = b.over()
	}
	b.call.body = b
	return b
}

// connect tells the body what Connect will take it for: its messages' prefixes, what
// is compressed in it, and where it is when it is in the URL.
func (b *body) connect(r *http.Request) {
	contentType := r.Header.Get("Content-Type")
	b.enveloped = strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect+")
	encodings := []string{r.Header.Get("Content-Encoding"), r.Header.Get("Connect-Content-Encoding"), r.Header.Get("Grpc-Encoding")}
	if b.query = r.Method == http.MethodGet; b.query {
		b.declared = int64(len(r.URL.RawQuery))
		encodings = []string{r.URL.Query().Get("compression")}
	}
	b.compressed = slices.ContainsFunc(encodings, func(e string) bool { return e != "" && e != "identity" })
	if b.query && b.declared > b.limit {
		_ = b.over()
	}
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

// maxMessage returns the size of a message that holds images bytes of images in
// base64, which may be in lines of 64 letters or more with \r\n in JSON between them,
// and has 64 KiB for everything else.
func maxMessage(images int64) int64 { return images/12*17 + 64<<10 }

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
	if b.service.draining() {
		return errDraining
	}
	if single {
		if err := b.service.queue.Full(); err != nil {
			return err
		}
	}
	if err := b.lease.Admit(); err != nil {
		return err
	}
	if b.err != nil || b.streamed {
		return nil
	}
	if b.query {
		if b.compressed {
			return b.unpack(b.declared)
		}
		return nil
	}
	// There has to be room for all of the declared length, but bytes are reserved as
	// they arrive: a header costs nothing to write.
	if err := b.lease.CheckRoom(max(0, b.declared)); err != nil {
		return err
	}
	b.lease.StartReading()
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
		if b.streamed {
			b.lease.StartReading()
		}
	}
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		return n, b.over()
	}
	b.left -= int64(n)
	b.lease.Progress(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, b.late()
	}
	if err != nil && b.http1 && !errors.Is(err, io.EOF) {
		return n, b.fail(broken(err))
	}
	if b.whole || b.settled {
		return n, err
	}
	come := b.limit - b.left
	b.whole = b.complete(p[:n], come, err)
	failed := b.take(come)
	if failed == nil && b.whole && b.enveloped && !b.streamed && err == nil {
		failed = b.last()
	}
	if failed == nil && b.whole {
		failed = b.arrived(come)
	}
	if failed != nil {
		return 0, b.fail(failed)
	}
	return n, err
}

// complete tells that with p, the end of so many bytes, all of the message has come.
func (b *body) complete(p []byte, come int64, err error) bool {
	if !b.enveloped {
		return errors.Is(err, io.EOF)
	}
	b.prefixed += copy(b.prefix[b.prefixed:], p)
	size := int64(binary.BigEndian.Uint32(b.prefix[1:]))
	return b.prefixed == prefixSize && come >= prefixSize+size
}

// last waits for the end of the body behind the one message of a call, whose caller
// would be in nobody's way otherwise for as long as he liked.
func (b *body) last() error {
	b.watch()
	n, err := b.ReadCloser.Read(make([]byte, 1))
	b.timer.Stop()
	switch {
	case n > 0:
		return connect.NewError(connect.CodeUnimplemented, errors.New("the request has more than one message"))
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return b.late()
	case b.http1:
		return broken(err)
	default:
		return context.Canceled
	}
}

// finish says that the message has been read. It returns an error if the lease was
// revoked.
func (b *body) finish() error {
	_, err := b.lease.StopReading()
	return err
}

// arrived is called when all of the message has come, so many bytes.
func (b *body) arrived(size int64) error {
	if err := b.finish(); err != nil {
		return err
	}
	if b.compressed && (!b.enveloped || b.prefix[0]&1 != 0) {
		return b.unpack(size)
	}
	return nil
}

// unpack waits for the turn of a compressed message to be unpacked, of which so
// many bytes have come, and takes what it may become. Those who have their turn
// wait for nothing: neither for the rest of the message nor for memory.
func (b *body) unpack(size int64) error {
	becomes := min(b.limit, size*mostInflation)
	if b.streamed {
		if err := b.take(becomes); err != nil {
			return err
		}
	}
	limit := b.service.limit(b.ctx)
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if err := b.lease.Inflate(ctx, becomes); err != nil {
		if b.ctx.Err() == nil {
			err = fmt.Errorf("%w: too many compressed messages came for %v; try again later, or without compression", admission.ErrOverloaded, limit)
		}
		return err
	}
	return b.take(becomes)
}

// take makes the lease hold size bytes if it holds fewer. A single call is refused when
// there are not enough; a stream waits, and its caller notices.
func (b *body) take(size int64) error {
	if !b.streamed {
		return b.lease.Grow(size)
	}
	timeout := b.service.config.Timeout
	ctx, cancel := context.WithTimeout(b.ctx, timeout)
	defer cancel()
	began := time.Now()
	err := b.lease.GrowWait(ctx, size)
	b.began = b.began.Add(time.Since(began)) // the caller is not slow meanwhile
	if errors.Is(err, context.DeadlineExceeded) && b.ctx.Err() == nil {
		err = fmt.Errorf("%w: no memory for the next image within %v; try again later", admission.ErrOverloaded, timeout)
	}
	return err
}

// fail ends the body, and tells the caller why, if nobody has yet.
func (b *body) fail(err error) error {
	told := new(connect.Error)
	if !errors.As(err, &told) {
		told, _ = tell(b.call, err)
	}
	b.err = told
	return told
}

// watch interrupts the Read that follows when it takes too long.
func (b *body) watch() {
	wait := b.idle
	if b.streamed && !b.began.IsZero() {
		wait = min(bodyStall, max(messageTime-time.Since(b.began), time.Millisecond))
	}
	b.asked = time.Now()
	if deadline, ok := b.ctx.Deadline(); ok {
		wait = min(wait, max(deadline.Sub(b.asked), time.Millisecond))
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
	_, _ = b.lease.StopReading() // a lease that was revoked has nothing to give back
	b.lease.EndInflate()
	b.lease.Shrink(size)
}

// replaceReservation makes what is held that of the answer.
func (b *body) replaceReservation(size int64) error {
	b.settle(size)
	return b.take(size)
}

// next begins the next message of a stream. What is held for the last one is the
// caller's to close.
func (b *body) next() (held *admission.Lease) {
	held = b.lease.Detach()
	b.left, b.whole, b.settled, b.began, b.prefixed = b.limit, false, false, time.Time{}, 0
	return held
}

// drop gives back what is held for a message that was no image.
func (b *body) drop() {
	b.settle(0)
	b.next().Close()
}

// end gives back all that the request held. It may be called again.
func (b *body) end() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
	}
	b.lease.Close()
}

// broken is why a body breaks off on HTTP/1.1: its caller has left, or is there and
// sends what is no HTTP. HTTP/2 tells both by ending the stream.
func broken(err error) error {
	// What else can go wrong, broken chunks above all, net/http tells in words only.
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasSuffix(err.Error(), "EOF reading trailer") {
		return context.Canceled
	}
	return fmt.Errorf("%w: %v", errBody, err) //nolint:errorlint // its text only
}

func (b *body) over() error {
	return b.fail(fmt.Errorf("%w: the message is larger than %d bytes, which hold %d bytes of images in base64",
		errTooManyBytes, b.limit, b.images))
}

// late fails the body because a Read was interrupted, and says why it was.
func (b *body) late() error {
	now := time.Now()
	deadline, limited := b.ctx.Deadline()
	var err error
	switch {
	case b.lease.Revoked():
		err = admission.ErrRevoked
	case b.streamed && b.service.draining():
		err = errDraining
	case limited && !now.Before(deadline):
		err = context.DeadlineExceeded
	case b.streamed && b.ctx.Err() != nil: // on HTTP/1.1, an interrupted Read ends it as well
		err = b.ctx.Err()
	case b.streamed && b.began.IsZero():
		err = deadlineError(fmt.Sprintf("no image came for %v", b.idle))
	case now.Sub(b.asked) >= bodyStall:
		err = deadlineError(fmt.Sprintf("no byte of the request body came for %v", bodyStall))
	default:
		// The time that the server, or a stream, gives a whole message.
		began := b.opened
		if b.streamed {
			began = b.began
		}
		err = deadlineError(fmt.Sprintf("the request body came too slowly: %d bytes in %v", b.limit-b.left, now.Sub(began).Round(time.Second)))
	}
	return b.fail(err)
}
