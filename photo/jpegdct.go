package photo

import "github.com/mienproject/mien/photo/dct"

// flat returns the sample of a block in which only the DC coefficient is not 0.
func flat(dc int32) byte { return dct.Sample((dc<<17 + 1<<19) >> 2 >> 18) }

// The reduced transforms return the mean of each 2×2 or 4×4 samples of the full
// transform, except for rounding and for samples outside of black and white. The mean
// of two neighbors multiplies the k-th cosine by cos(kπ/16) and folds it onto the
// (8-k)-th, so that four outputs need only four cosines. With four neighbors, two
// outputs need only the constant and the odd cosines. The factors below are those
// products in units of 2⁻¹³.
const (
	mean0  = 5793 // √½
	mean13 = 13
)

// means4 returns the means of the four pairs of samples in a line.
func means4(x0, x1, x2, x3, x5, x6, x7 int32) (y0, y1, y2, y3 int32) {
	const c2, c6 = 5352, 2217
	dc, even := x0*mean0, x2*c2-x6*c6
	e0, e1 := dc+even, dc-even
	o0 := 7423*x1 + 2607*x3 - 1742*x5 - 1477*x7
	o1 := 3075*x1 - 6293*x3 + 4205*x5 - 612*x7
	return e0 + o0, e1 + o1, e1 - o1, e0 - o0
}

// means4low is means4 for x5 = x6 = x7 = 0, which is the usual case.
func means4low(x0, x1, x2, x3 int32) (y0, y1, y2, y3 int32) {
	dc, even := x0*mean0, x2*5352
	o0, o1 := 7423*x1+2607*x3, 3075*x1-6293*x3
	return dc + even + o0, dc - even + o1, dc - even - o1, dc + even - o0
}

// inverse4 writes 4×4 samples.
func inverse4(b *jpegBlock, set uint64, out []byte, stride int) {
	var rows [8][4]int32
	for i := range rows {
		if set>>(8*i)&0xff == 0 && i > 0 || i == 4 {
			continue
		}
		x := b[8*i : 8*i+8 : 8*i+8]
		y0, y1, y2, y3 := means4low(x[0], x[1], x[2], x[3])
		if set>>(8*i)&0xe0 != 0 {
			y0, y1, y2, y3 = means4(x[0], x[1], x[2], x[3], x[5], x[6], x[7])
		}
		const half = 1 << (mean13 - 4)
		rows[i] = [4]int32{(y0 + half) >> (mean13 - 3), (y1 + half) >> (mean13 - 3), (y2 + half) >> (mean13 - 3), (y3 + half) >> (mean13 - 3)}
	}
	r0, r1, r2, r3 := out[:4], out[stride:][:4], out[2*stride:][:4], out[3*stride:][:4]
	low := set>>40 == 0
	for i := range 4 {
		// The scale of the transform: 3 fraction bits are left from the rows, and 2
		// bits divide by 4.
		const shift = mean13 + 3 + 2
		const half = 1 << (shift - 1)
		y0, y1, y2, y3 := means4low(rows[0][i], rows[1][i], rows[2][i], rows[3][i])
		if !low {
			y0, y1, y2, y3 = means4(rows[0][i], rows[1][i], rows[2][i], rows[3][i], rows[5][i], rows[6][i], rows[7][i])
		}
		r0[i], r1[i] = dct.Sample((y0+half)>>shift), dct.Sample((y1+half)>>shift)
		r2[i], r3[i] = dct.Sample((y2+half)>>shift), dct.Sample((y3+half)>>shift)
	}
}

// means2 returns the means of the two halves of a line.
func means2(x0, x1, x3, x5, x7 int32) (y0, y1 int32) {
	dc, odd := x0*mean0, 5249*x1-1843*x3+1232*x5-1044*x7
	return dc + odd, dc - odd
}

// inverse2 writes 2×2 samples.
func inverse2(b *jpegBlock, set uint64, out []byte, stride int) {
	var rows [8][2]int32
	for _, i := range [...]int{0, 1, 3, 5, 7} {
		if set>>(8*i)&0xff == 0 && i > 0 {
			continue
		}
		x := b[8*i : 8*i+8 : 8*i+8]
		y0, y1 := means2(x[0], x[1], x[3], x[5], x[7])
		const half = 1 << (mean13 - 4)
		rows[i] = [2]int32{(y0 + half) >> (mean13 - 3), (y1 + half) >> (mean13 - 3)}
	}
	const shift = mean13 + 3 + 2
	const half = 1 << (shift - 1)
	for i := range 2 {
		y0, y1 := means2(rows[0][i], rows[1][i], rows[3][i], rows[5][i], rows[7][i])
		out[i], out[stride+i] = dct.Sample((y0+half)>>shift), dct.Sample((y1+half)>>shift)
	}
}
