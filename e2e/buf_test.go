package e2e

import "testing"

// bufCurl calls a method of the service. buf gets the schema from the server.
func bufCurl(t testing.TB, s *server, protocol, method string, request []byte, args ...string) result {
	t.Helper()
	args = append([]string{"curl", "--protocol", protocol, "--data", "@-"}, args...)
	return run(t, request, "buf", append(args, s.url+procedure+method)...)
}

func TestBufCurl(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"connect", "grpc", "grpcweb"} {
		t.Run(protocol, func(t *testing.T) {
			s := start(t)
			call := func(t testing.TB, method string, request []byte) result {
				t.Helper()
				return bufCurl(t, s, protocol, method, request, "--http2-prior-knowledge")
			}
			checkModels(t, call(t, "ListModels", []byte("{}")).must(t))
			for _, p := range []*testImage{sample, people} {
				t.Run(p.name, func(t *testing.T) {
					p.check(t, call(t, "Predict", p.request(t)).must(t))
				})
			}

			// buf prints errors of all protocols in Connect's format.
			failed := call(t, "Predict", broken)
			if failed.code == 0 {
				t.Errorf("buf takes an error for success: %v", failed)
			}
			checkError(t, failed.stderr, "invalid_argument", "CORRUPT_IMAGE")

			calls := requests(s.stop(), procedure)
			if len(calls) < 3 {
				t.Errorf("%d calls in the log, want one for each above", len(calls))
			}
			for _, r := range calls {
				if r["protocol"] != protocol || r["http"] != "HTTP/2.0" {
					t.Errorf("a call came by %v over %v, want %s over HTTP/2.0", r["protocol"], r["http"], protocol)
				}
			}
		})
	}
}

func TestBufReflection(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v1alpha"} {
		t.Run(version, func(t *testing.T) {
			s := start(t)
			checkModels(t, bufCurl(t, s, "grpc", "ListModels", []byte("{}"),
				"--http2-prior-knowledge", "--reflect-protocol", "grpc-"+version).must(t))
			if n := len(requests(s.stop(), "/grpc.reflection."+version+".ServerReflection/")); n == 0 {
				t.Errorf("nobody asked for the schema by reflection %s", version)
			}
		})
	}
}

// convert converts a message to another encoding, json or binpb.
func convert(t testing.TB, message, from, to string, data []byte) []byte {
	t.Helper()
	return run(t, data, "buf", "convert", "proto", "--type", "inference.v1."+message,
		"--from", "-#format="+from, "--to", "-#format="+to).must(t)
}
