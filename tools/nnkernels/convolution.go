package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// convolution is the kernel of all convolutions but the depthwise ones: a product of
// matrices. It holds the sums of 6 pixels by 16 output channels in 12 registers.
type convolution struct {
	name string
	// pairs of input values that a tap has.
	pairs int
	// toInt gives int16 after an affine function and an activation, instead of the sums.
	toInt bool
	// wide vectors are those of AVX-512, which has an instruction (of VNNI) that adds
	// products to a sum.
	wide bool
}

// tile is how many pixels are computed at once.
const tile = 6

func (c convolution) generate() {
	if c.toInt {
		TEXT(c.name, NOSPLIT, "func(dst, src *int16, taps *int, weights *int16, bias *int32, after *float32, dstBlock, pixel, pixels, tapCount, blocks int)")
	} else {
		TEXT(c.name, NOSPLIT, "func(dst *float32, src *int16, taps *int, weights *int16, bias *int32, dstBlock, pixel, pixels, tapCount, blocks int)")
	}
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	dstBlock := Load(Param("dstBlock"), GP64())
	pixel := Load(Param("pixel"), GP64()) // bytes
	SHLQ(Imm(1), pixel)
	dstShift, dstPixel := uint64(1), 16
	if !c.toInt {
		dstShift, dstPixel = 2, 32
	}
	SHLQ(Imm(dstShift), dstBlock)
	left := Load(Param("pixels"), GP64()) // after the tile
	SUBQ(Imm(tile), left)
	out, weights, blocks, bias, after := GP64(), GP64(), GP64(), GP64(), GP64()

	Label("strip")
	MOVQ(dst, out)
	Load(Param("weights"), weights)
	Load(Param("blocks"), blocks)
	Load(Param("bias"), bias)
	if c.toInt {
		Load(Param("after"), after)
	}

	Label("block")
	var sums [tile][2]reg.VecVirtual
	for i := range sums {
		for half := range sums[i] {
			sums[i][half] = YMM()
			if !c.wide {
				VMOVDQU(Mem{Base: bias, Disp: 32 * half}, sums[i][half])
			}
		}
	}
	if c.wide {
		c.wideSum(&sums, bias, src, pixel, weights)
	} else {
		c.sum(&sums, src, pixel, weights)
	}
	if c.toInt {
		c.finish(&sums, after, out, dstBlock)
		ADDQ(U32(256), after)
	} else {
		for half := range 2 {
			for i := range sums {
				VCVTDQ2PS(sums[i][half], sums[i][half])
				VMOVUPS(sums[i][half], Mem{Base: out, Disp: dstPixel * i})
			}
			ADDQ(dstBlock, out)
		}
	}
	ADDQ(Imm(64), bias)
	DECQ(blocks)
	JNE(LabelRef("block"))

	// The last strip overlaps the one before it.
	TESTQ(left, left)
	JLE(LabelRef("done"))
	step := GP64()
	MOVQ(U32(tile), step)
	CMPQ(left, step)
	CMOVQLT(left, step)
	SUBQ(step, left)
	bytes := GP64()
	MOVQ(step, bytes)
	IMULQ(pixel, bytes)
	ADDQ(bytes, src)
	SHLQ(Imm(dstShift+3), step)
	ADDQ(step, dst)
	JMP(LabelRef("strip"))
	Label("done")
	VZEROUPPER()
	RET()
}

// sum adds the products of all taps to the sums.
func (c convolution) sum(sums *[tile][2]reg.VecVirtual, src, pixel reg.Register, weights reg.Register) {
	c.taps(src, pixel, weights, func(pair int, pixels *[tile]Mem) {
		lower, upper, x, product := YMM(), YMM(), YMM(), YMM()
		VMOVDQU(Mem{Base: weights, Disp: 64 * pair}, lower)
		VMOVDQU(Mem{Base: weights, Disp: 64*pair + 32}, upper)
		for i, m := range pixels {
			VPBROADCASTD(m, x)
			VPMADDWD(lower, x, product)
			VPMADDWD(upper, x, x)
			VPADDD(product, sums[i][0], sums[i][0])
			VPADDD(x, sums[i][1], sums[i][1])
		}
	})
}

// wideSum sets the sums to the bias and the products of all taps.
func (c convolution) wideSum(sums *[tile][2]reg.VecVirtual, bias, src, pixel reg.Register, weights reg.Register) {
	var both [tile]reg.VecVirtual
	for i := range both {
		both[i] = ZMM()
		VMOVDQU32(Mem{Base: bias}, both[i])
	}
	c.taps(src, pixel, weights, func(pair int, pixels *[tile]Mem) {
		w := ZMM()
		VMOVDQU32(Mem{Base: weights, Disp: 64 * pair}, w)
		for i, m := range pixels {
			VPDPWSSD_BCST(m, w, both[i])
		}
	})
	for i, v := range both {
		VMOVDQA(v.AsY(), sums[i][0])
		VEXTRACTI64X4(Imm(1), v, sums[i][1])
	}
}

// taps calls multiply for each pair of values of a tap, with where they are in each pixel, in a
// loop over all taps.
func (c convolution) taps(src, pixel, weights reg.Register, multiply func(pair int, pixels *[tile]Mem)) {
	tap := Load(Param("taps"), GP64())
	count := Load(Param("tapCount"), GP64())
	Label("tap")
	at, third := GP64(), GP64() // the tap's values of pixels 0 and 3
	MOVQ(Mem{Base: tap}, at)
	LEAQ(Mem{Base: src, Index: at, Scale: 2}, at)
	LEAQ(Mem{Base: pixel, Index: pixel, Scale: 2}, third)
	ADDQ(at, third)
	ADDQ(Imm(8), tap)
	for pair := range c.pairs {
		var pixels [tile]Mem
		for i := range pixels {
			m := Mem{Base: at, Disp: 4 * pair}
			if i >= 3 {
				m.Base = third
			}
			if i%3 > 0 {
				m.Index, m.Scale = pixel, uint8(i%3)
			}
			pixels[i] = m
		}
		multiply(pair, &pixels)
	}
	ADDQ(U32(uint32(64*c.pairs)), weights)
	DECQ(count)
	JNE(LabelRef("tap"))
}

// finish applies the affine function and the activation, and stores int16.
func (c convolution) finish(sums *[tile][2]reg.VecVirtual, after, out, dstBlock reg.Register) {
	zero, negative := YMM(), YMM()
	VPXOR(zero, zero, zero)
	for half := range 2 {
		for i := range sums {
			v := sums[i][half]
			VCVTDQ2PS(v, v)
			VMULPS(Mem{Base: after, Disp: 32 * half}, v, v)
			VADDPS(Mem{Base: after, Disp: 64 + 32*half}, v, v)
			VMINPS(zero, v, negative)
			VMULPS(Mem{Base: after, Disp: 128 + 32*half}, negative, negative)
			VMAXPS(Mem{Base: after, Disp: 192 + 32*half}, v, v)
			VADDPS(negative, v, v)
			VCVTPS2DQ(v, v)
			if i%2 == 0 {
				continue
			}
			both := sums[i-1][half]
			VPACKSSDW(v, both, both)
			VPERMQ(Imm(0xD8), both, both) // pack works on halves of registers
			VMOVDQU(both, Mem{Base: out, Disp: 16 * (i - 1)})
		}
		ADDQ(dstBlock, out)
	}
}
