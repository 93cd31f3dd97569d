package nn

// imageFilter is what the first convolution of a network multiplies by if it is 3×3, of stride 1
// and of three channels: F(2×2, 3×3), as winograd has it. With so few inputs, the sums of a tile
// stay in registers until they are pixels.
//
// A transformed tile is [16 positions][3 channels].
type imageFilter struct {
	// weights is [vectors][16][3][8], and after [vectors][2][8]: the bias, and the slope of
	// negative outputs. wide and wideAfter are the same for vectors of 16.
	weights, after, wide, wideAfter []float32
	channels                        int
}

const (
	// imageTile is how many values a transformed tile has.
	imageTile = 16 * 3
	// imageTiles is how many tiles the kernels compute at once, or a divisor of it.
	imageTiles = 4
	// maxImageTiles is how many tiles are computed at once: so few that they stay in the first
	// cache.
	maxImageTiles = 64
	// imageWindow is the side of what a tile reads, and imageRow the values of one of its rows.
	imageWindow = 4
	imageRow    = imageWindow * 3
)

// newImageFilter returns nil if a convolution cannot be computed in this way, as newWinograds
// does.
func newImageFilter(s *floatStage, bound float64) *imageFilter {
	if w := s.window; w.rows != 3 || w.columns != 3 || w.stride != 1 || s.from.stage >= 0 || s.source != 3 || s.slope == nil || !(36*bound < maxFloat) {
		return nil
	}
	vectors := vectorsOf(s.channels)
	f := &imageFilter{channels: 8 * vectors}
	f.weights, f.after = imageWeights(s, 8, vectors)
	f.wide, f.wideAfter = imageWeights(s, 16, vectors/2)
	return f
}

// imageWeights returns those of some vectors of outputs.
func imageWeights(s *floatStage, width, vectors int) (weights, after []float32) {
	weights, after = make([]float32, vectors*imageTile*width), make([]float32, vectors*2*width)
	for c := range min(s.channels, vectors*width) {
		vector, lane := c/width, c%width
		after[2*vector*width+lane], after[(2*vector+1)*width+lane] = s.bias[c], s.slope[c]
		for k := range 3 {
			u := transformed(2, s.weights[(c*3+k)*9:][:9])
			for p := range imageWindow * imageWindow {
				weights[(vector*imageTile+3*p+k)*width+lane] = u[p]
			}
		}
	}
	return weights, after
}

// imageRoom is the memory for tiles, and for one at the edge of the image.
type imageRoom struct {
	tiles [maxImageTiles*imageTile + 1]float32
	edge  [imageWindow*imageRow + 1]float32
}

// convolve computes rows of a map, from an even one on: both dst and src begin with it.
func (f *imageFilter) convolve(r *imageRoom, l *floatLink, dst, src []float32, begin, rows int) {
	perRow := (l.out.width + 1) / 2
	for y := 0; y < rows; y += 2 {
		for x := 0; x < perRow; x += maxImageTiles {
			n := min(maxImageTiles, perRow-x)
			r.read(src[y*l.sourceRow+6*x:], l.sourceRow, l.in.height-begin-y, l.in.width-2*x, n)
			f.output(dst[y*l.row+2*x*f.channels:], r.tiles[:], l.row, (n+imageTiles-1)/imageTiles)
		}
	}
}

// read transforms tiles that lie side by side, the first of which begins height rows and width
// columns before the end of the image.
func (r *imageRoom) read(src []float32, row, height, width, tiles int) {
	inside := 0
	switch {
	case height > imageWindow:
		inside = (width - 2) / 2
	case height == imageWindow:
		inside = (width - 3) / 2 // the kernel reads a value more
	}
	if inside = max(0, min(inside, tiles)); inside > 0 {
		imageInputs(r.tiles[:], src, row, inside)
	}
	for t := inside; t < tiles; t++ {
		clear(r.edge[:])
		for y := range min(imageWindow, height) {
			copy(r.edge[y*imageRow:], src[y*row+6*t:][:3*min(imageWindow, width-2*t)])
		}
		imageInputs(r.tiles[t*imageTile:], r.edge[:], imageRow, 1)
	}
}

// output makes pixels of a row of tiles.
func (f *imageFilter) output(dst, tiles []float32, row, groups int) {
	done := f.outputWide(dst, tiles, row, groups)
	for v := done / 8; 8*v < f.channels; v++ {
		imageOutputs(dst[8*v:], tiles, f.weights[v*imageTile*8:][:imageTile*8], f.after[v*16:][:16], row, f.channels, groups)
	}
}
