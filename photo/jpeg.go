package photo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
)

// maxScans bounds the passes of a JPEG. A progressive scan of a few dozen bytes
// makes the decoder visit every block of the picture, so a file of kilobytes
// could keep it busy for hours. libjpeg writes 10 scans, and encoders that
// search for the best script stay below 20.
const maxScans = 64

func openJPEG(data []byte) (header, error) {
	cfg, err := config(data, jpeg.DecodeConfig)
	if err != nil {
		return header{}, err
	}
	f := walkJPEG(data)
	if f.scans > maxScans {
		return header{}, fmt.Errorf("more than %d scans, where encoders write about 10", maxScans)
	}
	whole := header{
		width: cfg.Width, height: cfg.Height,
		// One bit at least for each 8×8 block: its DC coefficient is in no
		// end-of-band run. Chroma only makes it worse.
		capacity: int64(len(data)) * 8 * 64,
		exif:     f.exif,
		decode:   decoder(data, jpeg.Decode),
	}
	whole.memory, whole.turned = f.memory(int64(cfg.Width), int64(cfg.Height), Options{}, 0)
	if !f.usual() {
		return whole, nil
	}
	reduce := func(o Options) header {
		h := whole
		shift := uint(0)
		for shift < 3 && 2<<shift <= o.Reduce {
			shift++
		}
		round := 1<<shift - 1
		h.reduction = 1 << shift
		h.width, h.height = (cfg.Width+round)>>shift, (cfg.Height+round)>>shift
		h.beyond = image.Pt(h.width<<shift-cfg.Width, h.height<<shift-cfg.Height)
		h.memory, h.turned = f.memory(int64(cfg.Width), int64(cfg.Height), o, shift)
		h.decode = func(ctx context.Context) (image.Image, error) {
			return guard(func() (image.Image, error) { return decodeJPEG(ctx, data, o.Gray, shift) })
		}
		return h
	}
	h := reduce(Options{})
	h.reduce = reduce
	return h, nil
}

// usual tells whether decodeJPEG knows what it is: grey or Y'CbCr. The standard
// library takes the others.
func (f jpegFile) usual() bool {
	return len(f.components) == 1 || len(f.components) == 3 && !f.rgb && !f.namedRGB()
}

// namedRGB tells whether the components are named so.
func (f jpegFile) namedRGB() bool {
	c := f.components
	return len(c) == 3 && c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B'
}

// jpegFile is what the markers of a JPEG tell.
type jpegFile struct {
	components  []jpegComponent
	progressive bool
	rgb         bool // may be RGB rather than Y'CbCr
	scans       int  // counting stops above maxScans
	exif        []byte
}

type jpegComponent struct {
	id   byte
	h, v int64 // sampling factors
}

const (
	jpegSOF0, jpegSOF1, jpegSOF2 = 0xc0, 0xc1, 0xc2
	jpegDHT, jpegDQT, jpegDRI    = 0xc4, 0xdb, 0xdd
	jpegRST0, jpegRST7           = 0xd0, 0xd7
	jpegEOI, jpegSOS, jpegCOM    = 0xd9, 0xda, 0xfe
	jpegAPP0, jpegAPP1           = 0xe0, 0xe1
	jpegAPP14, jpegAPP15         = 0xee, 0xef
)

// walkJPEG reads the markers up to the end of the image. It stays in step with
// the decoder, which also looks for the next marker by its 0xff wherever
// entropy-coded data, or garbage, end; where the file is broken it stops, and
// leaves the complaint to the decoder.
func walkJPEG(data []byte) (f jpegFile) {
	for i := 2; ; {
		n := bytes.IndexByte(data[i:], 0xff)
		if n < 0 {
			return f
		}
		for i += n; i < len(data) && data[i] == 0xff; i++ {
		}
		if i == len(data) {
			return f
		}
		marker := data[i]
		i++
		switch {
		case marker == 0, jpegRST0 <= marker && marker <= jpegRST7:
			continue // part of entropy-coded data
		case marker == jpegEOI:
			return f
		}
		if len(data)-i < 2 {
			return f
		}
		size := int(binary.BigEndian.Uint16(data[i:]))
		if size < 2 || len(data)-i < size {
			return f
		}
		segment := data[i+2 : i+size]
		i += size

		switch marker {
		case jpegSOF0, jpegSOF1, jpegSOF2:
			if f.components == nil {
				f.progressive = marker == jpegSOF2
				f.components = jpegComponents(segment)
			}
		case jpegSOS:
			if f.scans++; f.scans > maxScans {
				return f
			}
		case jpegAPP1:
			if f.exif == nil && bytes.HasPrefix(segment, exifPrefix) {
				f.exif = trimEXIF(segment)
			}
		case jpegAPP14:
			const transform = 11 // 0 says RGB or CMYK
			if len(segment) > transform && string(segment[:5]) == "Adobe" && segment[transform] == 0 {
				f.rgb = true
			}
		}
	}
}

func jpegComponents(sof []byte) (components []jpegComponent) {
	for c := sof[min(6, len(sof)):]; len(c) >= 3; c = c[3:] {
		components = append(components, jpegComponent{c[0], int64(c[1] >> 4), int64(c[1] & 15)})
	}
	return components
}

// memory says what decoding takes, with sides divided by 1<<shift, and what
// turning the result adds.
func (f jpegFile) memory(width, height int64, o Options, shift uint) (decode, turned int64) {
	c := f.components
	if len(c) == 0 || c[0].h == 0 || c[0].v == 0 {
		return 0, 0 // the decoder refuses it
	}
	if len(c) == 1 {
		c = []jpegComponent{{c[0].id, 1, 1}} // a lone component is never subsampled
	}
	// The planes are whole minimum coded units of 8h × 8v pixels.
	across := (width + 8*c[0].h - 1) / (8 * c[0].h)
	down := (height + 8*c[0].v - 1) / (8 * c[0].v)
	var samples int64
	for _, c := range c {
		samples += across * down * 64 * c.h * c.v
	}
	luma := across * down * 64 * c[0].h * c[0].v
	if f.progressive {
		// The coefficients are kept as int32, with eight bytes for each 64 to
		// tell which there are.
		decode = samples/8 + 4*samples
		if o.Gray {
			decode = samples/8 + 4*luma
		}
	}
	luma >>= 2 * shift
	if samples >>= 2 * shift; o.Gray {
		return decode + luma, luma
	}
	decode += samples
	turned = samples
	switch {
	case len(c) == 4, f.rgb, f.namedRGB():
		decode += 4 * width * height // interleaved into CMYK or RGBA
		turned = max(samples, 4*width*height)
	case len(c) == 3 && c[1].h > 0 && c[0].h/c[1].h == 4:
		turned = 5 * luma // see transposable
	}
	return decode, turned
}
