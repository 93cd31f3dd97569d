package main

import (
	"encoding/xml"
	"io"
	"log"
	"net"
	"net/http"
	neturl "net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

// TestH2spec checks that the server fails no test of h2spec that Go's HTTP/2 passes with a
// handler that does nothing but answer. h2spec tests HTTP/2 and HPACK frame by frame.
func TestH2spec(t *testing.T) {
	program := suite(t, "h2spec")
	s := start(t, "--model", "pigo")
	res, page := ask(t, http.DefaultClient, http.MethodGet, s.url+"/")
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	bare := &http.Server{
		Protocols: new(http.Protocols),
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) }),
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	bare.Protocols.SetHTTP1(true)
	bare.Protocols.SetUnencryptedHTTP2(true)
	if err := http2.ConfigureServer(bare, nil); err != nil { //nolint:staticcheck // as the server does
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- bare.Serve(l) }()
	defer func() { bare.Close(); <-served }()

	u, err := neturl.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	total, theirs := h2spec(t, program, l.Addr().String())
	t.Logf("Go's own HTTP/2 fails %d of %d: %q", len(theirs), total, theirs)
	// Some tests wait for a second, which is not always enough on a busy machine.
	for attempt := 1; ; attempt++ {
		got, ours := h2spec(t, program, u.Host)
		t.Logf("the server fails %d of %d: %q", len(ours), got, ours)
		if got != total || total < 140 {
			t.Fatalf("h2spec ran %d tests with the server and %d without; 140 or more are needed", got, total)
		}
		ours = slices.DeleteFunc(ours, func(name string) bool { return slices.Contains(theirs, name) })
		if len(ours) == 0 {
			return
		}
		if attempt == 3 {
			t.Fatalf("only the server fails %q", ours)
		}
		_, again := h2spec(t, program, l.Addr().String())
		theirs = append(theirs, again...)
	}
}

// h2spec returns the number of all tests, and those that the server at addr fails.
func h2spec(t *testing.T, program, addr string) (total int, failed []string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	// It exits with 1 if a test fails.
	out, err := exec.CommandContext(t.Context(), program, "--host", host, "--port", port, "--junit-report", report).CombinedOutput()
	var suites struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if wrong := xml.Unmarshal(readFile(t, report), &suites); wrong != nil {
		t.Fatalf("%v, %v\n%s", err, wrong, out)
	}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			total++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, s.Package+": "+c.Name)
			}
		}
	}
	return total, failed
}
