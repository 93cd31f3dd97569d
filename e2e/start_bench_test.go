package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart measures the time from starting the static binary, with the models that
// it serves by default, to its first answer. It also reports the memory of the process
// before and after that, and the size of the binary.
func BenchmarkStart(b *testing.B) {
	static := buildStatic(b, nil)
	info, err := os.Stat(static)
	if err != nil {
		b.Fatal(err)
	}
	photo := sample.load(b)
	idle, resident, n := 0.0, 0.0, 0
	for b.Loop() {
		s := startProgram(b, static, nil)
		b.StopTimer()
		idle += residentMegabytes(b, s.cmd.Process.Pid)
		b.StartTimer()
		res, err := http.Post(s.url+"/predict", "image/jpeg", bytes.NewReader(photo))
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"box"`)) {
			b.Fatalf("%s: %s, %v", res.Status, excerpt(body), err)
		}
		b.StopTimer()
		time.Sleep(100 * time.Millisecond) // let it settle
		resident += residentMegabytes(b, s.cmd.Process.Pid)
		n++
		http.DefaultClient.CloseIdleConnections()
		s.stop()
		b.StartTimer()
	}
	b.ReportMetric(idle/float64(n), "MB-idle")
	b.ReportMetric(resident/float64(n), "MB-resident")
	b.ReportMetric(float64(info.Size())/1e6, "MB-binary")
}

// residentMegabytes returns the physical memory of the process.
func residentMegabytes(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip("needs Linux: ", err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib * 1024 / 1e6
		}
	}
	b.Fatal("the process has no VmRSS")
	return 0
}
