package pigo

// workspace is the memory of a call to Detect, which is kept for the next one.
type workspace struct {
	luminance []uint8 // memory for images whose luminance must be computed
	levels    pyramid
	bands     []band
	windows   []window
	clusters  []cluster
}

// maxKept is the maximum size in bytes of a workspace that is kept: enough for an image
// of 40 megapixels with a luminance plane, or of 12 without.
const maxKept = 16 << 20

// release returns a workspace to the pool, without references to the image.
func (d *Detector) release(w *workspace) {
	clear(w.bands)
	clear(w.levels[:min(1, len(w.levels))])
	kept := cap(w.luminance)
	for _, l := range w.levels[:cap(w.levels)] {
		kept += cap(l.Pix)
	}
	if cap(w.windows) > maxWindowsKept {
		w.windows = nil
	}
	if kept <= maxKept {
		d.workspaces.Put(w)
	}
}
