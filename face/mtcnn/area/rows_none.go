//go:build !amd64 || purego

package area

func addRows(dst []uint16, src []uint8, stride, rows int) { addRowsGo(dst, src, stride, rows) }

func scaleBytes(dst []float32, src []uint8, pairs []pair, sums []int32) {
	scaleRowGo(dst, src, pairs, sums)
}

func scaleSums(dst []float32, src []uint16, pairs []pair, sums []int32) {
	scaleRowGo(dst, src, pairs, sums)
}

func addRow(sum, row []float32, weight float32) { addRowGo(sum, row, weight) }

func store(dst, sum []float32, step, pixels int, r rounding) { storeGo(dst, sum, step, pixels, r) }
