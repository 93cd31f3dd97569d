package nn

import "slices"

// transpose reads the change from channels last to planes at the start of a network, and
// back at its end.
func (r *reader) transpose(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	perm := n.integers("perm")
	switch {
	case v.stage < 0 && slices.Equal(perm, []int64{0, 3, 1, 2}) && r.uses[n.Inputs[0]] == 1 && len(r.network.stages) == 0:
		in := r.graph.Inputs[0].Shape
		r.network.interleaved = true
		r.network.channels = int(in[3])
		r.input = size{int(in[1]), int(in[2])}
		v.channels = r.network.channels
	case v.stage >= 0 && v.layout == planar && !v.enlarged && slices.Equal(perm, []int64{0, 2, 3, 1}):
		v.layout = channelsLast
	default:
		return n.errorf("perm is %v; supported are [0 3 1 2] of the input, and [0 2 3 1] of a map", perm)
	}
	return r.give(n, v)
}

// shape gives the axes of a map, of which only the batch is known.
func (r *reader) shape(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	if v.layout != planar && v.layout != channelsLast {
		return n.errorf("the shape of a map of four axes is supported only")
	}
	return r.giveNumbers(n, []int64{theBatch})
}

func (r *reader) numbersOf(n *node, input int) ([]int64, error) {
	if input < len(n.Inputs) {
		if v, ok := r.numbers[n.Inputs[input]]; ok {
			return v, nil
		}
	}
	return nil, n.errorf("its input %d is not a constant of integers, or a shape, which is what is supported", input)
}

// gather takes the size of the batch from a shape.
func (r *reader) gather(n *node) error {
	data, err := r.numbersOf(n, 0)
	if err != nil {
		return err
	}
	index, err := r.numbersOf(n, 1)
	if err != nil {
		return err
	}
	if err := n.only("axis", 0); err != nil {
		return err
	}
	if len(index) != 1 || index[0] != 0 || len(data) == 0 {
		return n.errorf("the index is %v; supported is 0, the batch of a shape", index)
	}
	return r.giveNumbers(n, data[:1])
}

// unsqueeze makes a list of a number.
func (r *reader) unsqueeze(n *node) error {
	data, err := r.numbersOf(n, 0)
	if err != nil {
		return err
	}
	axes := n.integers("axes")
	if len(n.Inputs) > 1 {
		if axes, err = r.numbersOf(n, 1); err != nil {
			return err
		}
	}
	if !slices.Equal(axes, []int64{0}) || len(data) != 1 {
		return n.errorf("axes are %v; supported is [0] of a number", axes)
	}
	return r.giveNumbers(n, data)
}

// concat makes one list of several.
func (r *reader) concat(n *node) error {
	if err := n.only("axis", 0); err != nil {
		return err
	}
	var all []int64
	for i := range n.Inputs {
		part, err := r.numbersOf(n, i)
		if err != nil {
			return err
		}
		all = append(all, part...)
	}
	return r.giveNumbers(n, all)
}

// reshape makes a list of a map's cells, or a vector.
func (r *reader) reshape(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	shape, err := r.numbersOf(n, 1)
	if err != nil {
		return err
	}
	if err := n.only("allowzero", 0); err != nil {
		return err
	}
	switch {
	case len(shape) == 3 && r.isBatch(shape[0]) && v.layout == channelsLast && slices.Equal(shape[1:], []int64{-1, int64(v.channels)}):
		v.layout = cells
		return r.give(n, v)
	case len(shape) == 2 && (r.isBatch(shape[0]) || shape[0] == -1):
		return r.flattened(n, v, shape[1])
	}
	return n.errorf("the shape is %v; supported are [batch -1 %d] of a map with its channels last, and [batch, values]", shape, v.channels)
}

// isBatch reports whether the first number of a shape leaves the batch as it is: 0 keeps it,
// and 1 is it in a network for one image.
func (r *reader) isBatch(number int64) bool {
	return number == theBatch || number == 0 || number == 1 && r.graph.Inputs[0].Shape[0] == 1
}

// flatten makes a vector of a map.
func (r *reader) flatten(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	if err := n.only("axis", 1); err != nil {
		return err
	}
	return r.flattened(n, v, -1)
}

// flattened gives v as a vector of that many values; -1 is whatever it has.
func (r *reader) flattened(n *node, v value, values int64) error {
	of, err := r.fixedSize(n, v)
	if err != nil {
		return err
	}
	if have := int64(of.height * of.width * v.channels); values != -1 && values != have {
		return n.errorf("it makes %d values of %d", values, have)
	}
	switch v.layout {
	case planar:
		v.layout = flat
	case channelsLast:
		v.layout = flatLast
	default:
		return n.errorf("a map of four axes can be flattened only")
	}
	return r.give(n, v)
}

// fixedSize returns the size of a map in a network whose input has a fixed one.
func (r *reader) fixedSize(n *node, v value) (size, error) {
	if r.input.height < 1 || r.input.width < 1 || v.stage < 0 {
		return size{}, n.errorf("a map can be flattened only where the network's input has a fixed size")
	}
	all := make([]sized, v.stage+1)
	if err := sizes(all, r.network.stages[:v.stage+1], r.input); err != nil {
		return size{}, err
	}
	if v.pooled {
		return all[v.stage].pooledSize(), nil
	}
	return all[v.stage].out, nil
}

// matMul reads the product of a vector and a constant matrix [inputs, outputs].
func (r *reader) matMul(n *node) error {
	w, err := r.weightOf(n, 1, 2)
	if err != nil {
		return err
	}
	return r.product(n, w.Floats, int(w.Shape[0]), int(w.Shape[1]), false, make([]float32, w.Shape[1]))
}

// gemm reads a matrix product with a bias.
func (r *reader) gemm(n *node) error {
	w, err := r.weightOf(n, 1, 2)
	if err != nil {
		return err
	}
	for _, name := range []string{"alpha", "beta"} {
		if a, ok := n.Attributes[name]; ok && a.Float != 1 {
			return n.errorf("%s is %v; supported is 1", name, a.Float)
		}
	}
	if err := n.only("transA", 0); err != nil {
		return err
	}
	inputs, outputs := int(w.Shape[0]), int(w.Shape[1])
	transposed := n.integer("transB", 0) != 0
	if transposed {
		inputs, outputs = outputs, inputs
	}
	bias, err := r.biasOf(n, 2, int64(outputs))
	if err != nil {
		return err
	}
	return r.product(n, w.Floats, inputs, outputs, transposed, bias)
}

// product appends a matrix product: a convolution whose window is the whole map.
func (r *reader) product(n *node, matrix []float32, inputs, outputs int, transposed bool, bias []float32) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	if v.layout != flat && v.layout != flatLast && v.layout != vector || v.post != asIs || r.network.stages[v.stage].linear() {
		return n.errorf("a matrix may be multiplied with a flattened map, or a vector, after an activation")
	}
	of := size{1, 1}
	if v.layout != vector {
		if of, err = r.fixedSize(n, v); err != nil {
			return err
		}
	}
	channels := v.channels
	if inputs != of.height*of.width*channels {
		return n.errorf("its matrix is for %d values, its input has %d", inputs, of.height*of.width*channels)
	}
	weights := make([]float32, len(matrix))
	if v.layout == flatLast {
		arrange(weights, matrix, of.height*of.width, channels, outputs, transposed)
	} else {
		arrange(weights, matrix, 1, inputs, outputs, transposed)
	}
	s := &stage{
		op: convolve, from: v.source, channels: outputs, weights: weights, bias: bias, vector: true,
		window: windowing{rows: of.height, columns: of.width, stride: 1},
	}
	return r.append(n, s, vector)
}

// arrange writes a matrix of [pixels][channels][outputs] to weights as
// [outputs][channels][pixels]. If it is transposed, it has the outputs first.
func arrange(weights, matrix []float32, pixels, channels, outputs int, transposed bool) {
	inputs := pixels * channels
	place := make([]int, inputs) // of each input
	for i := range place {
		pixel, channel := i/channels, i%channels
		place[i] = channel*pixels + pixel
	}
	perInput, perOutput := outputs, 1
	if transposed {
		perInput, perOutput = 1, inputs
	}
	// Those of a few inputs and all outputs stay in the cache.
	const few = 16
	for first := 0; first < inputs; first += few {
		for o := range outputs {
			for i := first; i < min(first+few, inputs); i++ {
				weights[o*inputs+place[i]] = matrix[i*perInput+o*perOutput]
			}
		}
	}
}

func (r *reader) sigmoid(n *node) error { return r.finish(n, sigmoids) }

// softmax reads one over the channels.
func (r *reader) softmax(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	axes := map[layout]int64{channelsLast: 4, cells: 3, vector: 2}[v.layout]
	otherwise := int64(-1)
	if r.graph.Opset < 13 {
		otherwise = 1
	}
	if axis := n.integer("axis", otherwise); axes == 0 || axis != -1 && axis != axes-1 {
		return n.errorf("axis is %d; supported is the last axis, the channels", axis)
	}
	return r.finish(n, softmaxes)
}

func (r *reader) finish(n *node, p post) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	if v.stage < 0 || v.post != asIs || !r.network.stages[v.stage].linear() {
		return n.errorf("it has to follow a convolution or a matrix product without activation")
	}
	v.post = p
	return r.give(n, v)
}
