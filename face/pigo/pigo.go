// Package pigo is the face detector that is built into the binary: the pixel-pair
// cascade of github.com/esimov/pigo, its landmark cascades, and a calibration that
// converts scores to probabilities. It finds upright, roughly frontal faces of at least
// 20 pixels, and needs only luminance.
package pigo

import (
	"context"
	_ "embed" // for the cascade
	"fmt"
	"image"
	"math"
	"slices"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face"
	"github.com/mienproject/mien/face/landmark"
	"github.com/mienproject/mien/face/luma"
	"github.com/mienproject/mien/internal/freelist"
)

// faceFinder is the cascade of github.com/esimov/pigo v1.4.6, MIT licensed; see
// cascade/LICENSE. It is copied because go:embed does not reach into another module.
//
//go:embed cascade/facefinder
var faceFinder []byte

// Version is the version of the cascades, the scan and the calibration together. It
// changes whenever the same image may give different faces.
const Version = "1.4.6+5"

// Detector is the embedded model. It is immutable and therefore safe for concurrent
// use. All calls share its cascades.
type Detector struct {
	landmarker *landmark.Landmarker
	faces      *faceCascade
	gate       *cores.Gate

	workspaces freelist.List[*workspace]
}

var _ face.Detector = (*Detector)(nil)

// New parses the embedded cascades. A call that has the gate to itself uses all of its
// cores, and fewer while others compute; the faces are the same. If the gate is nil,
// each call uses one core. An error means that the binary is broken.
func New(gate *cores.Gate) (*Detector, error) {
	if gate == nil {
		gate = cores.NewGate(1)
	}
	faces, err := parseFaceCascade(faceFinder)
	if err != nil {
		return nil, fmt.Errorf("face cascade: %w", err)
	}
	l, err := landmark.New()
	if err != nil {
		return nil, err
	}
	d := &Detector{landmarker: l, faces: faces, gate: gate}
	d.workspaces.New = func() *workspace { return new(workspace) }
	return d, nil
}

// Info implements face.Detector.
func (d *Detector) Info() face.Info {
	return face.Info{
		Family:        "pigo",
		Version:       Version,
		Landmarks:     true,
		MinConfidence: defaultMinConfidence,
		MinFaceSize:   minWindow,
	}
}

// Detect implements face.Detector. The number of windows in a scan is about the number
// of pixels in the image divided by the square of a tenth of the smallest face. If the
// caller lets the detector choose the smallest face, it is 20 pixels up to a megapixel,
// and above that it grows with the square root of the area.
func (d *Detector) Detect(ctx context.Context, img image.Image, opts face.Options) ([]face.Face, error) {
	d.gate.Enter(ctx)
	defer d.gate.Leave(ctx)
	w := d.workspaces.Get()
	defer d.release(w)
	g := luma.Of(img, &w.luminance)
	candidates, truncated, err := d.candidates(ctx, w, g, smallestFor(g.Width, g.Height, opts.MinFaceSize))
	if err != nil {
		return nil, err
	}
	if truncated && opts.Truncated != nil {
		opts.Truncated()
	}
	// The size counts before clamping, because a face does not become smaller when the
	// edge of the image cuts it. The box of the smallest window is somewhat smaller
	// than the window, and is what Info reports.
	if opts.MinFaceSize > minWindow {
		candidates = slices.DeleteFunc(candidates, func(c cluster) bool {
			box := c.box()
			return max(box.Width(), box.Height()) < opts.MinFaceSize
		})
	}
	faces := make([]face.Face, len(candidates))
	err = d.gate.Do(len(candidates), func(i int) error {
		c := candidates[i]
		found := d.landmarker.Find(g, c.center(), c.size)
		faces[i] = face.Face{Box: c.box().Clamp(g.Width, g.Height), Confidence: confidence(evidenceOf(c, found))}
		if !opts.SkipLandmarks {
			faces[i].Landmarks = &found.Landmarks
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	faces, err = face.Suppress(ctx, faces, face.Compare, func(kept, f *face.Face) bool { return samePlace(kept.Box, f.Box) })
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(faces, func(f face.Face) bool { return !(f.Confidence >= opts.MinConfidence) }); i >= 0 {
		faces = faces[:i]
	}
	if opts.MaxResults > 0 && len(faces) > opts.MaxResults {
		faces = faces[:opts.MaxResults]
	}
	return faces, nil
}

// Input implements face.Detector.
func (d *Detector) Input(width, height int, opts face.Options) face.Input {
	n := face.Input{Gray: true, Reduce: 1, BytesPerPixel: luma.BytesPerPixel}
	smallest := smallestFor(width, height, opts.MinFaceSize)
	if smallest < smallestWindow(width, height) {
		n.BytesPerPixel += windowBytes
	}
	for smallest >= 2*n.Reduce*minReduced {
		n.Reduce *= 2
	}
	return n
}

// windowBytes is the memory for the windows that the cascade accepts in a scan for smaller faces
// than usual, for each pixel. A crowd of faces of 32 pixels, side by side, takes 3.1, and other
// images much less (TestMemory). The windows of the usual scan take the room that other steps
// leave.
const windowBytes = 5

// minReduced is the smallest window, in pixels, to which an image may be reduced. If
// images of 12 megapixels are halved to it, as many faces and fewer false ones are
// found, and the error of landmarks is up to a tenth larger. At a quarter of the size,
// faces are lost (docs/performance.md).
const minReduced = 32

// smallestFor returns the smallest window of a scan for faces of at least minFaceSize
// pixels. For 0, the detector chooses the size.
func smallestFor(width, height int, minFaceSize float64) int {
	if minFaceSize <= 0 {
		return smallestWindow(width, height)
	}
	// A face that is just large enough may be found in a window one step smaller.
	return int(max(minWindow, min(minFaceSize/(longerSide*scaleFactor), math.MaxInt32)))
}

// candidates returns the places that may be faces, each scanned twice, and whether there may
// be more. They are valid until w is used again.
func (d *Detector) candidates(ctx context.Context, w *workspace, img luma.Plane, smallest int) (places []cluster, truncated bool, err error) {
	w.levels = w.levels.reduce(img)
	w.bands = w.levels.bands(w.bands[:0], smallest)
	if w.windows, err = d.faces.scanParallel(ctx, d.gate, w.bands, w.windows[:0]); err != nil {
		return nil, false, err
	}
	if w.clusters, truncated, err = merge(ctx, w.windows, w.clusters[:0]); err != nil {
		return nil, false, err
	}
	err = d.gate.Do(len(w.clusters), func(i int) (err error) {
		w.clusters[i], err = w.levels.rescan(ctx, d.faces, w.clusters[i])
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return slices.DeleteFunc(w.clusters, func(c cluster) bool { return c.score == 0 }), truncated, nil
}

// duplicateOverlap is the share of the smaller box above which two boxes are the same
// face, because windows on the eyes or the mouth of a large face form clusters of their
// own.
const duplicateOverlap = 0.5

// samePlace reports whether a and b overlap by more than duplicateOverlap.
func samePlace(a, b face.Box) bool {
	smaller := min(a.Area(), b.Area())
	return smaller > 0 && face.Intersect(a, b)/smaller > duplicateOverlap
}
