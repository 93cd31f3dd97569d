package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// resample generates the kernels of face/grid/resample.
func resample() {
	scaleBytes()
	blendRows()
	chroma()
	colors()
}

// wideConstant returns a vector of 8 copies of a number.
func wideConstant(value float32) reg.VecVirtual { return wideBits(math.Float32bits(value)) }

// wideBits returns a vector of 8 copies of 32 bits.
func wideBits(value uint32) reg.VecVirtual {
	bits, v := GP32(), YMM()
	MOVL(U32(value), bits)
	VMOVD(bits, v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

// weightOf returns a vector of 8 copies of the argument weight.
func weightOf() reg.VecVirtual {
	v := YMM()
	Load(Param("weight"), v.AsX())
	VBROADCASTSS(v.AsX(), v)
	return v
}

// between returns upper + (lower-upper)·weight.
func between(upper, lower Mem, weight reg.VecVirtual) reg.VecVirtual {
	v, d := YMM(), YMM()
	VMOVUPS(upper, v)
	VMOVUPS(lower, d)
	VSUBPS(v, d, d)
	VMULPS(weight, d, d)
	VADDPS(d, v, v)
	return v
}

// arguments loads pointers, and returns where the vector that at points to is in each.
func arguments(at reg.Register, names ...string) []Mem {
	var rows []Mem
	for _, name := range names {
		rows = append(rows, Mem{Base: Load(Param(name), GP64()), Index: at, Scale: 4})
	}
	return rows
}

// scaleBytes interpolates between bytes of a row. All inputs of eight outputs are in a window of
// 16 bytes, from which they are picked.
func scaleBytes() {
	TEXT("scaleAVX2", NOSPLIT, "func(dst *float32, src *uint8, windows *int32, weights *float32, vectors int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	windows := Load(Param("windows"), GP64())
	weights := Load(Param("weights"), GP64())
	n := Load(Param("vectors"), GP64())
	at, picked, left, right := GP64(), XMM(), YMM(), YMM()
	Label("vector")
	MOVLQSX(Mem{Base: windows}, at)
	VMOVDQU(Mem{Base: src, Index: at, Scale: 1}, picked)
	VPSHUFB(Mem{Base: windows, Disp: 4}, picked, picked)
	VPMOVZXBD(picked, left)
	VPSRLDQ(Imm(8), picked, picked)
	VPMOVZXBD(picked, right)
	VCVTDQ2PS(left, left)
	VCVTDQ2PS(right, right)
	VSUBPS(left, right, right)
	VMULPS(Mem{Base: weights}, right, right)
	VADDPS(right, left, left)
	VMOVUPS(left, Mem{Base: dst})
	ADDQ(Imm(20), windows)
	ADDQ(Imm(32), weights)
	ADDQ(Imm(32), dst)
	DECQ(n)
	JNE(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// blendRows interpolates between two rows.
func blendRows() {
	TEXT("blendAVX2", NOSPLIT, "func(dst, upper, lower *float32, weight float32, vectors int)")
	Pragma("noescape")
	at := GP64()
	XORQ(at, at)
	rows := arguments(at, "dst", "upper", "lower")
	n := Load(Param("vectors"), GP64())
	weight := weightOf()
	Label("vector")
	VMOVUPS(between(rows[1], rows[2], weight), rows[0])
	ADDQ(Imm(8), at)
	DECQ(n)
	JNE(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// chroma interpolates between two rows of Cb and of Cr, and computes what they contribute to
// red, green and blue.
func chroma() {
	TEXT("chromaAVX2", NOSPLIT, "func(red, green, blue, cb, cbBelow, cr, crBelow *float32, weight float32, vectors int)")
	Pragma("noescape")
	at := GP64()
	XORQ(at, at)
	rows := arguments(at, "red", "green", "blue", "cb", "cbBelow", "cr", "crBelow")
	n := Load(Param("vectors"), GP64())
	weight := weightOf()
	zero := wideConstant(128)
	redOfCr, greenOfCb, greenOfCr, blueOfCb := wideConstant(1.402), wideConstant(-0.344136), wideConstant(0.714136), wideConstant(1.772)
	v := YMM()
	Label("vector")
	cb, cr := between(rows[3], rows[4], weight), between(rows[5], rows[6], weight)
	VSUBPS(zero, cb, cb)
	VSUBPS(zero, cr, cr)
	VMULPS(redOfCr, cr, v)
	VMOVUPS(v, rows[0])
	VMULPS(greenOfCb, cb, v)
	VMULPS(greenOfCr, cr, cr)
	VSUBPS(cr, v, v)
	VMOVUPS(v, rows[1])
	VMULPS(blueOfCb, cb, cb)
	VMOVUPS(cb, rows[2])
	ADDQ(Imm(8), at)
	DECQ(n)
	JNE(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// colors interpolates between two rows of luminance, adds the contributions of chroma, each to
// two pixels, and limits the sums to 0 to 255.
func colors() {
	TEXT("colorsAVX2", NOSPLIT, "func(red, green, blue, upper, lower, toRed, toGreen, toBlue *float32, weight float32, vectors int)")
	Pragma("noescape")
	at := GP64()
	XORQ(at, at)
	rows := arguments(at, "red", "green", "blue", "upper", "lower")
	half := GP64()
	XORQ(half, half)
	contributions := arguments(half, "toRed", "toGreen", "toBlue")
	n := Load(Param("vectors"), GP64())
	weight := weightOf()
	white, black := wideConstant(255), YMM()
	VXORPS(black, black, black)
	Label("vector")
	luminance := between(rows[3], rows[4], weight)
	for i, contribution := range contributions {
		v := YMM()
		VPMOVZXDQ(contribution, v)
		VMOVSLDUP(v, v)
		VADDPS(v, luminance, v)
		VMAXPS(v, black, v)
		VMINPS(v, white, v)
		VMOVUPS(v, rows[i])
	}
	ADDQ(Imm(8), at)
	ADDQ(Imm(4), half)
	DECQ(n)
	JNE(LabelRef("vector"))
	VZEROUPPER()
	RET()
}
