package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// constant returns a vector of 4 copies of a number.
func constant(value float32) reg.VecVirtual {
	bits, v := GP32(), XMM()
	MOVL(U32(math.Float32bits(value)), bits)
	VMOVD(bits, v)
	VBROADCASTSS(v, v)
	return v
}

// scaleRow computes the sums of RGBA pixels from the start of the row, and then the outputs.
// All four values of a pixel are computed at once.
func scaleRow() {
	TEXT("scaleRowAVX2", NOSPLIT, "func(dst *float32, src *uint8, columns *int32, sums *int32, pixels, outputs int)")
	Pragma("noescape")
	src := Load(Param("src"), GP64())
	sums := Load(Param("sums"), GP64())
	n := Load(Param("pixels"), GP64())
	from, to := GP64(), GP64()
	MOVQ(src, from)
	MOVQ(sums, to)
	sum, pixel := XMM(), XMM()
	VPXOR(sum, sum, sum)
	VMOVDQU(sum, Mem{Base: to})
	Label("sum")
	VPMOVZXBD(Mem{Base: from}, pixel)
	VPADDD(pixel, sum, sum)
	VMOVDQU(sum, Mem{Base: to, Disp: 16})
	ADDQ(Imm(4), from)
	ADDQ(Imm(16), to)
	DECQ(n)
	JNE(LabelRef("sum"))

	dst := Load(Param("dst"), GP64())
	column := Load(Param("columns"), GP64())
	Load(Param("outputs"), n)
	first, last := GP64(), GP64()
	a, b, c, weight := XMM(), XMM(), XMM(), XMM()
	Label("output")
	MOVLQSX(Mem{Base: column}, first)
	MOVLQSX(Mem{Base: column, Disp: 4}, last)
	VPMOVZXBD(Mem{Base: src, Index: first, Scale: 2}, a)
	VMOVDQU(Mem{Base: sums, Index: last, Scale: 8}, b)
	VPSUBD(Mem{Base: sums, Index: first, Scale: 8, Disp: 16}, b, b)
	VPMOVZXBD(Mem{Base: src, Index: last, Scale: 2}, c)
	for i, v := range []reg.VecVirtual{a, b, c} {
		VCVTDQ2PS(v, v)
		VBROADCASTSS(Mem{Base: column, Disp: 8 + 4*i}, weight)
		VMULPS(weight, v, v)
	}
	VADDPS(b, a, a)
	VADDPS(c, a, a)
	VMOVUPS(a, Mem{Base: dst})
	ADDQ(Imm(20), column)
	ADDQ(Imm(16), dst)
	DECQ(n)
	JNE(LabelRef("output"))
	RET()
}

// addRow adds vectors of a row, times its weight, to others.
func addRow() {
	TEXT("addRowAVX2", NOSPLIT, "func(sum, row *float32, weight float32, vectors int)")
	Pragma("noescape")
	sum := Load(Param("sum"), GP64())
	row := Load(Param("row"), GP64())
	n := Load(Param("vectors"), GP64())
	at := GP64()
	XORQ(at, at)
	weight, v := YMM(), YMM()
	Load(Param("weight"), weight.AsX())
	VBROADCASTSS(weight.AsX(), weight)
	Label("vector")
	VMULPS(Mem{Base: row, Index: at, Scale: 8}, weight, v)
	VADDPS(Mem{Base: sum, Index: at, Scale: 8}, v, v)
	VMOVUPS(v, Mem{Base: sum, Index: at, Scale: 8})
	ADDQ(Imm(4), at)
	DECQ(n)
	JNE(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// store rounds pixels, normalizes them, and stores them with a distance of step.
func store() {
	TEXT("storeAVX2", NOSPLIT, "func(dst, sum *float32, step, pixels, rounding int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	sum := Load(Param("sum"), GP64())
	step := Load(Param("step"), GP64())
	n := Load(Param("pixels"), GP64())
	rounding := Load(Param("rounding"), GP64())
	shift, half, middle, scale := constant(1<<23), constant(.5), constant(127.5), constant(1./128)
	v := XMM()
	Label("pixel")
	VMOVUPS(Mem{Base: sum}, v)
	CMPQ(rounding, Imm(1))
	JL(LabelRef("rounded"))
	JG(LabelRef("halfUp"))
	VADDPS(shift, v, v)
	VSUBPS(shift, v, v)
	JMP(LabelRef("rounded"))
	Label("halfUp")
	VADDPS(half, v, v)
	VCVTTPS2DQ(v, v)
	VCVTDQ2PS(v, v)
	Label("rounded")
	VSUBPS(middle, v, v)
	VMULPS(scale, v, v)
	VMOVLPS(v, Mem{Base: dst})
	VEXTRACTPS(Imm(2), v, Mem{Base: dst, Disp: 8})
	ADDQ(Imm(16), sum)
	LEAQ(Mem{Base: dst, Index: step, Scale: 4}, dst.(reg.GPVirtual))
	DECQ(n)
	JNE(LabelRef("pixel"))
	RET()
}
