//go:build amd64 && !purego

package nn

import "golang.org/x/sys/cpu"

// assembly reports whether the kernels are the assembly. Tests change it.
var assembly = cpu.X86.HasAVX2

// wide reports whether the kernels that take most of the time use the vectors of AVX-512, with
// VNNI's products of integers, which hasWide says that the processor has. Tests change it.
var (
	hasWide = cpu.X86.HasAVX2 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512VNNI
	wide    = hasWide
)

// convSums computes float32(bias + sum of products) of pixels pixels. taps are the places in
// src of each tap's values of the first pixel.
func convSums(dst []float32, src []int16, taps []int, f *filter, dstBlock, pixel, pixels int) {
	if !assembly {
		f.convSums(dst, src, taps, dstBlock, pixel, pixels)
		return
	}
	conv := convFloat4
	if wide {
		conv = convFloat4Wide
	}
	conv(&dst[0], &src[0], &taps[0], &f.weights[0], &f.bias[0], dstBlock, pixel, pixels, f.taps, f.blocks)
}

// convInts computes the sums of products and what comes after them, and rounds to int16.
func convInts(dst, src []int16, taps []int, f *filter, after []float32, dstBlock, pixel, pixels int) {
	if !assembly {
		f.convInts(dst, src, taps, after, dstBlock, pixel, pixels)
		return
	}
	conv := convInt4
	switch {
	case f.pairs == 2 && wide:
		conv = convInt2Wide
	case f.pairs == 2:
		conv = convInt2
	case f.pairs == 5 && wide:
		conv = convInt5Wide
	case f.pairs == 5:
		conv = convInt5
	case wide:
		conv = convInt4Wide
	}
	conv(&dst[0], &src[0], &taps[0], &f.weights[0], &f.bias[0], &after[0], dstBlock, pixel, pixels, f.taps, f.blocks)
}

// depthwiseInts computes two rows after ReLU, in pairs of pixels, and the maxima of 2×2 of
// them. Weights are [blocks][9 taps and a bias][8]. Either the rows or the maxima may be
// nil.
func depthwiseInts(dst0, dst1, pool []int16, in *window, weights []float32, dstBlock, poolBlock, tiles, blocks int) {
	r := &in.rows
	switch {
	case !assembly:
		depthwiseIntsGo(dst0, dst1, pool, in, weights, dstBlock, poolBlock, tiles, blocks)
	case pool == nil:
		depthwiseReLU(&dst0[0], &dst1[0], &r[0][0], &r[1][0], &r[2][0], &r[3][0], &weights[0], dstBlock, in.srcBlock, tiles, blocks)
	case dst0 == nil:
		depthwisePool(&pool[0], &r[0][0], &r[1][0], &r[2][0], &r[3][0], &weights[0], poolBlock, in.srcBlock, tiles, blocks)
	default:
		depthwiseBoth(&dst0[0], &dst1[0], &pool[0], &r[0][0], &r[1][0], &r[2][0], &r[3][0], &weights[0], dstBlock, poolBlock, in.srcBlock, tiles, blocks)
	}
}

// depthwiseFloats computes two rows, without an activation.
func depthwiseFloats(dst0, dst1 []float32, in *window, weights []float32, dstBlock, tiles, blocks int) {
	if !assembly {
		depthwiseFloatsGo(dst0, dst1, in, weights, dstBlock, tiles, blocks)
		return
	}
	r := &in.rows
	depthwiseLinear(&dst0[0], &dst1[0], &r[0][0], &r[1][0], &r[2][0], &r[3][0], &weights[0], dstBlock, in.srcBlock, tiles, blocks)
}

// maxPool computes the maxima of len(rows)×len(rows) pixels, two pixels apart. It reads an
// even number of pixels, and one more for three rows.
func maxPool(dst []int16, rows [][]int16, dstBlock, srcBlock, pixels, blocks int) {
	switch {
	case !assembly:
		maxPoolGo(dst, rows, dstBlock, srcBlock, pixels, blocks)
	case len(rows) == 2:
		maxPool2(&dst[0], &rows[0][0], &rows[1][0], dstBlock, srcBlock, pixels, blocks)
	default:
		maxPool3(&dst[0], &rows[0][0], &rows[1][0], &rows[2][0], dstBlock, srcBlock, pixels, blocks)
	}
}

// addRows adds each pixel of one block of coarse to two of fine.
func addRows(dst, fine, coarse []int16, pairs int) {
	if !assembly {
		addRowsGo(dst, fine, coarse, pairs)
		return
	}
	addUpsampled(&dst[0], &fine[0], &coarse[0], pairs)
}

// quantize multiplies by scale and rounds. Products have to be within int16.
func quantize(dst []int16, src []float32, scale float32) {
	done := 0
	if whole := len(src) &^ 15; assembly && whole > 0 {
		quantize16(&dst[0], &src[0], scale, whole)
		done = whole
	}
	quantizeGo(dst[done:], src[done:], scale)
}

// maxMagnitude returns the bits of the greatest magnitude. Those of infinity and of what is
// not a number are greater than those of numbers.
func maxMagnitude(src []float32) uint32 {
	greatest := uint32(0)
	done := 0
	if whole := len(src) &^ 15; assembly && whole > 0 {
		greatest = maxMagnitude16(&src[0], whole)
		done = whole
	}
	return max(greatest, maxMagnitudeGo(src[done:]))
}
