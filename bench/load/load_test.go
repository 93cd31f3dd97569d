package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mienproject/mien/face/facetest"
)

func TestArrivals(t *testing.T) {
	p := plan{photos: make([][]byte, 7), rate: 500, time: 20 * time.Second, seed: 3}
	at, photo := p.arrivals()
	again, _ := p.arrivals()
	if !slices.Equal(at, again) {
		t.Error("the same seed makes different calls")
	}
	if !slices.IsSorted(at) || at[len(at)-1] >= p.time || len(at) != len(photo) || slices.Max(photo) != 6 || slices.Min(photo) != 0 {
		t.Errorf("%d calls, %d photographs, the last at %v", len(at), len(photo), at[len(at)-1])
	}
	// 10,000 are expected, with a standard deviation of 100. At random, one in e
	// distances is longer than the mean.
	if n := float64(len(at)); math.Abs(n-10_000) > 500 {
		t.Errorf("%v calls", n)
	}
	long := 0
	for i := range at[1:] {
		if at[i+1]-at[i] > 2*time.Millisecond {
			long++
		}
	}
	if part := float64(long) / float64(len(at)); math.Abs(part-1/math.E) > .03 {
		t.Errorf("%.2f of the distances are longer than the mean", part)
	}
	p.seed++
	if other, _ := p.arrivals(); slices.Equal(at, other) {
		t.Error("another seed makes the same calls")
	}
	p.constant = true
	at, _ = p.arrivals()
	if math.Abs(float64(len(at))-10_000) > 1 || (at[9]-at[8]).Round(time.Microsecond) != 2*time.Millisecond {
		t.Errorf("%d calls, %v apart", len(at), at[9]-at[8])
	}
}

// stalling does not answer until the test lets it.
type stalling struct{ answer chan error }

func (s stalling) call(context.Context, int) error { return <-s.answer }
func (stalling) close()                            {}

// TestOpenLoop checks that calls do not wait for answers, up to the limit of open
// calls, and that each is counted once.
func TestOpenLoop(t *testing.T) { synctest.Test(t, testOpenLoop) }

func testOpenLoop(t *testing.T) {
	s := stalling{make(chan error)}
	p := plan{photos: make([][]byte, 1), rate: 1000, time: 100 * time.Millisecond, constant: true, maxOpen: 40}
	go func() {
		// No call is answered before the last one was due.
		time.Sleep(300 * time.Millisecond)
		for i := range 40 {
			switch {
			case i < 10:
				s.answer <- nil
			case i < 30:
				s.answer <- fmt.Errorf("call: %w", &refusal{"unavailable", "OVERLOADED"})
			default:
				s.answer <- errors.New("broken pipe")
			}
		}
	}()
	got, err := p.run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if got.offered < 99 || len(got.good) != 10 || len(got.refused["OVERLOADED"]) != 20 || got.failed["broken pipe"] != 10 || got.unsent != got.offered-40 {
		t.Errorf("%+v", got)
	}
	if slices.Min(got.good) < 100*time.Millisecond {
		t.Errorf("answered after %v, when nothing was", slices.Min(got.good))
	}
}

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, .5: 50, .99: 99, 1: 100} {
		if got := quantile(d, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
	if got := quantile(d[:1], .99); got != 1 {
		t.Errorf("of one: %d", got)
	}
}

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
	for _, protocol := range protocols {
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
