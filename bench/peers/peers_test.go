package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mienproject/mien/face/facetest"
)

// TestPeers measures a peer in Python, one in Go and Mien for a moment, and reports it.
func TestPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("builds servers and takes a while")
	}
	facetest.Path(t) // skips the test if there are no photographs
	kept := filepath.Join(t.TempDir(), "results.json")
	args := []string{"--only", "opencv,pigo-server,mien,mien-yunet", "--rounds", "2", "--photos", "3", "--callers", "1,2", "--time", "200ms", "--open-time", "1s", "--limit", "3", "--results", kept}
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), args, &stdout, &stderr); code != 0 {
		if strings.Contains(stderr.String(), "setup.sh") && os.Getenv("CI") == "" {
			t.Skip(stderr.String())
		}
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	r, err := readResults(kept)
	if err != nil {
		t.Fatal(err)
	}
	doors := map[string]int{"opencv": 1, "pigo-server": 1, bare: 2, mienOf + "yunet": 2}
	runs, starts := map[string]int{}, map[string]int{}
	for _, s := range r.Starts {
		starts[s.Peer]++
		if s.First <= 0 || s.Rest < 5e6 || s.Faces < 3 {
			t.Errorf("%+v", s)
		}
	}
	for _, one := range r.Runs {
		runs[one.Peer]++
		if one.Good == 0 || one.CPU <= 0 || one.PSS < 5e6 || one.P99 < one.P50 || one.P50 <= 0 {
			t.Errorf("%+v", one)
		}
		if one.Kind == closedLoop && one.Good != one.Offered {
			t.Errorf("not every call was answered: %+v", one)
		}
	}
	for name, n := range doors {
		// One and two callers by each door, and two multiples.
		if want := 2 * (2*n + 2); runs[name] != want || starts[name] != 2 {
			t.Errorf("%s: %d runs after %d starts, want %d and 2", name, runs[name], starts[name], want)
		}
		a := r.Accuracy[name]
		if a.mean() < .1 || a.mean() > 1 {
			t.Errorf("%s: %+v", name, a)
		}
		if r.Installed[name] < 1e6 {
			t.Errorf("%s: %d bytes are installed", name, r.Installed[name])
		}
	}
	// Both are the same network, but Mien looks at more.
	if mine, other := r.Accuracy[mienOf+"yunet"], r.Accuracy["opencv"]; mine.mean() < other.mean()-.05 {
		t.Errorf("mean average precision %.3f, and by OpenCV %.3f", mine.mean(), other.mean())
	}

	for _, bad := range []string{"NaN", "Inf", "<no value>", "%!"} {
		if strings.Contains(stdout.String(), bad) {
			t.Errorf("the report has %s:\n%s", bad, stdout.String())
		}
	}
	svg, err := draw(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if _, ok := doors[p.name]; ok && !strings.Contains(string(svg), ">"+p.label+"<") {
			t.Errorf("the plot does not name %s", p.name)
		}
	}
	// What was measured can be reported again.
	var again bytes.Buffer
	if code := execute(t.Context(), []string{"--report", "--results", kept}, &again, &stderr); code != 0 || again.String() != stdout.String() {
		t.Errorf("exit code %d, another report: %s", code, stderr.String())
	}
}

// TestProgram checks what is measured of a program: of all its processes, and none but them.
func TestProgram(t *testing.T) {
	const script = `python3 -c '
import os, time
block = b"x" * 50_000_000
if os.fork() == 0:
    end = time.process_time() + .3
    while time.process_time() < end: pass
time.sleep(60)' & wait`
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	p, err := launch("script", t.TempDir(), log, "", nil, []string{"sh", "-c", script})
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	var u usage
	for range 500 {
		time.Sleep(20 * time.Millisecond)
		if u = p.usage(); u.cpu > .3 {
			break
		}
	}
	if n := len(p.processes()); n != 3 {
		t.Errorf("%d processes, want the shell and two of Python", n)
	}
	// The block is shared by both, and counts once.
	if u.cpu < .3 || u.cpu > 3 || u.pss < 50e6 || u.pss > 90e6 {
		t.Errorf("%.2f s, and %.0f MB", u.cpu, u.pss/1e6)
	}
	p.stop()
	if left := p.processes(); len(left) > 0 || p.ended() == nil {
		t.Errorf("processes are left: %v", left)
	}
}

func TestRefusalsOf(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	before := `{"msg":"request","reason":"OVERLOADED","ms":900}` + "\n"
	if err := os.WriteFile(log, []byte(before+`{"msg":"request","ms":120}
{"msg":"request","reason":"OVERLOADED","ms":2.5}
no JSON
{"msg":"request","reason":"CORRUPT_IMAGE","ms":70}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if p99, err := refusalsOf(log, int64(len(before))); err != nil || p99 != 2.5 {
		t.Errorf("%v, %v", p99, err)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		s    series
		want string
	}{
		{nil, "–"},
		{series{3, 1, 2}, "2.00 (1.00–3.00)"},
		{series{1, 2}.over(series{4, 4}), ".375 (.250–.500)"},
		{series{1234.5}, "1234 (1234–1234)"},
		{series{0.0123}, ".0123 (.0123–.0123)"},
	} {
		if got := c.s.spread(); got != c.want {
			t.Errorf("%v: %s, want %s", c.s, got, c.want)
		}
	}
}

// TestFlags checks that invalid flags are reported with their remedies.
func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--rounds 0", "--rounds"},
		{"--only nobody", "must be one of"},
		{"--skip-speed --skip-accuracy", "--report"},
		{"--callers 0", "--callers"},
		{"--faces absent --only mien", "--faces"},
		{"--models absent --only mien-yunet", "--models"},
		{"--report --results absent.json", "measure before"},
	} {
		var stderr strings.Builder
		if code := execute(t.Context(), strings.Fields(c.args), t.Output(), &stderr); code == 0 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: exit code %d, %q; want %q in it", c.args, code, stderr.String(), c.want)
		}
	}
}
