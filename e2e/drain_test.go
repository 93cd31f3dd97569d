package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// noise returns a square image of random gray pixels, without a face and always the
// same. With thousands of pixels on each side, it takes seconds to process.
func noise(side int) []byte {
	pixels := make([]byte, side*side)
	_, _ = rand.NewChaCha8([32]byte{}).Read(pixels) // never fails
	return pixels
}

// slow is a request that keeps a worker busy for seconds with the library's own scan.
func slow(t testing.TB) []byte {
	t.Helper()
	const side = 3000
	return marshal(t, map[string]any{
		"rawData": noise(side), "width": side, "height": side, "pixelFormat": "PIXEL_FORMAT_GRAY8",
		"imageId": "noise", "options": map[string]any{"minFaceSize": 20},
	})
}

// TestTerminateWithCallInFlight checks that a server which gets SIGTERM answers the
// requests that it has admitted, over both versions of HTTP.
func TestTerminateWithCallInFlight(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--http1.1", "--http2-prior-knowledge"} {
		t.Run(flag[2:], func(t *testing.T) {
			// One request fills this server, so the answer to the next one shows
			// whether the slow one has arrived.
			s := start(t, "--workers", "1", "--queue", "0", "--model", "pigo-reference")
			body := filepath.Join(t.TempDir(), "answer")
			call := exec.CommandContext(t.Context(), tool(t, "curl"), flag, "--silent", "--show-error", "--max-time", "60",
				"--output", body, "--write-out", "%{http_code}",
				"--header", "Content-Type: application/json", "--header", "Connect-Timeout-Ms: 30000",
				"--data-binary", "@"+temp(t, "request", slow(t)), s.url+procedure+"Predict")
			call.Env = environ()
			var out strings.Builder
			call.Stdout, call.Stderr = &out, &out
			if err := call.Start(); err != nil {
				t.Fatal(err)
			}
			// An invalid image never needs a worker, so it is refused only if the
			// server is full.
			for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				r := curl(t, broken, append(asJSON, s.url+procedure+"Predict")...)
				if r.status == 503 {
					checkError(t, r.body, "unavailable", "OVERLOADED")
					break
				}
				checkError(t, r.body, "invalid_argument", "CORRUPT_IMAGE")
				if time.Since(began) > patience {
					t.Fatal("the slow call does not arrive")
				}
			}
			s.terminate()
			err := call.Wait()
			answered, _ := os.ReadFile(body) // missing if there was no answer
			if err != nil || out.String() != "200" {
				t.Fatalf("the slow call failed: %v, %s\n%s", err, out.String(), excerpt(answered))
			}
			if got := string(answered); !strings.Contains(got, `"imageId":"noise"`) || !strings.Contains(got, `"results":[`) {
				t.Errorf("the answer is %s", got)
			}
			log := s.wait()

			// The request was in flight for a long time.
			var served map[string]any
			for _, r := range requests(log, procedure) {
				if r["status"] == 200.0 {
					served = r
				}
			}
			if served == nil {
				t.Fatal("the log does not have the slow call")
			}
			if ms, ok := served["detect_ms"].(float64); !ok || ms < 300 {
				t.Errorf("the slow call took %v ms, too little for this test", served["detect_ms"])
			}
			stopping := message(log, "stopping")
			if stopping == nil || stopping["because"] != "SIGTERM" || at(t, stopping).After(at(t, served)) {
				t.Errorf("the call did not end after SIGTERM: %v, %v", stopping, served)
			}
		})
	}
}

// at is when a line was logged.
func at(t testing.TB, line map[string]any) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, fmt.Sprint(line["time"]))
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// TestDrainDelay checks that after SIGTERM a server first fails its probes, and
// continues to answer until their clients have noticed.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	const delay = 4 * time.Second
	s := start(t, "--drain-delay", delay.String())
	curl(t, nil, s.url+"/readyz").want(t, 200, "text/plain; charset=utf-8")
	s.terminate()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if r := curl(t, nil, s.url+"/readyz"); r.status == 503 {
			if string(r.body) != "stopping\n" {
				t.Errorf("/readyz says %q", r.body)
			}
			break
		}
		if time.Since(began) > delay {
			t.Fatal("/readyz never turned")
		}
	}
	if r := probe(t, s); r.code == 0 || !strings.Contains(r.String(), "NOT_SERVING") {
		t.Errorf("grpc-health-probe: %v", r)
	}
	curl(t, nil, s.url+"/livez").want(t, 200, "text/plain; charset=utf-8")
	small.check(t, curl(t, small.request(t), append(asJSON, s.url+procedure+"Predict")...).want(t, 200, "application/json").body)

	log := s.wait()
	stopping, stopped := message(log, "stopping"), message(log, "stopped")
	if stopping == nil || stopped == nil {
		t.Fatalf("the log does not tell of stopping (%v) and having stopped (%v)", stopping, stopped)
	}
	if took := at(t, stopped).Sub(at(t, stopping)); took < delay || took > delay+10*time.Second {
		t.Errorf("stopping took %v, want %v and little more", took, delay)
	}
	if r := run(t, nil, "curl", "--silent", "--show-error", s.url+"/livez"); r.code == 0 {
		t.Errorf("somebody still answers: %v", r)
	}
}

func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, test := range []struct {
		name string
		env  []string
		args []string
		code int
		want []string
	}{
		{"unknown flag", nil, []string{"--nope"}, 2, []string{"--nope", "--help"}},
		{"unknown model", nil, []string{"--model", "nope"}, 2, []string{"--model", `"nope"`, "pigo"}},
		{"two mistakes", nil, []string{"--log-format", "xml", "--tls-cert", "a"}, 2, []string{`"xml"`, "--tls-key"}},
		{"misspelled variable", []string{"MIEN_WORKER=1"}, nil, 2, []string{"MIEN_WORKER"}},
		{"port in use", nil, []string{"--listen", s.addr}, 1, []string{s.addr, "in use"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := runEnv(t, test.env, nil, binary, test.args...)
			if r.code != test.code || len(r.stdout) != 0 {
				t.Errorf("want exit code %d, and nothing on stdout: %v", test.code, r)
			}
			for _, want := range test.want {
				if !strings.Contains(string(r.stderr), want) {
					t.Errorf("the message has no %q: %s", want, r.stderr)
				}
			}
		})
	}
}
