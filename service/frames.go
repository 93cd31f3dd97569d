package service

import (
	"encoding/binary"
	"errors"
	"io"
)

// prefixSize is the size of the prefix of each message in gRPC, gRPC-Web and Connect's
// streams: a byte of flags, of which the lowest bit says that the message is compressed,
// and the length of the message in four bytes, big-endian.
const prefixSize = 5

// frameTracker finds the end of a message in the bytes of a body.
type frameTracker struct {
	// enveloped is true if messages have prefixes. Otherwise the body is one message.
	enveloped bool
	prefix    [prefixSize]byte
	// size is how many bytes of the message have come, its prefix included.
	size int64
}

// add adds bytes that have come, with the error that came with them, and reports whether
// the message is complete.
func (f *frameTracker) add(p []byte, err error) (complete bool) {
	if f.size < prefixSize {
		copy(f.prefix[f.size:], p)
	}
	f.size += int64(len(p))
	if !f.enveloped {
		return errors.Is(err, io.EOF)
	}
	return f.size >= prefixSize && f.size >= prefixSize+int64(binary.BigEndian.Uint32(f.prefix[1:]))
}

// mayBeCompressed reports whether the message is compressed if its body says that there
// is compression at all.
func (f *frameTracker) mayBeCompressed() bool { return !f.enveloped || f.prefix[0]&1 != 0 }

// reset begins the next message.
func (f *frameTracker) reset() { *f = frameTracker{enveloped: f.enveloped} }

// errLimit is what a limitedReader returns at its limit.
var errLimit = errors.New("over the limit")

// limitedReader returns errLimit instead of more than left bytes. io.LimitedReader
// returns io.EOF, as if the body had ended.
type limitedReader struct {
	io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limitedReader) Read(p []byte) (int, error) {
	// One byte more than allowed tells a body that is too large from one that just fits.
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.Reader.Read(p)
	if int64(n) > l.left {
		n, l.left = int(l.left), 0
		return n, errLimit
	}
	l.left -= int64(n)
	return n, err
}
