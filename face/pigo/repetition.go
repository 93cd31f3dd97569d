package pigo

const (
	// repetitionCell is the side, in pixels of a patch, of the cells whose means are
	// compared, and repetitionSide is how many of them a window has on each side.
	repetitionCell = 4
	repetitionSide = patchWindow / repetitionCell
	// repetitionBlur is how many cells around each one its brightness is compared
	// with: what is much coarser than the features of a face does not count.
	repetitionBlur = 3
)

// cells is the brightness of a window's cells.
type cells [repetitionSide][repetitionSide]int

// repetition measures how much the window repeats itself at a distance of up to
// half its size: about 1 for stripes and checks, most of all on cloth, and about
// 0.3 for faces. Windows on checks get high scores, but a face has its features
// once.
//
// It is the highest peak, but for the one at no distance, of the autocorrelation
// of the window's details. No peak is 0.
func (p *patch) repetition() float64 {
	d := p.details()
	variance := d.covariance(0, 0)
	if variance == 0 {
		return 0
	}
	// The last row and column have no peaks: they are only the neighbors of some.
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

// isPeak reports whether no neighbor is higher. At a distance upward the
// autocorrelation is what it is at the opposite distance.
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

// details returns the window's cells, less the mean of what is around each.
func (p *patch) details() *cells {
	const first = (patchSide - patchWindow) / 2
	// sums has the sum of all cells above and to the left.
	var sums [repetitionSide + 1][repetitionSide + 1]int
	var d cells
	for row := range d {
		for col := range d[row] {
			for y := range repetitionCell {
				for _, v := range p.pix[(first+row*repetitionCell+y)*patchStride+first+col*repetitionCell:][:repetitionCell] {
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
	return &d
}

// covariance returns the mean product of each cell with the one that is down rows
// and right columns further, over those that have one. Down is not negative.
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
