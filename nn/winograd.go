package nn

import (
	"math"

	"github.com/mienproject/mien/internal/freelist"
)

// winograd is what a dense 3×3 convolution of stride 1 multiplies by, in the way of Lavin and
// Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): F(2×2, 3×3), which takes 4
// products for an output of an input rather than 9, or F(4×4, 3×3), which takes 2.25.
//
// A tile is d, pixels of the source, which make side × side pixels of the map:
//
//	Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
//
// For a side of 2:
//
//	     1  0 -1  0        1   0   0
//	Bᵀ = 0  1  1  0    G = ½   ½   ½    Aᵀ = 1  1  1  0
//	     0 -1  1  0        ½  -½   ½         0  1 -1 -1
//	     0  1  0 -1        0   0   1
//
// For a side of 4:
//
//	     4  0 -5  0  1  0       ¼    0    0
//	     0 -4 -4  1  1  0      -⅙   -⅙   -⅙         1  1  1  1  1  0
//	Bᵀ = 0  4 -4 -1  1  0  G = -⅙    ⅙   -⅙    Aᵀ = 0  1 -1  2 -2  0
//	     0 -2 -1  2  1  0      1/24 1/12  ⅙         0  1  1  4  4  0
//	     0  2 -1 -2  1  0      1/24 -1/12 ⅙         0  1 -1  8 -8  1
//	     0  4  0 -5  0  1       0    0    1
//
// Tiles are at rows and columns of the map that are multiples of the side, so that the bits do
// not depend on which part of it is computed. What the last tiles read outside of the source is
// zero, and what they make outside of the map is not used.
//
// The bias is where the sum at position (1, 1) begins, which is added to all pixels.
type winograd struct {
	side, positions int
	// inputs are the values of a source pixel that are multiplied: an even number, the last of
	// which may be zero.
	inputs int
	// weights is [blocks][positions][inputs][16], and [positions][inputs][8] at the end.
	weights []float32
	// bias is [blocks][16], slope that of negative outputs.
	bias, slope []float32
}

// maxTiles is how many tiles are computed at once: in whole blocks of the kernels, and so few
// that they stay in the second cache.
const maxTiles = 4 * tile

// newWinograds returns nil if a convolution cannot be computed in this way: it has to read
// whole vectors of another stage, and its sums must not become infinite.
func newWinograds(s *floatStage, bound float64) []*winograd {
	// Transformed tiles are up to 100 times as large, and sums of them up to 361 times.
	if w := s.window; w.rows != 3 || w.columns != 3 || w.stride != 1 || s.from.stage < 0 || s.slope == nil || !(36100*bound < maxFloat) {
		return nil
	}
	all := []*winograd{newWinograd(s, 2)}
	if len(s.weights) >= 9*minChannels {
		all = append(all, newWinograd(s, 4))
	}
	return all
}

// minChannels is from how many inputs times outputs on a side of 4 is worth its rounding errors,
// which are ten times as large. With fewer channels, most of the time goes into the
// transformations.
const minChannels = 1024

func newWinograd(s *floatStage, side int) *winograd {
	inputs := len(s.weights) / s.channels / 9
	vectors := vectorsOf(s.channels)
	f := &winograd{
		side: side, positions: (side + 2) * (side + 2), inputs: (inputs + 1) &^ 1,
		bias: make([]float32, 8*vectors), slope: make([]float32, 8*vectors),
	}
	f.weights = make([]float32, 8*vectors*f.positions*f.inputs)
	copy(f.bias, s.bias)
	copy(f.slope, s.slope)
	for first := 0; first < s.channels; first += 16 {
		weights, width := f.block(first / 16)
		for k := range inputs {
			var positions [maxPositions][16]float32
			for c := range min(16, s.channels-first) {
				u := transformed(side, s.weights[((first+c)*inputs+k)*9:][:9])
				for p, v := range u {
					positions[p][c] = v
				}
			}
			for p := range f.positions {
				copy(weights[(p*f.inputs+k)*width:][:width], positions[p][:])
			}
		}
	}
	return f
}

// transformed returns G g Gᵀ for a side of tiles, row by row. Its products are with powers of 2,
// and therefore exact.
func transformed(side int, g []float32) (u [maxPositions]float32) {
	n := side + 2
	var rows [3][maxWindow]float64
	for i := range rows {
		r := &rows[i]
		r[0], r[1], r[2], r[3], r[4], r[5] = spread(side, float64(g[3*i]), float64(g[3*i+1]), float64(g[3*i+2]))
	}
	for j := range n {
		a, b, c, d, e, f := spread(side, rows[0][j], rows[1][j], rows[2][j])
		u[j], u[n+j], u[2*n+j], u[3*n+j] = float32(a), float32(b), float32(c), float32(d) //nolint:gosec // n is up to maxWindow
		if side == 4 {
			u[4*n+j], u[5*n+j] = float32(e), float32(f)
		}
	}
	return u
}

// maxWindow is the side of what the larger tiles read, and maxPositions how many values that has.
const (
	maxWindow    = 6
	maxPositions = maxWindow * maxWindow
)

// spread multiplies by G, which has as many rows as the tiles' side and two more.
func spread(side int, a, b, c float64) (v0, v1, v2, v3, v4, v5 float64) {
	if side == 2 {
		return a, (a + b + c) / 2, (a - b + c) / 2, c, 0, 0
	}
	return a / 4, -(a + b + c) / 6, -(a - b + c) / 6, (a + float64(2*b) + float64(4*c)) / 24, (a - float64(2*b) + float64(4*c)) / 24, c
}

// block returns the weights for up to 16 outputs: width of them, which is 16 or 8.
func (f *winograd) block(i int) (weights []float32, width int) {
	width = min(16, len(f.bias)-16*i)
	return f.weights[16*i*f.positions*f.inputs:][:width*f.positions*f.inputs], width
}

// blocksOf returns how many blocks of the kernels some tiles are.
func blocksOf(tiles int) int { return (tiles + tile - 1) / tile }

// rowsOfTiles returns how many rows of tiles to compute at once, so that few tiles are computed
// in vain, and how many products that takes for each input and output.
func (f *winograd) rowsOfTiles(of size) (rows, products int) {
	perRow, all := (of.width+f.side-1)/f.side, (of.height+f.side-1)/f.side
	rows, products = 1, math.MaxInt
	for n := 1; n <= all && (n == 1 || n*perRow <= 2*maxTiles); n++ {
		if p := (all/n*blocksOf(n*perRow) + blocksOf(all%n*perRow)) * tile * f.positions; p < products {
			rows, products = n, p
		}
	}
	return rows, products
}

// fastest returns that of the convolutions which takes the fewest products for a map, and how
// many rows of the map it should compute at once.
func fastest(all []*winograd, of size) (best *winograd, rows int) {
	least := math.MaxInt
	for _, f := range all {
		if n, products := f.rowsOfTiles(of); products < least {
			best, rows, least = f, n*f.side, products
		}
	}
	return best, rows
}

// noBias is where sums begin at all positions but one.
var noBias [16]float32

// winogradRoom is the memory for tiles.
type winogradRoom struct {
	tiles, sums, edge []float32
	scratch           [36 * 8]float32
}

// convolve computes rows of a map, from a row on that is a multiple of the side. Both dst and
// src begin with that row.
func (f *winograd) convolve(r *winogradRoom, l *floatLink, dst, src []float32, source, begin, rows int) {
	perRow := (l.out.width + f.side - 1) / f.side
	pixel := len(f.slope)
	all := (rows + f.side - 1) / f.side * perRow
	for first := 0; first < all; first += maxTiles {
		n := min(maxTiles, all-first)
		blocks := blocksOf(n)
		srcPlane, sumPlane := blocks*tile*source, blocks*tile*pixel
		r.tiles = freelist.Resize(r.tiles, f.positions*srcPlane)
		r.sums = freelist.Resize(r.sums, f.positions*sumPlane)
		// Tiles of one row lie side by side.
		for i := 0; i < n; {
			y, x := (first+i)/perRow, (first+i)%perRow
			part := min(perRow-x, n-i)
			f.read(r, l, r.tiles[i*source:], src[f.side*(y*l.sourceRow+x*source):], source, srcPlane, l.in.height-begin-f.side*y, l.in.width-f.side*x, part)
			i += part
		}
		f.multiply(r.sums, r.tiles, source, pixel, blocks)
		for i := 0; i < n; {
			y, x := (first+i)/perRow, (first+i)%perRow
			part := min(perRow-x, n-i)
			f.output(dst[f.side*(y*l.row+x*pixel):], r.sums[i*pixel:], &r.scratch, sumPlane, l.row, part)
			i += part
		}
	}
}

// read transforms tiles that lie side by side, the first of which begins height rows and width
// columns before the end of the source.
func (f *winograd) read(r *winogradRoom, l *floatLink, dst, src []float32, source, plane, height, width, tiles int) {
	window := f.side + 2
	inside := 0
	if height >= window {
		inside = min(tiles, (width-2)/f.side)
	}
	if inside > 0 {
		f.input(dst, src, &r.scratch, l.sourceRow, source, plane, inside)
	}
	if inside == tiles {
		return
	}
	row := window * source
	r.edge = freelist.Resize(r.edge, window*row)
	for t := inside; t < tiles; t++ {
		clear(r.edge)
		left := f.side * t
		for y := range min(window, height) {
			copy(r.edge[y*row:], src[y*l.sourceRow+left*source:][:min(window, width-left)*source])
		}
		f.input(dst[t*source:], r.edge, &r.scratch, row, source, plane, 1)
	}
}

// multiply computes the sums of products at all positions of some blocks of tiles.
func (f *winograd) multiply(sums, tiles []float32, source, pixel, blocks int) {
	for b := range (len(f.bias) + 15) / 16 {
		weights, width := f.block(b)
		for p := range f.positions {
			start := noBias[:width]
			if p == f.side+3 {
				start = f.bias[16*b:][:width]
			}
			tileProducts(sums[p*blocks*tile*pixel+16*b:], tiles[p*blocks*tile*source:], weights[p*f.inputs*width:][:f.inputs*width],
				start, source, pixel, blocks)
		}
	}
}
