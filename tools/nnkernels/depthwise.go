package main

import (
	"fmt"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// depthwise is a depthwise 3×3 convolution of two rows. It holds the nine weights in
// registers, and computes 2×2 pixels at once, of 8 channels.
type depthwise struct {
	name string
	// full gives the rows themselves, and pooled the maxima of 2×2 pixels, both after ReLU
	// as int16.
	full, pooled bool
	// linear gives the rows as they are.
	linear bool
}

// signature returns the kernel's.
func (d depthwise) signature() string {
	element := "int16"
	if d.linear {
		element = "float32"
	}
	var pointers, blocks []string
	if d.full {
		pointers, blocks = append(pointers, "dst0", "dst1"), append(blocks, "dstBlock")
	}
	if d.pooled {
		pointers, blocks = append(pointers, "pool"), append(blocks, "poolBlock")
	}
	return fmt.Sprintf("func(%s *%s, r0, r1, r2, r3, weights *float32, %s, srcBlock, tiles, blocks int)",
		strings.Join(pointers, ", "), element, strings.Join(blocks, ", "))
}

func (d depthwise) generate() {
	TEXT(d.name, NOSPLIT, d.signature())
	Pragma("noescape")

	var rows [4]reg.Register
	for i := range rows {
		rows[i] = Load(Param(fmt.Sprintf("r%d", i)), GP64())
	}
	weights := Load(Param("weights"), GP64())
	var dst [2]reg.Register
	if d.full {
		dst[0], dst[1] = Load(Param("dst0"), GP64()), Load(Param("dst1"), GP64())
	}
	var pool reg.Register
	if d.pooled {
		pool = Load(Param("pool"), GP64())
	}
	count := Load(Param("blocks"), GP64())

	Label("block")
	var taps [3][3]reg.VecVirtual
	for y := range taps {
		for x := range taps[y] {
			taps[y][x] = YMM()
			VMOVUPS(Mem{Base: weights, Disp: 32 * (3*y + x)}, taps[y][x])
		}
	}
	at := GP64() // bytes from a row's start to the tile, in a row of int16
	XORQ(at, at)
	tiles := Load(Param("tiles"), GP64())
	Label("tile")
	var sums [2][2]reg.VecVirtual
	for y := range sums {
		for x := range sums[y] {
			sums[y][x] = YMM()
			VMOVUPS(Mem{Base: weights, Disp: 288}, sums[y][x])
		}
	}
	multiply(&sums, &taps, &rows, at)
	d.store(&sums, dst, pool, at)
	ADDQ(Imm(32), at)
	DECQ(tiles)
	JNE(LabelRef("tile"))

	ADDQ(U32(320), weights)
	advance(&rows, "srcBlock", 4)
	if d.full {
		size := 2
		if d.linear {
			size = 4
		}
		advance(&dst, "dstBlock", size)
	}
	if d.pooled {
		advance(&[1]reg.Register{pool}, "poolBlock", 2)
	}
	DECQ(count)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// multiply adds the products of a tile's 4×4 values to its sums, column by column: every sum
// takes its taps in the same order.
func multiply(sums *[2][2]reg.VecVirtual, taps *[3][3]reg.VecVirtual, rows *[4]reg.Register, at reg.Register) {
	product := YMM()
	for x := range 4 {
		for y := range 4 {
			v := YMM()
			VMOVUPS(Mem{Base: rows[y], Index: at, Scale: 2, Disp: 32 * x}, v)
			for oy := max(0, y-2); oy <= min(1, y); oy++ {
				for ox := max(0, x-2); ox <= min(1, x); ox++ {
					VMULPS(taps[y-oy][x-ox], v, product)
					VADDPS(product, sums[oy][ox], sums[oy][ox])
				}
			}
		}
	}
}

// advance moves the pointers by as many values of that size as the parameter says.
func advance[R [1]reg.Register | [2]reg.Register | [4]reg.Register](pointers *R, param string, size int) {
	n := Load(Param(param), GP64())
	SHLQ(Imm(map[int]uint64{2: 1, 4: 2}[size]), n)
	for i := range len(*pointers) {
		switch p := any(pointers).(type) {
		case *[1]reg.Register:
			ADDQ(n, p[i])
		case *[2]reg.Register:
			ADDQ(n, p[i])
		case *[4]reg.Register:
			ADDQ(n, p[i])
		}
	}
}

// store stores a tile, limited to uint16, less 32768.
func (d depthwise) store(sums *[2][2]reg.VecVirtual, dst [2]reg.Register, pool, at reg.Register) {
	if d.linear {
		for y := range sums {
			for x, v := range sums[y] {
				VMOVUPS(v, Mem{Base: dst[y], Index: at, Scale: 2, Disp: 32 * x})
			}
		}
		return
	}
	offset := YMM()
	VPCMPEQW(offset, offset, offset)
	VPSLLW(Imm(15), offset, offset)
	var packed [2]reg.VecVirtual
	if d.full {
		for y := range sums {
			packed[y] = YMM()
			second := YMM()
			VCVTPS2DQ(sums[y][0], packed[y])
			VCVTPS2DQ(sums[y][1], second)
			VPACKUSDW(second, packed[y], packed[y])
			VPXOR(offset, packed[y], packed[y])
			VPERMQ(Imm(0xD8), packed[y], packed[y]) // pack works on halves of registers
			VMOVDQU(packed[y], Mem{Base: dst[y], Index: at, Scale: 1})
		}
	}
	if !d.pooled {
		return
	}
	half := GP64()
	MOVQ(at, half)
	SHRQ(Imm(1), half)
	m := Mem{Base: pool, Index: half, Scale: 1}
	upper := XMM()
	if d.full {
		VPMAXSW(packed[0], packed[1], packed[0])
		VEXTRACTI128(Imm(1), packed[0], upper)
		VPMAXSW(upper, packed[0].AsX(), upper)
	} else {
		first := sums[0][0]
		VMAXPS(sums[0][1], first, first)
		VMAXPS(sums[1][0], sums[1][1], sums[1][0])
		VMAXPS(sums[1][0], first, first)
		VCVTPS2DQ(first, first)
		VEXTRACTI128(Imm(1), first, upper)
		VPACKUSDW(upper, first.AsX(), upper)
		VPXOR(offset.AsX(), upper, upper)
	}
	VMOVDQU(upper, m)
}
