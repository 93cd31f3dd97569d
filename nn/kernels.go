package nn

// The kernels are what takes the time: functions that compute a row, or two. Each has two
// implementations that give the same bits: assembly where the processor has AVX2
// (kernels_amd64.s, which tools/nnkernels generates), and a pure Go twin (twin.go). Those of
// float32 that take most of the time use AVX-512 where the processor has it.
//
// Rows lie in blocks of 8 channels: [channels/8][pixels][8]. dstBlock, srcBlock and
// poolBlock are the distances of blocks, and pixel that of pixels, in values.
//
// Assembly cannot be preempted, so that a call should not take much longer than 20 µs.
// It computes whole tiles: it may read and write as far as the comments say beyond the
// pixels that it is asked for.

// tile is how many pixels a convolution computes at once. It writes at least as many, and
// reads what they need.
const tile = 6

// A filter is what a convolution multiplies by, in the layouts of the kernels.
type filter struct {
	// A tap is a place of the filter's window and a block of channels: 2·pairs input
	// values that lie side by side. blocks is the number of blocks of 16 outputs.
	taps, pairs, blocks int
	// weights is [blocks][taps][pairs][16][2].
	weights []int16
	// lanes are the weights for the twin, [2·blocks][taps][2·pairs][4]: output 2i plus
	// 1<<32 times output 2i+1 of 8.
	lanes []int64
	// bias is [blocks][16]: where the sums begin.
	bias []int32
	// after is [blocks][4][16]: a factor and a summand for the sums, and then the slope of
	// negative values, and the least value.
	after []float32
}

// pack fills lanes, which only the twin needs.
func (f *filter) pack() {
	f.lanes = make([]int64, len(f.weights)/2)
	i := 0
	for n8 := range 2 * f.blocks {
		for k := range f.taps * f.pairs * 2 {
			for j := range 4 {
				at := func(c int) int64 {
					return int64(f.weights[((n8/2)*f.taps*f.pairs+k/2)*32+(n8%2*8+c)*2+k%2])
				}
				f.lanes[i] = at(2*j) + at(2*j+1)<<32
				i++
			}
		}
	}
}

// window is four rows that a depthwise convolution makes two of. They begin one pixel to
// the left of the output, and go on to one pixel to the right of its last pair.
type window struct {
	rows     [4][]float32
	srcBlock int
}
