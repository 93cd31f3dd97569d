package annotate_test

import (
	"bytes"
	"image"
	"image/color"
	"testing"

	"github.com/mienproject/mien/annotate"
)

// TestEncode checks that image.Decode reads the same format and size, and the same
// color except for the loss of JPEG.
func TestEncode(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 17, 9))
	for i := range img.Pix {
		img.Pix[i] = 0xff - byte(i%4)*0x20 // bright and opaque
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 0xff
	}
	for format, tolerance := range map[annotate.Format]int{annotate.PNG: 0, annotate.JPEG: 6} {
		t.Run(string(format), func(t *testing.T) {
			var out bytes.Buffer
			if err := annotate.Encode(&out, img, format); err != nil {
				t.Fatal(err)
			}
			got, name, err := image.Decode(&out)
			if err != nil || name != string(format) || got.Bounds() != img.Rect {
				t.Fatalf("%q, %v, %v", name, got, err)
			}
			want, c := img.RGBAAt(8, 4), color.RGBAModel.Convert(got.At(8, 4)).(color.RGBA)
			for _, d := range []int{int(want.R) - int(c.R), int(want.G) - int(c.G), int(want.B) - int(c.B)} {
				if max(d, -d) > tolerance {
					t.Errorf("the color is %v, want %v", c, want)
				}
			}
		})
	}
}

// TestEncodeTooLarge checks the limit of JPEG, which has 16 bits for each side.
func TestEncodeTooLarge(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 1<<16, 1))
	if err := annotate.Encode(&bytes.Buffer{}, img, annotate.JPEG); err == nil {
		t.Error("a JPEG of 65536 columns was written")
	}
}
