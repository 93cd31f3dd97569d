package service

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/mienproject/mien/admission"
)

const (
	// bodyStall is the maximum pause in the middle of a message.
	bodyStall = 20 * time.Second
	// messageTime is the maximum time for receiving one message of a stream. For all
	// other requests, the timeouts of the HTTP server apply.
	messageTime = time.Minute
	// refusalPatience is the maximum pause in the rest of the body of a request that was
	// refused.
	refusalPatience = 100 * time.Millisecond
	// maxInflation is the maximum number of bytes that one compressed byte inflates to.
	maxInflation = 1032
)

// body enforces the limits for the body of a request. Bytes are reserved as they
// arrive, so a slow client holds no more than it has sent. Once a limit is exceeded,
// all reads fail with an error that Connect returns to the client in its protocol. Only
// conn may be used concurrently.
type body struct {
	service   *Service
	procedure *procedure
	record    *Record
	ctx       context.Context //nolint:containedctx // the context of the request, because Read has no parameter for it
	source    io.ReadCloser
	conn      connection
	// lease is what the request has reserved. It is revoked if the body is slow and
	// other requests need the room.
	lease *admission.Lease

	// declared is the Content-Length, or -1 if it is unknown.
	declared int64
	// limit is the maximum size of one message. images is the maximum size of the
	// images in it.
	limit, images int64
	// message reads source up to limit, and frames finds the end of the message.
	message limitedReader
	frames  frameTracker
	// whole is true once all of the message has been received. settled is true once it
	// has been decoded, so that its lease no longer grows.
	whole, settled bool
	// compressed is true if messages may be compressed. query is true if the message is
	// in the URL.
	compressed, query bool
	http1             bool
	// refused is true if the request was not admitted. expects is true if its client waits
	// for 100-continue before it sends the body.
	refused, expects bool

	// streamed is true if several messages follow each other. Between them, the client
	// may pause for idle.
	streamed bool
	idle     time.Duration
	// opened is the time when the headers had been received. began is the time of the
	// first byte of the current message, or zero before that.
	opened, began time.Time
	err           error
}

// bounded returns the body of the request rq, with limits. The caller must call end.
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
	b.lease = s.ledger.NewLease(rq.procedure.kind.many() || b.isBatch(b.declared), b.conn.interrupt)
	b.limit = maxMessage(b.images)
	b.message = limitedReader{r.Body, b.limit}
	b.http1 = r.ProtoMajor == 1
	b.expects = r.Header.Get("Expect") != ""
	if b.streamed {
		b.idle = s.config.StreamIdle
	} else if b.declared > b.limit {
		// The declared length is too large, so there is no need to read anything.
		_ = b.over()
	}
	return b
}

// connect reads from the headers how Connect will read the body: whether messages have
// prefixes, whether they may be compressed, and whether the message is in the URL.
func (b *body) connect(r *http.Request) {
	contentType := r.Header.Get("Content-Type")
	b.frames.enveloped = strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect+")
	encodings := []string{r.Header.Get("Content-Encoding"), r.Header.Get("Connect-Content-Encoding"), r.Header.Get("Grpc-Encoding")}
	if b.query = r.Method == http.MethodGet; b.query {
		b.declared = int64(len(r.URL.RawQuery))
		query := r.URL.Query()
		encodings = []string{query.Get("compression")}
		// Connect answers this with UNKNOWN.
		if err := checkBase64(query); err != nil {
			_ = b.fail(err)
		}
	}
	b.compressed = slices.ContainsFunc(encodings, func(e string) bool { return e != "" && e != "identity" })
	if b.query && b.declared > b.limit {
		_ = b.over()
	}
}

// checkBase64 checks the message of a GET as Connect decodes it: with base64=1, it is base64
// for URLs, padded or not.
func checkBase64(query url.Values) error {
	message := query.Get("message")
	if query.Get("base64") != "1" {
		return nil
	}
	encoding := base64.URLEncoding
	if len(message)%4 != 0 {
		encoding = base64.RawURLEncoding
	}
	if _, err := encoding.DecodeString(message); err != nil {
		return fmt.Errorf("%w: %v", errBase64, err) //nolint:errorlint // its text only
	}
	return nil
}

// maxMessage returns the maximum size of a message with that many bytes of images. It
// allows base64 in lines of 64 or more letters, separated by an escaped \r\n in JSON,
// and 64 KiB for everything else.
func maxMessage(images int64) int64 { return images/12*17 + 64<<10 }

// admit admits the request before its body is read, or returns why it is refused.
func (b *body) admit() error {
	err := b.reserve()
	if err != nil && b.http1 {
		b.refused = true
		// Otherwise net/http reads of the body before it sends the answer. The error is that
		// of a writer that does not support it, which sends the answer later.
		_ = b.conn.control.EnableFullDuplex()
	}
	return err
}

// linger sends the answer to a refused request of HTTP/1.1, and then discards the rest of the
// body as long as it comes; see Service.linger.
func (b *body) linger() {
	if !b.refused || b.declared == 0 || b.expects || b.conn.control.Flush() != nil {
		return
	}
	buffer := make([]byte, 32<<10)
	end := time.Now().Add(lingerTime)
	for left := 4 * b.limit; left > 0 && time.Now().Before(end); {
		b.conn.setReadDeadline(time.Now().Add(refusalPatience))
		n, err := b.source.Read(buffer)
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

func (b *body) reserve() error {
	if b.service.draining() {
		return errDraining
	}
	if b.procedure.kind.unary() {
		if err := b.service.queue.Full(); err != nil {
			return err
		}
	}
	if err := b.lease.Admit(); err != nil {
		return err
	}
	if b.err != nil || b.streamed {
		return nil //nolint:nilerr // reading reports it
	}
	if b.query {
		if b.compressed {
			return b.inflateReserved(b.declared)
		}
		return nil
	}
	// There must be room for the declared length, but bytes are reserved only as they
	// arrive, because a header costs nothing to send.
	if err := b.lease.CheckRoom(max(0, b.declared)); err != nil {
		return err
	}
	b.lease.StartReading()
	return nil
}

// Close implements io.Closer. It does nothing: net/http closes the body when the answer
// has been written. Closing it earlier would wait for the unread rest.
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

// read reads from r, for at most patience.
func (b *body) read(r io.Reader, p []byte) (int, error) {
	b.conn.watch(b.patience())
	defer b.conn.unwatch()
	return r.Read(p)
}

// failure converts err, an error of the connection, or returns nil if it is not one. On
// HTTP/2, Connect itself handles broken streams.
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

// account reserves room for the bytes p of the message. err is the error that was
// returned with them. Once the message is complete, it ends the reading.
func (b *body) account(p []byte, err error) error {
	b.whole = b.frames.add(p, err)
	if b.frames.enveloped && !b.whole && b.frames.size > 0 && errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends in the middle of a message, after %d bytes of it", errBody, b.frames.size)
	}
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

// last waits for EOF after the message of a unary request, so that an idle client can
// be evicted.
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

// patience returns the maximum time for the next Read.
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

// discard reads at most n bytes and discards them.
func (b *body) discard(n int64) {
	_, _ = io.CopyN(io.Discard, b.source, n) // the client may have disconnected
}

// finish tells the lease that the message has been read. It returns an error if the
// lease was revoked.
func (b *body) finish() error {
	_, err := b.lease.StopReading()
	return err
}

// inflateReserved waits until a compressed message of size bytes may be inflated, and
// reserves room for the largest possible result. After that, the request waits neither
// for the network nor for memory.
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
			err = fmt.Errorf("%w: the server could not decompress this message within %v, because of other compressed messages; try again later, or without compression", admission.ErrOverloaded, limit)
		}
		return err
	}
	return b.take(becomes)
}

// isBatch reports whether a message of size bytes can only be one of several images, so that
// it counts as a batch, although its procedure is unary.
func (b *body) isBatch(size int64) bool {
	return b.procedure.kind == someImages && size > maxMessage(b.service.config.MaxImageBytes)
}

// take grows the lease to at least size bytes. If there is no room, a unary request is
// refused, and a stream waits.
func (b *body) take(size int64) error {
	if !b.streamed {
		if b.isBatch(size) {
			if err := b.lease.BecomeStream(); err != nil {
				return err
			}
		}
		return b.lease.Grow(size)
	}
	timeout := b.service.config.Timeout
	ctx, cancel := context.WithTimeout(b.ctx, timeout)
	defer cancel()
	began := time.Now()
	err := b.lease.GrowWait(ctx, size)
	b.began = b.began.Add(time.Since(began)) // this wait is not the client's fault
	if errors.Is(err, context.DeadlineExceeded) && b.ctx.Err() == nil {
		err = fmt.Errorf("%w: no memory was available for the next image within %v; try again later", admission.ErrOverloaded, timeout)
	}
	return err
}

// fail makes all further reads fail with err, converted for the client.
func (b *body) fail(err error) error {
	b.err = b.service.connectError(b.ctx, b.record, err)
	return b.err
}

// settle releases what is reserved beyond size, after a message has been decoded.
func (b *body) settle(size int64) {
	b.settled = true
	_, _ = b.lease.StopReading() // a revoked lease has nothing to release
	b.lease.EndInflate()
	b.lease.Shrink(size)
}

// replaceReservation replaces the reservation for the request by one for an answer of
// size bytes.
func (b *body) replaceReservation(size int64) error {
	b.settle(size)
	return b.take(size)
}

// next starts the next message of a stream. It returns the lease of the previous one,
// which the caller must close.
func (b *body) next() (held *admission.Lease) {
	held = b.lease.Detach()
	b.frames.reset()
	b.message.left, b.whole, b.settled, b.began = b.limit, false, false, time.Time{}
	return held
}

// drop releases what is reserved for a message that was not an image.
func (b *body) drop() {
	b.settle(0)
	b.next().Close()
}

// end releases all that the request holds. It may be called again.
func (b *body) end() {
	b.conn.end()
	b.lease.Close()
}

// broken converts the error of a body that breaks off on HTTP/1.1: the client has
// disconnected, or has sent something that is not HTTP. On HTTP/2 both end the stream.
func broken(err error) error {
	// net/http has no types for other errors, such as broken chunks, only texts.
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasSuffix(err.Error(), "EOF reading trailer") {
		return context.Canceled
	}
	return fmt.Errorf("%w: %v", errBody, err) //nolint:errorlint // its text only
}

func (b *body) over() error {
	return b.fail(fmt.Errorf("%w: the message is larger than %d bytes, the limit for %d bytes of images in base64",
		errTooManyBytes, b.limit, b.images))
}

// late returns why a Read timed out or was interrupted.
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
	case b.streamed && b.ctx.Err() != nil: // on HTTP/1.1, an interrupted Read also cancels ctx
		return b.ctx.Err()
	case b.streamed && b.began.IsZero():
		return deadlineError(fmt.Sprintf("no image was received for %v", b.idle))
	case now.Sub(b.conn.asked) >= bodyStall:
		return deadlineError(fmt.Sprintf("no byte of the request body was received for %v", bodyStall))
	default:
		// The time for a whole message is over.
		began := b.opened
		if b.streamed {
			began = b.began
		}
		return deadlineError(fmt.Sprintf("the request body was received too slowly: %d bytes in %v", b.limit-b.message.left, now.Sub(began).Round(time.Second)))
	}
}
