package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pool takes maxima of side×side pixels, two pixels apart.
func pool(name string, side int) {
	pointers := "r0, r1"
	if side == 3 {
		pointers += ", r2"
	}
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst, %s *int16, dstBlock, srcBlock, pixels, blocks int)", pointers))
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	rows := make([]reg.Register, side)
	for i := range rows {
		rows[i] = Load(Param(fmt.Sprintf("r%d", i)), GP64())
	}
	blocks := Load(Param("blocks"), GP64())
	Label("block")
	at := GP64()
	XORQ(at, at)
	count := Load(Param("pixels"), GP64())
	Label("pixel")
	v := YMM()
	VMOVDQU(Mem{Base: rows[0], Index: at, Scale: 2}, v)
	for _, row := range rows[1:] {
		VPMAXSW(Mem{Base: row, Index: at, Scale: 2}, v, v)
	}
	x := XMM()
	VEXTRACTI128(Imm(1), v, x)
	VPMAXSW(v.AsX(), x, x)
	if side == 3 {
		for _, row := range rows {
			VPMAXSW(Mem{Base: row, Index: at, Scale: 2, Disp: 32}, x, x)
		}
	}
	VMOVDQU(x, Mem{Base: dst, Index: at, Scale: 1})
	ADDQ(Imm(16), at)
	DECQ(count)
	JNE(LabelRef("pixel"))
	step := Load(Param("srcBlock"), GP64())
	for _, row := range rows {
		LEAQ(Mem{Base: row, Index: step, Scale: 2}, row.(reg.GPVirtual))
	}
	step = Load(Param("dstBlock"), GP64())
	LEAQ(Mem{Base: dst, Index: step, Scale: 2}, dst.(reg.GPVirtual))
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// addUpsampled adds each pixel of one row to two of another: uint16, less 32768.
func addUpsampled() {
	TEXT("addUpsampled", NOSPLIT, "func(dst, fine, coarse *int16, pairs int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	fine := Load(Param("fine"), GP64())
	coarse := Load(Param("coarse"), GP64())
	n := Load(Param("pairs"), GP64())
	offset := YMM()
	VPCMPEQW(offset, offset, offset)
	VPSLLW(Imm(15), offset, offset)
	Label("pair")
	v, w := YMM(), YMM()
	VBROADCASTI128(Mem{Base: coarse}, v)
	VPXOR(offset, v, v)
	VPXOR(Mem{Base: fine}, offset, w)
	VPADDUSW(w, v, v)
	VPXOR(offset, v, v)
	VMOVDQU(v, Mem{Base: dst})
	ADDQ(Imm(16), coarse)
	ADDQ(Imm(32), fine)
	ADDQ(Imm(32), dst)
	DECQ(n)
	JNE(LabelRef("pair"))
	VZEROUPPER()
	RET()
}

// quantize multiplies, rounds and packs 16 values at once.
func quantize() {
	TEXT("quantize16", NOSPLIT, "func(dst *int16, src *float32, scale float32, count int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("count"), GP64())
	s := Load(Param("scale"), XMM())
	scale := YMM()
	VBROADCASTSS(s, scale)
	Label("sixteen")
	a, b := YMM(), YMM()
	VMULPS(Mem{Base: src}, scale, a)
	VMULPS(Mem{Base: src, Disp: 32}, scale, b)
	VCVTPS2DQ(a, a)
	VCVTPS2DQ(b, b)
	VPACKSSDW(b, a, a)
	VPERMQ(Imm(0xD8), a, a) // pack works on halves of registers
	VMOVDQU(a, Mem{Base: dst})
	ADDQ(Imm(64), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), n)
	JG(LabelRef("sixteen"))
	VZEROUPPER()
	RET()
}

// maxMagnitude compares the bits of floats, without their signs, as integers.
func maxMagnitude() {
	TEXT("maxMagnitude16", NOSPLIT, "func(src *float32, count int) uint32")
	Pragma("noescape")
	src := Load(Param("src"), GP64())
	n := Load(Param("count"), GP64())
	mask, a, b := YMM(), YMM(), YMM()
	VPCMPEQD(mask, mask, mask)
	VPSRLD(Imm(1), mask, mask)
	VPXOR(a, a, a)
	VPXOR(b, b, b)
	Label("sixteen")
	v, w := YMM(), YMM()
	VPAND(Mem{Base: src}, mask, v)
	VPAND(Mem{Base: src, Disp: 32}, mask, w)
	VPMAXUD(v, a, a)
	VPMAXUD(w, b, b)
	ADDQ(Imm(64), src)
	SUBQ(Imm(16), n)
	JG(LabelRef("sixteen"))
	VPMAXUD(b, a, a)
	x := XMM()
	VEXTRACTI128(Imm(1), a, x)
	VPMAXUD(a.AsX(), x, x)
	y := XMM()
	VPSHUFD(Imm(0x4E), x, y)
	VPMAXUD(y, x, x)
	VPSHUFD(Imm(0xB1), x, y)
	VPMAXUD(y, x, x)
	greatest := GP32()
	VMOVD(x, greatest)
	Store(greatest, ReturnIndex(0))
	VZEROUPPER()
	RET()
}
