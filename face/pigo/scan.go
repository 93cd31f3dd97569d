package pigo

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/luma"
)

// Parameters of the scan. The calibration in calibration.go depends on them: a denser
// scan gives higher scores.
const (
	// shiftFactor is the distance of neighboring windows relative to their size.
	shiftFactor = 0.1
	// scaleFactor is the ratio of neighboring window sizes.
	scaleFactor = 1.1
	// minWindow is the smallest window in pixels. With smaller windows the scan would
	// lose more precision than it gains faces.
	minWindow = 20
	// windowBudget is the approximate maximum number of windows in a scan for which the
	// caller sets no smallest face. It takes about 40 ms on one core, and finds all
	// faces of 20 pixels in images of up to a megapixel.
	windowBudget = 1.5e6
)

// window is a window that the cascade accepts: a square of side size around (col, row),
// in pixels, with a score above 0.
type window struct {
	row, col, size int
	score          float32
}

// smallestWindow returns the smallest window that keeps a scan of width × height
// pixels within windowBudget.
func smallestWindow(width, height int) int {
	// A scan has pixels / (shift·size)² windows of each size. Sizes grow by
	// scaleFactor, so the sum is a geometric series.
	perSize := float64(width) * float64(height) / (shiftFactor * shiftFactor)
	series := 1 / (1 - 1/(scaleFactor*scaleFactor))
	return max(minWindow, int(math.Ceil(math.Sqrt(perSize*series/windowBudget))))
}

// pyramid has an image at decreasing sizes: each level has half the width and height of
// the previous one, and each pixel is the mean of four.
type pyramid []luma.Plane

// A level is scanned for windows from levelWindow to twice that, and the first level
// also for smaller windows. The cascade compares single pixels, so noise disturbs it
// where faces have many pixels. On labeled faces the pyramid finds more faces than a
// scan of the original image, and its results depend less on how the image was encoded.
// docs/calibration.md has the numbers.
const levelWindow = 40

// reduce returns the levels of img, in the memory of p's levels.
func (p pyramid) reduce(img luma.Plane) pyramid {
	p = append(p[:0], img)
	for min(img.Width, img.Height) >= 2*(levelWindow+2) {
		var pix []uint8
		if l := len(p); l < cap(p) {
			pix = p[:l+1][l].Pix
		}
		img = img.Half(pix)
		p = append(p, img)
	}
	return p
}

// bands appends the bands of a scan for faces in windows of at least smallest pixels.
func (p pyramid) bands(all []band, smallest int) []band {
	for l, img := range p {
		factor := 1 << l
		from := max(levelWindow, smallest/factor)
		if l == 0 {
			from = smallest
		}
		to := 2*levelWindow - 1
		if l == len(p)-1 {
			to = min(img.Width, img.Height) - 2
		}
		all = sizes{from, to, shiftFactor, scaleFactor}.bands(all, img, factor)
	}
	return all
}

// clusterIoU is the IoU above which two windows belong to the same face.
const clusterIoU = 0.2

// maxClusters is the number of clusters of an image that are examined: those with the best
// windows. Each is scanned again and gets landmarks, which takes a millisecond or two, and
// merge compares it with all windows that are left.
const maxClusters = 2000

// cluster is a group of windows that belong to the same face. row, col and size are
// their means in pixels, weighted by score.
type cluster struct {
	row, col, size float64
	score          float64 // sum of the windows' scores
}

func (c *cluster) add(w window) {
	q := float64(w.score)
	c.row += float64(q * float64(w.row))
	c.col += float64(q * float64(w.col))
	c.size += float64(q * float64(w.size))
	c.score += q
}

// center returns the middle of c, in the coordinate frame of landmarks.
func (c *cluster) center() face.Point { return face.Point{X: c.col, Y: c.row} }

// settle converts the weighted sums to means.
func (c *cluster) settle() {
	c.row /= c.score
	c.col /= c.score
	c.size /= c.score
}

// merge groups windows. The best remaining window takes all windows that overlap it,
// until none is left, so each window counts once and the order of the input does not
// matter. merge reorders windows and appends at most maxClusters to clusters. truncated is
// true if there are more.
func merge(ctx context.Context, windows []window, clusters []cluster) (merged []cluster, truncated bool, err error) {
	slices.SortFunc(windows, func(a, b window) int {
		return cmp.Or(cmp.Compare(b.score, a.score),
			cmp.Compare(a.row, b.row), cmp.Compare(a.col, b.col), cmp.Compare(a.size, b.size))
	})
	for limit := len(clusters) + maxClusters; len(windows) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		if len(clusters) == limit {
			return clusters, true, nil
		}
		best, left := windows[0], windows[:0]
		var c cluster
		for _, w := range windows {
			if windowIoU(best, w) > clusterIoU {
				c.add(w)
			} else {
				left = append(left, w)
			}
		}
		c.settle()
		clusters = append(clusters, c)
		windows = left
	}
	return clusters, false, nil
}

// Parameters of the second scan.
const (
	closeShift = 0.05
	closeScale = 1.05
	// How far sizes and positions may differ from those of the cluster, relative to its
	// size.
	closeSmaller = 0.75
	closeLarger  = 1.34
	closeReach   = 0.25
	// Windows that overlap the cluster less than this belong to another face.
	closeIoU = 0.3
	// closeSmallest is in pixels. In smaller windows, the cascade's pairs would be less
	// than a pixel apart.
	closeSmallest = 12
)

// rescan scans the neighborhood of a cluster more densely than would be possible for
// the whole image, on the level on which its windows have at least levelWindow pixels.
// The result of a coarse scan depends on where its points happen to be; that of rescan
// does not. If nothing is found, the returned cluster has a score of 0.
func (p pyramid) rescan(ctx context.Context, cascade *faceCascade, c cluster) (cluster, error) {
	level, factor := 0, 1.0
	for level+1 < len(p) && c.size >= 2*levelWindow*factor {
		level++
		factor *= 2
	}
	img := p[level]
	center := window{row: int(c.row / factor), col: int(c.col / factor), size: int(c.size / factor)}
	size := float64(center.size)
	reach := int(size*(closeLarger/2+closeReach)) + 2
	top, bottom := max(0, center.row-reach), min(img.Height, center.row+reach+1)
	left, right := max(0, center.col-reach), min(img.Width, center.col+reach+1)

	around := luma.Plane{
		Pix:   img.Pix[top*img.Stride+left:],
		Width: right - left, Height: bottom - top, Stride: img.Stride,
	}
	r := rooms.Get().(*room)
	defer r.release()
	r.bands = sizes{
		smallest: max(closeSmallest, int(size*closeSmaller)),
		largest:  min(int(math.Round(size*closeLarger)), min(around.Width, around.Height)-2),
		shift:    closeShift, scale: closeScale,
	}.bands(r.bands[:0], around, 1)
	var err error
	if r.windows, err = cascade.scan(ctx, r, r.bands, r.windows[:0]); err != nil {
		return cluster{}, err
	}
	var near cluster
	for _, w := range r.windows {
		w.row += top
		w.col += left
		if windowIoU(center, w) >= closeIoU {
			near.add(w)
		}
	}
	if near.score == 0 {
		return cluster{}, nil
	}
	near.settle()
	// The position of a pixel of this level is the middle of factor pixels of the
	// image.
	middle := float64((factor - 1) / 2)
	near.row = float64(near.row*factor) + middle
	near.col = float64(near.col*factor) + middle
	near.size *= factor
	return near, nil
}

func windowIoU(a, b window) float64 {
	half := float64(float64(a.size+b.size) / 2)
	dr := half - math.Abs(float64(a.row-b.row))
	dc := half - math.Abs(float64(a.col-b.col))
	if dr <= 0 || dc <= 0 {
		return 0
	}
	sa, sb := float64(a.size), float64(b.size)
	inter := float64(min(dr, sa, sb) * min(dc, sa, sb))
	return inter / (float64(sa*sa) + float64(sb*sb) - inter)
}
