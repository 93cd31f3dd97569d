package main

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"math"
	"strconv"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"

	"github.com/mienproject/mien/bench/page"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/facetest"
	"github.com/mienproject/mien/photo"
)

// turns are the angles, in degrees clockwise, by which photographs of one face are
// rotated.
var turns = []int{0, 30, 60, 90, 180}

// maxTurned is the number of photographs that are rotated from lfw and from net each.
const maxTurned = 40

// A turnedResult has what one detector found in the photographs at one angle, at its
// default confidence.
type turnedResult struct {
	photos []facetest.Photo
	found  [][]face.Face
}

// findTurned runs every detector on the photographs with one labeled face, rotated by
// each angle.
func findTurned(ctx context.Context, detectors []detector, opened inProcess, photos []facetest.Photo) (map[string][]turnedResult, error) {
	results := map[string][]turnedResult{}
	for _, d := range detectors {
		results[d.name] = make([]turnedResult, len(turns))
	}
	for _, labeled := range photos {
		p, err := openPhotograph(labeled.Path)
		if err != nil {
			return nil, err
		}
		for i, degrees := range turns {
			img, label := turned(p.img, labeled.Faces[0], degrees)
			for _, d := range detectors {
				faces, err := face.Detect(ctx, opened[d.name], face.Whole(img, photo.Turn), face.Options{MinConfidence: opened.minConfidence(d.name)})
				if err != nil {
					return nil, fmt.Errorf("%s turned by %d°: %w", labeled.Path, degrees, err)
				}
				r := &results[d.name][i]
				r.photos = append(r.photos, facetest.Photo{Faces: []facetest.Label{label}})
				r.found = append(r.found, faces)
			}
		}
	}
	return results, nil
}

// turned rotates an image clockwise around the middle of a labeled face, moves that to
// the middle of a frame of the same size, and moves the label with it. Pixels from
// outside of the image are gray.
func turned(img image.Image, l facetest.Label, degrees int) (image.Image, facetest.Label) {
	size := img.Bounds().Size()
	middle := face.Point{X: (l.Box.MinX + l.Box.MaxX) / 2, Y: (l.Box.MinY + l.Box.MaxY) / 2}
	to := face.Point{X: float64(size.X) / 2, Y: float64(size.Y) / 2}
	sin, cos := math.Sincos(float64(degrees) * math.Pi / 180)
	move := f64.Aff3{
		cos, -sin, to.X - cos*middle.X + sin*middle.Y,
		sin, cos, to.Y - sin*middle.X - cos*middle.Y,
	}
	out := image.NewRGBA(image.Rectangle{Max: size})
	draw.Draw(out, out.Rect, image.NewUniform(color.Gray{Y: 128}), image.Point{}, draw.Src)
	draw.BiLinear.Transform(out, move, img, img.Bounds(), draw.Src, nil)

	w, h := l.Box.Width()/2, l.Box.Height()/2
	label := facetest.Label{Box: face.Box{MinX: to.X - w, MinY: to.Y - h, MaxX: to.X + w, MaxY: to.Y + h}}
	landmarks := *l.Landmarks
	for _, p := range []*face.Point{&landmarks.LeftEye, &landmarks.RightEye, &landmarks.Nose, &landmarks.MouthLeft, &landmarks.MouthRight} {
		// The coordinates of a landmark are those of the middle of its pixel.
		x, y := p.X+0.5, p.Y+0.5
		p.X, p.Y = move[0]*x+move[1]*y+move[2]-0.5, move[3]*x+move[4]*y+move[5]-0.5
	}
	label.Landmarks = &landmarks
	return out, label
}

// turnedPhotos returns the number of photographs that were rotated.
func (m *measurement) turnedPhotos() int {
	for _, results := range m.turned {
		return len(results[0].photos)
	}
	return 0
}

// turnedTable has, for each detector and angle, the share of the faces that is found at
// the default confidence, and the mean error of their landmarks.
func (m *measurement) turnedTable() string {
	head := []string{"model"}
	for _, degrees := range turns {
		head = append(head, strconv.Itoa(degrees)+"°")
	}
	rows := [][]string{head}
	for _, d := range m.detectors {
		row := []string{"`" + d.name + "`"}
		for _, r := range m.turned[d.name] {
			mean, matched, labeled := facetest.MeanLandmarkError(r.photos, r.found)
			row = append(row, fmt.Sprintf("%s (%s)", page.Decimals(float64(matched)/float64(labeled), 2), page.Decimals(mean, 2)))
		}
		rows = append(rows, row)
	}
	return page.Table(rows)
}
