package nn

import (
	"context"
	"fmt"
	"math"

	"github.com/mienproject/mien/engine"
)

// run is the memory of one Run, kept for the next.
type run struct {
	engine  *Engine
	ctx     context.Context
	input   engine.Tensor
	outputs []engine.Tensor
	batch   int
	plan    *plan
	shape   engine.Shape // scratch
	// kept are the maps that segments keep for each other's bands, for an input of the size
	// keptFor.
	kept    []stageRoom
	keptFor size
	// tasks are those that can be done beside each other, by do.
	tasks []task
	do    func(i int) error
	// planes are the input in bands, and scale what makes integers of it.
	scale float32
	// outputsOf are the outputs that each stage gives.
	outputsOf [][]int
}

// task is a part of a run: some rows of a segment, or some images of a batch.
type task struct {
	segment    int
	begin, end int
}

func newRun(e *Engine) *run {
	n := e.network
	r := &run{engine: e, plan: newPlan(n), kept: make([]stageRoom, len(n.stages)), outputsOf: make([][]int, len(n.stages))}
	r.do = r.task
	for i := range n.outputs {
		at := &r.outputsOf[n.outputs[i].stage]
		*at = append(*at, i)
	}
	return r
}

// maxChunk is how many images of a batch are computed together.
const maxChunk = 4 * tile

// minWork is the number of products from which on a part of a segment is worth a core of
// its own.
const minWork = 1 << 20

// run computes the outputs.
func (r *run) run(ctx context.Context, input engine.Tensor, outputs []engine.Tensor, batch int, of size) error {
	r.ctx, r.input, r.outputs, r.batch = ctx, input, outputs, batch
	defer func() { r.ctx, r.input, r.outputs = nil, engine.Tensor{}, nil }()
	cores := 1
	if !r.engine.options.OneCore {
		cores += r.engine.options.Gate.Idle()
	}
	cut := cores > 1 && batch == 1 && !r.engine.network.vectors()
	if err := r.plan.set(of, cut); err != nil {
		return err
	}
	if err := r.engine.checkTensors(input, outputs, r.plan.sizes, &r.shape); err != nil {
		return err
	}
	if !cut {
		return r.images(cores)
	}
	if r.keptFor != of {
		for i, s := range r.engine.network.stages {
			if q := &r.plan.stages[i]; q.keep {
				r.kept[i].full, r.kept[i].pooled = q.maps(s, r.kept[i].full, r.kept[i].pooled)
			}
		}
		r.keptFor = of
	}
	return r.bands(cores)
}

// images computes the images of the batch one by one, on one core each.
func (r *run) images(cores int) error {
	size := (r.batch + cores - 1) / cores
	size = min((size+tile-1)/tile*tile, maxChunk)
	r.tasks = r.tasks[:0]
	for i := 0; i < r.batch; i += size {
		r.tasks = append(r.tasks, task{segment: -1, begin: i, end: min(i+size, r.batch)})
	}
	return r.engine.options.Gate.Do(len(r.tasks), r.do)
}

// bands computes bands of one image on several cores, wave by wave.
func (r *run) bands(cores int) (err error) {
	if r.scale, err = scaleOf(r.input.Data); err != nil {
		return err
	}
	for wave := 0; ; wave++ {
		r.tasks = r.tasks[:0]
		for i, g := range r.plan.segments {
			if g.wave != wave {
				continue
			}
			height := r.plan.stages[g.last].out.height
			bands := max(1, min(cores, g.work*height/minWork, height/2))
			for b := range bands {
				begin, end := b*height/bands&^1, (b+1)*height/bands&^1
				if b == bands-1 {
					end = height
				}
				r.tasks = append(r.tasks, task{segment: i, begin: begin, end: end})
			}
		}
		if len(r.tasks) == 0 {
			return nil
		}
		if err := r.engine.options.Gate.Do(len(r.tasks), r.do); err != nil {
			return err
		}
	}
}

// task does one of the tasks.
func (r *run) task(i int) error {
	t := r.tasks[i]
	e := r.engine
	rooms := &e.rooms
	if r.plan.cut {
		rooms = &e.cutRooms
	}
	m := rooms.Get().(*room)
	defer rooms.Put(m)
	m.fit(r)
	defer func() { m.run, m.planes = nil, nil }()
	if t.segment >= 0 {
		m.planes = r.input.Data
		m.setScale(r.scale)
		return m.segment(r.plan.segments[t.segment].last, t.begin, t.end)
	}
	for item := t.begin; item < t.end; item++ {
		if err := m.image(item, item-t.begin); err != nil {
			return err
		}
	}
	return m.vectors(t.begin, t.end-t.begin)
}

// Inputs are multiplied by a power of two, the greatest with which they are within int16. So
// an image has its own, whatever is in the batch beside it.
const (
	minScaleBits = 3
	maxScaleBits = 16
	maxInput     = math.MaxInt16 >> minScaleBits
)

// scaleOf returns the scale for the values of an image.
func scaleOf(values []float32) (float32, error) {
	greatest := math.Float32frombits(maxMagnitude(values))
	if !(greatest <= maxInput) {
		return 0, fmt.Errorf("the input has values of a magnitude of %v; allowed are numbers up to %d", greatest, maxInput)
	}
	bits := maxScaleBits
	for greatest*float32(int(1)<<bits) > math.MaxInt16 {
		bits--
	}
	return float32(int(1) << bits), nil
}
