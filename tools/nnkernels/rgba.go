package main

import (
	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rgba generates the kernels of face/rgba.
func rgba() {
	// The bytes of each pixel: Y three times, so that it is multiplied by 0x10101; its chroma; and
	// what becomes of vectors of red, green, blue and alpha.
	var luma, chroma, halved, pixels [8]uint32
	const zero = 0x80
	for i := range uint32(8) {
		luma[i] = i | i<<8 | i<<16 | zero<<24
		chroma[i] = i | zero<<8 | zero<<16 | zero<<24
		halved[i] = i/2 | zero<<8 | zero<<16 | zero<<24
		pixels[i] = i%4 | (4+i%4)<<8 | (8+i%4)<<16 | (12+i%4)<<24
	}
	lumaOrder, pixelOrder := table("lumaOrder", luma), table("pixelOrder", pixels)
	convert("convertAVX2", [3]Mem{lumaOrder, table("chromaOrder", chroma), pixelOrder}, false)
	convert("convertHalvedAVX2", [3]Mem{lumaOrder, table("halvedOrder", halved), pixelOrder}, true)
}

// convert makes RGBA of eight pixels in Y'CbCr at once, whose bytes are shuffled by tables. If
// halved is true, two pixels that lie side by side share a sample of Cb and one of Cr.
func convert(name string, tables [3]Mem, halved bool) {
	TEXT(name, NOSPLIT, "func(dst, luma, blue, red *uint8, eights int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	luma := Load(Param("luma"), GP64())
	blue := Load(Param("blue"), GP64())
	red := Load(Param("red"), GP64())
	n := Load(Param("eights"), GP64())
	var orders [3]reg.VecVirtual
	for i, t := range tables {
		orders[i] = YMM()
		VMOVDQU(t, orders[i])
	}
	// The factors of JFIF in units of 2⁻¹⁶, as in color.YCbCrToRGB.
	middle, alpha := wideBits(128), wideBits(255)
	redOfRed, greenOfBlue, greenOfRed, blueOfBlue := wideBits(91881), wideBits(22554), wideBits(46802), wideBits(116130)

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

// table returns eight numbers in memory that is only read.
func table(name string, values [8]uint32) Mem {
	at := GLOBL(name, attr.RODATA|attr.NOPTR)
	for i, v := range values {
		DATA(4*i, U32(v))
	}
	return at
}
