package nn

import (
	"fmt"
	"slices"
)

// A network is what a file holds, in the terms of this package: stages that make maps of
// each other, and outputs that are read from the last of them. It has no sizes: those
// depend on the input.
type network struct {
	// channels are those of the input. interleaved means that they come last.
	channels    int
	interleaved bool
	stages      []*stage
	outputs     []output
}

// operator is what a stage does.
type operator int

const (
	// convolve is a dense convolution, or a matrix product, with an activation. Without
	// one it makes floats, for outputs.
	convolve operator = iota
	// separable is a 1×1 convolution with a depthwise 3×3 one after it, then ReLU and
	// perhaps a max pool. Without ReLU it makes floats, for outputs.
	separable
	// pooling is a max pool of its own.
	pooling
	// upsampledSum adds a map to another of twice its size.
	upsampledSum
)

// source is a map that a stage reads: the input (stage -1), or what a stage makes.
type source struct {
	stage int
	// pooled is the map after the stage's max pool.
	pooled bool
}

// theInput is the network's input as a source.
var theInput = source{stage: -1}

// stage makes one map, of blocks of 16 channels.
type stage struct {
	name string // of a node, for messages
	op   operator
	from source
	// coarse is what an upsampledSum enlarges.
	coarse   source
	channels int
	window   windowing

	// weights are a convolution's: [outputs][inputs][rows][columns].
	weights, bias []float32
	// depthwise are a separable's second weights: [channels][3][3].
	depthwise, depthwiseBias []float32
	// slope is PReLU's for each channel, zeros for ReLU, nil without an activation.
	slope []float32
	// full and pooled are the maps that others read: itself, and after its max pool.
	full, pooled bool
	// vector means that the map is one pixel. A batch's are computed together.
	vector bool

	// What quantize makes of them: the filter of the convolution, the weights of the
	// depthwise one in the layout of its kernel, and what the floats of each channel of a
	// convolution without an activation have to be multiplied by.
	filter     *filter
	depthwise8 []float32
	unit       []float32
}

// windowing is how the windows of a convolution or a pool lie on the map.
type windowing struct {
	rows, columns int
	stride        int
	// same gives a map of the size of the source over the stride, rounded up, with what
	// padding that takes, half of it at the start. Otherwise top, left, bottom, right are
	// the padding.
	same                     bool
	top, left, bottom, right int
}

// linear reports whether the stage makes floats, for outputs.
func (s *stage) linear() bool {
	return (s.op == convolve || s.op == separable) && s.slope == nil
}

// pad returns the padding at the start, and the size of the output, for one axis.
func (w *windowing) pad(n, window, start, end int) (int, int) {
	if w.same {
		out := (n + w.stride - 1) / w.stride
		return max(0, (out-1)*w.stride+window-n) / 2, out
	}
	return start, (n+start+end-window)/w.stride + 1
}

// size is that of a map.
type size struct{ height, width int }

// sized is what the size of its source makes of a stage.
type sized struct {
	in, out size
	// top and left are the padding.
	top, left int
}

// pooledSize is that of the map after a max pool.
func (s sized) pooledSize() size { return size{s.out.height / 2, s.out.width / 2} }

// maxSide bounds a side of the input.
const maxSide = 1 << 15

// sizes sets all[i] to the sizes of stage i for an input, for all stages that are given.
func sizes(all []sized, stages []*stage, input size) error {
	if min(input.height, input.width) < 1 || max(input.height, input.width) > maxSide {
		return fmt.Errorf("an input of %d×%d is not supported: sides may be from 1 to %d", input.width, input.height, maxSide)
	}
	of := func(from source) size {
		switch {
		case from.stage < 0:
			return input
		case from.pooled:
			return all[from.stage].pooledSize()
		}
		return all[from.stage].out
	}
	for i, s := range stages {
		var coarse size
		if s.op == upsampledSum {
			coarse = of(s.coarse)
		}
		z, err := s.sizes(of(s.from), coarse)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		all[i] = z
	}
	return nil
}

// sizes returns the sizes of a stage for those of the maps that it reads.
func (s *stage) sizes(in, coarse size) (sized, error) {
	z := sized{in: in, out: in}
	switch s.op {
	case convolve, pooling:
		w := &s.window
		z.top, z.out.height = w.pad(in.height, w.rows, w.top, w.bottom)
		z.left, z.out.width = w.pad(in.width, w.columns, w.left, w.right)
		if s.op == pooling && (z.top > 0 || z.left > 0) {
			return z, fmt.Errorf("a max pool of %d×%d would begin outside of its map of %d×%d, which is not supported", w.columns, w.rows, in.width, in.height)
		}
	case upsampledSum:
		if in != (size{2 * coarse.height, 2 * coarse.width}) {
			return z, fmt.Errorf("a map of %d×%d, enlarged to its double, cannot be added to one of %d×%d", coarse.width, coarse.height, in.width, in.height)
		}
	case separable:
	}
	smallest := min(z.out.height, z.out.width)
	if s.pooled {
		smallest /= 2
	}
	if smallest < 1 {
		return z, fmt.Errorf("nothing is left of a map of %d×%d", in.width, in.height)
	}
	return z, nil
}

// post is what is done to an output's values.
type post int

const (
	asIs post = iota
	sigmoids
	softmaxes // over the channels
)

// output is some channels of a stage that makes floats.
type output struct {
	stage           int
	first, channels int
	post            post
	// axes is how many the output has: 4 is [N, H, W, C], 3 is [N, H·W, C], 2 is [N, C].
	axes int
}

// shape returns that of the output, for a map of that size.
func (o *output) appendShape(shape []int64, batch int64, of size) []int64 {
	shape = append(shape, batch)
	switch o.axes {
	case 4:
		shape = append(shape, int64(of.height), int64(of.width))
	case 3:
		shape = append(shape, int64(of.height)*int64(of.width))
	}
	return append(shape, int64(o.channels))
}

// tidy drops what no output needs, and merges stages for outputs that read the same map.
func (n *network) tidy() error {
	n.merge()
	n.mark()
	n.drop()
	inputs := 0
	for _, s := range n.stages {
		if s.from.stage < 0 {
			inputs++
		}
		if s.vector {
			continue
		}
		for _, from := range s.sources() {
			if from.stage >= 0 && n.stages[from.stage].vector {
				return fmt.Errorf("%s: it has to follow a map, not a vector", s.name)
			}
		}
	}
	if inputs != 1 {
		return fmt.Errorf("the network's input is read by %d convolutions; supported is one", inputs)
	}
	return nil
}

// sources are the maps that the stage reads.
func (s *stage) sources() []source {
	if s.op == upsampledSum {
		return []source{s.from, s.coarse}
	}
	return []source{s.from}
}

// merge makes one stage of those that make floats of the same map in the same way. Their
// channels lie one after the other. The others stay, and are used by nothing.
func (n *network) merge() {
	for i, s := range n.stages {
		if !s.linear() {
			continue
		}
		for j, t := range n.stages[i+1:] {
			if !t.linear() || t.op != s.op || t.from != s.from || t.window != s.window || t.vector != s.vector {
				continue
			}
			for k := range n.outputs {
				if o := &n.outputs[k]; o.stage == i+1+j {
					o.stage = i
					o.first += s.channels
				}
			}
			s.channels += t.channels
			s.weights = slices.Concat(s.weights, t.weights)
			s.bias = slices.Concat(s.bias, t.bias)
			s.depthwise = slices.Concat(s.depthwise, t.depthwise)
			s.depthwiseBias = slices.Concat(s.depthwiseBias, t.depthwiseBias)
			t.from.stage = unused
		}
	}
}

// unused is the source of a stage that has been merged into another.
const unused = -2

// mark sets which maps are read.
func (n *network) mark() {
	for _, s := range n.stages {
		s.full, s.pooled = false, false
	}
	for _, o := range n.outputs {
		n.stages[o.stage].full = true
	}
	for _, s := range slices.Backward(n.stages) {
		if !s.full && !s.pooled {
			continue
		}
		for _, from := range s.sources() {
			switch {
			case from.stage < 0:
			case from.pooled:
				n.stages[from.stage].pooled = true
			default:
				n.stages[from.stage].full = true
			}
		}
	}
}

// drop removes the stages that are not read.
func (n *network) drop() {
	place := make([]int, len(n.stages))
	var kept []*stage
	for i, s := range n.stages {
		place[i] = len(kept)
		if s.full || s.pooled {
			kept = append(kept, s)
		}
	}
	for _, s := range kept {
		if s.from.stage >= 0 {
			s.from.stage = place[s.from.stage]
		}
		s.coarse.stage = place[s.coarse.stage]
	}
	for i := range n.outputs {
		n.outputs[i].stage = place[n.outputs[i].stage]
	}
	n.stages = kept
}

// vectors reports whether the network has matrix products.
func (n *network) vectors() bool {
	return slices.ContainsFunc(n.stages, func(s *stage) bool { return s.vector })
}
