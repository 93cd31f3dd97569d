package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawHTTP2 is the client side of a cleartext HTTP/2 connection, frame by frame.
type rawHTTP2 struct {
	*http2.Framer
	conn   net.Conn
	header bytes.Buffer
	hpack  *hpack.Encoder
}

func dialHTTP2(t *testing.T, url string) *rawHTTP2 {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &rawHTTP2{Framer: http2.NewFramer(conn, conn), conn: conn}
	c.hpack = hpack.NewEncoder(&c.header)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// request sends the header of a request; fields are name, value, name, value, and so
// on.
func (c *rawHTTP2) request(stream uint32, end bool, fields ...string) error {
	c.header.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := c.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			return err
		}
	}
	const frame = 16 << 10
	block := c.header.Bytes()
	first := block[:min(frame, len(block))]
	block = block[len(first):]
	err := c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0,
	})
	for err == nil && len(block) > 0 {
		next := block[:min(frame, len(block))]
		block = block[len(next):]
		err = c.WriteContinuation(stream, len(block) == 0, next)
	}
	return err
}

// TestSettingsChangeUnderRequests checks that a connection which changes the size of
// the header table between requests gets its answers, and that the server survives
// (GO-2026-6617: with the HTTP/2 of Go 1.26.8 the process ended within a second).
func TestSettingsChangeUnderRequests(t *testing.T) {
	p := startProcess(t, "--admin-listen", "")
	const requests, window = 20_000, 100
	c := dialHTTP2(t, p.url)
	_ = c.conn.SetDeadline(time.Now().Add(2 * time.Minute))

	free := make(chan struct{}, window)
	for range window {
		free <- struct{}{}
	}
	sent := make(chan error, 1)
	go func() {
		for i := range uint32(requests) {
			if _, open := <-free; !open {
				return
			}
			err := c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: i % 3 * 2048})
			if err == nil {
				err = c.request(2*i+1, true, ":method", "GET", ":scheme", "http", ":path", "/livez", ":authority", "mien",
					"x-request-id", strconv.Itoa(int(i)))
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	defer close(free)
	for answers := 0; answers < requests; {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("after %d answers: %v", answers, err)
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			t.Fatalf("after %d answers: GOAWAY %v %s", answers, f.ErrCode, f.DebugData())
		case *http2.RSTStreamFrame:
			t.Fatalf("after %d answers: RST_STREAM %v", answers, f.ErrCode)
		case *http2.DataFrame:
			if f.StreamEnded() {
				answers++
				free <- struct{}{}
			}
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
		t.Fatalf("the server ended: %v", p.log)
	default:
	}
}

// TestManyTrailers checks that requests which announce 27 MB of trailers together, on
// two connections, cost the server less than 100 MB (GO-2026-6603: 1.2 GB with Go
// 1.26.8).
func TestManyTrailers(t *testing.T) {
	p := startProcess(t, "--admin-listen", "")
	status := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	if _, err := os.Stat(status); err != nil {
		t.Skip("the memory of a process can be read from /proc only:", err)
	}
	var names strings.Builder
	for i := 0; names.Len() < 60<<10; i++ {
		fmt.Fprintf(&names, "%s,", strconv.FormatInt(int64(i), 36))
	}
	const streams, connections = 220, 2
	before := peakMemory(t, status)
	var all []*rawHTTP2
	for range connections {
		c := dialHTTP2(t, p.url)
		all = append(all, c)
		for i := range uint32(streams) {
			// A body that never arrives keeps the request open.
			if err := c.request(2*i+1, false, ":method", "POST", ":scheme", "http", ":path", "/predict", ":authority", "mien",
				"trailer", names.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A ping is answered when everything sent before it has been read.
	for _, c := range all {
		if err := c.WritePing(false, [8]byte{1}); err != nil {
			t.Fatal(err)
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Minute))
		for pong := false; !pong; {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			ping, ok := f.(*http2.PingFrame)
			pong = ok && ping.IsAck()
		}
	}
	announced := streams * connections * names.Len()
	grown := peakMemory(t, status) - before
	t.Logf("%d MB of trailers cost %d MB", announced>>20, grown>>20)
	if grown > 100<<20 {
		t.Errorf("%d MB of trailers cost %d MB; 100 MB are too much", announced>>20, grown>>20)
	}
	res, err := http.Get(p.url + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %d afterward", res.StatusCode)
	}
}

// peakMemory returns the largest resident size that a process had, in bytes.
func peakMemory(t *testing.T, status string) int64 {
	t.Helper()
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(readFile(t, status))
	if m == nil {
		t.Fatal("no VmHWM in " + status)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
