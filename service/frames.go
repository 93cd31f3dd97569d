package service

import (
	"encoding/binary"
	"errors"
	"io"
)

// prefixSize is the size of the prefix of each message in gRPC, gRPC-Web and the
// streams of Connect: a byte of flags, whose lowest bit means that the message is
// compressed, and the length of the message as four big-endian bytes.
const prefixSize = 5

// frameTracker finds the end of a message in the bytes of a body.
type frameTracker struct {
	// enveloped is true if messages have prefixes. Otherwise the body is one message.
	enveloped bool
	prefix    [prefixSize]byte
	// size is the number of bytes of the message received so far, including its prefix.
	size int64
}

// add records received bytes, and the error that was returned with them. It reports
// whether the message is complete.
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

// mayBeCompressed reports whether the message is compressed, provided that the headers
// name a compression.
func (f *frameTracker) mayBeCompressed() bool { return !f.enveloped || f.prefix[0]&1 != 0 }

// reset starts the next message.
func (f *frameTracker) reset() { *f = frameTracker{enveloped: f.enveloped} }

// errLimit is returned by limitedReader at its limit.
var errLimit = errors.New("over the limit")

// limitedReader reads up to left bytes, and then returns errLimit. io.LimitedReader
// would return io.EOF, as if the body had ended.
type limitedReader struct {
	io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limitedReader) Read(p []byte) (int, error) {
	// Reading one byte more than allowed distinguishes a body that is too large from
	// one that just fits.
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
