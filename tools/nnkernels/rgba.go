package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rgba generates the kernels of face/rgba.
func rgba() {
	convert("convertAVX2", false)
	convert("convertHalvedAVX2", true)
}

// convert makes RGBA of eight pixels in Y'CbCr at once. If halved is true, two pixels that lie
// side by side share a sample of Cb and one of Cr.
func convert(name string, halved bool) {
	// Y three times, so that it is multiplied by 0x10101.
	var lumaOrder, chromaOrder, pixelOrder [8]uint32
	for i := range uint32(8) {
		chroma := i
		if halved {
			chroma /= 2
		}
		const zero = 0x80
		lumaOrder[i] = i | i<<8 | i<<16 | zero<<24
		chromaOrder[i] = chroma | zero<<8 | zero<<16 | zero<<24
		pixelOrder[i] = i%4 | (4+i%4)<<8 | (8+i%4)<<16 | (12+i%4)<<24
	}
	TEXT(name, NOSPLIT, "func(dst, luma, blue, red *uint8, eights int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	luma := Load(Param("luma"), GP64())
	blue := Load(Param("blue"), GP64())
	red := Load(Param("red"), GP64())
	n := Load(Param("eights"), GP64())
	orders := [3]reg.VecVirtual{YMM(), YMM(), YMM()}
	for i, order := range [][8]uint32{lumaOrder, chromaOrder, pixelOrder} {
		VMOVDQU(table(name+[]string{"Luma", "Chroma", "Pixels"}[i], order), orders[i])
	}
	// The factors of JFIF in units of 2⁻¹⁶, as in color.YCbCrToRGB.
	middle, alpha := whole(128), whole(255)
	redOfRed, greenOfBlue, greenOfRed, blueOfBlue := whole(91881), whole(22554), whole(46802), whole(116130)

	Label("pixels")
	y, cb, cr := YMM(), YMM(), YMM()
	VPBROADCASTQ(Mem{Base: luma}, y)
	VPSHUFB(orders[0], y, y)
	for _, c := range []struct {
		from reg.Register
		to   reg.VecVirtual
	}{{blue, cb}, {red, cr}} {
		if halved {
			VPBROADCASTD(Mem{Base: c.from}, c.to)
		} else {
			VPBROADCASTQ(Mem{Base: c.from}, c.to)
		}
		VPSHUFB(orders[1], c.to, c.to)
		VPSUBD(middle, c.to, c.to)
	}
	r, g := YMM(), YMM()
	VPMULLD(redOfRed, cr, r)
	VPADDD(y, r, r)
	VPMULLD(greenOfRed, cr, cr)
	VPSUBD(cr, y, g)
	VPMULLD(greenOfBlue, cb, cr)
	VPSUBD(cr, g, g)
	VPMULLD(blueOfBlue, cb, cb)
	VPADDD(y, cb, cb)
	for _, v := range []reg.VecVirtual{r, g, cb} {
		VPSRAD(Imm(16), v, v)
	}
	// Packing limits them to bytes.
	VPACKSSDW(g, r, r)
	VPACKSSDW(alpha, cb, cb)
	VPACKUSWB(cb, r, r)
	VPSHUFB(orders[2], r, r)
	VMOVDQU(r, Mem{Base: dst})
	ADDQ(Imm(32), dst)
	ADDQ(Imm(8), luma)
	step := uint64(8)
	if halved {
		step = 4
	}
	ADDQ(Imm(step), blue)
	ADDQ(Imm(step), red)
	DECQ(n)
	JNE(LabelRef("pixels"))
	VZEROUPPER()
	RET()
}

// whole returns a vector of 8 copies of a whole number.
func whole(value uint32) reg.VecVirtual {
	bits, v := GP32(), YMM()
	MOVL(U32(value), bits)
	VMOVD(bits, v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

// table returns eight numbers in memory that is only read.
func table(name string, values [8]uint32) Mem {
	at := GLOBL(name, attr.RODATA|attr.NOPTR)
	for i, v := range values {
		DATA(4*i, U32(v))
	}
	return at
}
