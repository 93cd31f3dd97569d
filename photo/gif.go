package photo

import (
	"compress/lzw"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
)

// gifFile is the first frame of a GIF, and what is needed to decode it. The package has
// its own reader because the standard library's decoder rejects files that other
// decoders accept: with bytes between the blocks, more data than pixels, or a frame
// that is larger than its screen.
type gifFile struct {
	screen     image.Point
	frame      image.Rectangle
	palette    color.Palette
	interlaced bool
	codeSize   int
	data       []byte // sub-blocks of compressed indices
}

const (
	gifColorTable    = 0x80 // flag in the descriptors of the screen and of frames
	gifInterlaced    = 0x40
	gifTransparent   = 1
	gifExtension     = 0x21
	gifFrame         = 0x2c
	gifTrailer       = 0x3b
	gifControl       = 0xf9
	gifHeaderSize    = 13
	gifFrameSize     = 9
	gifMinCodeSize   = 2
	gifMaxCodeSize   = 8
	gifMaxColors     = 256
	gifTableSizeMask = 7
)

func openGIF(data []byte) (header, error) {
	f, err := readGIF(data)
	if err != nil {
		return header{}, err
	}
	// The screen grows to hold the first frame, as in browsers.
	size := image.Pt(max(f.screen.X, f.frame.Max.X), max(f.screen.Y, f.frame.Max.Y))
	pixels := int64(f.frame.Dx()) * int64(f.frame.Dy())
	h := header{
		width: size.X, height: size.Y,
		// A code of 12 bits in LZW encodes at most 4096 pixels.
		capacity: int64(len(data)) * 4096 * 8 / 12,
		memory:   pixels,
		decode: func(ctx context.Context) (image.Image, error) {
			img, err := f.decode(ctx)
			if err != nil {
				return nil, err
			}
			return onCanvas(ctx, img, f.frame.Min, size.X, size.Y)
		},
	}
	if f.frame != (image.Rectangle{Max: size}) {
		h.memory += 4 * int64(size.X) * int64(size.Y)
	}
	return h, nil
}

// readGIF reads the file up to the pixels of the first frame.
func readGIF(data []byte) (*gifFile, error) {
	if len(data) < gifHeaderSize {
		return nil, io.ErrUnexpectedEOF
	}
	f := &gifFile{screen: image.Pt(int(binary.LittleEndian.Uint16(data[6:])), int(binary.LittleEndian.Uint16(data[8:])))}
	flags, rest := data[10], data[gifHeaderSize:]
	global, rest, err := gifColors(flags, rest)
	if err != nil {
		return nil, err
	}
	transparent := -1
	for len(rest) > 0 {
		introducer := rest[0]
		rest = rest[1:]
		switch introducer {
		case gifExtension:
			if len(rest) < 1 {
				return nil, io.ErrUnexpectedEOF
			}
			label := rest[0]
			block, after := gifBlock(rest[1:])
			if label == gifControl && len(block) >= 4 {
				if transparent = -1; block[0]&gifTransparent != 0 {
					transparent = int(block[3])
				}
			}
			for len(block) > 0 {
				block, after = gifBlock(after)
			}
			rest = after
		case gifFrame:
			return f, f.readFrame(rest, global, transparent)
		case gifTrailer:
			return nil, errors.New("the file contains no image")
		}
		// Bytes between blocks are skipped.
	}
	return nil, io.ErrUnexpectedEOF
}

// readFrame reads the descriptor of a frame and its color table.
func (f *gifFile) readFrame(data []byte, colors color.Palette, transparent int) error {
	if len(data) < gifFrameSize {
		return io.ErrUnexpectedEOF
	}
	number := func(at int) int { return int(binary.LittleEndian.Uint16(data[at:])) }
	f.frame = image.Rect(0, 0, number(4), number(6)).Add(image.Pt(number(0), number(2)))
	flags, rest := data[8], data[gifFrameSize:]
	f.interlaced = flags&gifInterlaced != 0
	local, rest, err := gifColors(flags, rest)
	if err != nil {
		return err
	}
	if local != nil {
		colors = local
	}
	if colors == nil {
		return errors.New("no color table")
	}
	if len(rest) < 1 {
		return io.ErrUnexpectedEOF
	}
	f.codeSize, f.data = int(rest[0]), rest[1:]
	if f.codeSize < gifMinCodeSize || f.codeSize > gifMaxCodeSize {
		return fmt.Errorf("a code size of %d bits; the format allows %d to %d", f.codeSize, gifMinCodeSize, gifMaxCodeSize)
	}
	// Indices that the table does not have are black.
	f.palette = append(make(color.Palette, 0, gifMaxColors), colors...)
	for len(f.palette) < gifMaxColors {
		f.palette = append(f.palette, color.RGBA{A: 0xff})
	}
	if transparent >= 0 {
		f.palette[transparent] = color.RGBA{}
	}
	return nil
}

// gifColors reads a color table if flags say that there is one, and returns what
// follows it.
func gifColors(flags byte, data []byte) (colors color.Palette, rest []byte, err error) {
	if flags&gifColorTable == 0 {
		return nil, data, nil
	}
	n := 2 << (flags & gifTableSizeMask)
	if len(data) < 3*n {
		return nil, nil, io.ErrUnexpectedEOF
	}
	for c := data[:3*n]; len(c) > 0; c = c[3:] {
		colors = append(colors, color.RGBA{c[0], c[1], c[2], 0xff})
	}
	return colors, data[3*n:], nil
}

// gifBlock returns the next sub-block of a sequence, and what follows it. The sub-block
// is empty at the end of the sequence.
func gifBlock(data []byte) (block, rest []byte) {
	if len(data) == 0 {
		return nil, nil
	}
	n := min(int(data[0]), len(data)-1)
	return data[1 : 1+n], data[1+n:]
}

// gifReader reads the contents of a sequence of sub-blocks.
type gifReader struct {
	block, rest []byte
}

func (r *gifReader) Read(p []byte) (int, error) {
	if len(r.block) == 0 {
		if r.block, r.rest = gifBlock(r.rest); len(r.block) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, r.block)
	r.block = r.block[n:]
	return n, nil
}

// decode returns the frame, whose bounds begin at the origin.
func (f *gifFile) decode(ctx context.Context) (image.Image, error) {
	return catchPanics(func() (image.Image, error) {
		out := image.NewPaletted(image.Rectangle{Max: f.frame.Size()}, f.palette)
		in := lzw.NewReader(contextReader{ctx, &gifReader{rest: f.data}}, lzw.LSB, f.codeSize)
		defer func() { _ = in.Close() }()
		done := 0
		for _, pass := range gifPasses(f.interlaced) {
			for y := pass.first; y < out.Rect.Dy(); y += pass.step {
				_, err := io.ReadFull(in, out.Pix[y*out.Stride:][:out.Stride])
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					return nil, truncated(int64(done), int64(out.Rect.Dy()))
				}
				if err != nil {
					return nil, err
				}
				done++
			}
		}
		return out, nil // data after the last row is ignored
	})
}

type gifPass struct{ first, step int }

func gifPasses(interlaced bool) []gifPass {
	if interlaced {
		return []gifPass{{0, 8}, {4, 8}, {2, 4}, {1, 2}}
	}
	return []gifPass{{0, 1}}
}
