//go:build !amd64 || purego

package nn

func (f *winograd) input(dst, src []float32, _ *[36 * 8]float32, row, pixel, plane, tiles int) {
	f.inputGo(dst, src, row, pixel, plane, tiles)
}

func tileProducts(dst, src, weights, start []float32, srcTile, dstTile, blocks int) {
	tileProductsGo(dst, src, weights, start, srcTile, dstTile, blocks)
}

func (f *winograd) output(dst, src []float32, _ *[36 * 8]float32, plane, row, tiles int) {
	f.outputGo(dst, src, plane, row, tiles)
}
