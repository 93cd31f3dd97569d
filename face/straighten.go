package face

import (
	"context"
	"image"
	"image/draw"
	"math"
)

// How landmarks are found in faces that may lie between two quarter turns.
const (
	// maxStraightened is the number of faces, the most confident ones, that are looked at
	// again. With YuNet each takes about a tenth of the time of the four turns of a
	// photograph.
	maxStraightened = 16
	// surroundings is the side of what is looked at again, in sides of the face.
	surroundings = 2.2
	// maxSurroundings limits that side in pixels. Larger ones are scaled down.
	maxSurroundings = 256
	// straightenedFrom is the smallest face to look for there, as a part of the side, so
	// that detectors scale the patch no further than necessary.
	straightenedFrom = 0.125
)

// straighten replaces the landmarks of faces that are nearer to an odd eighth of a turn
// than to a quarter. Detectors find such a face in several quarter turns, often with the
// highest confidence in one in which it is on its side, where its landmarks are wrong. So
// the surroundings of each face are turned by all eighths. If the face is found with the
// highest confidence in an odd one, its landmarks are those that are found there.
func straighten(ctx context.Context, d Detector, img image.Image, faces []Face, opts Options) error {
	size := img.Bounds().Size()
	for i := range faces[:min(len(faces), maxStraightened)] {
		f := &faces[i]
		p := newPatch(img, f.Box)
		best, confidence := 0, 0.0
		for eighths := range 8 {
			found, err := p.find(ctx, d, eighths, size, opts.MinConfidence, true)
			if err != nil {
				return err
			}
			if found != nil && found.Confidence > confidence {
				best, confidence = eighths, found.Confidence
			}
		}
		if best%2 == 0 {
			continue
		}
		found, err := p.find(ctx, d, best, size, opts.MinConfidence, false)
		if err != nil {
			return err
		}
		if found != nil {
			f.Landmarks = found.Landmarks
		}
	}
	return nil
}

// find returns the most confident face in the middle of p, turned clockwise by eighths, in
// the frame of the image of that size. It returns nil if there is none.
func (p patch) find(ctx context.Context, d Detector, eighths int, size image.Point, minConfidence float64, skipLandmarks bool) (*Face, error) {
	turned, at := p.turned(eighths)
	found, err := d.Detect(ctx, turned, Options{
		MinConfidence: minConfidence, SkipLandmarks: skipLandmarks,
		MinFaceSize: straightenedFrom * float64(p.side),
	})
	if err != nil {
		return nil, err
	}
	for i := range found {
		f := &found[i]
		ratio := p.scale * math.Sqrt(f.Box.Area()/p.box.Area())
		f.Move(at, size.X, size.Y)
		x, y := (f.Box.MinX+f.Box.MaxX)/2, (f.Box.MinY+f.Box.MaxY)/2
		if ratio > 0.5 && ratio < 2 && p.box.MinX <= x && x < p.box.MaxX && p.box.MinY <= y && y < p.box.MaxY {
			return f, nil
		}
	}
	return nil, nil //nolint:nilnil // there is no face
}

// patch is a face with its surroundings.
type patch struct {
	box    Box
	center Point   // of box, from the corner of the first pixel of the image
	side   int     // of a turned patch, in its pixels
	scale  float64 // pixels of the image in one of a turned patch
	// pixels is the part of the image that begins at corner. Each pixel is the mean of
	// block × block pixels.
	pixels *image.RGBA
	corner image.Point
	block  int
}

func newPatch(img image.Image, box Box) patch {
	whole := surroundings * max(box.Width(), box.Height())
	p := patch{box: box, center: Point{X: float64((box.MinX + box.MaxX) / 2), Y: float64((box.MinY + box.MaxY) / 2)}}
	p.side = int(math.Ceil(min(max(whole, 1), maxSurroundings)))
	p.scale = whole / float64(p.side)
	p.block = max(1, int(p.scale))
	// A turned square reaches further than an upright one.
	reach := float64(whole/math.Sqrt2) + float64(2*p.block)
	part := image.Rect(
		int(math.Floor(p.center.X-reach)), int(math.Floor(p.center.Y-reach)),
		int(math.Ceil(p.center.X+reach)), int(math.Ceil(p.center.Y+reach)),
	).Intersect(image.Rectangle{Max: img.Bounds().Size()})
	p.corner = part.Min
	p.pixels = image.NewRGBA(image.Rect(0, 0, (part.Dx()+p.block-1)/p.block, (part.Dy()+p.block-1)/p.block))
	rows := image.NewRGBA(image.Rect(0, 0, part.Dx(), p.block))
	for y := range p.pixels.Rect.Dy() {
		top := y * p.block
		n := min(p.block, part.Dy()-top)
		draw.Draw(rows, image.Rect(0, 0, part.Dx(), n), img, img.Bounds().Min.Add(p.corner).Add(image.Pt(0, top)), draw.Src)
		means(p.pixels.Pix[y*p.pixels.Stride:], rows, n, p.block)
	}
	return p
}

// means sets each pixel of row to the mean of n rows and block columns.
func means(row []uint8, rows *image.RGBA, n, block int) {
	for left := 0; left < rows.Rect.Dx(); left += block {
		width := min(block, rows.Rect.Dx()-left)
		var sum [4]int
		for y := range n {
			pixels := rows.Pix[y*rows.Stride+4*left:][:4*width]
			for i, v := range pixels {
				sum[i%4] += int(v)
			}
		}
		for i, v := range sum {
			row[left/block*4+i] = uint8((v + n*width/2) / (n * width))
		}
	}
}

// turned returns the patch, turned clockwise by eighths, and a function that converts its
// points to the image. Both have (0, 0) at the corner of the first pixel. What is outside
// of the image is gray.
func (p patch) turned(eighths int) (*image.RGBA, func(x, y float64) (float64, float64)) {
	// Products are rounded before they are added, so that all processors compute the same.
	const half = math.Sqrt2 / 2
	sin := [8]float64{0, half, 1, half, 0, -half, -1, -half}[eighths]
	cos := [8]float64{1, half, 0, -half, -1, -half, 0, half}[eighths]
	middle := float64(float64(p.side) / 2)
	at := func(x, y float64) (float64, float64) {
		u, v := float64((x-middle)*p.scale), float64((y-middle)*p.scale)
		return p.center.X + (float64(u*cos) + float64(v*sin)), p.center.Y + (float64(v*cos) - float64(u*sin))
	}
	out := image.NewRGBA(image.Rect(0, 0, p.side, p.side))
	samples := int(math.Ceil(p.scale / float64(p.block)))
	for y := range p.side {
		for x := range p.side {
			var sum [3]int
			for i := range samples * samples {
				dx, dy := (float64(i%samples)+0.5)/float64(samples), (float64(i/samples)+0.5)/float64(samples)
				sx, sy := at(float64(x)+dx, float64(y)+dy)
				r, g, b := p.sample(sx, sy)
				sum[0], sum[1], sum[2] = sum[0]+r, sum[1]+g, sum[2]+b
			}
			n := 256 * 256 * samples * samples
			pixel := out.Pix[out.PixOffset(x, y):][:4]
			pixel[0], pixel[1], pixel[2], pixel[3] = uint8((sum[0]+n/2)/n), uint8((sum[1]+n/2)/n), uint8((sum[2]+n/2)/n), 255
		}
	}
	return out, at
}

// sample interpolates between four pixels at a point of the image. The result has 16 bits
// of fraction.
func (p patch) sample(x, y float64) (r, g, b int) {
	const gray = 128
	x, y = float64((x-float64(p.corner.X))/float64(p.block))-0.5, float64((y-float64(p.corner.Y))/float64(p.block))-0.5
	left, top := math.Floor(x), math.Floor(y)
	u, v := int((x-left)*256), int((y-top)*256)
	for i, weight := range [4]int{(256 - u) * (256 - v), u * (256 - v), (256 - u) * v, u * v} {
		at := image.Pt(int(left)+i%2, int(top)+i/2)
		if !at.In(p.pixels.Rect) {
			r, g, b = r+gray*weight, g+gray*weight, b+gray*weight
			continue
		}
		pixel := p.pixels.Pix[p.pixels.PixOffset(at.X, at.Y):][:3]
		r, g, b = r+int(pixel[0])*weight, g+int(pixel[1])*weight, b+int(pixel[2])*weight
	}
	return r, g, b
}
