//go:build amd64 && !purego

package nn

// input transforms the source of tiles that lie side by side.
func (f *winograd) input(dst, src []float32, scratch *[36 * 8]float32, row, pixel, plane, tiles int) {
	switch {
	case !assembly:
		f.inputGo(dst, src, row, pixel, plane, tiles)
	case f.side == 2:
		winogradInput2(&dst[0], &src[0], row, pixel, plane, tiles, pixel/8)
	default:
		winogradInput4(&dst[0], &src[0], &scratch[0], row, pixel, plane, tiles, pixel/8)
	}
}

// tileProducts computes the sums of products at one position of blocks of tiles, for as many
// outputs as start has.
func tileProducts(dst, src, weights, start []float32, srcTile, dstTile, blocks int) {
	values := len(weights) / len(start)
	switch {
	case !assembly:
		tileProductsGo(dst, src, weights, start, srcTile, dstTile, blocks)
	case len(start) == 16 && wide:
		winogradProductsWide(&dst[0], &src[0], &weights[0], &start[0], values, srcTile, dstTile, blocks)
	case len(start) == 16:
		winogradProducts16(&dst[0], &src[0], &weights[0], &start[0], values, srcTile, dstTile, blocks)
	default:
		winogradProducts8(&dst[0], &src[0], &weights[0], &start[0], values, srcTile, dstTile, blocks)
	}
}

// output makes the pixels of tiles that lie side by side.
func (f *winograd) output(dst, src []float32, scratch *[36 * 8]float32, plane, row, tiles int) {
	pixel := len(f.slope)
	switch {
	case !assembly:
		f.outputGo(dst, src, plane, row, tiles)
	case f.side == 2:
		winogradOutput2(&dst[0], &src[0], &f.slope[0], plane, row, pixel, tiles, pixel/8)
	default:
		winogradOutput4(&dst[0], &src[0], &f.slope[0], &scratch[0], plane, row, pixel, tiles, pixel/8)
	}
}
