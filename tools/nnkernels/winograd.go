package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// strides are registers for the addresses of four values that lie a distance apart.
type strides struct{ one, three reg.Register }

// newStrides makes them of a parameter, in floats.
func newStrides(name string) strides {
	one, three := GP64(), GP64()
	Load(Param(name), one)
	SHLQ(Imm(2), one)
	LEAQ(Mem{Base: one, Index: one, Scale: 2}, three)
	return strides{one, three}
}

// at returns the address of one of them.
func (s strides) at(base reg.Register, i int) Mem {
	switch i {
	case 0:
		return Mem{Base: base}
	case 3:
		return Mem{Base: base, Index: s.three, Scale: 1}
	}
	return Mem{Base: base, Index: s.one, Scale: uint8(i)}
}

// winogradInput transforms 4×4 pixels of each tile, the columns first.
func winogradInput() {
	TEXT("winogradInput", NOSPLIT, "func(dst, src *float32, row, pixel, plane, tiles, vectors int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	row := newStrides("row")
	pixel := newStrides("pixel")
	plane := newStrides("plane")
	tiles := Load(Param("tiles"), GP64())
	src := GP64()
	Load(Param("src"), src)
	Label("tile")
	vectors := Load(Param("vectors"), GP64())
	rows := [4]reg.Register{src, GP64(), GP64(), GP64()}
	for i := 1; i < 4; i++ {
		LEAQ(row.at(src, i), rows[i].(reg.GPVirtual))
	}
	at, to := GP64(), GP64()
	XORQ(at, at)
	Label("vector")
	MOVQ(dst, to)
	for i := range 4 {
		var t [4]reg.VecVirtual
		for j := range t {
			t[j] = YMM()
			// d0-d2, d1+d2, d2-d1, d1-d3
			first, second := [4]int{0, 1, 2, 1}[i], [4]int{2, 2, 1, 3}[i]
			VMOVUPS(pixel.at(rows[first], j), t[j])
			if i == 1 {
				VADDPS(pixel.at(rows[second], j), t[j], t[j])
			} else {
				VSUBPS(pixel.at(rows[second], j), t[j], t[j])
			}
		}
		v := YMM()
		VSUBPS(t[2], t[0], t[0])
		VADDPS(t[2], t[1], v)
		VSUBPS(t[1], t[2], t[2])
		VSUBPS(t[3], t[1], t[3])
		for j, v := range []reg.VecVirtual{t[0], v, t[2], t[3]} {
			VMOVUPS(v, plane.at(to, j))
		}
		if i < 3 {
			LEAQ(Mem{Base: to, Index: plane.one, Scale: 4}, to)
		}
	}
	ADDQ(Imm(32), dst)
	for _, r := range rows {
		ADDQ(Imm(32), r)
	}
	DECQ(vectors)
	JNE(LabelRef("vector"))
	// The next tile is two pixels farther, one of which has been passed.
	ADDQ(pixel.one, src)
	DECQ(tiles)
	JNE(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// winogradProducts multiplies one position of tiles by one matrix.
func winogradProducts(d dense) {
	TEXT(d.name, NOSPLIT, "func(dst, src, weights, start *float32, values, srcTile, dstTile, blocks int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	blocks := Load(Param("blocks"), GP64())
	srcTile := Load(Param("srcTile"), GP64())
	dstTile := Load(Param("dstTile"), GP64())
	Label("block")
	var pixels [tile]reg.Register
	for i := range pixels {
		pixels[i] = GP64()
		MOVQ(src, pixels[i])
		LEAQ(Mem{Base: src, Index: srcTile, Scale: 4}, src.(reg.GPVirtual))
	}
	start := Load(Param("start"), GP64())
	var sums [tile][2]reg.VecVirtual
	for i := range sums {
		for v := range d.vectors {
			sums[i][v] = YMM()
			VMOVUPS(Mem{Base: start, Disp: 32 * v}, sums[i][v])
		}
	}
	weights := Load(Param("weights"), GP64())
	at, end := GP64(), Load(Param("values"), GP64())
	XORQ(at, at)
	Label("values")
	d.multiply(&sums, &pixels, at, weights, unrolled)
	CMPQ(at, end)
	JL(LabelRef("values"))
	for i := range sums {
		for v := range d.vectors {
			VMOVUPS(sums[i][v], Mem{Base: dst, Disp: 32 * v})
		}
		LEAQ(Mem{Base: dst, Index: dstTile, Scale: 4}, dst.(reg.GPVirtual))
	}
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// winogradOutput makes 2×2 pixels of each tile, the columns first, and multiplies negative
// ones by the slope.
func winogradOutput() {
	TEXT("winogradOutput", NOSPLIT, "func(dst, src, slope *float32, plane, row, pixel, tiles, vectors int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	plane := newStrides("plane")
	row := Load(Param("row"), GP64())
	pixel := Load(Param("pixel"), GP64())
	tiles := Load(Param("tiles"), GP64())
	src := GP64()
	Load(Param("src"), src)
	zero := YMM()
	VXORPS(zero, zero, zero)
	Label("tile")
	slope := Load(Param("slope"), GP64())
	vectors := Load(Param("vectors"), GP64())
	Label("vector")
	var rows [4]reg.Register
	rows[0] = src
	for i := 1; i < 4; i++ {
		rows[i] = GP64()
		LEAQ(Mem{Base: rows[i-1], Index: plane.one, Scale: 4}, rows[i].(reg.GPVirtual))
	}
	var s [2][4]reg.VecVirtual
	for j := range 4 {
		s[0][j], s[1][j] = YMM(), YMM()
		second := YMM()
		VMOVUPS(plane.at(rows[1], j), s[1][j])
		VMOVUPS(plane.at(rows[2], j), second)
		VADDPS(second, s[1][j], s[0][j])
		VSUBPS(second, s[1][j], s[1][j])
		VADDPS(plane.at(rows[0], j), s[0][j], s[0][j])
		VSUBPS(plane.at(rows[3], j), s[1][j], s[1][j])
	}
	slopes := YMM()
	VMOVUPS(Mem{Base: slope}, slopes)
	for i, s := range s {
		y := YMM()
		VADDPS(s[2], s[1], y)
		VSUBPS(s[2], s[1], s[1])
		VADDPS(s[0], y, y)
		VSUBPS(s[3], s[1], s[1])
		for j, sum := range []reg.VecVirtual{y, s[1]} {
			negative := YMM()
			VMINPS(zero, sum, negative)
			VMULPS(slopes, negative, negative)
			VMAXPS(zero, sum, sum)
			VADDPS(negative, sum, sum)
			to := Mem{Base: dst}
			if j == 1 {
				to.Index, to.Scale = pixel, 4
			}
			if i == 1 {
				below := GP64()
				LEAQ(Mem{Base: dst, Index: row, Scale: 4}, below)
				to.Base = below
			}
			VMOVUPS(sum, to)
		}
	}
	for _, p := range []reg.Register{dst, src, slope} {
		ADDQ(Imm(32), p)
	}
	DECQ(vectors)
	JNE(LabelRef("vector"))
	// The next tile is two pixels farther, one of which has been passed.
	LEAQ(Mem{Base: dst, Index: pixel, Scale: 4}, dst.(reg.GPVirtual))
	DECQ(tiles)
	JNE(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// winograd generates the three steps of a dense 3×3 convolution.
func winograd() {
	winogradInput()
	for vectors := 1; vectors <= 2; vectors++ {
		winogradProducts(dense{name: fmt.Sprintf("winogradProducts%d", 8*vectors), vectors: vectors})
	}
	winogradOutput()
}
