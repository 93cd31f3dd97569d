package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/admission"
)

const (
	// bodyStall is how long a body may pause in the middle of a message.
	bodyStall = 20 * time.Second
	// messageTime is how long one message of a stream may take to arrive. The
	// server's own time-outs bound all others.
	messageTime = time.Minute
	// refusalPatience is how long a refusal waits for the body that goes with it.
	refusalPatience = 100 * time.Millisecond
	// maxInflation is how many bytes gzip can make of one.
	maxInflation = 1032
)

// body is a request's body within its limits. Its bytes are reserved as they arrive, so
// that slow callers hold no more than they have sent. When a limit is reached it fails
// for good, with an error that Connect passes on to the caller in its protocol. It is
// not safe for concurrent use, but for its connection.
type body struct {
	service   *Service
	procedure *procedure
	record    *Record
	ctx       context.Context //nolint:containedctx // of the request; Read has none
	source    io.ReadCloser
	conn      connection
	// lease is what the request has taken. It is revoked when the body is slow and
	// others need its room.
	lease *admission.Lease

	// declared is the length of the body, -1 if it is unknown.
	declared int64
	// limit is the size of one message, and images how many bytes of images that holds.
	limit, images int64
	// message reads the source within the limit, and frames finds the message's end.
	message limitedReader
	frames  frameTracker
	// whole is true when all of the message has come, and settled when it has been read,
	// so that it takes no more.
	whole, settled bool
	// compressed is true if each byte may become many, and query if the message is in the
	// URL.
	compressed, query bool
	http1             bool

	// streamed is true if messages follow each other; between them it may pause for idle.
	streamed bool
	idle     time.Duration
	// opened is when the header had come, and began when the first byte of the message
	// came, zero before that.
	opened, began time.Time
	err           error
}

// bounded returns the body of the request rq within its limits. The caller has to end it.
func (s *Service) bounded(rq *request, w http.ResponseWriter, r *http.Request) *body {
	b := &body{
		service:   s,
		procedure: rq.procedure,
		record:    rq.record,
		ctx:       r.Context(),
		source:    r.Body,
		conn:      connection{control: http.NewResponseController(w)},
		declared:  r.ContentLength,
		images:    rq.procedure.imageBytes(s.config),
		streamed:  rq.procedure.kind == streaming,
		idle:      bodyStall,
		opened:    time.Now(),
	}
	b.lease = s.ledger.NewLease(rq.procedure.kind.many(), b.conn.interrupt)
	b.limit = maxMessage(b.images)
	b.message = limitedReader{r.Body, b.limit}
	b.http1 = r.ProtoMajor == 1
	if b.streamed {
		b.idle = s.config.StreamIdle
	} else if b.declared > b.limit {
		// Said to be too large: nothing has to be read to refuse it.
		_ = b.over()
	}
	return b
}

// connect reads from the headers what Connect will take the body for: whether its
// messages have prefixes, what
// is compressed in it, and where it is when it is in the URL.
func (b *body) connect(r *http.Request) {
	contentType := r.Header.Get("Content-Type")
	b.frames.enveloped = strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect+")
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

// maxMessage returns the size of a message that holds images bytes of images in
// base64, which may be in lines of 64 letters or more with \r\n in JSON between them,
// and has 64 KiB for everything else.
func maxMessage(images int64) int64 { return images/12*17 + 64<<10 }

// admit admits the request before its body is read, or returns why it is refused.
func (b *body) admit() error {
	err := b.reserve()
	if err != nil {
		// On HTTP/1.1, net/http reads what is short of the body before it answers, so
		// that the connection can be used again. It must not wait long for that.
		b.conn.setReadDeadline(time.Now().Add(refusalPatience))
	}
	return err
}

func (b *body) reserve() error {
	if b.service.draining() {
		return errDraining
	}
	if b.procedure.kind == oneImage {
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
			return b.inflateReserved(b.declared)
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
	n, err := b.read(&b.message, p)
	if n > 0 && b.began.IsZero() {
		b.began = time.Now()
		if b.streamed {
			b.lease.StartReading()
		}
	}
	if errors.Is(err, errLimit) {
		return n, b.over()
	}
	b.lease.Progress(n)
	if failed := b.failure(err); failed != nil {
		return n, b.fail(failed)
	}
	if b.whole || b.settled {
		return n, err
	}
	if failed := b.account(p[:n], err); failed != nil {
		return 0, b.fail(failed)
	}
	return n, err
}

// read reads from r, within the time that there is.
func (b *body) read(r io.Reader, p []byte) (int, error) {
	b.conn.watch(b.patience())
	defer b.conn.unwatch()
	return r.Read(p)
}

// failure returns why the body cannot be read on, nil if err is not such an error. On
// HTTP/2, Connect knows what a broken stream means.
func (b *body) failure(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return b.late()
	case b.http1:
		return broken(err)
	default:
		return nil
	}
}

// account takes room for the bytes of the message that have come, with the error that
// came with them, and ends the reading when it is complete.
func (b *body) account(p []byte, err error) error {
	b.whole = b.frames.add(p, err)
	if failed := b.take(b.frames.size); failed != nil || !b.whole {
		return failed
	}
	if b.frames.enveloped && !b.streamed && err == nil {
		if failed := b.last(); failed != nil {
			return failed
		}
	}
	if failed := b.finish(); failed != nil {
		return failed
	}
	if b.compressed && b.frames.mayBeCompressed() {
		return b.inflateReserved(b.frames.size)
	}
	return nil
}

// last waits for EOF after the message of a single call, so that an idle client can be
// evicted.
func (b *body) last() error {
	n, err := b.read(b.source, make([]byte, 1))
	switch {
	case n > 0:
		return connect.NewError(connect.CodeUnimplemented, errors.New("the request has more than one message"))
	case errors.Is(err, io.EOF):
		return nil
	}
	if failed := b.failure(err); failed != nil {
		return failed
	}
	return context.Canceled
}

// patience returns how long the next Read may take.
func (b *body) patience() time.Duration {
	wait := b.idle
	if b.streamed && !b.began.IsZero() {
		wait = min(bodyStall, max(messageTime-time.Since(b.began), time.Millisecond))
	}
	if deadline, ok := b.ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(deadline), time.Millisecond))
	}
	return wait
}

// discard reads at most n bytes and forgets them.
func (b *body) discard(n int64) {
	_, _ = io.CopyN(io.Discard, b.source, n) // the caller may have left
}

// finish says that the message has been read. It returns an error if the lease was
// revoked.
func (b *body) finish() error {
	_, err := b.lease.StopReading()
	return err
}

// inflateReserved waits until a compressed message of size bytes may be inflated, and
// takes room for what it may become. From then on it waits for nothing: neither for the
// rest of the message nor for memory.
func (b *body) inflateReserved(size int64) error {
	becomes := min(b.limit, size*maxInflation)
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

// fail ends the body with err, converted for the caller.
func (b *body) fail(err error) error {
	b.err = b.service.connectError(b.ctx, b.record, err)
	return b.err
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
	b.frames.reset()
	b.message.left, b.whole, b.settled, b.began = b.limit, false, false, time.Time{}
	return held
}

// drop gives back what is held for a message that was no image.
func (b *body) drop() {
	b.settle(0)
	b.next().Close()
}

// end gives back all that the request held. It may be called again.
func (b *body) end() {
	b.conn.end()
	b.lease.Close()
}

// broken returns why a body breaks off on HTTP/1.1: its client has left, or has sent
// something that is not HTTP. HTTP/2 ends the stream for both.
func broken(err error) error {
	// Everything else, broken chunks above all, is only in the texts of net/http.
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

// late returns why a Read was interrupted.
func (b *body) late() error {
	now := time.Now()
	deadline, limited := b.ctx.Deadline()
	switch {
	case b.lease.Revoked():
		return admission.ErrRevoked
	case b.streamed && b.service.draining():
		return errDraining
	case limited && !now.Before(deadline):
		return context.DeadlineExceeded
	case b.streamed && b.ctx.Err() != nil: // on HTTP/1.1, an interrupted Read ends it as well
		return b.ctx.Err()
	case b.streamed && b.began.IsZero():
		return deadlineError(fmt.Sprintf("no image came for %v", b.idle))
	case now.Sub(b.conn.asked) >= bodyStall:
		return deadlineError(fmt.Sprintf("no byte of the request body came for %v", bodyStall))
	default:
		// The time that the server, or a stream, gives a whole message.
		began := b.opened
		if b.streamed {
			began = b.began
		}
		return deadlineError(fmt.Sprintf("the request body came too slowly: %d bytes in %v", b.limit-b.message.left, now.Sub(began).Round(time.Second)))
	}
}
