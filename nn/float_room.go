package nn

import "github.com/mienproject/mien/internal/freelist"

// floatRoom is the memory in which one goroutine runs chains.
type floatRoom struct {
	run     *floatRun
	network *floatNetwork
	// size is that of the input that the buffers are for.
	size  size
	image []float32
	// rows are those of each chain's maps.
	rows [][]floatRows
	// features are the maps that matrix products take, of all images of a task, and their
	// results.
	features [][]float32
	places   []int32
	winograd winogradRoom
	tiles    imageRoom
}

// floatRows are the rows of a map that are in memory: from first to end. Rows from limit on
// are not needed.
type floatRows struct {
	data       []float32
	first, end int
	limit      int
}

func newFloatRoom(f *floatNetwork) *floatRoom {
	r := &floatRoom{network: f, features: make([][]float32, len(f.stages)), rows: make([][]floatRows, len(f.chains))}
	for i, chain := range f.chains {
		r.rows[i] = make([]floatRows, len(chain))
	}
	return r
}

// fit makes the room fit a run.
func (r *floatRoom) fit(of *floatRun) {
	r.run = of
	if r.size == of.plan.input {
		return
	}
	r.size = of.plan.input
	for c, links := range of.plan.chains {
		for k := range links {
			l, s := &links[k], &r.network.stages[links[k].stage]
			n := l.rows * l.row
			if k == len(links)-1 && !s.linear() {
				r.features[l.stage] = resized(r.features[l.stage], maxChunk*n+tile*s.pixel)
				continue
			}
			// Tiles may write some rows more, which are not used.
			r.rows[c][k].data = resized(r.rows[c][k].data, n+3*l.row+tile*s.pixel)
		}
	}
}

// place makes a chain write its map, if a matrix product takes it, where that of the task's
// image belongs.
func (r *floatRoom) place(chain, image int) {
	links := r.run.plan.chains[chain]
	last := len(links) - 1
	if l := &links[last]; !r.network.stages[l.stage].linear() {
		r.rows[chain][last].data = r.features[l.stage][image*l.rows*l.row:]
	}
}

// chain computes rows of what a chain makes of an image.
func (r *floatRoom) chain(chain, item, begin, end int) error {
	links, rows := r.run.plan.chains[chain], r.rows[chain]
	last := len(links) - 1
	limit := end
	for k := last; k >= 0; k-- {
		rows[k].first, rows[k].end, rows[k].limit = 0, 0, limit
		_, limit = links[k].window(&r.network.stages[links[k].stage], 0, limit)
	}
	l := &links[last]
	linear := r.network.stages[l.stage].linear()
	rows[last].first, rows[last].end = begin, begin
	for y := begin; y < end; {
		if err := r.run.ctx.Err(); err != nil {
			return err
		}
		if linear {
			rows[last].first = y
		}
		r.compute(chain, last)
		if linear {
			r.run.write(l.stage, rows[last].data, (item*l.out.height+y)*l.out.width, (rows[last].end-y)*l.out.width)
		}
		y = rows[last].end
	}
	return nil
}

// compute computes the next rows of a map.
func (r *floatRoom) compute(chain, k int) {
	l, m := &r.run.plan.chains[chain][k], &r.rows[chain][k]
	s := &r.network.stages[l.stage]
	end := min(m.end+l.group, m.limit)
	from, to := l.window(s, m.end, end)
	src := r.need(chain, k-1, from, to)
	dst := m.data[(m.end-m.first)*l.row:]
	switch {
	case s.image != nil:
		s.image.convolve(&r.tiles, l, dst, src, m.end, end-m.end)
	case l.tiles != nil:
		l.tiles.convolve(&r.winograd, l, dst, src, s.source, m.end, end-m.end)
	case s.filter != nil:
		s.filter.convolve(dst, src, l.places, l.taps, (end-m.end)*l.out.width)
	default:
		l.pool(s, dst, src, m.end, end)
	}
	m.end = end
}

// need returns rows of a map, from and up to a row. Rows before them are not needed any more.
func (r *floatRoom) need(chain, k, from, to int) []float32 {
	if k < 0 {
		return r.image[from*r.network.channels*r.size.width:]
	}
	l, m := &r.run.plan.chains[chain][k], &r.rows[chain][k]
	if m.end <= from {
		m.first = from
		m.first -= from % l.side // whole tiles
		m.end = m.first
	}
	for m.end < to {
		if m.end+min(l.group, m.limit-m.end)-m.first > l.rows {
			copy(m.data, m.data[(from-m.first)*l.row:(m.end-m.first)*l.row])
			m.first = from
		}
		r.compute(chain, k)
	}
	return m.data[(from-m.first)*l.row:]
}

// pool computes rows of a max pool.
func (l *floatLink) pool(s *floatStage, dst, src []float32, begin, end int) {
	side := s.window.rows
	for y := begin; y < end; y++ {
		var rows [3][]float32
		for k := range side {
			rows[k] = src[(min(2*y+k, l.in.height-1)-2*begin)*l.sourceRow:]
		}
		poolRow(dst[(y-begin)*l.row:], &rows, side, s.pixel, l.out.width, l.in.width)
	}
}

// products computes the matrix products of count images, the first of which is first.
func (r *floatRoom) products(first, count int) error {
	for i := range r.network.stages {
		s := &r.network.stages[i]
		if !s.vector {
			continue
		}
		if err := r.run.ctx.Err(); err != nil {
			return err
		}
		r.places = r.places[:0]
		for k := range count {
			r.places = append(r.places, int32(k*s.window.rows*s.window.columns*s.source))
		}
		dst := freelist.Resize(r.features[i], (count+tile)*s.pixel)
		r.features[i] = dst
		s.filter.convolve(dst, r.features[s.from.stage], r.places, s.taps, count)
		if s.linear() {
			r.run.write(i, dst, first, count)
		}
	}
	return nil
}
