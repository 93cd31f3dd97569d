package nn

// write writes rows of a stage to its outputs.
func (r *run) write(item, stage int, floats []float32, y, rows int) {
	q := &r.plan.stages[stage]
	for k := range rows {
		first := (item*q.out.height + y + k) * q.out.width
		r.writeVectors(stage, floats[k*q.floats.row:], q.floats.block, first, q.out.width)
	}
}

// writeVectors writes pixels of a stage to its outputs, the first of which is the first-th of
// the outputs.
func (r *run) writeVectors(stage int, floats []float32, block, first, pixels int) {
	s := r.engine.network.stages[stage]
	for _, i := range r.outputsOf[stage] {
		o := &r.engine.network.outputs[i]
		dst := r.outputs[i].Data[first*o.channels:][:pixels*o.channels]
		for c := range o.channels {
			src := floats[(o.first+c)/8*block+(o.first+c)%8:]
			unit := s.unit[o.first+c]
			for p := range pixels {
				dst[p*o.channels+c] = src[8*p] * unit
			}
		}
		o.finish(dst)
	}
}

// finish computes the function after a convolution, or a matrix product, of whole pixels.
func (o *output) finish(values []float32) {
	switch o.post {
	case asIs:
	case sigmoids:
		sigmoidAll(values)
	case softmaxes:
		if o.channels == 2 {
			whole := len(values) &^ 7
			softmaxPairs(values[:whole])
			values = values[whole:]
		}
		for k := 0; k < len(values); k += o.channels {
			softmax(values[k:][:o.channels])
		}
	}
}
