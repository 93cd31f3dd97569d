// The full-size transform is that of image/jpeg, Copyright 2025 The Go Authors, with
// the license in LICENSE-go. This version skips coefficients that are 0.

package photo

// flat returns the sample of a block in which only the DC coefficient is not 0.
func flat(dc int32) byte { return sample((dc<<17 + 1<<19) >> 2 >> 18) }

// sample converts v, centered on 0, to a byte.
func sample(v int32) byte { return byte(min(max(v, -128), 127) + 128) }

// Cosines and sines of multiples of π/16, some divided by √2, in units of 2⁻⁶⁰.
const (
	cos1         = 1130768441178740757
	sin1         = 224923827593068887
	cos3         = 958619196450722178
	sin3         = 640528868967736374
	sqrtHalf     = 815238614083298888
	sqrtHalfCos6 = 311978311033955632
	sqrtHalfSin6 = 753182269664427492
)

// fixed rounds one of these constants to the given number of fraction bits.
func fixed(v uint64, bits int) int32 { return int32((v + 1<<(59-bits)) >> (60 - bits)) }

func rotate(x, y, cos, sin int32) (int32, int32) {
	sum := cos * (x + y)
	return sum + (sin-cos)*y, sum - (cos+sin)*x
}

// inverse8 is the inverse discrete cosine transform by Loeffler, Ligtenberg and
// Moschytz, in the precision of the standard library, so that all samples are equal.
// set has a bit for each coefficient that may not be 0.
func inverse8(b *jpegBlock, set uint64, out []byte, stride int) {
	for i := range 8 {
		x := b[8*i : 8*i+8 : 8*i+8]
		if set>>(8*i)&0xfe == 0 { // a flat row
			if x[0] != 0 {
				v := x[0] << 17
				x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7] = v, v, v, v, v, v, v, v
			}
			continue
		}
		x0, x7, x2, x5, x1, x6, x3, x4 := x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]

		x0 <<= 17
		x1 <<= 17
		x0, x1 = x0+x1, x0-x1
		x2, x3 = rotate(x2, x3, fixed(sqrtHalfCos6, 18), -fixed(sqrtHalfSin6, 18))
		x1, x2 = x1+x2, x1-x2
		x0, x3 = x0+x3, x0-x3

		x4 <<= 7
		x7 <<= 7
		x7, x4 = x7+x4, x7-x4
		x6 *= fixed(sqrtHalf, 8)
		x5 *= fixed(sqrtHalf, 8)
		x7, x5 = x7+x5, x7-x5
		x4, x6 = x4+x6, x4-x6
		x4, x7 = rotate(x4>>2, x7>>2, fixed(cos3, 12), -fixed(sin3, 12))
		x5, x6 = rotate(x5>>2, x6>>2, fixed(cos1, 12), -fixed(sin1, 12))

		x[0], x[7] = x0+x7, x0-x7
		x[1], x[6] = x1+x6, x1-x6
		x[2], x[5] = x2+x5, x2-x5
		x[3], x[4] = x3+x4, x3-x4
	}
	// The output rows. This pass transforms the columns.
	r0, r1, r2, r3, r4, r5, r6, r7 := out[:8], out[stride:][:8], out[2*stride:][:8], out[3*stride:][:8],
		out[4*stride:][:8], out[5*stride:][:8], out[6*stride:][:8], out[7*stride:][:8]
	for i := range 8 {
		x0, x7, x2, x5, x1, x6, x3, x4 := b[i], b[8+i], b[16+i], b[24+i], b[32+i], b[40+i], b[48+i], b[56+i]

		x0 += 1 << 19 // rounds all eight outputs
		x0, x1 = (x0+x1)>>2, (x0-x1)>>2
		x2, x3 = rotate(x2>>13, x3>>13, fixed(sqrtHalfCos6, 12), -fixed(sqrtHalfSin6, 12))
		x1, x2 = x1+x2, x1-x2
		x0, x3 = x0+x3, x0-x3

		x7, x4 = x7+x4, x7-x4
		x5 = (x5 >> 13) * fixed(sqrtHalf, 14)
		x6 = (x6 >> 13) * fixed(sqrtHalf, 14)
		x7, x5 = x7+x5, x7-x5
		x4, x6 = x4+x6, x4-x6
		x4, x7 = rotate(x4>>14, x7>>14, fixed(cos3, 12), -fixed(sin3, 12))
		x5, x6 = rotate(x5>>14, x6>>14, fixed(cos1, 12), -fixed(sin1, 12))

		r0[i], r7[i] = sample((x0+x7)>>18), sample((x0-x7)>>18)
		r1[i], r6[i] = sample((x1+x6)>>18), sample((x1-x6)>>18)
		r2[i], r5[i] = sample((x2+x5)>>18), sample((x2-x5)>>18)
		r3[i], r4[i] = sample((x3+x4)>>18), sample((x3-x4)>>18)
	}
}

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
		r0[i], r1[i] = sample((y0+half)>>shift), sample((y1+half)>>shift)
		r2[i], r3[i] = sample((y2+half)>>shift), sample((y3+half)>>shift)
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
		out[i], out[stride+i] = sample((y0+half)>>shift), sample((y1+half)>>shift)
	}
}
