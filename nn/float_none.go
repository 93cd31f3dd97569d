//go:build !amd64 || purego

package nn

func denseFloats(dst, src []float32, places []int32, taps []int, weights, after []float32, width, perTap, step, tiles int) {
	denseFloatsGo(dst, src, places, taps, weights, after, width, perTap, step, tiles)
}

func poolFloats(dst []float32, rows *[3][]float32, side int, columns [2]int, pixel, pixels int) {
	poolFloatsGo(dst, rows, side, columns, pixel, pixels)
}

func softmaxPairs(values []float32) { softmaxPairsGo(values) }
