package pigo

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face/luma"
)

const (
	// maxTiled is the size in pixels of the largest windows that are scanned on tiles.
	// Few larger windows fit on a tile, so copying it would take longer than it saves.
	// Detector uses no larger windows.
	maxTiled = 128
	// maxContenders is the maximum number of windows that are scanned at once, which
	// take 64 KB.
	maxContenders = 1 << 13
	// contextPasses is the number of passes of a window through a tree between two
	// checks of the context, which take about a quarter of a millisecond.
	contextPasses = 1 << 15
	// maxWindowsKept is the maximum number of windows whose memory is kept between two
	// scans: two megabytes.
	maxWindowsKept = 1 << 16
)

// sizes are the window sizes of a scan, by the rules of the library (its
// CascadeParams).
type sizes struct {
	smallest, largest int // in pixels; the smallest is at least 1
	// shift is the distance of neighboring windows relative to their size, and scale
	// the ratio of neighboring sizes.
	shift, scale float64
}

// nextSize returns the next window size in the library.
func nextSize(size int, scale float64) int {
	s := float64(size)
	return int(s + max(2, float64(s*scale)-s))
}

// band is a set of rows of windows of one size, which can be scanned independently.
type band struct {
	img luma.Plane
	// factor is the number of pixels of img for each pixel of the scanned image, in
	// each direction.
	factor     int
	size, step int
	// first is the number of the first row of windows. rows and cols are the numbers of
	// rows and columns.
	first, rows, cols int
}

// bands appends the bands of a scan of img.
func (s sizes) bands(all []band, img luma.Plane, factor int) []band {
	for size := s.smallest; size <= s.largest; size = nextSize(size, s.scale) {
		// All pixels that a window of size s reads are within s/2+1 of its center.
		margin := size/2 + 1
		if 2*margin > min(img.Width, img.Height) {
			break
		}
		b := band{img: img, factor: factor, size: size, step: max(1, int(s.shift*float64(size)))}
		b.cols = (img.Width-2*margin)/b.step + 1
		rows := (img.Height-2*margin)/b.step + 1
		maxRows := 1
		if size <= maxTiled {
			maxRows = min(b.perTile(), maxContenders/min(b.perTile(), b.cols))
		}
		for ; b.first < rows; b.first += maxRows {
			b.rows = min(maxRows, rows-b.first)
			all = append(all, b)
		}
	}
	return all
}

// perTile returns the number of windows that fit side by side on a tile.
func (b *band) perTile() int { return (luma.TileStride-1-b.size)/b.step + 1 }

// center returns the center of a window, in pixels of the band's image.
func (b *band) center(row, col int) (y, x int) {
	margin := b.size/2 + 1
	return margin + (b.first+row)*b.step, margin + col*b.step
}

// room is the memory of a scan on one goroutine.
type room struct {
	// tile is a piece of the image. Its places have 16 bits, and windows on it have the
	// same offsets for any image.
	tile       luma.Tile
	contenders [maxContenders + together - 1]contender
	// bands and windows are those of one unit of work.
	bands   []band
	windows []window
}

var rooms = sync.Pool{New: func() any { return new(room) }}

// release returns the room to the pool, without references to the image.
func (r *room) release() {
	clear(r.bands)
	if cap(r.windows) > maxWindowsKept {
		r.windows = nil
	}
	rooms.Put(r)
}

// scan appends to found the windows of the bands that the cascade accepts, in the order
// of the library.
func (c *faceCascade) scan(ctx context.Context, r *room, bands []band, found []window) ([]window, error) {
	old := len(found)
	for i := range bands {
		var err error
		if found, err = c.scanBand(ctx, &bands[i], r, found); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found[old:], inOrder)
	return found, nil
}

// parallelScan is a scan on several cores. It is reused together with its function, so
// that a scan allocates nothing.
type parallelScan struct {
	cascade *faceCascade
	ctx     context.Context
	bands   []band
	do      func(i int) error // scans the i-th band

	mu    sync.Mutex
	found []window
}

var parallelScans = sync.Pool{New: func() any {
	s := new(parallelScan)
	s.do = s.scan
	return s
}}

func (s *parallelScan) scan(i int) error {
	r := rooms.Get().(*room)
	defer r.release()
	var err error
	if r.windows, err = s.cascade.scanBand(s.ctx, &s.bands[i], r, r.windows[:0]); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = append(s.found, r.windows...)
	return nil
}

// scanParallel is like scan, on the free cores of the gate.
func (c *faceCascade) scanParallel(ctx context.Context, gate *cores.Gate, bands []band, found []window) ([]window, error) {
	s := parallelScans.Get().(*parallelScan)
	s.cascade, s.ctx, s.bands, s.found = c, ctx, bands, found
	old := len(found)
	err := gate.Do(len(bands), s.do)
	found = s.found
	s.cascade, s.ctx, s.bands, s.found = nil, nil, nil, nil
	parallelScans.Put(s)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found[old:], inOrder)
	return found, nil
}

// inOrder compares by size, row and column, which is the order of the library.
func inOrder(a, b window) int {
	return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.row, b.row), cmp.Compare(a.col, b.col))
}

func (c *faceCascade) scanBand(ctx context.Context, b *band, r *room, found []window) ([]window, error) {
	if b.size > maxTiled {
		return c.scanLarge(ctx, b, found)
	}
	for col := 0; col < b.cols; col += b.perTile() {
		cols := min(b.perTile(), b.cols-col)
		r.cut(b, col, cols)
		left, err := c.contest(ctx, r, b.size, r.lineUp(b, cols))
		if err != nil {
			return nil, err
		}
		y, x := b.center(0, col)
		for _, w := range left {
			place := int(uint16(w.at))
			found = append(found, b.window(y+place/luma.TileStride, x+place%luma.TileStride, w.score-c.last()))
		}
	}
	return found, nil
}

// window returns the window around a pixel of the band's image.
func (b *band) window(row, col int, score float32) window {
	return window{row*b.factor + b.factor/2, col*b.factor + b.factor/2, b.size * b.factor, score}
}

// cut fills the tile with the part of the image that some columns of the band cover.
func (r *room) cut(b *band, col, cols int) {
	y, x := b.center(0, col)
	reach := (b.size + 1) / 2
	src := b.img.Pix[(y-reach)*b.img.Stride+x-reach:]
	width := (cols-1)*b.step + b.size + 1
	for row := range (b.rows-1)*b.step + b.size + 1 {
		copy(r.tile[row*luma.TileStride:][:width], src[row*b.img.Stride:])
	}
}

// lineUp returns the windows on the tile, row by row.
func (r *room) lineUp(b *band, cols int) []contender {
	const twice = 1<<16 + 1
	all := r.contenders[:b.rows*cols]
	for row := range b.rows {
		at := uint32(row*b.step*luma.TileStride) * twice
		for i := range all[row*cols:][:cols] {
			all[row*cols+i] = contender{at: at}
			at += uint32(b.step) * twice
		}
	}
	return all
}

// contest returns the windows that no tree rejects. All of them go through one tree
// before the next, so that its nodes stay in the L1 cache.
func (c *faceCascade) contest(ctx context.Context, r *room, size int, windows []contender) ([]contender, error) {
	offsets := c.offsetsOf(size)
	passes := contextPasses
	for t := range c.trees {
		if passes >= contextPasses {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			passes = 0
		}
		passes += len(windows)
		for len(windows)%together != 0 {
			windows = append(windows, contender{score: float32(math.Inf(-1))}) // rejected by every tree
		}
		windows = windows[:c.trees[t].pass(windows, &offsets[t], &r.tile)]
		if len(windows) == 0 {
			break
		}
	}
	return windows, nil
}

// scanLarge is like scanBand for windows that hardly fit on a tile, of which there are
// few.
func (c *faceCascade) scanLarge(ctx context.Context, b *band, found []window) ([]window, error) {
	for row := range b.rows {
		for col := range b.cols {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			y, x := b.center(row, col)
			if score, ok := c.score(b.img, y, x, b.size); ok {
				found = append(found, b.window(y, x, score))
			}
		}
	}
	return found, nil
}
