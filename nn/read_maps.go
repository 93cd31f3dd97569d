package nn

import (
	"slices"

	"github.com/mienproject/mien/nn/onnxfile"
)

// conv reads a convolution. A depthwise one joins the 1×1 convolution before it.
func (r *reader) conv(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	w, err := r.weightOf(n, 1, 4)
	if err != nil {
		return err
	}
	bias, err := r.biasOf(n, 2, w.Shape[0])
	if err != nil {
		return err
	}
	if v.layout != planar || v.enlarged {
		return n.errorf("inputs that are not [N, C, H, W] are not supported")
	}
	window, err := n.windowing(int(w.Shape[2]), int(w.Shape[3]))
	if err != nil {
		return err
	}
	outputs, inputs, group := w.Shape[0], w.Shape[1], n.integer("group", 1)
	switch {
	case inputs*group != int64(v.channels):
		return n.errorf("its weights are for %d channels, its input has %d", inputs*group, v.channels)
	case inputs == 1 && group == outputs && (group > 1 || r.follows1x1(n, v)):
		return r.depthwise(n, v, w.Floats, bias, window)
	case group != 1:
		return n.errorf("group is %d; supported are dense convolutions and depthwise ones", group)
	case v.stage >= 0 && !r.isInts(v):
		return n.errorf("a convolution has to follow an activation, a max pool or a sum")
	}
	return r.append(n, &stage{op: convolve, from: v.source, channels: int(outputs), window: window, weights: w.Floats, bias: bias}, planar)
}

// biasOf returns the bias that an input of the node is: zeros where it has none.
func (r *reader) biasOf(n *node, input int, channels int64) ([]float32, error) {
	if input >= len(n.Inputs) || n.Inputs[input] == "" {
		return make([]float32, channels), nil
	}
	b, err := r.weightOf(n, input, 1)
	if err == nil && b.Shape[0] != channels {
		err = n.errorf("it has a bias of %d values for %d channels", b.Shape[0], channels)
	}
	return b.Floats, err
}

// windowing reads the attributes of a convolution or a pool.
func (n *node) windowing(rows, columns int) (windowing, error) {
	w := windowing{rows: rows, columns: columns}
	if k := n.integers("kernel_shape", int64(rows), int64(columns)); !slices.Equal(k, []int64{int64(rows), int64(columns)}) {
		return w, n.errorf("kernel_shape is %v, its weights are %d×%d", k, rows, columns)
	}
	if rows > 3 || columns > 3 {
		return w, n.errorf("its window is %d×%d; supported are windows up to 3×3", columns, rows)
	}
	if d := n.integers("dilations", 1, 1); !slices.Equal(d, []int64{1, 1}) {
		return w, n.errorf("dilations are %v; supported is [1 1]", d)
	}
	strides := n.integers("strides", 1, 1)
	if len(strides) != 2 || strides[0] != strides[1] || strides[0] < 1 || strides[0] > 2 {
		return w, n.errorf("strides are %v; supported are [1 1] and [2 2]", strides)
	}
	w.stride = int(strides[0])
	return w, n.padding(&w)
}

// padding reads how a window is padded.
func (n *node) padding(w *windowing) error {
	pads := n.integers("pads", 0, 0, 0, 0)
	if len(pads) != 4 || slices.Min(pads) < 0 || slices.Max(pads) > 1 || slices.Max(pads) >= int64(min(w.rows, w.columns)) {
		return n.errorf("pads are %v; supported are 0 and 1, and less than the window", pads)
	}
	switch mode := n.text("auto_pad", "NOTSET"); mode {
	case "NOTSET":
		w.top, w.left, w.bottom, w.right = int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])
	case "VALID":
	case "SAME_UPPER":
		w.same = true
	default:
		return n.errorf("auto_pad is %s; supported are NOTSET, VALID and SAME_UPPER", mode)
	}
	return nil
}

// follows1x1 reports whether a convolution of one channel is the second one of a separable
// convolution.
func (r *reader) follows1x1(n *node, v value) bool {
	s := r.open(n, v)
	return s != nil && s.op == convolve && s.window == windowing{rows: 1, columns: 1, stride: 1}
}

// depthwise reads a depthwise convolution.
func (r *reader) depthwise(n *node, v value, weights, bias []float32, window windowing) error {
	if !r.follows1x1(n, v) {
		return n.errorf("a depthwise convolution has to follow a 1×1 convolution without activation, whose only reader it is")
	}
	if (window != windowing{rows: 3, columns: 3, stride: 1, top: 1, left: 1, bottom: 1, right: 1}) {
		return n.errorf("a depthwise convolution has to be 3×3 with a padding of 1 on each side")
	}
	s := r.network.stages[v.stage]
	if s.from.stage < 0 {
		return n.errorf("a separable convolution of the input itself is not supported")
	}
	s.op, s.depthwise, s.depthwiseBias = separable, weights, bias
	return r.give(n, v)
}

// relu is PReLU with slopes of 0.
func (r *reader) relu(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	return r.activate(n, v, make([]float32, v.channels))
}

// prelu reads slopes of the shape [C], [C, 1, 1] or [1, C, 1, 1].
func (r *reader) prelu(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	if len(n.Inputs) != 2 {
		return n.errorf("it has %d inputs", len(n.Inputs))
	}
	slope := r.graph.Weights[n.Inputs[1]]
	channels := int64(v.channels)
	wanted := [][]int64{{channels, 1, 1}, {1, channels, 1, 1}}
	if v.layout == vector {
		wanted = [][]int64{{channels}, {1, channels}}
	}
	if !slices.ContainsFunc(wanted, func(shape []int64) bool { return slices.Equal(shape, slope.Shape) }) || len(slope.Floats) != v.channels {
		return n.errorf("its slope has the shape %v; supported are %v", slope.Shape, wanted)
	}
	if s := r.open(n, v); s != nil && s.op == separable {
		return n.errorf("after a depthwise convolution ReLU is supported, and PReLU is not")
	}
	return r.activate(n, v, slope.Floats)
}

func (r *reader) activate(n *node, v value, slope []float32) error {
	s := r.open(n, v)
	if s == nil {
		return n.errorf("an activation has to follow a convolution or a matrix product, whose only reader it is")
	}
	s.slope = slope
	return r.give(n, v)
}

// maxPool reads a max pool. One of 2×2 joins the separable convolution before it.
func (r *reader) maxPool(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	window, err := n.poolWindow()
	if err != nil {
		return err
	}
	if !r.isInts(v) || v.pooled {
		return n.errorf("a max pool has to follow an activation")
	}
	s := r.network.stages[v.stage]
	if s.op == separable && window.rows == 2 && !window.same {
		s.pooled = true
		v.pooled = true
		return r.give(n, v)
	}
	return r.append(n, &stage{op: pooling, from: v.source, channels: v.channels, window: window}, planar)
}

// poolWindow reads the window of a max pool.
func (n *node) poolWindow() (w windowing, err error) {
	kernel := n.integers("kernel_shape")
	if len(kernel) != 2 || kernel[0] != kernel[1] || kernel[0] < 2 || kernel[0] > 3 {
		return w, n.errorf("kernel_shape is %v; supported are [2 2] and [3 3]", kernel)
	}
	if w, err = n.windowing(int(kernel[0]), int(kernel[1])); err != nil {
		return w, err
	}
	for _, name := range [...]string{"ceil_mode", "storage_order"} {
		if err := n.only(name, 0); err != nil {
			return w, err
		}
	}
	if w.stride != 2 || w.top+w.left+w.bottom+w.right > 0 {
		return w, n.errorf("supported are strides of 2 without pads, or with auto_pad")
	}
	return w, nil
}

// resize reads an enlargement to the double, by nearest neighbors. It becomes a part of the
// sum that takes it.
func (r *reader) resize(n *node) error {
	v, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	if len(n.Inputs) != 3 {
		return n.errorf("it has %d inputs; supported are the map, a region and scales", len(n.Inputs))
	}
	scales := r.graph.Weights[n.Inputs[2]]
	mode, nearest, coordinates := n.text("mode", "nearest"), n.text("nearest_mode", "round_prefer_floor"), n.text("coordinate_transformation_mode", "half_pixel")
	switch {
	case !slices.Equal(scales.Floats, []float32{1, 1, 2, 2}):
		return n.errorf("its scales are %v; supported is [1 1 2 2]", scales.Floats)
	case mode != "nearest" || nearest != "floor" || coordinates != "asymmetric":
		return n.errorf("it is %s, %s, %s; supported is nearest, floor, asymmetric", mode, nearest, coordinates)
	case !r.isInts(v):
		return n.errorf("it has to follow an activation or a max pool")
	}
	v.enlarged = true
	return r.give(n, v)
}

// isInts reports whether a value is a map that stages can read.
func (r *reader) isInts(v value) bool {
	return v.stage >= 0 && v.layout == planar && !v.enlarged && !r.network.stages[v.stage].linear()
}

// add reads the sum of a map and an enlarged one, or of a matrix product and its bias.
func (r *reader) add(n *node) error {
	if len(n.Inputs) != 2 {
		return n.errorf("it has %d inputs", len(n.Inputs))
	}
	for i, name := range n.Inputs {
		if bias, ok := r.graph.Weights[name]; ok {
			return r.addBias(n, n.Inputs[1-i], bias)
		}
	}
	fine, err := r.mapOf(n, 0)
	if err != nil {
		return err
	}
	coarse, err := r.mapOf(n, 1)
	if err != nil {
		return err
	}
	if fine.enlarged {
		fine, coarse = coarse, fine
	}
	if !r.isInts(fine) || !coarse.enlarged || fine.channels != coarse.channels {
		return n.errorf("supported are sums of a map and another that is enlarged to its size, and of a matrix product and its bias")
	}
	return r.append(n, &stage{op: upsampledSum, from: fine.source, coarse: coarse.source, channels: fine.channels}, planar)
}

// addBias reads the bias of a matrix product.
func (r *reader) addBias(n *node, product string, bias onnxfile.Tensor) error {
	v, ok := r.values[product]
	if !ok || v.layout != vector || v.post != asIs || r.uses[product] != 1 || !r.network.stages[v.stage].linear() {
		return n.errorf("a constant may be added to a matrix product only, whose only reader this is")
	}
	if len(bias.Floats) != v.channels || bias.Shape[len(bias.Shape)-1] != int64(v.channels) {
		return n.errorf("a bias of the shape %v is added to %d channels", bias.Shape, v.channels)
	}
	s := r.network.stages[v.stage]
	for _, b := range s.bias {
		if b != 0 {
			return n.errorf("this is a second bias")
		}
	}
	s.bias = bias.Floats
	return r.give(n, v)
}
