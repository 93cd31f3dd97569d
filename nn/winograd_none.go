//go:build !amd64 || purego

package nn

func tilesOf(dst, src []float32, row, pixel, plane, tiles int) {
	tilesOfGo(dst, src, row, pixel, plane, tiles)
}

func tileProducts(dst, src, weights, start []float32, srcTile, dstTile, blocks int) {
	tileProductsGo(dst, src, weights, start, srcTile, dstTile, blocks)
}

func mapOf(dst, src, slope []float32, plane, row, tiles int) {
	mapOfGo(dst, src, slope, plane, row, tiles)
}
