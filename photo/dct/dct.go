// The transform is that of image/jpeg, Copyright 2025 The Go Authors, with the license in
// ../LICENSE-go. This version skips coefficients that are 0, or computes eight values at once.

// Package dct computes the inverse discrete cosine transform of JPEG's blocks, in assembly that
// tools/nnkernels generates, or in Go on other processors, with the same samples.
package dct

// Inverse is the inverse discrete cosine transform by Loeffler, Ligtenberg and Moschytz, in the
// precision of the standard library, so that all samples are equal. b has the coefficients, row
// by row, and is undefined afterwards. set has a bit for each one that may not be 0, from the
// lowest bit on. The samples are written to eight rows of out, which are stride bytes apart.
func Inverse(b *[64]int32, set uint64, out []byte, stride int) {
	if !inverse(b, out, stride) {
		inverseGo(b, set, out, stride)
	}
}

// Sample converts v, centered on 0, to a byte.
func Sample(v int32) byte { return byte(min(max(v, -128), 127) + 128) }

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

// inverseGo is Inverse in Go. It changes b.
func inverseGo(b *[64]int32, set uint64, out []byte, stride int) {
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

		r0[i], r7[i] = Sample((x0+x7)>>18), Sample((x0-x7)>>18)
		r1[i], r6[i] = Sample((x1+x6)>>18), Sample((x1-x6)>>18)
		r2[i], r5[i] = Sample((x2+x5)>>18), Sample((x2-x5)>>18)
		r3[i], r4[i] = Sample((x3+x4)>>18), Sample((x3-x4)>>18)
	}
}
