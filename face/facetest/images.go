package facetest

import (
	"bytes"
	"image"
	"image/jpeg"
	"math/rand"
	"testing"
)

// Noise returns random pixels, always the same. Cascades of the pigo library accept many
// windows of them up to a late tree, and some windows entirely.
func Noise(width, height int) *image.Gray {
	random := rand.New(rand.NewSource(1))
	img := image.NewGray(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = uint8(random.Intn(256))
	}
	return img
}

// EnlargedJPEG scales a JPEG, which must have colors, by linear interpolation. It adds
// noise, as cameras do, so that the result takes as long to decode as a photograph.
func EnlargedJPEG(t testing.TB, data []byte, width, height int) []byte {
	t.Helper()
	img, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewSource(3))
	enlarged := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	from, to := planes(img.(*image.YCbCr)), planes(enlarged)
	for i := range to {
		to[i].interpolate(from[i], random)
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, enlarged, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// plane is one component of an image, whose first pixel is at the origin.
type plane struct {
	pix                   []uint8
	width, height, stride int
}

func planes(m *image.YCbCr) [3]plane {
	size := m.Rect.Size()
	last := m.COffset(m.Rect.Max.X-1, m.Rect.Max.Y-1)
	width, height := last%m.CStride+1, last/m.CStride+1
	return [3]plane{
		{m.Y, size.X, size.Y, m.YStride},
		{m.Cb, width, height, m.CStride},
		{m.Cr, width, height, m.CStride},
	}
}

// interpolate sets p to from, enlarged to the size of p, with noise.
func (p plane) interpolate(from plane, random *rand.Rand) {
	for y := range p.height {
		v := float64(y) * float64(from.height-1) / float64(p.height)
		upper := from.pix[int(v)*from.stride:]
		lower := upper[from.stride:]
		v -= float64(int(v))
		for x := range p.width {
			u := float64(x) * float64(from.width-1) / float64(p.width)
			left := int(u)
			u -= float64(left)
			above := float64(upper[left])*(1-u) + float64(upper[left+1])*u
			below := float64(lower[left])*(1-u) + float64(lower[left+1])*u
			value := above*(1-v) + below*v + random.Float64()*6 - 3
			p.pix[y*p.stride+x] = uint8(min(max(value+0.5, 0), 255))
		}
	}
}
