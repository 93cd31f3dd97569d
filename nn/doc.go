// Package nn runs small convolutional networks, in pure Go with assembly for AVX2 and AVX-512.
// It reads them from ONNX files, and knows nothing of what they are for.
//
// It gives the same bits on all processors, with any number of cores, and in any batch. So it
// computes with integers, or with single operations of floating-point numbers in a fixed
// order: never a product fused with a sum, and no function of package math that is assembly
// on some processors.
//
// A network that has depthwise convolutions, as those for detection in one pass do, is
// computed with int16. It is twice as fast, and its outputs are within .01 or so of those of
// float32. A network of dense convolutions only, as those of a cascade are, is computed with
// float32: one network of a cascade chooses among what the one before it found, so that a
// small error may lose a face.
//
// # How a network runs
//
// Opening a file makes stages of its nodes: a convolution with its activation, or a 1×1
// convolution with the depthwise one, the ReLU and the max pool after it (read.go). For
// integers, the weights are then quantized to int16, with a factor for each channel that
// makes overflow impossible, and maps are int16, too (quantize.go says with what precision).
//
// A map is not computed as a whole. The last stage of a chain asks the one before it for the
// rows that it needs, and so on up to the input, so that a few rows of each map are in memory
// at a time, and stay in the nearest caches:
//
//	input    3 rows ──┐
//	                  ▼
//	3×3, stride 2   1 row ─ 1×1 ─▶ 4 rows ─ depthwise 3×3, ReLU, max pool ─▶ 1 row ─ …
//	                               (of sums)
//
// A map that two stages read is kept whole, and ends a chain (plan.go). Where cores are idle,
// chains are cut shorter, and bands of their rows are computed beside each other; at its
// edges a band computes some rows that its neighbor computes, too. A band of the next chain
// begins before the last rows of the others are there, and waits for the few that it needs
// when it gets to them (run.go). Images of a
// batch are computed one by one, but for the matrix products, which take several images at
// once (room.go).
//
// Networks of float32 have chains only, of which several rows are computed at once, so that
// small maps fill the kernels (float.go, float_run.go, float_room.go). Their 3×3 convolutions
// take less than half of the products (winograd.go, image.go).
//
// What computes a row is a kernel: assembly that tools/nnkernels generates, or its pure Go
// twin on other processors (kernels.go).
package nn
