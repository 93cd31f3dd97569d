package nn

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Maps are int16. After PReLU, they are a value times 1024: so they reach from -32 to 32.
// After ReLU, they are a value times 2048, less 32768: so they reach from 0 to 32. What is
// beyond becomes the limit.
//
// A channel's weights are int16, times the greatest factor with which no sum can leave
// int32, whatever is in the map: 32768 · Σ|w| + |bias| < 2³¹ for a signed map, and for
// one without signs the same of 65535 times the sum of the positive weights, or of the
// negative ones.
const (
	signedScale   = 1 << 10
	unsignedScale = 1 << 11
	offset        = 1 << 15
	maxSum        = math.MaxInt32
)

// unsigned reports whether the stage's map has no signs.
func (n *network) unsigned(i int) bool {
	if i < 0 {
		return false
	}
	s := n.stages[i]
	switch s.op {
	case convolve, separable:
		return !slices.ContainsFunc(s.slope, func(v float32) bool { return v != 0 })
	case upsampledSum:
		return true
	case pooling:
	}
	return n.unsigned(s.from.stage)
}

// scale returns what a stage's map is multiplied by.
func (n *network) scale(i int) float64 {
	switch {
	case i < 0:
		return 1 // it is another for each image
	case n.unsigned(i):
		return unsignedScale
	}
	return signedScale
}

// maxScaled bounds what a map's values are before they are rounded and limited, so that they
// fit in int32.
const maxScaled = 1 << 30

var errTooLarge = errors.New("its weights are too large, or not finite numbers")

// quantize makes the weights of the kernels. It does so with the same bits on all
// processors: products are converted, so that they are not fused with sums.
func (n *network) quantize() error {
	for i, s := range n.stages {
		if s.op == upsampledSum && !(n.unsigned(s.from.stage) && n.unsigned(s.coarse.stage)) {
			return fmt.Errorf("%s: sums are supported of maps after ReLU", s.name)
		}
		if s.op != convolve && s.op != separable {
			continue
		}
		if err := s.quantize(n, i); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (s *stage) quantize(n *network, i int) error {
	var order []int // of a filter's values: an index into a channel's weights, or -1
	f := &filter{blocks: (s.channels + 15) / 16}
	if s.from.stage < 0 {
		if s.slope == nil {
			return errors.New("a convolution of the input needs an activation")
		}
		var err error
		if order, err = s.inputOrder(n, f); err != nil {
			return err
		}
	} else {
		order = s.blockOrder(f)
	}
	s.filter = f
	f.weights = make([]int16, f.blocks*len(order)*16)
	f.bias = make([]int32, f.blocks*16)
	f.after = make([]float32, f.blocks*64)
	s.unit = make([]float32, f.blocks*16)
	s.depthwise8 = make([]float32, f.blocks*160)
	each := len(s.weights) / s.channels
	from, to := n.scale(s.from.stage), n.scale(i)
	for c := range s.channels {
		q := quantizer{unsigned: n.unsigned(s.from.stage), weights: make([]int16, each)}
		if s.slope == nil || s.op == separable {
			q.first = float64(s.bias[c]) * from
		}
		err := q.quantize(s.weights[c*each:][:each])
		if err != nil {
			return err
		}
		for i, k := range order {
			if k >= 0 {
				f.weights[((c/16*len(order)+i&^1)*16)+c%16*2+i%2] = q.weights[k]
			}
		}
		f.bias[c] = q.bias
		if err := s.after(c, &q, from, to, n.unsigned(i)); err != nil {
			return err
		}
	}
	if !assembly {
		f.pack()
	}
	return nil
}

// inputOrder is the order of a filter's values in rows of the input. Planes are read one by
// one, and interleaved values at once.
func (s *stage) inputOrder(n *network, f *filter) ([]int, error) {
	w := &s.window
	perRow, perTap := n.channels, w.columns
	f.pairs = 2
	if n.interleaved {
		perRow, perTap = 1, w.columns*n.channels
		f.pairs = 5
	}
	if perTap > 2*f.pairs {
		return nil, fmt.Errorf("a window of %d columns over an input of %d channels is not supported", w.columns, n.channels)
	}
	f.taps = w.rows * perRow
	order := make([]int, 0, f.taps*2*f.pairs)
	for y := range w.rows {
		for plane := range perRow {
			for i := range 2 * f.pairs {
				x, channel := i, plane
				if n.interleaved {
					x, channel = i/n.channels, i%n.channels
				}
				if i >= perTap {
					order = append(order, -1)
					continue
				}
				order = append(order, (channel*w.rows+y)*w.columns+x)
			}
		}
	}
	return order, nil
}

// blockOrder is the order of a filter's values in rows of blocks of 8 channels.
func (s *stage) blockOrder(f *filter) []int {
	w := &s.window
	if s.op == separable {
		w = &windowing{rows: 1, columns: 1}
	}
	channels := len(s.weights) / s.channels / (w.rows * w.columns)
	f.pairs = 4
	f.taps = w.rows * w.columns * ((channels + 7) / 8)
	order := make([]int, 0, f.taps*8)
	for y := range w.rows {
		for x := range w.columns {
			for i := range (channels + 7) &^ 7 {
				if i >= channels {
					order = append(order, -1)
					continue
				}
				order = append(order, (i*w.rows+y)*w.columns+x)
			}
		}
	}
	return order
}

// quantizer has the quantized weights of one channel.
type quantizer struct {
	// unsigned is the map that the channel is computed from, and first is a bias that is
	// a part of the sum, in the map's scale.
	unsigned bool
	first    float64

	weights  []int16
	bias     int32
	factor   float64 // of the weights
	greatest float64 // bounds the magnitude of the sum
}

// quantize quantizes the weights.
func (q *quantizer) quantize(weights []float32) error {
	largest := 0.
	for _, w := range weights {
		largest = max(largest, math.Abs(float64(w)))
	}
	bound := boundOf(q, weights, 1)
	if !(bound <= math.MaxFloat32) {
		return errTooLarge
	}
	q.factor = 1
	if largest > 0 {
		q.factor = min(maxSum/bound, math.MaxInt16/largest)
	}
	// Rounded, they may add up to more.
	for ; ; q.factor *= 1 - 1./1024 {
		q.round(weights)
		if q.greatest = boundOf(q, q.weights, q.factor); q.greatest <= maxSum {
			break
		}
	}
	bias := int64(math.RoundToEven(q.first * q.factor))
	if q.unsigned {
		for _, w := range q.weights {
			bias += offset * int64(w)
		}
	}
	q.bias = int32(bias) // at most bound, which has twice the sum of weights
	return nil
}

// round rounds the weights times the factor. What one loses goes to the next one: inputs that
// lie side by side are much alike, so that the errors cancel out.
func (q *quantizer) round(weights []float32) {
	carry := 0.
	for i, w := range weights {
		v := float64(float64(w)*q.factor) + carry
		rounded := max(-math.MaxInt16, min(math.RoundToEven(v), math.MaxInt16))
		carry = v - rounded
		q.weights[i] = int16(rounded)
	}
}

// boundOf returns a bound of the sum's magnitude with these weights, and the bias times factor.
func boundOf[W int16 | float32](q *quantizer, weights []W, factor float64) float64 {
	var positive, negative float64
	for _, w := range weights {
		if w >= 0 {
			positive += float64(w)
		} else {
			negative -= float64(w)
		}
	}
	first := math.Abs(q.first*factor) + 1
	if q.unsigned {
		return float64(math.MaxUint16*max(positive, negative)) + first
	}
	return float64(offset*(positive+negative)) + first
}

// after makes what comes after the sums of channel c, of a map with the scale from, to one
// with the scale to.
func (s *stage) after(c int, q *quantizer, from, to float64, unsigned bool) error {
	switch {
	case s.op == separable:
		if s.slope == nil {
			to, s.unit[c] = 1, 1 // floats are values
		}
		factor := to / (from * q.factor)
		bound := math.Abs(float64(s.depthwiseBias[c])) * to
		at := c/8*80 + c%8
		for t, w := range s.depthwise[9*c:][:9] {
			v := float64(w) * factor
			bound += float64(math.Abs(v) * q.greatest)
			s.depthwise8[at+8*t] = float32(v)
		}
		s.depthwise8[at+72] = float32(float64(s.depthwiseBias[c]) * to)
		return check(bound)
	case s.slope == nil:
		s.unit[c] = float32(1 / (from * q.factor))
		return check(float64(s.unit[c]))
	}
	// The sums of a stage that reads the input are divided by the input's scale, too.
	factor, summand, least := to/(from*q.factor), float64(float64(s.bias[c])*to), 0.
	if unsigned {
		summand -= offset
		least -= offset
	}
	after := s.filter.after[c/16*64+c%16:]
	after[0], after[16], after[32], after[48] = float32(factor), float32(summand), s.slope[c], float32(least)
	bound := float64(factor*q.greatest) + math.Abs(summand)
	return check(bound * max(1, math.Abs(float64(s.slope[c]))))
}

// check returns an error unless a bound is one that int32 can hold.
func check(bound float64) error {
	if !(bound < maxScaled) {
		return errTooLarge
	}
	return nil
}
