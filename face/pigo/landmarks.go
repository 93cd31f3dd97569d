package pigo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// landmarkCascade finds one point of a face: stages of regression trees over
// pixel pairs, each stage moving a guess and narrowing its scale (Markuš et al.,
// "Fast localization of facial landmark points", arXiv 1403.6888; the format and
// the walk are those of github.com/esimov/pigo v1.4.6, core/puploc.go).
//
// The library draws its perturbations from a global random source, so that its
// points differ from call to call. This walk takes fixed ones.
type landmarkCascade struct {
	stages, trees, depth int
	// shrink multiplies the scale after each stage.
	shrink float32
	// codes holds for each inner node two places of (row, column), relative to
	// the guess, in 1/256 of the scale.
	codes []int8
	// moves holds for each leaf a (row, column) step as a part of the scale.
	moves []float32
}

// parseLandmarkCascade reads the library's file format: stages uint32, shrink
// float32, trees uint32, depth uint32, little-endian; then for each stage and
// tree 2^depth-1 nodes of four bytes and 2^depth leaves of two float32.
func parseLandmarkCascade(data []byte) (*landmarkCascade, error) {
	const header = 16
	if len(data) < header {
		return nil, errors.New("landmark cascade: shorter than its header")
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(data[at:]) }
	stages, shrink, trees, depth := u32(0), math.Float32frombits(u32(4)), u32(8), u32(12)
	if stages < 1 || stages > 64 || trees < 1 || trees > 1024 || depth < 1 || depth > 16 || !(shrink > 0 && shrink <= 1) {
		return nil, fmt.Errorf("landmark cascade: header says %d stages, %d trees, depth %d, shrink %v", stages, trees, depth, shrink)
	}
	leaves := 1 << depth
	nodeBytes, leafBytes := 4*(leaves-1), 8*leaves
	count := int(stages) * int(trees)
	if want := header + count*(nodeBytes+leafBytes); len(data) != want {
		return nil, fmt.Errorf("landmark cascade: %d bytes, its header promises %d", len(data), want)
	}
	c := &landmarkCascade{
		stages: int(stages), trees: int(trees), depth: int(depth), shrink: shrink,
		codes: make([]int8, 0, count*nodeBytes),
		moves: make([]float32, 0, count*2*leaves),
	}
	for at := header; at < len(data); {
		for _, b := range data[at : at+nodeBytes] {
			c.codes = append(c.codes, int8(b))
		}
		at += nodeBytes
		for range 2 * leaves {
			c.moves = append(c.moves, math.Float32frombits(u32(at)))
			at += 4
		}
	}
	return c, nil
}

// guess is where a landmark may be: a place and the scale of the search, in
// pixels.
type guess struct{ row, col, scale float32 }

// walk follows one guess through all stages. mirror looks for the mirrored
// point: the cascade of a left mouth corner then finds the right one.
func (c *landmarkCascade) walk(g guess, img gray, mirror bool) guess {
	var (
		leaves   = 1 << c.depth
		codes    = c.codes
		moves    = c.moves
		maxRow   = img.height - 1
		maxCol   = img.width - 1
		rowShift float32
		colShift float32
	)
	for range c.stages {
		row, col := 256*int(g.row), 256*int(g.col)
		scale := int(math.Round(float64(g.scale)))
		rowShift, colShift = 0, 0
		for range c.trees {
			node := 0
			for range c.depth {
				code := codes[4*node : 4*node+4]
				left, right := code[1], code[3]
				if mirror {
					left, right = -left, -right // as int8: -128 stays, as in the library
				}
				r1 := min(maxRow, max(0, (row+int(code[0])*scale)>>8))
				c1 := min(maxCol, max(0, (col+int(left)*scale)>>8))
				r2 := min(maxRow, max(0, (row+int(code[2])*scale)>>8))
				c2 := min(maxCol, max(0, (col+int(right)*scale)>>8))
				node = 2*node + 1
				if img.pix[r1*img.stride+c1] > img.pix[r2*img.stride+c2] {
					node++
				}
			}
			leaf := 2 * (node - (leaves - 1))
			rowShift += moves[leaf]
			if mirror {
				colShift -= moves[leaf+1]
			} else {
				colShift += moves[leaf+1]
			}
			codes = codes[4*(leaves-1):]
			moves = moves[2*leaves:]
		}
		g.row += rowShift * g.scale
		g.col += colShift * g.scale
		g.scale *= c.shrink
	}
	return g
}

// walkTilted is walk on a face that is turned in the image by an angle with that
// cosine and sine, clockwise as a viewer sees it: every pair of pixels and every
// move is turned with it.
func (c *landmarkCascade) walkTilted(g guess, img gray, mirror bool, cos, sin float64) guess {
	var (
		leaves   = 1 << c.depth
		codes    = c.codes
		moves    = c.moves
		maxRow   = img.height - 1
		maxCol   = img.width - 1
		rowShift float32
		colShift float32
	)
	for range c.stages {
		row, col := 65536*int(g.row), 65536*int(g.col)
		cosScale := int(math.Round(256 * cos * float64(g.scale)))
		sinScale := int(math.Round(256 * sin * float64(g.scale)))
		rowShift, colShift = 0, 0
		for range c.trees {
			node := 0
			for range c.depth {
				code := codes[4*node : 4*node+4]
				down1, right1, down2, right2 := int(code[0]), int(code[1]), int(code[2]), int(code[3])
				if mirror {
					right1, right2 = -right1, -right2
				}
				r1 := min(maxRow, max(0, (row+down1*cosScale+right1*sinScale)>>16))
				c1 := min(maxCol, max(0, (col+right1*cosScale-down1*sinScale)>>16))
				r2 := min(maxRow, max(0, (row+down2*cosScale+right2*sinScale)>>16))
				c2 := min(maxCol, max(0, (col+right2*cosScale-down2*sinScale)>>16))
				node = 2*node + 1
				if img.pix[r1*img.stride+c1] > img.pix[r2*img.stride+c2] {
					node++
				}
			}
			leaf := 2 * (node - (leaves - 1))
			rowShift += moves[leaf]
			if mirror {
				colShift -= moves[leaf+1]
			} else {
				colShift += moves[leaf+1]
			}
			codes = codes[4*(leaves-1):]
			moves = moves[2*leaves:]
		}
		g.row += (rowShift*float32(cos) + colShift*float32(sin)) * g.scale
		g.col += (colShift*float32(cos) - rowShift*float32(sin)) * g.scale
		g.scale *= c.shrink
	}
	return g
}

// perturbations is how many guesses vote on a landmark, as in the library.
const perturbations = 63

// jitter is the perturbation of each guess, each value in [0, 1): what the
// library takes from its random source.
type jitter [perturbations][3]float32

// fixedJitter is the additive recurrence R3 (Martin Roberts, "The unreasonable
// effectiveness of quasirandom sequences", 2018): evenly spread over the cube,
// which random numbers are not, and the same on every call.
var fixedJitter = func() (j jitter) {
	// The real root of x⁴ = x + 1.
	const g = 1.2207440846057596
	for i := range j {
		step := 1.0
		for k := range j[i] {
			step /= g
			_, f := math.Modf(0.5 + float64(i+1)*step)
			j[i][k] = float32(f)
		}
	}
	return j
}()

// find returns the median of all perturbed walks that start around g, and how
// far they end from each other: the mean of the interquartile ranges of rows and
// columns, in pixels. The face is turned by tilt, in radians, clockwise.
func (c *landmarkCascade) find(g guess, img gray, mirror bool, tilt float64, j *jitter) (at guess, spread float32) {
	var rows, cols, scales [perturbations]float32
	sin, cos := math.Sincos(tilt)
	for i, u := range j {
		end := guess{
			row:   g.row + g.scale*0.15*(0.5-u[0]),
			col:   g.col + g.scale*0.15*(0.5-u[1]),
			scale: g.scale * (0.925 + 0.15*u[2]),
		}
		if tilt == 0 {
			end = c.walk(end, img, mirror)
		} else {
			end = c.walkTilted(end, img, mirror, cos, sin)
		}
		rows[i], cols[i], scales[i] = end.row, end.col, end.scale
	}
	slices.Sort(rows[:])
	slices.Sort(cols[:])
	slices.Sort(scales[:])
	// The library takes this element, one after the median of 63.
	const mid = (perturbations + 1) / 2
	const q1, q3 = perturbations / 4, 3 * perturbations / 4
	return guess{rows[mid], cols[mid], scales[mid]},
		(rows[q3] - rows[q1] + cols[q3] - cols[q1]) / 2
}

// belowEyes is where the library starts to look for nose and mouth, given the
// pupils of a face turned by tilt: core/flploc.go, GetLandmarkPoint.
func belowEyes(left, right guess, tilt float64) guess {
	dist := float32(math.Hypot(float64(right.col-left.col), float64(right.row-left.row)))
	sin64, cos64 := math.Sincos(tilt)
	sin, cos := float32(sin64), float32(cos64)
	return guess{
		row:   (left.row+right.row)/2 + (0.25*cos+0.15*sin)*dist,
		col:   (left.col+right.col)/2 + (0.15*cos-0.25*sin)*dist,
		scale: 3 * dist,
	}
}
