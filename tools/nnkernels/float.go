package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dense is a dense convolution of float32. It holds the sums of 6 pixels by 8 or 16 output
// channels in registers. Products are rounded before they are added.
type dense struct {
	name string
	// vectors of output channels.
	vectors int
	// wide vectors are those of AVX-512, of 16 channels rather than 8. The processor computes
	// as many products with them or more, for half as many instructions.
	wide bool
}

// vector returns a register.
func (d dense) vector() reg.VecVirtual {
	if d.wide {
		return ZMM()
	}
	return YMM()
}

// zero returns a register of zeros.
func (d dense) zero() reg.VecVirtual {
	v := d.vector()
	if d.wide {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
	return v
}

// bytes are those of a vector.
func (d dense) bytes() int {
	if d.wide {
		return 64
	}
	return 32
}

func (d dense) generate() {
	TEXT(d.name, NOSPLIT, "func(dst, src *float32, places *int32, taps *int, weights, after *float32, tapCount, perTap, dstPixel, tiles int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	places := Load(Param("places"), GP64())
	tiles := Load(Param("tiles"), GP64())

	Label("tile")
	var pixels [tile]reg.Register
	src := GP64()
	Load(Param("src"), src)
	for i := range pixels {
		pixels[i] = GP64()
		MOVLQSX(Mem{Base: places, Disp: 4 * i}, pixels[i].(reg.GPVirtual))
		LEAQ(Mem{Base: src, Index: pixels[i], Scale: 4}, pixels[i].(reg.GPVirtual))
	}
	ADDQ(Imm(4*tile), places)
	sums := d.sum(&pixels)
	d.finish(sums, dst)
	DECQ(tiles)
	JNE(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// sum returns the sums of the products of all taps: the first sum is the bias.
func (d dense) sum(pixels *[tile]reg.Register) *[tile][2]reg.VecVirtual {
	after := Load(Param("after"), GP64())
	var sums [tile][2]reg.VecVirtual
	for i := range sums {
		for v := range d.vectors {
			sums[i][v] = d.vector()
			VMOVUPS(Mem{Base: after, Disp: d.bytes() * v}, sums[i][v])
		}
	}
	tap := Load(Param("taps"), GP64())
	count := Load(Param("tapCount"), GP64())
	weights := Load(Param("weights"), GP64())
	Label("tap")
	at, end := GP64(), GP64() // of the tap's values, from the pixel's place
	MOVQ(Mem{Base: tap}, at)
	Load(Param("perTap"), end)
	ADDQ(at, end)
	ADDQ(Imm(8), tap)
	rest := GP64()
	LEAQ(Mem{Base: end, Disp: -unrolled}, rest)
	CMPQ(at, rest)
	JG(LabelRef("last"))
	Label("values")
	d.multiply(&sums, pixels, at, weights, unrolled)
	CMPQ(at, rest)
	JLE(LabelRef("values"))
	CMPQ(at, end)
	JGE(LabelRef("next"))
	Label("last")
	d.multiply(&sums, pixels, at, weights, 1)
	CMPQ(at, end)
	JLT(LabelRef("last"))
	Label("next")
	DECQ(count)
	JNE(LabelRef("tap"))
	return &sums
}

// unrolled is how many values of a tap are multiplied in one pass of the loop.
const unrolled = 2

// multiply adds the products of some values of a tap to the sums.
func (d dense) multiply(sums *[tile][2]reg.VecVirtual, pixels *[tile]reg.Register, at, weights reg.Register, values int) {
	w := [2]reg.VecVirtual{d.vector(), d.vector()}
	x, product := d.vector(), d.vector()
	for k := range values {
		for v := range d.vectors {
			VMOVUPS(Mem{Base: weights, Disp: d.bytes() * (k*d.vectors + v)}, w[v])
		}
		for i := range sums {
			if d.wide {
				VMULPS_BCST(Mem{Base: pixels[i], Index: at, Scale: 4, Disp: 4 * k}, w[0], x)
				VADDPS(x, sums[i][0], sums[i][0])
				continue
			}
			VBROADCASTSS(Mem{Base: pixels[i], Index: at, Scale: 4, Disp: 4 * k}, x)
			for v := range d.vectors {
				to := product
				if v == d.vectors-1 {
					to = x
				}
				VMULPS(w[v], x, to)
				VADDPS(to, sums[i][v], sums[i][v])
			}
		}
	}
	ADDQ(U32(uint32(d.bytes()*d.vectors*values)), weights)
	ADDQ(Imm(uint64(values)), at)
}

// finish multiplies negative sums by the slope, and stores the tile.
func (d dense) finish(sums *[tile][2]reg.VecVirtual, dst reg.Register) {
	after := Load(Param("after"), GP64())
	step := Load(Param("dstPixel"), GP64())
	zero, negative := d.zero(), d.vector()
	for i := range sums {
		for v := range d.vectors {
			sum := sums[i][v]
			VMINPS(zero, sum, negative)
			VMULPS(Mem{Base: after, Disp: d.bytes() * (d.vectors + v)}, negative, negative)
			VMAXPS(zero, sum, sum)
			VADDPS(negative, sum, sum)
			VMOVUPS(sum, Mem{Base: dst, Disp: d.bytes() * v})
		}
		LEAQ(Mem{Base: dst, Index: step, Scale: 4}, dst.(reg.GPVirtual))
	}
}

// poolFloats takes maxima of side×side pixels, two pixels apart.
func poolFloats(name string, side int) {
	pointers, columns := "r0, r1", "column1"
	if side == 3 {
		pointers, columns = "r0, r1, r2", "column1, column2"
	}
	TEXT(name, NOSPLIT, fmt.Sprintf("func(dst, %s *float32, %s, pixel, pixels int)", pointers, columns))
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	rows, offsets := make([]reg.Register, side), make([]reg.Register, side)
	for i := range side {
		rows[i] = Load(Param(fmt.Sprintf("r%d", i)), GP64())
		if i > 0 {
			offsets[i] = Load(Param(fmt.Sprintf("column%d", i)), GP64())
		}
	}
	pixel := Load(Param("pixel"), GP64())
	pixels := Load(Param("pixels"), GP64())
	Label("pixel")
	vectors := GP64()
	MOVQ(pixel, vectors)
	Label("vector")
	v := YMM()
	VMOVUPS(Mem{Base: rows[0]}, v)
	for y, row := range rows {
		for x, offset := range offsets {
			switch {
			case x > 0:
				VMAXPS(Mem{Base: row, Index: offset, Scale: 4}, v, v)
			case y > 0:
				VMAXPS(Mem{Base: row}, v, v)
			}
		}
	}
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(Imm(32), dst)
	for _, row := range rows {
		ADDQ(Imm(32), row)
	}
	SUBQ(Imm(8), vectors)
	JG(LabelRef("vector"))
	for _, row := range rows {
		LEAQ(Mem{Base: row, Index: pixel, Scale: 4}, row.(reg.GPVirtual))
	}
	DECQ(pixels)
	JNE(LabelRef("pixel"))
	VZEROUPPER()
	RET()
}
