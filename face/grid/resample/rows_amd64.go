//go:build amd64 && !purego

package resample

import "golang.org/x/sys/cpu"

// assembly reports whether the kernels are the assembly. Tests change it.
var assembly = cpu.X86.HasAVX2

// These functions compute as many outputs as are in whole vectors, and return how many. That is
// none without the assembly.

func (a *Axis) vectors(out []float32, src []uint8) int {
	n := len(a.windows)
	if !assembly || n == 0 {
		return 0
	}
	scaleAVX2(&out[0], &src[0], &a.windows[0].at, &a.Weight[0], n)
	return n * vector
}

func blend(out, upper, lower []float32, weight float32) int {
	n := len(out) / vector
	if !assembly || n == 0 {
		return 0
	}
	blendAVX2(&out[0], &upper[0], &lower[0], weight, n)
	return n * vector
}

func (c Chroma) set(cb, cbBelow, cr, crBelow []float32, weight float32) int {
	n := len(c.Red) / vector
	if !assembly || n == 0 {
		return 0
	}
	chromaAVX2(&c.Red[0], &c.Green[0], &c.Blue[0], &cb[0], &cbBelow[0], &cr[0], &crBelow[0], weight, n)
	return n * vector
}

func (c Chroma) colors(red, green, blue, upper, lower []float32, weight float32) int {
	n := len(red) / vector
	if !assembly || n == 0 {
		return 0
	}
	colorsAVX2(&red[0], &green[0], &blue[0], &upper[0], &lower[0], &c.Red[0], &c.Green[0], &c.Blue[0], weight, n)
	return n * vector
}
