package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// softmaxPairs computes the probabilities of four pairs of values at once, as exact.Exp4 and
// softmax4 of package nn do, in float64.
func softmaxPairs() {
	const ln2High, ln2Low = 0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33
	constants := []float64{math.Copysign(0, -1), -700, math.Log2E, ln2High, ln2Low, 1}
	for n, factorial := 13, float64(6227020800); n >= 0; n-- {
		constants = append(constants, 1/factorial)
		factorial /= float64(max(n, 1))
	}
	TEXT("softmaxFours", NOSPLIT, "func(values *float32, fours int)")
	Pragma("noescape")
	values := Load(Param("values"), GP64())
	n := Load(Param("fours"), GP64())
	base := GP64()
	table := GLOBL("softmaxConstants", attr.RODATA|attr.NOPTR)
	for i, c := range constants {
		for lane := range 4 {
			DATA(32*i+8*lane, F64(c))
		}
	}
	LEAQ(table, base)
	at := func(i int) Mem { return Mem{Base: base, Disp: 32 * i} }
	const sign, limit, log2E, high, low, one, taylor = 0, 1, 2, 3, 4, 5, 6
	bias := wideBits(1023).AsX()

	Label("four")
	first, second := XMM(), XMM()
	VMOVUPS(Mem{Base: values}, first)
	VMOVUPS(Mem{Base: values, Disp: 16}, second)
	a, b := XMM(), XMM()
	VSHUFPS(Imm(0x88), second, first, a)
	VSHUFPS(Imm(0xdd), second, first, b)
	// x is less than 0, or not a number, which VMAXPD keeps if it is the first operand.
	x, y := YMM(), YMM()
	VCVTPS2PD(a, x)
	VCVTPS2PD(b, y)
	VSUBPD(y, x, x)
	VORPD(at(sign), x, x)
	VMOVUPD(at(limit), y)
	VMAXPD(x, y, x)
	// x = k·ln 2 + r
	k := YMM()
	VMULPD(at(log2E), x, k)
	VROUNDPD(Imm(8), k, k)
	for _, part := range []int{high, low} {
		VMULPD(at(part), k, y)
		VSUBPD(y, x, x)
	}
	sum := YMM()
	VMOVUPD(at(taylor), sum)
	for i := range 13 {
		VMULPD(x, sum, sum)
		VADDPD(at(taylor+1+i), sum, sum)
	}
	VCVTPD2DQY(k, k.AsX())
	VPADDD(bias, k.AsX(), k.AsX())
	VPMOVSXDQ(k.AsX(), k)
	VPSLLQ(Imm(52), k, k)
	VMULPD(k, sum, sum)
	// The probabilities of the lesser and of the greater value.
	VADDPD(at(one), sum, y)
	VDIVPD(y, sum, sum)
	VMOVUPD(at(one), x)
	VDIVPD(y, x, y)
	less, greater := XMM(), XMM()
	VCVTPD2PSY(sum, less)
	VCVTPD2PSY(y, greater)
	const lessOrEqual = 0x12
	VCMPPS(Imm(lessOrEqual), b, a, a)
	VBLENDVPS(a, less, greater, first)
	VBLENDVPS(a, greater, less, second)
	VUNPCKLPS(second, first, a)
	VUNPCKHPS(second, first, b)
	VMOVUPS(a, Mem{Base: values})
	VMOVUPS(b, Mem{Base: values, Disp: 16})
	ADDQ(Imm(32), values)
	DECQ(n)
	JNE(LabelRef("four"))
	VZEROUPPER()
	RET()
}
