package facetest

import (
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"testing"

	"golang.org/x/image/draw"

	"github.com/mienproject/mien/face"
)

// CheckedShirt returns the photograph of a person in a checked shirt,
// ../shared/cases/checked_shirt.jpeg, at scale times its size, and the box of its only
// face, on which YuNet, SCRFD and MTCNN approximately agree.
func CheckedShirt(t testing.TB, scale float64) (image.Image, Label) {
	t.Helper()
	img := Decode(t, Case(t, "checked_shirt.jpeg"))
	if scale != 1 {
		size := img.Bounds().Size()
		scaled := image.NewRGBA(image.Rect(0, 0, int(scale*float64(size.X)), int(scale*float64(size.Y))))
		draw.CatmullRom.Scale(scaled, scaled.Rect, img, img.Bounds(), draw.Src, nil)
		img = scaled
	}
	return img, Label{Box: face.Box{MinX: 165 * scale, MinY: 243 * scale, MaxX: 388 * scale, MaxY: 560 * scale}}
}

// Checks is the number of images that Check draws.
const Checks = 120

// Check draws checked cloth without a face: two sets of stripes that cross, as on a
// shirt, in two pieces with a seam between them. Detectors that compare the brightness
// of pixels take such cloth for faces. The images differ in the period of the stripes
// (6 to 60 pixels), their angle and width, in contrast, softness, perspective, folds,
// shadow and grain.
//
// The same i, from 0 to Checks-1, gives the same image, except that pixels may differ
// by one gray level between processor architectures. Fit on the images whose i is a
// multiple of 3, and evaluate on the others, whose periods and angles are different.
func Check(i int) *image.Gray {
	c := newCloth(i)
	grain := rand.New(rand.NewPCG(uint64(i), 0))
	img := image.NewGray(image.Rect(0, 0, 480, 360))
	for row := range img.Rect.Max.Y {
		for col := range img.Rect.Max.X {
			// Relative to the middle and the height.
			x, y := float64(col-240)/360, float64(row-180)/360
			v := c.brightness(x, y) + 3*grain.NormFloat64()
			img.SetGray(col, row, color.Gray{Y: uint8(min(max(v, 0), 255))})
		}
	}
	return img
}

// cloth has the parameters of one image.
type cloth struct {
	periods       float64    // stripes in the height of the image
	angles        [2]float64 // of the two sets of stripes, in radians
	ratio         float64    // of their periods
	width         float64    // of the dark stripes, as a part of the period
	dark, light   float64    // how much a stripe takes from the ground, and the ground's brightness
	soft          float64    // of the stripes' edges, as a part of the period
	line          bool       // a thin line between the stripes
	tilt          float64    // by how much the scale changes over the image's height
	fold, wave    float64    // how far folds move the cloth, and their distance, in periods
	turn          float64    // of the second piece of cloth against the first, in radians
	seam, slanted float64    // where the second piece begins, and its edge's slant
}

// newCloth covers the parameters evenly with a Kronecker sequence: the fractional parts
// of multiples of the powers of 1/φ, with φ^(n+1) = φ + 1 for n parameters (M. Roberts,
// "The Unreasonable Effectiveness of Quasirandom Sequences", 2018).
func newCloth(i int) cloth {
	const n = 14
	phi := 2.0
	for range 50 {
		phi = math.Pow(1+phi, 1.0/(n+1))
	}
	power := 1.0
	between := func(low, high float64) float64 {
		power /= phi
		_, u := math.Modf(0.5 + float64(i+1)*power)
		return low + u*(high-low)
	}
	c := cloth{
		periods: 360 / (6 * math.Pow(10, between(0, 1))),
		ratio:   between(0.8, 1.25),
		width:   between(0.25, 0.75),
		dark:    between(0.25, 0.85),
		light:   between(110, 250),
		line:    between(0, 1) < 0.25,
		tilt:    between(-0.5, 0.5),
		fold:    between(0, 0.8),
		wave:    between(4, 16),
		turn:    between(-0.8, 0.8),
		seam:    between(-0.4, 0.4),
		slanted: between(-0.8, 0.8),
	}
	// Stripes on shirts are roughly horizontal and vertical.
	c.angles[0] = between(-0.4, 0.4)
	c.angles[1] = c.angles[0] + math.Pi/2 + 0.5*c.turn*c.fold
	// No edge is sharper than a pixel.
	c.soft = max(between(0, 0.5), c.periods/360)
	return c
}

// brightness returns the brightness of the cloth, 0 to 255.
func (c cloth) brightness(x, y float64) float64 {
	angle, shade := 0.0, 1.0
	if beyond := x - c.seam - c.slanted*y; beyond > 0 {
		angle = c.turn
		shade = min(1, 0.3+beyond*c.periods) // the shadow of the first piece
	}
	scale := c.periods / (1 + c.tilt*y)
	x, y = x*scale, y*scale
	wave := 2 * math.Pi / c.wave
	x, y = x+c.fold*math.Sin(y*wave), y+c.fold*math.Sin(x*wave/1.3)
	shade *= 1 - 0.3*c.fold*(1+math.Sin((x+y)*wave/1.7))
	v := c.light * shade
	for set, ratio := range [2]float64{1, c.ratio} {
		sin, cos := math.Sincos(c.angles[set] + angle)
		v *= 1 - c.dark*c.stripes((x*cos+y*sin)*ratio)
	}
	return v
}

// stripes returns how much of a dark stripe there is at x, in periods: 0 to 1.
func (c cloth) stripes(x float64) float64 {
	stripe := func(x, width float64) float64 {
		x -= math.Floor(x)
		return min(max(0.5+(width/2-math.Abs(x-0.5))/c.soft, 0), 1)
	}
	s := stripe(x, c.width)
	if c.line {
		s = max(s, 0.7*stripe(x+0.5, 0.12))
	}
	return s
}
