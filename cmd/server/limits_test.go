package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mienproject/mien/service"
)

// machineOf returns the root of the files of a container with that much memory and that
// quota.
func machineOf(t *testing.T, memory int64, quota string) (root string) {
	t.Helper()
	root = recorded(t, "v2-docker")
	for file, content := range map[string]string{"memory.max": fmt.Sprint(memory), "cpu.max": quota + " 100000"} {
		if err := os.WriteFile(filepath.Join(root, "sys/fs/cgroup", file), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// More than any container in these tests has.
	if err := os.WriteFile(filepath.Join(root, "proc/meminfo"), []byte("MemTotal: 67108864 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestLimitsFollow checks that the defaults fit into the resources of the process, and
// that flags are not changed.
func TestLimitsFollow(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	const mib = 1 << 20
	for _, c := range []struct {
		memory int64 // MiB
		quota  string
		args   []string
		want   limits // the fields that are not 0
		warn   bool
	}{
		{memory: 208, quota: "50000", want: limits{workers: 1, requests: 104, batch: 16 * mib, inflight: 25 * mib, pixels: 25 * mib}},
		{memory: 256, quota: "100000", want: limits{workers: 1, requests: 128, batch: 16 * mib, inflight: 64 * mib, pixels: 64_000_000, heap: 229 * mib}},
		{memory: 512, quota: "150000", want: limits{workers: 1, requests: 256, batch: 16 * mib, inflight: 226 * mib, heap: 459 * mib}},
		{memory: 1024, quota: "max", want: limits{workers: procs, requests: 512, batch: 23 * mib, inflight: 472 * mib, heap: 921 * mib}},
		// More resources than the defaults need.
		{memory: 8192, quota: "max", want: limits{requests: 1024, batch: 64 * mib, body: 512 * mib, inflight: 1024 * mib, pixels: 64_000_000, heap: 3776 * mib}},
		// Other limits make room for those set by flags.
		{memory: 512, quota: "max", args: []string{"--max-inflight-bytes=100MiB"}, want: limits{inflight: 100 * mib, batch: 16 * mib}},
		{memory: 512, quota: "max", args: []string{"--max-body-bytes=60MiB"}, want: limits{body: 60 * mib, batch: 21 * mib, inflight: 88 * mib}},
		{memory: 512, quota: "max", args: []string{"--max-batch-bytes=40MiB"}, want: limits{batch: 40 * mib, inflight: 105 * mib}},
		{memory: 512, quota: "max", args: []string{"--max-image-bytes=40MiB"}, want: limits{batch: 40 * mib, inflight: 105 * mib}},
		{memory: 512, quota: "max", args: []string{"--max-pixels=100000000", "--max-requests=10", "--workers=7"}, want: limits{pixels: 100_000_000, requests: 10, workers: 7}},
		// Flags are used even if they add up to too much.
		{
			memory: 512, quota: "max", args: []string{"--max-inflight-bytes=1GiB", "--max-body-bytes=512MiB"},
			want: limits{inflight: 1024 * mib, body: 512 * mib, batch: 64 * mib, heap: 460 * mib}, warn: true,
		},
		{memory: 64, quota: "max", args: []string{"--max-inflight-bytes=16MiB"}, want: limits{inflight: 16 * mib}, warn: true},
	} {
		t.Run(fmt.Sprintf("%d MiB %s %v", c.memory, c.quota, c.args), func(t *testing.T) {
			cfg, _, err := parse(machineOf(t, c.memory<<20, c.quota), c.args, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			var logged bytes.Buffer
			log := slog.New(slog.NewTextHandler(&logged, nil))
			got, err := cfg.service(t.Context(), log, nil)
			if err != nil {
				t.Fatal(err)
			}
			l := cfg.limits
			for name, v := range map[string][2]int64{
				"workers": {int64(c.want.workers), int64(l.workers)}, "requests": {int64(c.want.requests), int64(l.requests)},
				"batch": {int64(c.want.batch), int64(l.batch)}, "body": {int64(c.want.body), int64(l.body)},
				"inflight": {int64(c.want.inflight), int64(l.inflight)}, "pixels": {c.want.pixels, l.pixels}, "heap": {c.want.heap >> 20, l.heap >> 20},
			} {
				if v[0] != 0 && v[0] != v[1] {
					t.Errorf("%s: %d, want %d", name, v[1], v[0])
				}
			}
			if got.MaxInflightBytes != int64(l.inflight) || got.MaxBodyBytes != int64(l.body) || got.MaxBatchBytes != int64(l.batch) ||
				got.MaxPixels != l.pixels || got.MaxRequests != l.requests || got.Workers != l.workers || got.Queue != 4*l.workers {
				t.Errorf("%+v is not %+v", got, l)
			}
			if _, err := service.New(got); err != nil {
				t.Error(err)
			}
			cfg.logLimits(log)
			for _, text := range []string{"msg=limits", fmt.Sprintf("memory=%dMiB", c.memory), `memory_from="cgroup memory.max"`, "max_inflight_bytes=" + l.inflight.String()} {
				if c.memory < 1024 && !strings.Contains(logged.String(), text) {
					t.Errorf("the log does not have %q: %s", text, logged.String())
				}
			}
			if warned := strings.Contains(logged.String(), "it may be killed"); warned != c.warn {
				t.Errorf("warned: %v, want %v: %s", warned, c.warn, logged.String())
			}
		})
	}
}

// TestLimitsFit checks that for any memory, all limits together fit into it, or the
// server does not start.
func TestLimitsFit(t *testing.T) {
	cfg := &config{MaxImageBytes: 16 << 20}
	for memory := int64(1); memory < 1<<50; memory += 1 + memory/7 {
		l, left := cfg.derive(memory, 4)
		if left >= minInflight && (l.memory > memory || l.heap > l.memory || int64(l.inflight) < minInflight) {
			t.Errorf("%d bytes: %+v", memory, l)
		}
	}
	// The memory is unknown.
	if l, _ := cfg.derive(0, 4); int64(l.inflight) != service.DefaultConfig().MaxInflightBytes || l.heap != l.memory {
		t.Errorf("%+v", l)
	}
	// No sum overflows for any flags; invalid ones are rejected later.
	for _, n := range []int64{math.MinInt64, -1, 0, math.MaxInt64} {
		size, requests, workers := byteSize(n), int(n), int(n)
		cfg := &config{MaxImageBytes: size, MaxBatchBytes: &size, MaxBodyBytes: &size, MaxInflightBytes: &size, MaxRequests: &requests, Workers: &workers}
		if l, _ := cfg.derive(512<<20, 4); l.memory < 0 || l.heap < 0 || l.heap > 512<<20 {
			t.Errorf("flags of %d: %+v", n, l)
		}
	}
}

// TestTooLittleMemory checks that too little memory stops the start, with a remedy.
func TestTooLittleMemory(t *testing.T) {
	for _, c := range []struct {
		memory   int64 // MiB
		args     []string
		remedies []string
	}{
		{40, nil, []string{"40MiB of memory (cgroup memory.max)", "allow it to use 208MiB"}},
		{128, nil, []string{"allow it to use 208MiB, or lower --max-image-bytes from 16MiB to 6MiB"}},
		{512, []string{"--max-body-bytes=150MiB"}, []string{"allow it to use 984MiB", "lower --max-body-bytes from 150MiB"}},
		{512, []string{"--max-batch-bytes=100MiB"}, []string{"allow it to use 936MiB", "lower --max-batch-bytes from 100MiB"}},
		{256, []string{"--max-requests=1024"}, []string{"allow it", "lower --max-requests from 1024"}},
	} {
		root := machineOf(t, c.memory<<20, "max")
		cfg, _, err := parse(root, c.args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cfg.service(t.Context(), slog.New(slog.DiscardHandler), nil)
		if err == nil {
			t.Errorf("%d MiB %v: %+v", c.memory, c.args, cfg.limits)
			continue
		}
		for _, text := range c.remedies {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%d MiB %v: %q does not have %q", c.memory, c.args, err, text)
			}
		}
		// The remedy works.
		var helps int64
		_, after, _ := strings.Cut(err.Error(), "allow it to use ")
		if _, err := fmt.Sscanf(after, "%dMiB", &helps); err != nil {
			t.Fatal(err)
		}
		for more, want := range map[int64]bool{0: true, -8: false} {
			cfg, _, _ := parse(machineOf(t, (helps+more)<<20, "max"), c.args, io.Discard)
			if err := cfg.limit(); (err == nil) != want {
				t.Errorf("with %d MiB: %v", helps+more, err)
			}
		}
	}
	cfg, _, _ := parse(machineOf(t, 128<<20, "max"), []string{"--max-image-bytes=6MiB"}, io.Discard)
	if err := cfg.limit(); err != nil {
		t.Error(err)
	}
}

// TestOnlyInvalidFlagsAreReported checks that a flag with an invalid value does not
// cause errors about limits that were not set, or about memory that would not help.
func TestOnlyInvalidFlagsAreReported(t *testing.T) {
	for arg, flags := range map[string][]string{
		"--max-inflight-bytes=0":                   {"--max-inflight-bytes"},
		"--max-inflight-bytes=9223372036854775807": {"--max-inflight-bytes"},
		"--max-image-bytes=9223372036854775807":    {"--max-image-bytes"},
		"--max-batch-bytes=9223372036854775807":    {"--max-batch-bytes"},
		"--max-body-bytes=9223372036854775807":     {"lower --max-body-bytes", "--max-body-bytes"},
		"--max-requests=9223372036854775807":       {"allow it to use 356TiB, or lower --max-requests", "--max-requests"},
		"--max-requests=2147483647":                {"allow it to use 356TiB, or lower --max-requests"},
		"--workers=9223372036854775807":            {"--workers"},
		"--timeout=9999h":                          {"--timeout"},
	} {
		cfg, _, err := parse(machineOf(t, 64<<30, "max"), []string{arg}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cfg.service(t.Context(), slog.New(slog.DiscardHandler), nil)
		if err == nil {
			t.Errorf("%s: %+v", arg, cfg.limits)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(flags) {
			t.Errorf("%s: %q", arg, lines)
			continue
		}
		for i, want := range flags {
			if _, after, _ := strings.Cut(lines[i], "too little for images: "); !strings.HasPrefix(lines[i], want+":") && !strings.HasPrefix(after, want) {
				t.Errorf("%s: %q, want %q", arg, lines[i], want)
			}
		}
	}
}

// TestUnknownMemory checks that unknown memory is logged as such, and does not change
// the defaults.
func TestUnknownMemory(t *testing.T) {
	cfg := &config{MaxImageBytes: 16 << 20}
	if err := cfg.limit(); err != nil || int64(cfg.limits.inflight) != service.DefaultConfig().MaxInflightBytes {
		t.Errorf("%+v, %v", cfg.limits, err)
	}
	var log bytes.Buffer
	cfg.logLimits(slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "memory=unknown workers=") || strings.Contains(log.String(), "WARN") {
		t.Error(log.String())
	}
}

// TestHelpFollows checks that --help shows the defaults for this machine.
func TestHelpFollows(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	var help bytes.Buffer
	if _, done, err := parse(machineOf(t, 512<<20, "50000"), []string{"--help"}, &help); !done || err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(help.String()), " ")
	for _, want := range []string{"default 226MiB", "default 16MiB", "default 32MiB", "default 256)", "here 1)", "default 64000000"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}

// TestChosenProcs checks that GOMAXPROCS sets the number of workers, whatever the quota
// is.
func TestChosenProcs(t *testing.T) {
	root := machineOf(t, 512<<20, "50000")
	for value, want := range map[string]int{"": 1, "abc": 1, "3": procs} {
		t.Setenv("GOMAXPROCS", value)
		cfg, _, err := parse(root, nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.limit(); err != nil || cfg.limits.workers != want {
			t.Errorf("GOMAXPROCS=%q: %d workers, want %d, %v", value, cfg.limits.workers, want, err)
		}
	}
}

// TestLogOfHeapGrowth checks that the log says what the runtime uses, as its metrics have it.
func TestLogOfHeapGrowth(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ env, want string }{{"GOGC=", "40"}, {"GOGC=70", "70"}} {
		p := startCommand(t, "env", c.env, os.Args[0], "--model", "pigo", "--admin-listen", "127.0.0.1:0")
		_, metrics := get(t, p.admin+"/metrics")
		if p.limits["gogc"] != c.want || !bytes.Contains(metrics, []byte("\ngo_gc_gogc_percent "+c.want+"\n")) {
			t.Errorf("%s: the log says %v, the metrics %q", c.env, p.limits["gogc"], regexp.MustCompile(`(?m)^go_gc_gogc_percent.*`).Find(metrics))
		}
	}
}
