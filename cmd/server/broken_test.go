package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"connectrpc.com/connect"

	inferencev1 "github.com/mienproject/mien/gen/inference/v1"
)

// TestBrokenFiles sends malformed files: truncated at every byte where a part of the
// file ends, with wrong headers or the header of another format, bombs, and noise. Each
// gets its reason, and the next valid request gets its answer.
func TestBrokenFiles(t *testing.T) {
	s := start(t, patient...)
	client := grpcClient(t, s.url)
	good := &inferencev1.Image{RawData: make([]byte, 64*64), Width: 64, Height: 64, PixelFormat: inferencev1.PixelFormat_PIXEL_FORMAT_GRAY8}
	files := brokenFiles(t)
	if len(files) < 100 {
		t.Fatalf("only %d broken files", len(files))
	}
	for _, f := range files {
		t.Run(f.name, func(t *testing.T) {
			_, err := client.Predict(t.Context(), &inferencev1.Image{RawData: f.data})
			if err == nil {
				t.Fatal("no error")
			}
			code, reason := reasonOf(t, err)
			if code != connect.CodeInvalidArgument || !slices.Contains(f.reasons, reason) {
				t.Errorf("%v, want one of %v", err, f.reasons)
			}
			if _, err := client.Predict(t.Context(), good); err != nil {
				t.Errorf("the next good request: %v", err)
			}
		})
	}
	res, err := client.Predict(t.Context(), &inferencev1.Image{RawData: readFile(t, samplePath)})
	if err != nil || len(res.GetResults()) != 1 {
		t.Errorf("the photograph after %d broken files: %v, %v", len(files), res, err)
	}
}

type brokenFile struct {
	name    string
	data    []byte
	reasons []string
}

func brokenFiles(t *testing.T) []brokenFile {
	t.Helper()
	var files []brokenFile
	add := func(name string, data []byte, reasons ...string) {
		files = append(files, brokenFile{name, data, reasons})
	}
	whole := map[string][]byte{"sample.jpg": readFile(t, samplePath)}
	for _, name := range []string{"progressive.jpg", "cmyk.jpg", "alpha.png", "interlaced.png", "interlaced.gif", "lossy.webp", "lossless.webp", "alpha.webp", "deflate.tif"} {
		whole[name] = readFile(t, filepath.Join("../../photo/testdata", name))
	}
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		data := whole[name]
		for _, n := range cuts(data) {
			add(fmt.Sprintf("%s, first %d of %d bytes", name, n, len(data)), data[:n], "CORRUPT_IMAGE", "UNSUPPORTED_FORMAT")
		}
		// The header of one format, the rest of another.
		if filepath.Ext(name) != ".png" {
			swapped := append(slices.Clone(whole["alpha.png"][:16]), data[16:]...)
			add("PNG's header on "+name, swapped, "CORRUPT_IMAGE", "UNSUPPORTED_FORMAT")
		}
	}

	add("nothing but spaces", bytes.Repeat([]byte(" "), 1000), "UNSUPPORTED_FORMAT")
	add("a web page", []byte("<!doctype html><title>404</title>"), "UNSUPPORTED_FORMAT")
	add("base64 twice", []byte("/9j/4AAQSkZJRgABAQAAAQABAAD/2wCEAAkGBxISEhUSEhIVFRUV"), "UNSUPPORTED_FORMAT")
	add("one byte", []byte{0xff}, "UNSUPPORTED_FORMAT")
	random := rand.NewChaCha8([32]byte{1})
	for i := range 10 {
		noise := make([]byte, 1+i*i*500)
		_, _ = random.Read(noise) // never fails
		add(fmt.Sprintf("noise of %d bytes", len(noise)), noise, "UNSUPPORTED_FORMAT")
		for _, name := range []string{"sample.jpg", "alpha.png", "interlaced.gif", "lossy.webp", "deflate.tif"} {
			if i < 2 {
				add(fmt.Sprintf("%s's first bytes, then %d of noise", name, len(noise)),
					append(slices.Clone(whole[name][:24]), noise...), "CORRUPT_IMAGE", "UNSUPPORTED_FORMAT", "TOO_MANY_PIXELS")
			}
		}
	}

	// Headers that claim sizes which no data can have.
	for _, side := range []uint32{8000, 16_000, 65_535} {
		reason := "TOO_MANY_PIXELS"
		if side == 8000 { // just within the limit, but too large for the bytes
			reason = "CORRUPT_IMAGE"
		}
		add(fmt.Sprintf("PNG of %d pixels a side in 60 bytes", side), hugePNG(side), reason)
		add(fmt.Sprintf("JPEG of %d pixels a side in 30 bytes", side), hugeJPEG(uint16(side)), reason, "CORRUPT_IMAGE")
		add(fmt.Sprintf("GIF of %d pixels a side in 40 bytes", side), hugeGIF(uint16(side)), reason)
		add(fmt.Sprintf("BMP of %d pixels a side in 54 bytes", side), hugeBMP(side), reason)
	}
	return files
}

// cuts returns the lengths to which a file is cut: a few bytes, the middle, just before
// the end, and wherever a part of the file begins.
func cuts(data []byte) []int {
	at := []int{12, 20, 30, len(data) / 3, len(data) / 2, len(data) * 9 / 10}
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xd8}):
		at = append(at, len(data)-4) // without only the end marker, the file is valid
		for i := 2; i+4 < len(data) && data[i] == 0xff && data[i+1] != 0xda; i += 2 + int(binary.BigEndian.Uint16(data[i+2:])) {
			at = append(at, i+2)
		}
	case bytes.HasPrefix(data, []byte("\x89PNG")):
		for i := 8; i+12 <= len(data); i += 12 + int(binary.BigEndian.Uint32(data[i:])) {
			at = append(at, i+6)
			if string(data[i+4:i+8]) == "IDAT" {
				// Data after the pixels is not needed.
				last := i + 8 + int(binary.BigEndian.Uint32(data[i:]))*9/10
				at = slices.DeleteFunc(append(at, last), func(n int) bool { return n > last })
				break
			}
		}
	}
	slices.Sort(at)
	return slices.DeleteFunc(slices.Compact(at), func(n int) bool { return n >= len(data) })
}

func hugePNG(side uint32) []byte {
	ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), side), side)
	ihdr = append(ihdr, 8, 6, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	b = binary.BigEndian.AppendUint32(append(b, ihdr...), crc32.ChecksumIEEE(ihdr))
	return append(b, make([]byte, 27)...)
}

func hugeJPEG(side uint16) []byte {
	b := []byte{0xff, 0xd8, 0xff, 0xc0, 0, 17, 8}
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, side), side)
	return append(b, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0, 0xff, 0xd9)
}

func hugeGIF(side uint16) []byte {
	b := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16([]byte("GIF89a"), side), side)
	b = append(b, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, ',', 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, side), side)
	return append(b, 0, 2, 2, 0x4c, 0x01, 0, ';')
}

func hugeBMP(side uint32) []byte {
	b := append([]byte("BM"), 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, side), side)
	b = append(b, 1, 0, 32, 0)
	return append(b, make([]byte, 24)...)
}
