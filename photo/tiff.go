package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"math"

	"golang.org/x/image/tiff"
)

// TIFF tags of the first directory.
const (
	tiffCompression     = 259
	tiffRowsPerStrip    = 278
	tiffStripByteCounts = 279
	tiffTileWidth       = 322
	tiffTileLength      = 323
	tiffTileByteCounts  = 325
)

// maxBlocks bounds the strips or tiles of a TIFF, each of which sets up a
// decompressor of 50 KB. It leaves room for rows that are strips of their own,
// and for tiles of 32×32 in 64 megapixels.
const maxBlocks = 1 << 16

func openTIFF(data []byte) (header, error) {
	cfg, err := config(data, tiff.DecodeConfig)
	if err != nil {
		return header{}, err
	}
	h := header{
		width: cfg.Width, height: cfg.Height, exif: data,
		decode: func(ctx context.Context) (image.Image, error) {
			return guard(func() (image.Image, error) {
				return tiff.Decode(readerAt{reader{ctx, bytes.NewReader(data)}, bytes.NewReader(data)})
			})
		},
	}
	width, height := int64(cfg.Width), int64(cfg.Height)
	pixels := width * height // DecodeConfig has checked that this does not overflow
	if pixels > math.MaxInt32 {
		return h, nil // too many whatever the limits, and what follows might overflow
	}

	// The decoder takes these without comparing them with each other, so
	// offsets that all point at the same bytes, or tiles much larger than the
	// picture, multiply its work at no cost to the sender.
	d := newTIFFDirectory(data)
	blockWidth, blockHeight, counts := width, height, uint16(tiffStripByteCounts)
	if v := d.first(tiffRowsPerStrip); v > 0 {
		blockHeight = min(height, v)
	}
	if v := d.first(tiffTileWidth); v > 0 {
		blockWidth, blockHeight, counts = v, d.first(tiffTileLength), tiffTileByteCounts
	}
	if blockHeight <= 0 {
		return header{}, errors.New("tiles without a height")
	}
	across, down := (width+blockWidth-1)/blockWidth, (height+blockHeight-1)/blockHeight
	if across > maxBlocks || down > maxBlocks || across*down > maxBlocks {
		return header{}, fmt.Errorf("%d×%d strips or tiles, the limit is %d", across, down, maxBlocks)
	}
	// One tile may cover a small picture, and the last ones jut out.
	const maxTile = 1 << 16
	if blockWidth > max(width, maxTile) || blockHeight > max(height, maxTile) ||
		across*blockWidth*down*blockHeight > 16*pixels+1<<22 {
		return header{}, fmt.Errorf("tiles of %d×%d pixels for a picture of %d×%d", blockWidth, blockHeight, width, height)
	}
	sum, largest := d.sum(counts, across*down)
	if sum > int64(len(data)) {
		return header{}, fmt.Errorf("strips or tiles of %d bytes in a file of %d", sum, len(data))
	}

	// block is the largest number of bytes that a block may become: the
	// decoder lets it be 8 bytes a pixel whatever the pixels really are.
	block := 8 * blockWidth * blockHeight
	switch compression := d.first(tiffCompression); compression {
	case 0, 1: // none: a copy of each block
		h.capacity = sum * 8
		h.memory = sum
		if largest >= 10<<20 {
			h.memory += 5*largest + 10<<20 // read piece by piece into a growing buffer
		}
		block = 0
	case 2, 3, 4: // CCITT: a bit may stand for a whole row
		h.capacity = min(8*sum, height) * width
		block = min(block, (blockWidth+7)/8*blockHeight) + 2*blockWidth
	case 5: // LZW, as in GIF, of one-bit pixels
		h.capacity = sum * 4096 * 8 / 12 * 8
		block = min(block, largest*4096*8/12)
	case 8, 32946: // deflate
		h.capacity = sum * deflateRatio * 8
		block = min(block, largest*deflateRatio)
	case 32773: // PackBits: two bytes become up to 128, of one-bit pixels
		h.capacity = sum * 64 * 8
		block = min(block, largest*64)
	default:
		return header{}, fmt.Errorf("%w: a TIFF feature that is not read: compression %d", ErrUnsupportedFormat, compression)
	}
	h.turned = pixels * pixelBytes(cfg.ColorModel)
	// The buffer of decompressed bytes grows by doubling, or for PackBits by
	// quarters, and leaves its former selves behind.
	h.memory += h.turned + 5*block
	return h, nil
}

// readerAt is what TIFF's decoder prefers, for it need not copy the file then.
type readerAt struct {
	reader
	at io.ReaderAt
}

func (r readerAt) ReadAt(p []byte, offset int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.at.ReadAt(p, offset)
}

// tiffDirectory is the first directory of a TIFF that DecodeConfig accepts:
// its entries are there, sorted, each tag once.
type tiffDirectory struct {
	data    []byte
	order   binary.ByteOrder
	entries []byte
}

func newTIFFDirectory(data []byte) tiffDirectory {
	d := tiffDirectory{data: data, order: binary.LittleEndian}
	if data[0] == 'M' {
		d.order = binary.BigEndian
	}
	at := int64(d.order.Uint32(data[4:]))
	n := int64(d.order.Uint16(data[at:]))
	d.entries = data[at+2 : at+2+12*n]
	return d
}

// values returns a tag's numbers as bytes, and the size of each. Both are zero
// where there is no such tag, or it is not of whole numbers in the file.
func (d tiffDirectory) values(tag uint16) (values []byte, size int64) {
	for e := d.entries; len(e) > 0; e = e[12:] {
		if d.order.Uint16(e) != tag {
			continue
		}
		switch d.order.Uint16(e[2:]) {
		case 1:
			size = 1
		case 3:
			size = 2
		case 4:
			size = 4
		default:
			return nil, 0
		}
		n := size * int64(d.order.Uint32(e[4:]))
		values = e[8:12]
		if n > 4 {
			values = d.data[min(int64(d.order.Uint32(values)), int64(len(d.data))):]
		}
		return values[:min(n, int64(len(values)))], size
	}
	return nil, 0
}

func (d tiffDirectory) number(b []byte, size int64) int64 {
	switch size {
	case 1:
		return int64(b[0])
	case 2:
		return int64(d.order.Uint16(b))
	}
	return int64(d.order.Uint32(b))
}

// first returns a tag's first number, or 0.
func (d tiffDirectory) first(tag uint16) int64 {
	values, size := d.values(tag)
	if size == 0 || int64(len(values)) < size {
		return 0
	}
	return d.number(values, size)
}

// sum adds up the first n numbers of a tag, and finds the largest.
func (d tiffDirectory) sum(tag uint16, n int64) (sum, largest int64) {
	values, size := d.values(tag)
	for ; n > 0 && size > 0 && int64(len(values)) >= size; n-- {
		v := d.number(values, size)
		sum, largest = sum+v, max(largest, v)
		values = values[size:]
	}
	return sum, largest
}
