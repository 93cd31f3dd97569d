// Package e2e shows that the server, as it is built, works with clients that
// nobody here wrote: buf, grpcurl, grpc-health-probe, curl, the gRPC libraries of
// Python, Java and Node.js, Connect's for Node.js, and a browser. Pillow and libvips say how
// images are to be read. It has tests only.
//
// "make test" in the folder above installs what they need (setup.sh) and runs
// them. They find the tools on PATH, and fail when one is missing. Run by hand,
// they need -count=1: go test does not know that they depend on the server.
package e2e
