package photo

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
)

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	pngChunk     = 12 // a chunk's length, name and checksum

	pngGray, pngPaletted, pngTrueColor = 0, 3, 2 // color types
)

// pngFile is what matters of a PNG. The standard library's decoder refuses what
// libpng overlooks: wrong checksums of chunks that need not be read, a missing
// end, and more data than the rows need. So it is given a file without them.
type pngFile struct {
	// head is the chunks before the pixels, as they are to be decoded.
	head []byte
	// pixels is what follows the first IDAT's beginning.
	pixels      []byte
	total       int64 // bytes of all rows, their filters included
	exif        []byte
	transparent bool // there is a tRNS

	depth, colorType byte // of IHDR
	hasPalette       bool
}

// readPNG finds the chunks that matter.
func readPNG(data []byte) (*pngFile, error) {
	const header = len(pngSignature) + pngChunk + 13
	if len(data) < header {
		return nil, io.ErrUnexpectedEOF
	}
	ihdr := data[len(pngSignature):header]
	switch name := string(ihdr[4:8]); {
	case name == "CgBI":
		return nil, fmt.Errorf("%w: a PNG feature that is not read: Apple's CgBI, which iOS apps contain", ErrUnsupportedFormat)
	case name != "IHDR" || binary.BigEndian.Uint32(ihdr) != 13:
		return nil, errors.New("the file does not begin with an IHDR chunk")
	}
	f := &pngFile{head: bytes.Clone(data[:header]), depth: ihdr[16], colorType: ihdr[17]}
	for rest := data[header:]; len(rest) >= 8; {
		size, name := int64(binary.BigEndian.Uint32(rest)), string(rest[4:8])
		if name == "IDAT" && f.pixels == nil {
			f.pixels = rest
		}
		if size > int64(len(rest)-pngChunk) || name == "IEND" {
			break
		}
		chunk := rest[4 : 8+size]
		intact := crc32.ChecksumIEEE(chunk) == binary.BigEndian.Uint32(rest[8+size:])
		if err := f.readChunk(name, chunk[4:], intact); err != nil {
			return nil, err
		}
		rest = rest[pngChunk+size:]
	}
	if f.colorType == pngPaletted && !f.hasPalette {
		return nil, errors.New("the palette is missing before the pixels")
	}
	return f, nil
}

// readChunk takes what is needed of a chunk. Like libpng, it leaves out an
// optional chunk that is broken.
func (f *pngFile) readChunk(name string, payload []byte, intact bool) error {
	beforePixels := f.pixels == nil
	switch {
	case name == "PLTE" && f.colorType == pngPaletted && beforePixels && !f.hasPalette:
		if !intact {
			return errors.New("the palette's checksum is wrong")
		}
		f.hasPalette = true
		f.addChunk(name, payload[:min(len(payload), 3<<f.depth)])
	case name == "tRNS" && intact && beforePixels && !f.transparent:
		if f.transparent = transparencyFits(f.colorType, len(payload), f.hasPalette); f.transparent {
			f.addChunk(name, payload)
		}
	case name == "eXIf" && intact && f.exif == nil:
		f.exif = trimEXIF(payload)
	}
	return nil
}

func transparencyFits(colorType byte, size int, hasPalette bool) bool {
	switch colorType {
	case pngGray:
		return size == 2
	case pngTrueColor:
		return size == 6
	case pngPaletted:
		return hasPalette && size <= 256
	}
	return false // there is alpha
}

func (f *pngFile) addChunk(name string, payload []byte) {
	f.head = appendPNGChunk(f.head, name, payload)
}

func appendPNGChunk(to []byte, name string, payload []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(payload)))
	from := len(to)
	to = append(append(to, name...), payload...)
	return binary.BigEndian.AppendUint32(to, crc32.ChecksumIEEE(to[from:]))
}

func openPNG(data []byte) (header, error) {
	f, err := readPNG(data)
	if err != nil {
		return header{}, err
	}
	const dataFollows = "\x00\x00\x00\x00IDAT"
	cfg, err := decodeConfig(append(f.head[:len(f.head):len(f.head)], dataFollows...), png.DecodeConfig)
	if err != nil {
		return header{}, err
	}
	const depth, colorType, interlaced = 24, 25, 28
	channels := map[byte]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[colorType]]
	rowBytes := func(width int64) int64 { return (width*channels*int64(data[depth])+7)/8 + 1 }

	each := pixelBytes(cfg.ColorModel)
	if f.transparent { // gray becomes color with alpha
		switch cfg.ColorModel {
		case color.GrayModel:
			each = 4
		case color.Gray16Model:
			each = 8
		}
	}
	width, height := int64(cfg.Width), int64(cfg.Height)
	pixels := width * height
	h := header{
		width: cfg.Width, height: cfg.Height, exif: f.exif,
		capacity:   int64(len(data)) * deflateRatio * 8, // deflate of one-bit pixels
		turnMemory: pixels * each,
		memory:     pixels*each + 2*rowBytes(width),
	}
	if data[interlaced] == 0 {
		f.total = rowBytes(width) * height
	} else {
		// The seven passes are pictures of their own, which add up to another
		// whole one, with 2.75 times the row.
		h.memory += pixels*each + 4*rowBytes(width)
		for _, p := range []struct{ x, y, stepX, stepY int64 }{
			{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2},
		} {
			if w, h := (width-p.x+p.stepX-1)/p.stepX, (height-p.y+p.stepY-1)/p.stepY; w > 0 {
				f.total += rowBytes(w) * h
			}
		}
	}
	h.decode = func(ctx context.Context) (image.Image, error) {
		return catchPanics(func() (image.Image, error) { return png.Decode(f.decodable(ctx)) })
	}
	return h, nil
}

// pngReader reads a PNG that the standard library's decoder takes: with the rows
// as they are, not compressed, and no more of them than there are in the picture.
type pngReader struct {
	ctx    context.Context
	file   *pngFile
	rows   io.Reader
	left   int64 // of file.total
	begun  bool
	sum    hash.Hash32
	chunk  []byte // the one that is being read
	unread []byte // of chunk
	err    error
}

func (f *pngFile) decodable(ctx context.Context) io.Reader {
	return &pngReader{ctx: ctx, file: f, left: f.total, sum: adler32.New(), unread: f.head}
}

func (r *pngReader) Read(p []byte) (int, error) {
	for len(r.unread) == 0 {
		if r.err == nil {
			r.err = r.ctx.Err()
		}
		if r.err != nil {
			return 0, r.err
		}
		if r.err = r.next(); r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// next makes the next chunk: an IDAT with a block of deflate that is stored as it
// is (RFC 1951, section 3.2.4), or the last one and what ends the file.
func (r *pngReader) next() error {
	const (
		maxBlock    = 16 << 10
		zlibHeader  = "\x78\x01"
		blockHeader = 5
	)
	if r.chunk == nil {
		r.chunk = make([]byte, 0, maxBlock+pngChunk+len(zlibHeader)+blockHeader)
		idat := &pngData{rest: r.file.pixels}
		var head [2]byte // RFC 1950
		if _, err := io.ReadFull(idat, head[:]); err != nil {
			return r.short(err)
		}
		const deflate, dictionary = 8, 0x20
		if head[0]&0xf != deflate || head[1]&dictionary != 0 || binary.BigEndian.Uint16(head[:])%31 != 0 {
			return errors.New("the pixels are not valid zlib data")
		}
		r.rows = flate.NewReader(contextReader{r.ctx, idat})
	}
	if r.left < 0 {
		return io.EOF
	}
	n := min(r.left, maxBlock)
	c := r.chunk[:8]
	copy(c, "\x00\x00\x00\x00IDAT")
	if !r.begun {
		c = append(c, zlibHeader...)
		r.begun = true
	}
	last := byte(0)
	if n == 0 {
		last = 1
	}
	c = append(c, last, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
	rows := c[len(c) : len(c)+int(n)]
	got, err := io.ReadFull(r.rows, rows)
	if err != nil && n > 0 {
		r.left -= int64(got)
		return r.short(err)
	}
	r.left -= n
	_, _ = r.sum.Write(rows)
	if c = c[:len(c)+int(n)]; n == 0 {
		c = binary.BigEndian.AppendUint32(c, r.sum.Sum32())
		r.left = -1
	}
	binary.BigEndian.PutUint32(c, uint32(len(c)-8))
	c = binary.BigEndian.AppendUint32(c, crc32.ChecksumIEEE(c[4:]))
	if n == 0 {
		c = appendPNGChunk(c, "IEND", nil)
	}
	r.unread = c
	return nil
}

// short is the error for rows that could not be read because of err.
func (r *pngReader) short(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return truncated(r.file.total-r.left, r.file.total)
}

// pngData reads what consecutive IDAT chunks contain. It ends where the file does,
// though that be in the middle of a chunk.
type pngData struct {
	chunk, rest []byte
}

func (d *pngData) Read(p []byte) (int, error) {
	for len(d.chunk) == 0 {
		if len(d.rest) < 8 || string(d.rest[4:8]) != "IDAT" {
			return 0, io.EOF
		}
		size := int64(binary.BigEndian.Uint32(d.rest))
		if size > int64(len(d.rest)-pngChunk) {
			d.chunk, d.rest = d.rest[8:min(8+size, int64(len(d.rest)))], nil
			continue
		}
		chunk := d.rest[4 : 8+size]
		if crc32.ChecksumIEEE(chunk) != binary.BigEndian.Uint32(d.rest[8+size:]) {
			return 0, errors.New("the checksum of the pixels is wrong")
		}
		d.chunk, d.rest = chunk[4:], d.rest[pngChunk+size:]
	}
	n := copy(p, d.chunk)
	d.chunk = d.chunk[n:]
	return n, nil
}
