package nn

import (
	"context"
	"fmt"
	"math"

	"github.com/mienproject/mien/engine"
)

// floatPlan is how a network is run on an input of one size. It is made again for each size,
// in the same memory.
type floatPlan struct {
	network *floatNetwork
	input   size
	sizes   []sized
	chains  [][]floatLink
}

// floatLink is what a plan says of a stage in a chain.
type floatLink struct {
	stage int
	// in and out are the sizes of the maps that the stage reads and makes; sourceRow and row
	// are the distances of their rows.
	in, out        size
	sourceRow, row int
	// group is how many rows are computed at once, and rows how many of the map there is
	// room for.
	group, rows int
	// side is that of tiles of the map, or 1.
	side int
	// tiles is how a convolution is computed, unless it is one of the image, or has taps and
	// places.
	tiles *winograd
	// taps and places are those of the first pixels, from where the first one's window
	// begins.
	taps   []int
	places []int32
}

// minPixels is how many pixels should be computed at once, in as many rows as that takes: the
// last tile of them may be a part of one.
const minPixels = 96

// window returns the rows of the source that rows of the stage are made of.
func (l *floatLink) window(s *floatStage, begin, end int) (int, int) {
	end = (end + l.side - 1) / l.side * l.side // whole tiles
	return begin * s.window.stride, min((end-1)*s.window.stride+s.window.rows, l.in.height)
}

// set makes the plan for an input.
func (p *floatPlan) set(input size) error {
	if p.input == input {
		return nil
	}
	p.input = size{} // if it cannot be made
	if err := sizes(p.sizes, p.network.network.stages, input); err != nil {
		return err
	}
	p.input = input
	for i, chain := range p.network.chains {
		links := p.chains[i]
		row := p.network.channels * input.width
		for k, stage := range chain {
			s, l, z := &p.network.stages[stage], &links[k], &p.sizes[stage]
			l.in, l.out = z.in, z.out
			l.sourceRow, l.row = row, s.pixel*z.out.width
			l.group = min((minPixels+z.out.width-1)/z.out.width, z.out.height)
			l.side = 1
			switch { // whole tiles are written
			case s.image != nil:
				l.side = 2
				l.group = (l.group + 1) &^ 1
				l.row = s.pixel * ((z.out.width + 2*imageTiles - 1) / (2 * imageTiles) * (2 * imageTiles))
			case s.tiles != nil:
				l.tiles, l.group = fastest(s.tiles, z.out)
				l.side = l.tiles.side
				l.row = s.pixel * ((z.out.width + l.side - 1) / l.side * l.side)
			}
			row = l.row
			l.place(s)
		}
		for k := range links {
			l := &links[k]
			l.rows = l.out.height // of a map that a matrix product takes
			if k+1 < len(links) {
				// Twice as many as the next stage reads, so that rows are moved seldom.
				next := &links[k+1]
				_, needed := next.window(&p.network.stages[next.stage], 0, next.group)
				l.rows = min(2*needed+l.group, l.out.height)
			} else if p.network.stages[l.stage].linear() {
				l.rows = l.group
			}
		}
	}
	return nil
}

// place sets the taps and the places of a convolution.
func (l *floatLink) place(s *floatStage) {
	if s.filter == nil {
		return
	}
	l.taps = s.appendTaps(l.taps[:0], l.sourceRow)
	l.places = l.places[:0]
	for y := range l.group {
		for x := range l.out.width {
			l.places = append(l.places, int32(s.window.stride*(y*l.sourceRow+x*s.source)))
		}
	}
}

// floatRun is the memory of one Run, kept for the next.
type floatRun struct {
	engine  *Engine
	network *floatNetwork
	ctx     context.Context
	input   engine.Tensor
	outputs []engine.Tensor
	plan    floatPlan
	shape   engine.Shape // scratch
	tasks   []floatTask
	do      func(i int) error
}

// floatTask is a part of a run: some images of a batch, or some rows of what a chain makes of
// one image.
type floatTask struct {
	chain      int // -1 for images
	begin, end int
}

func newFloatRun(e *Engine) *floatRun {
	f := e.floats
	r := &floatRun{engine: e, network: f, plan: floatPlan{network: f, sizes: make([]sized, len(f.stages))}}
	r.do = r.task
	for _, chain := range f.chains {
		links := make([]floatLink, len(chain))
		for k, stage := range chain {
			links[k].stage = stage
		}
		r.plan.chains = append(r.plan.chains, links)
	}
	return r
}

// run computes the outputs.
func (r *floatRun) run(ctx context.Context, input engine.Tensor, outputs []engine.Tensor, batch int, of size) error {
	r.ctx, r.input, r.outputs = ctx, input, outputs
	defer func() { r.ctx, r.input, r.outputs = nil, engine.Tensor{}, nil }()
	if err := r.plan.set(of); err != nil {
		return err
	}
	if err := r.engine.checkTensors(input, outputs, r.plan.sizes, &r.shape); err != nil {
		return err
	}
	cores := 1
	if !r.engine.options.OneCore {
		cores += r.engine.options.Gate.Idle()
	}
	r.tasks = r.tasks[:0]
	if batch == 1 && !r.network.vectors() {
		if err := checkInput(input.Data); err != nil {
			return err
		}
		r.bands(cores)
	} else {
		r.images(batch, cores)
	}
	return r.engine.options.Gate.Do(len(r.tasks), r.do)
}

// checkInput returns an error for values that are too large, or not numbers.
func checkInput(values []float32) error {
	if greatest := math.Float32frombits(maxMagnitude(values)); !(greatest <= maxInput) {
		return fmt.Errorf("the input has values of a magnitude of %v; allowed are numbers up to %d", greatest, maxInput)
	}
	return nil
}

// bands makes tasks of one image: rows of the ends of the chains.
func (r *floatRun) bands(cores int) {
	for i, links := range r.plan.chains {
		work := 0
		for k := range links {
			work += r.network.stages[links[k].stage].work(links[k].out)
		}
		height := links[len(links)-1].out.height
		// In tiles, products take half of the time or less.
		bands := max(1, min(cores, work/(2*minWork), height))
		for b := range bands {
			r.tasks = append(r.tasks, floatTask{chain: i, begin: b * height / bands, end: (b + 1) * height / bands})
		}
	}
}

// work is the number of products for a map.
func (s *floatStage) work(of size) int {
	return of.height * of.width * s.products
}

// images makes tasks of the images of a batch, the same number on each core.
func (r *floatRun) images(batch, cores int) {
	rounds := (batch + cores*maxChunk - 1) / (cores * maxChunk)
	n := min((batch+rounds*cores-1)/(rounds*cores), maxChunk)
	for i := 0; i < batch; i += n {
		r.tasks = append(r.tasks, floatTask{chain: -1, begin: i, end: min(i+n, batch)})
	}
}

// task does one of the tasks.
func (r *floatRun) task(i int) error {
	t := r.tasks[i]
	m := r.network.rooms.Get()
	defer r.network.rooms.Put(m)
	m.fit(r)
	defer func() { m.run, m.image = nil, nil }()
	if t.chain >= 0 {
		m.image = r.input.Data
		return m.chain(t.chain, 0, t.begin, t.end)
	}
	each := r.input.Shape[1:].Size()
	for item := t.begin; item < t.end; item++ {
		m.image = r.input.Data[item*each:][:each]
		if err := checkInput(m.image); err != nil {
			return err
		}
		for c, links := range r.plan.chains {
			m.place(c, item-t.begin)
			if err := m.chain(c, item, 0, links[len(links)-1].out.height); err != nil {
				return err
			}
		}
	}
	return m.products(t.begin, t.end-t.begin)
}

// write writes pixels of a stage to its outputs, the first of which is the first-th of the
// outputs.
func (r *floatRun) write(stage int, values []float32, first, pixels int) {
	s := &r.network.stages[stage]
	for i := range r.network.outputs {
		o := &r.network.outputs[i]
		if o.stage != stage {
			continue
		}
		dst := r.outputs[i].Data[first*o.channels:][:pixels*o.channels]
		for p := range pixels {
			copy(dst[p*o.channels:][:o.channels], values[p*s.pixel+o.first:])
		}
		o.finish(dst)
	}
}
