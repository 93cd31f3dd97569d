package landmark

import "github.com/mienproject/mien/face/luma"

const (
	// repetitionCell is the side, in pixels of a patch, of the cells whose means are
	// compared, and repetitionSide is how many of them a window has on each side.
	repetitionCell = 4
	repetitionSide = patchWindow / repetitionCell
	// repetitionBlur is how many cells the neighborhood that is subtracted from a cell
	// reaches in each direction. Without what is coarser than a face's features, such as
	// light from the side, patterns stand out.
	repetitionBlur = 3
)

// cells is the brightness of a window's cells.
type cells [repetitionSide][repetitionSide]int

// repetition measures how much the window repeats itself at a distance of up to
// half its size. It is 1 for perfect stripes and checks, 0.4 to 1 on checked
// cloth, and 0.2 to 0.5 on faces, which have their features once. Checked cloth
// can get as high a score as a face.
//
// It is the highest peak of the autocorrelation of the window's details, other than
// the one at distance 0, or 0 if there is no other.
func (p *patch) repetition() float64 {
	d := p.details()
	variance := d.covariance(0, 0)
	if variance == 0 {
		return 0
	}
	// The outermost distances are only the neighbors of those that may be peaks.
	const reach = repetitionSide / 2
	var at [reach + 1][2*reach + 1]float64 // by rows down, and columns to the right plus reach
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
// opposite distances, so that rows above the first are those below it, mirrored.
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

// details returns the window's cells, each less the mean of those around it.
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

// covariance returns the mean product of two cells that are down rows, at least 0,
// and right columns apart.
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
