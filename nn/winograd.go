package nn

import "math"

// winograd is what a dense 3×3 convolution of stride 1 multiplies by, in the way of Lavin and
// Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), for 2×2 outputs: F(2×2,
// 3×3). It takes 4 products for an output of an input, rather than 9.
//
// A tile is 4×4 pixels d of the source, which make 2×2 pixels of the map:
//
//	Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
//
//	     1  0 -1  0        1   0   0
//	Bᵀ = 0  1  1  0    G = ½   ½   ½    Aᵀ = 1  1  1  0
//	     0 -1  1  0        ½  -½   ½         0  1 -1 -1
//	     0  1  0 -1        0   0   1
//
// Tiles are at even rows and columns of the map, so that the bits do not depend on which part
// of it is computed. What the last tile has outside of the map is not used.
//
// The bias is where the sum at position (1, 1) begins, which is added to all four pixels.
type winograd struct {
	// inputs are the values of a source pixel that are multiplied: an even number, the last of
	// which may be zero.
	inputs int
	// weights is [blocks][16 positions][inputs][16], and [16][inputs][8] at the end.
	weights []float32
	// bias is [blocks][16], slope that of negative outputs.
	bias, slope []float32
}

// positions are the values of a transformed tile.
const positions = 16

// maxTiles is how many tiles are computed at once: in whole blocks of the kernels, and so few
// that they stay in the second cache.
const maxTiles = 8 * tile

// newWinograd returns nil if a convolution cannot be computed in this way: it has to read
// whole vectors of another stage, and its sums must not become infinite.
func newWinograd(s *floatStage, bound float64) *winograd {
	// Transformed tiles and sums are 36 times as large at most.
	if w := s.window; w.rows != 3 || w.columns != 3 || w.stride != 1 || s.from.stage < 0 || s.slope == nil || !(36*bound < maxFloat) {
		return nil
	}
	inputs := len(s.weights) / s.channels / 9
	vectors := vectorsOf(s.channels)
	f := &winograd{inputs: (inputs + 1) &^ 1, bias: make([]float32, 8*vectors), slope: make([]float32, 8*vectors)}
	f.weights = make([]float32, 8*vectors*positions*f.inputs)
	copy(f.bias, s.bias)
	copy(f.slope, s.slope)
	for c := range s.channels {
		weights, width := f.block(c / 16)
		for k := range inputs {
			for p, v := range transformed(s.weights[(c*inputs+k)*9:][:9]) {
				weights[(p*f.inputs+k)*width+c%16] = v
			}
		}
	}
	return f
}

// transformed returns G g Gᵀ. Its products are with powers of 2, and therefore exact.
func transformed(g []float32) (u [positions]float32) {
	spread := func(a, b, c float64) [4]float64 {
		return [4]float64{a, (a + b + c) / 2, (a - b + c) / 2, c}
	}
	var rows [3][4]float64
	for i := range rows {
		rows[i] = spread(float64(g[3*i]), float64(g[3*i+1]), float64(g[3*i+2]))
	}
	for j := range 4 {
		for i, v := range spread(rows[0][j], rows[1][j], rows[2][j]) {
			u[4*i+j] = float32(v)
		}
	}
	return u
}

// block returns the weights for up to 16 outputs: width of them, which is 16 or 8.
func (f *winograd) block(i int) (weights []float32, width int) {
	width = min(16, len(f.bias)-16*i)
	return f.weights[16*i*positions*f.inputs:][:width*positions*f.inputs], width
}

// rowsOfTiles returns how many rows of tiles to compute at once, so that few tiles are computed
// in vain.
func rowsOfTiles(of size) int {
	perRow, rows := (of.width+1)/2, (of.height+1)/2
	whole := func(tiles int) int { return (tiles + tile - 1) / tile }
	best, least := 1, math.MaxInt
	for n := 1; n <= rows && (n == 1 || n*perRow <= 2*maxTiles); n++ {
		if blocks := rows/n*whole(n*perRow) + whole(rows%n*perRow); blocks < least {
			best, least = n, blocks
		}
	}
	return best
}

// noBias is where sums begin at all positions but one.
var noBias [16]float32

// winogradRoom is the memory for tiles.
type winogradRoom struct{ tiles, sums []float32 }

// convolve computes rows of a map: those of source row begin and the following, an even number
// of them or the last ones.
func (f *winograd) convolve(r *winogradRoom, l *floatLink, dst, src []float32, source, rows int) {
	perRow := (l.out.width + 1) / 2
	pixel := len(f.slope)
	all := (rows + 1) / 2 * perRow
	for first := 0; first < all; first += maxTiles {
		n := min(maxTiles, all-first)
		blocks := (n + tile - 1) / tile
		srcPlane, sumPlane := blocks*tile*source, blocks*tile*pixel
		r.tiles = grown(r.tiles, positions*srcPlane)
		r.sums = grown(r.sums, positions*sumPlane)
		// Tiles of one row lie side by side.
		for i := 0; i < n; {
			y, x := (first+i)/perRow, (first+i)%perRow
			part := min(perRow-x, n-i)
			tilesOf(r.tiles[i*source:], src[2*(y*l.sourceRow+x*source):], l.sourceRow, source, srcPlane, part)
			i += part
		}
		f.multiply(r.sums, r.tiles, source, pixel, blocks)
		for i := 0; i < n; {
			y, x := (first+i)/perRow, (first+i)%perRow
			part := min(perRow-x, n-i)
			mapOf(dst[2*(y*l.row+x*pixel):], r.sums[i*pixel:], f.slope, sumPlane, l.row, part)
			i += part
		}
	}
}

// multiply computes the sums of products at all positions of some blocks of tiles.
func (f *winograd) multiply(sums, tiles []float32, source, pixel, blocks int) {
	for b := range (len(f.bias) + 15) / 16 {
		weights, width := f.block(b)
		for p := range positions {
			start := noBias[:width]
			if p == 5 {
				start = f.bias[16*b:][:width]
			}
			tileProducts(sums[p*blocks*tile*pixel+16*b:], tiles[p*blocks*tile*source:], weights[p*f.inputs*width:][:f.inputs*width],
				start, source, pixel, blocks)
		}
	}
}
