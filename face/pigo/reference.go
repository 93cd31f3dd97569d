package pigo

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"math"
	"slices"

	pigo "github.com/esimov/pigo/core"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
	"github.com/mienproject/mien/face/luma"
)

// Reference finds what programs find that use the library without changes: with its
// scan and its clusters, the parameters of its own program (smallest face 20, shift
// 0.1, scale 1.1, clusters by IoU 0.2), and its square boxes. It is meant for
// comparison with Detector. Only the confidence and the landmarks, which are random in
// the library, are this package's. It is immutable and therefore safe for concurrent
// use.
type Reference struct {
	landmarker *landmark.Landmarker
	faces      *pigo.Pigo
}

var _ face.Detector = (*Reference)(nil)

// NewReference parses the embedded cascades. An error means that the binary is broken.
func NewReference() (*Reference, error) {
	landmarker, err := landmark.New()
	if err != nil {
		return nil, err
	}
	faces, err := pigo.NewPigo().Unpack(faceFinder)
	if err != nil {
		return nil, fmt.Errorf("face cascade: %w", err)
	}
	return &Reference{landmarker: landmarker, faces: faces}, nil
}

// Info implements face.Detector.
func (r *Reference) Info() face.Info {
	return face.Info{
		Family:        "pigo",
		Version:       Version,
		Landmarks:     true,
		MinConfidence: referenceMinConfidence,
		MinFaceSize:   minWindow,
	}
}

// Input implements face.Detector. The library scans the whole image.
func (r *Reference) Input(int, int, face.Options) face.Input {
	return face.Input{Gray: true, Reduce: 1, BytesPerPixel: luma.BytesPerPixel}
}

// Detect implements face.Detector. It uses one core, and takes as long as the library.
func (r *Reference) Detect(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	g := luma.Of(img, nil)
	windows, err := libraryScan(ctx, r.faces, g, int(max(minWindow, min(opts.MinFaceSize, math.MaxInt32))))
	if err != nil {
		return nil, err
	}
	clusters, err := libraryClusters(ctx, windows)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(clusters, func(a, b cluster) int { return cmp.Compare(b.score, a.score) })
	faces := make([]face.Face, 0, len(clusters))
	for _, c := range clusters {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f := face.Face{
			Box:        c.square().Clamp(g.Width, g.Height),
			Confidence: referenceConfidence(c),
		}
		if !(f.Confidence >= opts.MinConfidence) || (opts.MaxResults > 0 && len(faces) == opts.MaxResults) {
			break // clusters are sorted, and confidence increases with the score
		}
		if !opts.SkipLandmarks {
			f.Landmarks = new(r.landmarker.Find(g, c.center(), c.size).Landmarks)
		}
		faces = append(faces, f)
	}
	slices.SortFunc(faces, face.Compare)
	return faces, nil
}

// square returns the window itself, as the library's programs draw it.
func (c cluster) square() face.Box {
	half := float64(c.size / 2)
	return face.Box{MinX: c.col - half, MinY: c.row - half, MaxX: c.col + half, MaxY: c.row + half}
}

// bandWindows is the number of windows that the library scans between two checks of the
// context, which takes about 2 ms on one core.
const bandWindows = 10_000

// libraryScan finds faces in windows of at least smallest pixels. It calls the
// library's RunCascade for one window size and one band of rows at a time, so that ctx
// is checked every few milliseconds. The windows and scores are the same.
func libraryScan(ctx context.Context, cascade *pigo.Pigo, g luma.Plane, smallest int) ([]window, error) {
	var found []window
	// All pixels that a window of size s reads are within s/2+1 of its center.
	largest := min(g.Width, g.Height) - 2
	for size := smallest; size <= largest; size = nextSize(size, scaleFactor) {
		step := max(1, int(shiftFactor*float64(size)))
		margin := size/2 + 1
		rows := (g.Height-2*margin)/step + 1
		cols := (g.Width-2*margin)/step + 1
		band := max(1, bandWindows/cols)
		for first := 0; first < rows; first += band {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n := min(band, rows-first)
			top := first * step
			for _, d := range cascade.RunCascade(pigo.CascadeParams{
				MinSize: size, MaxSize: size, ShiftFactor: shiftFactor, ScaleFactor: scaleFactor,
				ImageParams: pigo.ImageParams{
					Pixels: g.Pix[top*g.Stride:],
					Rows:   2*margin + (n-1)*step,
					Cols:   g.Width,
					Dim:    g.Stride,
				},
			}, 0) {
				found = append(found, window{d.Row + top, d.Col, d.Scale, d.Q})
			}
		}
	}
	return found, nil
}

// libraryClusters is the library's ClusterDetections, which can take seconds, with
// checks of ctx. A window may count in more than one cluster.
func libraryClusters(ctx context.Context, windows []window) ([]cluster, error) {
	slices.SortStableFunc(windows, func(a, b window) int { return cmp.Compare(a.score, b.score) })
	var (
		clusters []cluster
		taken    = make([]bool, len(windows))
	)
	for i, w := range windows {
		if taken[i] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var (
			row, col, size, n int
			score             float32
		)
		for j, other := range windows {
			if windowIoU(w, other) > clusterIoU {
				taken[j] = true
				row, col, size, n = row+other.row, col+other.col, size+other.size, n+1
				score += other.score
			}
		}
		clusters = append(clusters, cluster{float64(row / n), float64(col / n), float64(size / n), float64(score)})
	}
	return clusters, nil
}
