package landmark

import "github.com/mienproject/mien/face/luma"

const (
	// repetitionCell is the side of the cells whose means are compared, in pixels of a
	// patch. repetitionSide is the number of cells on each side of a window.
	repetitionCell = 4
	repetitionSide = patchWindow / repetitionCell
	// repetitionBlur is how many cells the neighborhood of a cell extends in each
	// direction. The mean of the neighborhood is subtracted from the cell, which
	// removes structures larger than the features of a face, such as light from the
	// side, so that patterns stand out.
	repetitionBlur = 3
)

// cells has the brightness of the cells of a window.
type cells [repetitionSide][repetitionSide]int

// repetition measures how much the window repeats itself at distances of up to half its
// size. It is 1 for perfect stripes and checks, 0.4 to 1 for checked cloth, and 0.2 to
// 0.5 for faces, whose features occur once. Without it, checked cloth can get as high a
// score as a face. It is the highest peak of the autocorrelation of the window's
// details at a distance other than 0, or 0 if there is no other peak.
func (p *patch) repetition() float64 {
	d := p.details()
	variance := d.covariance(0, 0)
	if variance == 0 {
		return 0
	}
	// The outermost distances are only compared with; they cannot be peaks.
	const reach = repetitionSide / 2
	var at [reach + 1][2*reach + 1]float64 // indexed by rows down, and columns to the right plus reach
	for down := range reach + 1 {
		for right := -reach; right <= reach; right++ {
			at[down][right+reach] = d.covariance(down, right)
		}
	}
	highest := 0.0
	for down := range reach {
		for right := -reach + 1; right < reach; right++ {
			v := at[down][right+reach]
			if v > highest && (down != 0 || right != 0) && isPeak(&at, down, right+reach) {
				highest = v
			}
		}
	}
	return highest / variance
}

// isPeak reports whether no neighbor is higher. An autocorrelation is the same at
// opposite distances, so rows above the first are rows below it, mirrored.
func isPeak(at *[repetitionSide/2 + 1][repetitionSide + 1]float64, row, col int) bool {
	for r := row - 1; r <= row+1; r++ {
		for c := col - 1; c <= col+1; c++ {
			y, x := r, c
			if r < 0 {
				y, x = -r, repetitionSide-c
			}
			if at[y][x] > at[row][col] {
				return false
			}
		}
	}
	return true
}

// details returns the cells of the window, each minus the mean of its neighborhood.
func (p *patch) details() (d cells) {
	const first = (patchSide - patchWindow) / 2
	// sums has the sum of all cells above and to the left.
	var sums [repetitionSide + 1][repetitionSide + 1]int
	for row := range d {
		for col := range d[row] {
			for y := range repetitionCell {
				for _, v := range p.pix[(first+row*repetitionCell+y)*luma.TileStride+first+col*repetitionCell:][:repetitionCell] {
					d[row][col] += int(v)
				}
			}
			sums[row+1][col+1] = d[row][col] + sums[row][col+1] + sums[row+1][col] - sums[row][col]
		}
	}
	for row := range d {
		top, bottom := max(0, row-repetitionBlur), min(repetitionSide, row+repetitionBlur+1)
		for col := range d[row] {
			left, right := max(0, col-repetitionBlur), min(repetitionSide, col+repetitionBlur+1)
			sum := sums[bottom][right] - sums[top][right] - sums[bottom][left] + sums[top][left]
			d[row][col] -= sum / ((bottom - top) * (right - left))
		}
	}
	return d
}

// covariance returns the mean product of two cells that are down rows (at least 0) and
// right columns apart.
func (d *cells) covariance(down, right int) float64 {
	from, to := max(0, -right), min(repetitionSide, repetitionSide-right)
	sum := 0
	for row := range repetitionSide - down {
		a, b := d[row][from:to], d[row+down][from+right:to+right]
		for i, v := range a {
			sum += v * b[i]
		}
	}
	return float64(sum) / float64((repetitionSide-down)*(to-from))
}
