package nn

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"

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
	// bandsOf are the bands of each stage that ends a segment.
	bandsOf [][]band
	// greatest has the bits of the greatest magnitude of the input, once nothing is
	// unscanned.
	greatest  atomic.Uint32
	unscanned atomic.Int64
	// failed means that a task has failed, or panicked: nobody waits for it.
	failed atomic.Bool
	// outputsOf are the outputs that each stage gives.
	outputsOf [][]int
}

// task is a part of a run: some images of a batch, some values of the input to be scanned,
// or rows of a segment.
type task struct {
	part       part
	begin, end int
	// stage is the segment's last stage, and band the number of its band.
	stage, band int
}

type part int

const (
	someImages part = iota
	someValues
	someRows
)

// band are some rows of a map that is kept. Those before next are computed.
type band struct {
	begin, end int
	next       atomic.Int64
}

func newRun(e *Engine) *run {
	n := e.network
	r := &run{
		engine: e, plan: newPlan(n), kept: make([]stageRoom, len(n.stages)),
		bandsOf: make([][]band, len(n.stages)), outputsOf: make([][]int, len(n.stages)),
	}
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
		r.tasks = append(r.tasks, task{begin: i, end: min(i+size, r.batch)})
	}
	return r.engine.options.Gate.Do(len(r.tasks), r.do)
}

// bands computes bands of one image on several cores. A task waits for the rows that it
// needs of tasks before it: those have begun, as tasks begin in order.
func (r *run) bands(cores int) error {
	r.failed.Store(false)
	r.tasks = r.tasks[:0]
	r.greatest.Store(0)
	r.unscanned.Store(int64(cores))
	values := len(r.input.Data)
	for i := range cores {
		r.tasks = append(r.tasks, task{part: someValues, begin: i * values / cores, end: (i + 1) * values / cores})
	}
	for _, g := range r.plan.segments {
		height := r.plan.stages[g.last].out.height
		n := max(1, min(cores, g.work*height/minWork, height/2))
		if cap(r.bandsOf[g.last]) < n {
			r.bandsOf[g.last] = make([]band, n)
		}
		bands := r.bandsOf[g.last][:n]
		r.bandsOf[g.last] = bands
		begin := 0
		for i := range bands {
			// Rows are computed in pairs.
			end := (i + 1) * height / n &^ 1
			if i == n-1 {
				end = height
			}
			bands[i].begin, bands[i].end = begin, end
			bands[i].next.Store(int64(begin))
			r.tasks = append(r.tasks, task{part: someRows, begin: begin, end: end, stage: g.last, band: i})
			begin = end
		}
	}
	return r.engine.options.Gate.Do(len(r.tasks), r.do)
}

// scan finds the greatest magnitude of some values of the input.
func (r *run) scan(values []float32) {
	bits := maxMagnitude(values)
	for old := r.greatest.Load(); bits > old && !r.greatest.CompareAndSwap(old, bits); old = r.greatest.Load() {
	}
	r.unscanned.Add(-1)
}

// waitForScale waits until the input is scanned, and returns the scale for it.
func (r *run) waitForScale() (float32, error) {
	for r.unscanned.Load() > 0 && !r.failed.Load() {
		runtime.Gosched()
	}
	return scaleFor(math.Float32frombits(r.greatest.Load()))
}

// maxWindowRows is how many rows a window has at most: three, each the maximum of two.
const maxWindowRows = 6

// wait waits until the rows of a map that is kept are computed, the last of which is given: as
// many as a window has, or more. It waits for nobody once a task has failed.
func (r *run) wait(stage, last int) {
	first := last - maxWindowRows + 1
	bands := r.bandsOf[stage]
	for i := range bands {
		b := &bands[i]
		if b.end <= first || b.begin > last {
			continue
		}
		for end := int64(min(last+1, b.end)); b.next.Load() < end && !r.failed.Load(); {
			runtime.Gosched()
		}
	}
}

// task does one of the tasks.
func (r *run) task(i int) error {
	done := false
	defer func() {
		if !done {
			r.failed.Store(true)
		}
	}()
	err := r.part(&r.tasks[i])
	done = err == nil
	return err
}

func (r *run) part(t *task) error {
	if t.part == someValues {
		r.scan(r.input.Data[t.begin:t.end])
		return nil
	}
	e := r.engine
	rooms := &e.rooms
	if r.plan.cut {
		rooms = &e.cutRooms
	}
	m := rooms.Get()
	defer rooms.Put(m)
	m.fit(r)
	defer func() { m.run, m.planes, m.band = nil, nil, nil }()
	if t.part == someRows {
		scale, err := r.waitForScale()
		if err != nil {
			return err
		}
		m.planes = r.input.Data
		m.setScale(scale)
		m.band = &r.bandsOf[t.stage][t.band]
		return m.segment(t.stage, t.begin, t.end)
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
	return scaleFor(math.Float32frombits(maxMagnitude(values)))
}

// scaleFor returns the scale for values up to a magnitude.
func scaleFor(greatest float32) (float32, error) {
	if !(greatest <= maxInput) {
		return 0, fmt.Errorf("the input has values of a magnitude of %v; allowed are numbers up to %d", greatest, maxInput)
	}
	bits := maxScaleBits
	for greatest*float32(int(1)<<bits) > math.MaxInt16 {
		bits--
	}
	return float32(int(1) << bits), nil
}
