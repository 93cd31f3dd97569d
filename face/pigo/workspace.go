package pigo

// workspace is the memory of a call to Detect, kept for the next one.
type workspace struct {
	luminance []uint8 // of an image that has it not as it is
	levels    pyramid
	bands     []band
	windows   []window
	clusters  []cluster
}

// maxKept is how many bytes a workspace may have to be kept: those of an image
// of 40 megapixels with a luminance plane, or of 12 without.
const maxKept = 16 << 20

// release gives back a workspace, without the image that it was used for.
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
