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

// webpFile has the chunks of a WebP that are needed to decode its first frame.
// golang.org/x/image/webp does not read animations, and rejects still images for
// details that other decoders ignore. Therefore it gets a file that contains only the
// first frame.
type webpFile struct {
	canvas    image.Point // zero if there is no VP8X chunk
	animated  bool
	frame     image.Rectangle // position of the first frame on the canvas
	truncated error           // set if the chunks end early

	alpha, lossy, lossless []byte // chunk payloads
	exif                   []byte
}

const (
	riffHeader = 8  // name and size of a chunk
	webpHeader = 12 // "RIFF", size, "WEBP"
	vp8xSize   = 10
	anmfHeader = 16
)

// read reads a sequence of chunks: those of the file, or those of a frame.
func (f *webpFile) read(chunks []byte) {
	for len(chunks) >= riffHeader {
		name := string(chunks[:4])
		size := int64(binary.LittleEndian.Uint32(chunks[4:]))
		chunks = chunks[riffHeader:]
		if size > int64(len(chunks)) {
			done := int64(0)
			switch name {
			case "VP8 ", "VP8L", "ANMF":
				done = int64(len(chunks))
			}
			f.truncated = truncated(done, size)
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

// readChunk stores what is needed from a chunk. Only the first image is used.
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
	// The size in the header of the file is often wrong, and it is not needed.
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
		return header{}, fmt.Errorf("the container says %v pixels, but the image in it has %v", f.frame.Size(), size)
	}
	if !f.frame.In(image.Rectangle{Max: f.canvas}) {
		return header{}, fmt.Errorf("the first frame, %v, is not within the canvas of %v", f.frame, f.canvas)
	}
	// In lossy files, a macroblock of 256 pixels takes at least two bits for its
	// prediction modes, whose probabilities a key frame cannot change. Lossless files
	// can have codes of no bits, so an image of one color takes 20 bytes, whatever its
	// size.
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
	h.memory, h.orientMemory = f.memory()
	return h, nil
}

// expandRange converts m in place from limited range, which lossy WebP has, to full
// range. Limited range is luma of 16 to 235 and chroma of 16 to 240 (ITU-R BT.601).
// Package image, and all code that reads an image.YCbCr, expect full range, as in JPEG.
// m must not be shared.
func expandRange(ctx context.Context, m *image.YCbCr) error {
	const atOnce = 1 << 20 // samples between two checks of ctx
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

// fullLuma and fullChroma map limited-range values to full-range ones.
var fullLuma, fullChroma = rangeTable(16, 0, 219), rangeTable(128, 128, 224)

// rangeTable returns a table that maps zero to newZero, and scales span to 255.
func rangeTable(zero, newZero, span int) (table [256]uint8) {
	for i := range table {
		scaled := math.Round(float64(i-zero)*255/float64(span)) + float64(newZero)
		table[i] = uint8(min(max(scaled, 0), 255))
	}
	return table
}

// size returns the size of the image according to its bitstream.
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
	return image.Point{}, errors.New("the file contains no image")
}

// memory returns upper bounds in bytes: for decoding, and for what applying the
// orientation adds.
func (f *webpFile) memory() (decode, orient int64) {
	w, h := int64(f.frame.Dx()), int64(f.frame.Dy())
	padded := (w + 15) / 16 * 16 * ((h + 15) / 16 * 16)
	if f.lossless != nil {
		decode, orient = losslessMemory(w, h, len(f.lossless)), 4*w*h
	} else {
		const firstPartition = 1 << 19 // allocated before the decoder notices that data is missing
		decode = padded*3/2 + padded/256*8 + int64(len(f.lossy)) + firstPartition
		orient = padded * 3 / 2
	}
	if len(f.alpha) > 0 {
		const compressed = 3
		decode += w * h
		orient += w * h
		if f.alpha[0]&compressed != 0 {
			decode += losslessMemory(w, h, len(f.alpha))
		}
	}
	if f.frame != (image.Rectangle{Max: f.canvas}) {
		orient = 4 * int64(f.canvas.X) * int64(f.canvas.Y)
	}
	return decode, orient
}

// losslessMemory returns an upper bound of what the VP8L decoder holds, in bytes.
func losslessMemory(w, h int64, size int) int64 {
	tiles := (w + 3) / 4 * ((h + 3) / 4)
	// Packed pixels of half the width, the unpacked ones, and up to four images with a
	// pixel for each 4×4 tile: two transforms, one that is rejected because it is
	// repeated, and the map of Huffman groups.
	pixels := 2*(w+2)*h + 4*w*h + 4*4*tiles
	// Groups of five Huffman trees. There are at most 2600, which is the decoder's
	// limit, and at most one for each tile. A group has tables of 2.7 KB and takes at
	// least 20 bits; its nodes take up to 50 KB, but at most 400 bytes for each byte of
	// the data.
	const maxGroups = 2600
	n := int64(size)
	groups := 2720*min(maxGroups, tiles, n*8/20) + min(maxGroups*50<<10, 400*n)
	return pixels + groups
}

// file returns a WebP file that contains only the first frame.
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
