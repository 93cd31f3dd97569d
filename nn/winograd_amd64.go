//go:build amd64 && !purego

package nn

// tilesOf transforms the source of tiles that lie side by side.
func tilesOf(dst, src []float32, row, pixel, plane, tiles int) {
	if !assembly {
		tilesOfGo(dst, src, row, pixel, plane, tiles)
		return
	}
	winogradInput(&dst[0], &src[0], row, pixel, plane, tiles, pixel/8)
}

// tileProducts computes the sums of products at one position of blocks of tiles, for as many
// outputs as start has.
func tileProducts(dst, src, weights, start []float32, srcTile, dstTile, blocks int) {
	values := len(weights) / len(start)
	switch {
	case !assembly:
		tileProductsGo(dst, src, weights, start, srcTile, dstTile, blocks)
	case len(start) == 16:
		winogradProducts16(&dst[0], &src[0], &weights[0], &start[0], values, srcTile, dstTile, blocks)
	default:
		winogradProducts8(&dst[0], &src[0], &weights[0], &start[0], values, srcTile, dstTile, blocks)
	}
}

// mapOf makes 2×2 pixels of each tile, of tiles that lie side by side.
func mapOf(dst, src, slope []float32, plane, row, tiles int) {
	if !assembly {
		mapOfGo(dst, src, slope, plane, row, tiles)
		return
	}
	winogradOutput(&dst[0], &src[0], &slope[0], plane, row, len(slope), tiles, len(slope)/8)
}
