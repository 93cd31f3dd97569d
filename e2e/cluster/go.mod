// The tests of the container images and of deploy/kubernetes, on a cluster. A module of its
// own, because "make e2e" runs all tests of the one beside it, and these need a cluster.
module github.com/mienproject/mien/e2e/cluster

go 1.26.0

toolchain go1.26.11

replace github.com/mienproject/mien => ../..

require github.com/mienproject/mien v0.0.0-00010101000000-000000000000

require (
	connectrpc.com/connect v1.21.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261026165753-2ffab32bce7e // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
