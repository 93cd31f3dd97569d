package landmark

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mienproject/mien/face/luma"
	"github.com/mienproject/mien/internal/exact"
)

// cascade finds one point of a face. It has stages of regression trees over pairs of
// pixels; each stage moves a guess and reduces its scale (Markuš et al., "Fast
// localization of facial landmark points", arXiv 1403.6888). The format and the
// algorithm are those of github.com/esimov/pigo v1.4.6, core/puploc.go. The library
// takes its perturbations from a global random source, so its points differ from call
// to call. This package uses fixed ones.
type cascade struct {
	stages, trees, depth int
	// shrink multiplies the scale after each stage.
	shrink float32
	// nodes has the trees, each with 2^depth-1 inner nodes from its root down, and one
	// unused place.
	nodes []luma.Pair
	// leaves has the 2^depth leaves of each tree.
	leaves []move
}

// move is a step, relative to the scale.
type move struct{ row, col float32 }

// parseCascade reads the library's file format: stages uint32, shrink float32, trees
// uint32, depth uint32, all little-endian; then, for each tree of each stage, 2^depth-1
// nodes of four bytes and 2^depth leaves of two float32.
func parseCascade(data []byte) (*cascade, error) {
	const header = 16
	if len(data) < header {
		return nil, errors.New("shorter than its header")
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(data[at:]) }
	f32 := func(at int) float32 { return math.Float32frombits(u32(at)) }
	stages, shrink, trees, depth := u32(0), f32(4), u32(8), u32(12)
	if stages < 1 || stages > 64 || trees < 1 || trees > 1024 || depth < 1 || depth > 16 || !(shrink > 0 && shrink <= 1) {
		return nil, fmt.Errorf("header says %d stages, %d trees, depth %d, shrink %v", stages, trees, depth, shrink)
	}
	leaves := 1 << depth
	count := int(stages) * int(trees)
	if want := header + count*(4*(leaves-1)+8*leaves); len(data) != want {
		return nil, fmt.Errorf("%d bytes; its header announces %d", len(data), want)
	}
	c := &cascade{
		stages: int(stages), trees: int(trees), depth: int(depth), shrink: shrink,
		nodes:  make([]luma.Pair, 0, count*leaves),
		leaves: make([]move, 0, count*leaves),
	}
	for at := header; at < len(data); {
		for range leaves - 1 {
			b := data[at:]
			c.nodes = append(c.nodes, luma.NewPair(int8(b[0]), int8(b[1]), int8(b[2]), int8(b[3])))
			at += 4
		}
		c.nodes = append(c.nodes, 0)
		for range leaves {
			c.leaves = append(c.leaves, move{f32(at), f32(at + 4)})
			at += 8
		}
	}
	return c, nil
}

// mirrored returns the cascade of the mirrored point, for example that of the right
// corner of the mouth for the left one's.
func (c *cascade) mirrored() *cascade {
	m := *c
	m.nodes, m.leaves = slices.Clone(c.nodes), slices.Clone(c.leaves)
	mirror := func(col int) int8 { return -int8(col) } // -128 stays, as in the library
	for i, n := range m.nodes {
		row1, col1, row2, col2 := n.Places()
		m.nodes[i] = luma.NewPair(int8(row1), mirror(col1), int8(row2), mirror(col2))
	}
	for i := range m.leaves {
		m.leaves[i].col = -m.leaves[i].col
	}
	return &m
}

// guess is a possible position of a landmark, and the scale of the search, in pixels.
type guess struct{ row, col, scale float32 }

// jitter has the perturbation of each guess, with values in [0, 1), as the library
// takes them from its random source.
type jitter [][3]float32

// The guesses for each landmark. The library uses 63 random ones. Where their spread tells
// faces from other windows, 24 evenly spread ones are as good (docs/calibration.md). Where
// landmarks are refined that a network has found, 12 are as good (docs/accuracy.md).
var (
	manyWalks = lattice(24, 1, 7, 11)
	fewWalks  = lattice(12, 1, 5, 7)
)

// lattice returns a rank-1 lattice of n points (Sloan and Joe, "Lattice Methods for
// Multiple Integration", 1994). n must be a multiple of four, and have no divisor in
// common with the generators. Unlike random numbers, the points are spread evenly over the
// cube and along each of its axes, and they are the same on every call.
func lattice(n int, generators ...int) jitter {
	j := make(jitter, n)
	for i := range j {
		for k, z := range generators {
			j[i][k] = (float32(i*z%n) + 0.5) / float32(n)
		}
	}
	return j
}

// maxPerturbations is the maximum number of perturbations in a walk: the library's 63,
// rounded up to a multiple of four.
const maxPerturbations = 64

// walkers are guesses that walk through a cascade.
type walkers struct {
	at    [maxPerturbations]guess
	moved [maxPerturbations]move
	steps [maxPerturbations]stepper
}

// walk moves the first n guesses through all stages, over the patch. All of them go
// through one tree before the next, four at a time, so that its nodes stay in the L1
// cache and the loads of the four overlap.
func (c *cascade) walk(w *walkers, n int, pix *luma.Tile) {
	for i := n; i%4 != 0; i++ {
		w.at[i] = w.at[0]
	}
	depth, size := c.depth, 1<<c.depth
	nodes, leaves := c.nodes, c.leaves
	for range c.stages {
		for i := 0; i < n || i%4 != 0; i++ {
			g := w.at[i]
			w.steps[i] = newStepper(g)
			w.moved[i] = move{}
		}
		stageNodes, stageLeaves := nodes, leaves
		for range c.trees {
			tree := nodes[:size]
			for i := 0; i < n; i += 4 {
				steps := (*[4]stepper)(w.steps[i:])
				a, b, c, d := steps[0], steps[1], steps[2], steps[3]
				var n0, n1, n2, n3 uint
				for range depth {
					n0 = 2*n0 + a.step(tree[n0], pix)
					n1 = 2*n1 + b.step(tree[n1], pix)
					n2 = 2*n2 + c.step(tree[n2], pix)
					n3 = 2*n3 + d.step(tree[n3], pix)
				}
				moved := (*[4]move)(w.moved[i:])
				for k, node := range [4]uint{n0, n1, n2, n3} {
					leaf := leaves[int(node)-(size-1)]
					moved[k].row += leaf.row
					moved[k].col += leaf.col
				}
			}
			nodes, leaves = nodes[size:], leaves[size:]
		}
		for i := range n {
			g := &w.at[i]
			m := w.moved[i]
			if !inside(*g) {
				m = c.clampedStage(*g, stageNodes, stageLeaves, pix)
			}
			g.row += float32(m.row * g.scale)
			g.col += float32(m.col * g.scale)
			g.scale *= c.shrink
		}
	}
}

// stepper has what a guess needs to go through the trees of one stage.
type stepper struct {
	scale, round uint64
	base         uint32
}

func newStepper(g guess) stepper {
	scale := int(math.Round(float64(g.scale)))
	// Places are 128 too large, and so are their products with the scale.
	half := (scale + 1) / 2
	base := uint16((int(g.row)-half)*luma.TileStride + int(g.col) - half)
	return stepper{
		scale: uint64(scale),
		round: luma.Rounding(scale),
		base:  uint32(base) * 0x1_0001,
	}
}

// step returns 2 if the second pixel of the pair is darker, and 1 otherwise: the child
// to go to.
func (s stepper) step(p luma.Pair, pix *luma.Tile) uint {
	at := p.Times(s.scale, s.round) + s.base
	return uint(1 + (uint32(pix[at>>16])-uint32(pix[uint16(at)]))>>31)
}

// inside reports whether all pixels that a guess can read are within the patch.
func inside(g guess) bool {
	reach := int(math.Round(float64(g.scale)))/2 + 1
	row, col := int(g.row), int(g.col)
	return min(row, col) >= reach && max(row, col)+reach < patchSide
}

// clampedStage is one stage of walk for a guess that reads outside of the patch, where
// the pixels of the edge are repeated.
func (c *cascade) clampedStage(g guess, nodes []luma.Pair, leaves []move, pix *luma.Tile) (m move) {
	row, col := 256*int(g.row), 256*int(g.col)
	scale := int(math.Round(float64(g.scale)))
	on := func(row, col int) uint8 {
		return pix[min(max(row>>8, 0), patchSide-1)*luma.TileStride+min(max(col>>8, 0), patchSide-1)]
	}
	size := 1 << c.depth
	for range c.trees {
		node := 0
		for range c.depth {
			row1, col1, row2, col2 := nodes[node].Places()
			node = 2*node + 1
			if on(row+row1*scale, col+col1*scale) > on(row+row2*scale, col+col2*scale) {
				node++
			}
		}
		leaf := leaves[node-(size-1)]
		m.row += leaf.row
		m.col += leaf.col
		nodes, leaves = nodes[size:], leaves[size:]
	}
	return m
}

// find returns the median of all perturbed walks that start around g, and their spread:
// the mean of the interquartile ranges of rows and columns. All are in pixels of the
// patch.
func (c *cascade) find(g guess, pix *luma.Tile, j jitter) (at guess, spread float32) {
	var w walkers
	n := len(j)
	for i, u := range j {
		w.at[i] = guess{
			row:   g.row + float32(g.scale*0.15*(0.5-u[0])),
			col:   g.col + float32(g.scale*0.15*(0.5-u[1])),
			scale: g.scale * (0.925 + float32(0.15*u[2])),
		}
	}
	c.walk(&w, n, pix)
	var rowsOf, colsOf, scalesOf [maxPerturbations]float32
	rows, cols, scales := rowsOf[:n], colsOf[:n], scalesOf[:n]
	for i, end := range w.at[:n] {
		rows[i], cols[i], scales[i] = end.row, end.col, end.scale
	}
	slices.Sort(rows)
	slices.Sort(cols)
	slices.Sort(scales)
	// The library uses this element too, the one after the median of 63.
	mid := (n + 1) / 2
	q1, q3 := n/4, 3*n/4
	return guess{rows[mid], cols[mid], scales[mid]},
		(rows[q3] - rows[q1] + cols[q3] - cols[q1]) / 2
}

// belowEyes returns where the search for nose and mouth starts, given the pupils of an
// upright face. It is the library's position (core/flploc.go, GetLandmarkPoint) without
// its shift of 0.15 of the eye distance to the viewer's right. Without the shift,
// landmarks are a tenth better (docs/calibration.md).
func belowEyes(left, right guess) guess {
	dist := float32(exact.Hypot(float64(right.col-left.col), float64(right.row-left.row)))
	return guess{
		row:   float32((left.row+right.row)/2) + float32(0.25*dist),
		col:   (left.col + right.col) / 2,
		scale: 3 * dist,
	}
}
