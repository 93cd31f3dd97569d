package nn

import "math"

// The pure Go twins of the assembly. Floating-point products are converted explicitly, which
// forbids the compiler to fuse them with a sum: on some processors it would, and round
// differently.

// lower and upper take apart a pair of sums, each within int32.
func lower(v int64) float32 { return float32(int32(v)) }
func upper(v int64) float32 { return float32(int32((v - int64(int32(v))) >> 32)) }

// toInt16 rounds to the nearest integer, to the even one of two, within int16.
func toInt16(v float32) int16 {
	if v >= math.MaxInt16 {
		return math.MaxInt16
	}
	if v <= math.MinInt16 {
		return math.MinInt16
	}
	// Numbers of this size have no decimals.
	const magic = 3 << 22
	return int16(int32(math.Float32bits(v+magic)) - int32(magicBits))
}

var magicBits = math.Float32bits(3 << 22)

// toUint16 rounds to the nearest integer, to the even one of two, within uint16, and takes
// 32768 off.
func toUint16(v float32) int16 {
	if !(v > 0) {
		return math.MinInt16
	}
	if v >= math.MaxUint16 {
		return math.MaxInt16
	}
	const magic = 1 << 23
	return int16(uint16(math.Float32bits(v+magic)) ^ 1<<15)
}

// sums returns the sums of products of 8 outputs for two pixels, in pairs: one multiplication
// of 64 bits makes two products.
func (f *filter) sums(src []int16, taps []int, lanes []int64, second int, bias []int32) (a, b [4]int64) {
	first := func(i int) int64 { return int64(bias[2*i]) + int64(bias[2*i+1])<<32 }
	a0, a1, a2, a3 := first(0), first(1), first(2), first(3)
	b0, b1, b2, b3 := a0, a1, a2, a3
	n := 2 * f.pairs
	for _, tap := range taps[:f.taps] {
		x, y := src[tap:][:n], src[tap+second:][:n]
		w := lanes[:4*n]
		lanes = lanes[4*n:]
		for k, u := range x {
			u, v := int64(u), int64(y[k])
			w := (*[4]int64)(w[4*k:])
			a0 += u * w[0]
			b0 += v * w[0]
			a1 += u * w[1]
			b1 += v * w[1]
			a2 += u * w[2]
			b2 += v * w[2]
			a3 += u * w[3]
			b3 += v * w[3]
		}
	}
	return [4]int64{a0, a1, a2, a3}, [4]int64{b0, b1, b2, b3}
}

func (f *filter) convSums(dst []float32, src []int16, taps []int, dstBlock, pixel, pixels int) {
	lanes := len(f.lanes) / (2 * f.blocks)
	for p := 0; p < pixels; p += 2 {
		second := 1
		if p+1 == pixels {
			second = 0
		}
		for n8 := range 2 * f.blocks {
			a, b := f.sums(src[p*pixel:], taps, f.lanes[n8*lanes:][:lanes], second*pixel, f.bias[8*n8:])
			out := dst[n8*dstBlock+8*p:]
			for i := range a {
				out[2*i], out[2*i+1] = lower(a[i]), upper(a[i])
			}
			out = out[8*second:]
			for i := range b {
				out[2*i], out[2*i+1] = lower(b[i]), upper(b[i])
			}
		}
	}
}

func (f *filter) convInts(dst, src []int16, taps []int, after []float32, dstBlock, pixel, pixels int) {
	lanes := len(f.lanes) / (2 * f.blocks)
	for p := 0; p < pixels; p += 2 {
		second := 1
		if p+1 == pixels {
			second = 0
		}
		for n8 := range 2 * f.blocks {
			a, b := f.sums(src[p*pixel:], taps, f.lanes[n8*lanes:][:lanes], second*pixel, f.bias[8*n8:])
			after := after[n8/2*64+n8%2*8:]
			out := dst[n8*dstBlock+8*p:]
			finish(out, &a, after)
			finish(out[8*second:], &b, after)
		}
	}
}

// finish makes int16 of 8 sums.
func finish(dst []int16, sums *[4]int64, after []float32) {
	factor, summand, slope, least := (*[8]float32)(after), (*[8]float32)(after[16:]), (*[8]float32)(after[32:]), (*[8]float32)(after[48:])
	out := (*[8]int16)(dst)
	for i, s := range sums {
		for half, v := range [2]float32{lower(s), upper(s)} {
			c := 2*i + half
			v = float32(v*factor[c]) + summand[c]
			out[c] = toInt16(max(v, least[c]) + float32(min(v, 0)*slope[c]))
		}
	}
}

// depthwiseRow computes one row of one block, column by column as the assembly does: a sum of
// floats depends on the order.
func depthwiseRow(dst, r0, r1, r2 []float32, weights *[80]float32) {
	n := len(dst)
	r0, r1, r2 = r0[:n+16], r1[:n+16], r2[:n+16]
	for c := range 8 {
		w00, w01, w02, w10, w11, w12, w20, w21, w22, bias := weights[c], weights[8+c], weights[16+c], weights[24+c],
			weights[32+c], weights[40+c], weights[48+c], weights[56+c], weights[64+c], weights[72+c]
		x00, x01, x10, x11, x20, x21 := r0[c], r0[c+8], r1[c], r1[c+8], r2[c], r2[c+8]
		for i := c; i < n; i += 8 {
			x02, x12, x22 := r0[i+16], r1[i+16], r2[i+16]
			v := bias + float32(w00*x00)
			v += float32(w10 * x10)
			v += float32(w20 * x20)
			v += float32(w01 * x01)
			v += float32(w11 * x11)
			v += float32(w21 * x21)
			v += float32(w02 * x02)
			v += float32(w12 * x12)
			v += float32(w22 * x22)
			dst[i] = v
			x00, x01, x10, x11, x20, x21 = x01, x02, x11, x12, x21, x22
		}
	}
}

// depthwisePiece is how many pixels of a row the twin computes before it rounds them.
const depthwisePiece = 64

func depthwiseIntsGo(dst0, dst1, pool []int16, in *window, weights []float32, dstBlock, poolBlock, tiles, blocks int) {
	var floats [2][8 * depthwisePiece]float32
	for block := range blocks {
		w := (*[80]float32)(weights[80*block:])
		for p := 0; p < 2*tiles; p += depthwisePiece {
			n := 8 * min(depthwisePiece, 2*tiles-p)
			upper, lower := floats[0][:n], floats[1][:n]
			at := block*in.srcBlock + 8*p
			depthwiseRow(upper, in.rows[0][at:], in.rows[1][at:], in.rows[2][at:], w)
			depthwiseRow(lower, in.rows[1][at:], in.rows[2][at:], in.rows[3][at:], w)
			if dst0 != nil {
				a, b := dst0[block*dstBlock+8*p:][:n], dst1[block*dstBlock+8*p:][:n]
				for i, v := range upper {
					a[i] = toUint16(v)
				}
				for i, v := range lower {
					b[i] = toUint16(v)
				}
			}
			if pool == nil {
				continue
			}
			out := pool[block*poolBlock+4*p:][:n/2]
			for i := range out {
				j := i + i&^7
				out[i] = toUint16(max(upper[j], upper[j+8], lower[j], lower[j+8]))
			}
		}
	}
}

func depthwiseFloatsGo(dst0, dst1 []float32, in *window, weights []float32, dstBlock, tiles, blocks int) {
	n := 16 * tiles
	for block := range blocks {
		w := (*[80]float32)(weights[80*block:])
		at := block * in.srcBlock
		depthwiseRow(dst0[block*dstBlock:][:n], in.rows[0][at:], in.rows[1][at:], in.rows[2][at:], w)
		depthwiseRow(dst1[block*dstBlock:][:n], in.rows[1][at:], in.rows[2][at:], in.rows[3][at:], w)
	}
}

func maxPoolGo(dst []int16, rows [][]int16, dstBlock, srcBlock, pixels, blocks int) {
	side := len(rows)
	for block := range blocks {
		for p := range pixels {
			out := (*[8]int16)(dst[block*dstBlock+8*p:])
			at := block*srcBlock + 16*p
			*out = [8]int16(rows[0][at:])
			for _, row := range rows {
				for x := range side {
					for c, v := range (*[8]int16)(row[at+8*x:]) {
						out[c] = max(out[c], v)
					}
				}
			}
		}
	}
}

func addRowsGo(dst, fine, coarse []int16, pairs int) {
	dst, fine, coarse = dst[:16*pairs], fine[:16*pairs], coarse[:8*pairs]
	for i, v := range fine {
		dst[i] = int16(min(int32(v)+int32(coarse[i/16*8+i%8])+1<<15, math.MaxInt16))
	}
}

func quantizeGo(dst []int16, src []float32, scale float32) {
	for i, v := range src {
		dst[i] = toInt16(float32(v * scale))
	}
}

func maxMagnitudeGo(src []float32) uint32 {
	greatest := uint32(0)
	for _, v := range src {
		greatest = max(greatest, math.Float32bits(v)&^(1<<31))
	}
	return greatest
}
