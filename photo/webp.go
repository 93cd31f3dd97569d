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
	"slices"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
	"golang.org/x/image/webp"
)

// webpFile is the chunks of a WebP that matter. golang.org/x/image/webp reads
// no animation, and refuses still pictures over details that other decoders
// overlook, so the first frame is found here and given to it as a file of its
// own.
type webpFile struct {
	canvas    image.Point // zero if there is no VP8X chunk
	animated  bool
	frame     image.Rectangle // where an animation's first frame belongs on the canvas
	truncated error           // why the chunks end early, if they do

	alpha, lossy, lossless []byte // chunk payloads
	exif                   []byte
}

const (
	riffHeader = 8  // name and size, of the file and of each chunk
	webpHeader = 12 // RIFF, size, WEBP
	vp8xSize   = 10
	anmfHeader = 16
)

// read takes in a sequence of chunks, the file's or a frame's.
func (f *webpFile) read(chunks []byte) {
	for len(chunks) >= riffHeader {
		name := string(chunks[:4])
		size := int64(binary.LittleEndian.Uint32(chunks[4:]))
		chunks = chunks[riffHeader:]
		if size > int64(len(chunks)) {
			there := int64(0)
			switch name {
			case "VP8 ", "VP8L", "ANMF":
				there = int64(len(chunks))
			}
			f.truncated = truncated(there, size)
			return
		}
		payload := chunks[:size]
		chunks = chunks[min(size+size&1, int64(len(chunks))):]

		f.readChunk(name, payload)
	}
	if len(chunks) > 0 {
		f.truncated = truncated(0, 1)
	}
}

// readChunk takes what is needed of a chunk. The first picture counts.
func (f *webpFile) readChunk(name string, payload []byte) {
	switch name {
	case "VP8X":
		if len(payload) >= vp8xSize && f.canvas == (image.Point{}) {
			f.canvas = image.Pt(1+uint24(payload[4:]), 1+uint24(payload[7:]))
		}
		return
	case "EXIF":
		if f.exif == nil {
			f.exif = trimEXIF(payload)
		}
		return
	}
	if f.lossy != nil || f.lossless != nil {
		return
	}
	switch name {
	case "ANMF":
		if len(payload) >= anmfHeader && !f.animated {
			f.animated = true
			at := image.Pt(2*uint24(payload), 2*uint24(payload[3:]))
			f.frame = image.Rectangle{at, at.Add(image.Pt(1+uint24(payload[6:]), 1+uint24(payload[9:])))}
			f.read(payload[anmfHeader:])
		}
	case "ALPH":
		if f.alpha == nil {
			f.alpha = payload
		}
	case "VP8 ":
		f.lossy = payload
	case "VP8L":
		f.lossless, f.alpha = payload, nil
	}
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func openWebP(data []byte) (header, error) {
	// The size in the file's own header is often wrong and never needed.
	var f webpFile
	f.read(data[webpHeader:])
	size, err := f.size()
	if err != nil {
		return header{}, err
	}
	if f.canvas == (image.Point{}) {
		f.canvas = size
	}
	if !f.animated {
		f.frame = image.Rectangle{Max: f.canvas}
	}
	if f.frame.Size() != size {
		return header{}, fmt.Errorf("the container says %v pixels, the picture in it %v", f.frame.Size(), size)
	}
	if !f.frame.In(image.Rectangle{Max: f.canvas}) {
		return header{}, fmt.Errorf("the first frame, %v, leaves the canvas of %v", f.frame, f.canvas)
	}
	// Lossy: a macroblock of 256 pixels costs at least two bits for its
	// prediction modes, whose probabilities a key frame cannot change. Lossless
	// has codes of no bits, so that any picture of one color takes 20 bytes.
	if f.lossy != nil && int64(len(f.lossy))*1024 < int64(size.X)*int64(size.Y) {
		return header{}, tooSmallFor(size.X, size.Y, len(f.lossy))
	}

	h := header{
		width: f.canvas.X, height: f.canvas.Y, exif: f.exif,
		capacity: math.MaxInt64,
		decode: func(ctx context.Context) (image.Image, error) {
			img, err := catchPanics(func() (image.Image, error) { return webp.Decode(contextReader{ctx, f.file()}) })
			if err != nil {
				return nil, err
			}
			switch m := img.(type) {
			case *image.YCbCr:
				err = expandRange(ctx, m)
			case *image.NYCbCrA:
				err = expandRange(ctx, &m.YCbCr)
			}
			if err != nil {
				return nil, err
			}
			return onCanvas(ctx, img, f.frame.Min, f.canvas.X, f.canvas.Y)
		},
	}
	h.memory, h.turnMemory = f.memory()
	return h, nil
}

// expandRange converts m in place from the limited range that lossy WebP has, luma
// of 16 to 235 and chroma of 16 to 240 (ITU-R BT.601), to the full range of JPEG,
// which is what package image and everything that reads an image.YCbCr expect.
// The decoder must own m.
func expandRange(ctx context.Context, m *image.YCbCr) error {
	const atOnce = 1 << 20 // samples between two looks at ctx
	for _, plane := range []struct {
		samples []uint8
		table   *[256]uint8
	}{{m.Y, &fullLuma}, {m.Cb, &fullChroma}, {m.Cr, &fullChroma}} {
		for samples := range slices.Chunk(plane.samples, atOnce) {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i, v := range samples {
				samples[i] = plane.table[v]
			}
		}
	}
	return nil
}

// fullLuma and fullChroma have the full-range value of each limited-range one.
var fullLuma, fullChroma = rangeTable(16, 0, 219), rangeTable(128, 128, 224)

// rangeTable maps zero to newZero, and span steps to 255.
func rangeTable(zero, newZero, span int) (table [256]uint8) {
	for i := range table {
		scaled := math.Round(float64(i-zero)*255/float64(span)) + float64(newZero)
		table[i] = uint8(min(max(scaled, 0), 255))
	}
	return table
}

// size is the picture's own, from its bitstream.
func (f *webpFile) size() (image.Point, error) {
	switch {
	case f.lossy != nil:
		frame, err := catchPanics(func() (vp8.FrameHeader, error) {
			d := vp8.NewDecoder()
			d.Init(bytes.NewReader(f.lossy), len(f.lossy))
			return d.DecodeFrameHeader()
		})
		if err == nil && !frame.KeyFrame {
			err = errors.New("not a key frame")
		}
		return image.Pt(frame.Width, frame.Height), err
	case f.lossless != nil:
		cfg, err := decodeConfig(f.lossless, vp8l.DecodeConfig)
		return image.Pt(cfg.Width, cfg.Height), err
	case f.truncated != nil:
		return image.Point{}, f.truncated
	}
	return image.Point{}, errors.New("there is no picture in it")
}

// memory says what decoding takes, and what turning the result adds.
func (f *webpFile) memory() (decode, turned int64) {
	w, h := int64(f.frame.Dx()), int64(f.frame.Dy())
	padded := (w + 15) / 16 * 16 * ((h + 15) / 16 * 16)
	if f.lossless != nil {
		decode, turned = losslessMemory(w, h, len(f.lossless)), 4*w*h
	} else {
		const firstPartition = 1 << 19 // allocated before it is found to be missing
		decode = padded*3/2 + padded/256*8 + int64(len(f.lossy)) + firstPartition
		turned = padded * 3 / 2
	}
	if len(f.alpha) > 0 {
		const compressed = 3
		decode += w * h
		turned += w * h
		if f.alpha[0]&compressed != 0 {
			decode += losslessMemory(w, h, len(f.alpha))
		}
	}
	if f.frame != (image.Rectangle{Max: f.canvas}) {
		turned = 4 * int64(f.canvas.X) * int64(f.canvas.Y)
		decode += turned
	}
	return decode, turned
}

// losslessMemory bounds what the VP8L decoder holds.
func losslessMemory(w, h int64, size int) int64 {
	tiles := (w + 3) / 4 * ((h + 3) / 4)
	// Packed pixels of half the width, the unpacked ones, and up to four
	// images of a pixel for each 4×4 tile: two transforms, one that is
	// refused as the repetition of another, and the map of Huffman groups.
	pixels := 2*(w+2)*h + 4*w*h + 4*4*tiles
	// Groups of five Huffman trees: the decoder allows 2600, and no more than
	// there are tiles. A group has tables of 2.7 KB and costs 20 bits at least;
	// its nodes take up to 50 KB, but no more than 400 bytes for each byte that
	// describes them.
	const maxGroups = 2600
	n := int64(size)
	groups := 2720*min(maxGroups, tiles, n*8/20) + min(maxGroups*50<<10, 400*n)
	return pixels + groups
}

// file is the first frame as a file of its own.
func (f *webpFile) file() io.Reader {
	var chunks []io.Reader
	size := 4
	add := func(name string, payload []byte) {
		chunk := binary.LittleEndian.AppendUint32([]byte(name), uint32(len(payload)))
		pad := make([]byte, len(payload)&1)
		chunks = append(chunks, bytes.NewReader(chunk), bytes.NewReader(payload), bytes.NewReader(pad))
		size += len(chunk) + len(payload) + len(pad)
	}
	if f.lossless != nil {
		add("VP8L", f.lossless)
	} else {
		if f.alpha != nil {
			const hasAlpha = 1 << 4
			w, h := f.frame.Dx()-1, f.frame.Dy()-1
			add("VP8X", []byte{
				hasAlpha, 0, 0, 0,
				byte(w), byte(w >> 8), byte(w >> 16), byte(h), byte(h >> 8), byte(h >> 16),
			})
			add("ALPH", f.alpha)
		}
		add("VP8 ", f.lossy)
	}
	head := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(size))
	return io.MultiReader(append([]io.Reader{bytes.NewReader(append(head, "WEBP"...))}, chunks...)...)
}
