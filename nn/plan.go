package nn

import "slices"

// plan is how a network is run on an input of one size. Stages are grouped in segments: the
// last stage of a segment keeps its whole map, or gives outputs, and the others keep the few
// rows that the one after them reads.
//
// A plan is made again for each size, in the same memory.
type plan struct {
	network *network
	input   size
	// cut means that segments are short, so that bands of them can be run beside each
	// other: at its edges a band computes rows that its neighbor computes, too.
	cut    bool
	sizes  []sized
	stages []planned
	// windows counts, for each stage, those with windows in its segment up to it.
	windows []int
	// segments are the last stages of all segments, in order. Vectors are not among them.
	segments []segment
	first    planned // of the input's rows
}

// planned is what a plan says of a stage.
type planned struct {
	sized
	// last is the last stage of the segment.
	last int
	// keep means that the whole map is kept.
	keep bool
	// flattened means that matrix products read the map: it is there for several images.
	flattened bool
	// full and pooled are the layouts of the stage's maps.
	full, pooled layoutOfRows
	// sums is the layout of the rows between the two convolutions of a separable stage, and
	// floats that of rows for outputs.
	sums, floats layoutOfRows
	// work is the number of products for one row.
	work int
}

// segment is some stages that run together.
type segment struct {
	last int
	// work is the number of products for one row of the last stage.
	work int
}

// layoutOfRows says how a map's rows lie in memory: [rows][blocks][pixels][8], or for the
// input [rows][planes][values].
type layoutOfRows struct {
	// left is where the first pixel is.
	left int
	// block and row are the distances of blocks and rows.
	block, row int
	// rows is how many rows there are. Row y of the map is in the place y%rows. After them
	// comes a row of zeros, where the map's reader pads it.
	rows int
	// zero and repeat say what the pixel after the last one has to be. nothing is how the
	// map has the value of 0.
	zero, repeat bool
	nothing      int16
}

// margin is how many values there are after a buffer's end: kernels compute whole tiles, and
// read what those need.
const margin = 16 * 8 * tile

// values is the size of the buffer.
func (l *layoutOfRows) values() int {
	n := l.rows
	if l.zero {
		n++
	}
	return n*l.row + margin
}

// at is the place of a row. A row outside of the map is zeros.
func (l *layoutOfRows) at(y, height int) int {
	if y < 0 || y >= height {
		return l.rows * l.row
	}
	return y % l.rows * l.row
}

func newPlan(n *network) *plan {
	return &plan{network: n, sizes: make([]sized, len(n.stages)), stages: make([]planned, len(n.stages)), windows: make([]int, len(n.stages))}
}

// set makes the plan for an input.
func (p *plan) set(input size, cut bool) error {
	if p.input == input && p.cut == cut {
		return nil
	}
	p.input = size{} // if it cannot be made
	if err := sizes(p.sizes, p.network.stages, input); err != nil {
		return err
	}
	p.input, p.cut = input, cut
	for i := range p.stages {
		p.stages[i] = planned{sized: p.sizes[i], last: i}
	}
	p.group()
	p.layOut()
	return nil
}

// maxWindows is how many stages with windows a segment of a cut plan has. With more, bands
// would compute too many rows twice.
const maxWindows = 3

// group finds the segments.
func (p *plan) group() {
	n := p.network
	for i, s := range n.stages {
		p.stages[i].work = p.rowWork(s, &p.sizes[i])
		if s.linear() && !s.vector {
			p.stages[i].keep = true // it ends a segment
		}
	}
	for i := range n.stages {
		p.keepRead(i)
	}
	if p.cut {
		p.shorten()
	}
	for i, s := range slices.Backward(n.stages) {
		for _, from := range s.sources() {
			if from.stage >= 0 && !p.stages[from.stage].keep {
				p.stages[from.stage].last = p.stages[i].last
			}
		}
	}
	p.segments = p.segments[:0]
	for i, s := range n.stages {
		if !s.vector && p.stages[i].last == i {
			p.segments = append(p.segments, p.segmentOf(i))
		}
	}
}

// keepRead keeps a map that is read by two stages, or by a matrix product.
func (p *plan) keepRead(stage int) {
	q := &p.stages[stage]
	readers := 0
	for _, t := range p.network.stages {
		for _, from := range t.sources() {
			if from.stage != stage {
				continue
			}
			readers++
			if t.vector {
				q.keep = true
				q.flattened = !p.network.stages[stage].vector
			}
		}
	}
	q.keep = q.keep || readers > 1
}

// shorten keeps more maps, so that no segment has too many windows.
func (p *plan) shorten() {
	counts := p.windows
	for i, s := range p.network.stages {
		windows := 0
		if s.op != upsampledSum && s.window.rows != 1 || s.op == separable {
			windows = 1
		}
		for _, from := range s.sources() {
			if from.stage >= 0 && !p.stages[from.stage].keep {
				windows += counts[from.stage]
			}
		}
		counts[i] = windows
		if windows >= maxWindows {
			p.stages[i].keep = true
		}
	}
}

// segmentOf returns the segment whose last stage is given.
func (p *plan) segmentOf(last int) segment {
	g := segment{last: last}
	rows := max(1, p.stages[last].out.height)
	for i := range p.stages[:last+1] {
		q := &p.stages[i]
		if q.last != last {
			continue
		}
		g.work += q.work * q.out.height / rows
	}
	return g
}

// rowWork is the number of products for one row of a stage.
func (p *plan) rowWork(s *stage, z *sized) int {
	if s.filter == nil {
		return z.out.width * s.channels
	}
	perPixel := s.filter.taps * s.filter.pairs * 2 * 16 * s.filter.blocks
	if s.op == separable {
		perPixel += 9 * 2 * 16 * s.filter.blocks
	}
	return z.out.width * perPixel
}

// layOut makes the layouts.
func (p *plan) layOut() {
	n := p.network
	for i, s := range n.stages {
		q := &p.stages[i]
		blocks := 2 * ((s.channels + 15) / 16)
		even := max((q.out.width+1)&^1, tile)
		if s.linear() {
			q.floats = layoutOfRows{block: 8 * even, row: 8 * even * blocks, rows: 2}
		}
		if s.op == separable {
			q.sums = layoutOfRows{left: 8, block: 8 * (even + 2), row: 8 * (even + 2) * blocks, rows: 4, zero: true}
		}
		if s.linear() || s.vector {
			continue
		}
		if s.full {
			q.full = p.mapLayout(i, false, q.out, blocks)
		}
		if s.pooled {
			q.pooled = p.mapLayout(i, true, q.pooledSize(), blocks)
		}
	}
	p.first = planned{sized: sized{out: p.input}}
	l := &p.first.full
	unit, planes := 1, n.channels
	if n.interleaved {
		unit, planes = n.channels, 1
	}
	p.readers(theInput, l)
	left := 0
	if l.zero {
		left = unit
	}
	l.left = left
	l.block = (unit*p.input.width + 2*unit + 15) &^ 15
	l.row = l.block * planes
	l.rows = ringRows
}

// ringRows is how many rows of a map are there for a window that reads it: three, and one
// that is computed before it is needed.
const ringRows = 4

// mapLayout returns the layout of a map.
func (p *plan) mapLayout(stage int, pooled bool, of size, blocks int) layoutOfRows {
	var l layoutOfRows
	p.readers(source{stage, pooled}, &l)
	width := max((of.width+1)&^1, tile) + 2
	if l.zero {
		l.left = 8
	}
	if p.network.unsigned(stage) {
		l.nothing = -offset
	}
	l.block = 8 * width
	l.row = l.block * blocks
	l.rows = ringRows
	if p.stages[stage].keep {
		l.rows = (of.height + 2) &^ 1 // they come in pairs, and there may be one too many
	}
	return l
}

// readers sets what the readers of a map want around it.
func (p *plan) readers(of source, l *layoutOfRows) {
	for i, s := range p.network.stages {
		if s.from != of || s.vector {
			continue
		}
		q, w := &p.stages[i], &s.window
		switch s.op {
		case convolve:
			l.zero = l.zero || q.top > 0 || q.left > 0 ||
				(q.out.height-1)*w.stride-q.top+w.rows > q.in.height || (q.out.width-1)*w.stride-q.left+w.columns > q.in.width
		case pooling:
			l.repeat = l.repeat || (q.out.width-1)*w.stride+w.columns > q.in.width
		case separable, upsampledSum: // read nothing around a pixel
		}
	}
}
