//go:build amd64 && !purego

package nn

// imageInputs transforms tiles of an image that lie side by side. It writes a value more than
// they have, and reads one more than their rows.
func imageInputs(dst, src []float32, row, tiles int) {
	if !assembly {
		imageInputsGo(dst, src, row, tiles)
		return
	}
	imageInput(&dst[0], &src[0], row, tiles)
}

// imageOutputs makes 8 channels of the pixels of groups of tiles.
func imageOutputs(dst, tiles, weights, after []float32, row, pixel, groups int) {
	if !assembly {
		imageOutputsGo(dst, tiles, weights, after, row, pixel, groups)
		return
	}
	imageOutput(&dst[0], &tiles[0], &weights[0], &after[0], row, pixel, groups*imageTiles/2)
}

// outputWide makes the channels for which there are wide vectors, and returns how many.
func (f *imageFilter) outputWide(dst, tiles []float32, row, groups int) int {
	if !assembly || !wide {
		return 0
	}
	done := 0
	for ; done+16 <= f.channels; done += 16 {
		imageOutputWide(&dst[done], &tiles[0], &f.wide[done*imageTile], &f.wideAfter[2*done], row, f.channels, groups)
	}
	return done
}
