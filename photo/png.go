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
	"slices"
)

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	pngChunk     = 12 // size of a chunk's length, type and checksum

	pngGray, pngPaletted, pngTrueColor = 0, 3, 2 // color types
)

// pngFile has the parts of a PNG that are needed to decode it. The standard library's
// decoder rejects files that libpng accepts: with wrong checksums in optional chunks,
// without an end, or with more data than the rows need. Therefore it gets a file that
// pngReader makes from these parts.
type pngFile struct {
	// head is the signature and the chunks before the pixels.
	head []byte
	// pixels is the rest of the file from the first IDAT chunk on.
	pixels      []byte
	total       int64 // bytes of all rows, including their filter types
	exif        []byte
	transparent bool // there is a tRNS chunk

	depth, colorType byte // from IHDR
	hasPalette       bool
}

// readPNG finds the chunks that are needed.
func readPNG(data []byte) (*pngFile, error) {
	const header = len(pngSignature) + pngChunk + 13
	if len(data) < header {
		return nil, io.ErrUnexpectedEOF
	}
	ihdr := data[len(pngSignature):header]
	switch name := string(ihdr[4:8]); {
	case name == "CgBI":
		return nil, fmt.Errorf("%w: this PNG has an unsupported feature: Apple's CgBI, which is only used inside of iOS apps", ErrUnsupportedFormat)
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

// readChunk stores what is needed from a chunk. Like libpng, it ignores optional chunks
// with a wrong checksum.
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
	return false // these color types have alpha
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
	cfg, err := decodeConfig(append(slices.Clip(f.head), dataFollows...), png.DecodeConfig)
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
		capacity:     int64(len(data)) * deflateRatio * 8, // pixels of one bit
		orientMemory: pixels * each,
		memory:       pixels*each + 2*rowBytes(width),
	}
	if data[interlaced] == 0 {
		f.total = rowBytes(width) * height
	} else {
		// Each of the seven passes of Adam7 is decoded to an image of its own. Together
		// they take as much memory as the whole image, and their rows 2.75 times as
		// much as one of its rows.
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

// pngReader reads a PNG that the standard library's decoder accepts. Its rows are not
// compressed, and there are exactly as many of them as the image has.
type pngReader struct {
	ctx    context.Context
	file   *pngFile
	rows   io.Reader
	left   int64 // bytes of file.total that are still to be read; -1 after the last chunk
	begun  bool  // the header of the zlib data has been written
	sum    hash.Hash32
	chunk  []byte // the current chunk
	unread []byte // the rest of chunk
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

// next makes the next chunk: an IDAT with a stored block of deflate (RFC 1951, section
// 3.2.4), or the last IDAT and the IEND.
func (r *pngReader) next() error {
	const (
		maxBlock    = 16 << 10
		zlibHeader  = "\x78\x01"
		blockHeader = 5
	)
	if r.chunk == nil {
		r.chunk = make([]byte, 0, maxBlock+pngChunk+len(zlibHeader)+blockHeader)
		idat := &pngData{rest: r.file.pixels}
		var head [2]byte // the zlib header (RFC 1950)
		if _, err := io.ReadFull(idat, head[:]); err != nil {
			return r.readError(err)
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
		return r.readError(err)
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

// readError returns the error for rows that could not be read because of err.
func (r *pngReader) readError(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return truncated(r.file.total-r.left, r.file.total)
}

// pngData reads the contents of consecutive IDAT chunks. It ends at the end of the
// file, even in the middle of a chunk.
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
