package photo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"slices"
)

// webpFile has the chunks of a WebP that are needed to decode its first frame.
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

	alphaCompression = 3 // bits of the first byte of an ALPH chunk
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
			img, err := catchPanics(func() (image.Image, error) { return f.decode(ctx) })
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
		return vp8Size(f.lossy)
	case f.lossless != nil:
		return vp8lSize(f.lossless)
	case f.truncated != nil:
		return image.Point{}, f.truncated
	}
	return image.Point{}, errors.New("the file contains no image")
}

// memory returns upper bounds in bytes: for decoding, and for what applying the
// orientation adds.
func (f *webpFile) memory() (decode, orient int64) {
	w, h := int64(f.frame.Dx()), int64(f.frame.Dy())
	if f.lossless != nil {
		decode, orient = losslessMemory(w, h, len(f.lossless)), 4*w*h
	} else {
		decode, orient = vp8Memory(w, h)
	}
	if len(f.alpha) > 0 {
		decode += w * h
		orient += w * h
		if f.alpha[0]&alphaCompression != 0 {
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
	// Packed pixels of half the width, the unpacked ones, and up to three images with a
	// pixel for each 4×4 tile: two transforms and the map of groups.
	pixels := 2*(w+2)*h + 4*w*h + 3*4*tiles
	// Groups of five prefix codes. There are at most 2600, which is the decoder's limit,
	// and at most one for each tile. A group has tables of 2.9 KB and takes at least 20
	// bits; its symbols take up to 48 bytes for each byte of the data, because a length
	// that is repeated six times can take two bits.
	const group, maxSymbols = 3 << 10, 64
	n := int64(size)
	groups := group*min(maxVP8LGroups, tiles, n*8/20) + maxSymbols*n
	return pixels + groups
}

// decode returns the first frame.
func (f *webpFile) decode(ctx context.Context) (image.Image, error) {
	size := f.frame.Size()
	if f.lossless != nil {
		pix, err := decodeVP8L(ctx, f.lossless[vp8lHeader:], size)
		if err != nil {
			return nil, err
		}
		return &image.NRGBA{Pix: pix, Stride: 4 * size.X, Rect: image.Rectangle{Max: size}}, nil
	}
	var alpha []byte
	if f.alpha != nil {
		var err error
		if alpha, err = f.decodeAlpha(ctx); err != nil {
			return nil, err
		}
	}
	img, err := decodeVP8(ctx, f.lossy)
	if err != nil {
		return nil, err
	}
	if err := expandRange(ctx, img); err != nil {
		return nil, err
	}
	if alpha != nil {
		return &image.NYCbCrA{YCbCr: *img, A: alpha, AStride: size.X}, nil
	}
	return img, nil
}

// decodeAlpha decodes the alpha of a lossy frame, a byte for each pixel (RFC 9649, section
// 2.7.1.2).
func (f *webpFile) decodeAlpha(ctx context.Context) ([]byte, error) {
	if len(f.alpha) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	size, data := f.frame.Size(), f.alpha[1:]
	alpha := make([]byte, size.X*size.Y)
	var pix []byte
	switch f.alpha[0] & alphaCompression {
	case 0:
		if copy(alpha, data) < len(alpha) {
			return nil, io.ErrUnexpectedEOF
		}
	case 1:
		var err error
		if pix, err = decodeVP8L(ctx, data, size); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("the compression of alpha is unknown")
	}
	filter := f.alpha[0] >> 2 & 3
	for y := range size.Y {
		if y%64 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		if pix != nil {
			for x := y * size.X; x < (y+1)*size.X; x++ {
				alpha[x] = pix[4*x+1]
			}
		}
		unfilter(filter, alpha[max(0, y-1)*size.X:(y+1)*size.X], size.X)
	}
	return alpha, nil
}

// unfilter adds the predictions for the last row of rows, whose first row is the one above,
// if there is one.
func unfilter(filter byte, rows []byte, width int) {
	const horizontal, vertical, gradient = 1, 2, 3
	if filter == 0 {
		return
	}
	row, above := rows[len(rows)-width:], rows[:width]
	if len(rows) == width { // the first row
		for x := 1; x < width; x++ {
			row[x] += row[x-1]
		}
		return
	}
	row[0] += above[0]
	for x := 1; x < width; x++ {
		switch filter {
		case horizontal:
			row[x] += row[x-1]
		case vertical:
			row[x] += above[x]
		case gradient:
			row[x] += clampByte(int(row[x-1]) + int(above[x]) - int(above[x-1]))
		}
	}
}
