package main

import (
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

// winogradInput2 transforms 4×4 pixels of each tile, the columns first.
func winogradInput2() {
	TEXT("winogradInput2", NOSPLIT, "func(dst, src *float32, row, pixel, plane, tiles, vectors int)")
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
			sums[i][v] = d.vector()
			VMOVUPS(Mem{Base: start, Disp: d.bytes() * v}, sums[i][v])
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
			VMOVUPS(sums[i][v], Mem{Base: dst, Disp: d.bytes() * v})
		}
		LEAQ(Mem{Base: dst, Index: dstTile, Scale: 4}, dst.(reg.GPVirtual))
	}
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// slopes multiplies negative sums by the slope.
func (d dense) slopes(sum, slope, zero reg.VecVirtual) {
	negative := d.vector()
	VMINPS(zero, sum, negative)
	VMULPS(slope, negative, negative)
	VMAXPS(zero, sum, sum)
	VADDPS(negative, sum, sum)
}

// winogradOutput2 makes 2×2 pixels of each tile, the columns first, and multiplies negative
// ones by the slope.
func winogradOutput2() {
	TEXT("winogradOutput2", NOSPLIT, "func(dst, src, slope *float32, plane, row, pixel, tiles, vectors int)")
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
	factor := YMM()
	VMOVUPS(Mem{Base: slope}, factor)
	for i, s := range s {
		y := YMM()
		VADDPS(s[2], s[1], y)
		VSUBPS(s[2], s[1], s[1])
		VADDPS(s[0], y, y)
		VSUBPS(s[3], s[1], s[1])
		for j, sum := range []reg.VecVirtual{y, s[1]} {
			dense{}.slopes(sum, factor, zero)
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
	winogradInput2()
	winogradInput4()
	winogradProducts(dense{name: "winogradProducts8", vectors: 1})
	winogradProducts(dense{name: "winogradProducts16", vectors: 2})
	winogradProducts(dense{name: "winogradProductsWide", vectors: 1, wide: true})
	winogradOutput2()
	winogradOutput4()
}

// eight returns a vector of 8 copies of a number.
func eight(value float32) reg.VecVirtual {
	v := YMM()
	VBROADCASTSS(constant(value), v)
	return v
}

// input4 computes Bᵀ d of six values.
func input4(d [6]Mem, four reg.VecVirtual, store func(i int, v reg.VecVirtual)) {
	load := func(i int) reg.VecVirtual {
		v := YMM()
		VMOVUPS(d[i], v)
		return v
	}
	d1, d2, d3, d4 := load(1), load(2), load(3), load(4)
	p, q, v := YMM(), YMM(), YMM()
	VMULPS(four, d2, p)
	VSUBPS(p, d4, p) // d4-4d2
	VMULPS(four, d1, q)
	VSUBPS(q, d3, q) // d3-4d1
	VADDPS(q, p, v)
	store(1, v)
	VSUBPS(q, p, p)
	store(2, p)
	r, s := YMM(), YMM()
	VSUBPS(d2, d4, r) // d4-d2
	VSUBPS(d1, d3, s) // d3-d1
	e := YMM()
	VMULPS(four, s, e)
	VADDPS(s, s, s)
	v = YMM()
	VADDPS(s, r, v)
	store(3, v)
	VSUBPS(s, r, v)
	store(4, v)
	d0, d5 := load(0), load(5)
	VSUBPS(d2, d0, d0)
	VMULPS(four, d0, d0)
	VADDPS(r, d0, d0) // 4(d0-d2) + (d4-d2)
	store(0, d0)
	VSUBPS(d3, d5, d5)
	VSUBPS(e, d5, d5) // (d5-d3) - 4(d3-d1)
	store(5, d5)
}

// winogradInput4 transforms 6×6 pixels of each tile, the columns first.
func winogradInput4() {
	TEXT("winogradInput4", NOSPLIT, "func(dst, src, scratch *float32, row, pixel, plane, tiles, vectors int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	scratch := Load(Param("scratch"), GP64())
	row := newStrides("row")
	plane := newStrides("plane")
	pixel := Load(Param("pixel"), GP64())
	SHLQ(Imm(2), pixel)
	tiles := Load(Param("tiles"), GP64())
	src := GP64()
	Load(Param("src"), src)
	four := eight(4)
	Label("tile")
	vectors := Load(Param("vectors"), GP64())
	Label("vector")
	from, below := GP64(), GP64()
	MOVQ(src, from)
	for j := range 6 {
		LEAQ(row.at(from, 3), below)
		d := [6]Mem{row.at(from, 0), row.at(from, 1), row.at(from, 2), row.at(below, 0), row.at(below, 1), row.at(below, 2)}
		input4(d, four, func(i int, v reg.VecVirtual) { VMOVUPS(v, Mem{Base: scratch, Disp: 32 * (6*i + j)}) })
		ADDQ(pixel, from)
	}
	to, rest := GP64(), GP64()
	MOVQ(dst, to)
	for i := range 6 {
		LEAQ(plane.at(to, 3), rest)
		var d [6]Mem
		for j := range d {
			d[j] = Mem{Base: scratch, Disp: 32 * (6*i + j)}
		}
		input4(d, four, func(j int, v reg.VecVirtual) {
			if j < 3 {
				VMOVUPS(v, plane.at(to, j))
			} else {
				VMOVUPS(v, plane.at(rest, j-3))
			}
		})
		LEAQ(plane.at(rest, 3), to)
	}
	ADDQ(Imm(32), dst)
	ADDQ(Imm(32), src)
	DECQ(vectors)
	JNE(LabelRef("vector"))
	// The next tile is four pixels farther, one of which has been passed.
	LEAQ(Mem{Base: src, Index: pixel, Scale: 2}, src)
	ADDQ(pixel, src)
	DECQ(tiles)
	JNE(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// output4 computes Aᵀ m of six values.
func output4(m [6]Mem, four, eight reg.VecVirtual) [4]reg.VecVirtual {
	a, b, c, d, second, y := YMM(), YMM(), YMM(), YMM(), YMM(), YMM()
	VMOVUPS(m[1], b)
	VMOVUPS(m[2], second)
	VADDPS(second, b, a)
	VSUBPS(second, b, b)
	VMOVUPS(m[3], d)
	VMOVUPS(m[4], second)
	VADDPS(second, d, c)
	VSUBPS(second, d, d)
	VADDPS(m[0], a, y)
	VADDPS(c, y, y) // (a+m0)+c
	VMULPS(four, c, c)
	VADDPS(c, a, a) // a+4c
	VMULPS(eight, d, c)
	VADDPS(d, d, d)
	VADDPS(d, b, d) // b+2d
	VADDPS(c, b, b)
	VADDPS(m[5], b, b) // (b+8d)+m5
	return [4]reg.VecVirtual{y, d, a, b}
}

// winogradOutput4 makes 4×4 pixels of each tile, the columns first, and multiplies negative
// ones by the slope.
func winogradOutput4() {
	TEXT("winogradOutput4", NOSPLIT, "func(dst, src, slope, scratch *float32, plane, row, pixel, tiles, vectors int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	scratch := Load(Param("scratch"), GP64())
	plane := newStrides("plane")
	row := Load(Param("row"), GP64())
	pixel := newStrides("pixel")
	tiles := Load(Param("tiles"), GP64())
	src := GP64()
	Load(Param("src"), src)
	zero := YMM()
	VXORPS(zero, zero, zero)
	four, eight := eight(4), eight(8)
	Label("tile")
	slope := Load(Param("slope"), GP64())
	vectors := Load(Param("vectors"), GP64())
	Label("vector")
	// Rows of positions are six planes apart.
	six := GP64()
	LEAQ(Mem{Base: plane.three, Index: plane.three, Scale: 1}, six)
	from, below, next := GP64(), GP64(), GP64()
	MOVQ(src, from)
	for j := range 6 {
		LEAQ(Mem{Base: from, Index: six, Scale: 2}, next)
		LEAQ(Mem{Base: next, Index: six, Scale: 1}, below)
		m := [6]Mem{
			{Base: from},
			{Base: from, Index: six, Scale: 1},
			{Base: next},
			{Base: below},
			{Base: below, Index: six, Scale: 1},
			{Base: below, Index: six, Scale: 2},
		}
		for i, v := range output4(m, four, eight) {
			VMOVUPS(v, Mem{Base: scratch, Disp: 32 * (6*i + j)})
		}
		ADDQ(plane.one, from)
	}
	factor := YMM()
	VMOVUPS(Mem{Base: slope}, factor)
	to := GP64()
	MOVQ(dst, to)
	for i := range 4 {
		var m [6]Mem
		for j := range m {
			m[j] = Mem{Base: scratch, Disp: 32 * (6*i + j)}
		}
		for j, v := range output4(m, four, eight) {
			dense{}.slopes(v, factor, zero)
			VMOVUPS(v, pixel.at(to, j))
		}
		LEAQ(Mem{Base: to, Index: row, Scale: 4}, to)
	}
	for _, p := range []reg.Register{dst, src, slope} {
		ADDQ(Imm(32), p)
	}
	DECQ(vectors)
	JNE(LabelRef("vector"))
	// The next tile is four pixels farther, one of which has been passed.
	ADDQ(pixel.three, dst)
	DECQ(tiles)
	JNE(LabelRef("tile"))
	VZEROUPPER()
	RET()
}
