package nn

import (
	"slices"

	"github.com/mienproject/mien/internal/freelist"
)

// room is the memory in which one goroutine runs segments, and their state.
type room struct {
	plan   *plan
	stages []stageRoom
	input  stageRoom
	// planes is the input of one image, whose values become integers when they are
	// multiplied by scale.
	planes []float32
	scale  float32
	// after is that of the filters that read the input, for this scale.
	after [][]float32
	run   *run
	// band is the band that is computed, or nil.
	band *band
	// size is that of the input that the buffers are for.
	size size
	// item is the image's number in the batch.
	item int
}

// stageRoom is what a room has for a stage.
type stageRoom struct {
	// full and pooled are maps, or a few of their rows. features are the maps of several
	// images, one of which is full.
	full, pooled, features []int16
	sums, floats           []float32
	taps                   []int
	// next is the row that is computed next, before a max pool. nextSums is that of a
	// separable stage's first convolution.
	next, nextSums int
}

// resized returns n zeros, in the memory of b if they fit.
func resized[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	b = b[:n]
	clear(b)
	return b
}

// fit makes the room fit a run.
func (r *room) fit(of *run) {
	p := of.plan
	r.run, r.plan = of, p
	if r.size != p.input {
		r.set()
		r.size = p.input
	}
	for i := range r.stages {
		if p.cut && p.stages[i].keep {
			r.stages[i].full, r.stages[i].pooled = of.kept[i].full, of.kept[i].pooled
		}
	}
}

// set makes the buffers fit the plan.
func (r *room) set() {
	p := r.plan
	for i, s := range p.network.stages {
		q, t := &p.stages[i], &r.stages[i]
		switch {
		case s.vector:
			continue
		case q.flattened:
			t.features = resized(t.features, maxChunk*q.full.values())
		case !q.keep || !p.cut:
			t.full, t.pooled = q.maps(s, t.full, t.pooled)
		}
		if s.op == separable {
			t.sums = resized(t.sums, q.sums.values())
		}
		if s.linear() {
			t.floats = resized(t.floats, q.floats.values())
		}
	}
	r.input.full = resized(r.input.full, p.first.full.values())
}

// maps returns the memory of a stage's maps.
func (q *planned) maps(s *stage, full, pooled []int16) ([]int16, []int16) {
	if s.full && !s.linear() {
		full = q.full.resized(full)
	}
	if s.pooled {
		pooled = q.pooled.resized(pooled)
	}
	return full, pooled
}

// resized returns a buffer of nothing but the value of 0, in the memory of b, if that is
// enough.
func (l *layoutOfRows) resized(b []int16) []int16 {
	b = resized(b, l.values())
	if l.zero && l.nothing != 0 {
		for i := range b {
			b[i] = l.nothing
		}
	}
	return b
}

// newRoom returns a room for any plan of a network.
func newRoom(n *network) *room {
	r := &room{stages: make([]stageRoom, len(n.stages)), after: make([][]float32, len(n.stages))}
	for i, s := range n.stages {
		if s.filter == nil {
			continue
		}
		r.stages[i].taps = make([]int, s.filter.taps)
		if s.from.stage < 0 {
			r.after[i] = slices.Clone(s.filter.after)
		}
	}
	return r
}

// setScale sets what makes integers of the input.
func (r *room) setScale(scale float32) {
	if r.scale == scale {
		return
	}
	r.scale = scale
	for i, s := range r.plan.network.stages {
		if r.after[i] == nil {
			continue
		}
		for k, v := range s.filter.after {
			if k%64 < 16 {
				v /= scale // a power of two
			}
			r.after[i][k] = v
		}
	}
}

// image computes one image of the batch, the place-th of its task.
func (r *room) image(item, place int) error {
	r.item = item
	values := r.run.input.Shape[1:].Size()
	r.planes = r.run.input.Data[item*values:][:values]
	scale, err := scaleOf(r.planes)
	if err != nil {
		return err
	}
	r.setScale(scale)
	for i := range r.stages {
		if q := &r.plan.stages[i]; q.flattened {
			n := q.full.values()
			r.stages[i].full = r.stages[i].features[place*n:][:n]
		}
	}
	for _, g := range r.plan.segments {
		if err := r.segment(g.last, 0, r.plan.stages[g.last].out.height); err != nil {
			return err
		}
	}
	return nil
}

// segment computes rows of the last stage of a segment.
func (r *room) segment(last, begin, end int) error {
	r.begin(last, begin)
	for r.stages[last].next < end {
		if err := r.run.ctx.Err(); err != nil {
			return err
		}
		r.compute(last)
		if r.band != nil {
			r.band.next.Store(int64(r.stages[last].next))
			if r.run.failed.Load() {
				return nil // that task returns the error
			}
		}
	}
	return nil
}

// vectors computes the matrix products of count images, the first of which is first.
func (r *room) vectors(first, count int) error {
	r.item = first
	for i, s := range r.plan.network.stages {
		if !s.vector {
			continue
		}
		if err := r.run.ctx.Err(); err != nil {
			return err
		}
		r.product(i, s, count)
	}
	return nil
}

// product computes a matrix product: a row whose pixels are the images.
func (r *room) product(i int, s *stage, count int) {
	t, f := &r.stages[i], s.filter
	block := 8 * max(count, tile)
	taps := t.taps[:0]
	var src []int16
	pixel := 8
	if from := r.plan.network.stages[s.from.stage]; from.vector {
		src = r.stages[s.from.stage].full
		for k := range f.taps {
			taps = append(taps, k*block)
		}
	} else {
		l := &r.plan.stages[s.from.stage].full
		src, pixel = r.stages[s.from.stage].features, l.values()
		perPixel := f.taps / (s.window.rows * s.window.columns)
		for y := range s.window.rows {
			for x := range s.window.columns {
				for k := range perPixel {
					taps = append(taps, y*l.row+l.left+8*x+k*l.block)
				}
			}
		}
	}
	if n := 2 * f.blocks * block; s.linear() {
		t.floats = freelist.Resize(t.floats, n+margin)
		convSums(t.floats, src, taps, f, block, pixel, count)
		r.run.writeVectors(i, t.floats, block, r.item, count)
	} else {
		t.full = freelist.Resize(t.full, n+margin)
		convInts(t.full, src, taps, f, f.after, block, pixel, count)
	}
}

// begin sets where the stages of a segment begin, so that its last one begins at row y,
// which is even.
func (r *room) begin(last, y int) {
	r.stages[last].next = y
	for i := last; i >= 0; i-- {
		s, q, t := r.plan.network.stages[i], &r.plan.stages[i], &r.stages[i]
		if q.last != last {
			continue
		}
		row := t.next
		switch s.op {
		case convolve, pooling:
			row = max(0, row*s.window.stride-q.top)
		case separable:
			row = max(0, row-1)
			t.nextSums = row
		case upsampledSum:
			r.beginAt(s.coarse, row/2)
		}
		r.beginAt(s.from, row)
	}
}

func (r *room) beginAt(from source, row int) {
	if from.stage < 0 {
		r.input.next = row
		return
	}
	if from.pooled {
		row *= 2
	}
	if r.plan.network.stages[from.stage].op == separable {
		row &^= 1 // it makes pairs of rows
	}
	if !r.plan.stages[from.stage].keep {
		r.stages[from.stage].next = row
	}
}

// need computes rows of a map up to row y. Those of a map that is kept are there, or computed
// by another task.
func (r *room) need(from source, y int) {
	if from.stage < 0 {
		for r.input.next <= y {
			r.read(r.input.next)
			r.input.next++
		}
		return
	}
	if from.pooled {
		y = 2*y + 1
	}
	if r.plan.stages[from.stage].keep {
		if r.band != nil {
			r.run.wait(from.stage, y)
		}
		return
	}
	for t := &r.stages[from.stage]; t.next <= y; {
		r.compute(from.stage)
	}
}

// read makes integers of a row of the input.
func (r *room) read(y int) {
	l := &r.plan.first.full
	n, width := r.plan.network, r.plan.input.width
	dst := r.input.full[l.at(y, y+1)+l.left:]
	if n.interleaved {
		width *= n.channels
		quantize(dst[:width], r.planes[y*width:][:width], r.scale)
		return
	}
	plane := r.plan.input.height * width
	for c := range n.channels {
		quantize(dst[c*l.block:][:width], r.planes[c*plane+y*width:][:width], r.scale)
	}
}

// source returns a map, its layout and its size.
func (r *room) source(from source) ([]int16, *layoutOfRows, size) {
	switch {
	case from.stage < 0:
		return r.input.full, &r.plan.first.full, r.plan.input
	case from.pooled:
		q := &r.plan.stages[from.stage]
		return r.stages[from.stage].pooled, &q.pooled, q.pooledSize()
	}
	q := &r.plan.stages[from.stage]
	return r.stages[from.stage].full, &q.full, q.out
}

// compute computes the next row of a stage, or the next two.
func (r *room) compute(i int) {
	switch r.plan.network.stages[i].op {
	case convolve:
		r.convolve(i)
	case separable:
		r.separable(i)
	case pooling:
		r.pool(i)
	case upsampledSum:
		r.sum(i)
	}
}

// convolve computes a row of a dense convolution.
func (r *room) convolve(i int) {
	s, q, t := r.plan.network.stages[i], &r.plan.stages[i], &r.stages[i]
	f, w := s.filter, &s.window
	y := t.next
	t.next++
	top := y*w.stride - q.top
	r.need(s.from, min(top+w.rows, q.in.height)-1)
	src, l, of := r.source(s.from)
	pixel := 8
	perRow, step := f.taps/w.rows, l.block
	if s.from.stage < 0 {
		pixel = 1
		if r.plan.network.interleaved {
			pixel = r.plan.network.channels
		}
	} else {
		perRow /= w.columns
	}
	taps := t.taps[:0]
	for ky := range w.rows {
		at := l.at(top+ky, of.height) + l.left - q.left*pixel
		columns := 1
		if s.from.stage >= 0 {
			columns = w.columns
		}
		for kx := range columns {
			for k := range perRow {
				taps = append(taps, at+8*kx+k*step)
			}
		}
	}
	if s.linear() {
		convSums(t.floats, src, taps, f, q.floats.block, pixel*w.stride, q.out.width)
		r.run.write(r.item, i, t.floats, y, 1)
		return
	}
	after := f.after
	if s.from.stage < 0 {
		after = r.after[i]
	}
	at := q.full.at(y, y+1)
	convInts(t.full[at+q.full.left:], src, taps, f, after, q.full.block, pixel*w.stride, q.out.width)
	q.full.edge(t.full[at:], q.out.width)
}

// edge sets the pixel after a row's last one.
func (l *layoutOfRows) edge(row []int16, width int) {
	if !l.zero && !l.repeat {
		return
	}
	for at := l.left + 8*width; at < l.row; at += l.block {
		pixel := (*[8]int16)(row[at:])
		if l.zero {
			for c := range pixel {
				pixel[c] = l.nothing
			}
		} else {
			copy(pixel[:], row[at-8:at])
		}
	}
}

// separable computes two rows of a separable convolution.
func (r *room) separable(i int) {
	s, q, t := r.plan.network.stages[i], &r.plan.stages[i], &r.stages[i]
	y, height, width := t.next, q.out.height, q.out.width
	t.next += 2
	for last := min(y+3, height); t.nextSums < last; t.nextSums++ {
		r.pointwise(i, t.nextSums)
	}
	in := window{srcBlock: q.sums.block}
	for k := range in.rows {
		in.rows[k] = t.sums[q.sums.at(y-1+k, height):]
	}
	tiles, blocks := (width+1)/2, 2*s.filter.blocks
	if s.linear() {
		depthwiseFloats(t.floats, t.floats[q.floats.row:], &in, s.depthwise8, q.floats.block, tiles, blocks)
		r.run.write(r.item, i, t.floats, y, min(2, height-y))
		return
	}
	var dst0, dst1, pool []int16
	// After the last row of an odd number there is room for one more.
	if s.full {
		dst0, dst1 = t.full[q.full.at(y, y+1)+q.full.left:], t.full[q.full.at(y+1, y+2)+q.full.left:]
	}
	if s.pooled {
		pool = t.pooled[q.pooled.at(y/2, y/2+1)+q.pooled.left:]
	}
	depthwiseInts(dst0, dst1, pool, &in, s.depthwise8, q.full.block, q.pooled.block, tiles, blocks)
	if s.full {
		q.full.edge(t.full[q.full.at(y, y+1):], width)
		q.full.edge(t.full[q.full.at(y+1, y+2):], width)
	}
	if s.pooled {
		q.pooled.edge(t.pooled[q.pooled.at(y/2, y/2+1):], width/2)
	}
}

// pointwise computes a row of the 1×1 convolution of a separable one.
func (r *room) pointwise(i, y int) {
	s, q, t := r.plan.network.stages[i], &r.plan.stages[i], &r.stages[i]
	r.need(s.from, y)
	src, l, of := r.source(s.from)
	at := l.at(y, of.height) + l.left
	taps := t.taps
	for k := range taps {
		taps[k] = at + k*l.block
	}
	dst := t.sums[q.sums.at(y, y+1):]
	convSums(dst[q.sums.left:], src, taps, s.filter, q.sums.block, 8, q.out.width)
	if q.out.width < tile {
		// A whole tile was written.
		for b := 8 * (q.out.width + 1); b < q.sums.row; b += q.sums.block {
			clear(dst[b : b+8])
		}
	}
}

// pool computes a row of a max pool.
func (r *room) pool(i int) {
	s, q, t := r.plan.network.stages[i], &r.plan.stages[i], &r.stages[i]
	y := t.next
	t.next++
	top := 2 * y
	r.need(s.from, min(top+s.window.rows, q.in.height)-1)
	src, l, of := r.source(s.from)
	var rows [3][]int16
	for k := range s.window.rows {
		rows[k] = src[l.at(min(top+k, of.height-1), of.height)+l.left:]
	}
	at := q.full.at(y, y+1)
	maxPool(t.full[at+q.full.left:], rows[:s.window.rows], q.full.block, l.block, q.out.width, 2*((s.channels+15)/16))
	q.full.edge(t.full[at:], q.out.width)
}

// sum computes a row of the sum of a map and an enlarged one.
func (r *room) sum(i int) {
	s, q, t := r.plan.network.stages[i], &r.plan.stages[i], &r.stages[i]
	y := t.next
	t.next++
	r.need(s.from, y)
	r.need(s.coarse, y/2)
	fine, fineLayout, fineSize := r.source(s.from)
	coarse, coarseLayout, coarseSize := r.source(s.coarse)
	a, b := fineLayout.at(y, fineSize.height)+fineLayout.left, coarseLayout.at(y/2, coarseSize.height)+coarseLayout.left
	at := q.full.at(y, y+1)
	for k := range 2 * ((s.channels + 15) / 16) {
		addRows(t.full[at+q.full.left+k*q.full.block:], fine[a+k*fineLayout.block:], coarse[b+k*coarseLayout.block:], q.out.width/2)
	}
	q.full.edge(t.full[at:], q.out.width)
}
