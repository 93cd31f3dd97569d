package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// imageInput transforms 4×4 pixels of three values of each tile, the columns first. It computes
// with four values, and writes the next ones over the last.
func imageInput() {
	TEXT("imageInput", NOSPLIT, "func(dst, src *float32, row, tiles int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	row := newStrides("row")
	tiles := Load(Param("tiles"), GP64())
	Label("tile")
	rows := [4]reg.Register{src, GP64(), GP64(), GP64()}
	for i := 1; i < 4; i++ {
		LEAQ(row.at(src, i), rows[i])
	}
	for i := range 4 {
		var t [4]reg.VecVirtual
		for j := range t {
			t[j] = XMM()
			// d0-d2, d1+d2, d2-d1, d1-d3
			first, second := [4]int{0, 1, 2, 1}[i], [4]int{2, 2, 1, 3}[i]
			VMOVUPS(Mem{Base: rows[first], Disp: 12 * j}, t[j])
			if i == 1 {
				VADDPS(Mem{Base: rows[second], Disp: 12 * j}, t[j], t[j])
			} else {
				VSUBPS(Mem{Base: rows[second], Disp: 12 * j}, t[j], t[j])
			}
		}
		v := XMM()
		VSUBPS(t[2], t[0], t[0])
		VADDPS(t[2], t[1], v)
		VSUBPS(t[1], t[2], t[2])
		VSUBPS(t[3], t[1], t[3])
		for j, v := range []reg.VecVirtual{t[0], v, t[2], t[3]} {
			VMOVUPS(v, Mem{Base: dst, Disp: 12 * (4*i + j)})
		}
	}
	ADDQ(Imm(24), src)
	ADDQ(U32(192), dst)
	DECQ(tiles)
	JNE(LabelRef("tile"))
	RET()
}

// imageOutput computes the sums of products of some tiles for one vector of outputs, and makes
// 2×2 pixels of each of them.
func imageOutput(d dense, tiles int) {
	TEXT(d.name, NOSPLIT, "func(dst, src, weights, after *float32, row, pixel, groups int)")
	Pragma("noescape")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	weights := Load(Param("weights"), GP64())
	after := Load(Param("after"), GP64())
	row := Load(Param("row"), GP64())
	SHLQ(Imm(2), row)
	pixel := newStrides("pixel")
	groups := Load(Param("groups"), GP64())
	Label("group")
	y := make([][2][2]reg.VecVirtual, tiles)
	for t := range y {
		for i := range 2 {
			for j := range 2 {
				y[t][i][j] = d.vector()
				VMOVUPS(Mem{Base: after}, y[t][i][j])
			}
		}
	}
	for j := range 4 {
		for t, s := range d.column(src, weights, j, tiles) {
			for i := range 2 {
				if j < 3 {
					VADDPS(s[i], y[t][i][0], y[t][i][0])
				}
				switch {
				case j == 1:
					VADDPS(s[i], y[t][i][1], y[t][i][1])
				case j > 1:
					VSUBPS(s[i], y[t][i][1], y[t][i][1])
				}
			}
		}
	}
	zero, slope := d.zero(), d.vector()
	VMOVUPS(Mem{Base: after, Disp: d.bytes()}, slope)
	for t := range tiles {
		for j := range 2 {
			for i := range 2 {
				d.slopes(y[t][i][j], slope, zero)
				to := Mem{Base: dst}
				if i == 1 {
					to.Index, to.Scale = row, 1
				}
				VMOVUPS(y[t][i][j], to)
			}
			ADDQ(pixel.one, dst)
		}
	}
	ADDQ(U32(uint32(192*tiles)), src)
	DECQ(groups)
	JNE(LabelRef("group"))
	VZEROUPPER()
	RET()
}

// column returns a column of Aᵀ m of each tile.
func (d dense) column(src, weights reg.Register, j, tiles int) [][2]reg.VecVirtual {
	s := make([][2]reg.VecVirtual, tiles)
	for i := range 4 {
		for t, m := range d.position(src, weights, 4*i+j, tiles) {
			switch i {
			case 0:
				s[t][0] = m
			case 1:
				VADDPS(m, s[t][0], s[t][0])
				s[t][1] = m
			case 2:
				VADDPS(m, s[t][0], s[t][0])
				VSUBPS(m, s[t][1], s[t][1])
			case 3:
				VSUBPS(m, s[t][1], s[t][1])
			}
		}
	}
	return s
}

// position returns the sums of the products of three values at a position of each tile.
func (d dense) position(src, weights reg.Register, position, tiles int) []reg.VecVirtual {
	sums := make([]reg.VecVirtual, tiles)
	for c := range 3 {
		k := 3*position + c
		weight := Mem{Base: weights, Disp: d.bytes() * k}
		w, x := d.vector(), d.vector()
		if d.wide {
			VMOVUPS(weight, w)
		}
		for t := range tiles {
			to := x
			if c == 0 {
				sums[t] = d.vector()
				to = sums[t]
			}
			value := Mem{Base: src, Disp: 192*t + 4*k}
			if d.wide {
				VMULPS_BCST(value, w, to)
			} else {
				// A register for the weights would be one too many.
				VBROADCASTSS(value, to)
				VMULPS(weight, to, to)
			}
			if c > 0 {
				VADDPS(x, sums[t], sums[t])
			}
		}
	}
	return sums
}

// image generates the two steps of a dense 3×3 convolution of an image of three channels.
func image() {
	imageInput()
	for _, d := range []dense{{name: "imageOutput"}, {name: "imageOutputWide", wide: true}} {
		tiles := 2
		if d.wide {
			tiles = 4
		}
		imageOutput(d, tiles)
	}
}
