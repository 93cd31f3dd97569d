package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectors are eight vectors of eight int32: rows or columns of a block.
type vectors [8]reg.VecVirtual

// transpose makes columns of rows.
func (v *vectors) transpose() {
	// Pairs of rows, then groups of four, then the halves of vectors.
	for i := 0; i < 8; i += 2 {
		low := YMM()
		VPUNPCKLDQ(v[i+1], v[i], low)
		VPUNPCKHDQ(v[i+1], v[i], v[i+1])
		v[i] = low
	}
	for _, i := range []int{0, 1, 4, 5} {
		low := YMM()
		VPUNPCKLQDQ(v[i+2], v[i], low)
		VPUNPCKHQDQ(v[i+2], v[i], v[i+2])
		v[i] = low
	}
	for i := range 4 {
		low := YMM()
		VPERM2I128(Imm(0x20), v[i+4], v[i], low)
		VPERM2I128(Imm(0x31), v[i+4], v[i], v[i+4])
		v[i] = low
	}
	v[1], v[2] = v[2], v[1]
	v[5], v[6] = v[6], v[5]
}

// sums makes a+b of a, and a-b of b.
func sums(a, b *reg.VecVirtual) {
	difference := YMM()
	VPSUBD(*b, *a, difference)
	VPADDD(*b, *a, *a)
	*b = difference
}

// factors points to the next factor in memory.
type factors struct {
	base reg.Register
	next int
}

func (f *factors) take() Mem {
	f.next++
	return Mem{Base: f.base, Disp: 32 * (f.next - 1)}
}

// rotate multiplies by a rotation of three factors.
func (f *factors) rotate(x, y reg.VecVirtual) {
	sum := YMM()
	VPADDD(y, x, sum)
	VPMULLD(f.take(), sum, sum)
	VPMULLD(f.take(), y, y)
	VPMULLD(f.take(), x, x)
	VPADDD(y, sum, y)
	VPSUBD(x, sum, sum)
	VMOVDQA(y, x)
	VMOVDQA(sum, y)
}

// inverse transforms along the vectors. columns says that this is the second pass, which has
// other precisions.
func (v *vectors) inverse(f *factors, columns bool) {
	x0, x7, x2, x5, x1, x6, x3, x4 := v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
	shift := func(bits uint8, values ...reg.VecVirtual) {
		for _, x := range values {
			VPSRAD(Imm(uint64(bits)), x, x)
		}
	}
	if columns {
		VPADDD(Mem{Base: f.base, Disp: 32 * 20}, x0, x0)
		sums(&x0, &x1)
		shift(2, x0, x1)
		shift(13, x2, x3)
	} else {
		VPSLLD(Imm(17), x0, x0)
		VPSLLD(Imm(17), x1, x1)
		sums(&x0, &x1)
	}
	f.rotate(x2, x3)
	sums(&x1, &x2)
	sums(&x0, &x3)

	if columns {
		shift(13, x5, x6)
	} else {
		VPSLLD(Imm(7), x4, x4)
		VPSLLD(Imm(7), x7, x7)
	}
	sums(&x7, &x4)
	half := f.take()
	VPMULLD(half, x6, x6)
	VPMULLD(half, x5, x5)
	sums(&x7, &x5)
	sums(&x4, &x6)
	if columns {
		shift(14, x4, x7, x5, x6)
	} else {
		shift(2, x4, x7, x5, x6)
	}
	f.rotate(x4, x7)
	f.rotate(x5, x6)

	sums(&x0, &x7)
	sums(&x1, &x6)
	sums(&x2, &x5)
	sums(&x3, &x4)
	*v = vectors{x0, x1, x2, x3, x4, x5, x6, x7}
}

// inverseDCT generates the kernel of photo/dct.
func inverseDCT() {
	TEXT("inverseAVX2", NOSPLIT, "func(block *int32, out *uint8, factors *int32, stride int)")
	Pragma("noescape")
	block := Load(Param("block"), GP64())
	f := &factors{base: Load(Param("factors"), GP64())}
	var v vectors
	for i := range v {
		v[i] = YMM()
		VMOVDQU(Mem{Base: block, Disp: 32 * i}, v[i])
	}
	v.transpose()
	v.inverse(f, false)
	v.transpose()
	v.inverse(f, true)

	out := Load(Param("out"), GP64())
	stride := Load(Param("stride"), GP64())
	order := YMM()
	orderOfRows(order)
	for i := 0; i < 8; i += 4 {
		rows := v[i : i+4]
		for _, r := range rows {
			VPSRAD(Imm(18), r, r)
		}
		VPACKSSDW(rows[1], rows[0], rows[0])
		VPACKSSDW(rows[3], rows[2], rows[2])
		VPACKSSWB(rows[2], rows[0], rows[0])
		VPERMD(rows[0], order, rows[0])
		VPXOR(Mem{Base: f.base, Disp: 32 * 21}, rows[0], rows[0])
		half := XMM()
		VEXTRACTI128(Imm(1), rows[0], half)
		for k, pair := range []Op{rows[0].AsX(), half} {
			VMOVQ(pair, Mem{Base: out})
			VMOVHPS(pair, Mem{Base: out, Index: stride, Scale: 1})
			if i+k < 5 {
				LEAQ(Mem{Base: out, Index: stride, Scale: 2}, out.(reg.GPVirtual))
			}
		}
	}
	VZEROUPPER()
	RET()
}

// orderOfRows loads the order in which the halves of four rows of bytes make whole rows.
func orderOfRows(order reg.VecVirtual) {
	places := GP64()
	MOVQ(U64(0x0703060205010400), places)
	VMOVQ(places, order.AsX())
	VPMOVZXBD(order.AsX(), order)
}
