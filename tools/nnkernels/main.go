// Command nnkernels writes the AVX2 kernels of package nn: nn/kernels_amd64.s, and their
// declarations. "make generate" runs it.
//
// What each kernel computes is said where its pure Go twin is, in nn/twin.go.
package main

import "github.com/mmcloughlin/avo/build"

func main() {
	build.ConstraintExpr("amd64")
	build.ConstraintExpr("!purego")

	convolution{name: "convFloat4", pairs: 4}.generate()
	convolution{name: "convInt4", pairs: 4, toInt: true}.generate()
	convolution{name: "convInt2", pairs: 2, toInt: true}.generate()
	convolution{name: "convInt5", pairs: 5, toInt: true}.generate()

	depthwise{name: "depthwiseReLU", full: true}.generate()
	depthwise{name: "depthwisePool", pooled: true}.generate()
	depthwise{name: "depthwiseBoth", full: true, pooled: true}.generate()
	depthwise{name: "depthwiseLinear", full: true, linear: true}.generate()

	pool("maxPool2", 2)
	pool("maxPool3", 3)
	addUpsampled()
	quantize()
	maxMagnitude()

	dense{name: "dense16", vectors: 2}.generate()
	dense{name: "dense8", vectors: 1}.generate()
	poolFloats("poolFloats2", 2)
	poolFloats("poolFloats3", 3)

	build.Generate()
}
