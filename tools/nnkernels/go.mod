// The generator of the assembly in nn/. A module of its own, so that none of its
// dependencies reaches the product.
module github.com/mienproject/mien/tools/nnkernels

go 1.26.7

toolchain go1.26.11

require github.com/mmcloughlin/avo v0.6.0

require (
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
)
