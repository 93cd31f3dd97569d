package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// promtool runs Prometheus's tool, which must report no problems.
func promtool(t testing.TB, stdin []byte, args ...string) {
	t.Helper()
	if r := run(t, stdin, "promtool", args...); r.code != 0 || len(r.stderr) > 0 {
		t.Errorf("promtool %s: %v", strings.Join(args, " "), r)
	}
}

// fetch returns the body of an answer whose status is 200.
func fetch(t testing.TB, url string) []byte {
	t.Helper()
	return curl(t, nil, url).body
}

// TestAlertRules checks that the rules are valid, and alert when they should.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	at := func(name string) string { return filepath.Join(root, "deploy", "prometheus", name) }
	promtool(t, nil, "check", "rules", at("alerts.yml"))
	promtool(t, nil, "check", "config", at("prometheus.yml"))
	promtool(t, nil, "test", "rules", at("alerts_test.yml"))
}

// TestPrometheus runs Prometheus on the server under load, with the rules in deploy/,
// and checks that each query of the dashboard in deploy/ returns data.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	s := start(t, "--admin-listen", "127.0.0.1:0")
	admin := s.admin()
	stop := load(t, s)
	promtool(t, fetch(t, "http://"+admin+"/metrics"), "check", "metrics")

	prometheus := startPrometheus(t, admin)
	queries := dashboard(t)
	if len(queries) < 30 {
		t.Errorf("the dashboard has only %d queries", len(queries))
	}
	// Rates need two scrapes, and rates of a counter that has just begun need two after
	// that.
	waiting := queries
	for began := time.Now(); len(waiting) > 0; time.Sleep(time.Second) {
		var empty []string
		for _, query := range waiting {
			if n := prometheus.query(t, query); n == 0 {
				empty = append(empty, query)
			}
		}
		if waiting = empty; len(waiting) > 0 && time.Since(began) > patience {
			t.Fatalf("these queries of the dashboard return nothing:\n%s", strings.Join(waiting, "\n"))
		}
	}
	if n := prometheus.query(t, `mien_refusals_total{reason="CORRUPT_IMAGE"} > 0`); n != 1 {
		t.Errorf("the broken images were not counted: %d series", n)
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	// Rules are evaluated once a second.
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if err := json.Unmarshal(fetch(t, prometheus.url+"/api/v1/rules"), &rules); err != nil {
			t.Fatal(err)
		}
		wrong := []string{"there are no rules"}
		for _, group := range rules.Data.Groups {
			wrong = nil
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					wrong = append(wrong, fmt.Sprintf("%s is %s: %s", rule.Name, rule.Health, rule.LastError))
				}
			}
		}
		if len(wrong) == 0 {
			break
		}
		if time.Since(began) > patience {
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
	stop()
}

// load sends requests in two protocols, with invalid images among them, until stop is
// called.
func load(t testing.TB, s *server) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var callers sync.WaitGroup
	photo, request := small.load(t), small.request(t)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	for i, c := range []struct {
		path, mediaType string
		body            []byte
		status          int
	}{
		{"/predict", "image/jpeg", photo, 200},
		{procedure + "Predict", "application/json", request, 200},
		{"/predict", "image/jpeg", photo[:len(photo)/2], 400},
	} {
		callers.Go(func() {
			for pause := time.Duration(10+10*i) * time.Millisecond; ; time.Sleep(pause) {
				select {
				case <-done:
					return
				default:
				}
				res, err := client.Post(s.url+c.path, c.mediaType, bytes.NewReader(c.body))
				if err != nil {
					t.Errorf("%s: %v", c.path, err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body) // only the status counts
				_ = res.Body.Close()
				if res.StatusCode != c.status {
					t.Errorf("%s: %s, want %d", c.path, res.Status, c.status)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(done)
		callers.Wait()
		client.CloseIdleConnections()
	})
	t.Cleanup(stop)
	return stop
}

// dashboard returns the queries of the dashboard as Grafana would send them.
func dashboard(t testing.TB) []string {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, filepath.Join(root, "deploy", "grafana", "mien.json")), &board); err != nil {
		t.Fatal(err)
	}
	var queries []string
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			query := strings.NewReplacer("$job", "mien", "$instance", ".*", "$__rate_interval", "10s").Replace(target.Expr)
			if query == "" || strings.Contains(query, "$") {
				t.Errorf("the panel %q asks for %q", panel.Title, query)
			}
			queries = append(queries, query)
		}
	}
	return queries
}

// A prom is a running Prometheus.
type prom struct{ url string }

// startPrometheus starts a Prometheus that scrapes target every second, with the rules
// in deploy/.
func startPrometheus(t testing.TB, target string) prom {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // Prometheus uses this port, because for port 0 it would not say which one it got
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: mien, static_configs: [{targets: [%q]}]}]
`, filepath.Join(root, "deploy", "prometheus", "alerts.yml"), target)
	cmd := exec.CommandContext(t.Context(), tool(t, "prometheus"),
		"--config.file", temp(t, "prometheus.yml", []byte(config)), "--storage.tsdb.path", t.TempDir(),
		"--web.listen-address", addr, "--log.level", "warn")
	cmd.Env = environ()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-exited
		if t.Failed() {
			t.Logf("prometheus: %s", output.String())
		}
	})
	p := prom{"http://" + addr}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get(p.url + "/-/ready")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return p
			}
		}
		select {
		case <-exited:
			t.Fatal("prometheus ended before it was ready")
		default:
		}
		if time.Since(began) > patience {
			t.Fatal("prometheus is not ready")
		}
	}
}

// query returns the number of series that the query returns now.
func (p prom) query(t testing.TB, query string) int {
	t.Helper()
	res, err := http.PostForm(p.url+"/api/v1/query", url.Values{"query": {query}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %v, %s", query, err, answer.Error)
	}
	return len(answer.Data.Result)
}
