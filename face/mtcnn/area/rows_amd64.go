//go:build amd64 && !purego

package area

import "golang.org/x/sys/cpu"

// assembly reports whether the kernels are the assembly. Tests change it.
var assembly = cpu.X86.HasAVX2

func addRows(dst []uint16, src []uint8, stride, rows int) {
	const block = 32
	if !assembly || len(dst) < block {
		addRowsGo(dst, src, stride, rows)
		return
	}
	_ = src[(rows-1)*stride:][:len(dst)]
	addRowsAVX2(&dst[0], &src[0], stride, rows, len(dst)/block)
	if last := len(dst) - block; last%block != 0 {
		addRowsAVX2(&dst[last], &src[last], stride, rows, 1)
	}
}

func scaleBytes(dst []float32, src []uint8, pairs []pair, sums []int32) {
	if !assembly {
		scaleRowGo(dst, src, pairs, sums)
		return
	}
	scaleBytesAVX2(&dst[0], &src[0], &pairs[0].first[0], &sums[0], len(src)/4, len(pairs))
}

func scaleSums(dst []float32, src []uint16, pairs []pair, sums []int32) {
	if !assembly {
		scaleRowGo(dst, src, pairs, sums)
		return
	}
	scaleSumsAVX2(&dst[0], &src[0], &pairs[0].first[0], &sums[0], len(src)/4, len(pairs))
}

func addRow(sum, row []float32, weight float32) {
	if !assembly {
		addRowGo(sum, row, weight)
		return
	}
	addRowAVX2(&sum[0], &row[0], weight, len(sum)/8)
}

func store(dst, sum []float32, step, pixels int, r rounding) {
	if !assembly {
		storeGo(dst, sum, step, pixels, r)
		return
	}
	storeAVX2(&dst[0], &sum[0], step, pixels, int(r))
}
