package nn

import "math"

// reference computes a network in float64, as it is defined: one map for each stage, and the
// one after its max pool, as [channels][height][width].
func reference(n *network, input []float32, of size) (full, pooled [][]float64) {
	all := make([]sized, len(n.stages))
	if err := sizes(all, n.stages, of); err != nil {
		panic(err)
	}
	full, pooled = make([][]float64, len(n.stages)), make([][]float64, len(n.stages))
	first := make([]float64, len(input))
	for i, v := range input {
		if n.interleaved {
			i = i%n.channels*of.height*of.width + i/n.channels
		}
		first[i] = float64(v)
	}
	get := func(from source) []float64 {
		switch {
		case from.stage < 0:
			return first
		case from.pooled:
			return pooled[from.stage]
		}
		return full[from.stage]
	}
	for i, s := range n.stages {
		z := &all[i]
		in := get(s.from)
		channels := len(in) / (z.in.height * z.in.width)
		at := func(m []float64, z size, c, y, x int, outside float64) float64 {
			if y < 0 || x < 0 || y >= z.height || x >= z.width {
				return outside
			}
			return m[(c*z.height+y)*z.width+x]
		}
		var out []float64
		each := func(f func(c, y, x int) float64) {
			out = make([]float64, 0, s.channels*z.out.height*z.out.width)
			for c := range s.channels {
				for y := range z.out.height {
					for x := range z.out.width {
						out = append(out, f(c, y, x))
					}
				}
			}
		}
		w := s.window
		switch s.op {
		case convolve, separable:
			if s.op == separable {
				w = windowing{rows: 1, columns: 1, stride: 1}
			}
			each(func(c, y, x int) float64 {
				v := float64(s.bias[c])
				for k := range channels {
					for ky := range w.rows {
						for kx := range w.columns {
							v += float64(s.weights[((c*channels+k)*w.rows+ky)*w.columns+kx]) * at(in, z.in, k, y*w.stride-z.top+ky, x*w.stride-z.left+kx, 0)
						}
					}
				}
				return v
			})
			if s.op == separable {
				first := out
				each(func(c, y, x int) float64 {
					v := float64(s.depthwiseBias[c])
					for t := range 9 {
						v += float64(s.depthwise[9*c+t]) * at(first, z.out, c, y-1+t/3, x-1+t%3, 0)
					}
					return v
				})
			}
			if s.slope != nil {
				for k, v := range out {
					if v < 0 {
						out[k] = v * float64(s.slope[k/(z.out.height*z.out.width)])
					}
				}
			}
		case pooling:
			each(func(c, y, x int) float64 {
				v := math.Inf(-1)
				for k := range w.rows * w.columns {
					v = max(v, at(in, z.in, c, 2*y+k/w.columns, 2*x+k%w.columns, math.Inf(-1)))
				}
				return v
			})
		case upsampledSum:
			coarse := get(s.coarse)
			each(func(c, y, x int) float64 {
				return at(in, z.in, c, y, x, 0) + at(coarse, size{z.in.height / 2, z.in.width / 2}, c, y/2, x/2, 0)
			})
		}
		full[i] = out
		if s.pooled {
			half := z.pooledSize()
			for c := range s.channels {
				for y := range half.height {
					for x := range half.width {
						pooled[i] = append(pooled[i], max(at(out, z.out, c, 2*y, 2*x, 0), at(out, z.out, c, 2*y+1, 2*x, 0), at(out, z.out, c, 2*y, 2*x+1, 0), at(out, z.out, c, 2*y+1, 2*x+1, 0)))
					}
				}
			}
		}
	}
	return full, pooled
}
