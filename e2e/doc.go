<<<<<<< HEAD
// Package e2e tests the built server with third-party clients: buf, grpcurl,
// grpc-health-probe, curl, the gRPC libraries of Python, Java and Node.js, Connect for
// Node.js, and a browser. It compares decoded images with those of Pillow and libvips.
// It contains only tests. "make test" in the folder above installs what they need
// (setup.sh) and runs them. They find the tools on PATH, or in .bin.
=======
// Package e2e shows that the server, as it is built, works with clients that
// nobody here wrote: buf, grpcurl, grpc-health-probe, curl, the gRPC libraries of
// Python, Java and Node.js, Connect's for Node.js, and a browser. Pillow and libvips say how
// images are to be read. It also runs the examples in the documentation. It has tests only.
//
// "make test" in the folder above installs what they need (setup.sh) and runs
// them. They find the tools on PATH, and fail when one is missing. Run by hand,
// they need -count=1: go test does not know that they depend on the server.
>>>>>>> main
package e2e
