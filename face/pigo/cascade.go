package pigo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/mienproject/mien/face/luma"
)

// faceCascade decides whether a square window shows a face. It sums regression trees
// over pairs of pixels, and the first tree after which the sum is not above that tree's
// threshold rejects the window (Markuš et al., "Object Detection with Pixel Intensity
// Comparisons Organized in Decision Trees", arXiv 1305.4537). The format and every
// score, bit for bit, are those of github.com/esimov/pigo v1.4.6, core/pigo.go.
type faceCascade struct {
	trees []faceTree
	// offsets has, for each size of windows, the positions that the trees read. They
	// are computed when a size is first needed, take 120 KB for each size, and are
	// kept. Detector has 99 sizes.
	offsets [maxTiled + 1]atomic.Pointer[[]treeOffsets]
}

const (
	// faceDepth is the number of pairs that each tree compares for a window. The format
	// has a field for it, but no cascade of another depth has been published.
	faceDepth  = 6
	faceLeaves = 1 << faceDepth
)

// faceTree has its root at place 1. The children of place n are at 2n and, if the
// second pixel is darker, at 2n+1. Leaves are at faceLeaves and above.
type faceTree struct {
	nodes     [faceLeaves]luma.Pair // place 0 is not used
	leaves    [faceLeaves]float32
	threshold float32
}

// treeOffsets has the positions of a tree's pairs on a tile, relative to the top left
// corner of a window of one size; see luma.Pair.Scaled.
type treeOffsets [faceLeaves]uint32

// parseFaceCascade reads the library's file format: eight unused bytes, depth uint32,
// trees uint32, little-endian; then for each tree 2^depth-1 nodes of four bytes,
// 2^depth leaves of a float32, and the threshold, a float32.
func parseFaceCascade(data []byte) (*faceCascade, error) {
	const (
		header   = 16
		treeSize = 4*(faceLeaves-1) + 4*faceLeaves + 4
	)
	if len(data) < header {
		return nil, errors.New("shorter than its header")
	}
	depth, trees := binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
	if depth != faceDepth || trees < 1 || trees > 4096 {
		return nil, fmt.Errorf("header says %d trees of depth %d", trees, depth)
	}
	if want := header + int(trees)*treeSize; len(data) != want {
		return nil, fmt.Errorf("%d bytes; its header announces %d", len(data), want)
	}
	c := &faceCascade{trees: make([]faceTree, trees)}
	data = data[header:]
	var infinite bool
	number := func() float32 {
		v := math.Float32frombits(binary.LittleEndian.Uint32(data))
		infinite = infinite || !(math.Abs(float64(v)) <= math.MaxFloat32)
		data = data[4:]
		return v
	}
	for i := range c.trees {
		t := &c.trees[i]
		for place := 1; place < faceLeaves; place++ {
			t.nodes[reversed(place)] = luma.NewPair(int8(data[0]), int8(data[1]), int8(data[2]), int8(data[3]))
			data = data[4:]
		}
		for place := faceLeaves; place < 2*faceLeaves; place++ {
			t.leaves[reversed(place)-faceLeaves] = number()
		}
		t.threshold = number()
	}
	if infinite {
		return nil, errors.New("a leaf or threshold is not a finite number")
	}
	return c, nil
}

// reversed converts a place in the file's trees to one in faceTree. The file has the
// second child where the second pixel is not darker; faceTree has it where it is, which
// one subtraction can compute. This reverses each level.
func reversed(place int) int { return place ^ (1<<(bits.Len(uint(place))-1) - 1) }

// offsetsOf returns the positions that the trees read in windows of that size, up to
// maxTiled.
func (c *faceCascade) offsetsOf(size int) []treeOffsets {
	if made := c.offsets[size].Load(); made != nil {
		return *made
	}
	all := make([]treeOffsets, len(c.trees))
	for t := range all {
		for place, pair := range c.trees[t].nodes {
			all[t][place] = pair.Scaled(size)
		}
	}
	c.offsets[size].Store(&all)
	return all
}

// contender is a window that no tree has rejected yet.
type contender struct {
	// at is the place of its top left corner on the tile, twice: in the low and in the
	// high 16 bits.
	at    uint32
	score float32
}

// together is the number of windows that go through a tree side by side, so that the
// processor can overlap their loads. With four of them a scan takes a seventh longer,
// and with one two thirds longer.
const together = 8

// pass runs the windows, a multiple of together, through the tree. It moves those that
// are not rejected to the front, in the same order, and returns their number.
func (t *faceTree) pass(windows []contender, offsets *treeOffsets, pix *luma.Tile) int {
	kept := 0
	for i := 0; i+together <= len(windows); i += together {
		w := (*[together]contender)(windows[i:])
		// This is written out level by level so that the compiler can prove that all
		// places are within the tree.
		step := func(k int, place uint32) uint32 {
			at := w[k].at + offsets[place]
			return 2*place + (uint32(pix[at>>16])-uint32(pix[uint16(at)]))>>31
		}
		a, b, c, d, e, f, g, h := step(0, 1), step(1, 1), step(2, 1), step(3, 1), step(4, 1), step(5, 1), step(6, 1), step(7, 1)
		a, b, c, d, e, f, g, h = step(0, a), step(1, b), step(2, c), step(3, d), step(4, e), step(5, f), step(6, g), step(7, h)
		a, b, c, d, e, f, g, h = step(0, a), step(1, b), step(2, c), step(3, d), step(4, e), step(5, f), step(6, g), step(7, h)
		a, b, c, d, e, f, g, h = step(0, a), step(1, b), step(2, c), step(3, d), step(4, e), step(5, f), step(6, g), step(7, h)
		a, b, c, d, e, f, g, h = step(0, a), step(1, b), step(2, c), step(3, d), step(4, e), step(5, f), step(6, g), step(7, h)
		a, b, c, d, e, f, g, h = step(0, a), step(1, b), step(2, c), step(3, d), step(4, e), step(5, f), step(6, g), step(7, h)
		keep := func(k int, place uint32) {
			next := w[k]
			next.score += t.leaves[place-faceLeaves]
			windows[kept] = next
			// This has no branch, because the processor could not predict it.
			var stays int
			if next.score > t.threshold {
				stays = 1
			}
			kept += stays
		}
		keep(0, a)
		keep(1, b)
		keep(2, c)
		keep(3, d)
		keep(4, e)
		keep(5, f)
		keep(6, g)
		keep(7, h)
	}
	return kept
}

// score returns the sum of all trees for one window minus the last threshold, and
// whether no tree rejects it.
func (c *faceCascade) score(img luma.Plane, row, col, size int) (score float32, face bool) {
	at := func(down, right int) uint8 { return img.Pix[(row+down*size>>8)*img.Stride+col+right*size>>8] }
	for i := range c.trees {
		t := &c.trees[i]
		place := 1
		for range faceDepth {
			row1, col1, row2, col2 := t.nodes[place].Places()
			place *= 2
			if at(row2, col2) < at(row1, col1) {
				place++
			}
		}
		score += t.leaves[place-faceLeaves]
		if score <= t.threshold {
			return 0, false
		}
	}
	return score - c.last(), true
}

// last is the threshold from which scores are counted.
func (c *faceCascade) last() float32 { return c.trees[len(c.trees)-1].threshold }
