//go:build amd64 && !purego

package dct

import "golang.org/x/sys/cpu"

// assembly reports whether the kernel is the assembly. Tests change it.
var assembly = cpu.X86.HasAVX2

// factors are what the kernel multiplies vectors by: for each rotation, the cosine, the sine less
// the cosine, and the sum of both; and the square root of a half. They are in the order in which
// the kernel needs them, those of rows first.
var factors = func() (f [22][8]int32) {
	n := 0
	add := func(values ...int32) {
		for _, v := range values {
			for i := range f[n] {
				f[n][i] = v
			}
			n++
		}
	}
	rotation := func(cos, sin int32) { add(cos, sin-cos, cos+sin) }
	for _, bits := range [2][2]int{{18, 8}, {12, 14}} {
		rotation(fixed(sqrtHalfCos6, bits[0]), -fixed(sqrtHalfSin6, bits[0]))
		add(fixed(sqrtHalf, bits[1]))
		rotation(fixed(cos3, 12), -fixed(sin3, 12))
		rotation(fixed(cos1, 12), -fixed(sin1, 12))
	}
	// What rounds all outputs, and the middle of bytes.
	add(1<<19, -0x7f7f7f80)
	return f
}()

// inverse computes Inverse, or returns false without the assembly.
func inverse(b *[64]int32, out []byte, stride int) bool {
	if !assembly {
		return false
	}
	_ = out[7*stride:][:8]
	inverseAVX2(&b[0], &out[0], &factors[0][0], stride)
	return true
}
