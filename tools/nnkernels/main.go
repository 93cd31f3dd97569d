// Command nnkernels writes the assembly of package nn, or with -kernels area, dct, resample
// or rgba that of package face/mtcnn/area, photo/dct, face/grid/resample or face/rgba, and its
// declarations. "make generate" runs it.
//
// What each kernel computes is said where its pure Go twin is: in nn/twin.go,
// nn/float_twin.go, nn/winograd_twin.go, nn/image_twin.go and nn/exp.go, in rows.go of area
// and resample, and in dct.go; the twin of rgba's is image/draw.
package main

import (
	"flag"
	"log"

	"github.com/mmcloughlin/avo/build"
)

func main() {
	kernels := flag.String("kernels", "nn", "the package whose kernels to write: nn, area, dct, resample or rgba")
	flag.Parse()
	build.ConstraintExpr("amd64")
	build.ConstraintExpr("!purego")
	switch *kernels {
	case "nn":
		integers()
		floats()
	case "area":
		addRows()
		scaleRows()
		addRow()
		store()
	case "dct":
		inverseDCT()
	case "resample":
		resample()
	case "rgba":
		rgba()
	default:
		log.Fatalf("-kernels %s is not supported: it is nn, area, dct, resample or rgba", *kernels)
	}
	build.Generate()
}

// integers generates the kernels of int16.
func integers() {
	for _, wide := range []bool{false, true} {
		suffix := ""
		if wide {
			suffix = "Wide"
		}
		convolution{name: "convFloat4" + suffix, pairs: 4, wide: wide}.generate()
		convolution{name: "convInt4" + suffix, pairs: 4, toInt: true, wide: wide}.generate()
		convolution{name: "convInt2" + suffix, pairs: 2, toInt: true, wide: wide}.generate()
		convolution{name: "convInt5" + suffix, pairs: 5, toInt: true, wide: wide}.generate()
	}

	depthwise{name: "depthwiseReLU", full: true}.generate()
	depthwise{name: "depthwisePool", pooled: true}.generate()
	depthwise{name: "depthwiseBoth", full: true, pooled: true}.generate()
	depthwise{name: "depthwiseLinear", full: true, linear: true}.generate()

	pool("maxPool2", 2)
	pool("maxPool3", 3)
	addUpsampled()
	quantize()
	maxMagnitude()
}

// floats generates the kernels of float32.
func floats() {
	dense{name: "dense16", vectors: 2}.generate()
	dense{name: "dense8", vectors: 1}.generate()
	dense{name: "denseWide", vectors: 1, wide: true}.generate()
	winograd()
	image()
	poolFloats("poolFloats2", 2)
	poolFloats("poolFloats3", 3)
	softmaxPairs()
}
