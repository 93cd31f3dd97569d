// Package e2e tests the built server with third-party clients: buf, grpcurl,
// grpc-health-probe, curl, the gRPC libraries of Python, Java and Node.js, Connect for
// Node.js, and a browser. It puts haproxy, nginx and Caddy in front of servers, with the
// product's own client before them. It compares decoded images with those of Pillow and libvips,
// and runs the examples of the documents. It contains only tests.
//
// "make test" in the folder above installs what they need (setup.sh) and runs them. They
// find the tools on PATH, and fail if one is missing. If you run them by hand, use
// -count=1, because go test does not know that they depend on the server.
package e2e
