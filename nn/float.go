package nn

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mienproject/mien/internal/freelist"
)

// floatNetwork is a network that is computed with float32: one of dense convolutions without
// padding, max pools and matrix products. Each of its maps is made of one other, so that what
// gives an output, or what a matrix product takes, is at the end of a chain of stages.
//
// Rows of maps lie in memory as [pixels][channels], with the channels filled up to whole
// vectors of 8. Each sum begins with the bias, and adds the products in the order of the
// window's rows, columns and channels. 3×3 convolutions are computed in tiles, with fewer
// products (winograd.go; image.go for the first one).
type floatNetwork struct {
	*network
	stages []floatStage
	// chains are the stages of each chain, from the input on.
	chains [][]int
	// These are memory for the next runs.
	runs  freelist.List[*floatRun]
	rooms freelist.List[*floatRoom]
}

// floatStage is a stage, and its weights for the kernels.
type floatStage struct {
	*stage
	// filter is that of a convolution, unless it is computed in tiles: of the image, or of what
	// another stage makes, of the one or the other size.
	filter *floatFilter
	image  *imageFilter
	tiles  []*winograd
	// pixel is the distance of pixels in the stage's map, and source that in the map that it
	// reads.
	pixel, source int
	// taps are those of a matrix product: its window is the whole map.
	taps []int
	// products is how many products a convolution adds up for a pixel.
	products int
}

// appendTaps appends where each tap is in a window, for a source whose rows have that distance.
func (s *floatStage) appendTaps(taps []int, row int) []int {
	for y := range s.window.rows {
		for x := range s.filter.tapsPerRow {
			taps = append(taps, y*row+x*s.source)
		}
	}
	return taps
}

// floatFilter is what a dense convolution multiplies by.
type floatFilter struct {
	// A tap is perTap values of a window that lie side by side: a row of it if the source's
	// pixels do, or else a pixel. tapsPerRow are those of one row.
	taps, tapsPerRow, perTap int
	// vectors is the number of vectors of 8 outputs. Kernels take two at once, a block, and
	// at the end perhaps one.
	vectors int
	// weights is [blocks][taps][perTap][16], and [taps][perTap][8] at the end.
	weights []float32
	// after is [blocks][2][16], and [2][8] at the end: where the sums begin, and the slope
	// of negative ones.
	after []float32
}

// isDense reports whether a network has dense convolutions only, no depthwise ones.
func (n *network) isDense() bool {
	return !slices.ContainsFunc(n.stages, func(s *stage) bool { return s.op != convolve && s.op != pooling })
}

// vectorsOf returns the number of vectors for channels.
func vectorsOf(channels int) int { return (channels + 7) / 8 }

// maxFloat bounds all sums, so that none becomes infinite.
const maxFloat = math.MaxFloat32 / 4

// floats makes the weights of the kernels.
func (n *network) floats() (*floatNetwork, error) {
	if !n.interleaved {
		return nil, errors.New("a network of dense convolutions has to take images whose channels come last")
	}
	f := &floatNetwork{network: n}
	f.rooms.New = func() *floatRoom { return newFloatRoom(f) }
	bounds := make([]float64, len(n.stages))
	for i, s := range n.stages {
		t := floatStage{stage: s, pixel: 8 * vectorsOf(s.channels), source: n.channels}
		bound := float64(maxInput)
		if s.from.stage >= 0 {
			t.source, bound = f.stages[s.from.stage].pixel, bounds[s.from.stage]
		}
		if s.op == convolve {
			var err error
			if bound, err = t.convolution(bound, f.flattened(i)); err != nil {
				return nil, err
			}
		}
		if bounds[i] = bound; !(bound < maxFloat) {
			return nil, fmt.Errorf("%s: %w", s.name, errTooLarge)
		}
		f.stages = append(f.stages, t)
	}
	for i, s := range n.stages {
		if !s.vector && (s.linear() || f.flattened(i)) {
			f.chains = append(f.chains, f.chain(i))
		}
	}
	return f, nil
}

// convolution makes the weights of a convolution of values up to a bound, and returns the bound
// of what it makes. flattened means that a matrix product takes it.
func (s *floatStage) convolution(bound float64, flattened bool) (float64, error) {
	if w := s.window; w.same || w.top+w.left+w.bottom+w.right > 0 {
		return 0, fmt.Errorf("%s: padding is not supported in a network without depthwise convolutions", s.name)
	}
	s.products = len(s.weights)
	sums := float64(bound * s.largest())
	if !flattened {
		s.image, s.tiles = newImageFilter(s, sums), newWinograds(s, sums)
	}
	if s.image == nil && s.tiles == nil {
		s.filter = newFloatFilter(s)
	}
	if s.vector {
		s.taps = s.appendTaps(nil, s.window.columns*s.source)
	}
	bound = 0
	for c, b := range s.bias {
		slope := 1.
		if s.slope != nil {
			slope = max(slope, math.Abs(float64(s.slope[c])))
		}
		bound = max(bound, float64((sums+math.Abs(float64(b)))*slope))
	}
	return bound, nil
}

// largest returns the greatest sum of the magnitudes of an output's weights.
func (s *floatStage) largest() float64 {
	largest := 0.
	for weights := range slices.Chunk(s.weights, len(s.weights)/s.channels) {
		sum := 0.
		for _, w := range weights {
			sum += math.Abs(float64(w))
		}
		largest = max(largest, sum)
	}
	return largest
}

// flattened reports whether a matrix product takes the stage's map.
func (f *floatNetwork) flattened(at int) bool {
	return slices.ContainsFunc(f.network.stages, func(s *stage) bool { return s.vector && s.from.stage == at })
}

// chain returns the stages from the input to the last one.
func (f *floatNetwork) chain(last int) []int {
	var chain []int
	for i := last; i >= 0; i = f.stages[i].from.stage {
		chain = append(chain, i)
	}
	slices.Reverse(chain)
	return chain
}

func newFloatFilter(s *floatStage) *floatFilter {
	rows, columns := s.window.rows, s.window.columns
	channels := len(s.weights) / s.channels / (rows * columns)
	f := &floatFilter{vectors: vectorsOf(s.channels), tapsPerRow: columns, perTap: channels}
	if s.source == channels {
		f.tapsPerRow, f.perTap = 1, channels*columns
	}
	f.taps = f.tapsPerRow * rows
	// The places in the weights of an output, in the order of the sums.
	order := make([]int, 0, rows*columns*channels)
	for y := range rows {
		for x := range columns {
			for c := range channels {
				order = append(order, (c*rows+y)*columns+x)
			}
		}
	}
	f.weights = make([]float32, 8*f.vectors*len(order))
	f.after = make([]float32, 16*f.vectors)
	for first := 0; first < s.channels; first += 16 {
		weights, after, width := f.block(first / 16)
		n := min(16, s.channels-first)
		for k, from := range order {
			for c := range n {
				weights[k*width+c] = s.weights[(first+c)*len(order)+from]
			}
		}
		for c := range n {
			after[c], after[width+c] = s.bias[first+c], 1
			if s.slope != nil {
				after[width+c] = s.slope[first+c]
			}
		}
	}
	return f
}

// block returns what the kernels need for up to 16 outputs: width of them, which is 16 or 8.
func (f *floatFilter) block(i int) (weights, after []float32, width int) {
	width = min(16, 8*f.vectors-16*i)
	values := f.taps * f.perTap
	return f.weights[16*i*values:][:width*values], f.after[32*i:][:2*width], width
}

// maxProducts is how many products a call of a kernel computes: assembly cannot be preempted.
const maxProducts = 1 << 18

// convolve computes pixels of a map. places are where their windows begin in src, and taps
// where each tap is in a window. Whole tiles are written.
func (f *floatFilter) convolve(dst, src []float32, places []int32, taps []int, pixels int) {
	step := 8 * f.vectors
	whole := pixels / tile
	perCall := max(1, maxProducts/(16*tile*f.taps*f.perTap))
	var tail [tile]int32
	for i := range tail {
		tail[i] = places[min(whole*tile+i, pixels-1)]
	}
	for b := range (f.vectors + 1) / 2 {
		weights, after, width := f.block(b)
		out := dst[16*b:]
		for done := 0; done < whole; done += perCall {
			denseFloats(out[done*tile*step:], src, places[done*tile:], taps, weights, after, width, f.perTap, step, min(perCall, whole-done))
		}
		if whole*tile < pixels {
			denseFloats(out[whole*tile*step:], src, tail[:], taps, weights, after, width, f.perTap, step, 1)
		}
	}
}

// poolRow computes the maxima of side×side pixels, two pixels apart. The last ones may be
// fewer: width is how many pixels a row has.
func poolRow(dst []float32, rows *[3][]float32, side, pixel, pixels, width int) {
	whole := (width - side + 2) / 2
	if whole > 0 {
		poolFloats(dst, rows, side, [2]int{pixel, 2 * pixel}, pixel, whole)
	}
	if whole == pixels {
		return
	}
	var last [3][]float32
	for i := range side {
		last[i] = rows[i][2*whole*pixel:]
	}
	columns := [2]int{}
	if width-2*whole == 2 {
		columns[0] = pixel
	}
	poolFloats(dst[whole*pixel:], &last, side, columns, pixel, 1)
}
