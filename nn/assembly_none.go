//go:build !amd64 || purego

package nn

// assembly reports whether the kernels are the assembly: there is none for this processor,
// or the build tag purego leaves it out.
const assembly = false

func convSums(dst []float32, src []int16, taps []int, f *filter, dstBlock, pixel, pixels int) {
	f.convSums(dst, src, taps, dstBlock, pixel, pixels)
}

func convInts(dst, src []int16, taps []int, f *filter, after []float32, dstBlock, pixel, pixels int) {
	f.convInts(dst, src, taps, after, dstBlock, pixel, pixels)
}

func depthwiseInts(dst0, dst1, pool []int16, in *window, weights []float32, dstBlock, poolBlock, tiles, blocks int) {
	depthwiseIntsGo(dst0, dst1, pool, in, weights, dstBlock, poolBlock, tiles, blocks)
}

func depthwiseFloats(dst0, dst1 []float32, in *window, weights []float32, dstBlock, tiles, blocks int) {
	depthwiseFloatsGo(dst0, dst1, in, weights, dstBlock, tiles, blocks)
}

func maxPool(dst []int16, rows [][]int16, dstBlock, srcBlock, pixels, blocks int) {
	maxPoolGo(dst, rows, dstBlock, srcBlock, pixels, blocks)
}

func addRows(dst, fine, coarse []int16, pairs int) { addRowsGo(dst, fine, coarse, pairs) }

func quantize(dst []int16, src []float32, scale float32) { quantizeGo(dst, src, scale) }

func maxMagnitude(src []float32) uint32 { return maxMagnitudeGo(src) }
