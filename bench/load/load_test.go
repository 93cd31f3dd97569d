package main

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mienproject/mien/bench/calls"
	"github.com/mienproject/mien/face/facetest"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args []string
		told string
	}{
		{[]string{"--url", "http://192.0.2.1:8080"}, "--elsewhere"},
		{[]string{"--url", "http://example.com"}, "--elsewhere"},
		{[]string{"--url", "localhost:8080"}, "http://127.0.0.1:8080"},
		{[]string{"--rates", "0"}, "--rates"},
		{[]string{"--protocol", "smtp"}, "grpcweb"},
		{[]string{"--admin", "http://127.0.0.1:9464"}, "--url"},
		{[]string{"--url", "http://[::1]:80", "--server-arg", "--queue=0"}, "--server-arg"},
		{[]string{"--faces", t.TempDir()}, "../shared/faces"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), c.args, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), c.told) {
				t.Errorf("exit code %d: %s", code, stderr.String())
			}
		})
	}
}

// TestLoad runs the whole program with every protocol for a moment, at a rate that no
// machine can answer.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and takes a while")
	}
	facetest.Path(t) // skips the test if there are no photographs
	for _, protocol := range calls.Protocols {
		t.Run(protocol, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{
				"--protocol", protocol, "--photos", "8", "--capacity", "100", "--rates", "0.02,8", "--duration", "1s",
				"--server-arg=--workers=1", "--server-arg=--queue=1", "--max-open", "100",
			}, &stdout, &stderr)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}
			row := regexp.MustCompile(`(?m)^\| 8 × \| ([0-9.]+) \| ([0-9.]+) \| [0-9]+ % \| [^|]+ \| ([0-9.]+) OVERLOADED`).FindStringSubmatch(stdout.String())
			if row == nil {
				t.Fatalf("nothing was refused:\n%s", stdout.String())
			}
			offered, _ := strconv.ParseFloat(row[1], 64)
			good, _ := strconv.ParseFloat(row[2], 64)
			refused, _ := strconv.ParseFloat(row[3], 64)
			if !(good > 0 && refused > 0 && offered+.2 >= good+refused) {
				t.Errorf("%v offered, %v good, %v refused:\n%s", offered, good, refused, stdout.String())
			}
			if memory := regexp.MustCompile(`(?m)^\| 8 × \| [0-9.]+(, [0-9.]+){3} \| [0-9]+(, [0-9]+){4} \| [0-9]+ \|$`); !memory.MatchString(stdout.String()) {
				t.Errorf("the memory is missing:\n%s", stdout.String())
			}
		})
	}
}
