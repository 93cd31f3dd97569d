//go:build amd64 && !purego

package nn

// denseFloats computes tiles of pixels of a block of width outputs.
func denseFloats(dst, src []float32, places []int32, taps []int, weights, after []float32, width, perTap, step, tiles int) {
	switch {
	case !assembly:
		denseFloatsGo(dst, src, places, taps, weights, after, width, perTap, step, tiles)
	case width == 16 && wide:
		denseWide(&dst[0], &src[0], &places[0], &taps[0], &weights[0], &after[0], len(taps), perTap, step, tiles)
	case width == 16:
		dense16(&dst[0], &src[0], &places[0], &taps[0], &weights[0], &after[0], len(taps), perTap, step, tiles)
	default:
		dense8(&dst[0], &src[0], &places[0], &taps[0], &weights[0], &after[0], len(taps), perTap, step, tiles)
	}
}

// poolFloats computes the maxima of side×side pixels, two pixels apart. columns are where the
// second and the third pixel of a window are.
func poolFloats(dst []float32, rows *[3][]float32, side int, columns [2]int, pixel, pixels int) {
	switch {
	case !assembly:
		poolFloatsGo(dst, rows, side, columns, pixel, pixels)
	case side == 2:
		poolFloats2(&dst[0], &rows[0][0], &rows[1][0], columns[0], pixel, pixels)
	default:
		poolFloats3(&dst[0], &rows[0][0], &rows[1][0], &rows[2][0], columns[0], columns[1], pixel, pixels)
	}
}

// softmaxPairs makes probabilities of pairs of values, whose number is a multiple of four.
func softmaxPairs(values []float32) {
	if !assembly || len(values) == 0 {
		softmaxPairsGo(values)
		return
	}
	softmaxFours(&values[0], len(values)/8)
}
