package e2e

import (
	"strings"
	"testing"
)

func TestGrpcurl(t *testing.T) {
	t.Parallel()
	s := start(t)
	grpcurl := func(t testing.TB, stdin []byte, args ...string) result {
		t.Helper()
		return run(t, stdin, "grpcurl", append([]string{"-plaintext", "-max-time", "60"}, args...)...)
	}
	t.Run("list", func(t *testing.T) {
		got := string(grpcurl(t, nil, s.addr, "list").must(t))
		if want := "grpc.health.v1.Health\ninference.GRPCInferenceService\ninference.v1.Inference\n"; got != want {
			t.Errorf("services are %q, want %q", got, want)
		}
		got = string(grpcurl(t, nil, s.addr, "list", "inference.v1.Inference").must(t))
		for _, method := range []string{"Predict", "PredictStream", "PredictBatch", "ListModels"} {
			if !strings.Contains(got, "inference.v1.Inference."+method+"\n") {
				t.Errorf("methods are %q, want %s among them", got, method)
			}
		}
	})
	t.Run("describe", func(t *testing.T) {
		for symbol, want := range map[string]string{
			"inference.v1.Inference":         "rpc Predict ( .inference.v1.Image ) returns ( .inference.v1.InferResults )",
			"inference.v1.Image":             "bytes raw_data = 1;",
			"inference.v1.DetectOptions":     "optional float min_confidence = 1;",
			"inference.GRPCInferenceService": "rpc ModelInfer ( .inference.ModelInferRequest ) returns ( .inference.ModelInferResponse )",
			"grpc.health.v1.Health":          "rpc Check ( .grpc.health.v1.HealthCheckRequest )",
		} {
			if got := string(grpcurl(t, nil, s.addr, "describe", symbol).must(t)); !strings.Contains(got, want) {
				t.Errorf("%s is described as %q, want %q in it", symbol, got, want)
			}
		}
	})
	for _, p := range []*testImage{sample, people} {
		t.Run(p.name, func(t *testing.T) {
			p.check(t, grpcurl(t, p.request(t), "-d", "@", s.addr, procedure[1:]+"Predict").must(t))
		})
	}
	t.Run("ListModels", func(t *testing.T) {
		checkModels(t, grpcurl(t, nil, s.addr, procedure[1:]+"ListModels").must(t))
	})
	t.Run("error", func(t *testing.T) {
		failed := grpcurl(t, broken, "-d", "@", s.addr, procedure[1:]+"Predict")
		if failed.code == 0 {
			t.Error("grpcurl takes an error for success")
		}
		for _, want := range []string{
			"Code: InvalidArgument\n",
			`"@type": "type.googleapis.com/google.rpc.ErrorInfo"`,
			`"reason": "CORRUPT_IMAGE"`,
			`"domain": "mien"`,
		} {
			if !strings.Contains(string(failed.stderr), want) {
				t.Errorf("no %s in the error: %v", want, failed)
			}
		}
	})
	t.Run("reflection v1alpha", func(t *testing.T) {
		const method = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
		r := grpcurl(t, []byte(`{"list_services": ""}`), "-d", "@", s.addr, method)
		if got := string(r.must(t)); !strings.Contains(got, `"name": "inference.v1.Inference"`) {
			t.Errorf("the services are %s", got)
		}
		if len(requests(s.stop(), "/"+method)) != 1 {
			t.Errorf("nobody called %s", method)
		}
	})
}

// probe runs grpc-health-probe and returns its result.
func probe(t testing.TB, s *server, args ...string) result {
	t.Helper()
	return run(t, nil, "grpc-health-probe", append([]string{
		"-addr", s.addr, "-connect-timeout", "30s", "-rpc-timeout", "30s",
	}, args...)...)
}

func TestHealthProbe(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, args := range [][]string{nil, {"-service", "inference.v1.Inference"}, {"-service", "inference.GRPCInferenceService"}} {
		if r := probe(t, s, args...); r.code != 0 || !strings.Contains(r.String(), "status: SERVING") {
			t.Errorf("grpc-health-probe %v: %v", args, r)
		}
	}
	if r := probe(t, s, "-service", "inference.v1.Nothing"); r.code == 0 || !strings.Contains(r.String(), "NotFound") {
		t.Errorf("grpc-health-probe of an unknown service: %v", r)
	}
}
