// Package e2e tests the built server with third-party clients: buf, grpcurl,
// grpc-health-probe, curl, the gRPC libraries of Python, Java and Node.js, Connect for
// Node.js, and a browser. It compares decoded images with those of Pillow and libvips.
// It contains only tests. "make test" in the folder above installs what they need
// (setup.sh) and runs them. They find the tools on PATH, or in .bin.
package e2e
