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

// addRows adds rows of bytes that are stride bytes apart, 32 bytes of each at once.
func addRows() {
	TEXT("addRowsAVX2", NOSPLIT, "func(dst *uint16, src *uint8, stride, rows, blocks int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	stride := Load(Param("stride"), GP64())
	rows := Load(Param("rows"), GP64())
	blocks := Load(Param("blocks"), GP64())
	Label("block")
	from, left := GP64(), GP64()
	MOVQ(src, from)
	MOVQ(rows, left)
	var all, row [2]reg.VecVirtual
	for i := range all {
		all[i], row[i] = YMM(), YMM()
		VPXOR(all[i], all[i], all[i])
	}
	Label("row")
	for i := range all {
		VPMOVZXBW(Mem{Base: from, Disp: 16 * i}, row[i])
		VPADDW(row[i], all[i], all[i])
	}
	ADDQ(stride, from)
	DECQ(left)
	JNE(LabelRef("row"))
	for i := range all {
		VMOVDQU(all[i], Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(32), src)
	ADDQ(Imm(64), dst)
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// values is the type of a row's values: bytes, or sums of rows as uint16.
type values struct {
	name, kind string
	// size is that of a pixel in bytes.
	size int
	// load loads a pixel, and insert another beside it. extend makes int32 of their values.
	load   func(pixel, x Op)
	insert func(at, pixel, x, both Op)
	extend func(...Op)
}

// scaleRows generates scaleRow for both.
func scaleRows() {
	scaleRow(values{"scaleBytesAVX2", "uint8", 4, VMOVD, VPINSRD, VPMOVZXBD})
	scaleRow(values{"scaleSumsAVX2", "uint16", 8, VMOVQ, VPINSRQ, VPMOVZXWD})
}

// scaleRow computes the sums of RGBA pixels from the start of the row, and then pairs of
// outputs. All four values of a pixel are computed at once.
func scaleRow(of values) {
	TEXT(of.name, NOSPLIT, "func(dst *float32, src *"+of.kind+", pairs *int32, sums *int32, pixels, count int)")
	Pragma("noescape")
	src := Load(Param("src"), GP64())
	sums := Load(Param("sums"), GP64())
	sumRow(of, src, sums)
	dst := Load(Param("dst"), GP64())
	pairs := Load(Param("pairs"), GP64())
	count := Load(Param("count"), GP64())
	Label("pair")
	var first, last [2]reg.Register
	for i := range 2 {
		first[i], last[i] = GP64(), GP64()
		MOVLQSX(Mem{Base: pairs, Disp: 4 * i}, first[i].(reg.GPVirtual))
		MOVLQSX(Mem{Base: pairs, Disp: 8 + 4*i}, last[i].(reg.GPVirtual))
	}
	pixels := func(at [2]reg.Register) reg.VecVirtual {
		v := YMM()
		scale := uint8(of.size / 2)
		of.load(Mem{Base: src, Index: at[0], Scale: scale}, v.AsX())
		of.insert(Imm(1), Mem{Base: src, Index: at[1], Scale: scale}, v.AsX(), v.AsX())
		of.extend(v.AsX(), v)
		return v
	}
	sumsAt := func(at [2]reg.Register, disp int) reg.VecVirtual {
		v := YMM()
		VMOVDQU(Mem{Base: sums, Index: at[0], Scale: 8, Disp: disp}, v.AsX())
		VINSERTI128(Imm(1), Mem{Base: sums, Index: at[1], Scale: 8, Disp: disp}, v, v)
		return v
	}
	a, b, c := pixels(first), sumsAt(last, 0), pixels(last)
	VPSUBD(sumsAt(first, 16), b, b)
	for i, v := range []reg.VecVirtual{a, b, c} {
		VCVTDQ2PS(v, v)
		VMULPS(Mem{Base: pairs, Disp: 16 + 32*i}, v, v)
	}
	VADDPS(b, a, a)
	VADDPS(c, a, a)
	VMOVUPS(a, Mem{Base: dst})
	ADDQ(Imm(16+3*32), pairs)
	ADDQ(Imm(32), dst)
	DECQ(count)
	JNE(LabelRef("pair"))
	VZEROUPPER()
	RET()
}

// sumRow computes the sums of the pixels before each one, and of all.
func sumRow(of values, src, sums reg.Register) {
	from, to, rest := GP64(), GP64(), Load(Param("pixels"), GP64())
	MOVQ(src, from)
	MOVQ(sums, to)
	sum, first, second := XMM(), XMM(), XMM()
	VPXOR(sum, sum, sum)
	VMOVDQU(sum, Mem{Base: to})
	SUBQ(Imm(2), rest)
	JL(LabelRef("last"))
	Label("two")
	of.extend(Mem{Base: from}, first)
	of.extend(Mem{Base: from, Disp: of.size}, second)
	VPADDD(first, second, second)
	VPADDD(first, sum, first)
	VPADDD(second, sum, sum)
	VMOVDQU(first, Mem{Base: to, Disp: 16})
	VMOVDQU(sum, Mem{Base: to, Disp: 32})
	ADDQ(Imm(uint64(2*of.size)), from)
	ADDQ(Imm(32), to)
	SUBQ(Imm(2), rest)
	JGE(LabelRef("two"))
	Label("last")
	ADDQ(Imm(2), rest)
	JEQ(LabelRef("summed"))
	of.extend(Mem{Base: from}, first)
	VPADDD(first, sum, sum)
	VMOVDQU(sum, Mem{Base: to, Disp: 16})
	Label("summed")
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
