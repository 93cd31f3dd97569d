package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"

	"github.com/mienproject/mien/service"
)

// storage is a server of object storage with two buckets.
type storage struct {
	url string
	*minio.Client
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
	} {
		t.Setenv(name, value) // for the program too
	}
	c, err := openObjects()
	if err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{"photos", "results"} {
		if err := c.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return &storage{server.URL, c}
}

func (s *storage) put(t *testing.T, bucket, key string, data []byte) {
	t.Helper()
	if _, err := s.PutObject(t.Context(), bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// results returns all lines of all objects below a folder, and the names of the objects.
func (s *storage) results(t *testing.T, folder string) (lines map[string]line, objects []string) {
	t.Helper()
	var all strings.Builder
	err := objectsBelow(t.Context(), s.Client, "results", folder, func(key string) { objects = append(objects, key) })
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range objects {
		r, err := readObject(t.Context(), s.Client, "s3://results/"+key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, r); err != nil {
			t.Fatal(err)
		}
	}
	return answers(t, all.String()), objects
}

// fill puts n images into the bucket photos, and some objects that are not images.
func (s *storage) fill(t *testing.T, n int) (names []string) {
	t.Helper()
	dir := folder(t, n)
	for i := range n {
		name := fmt.Sprintf("%c/%04d.jpg", 'a'+i%7, i)
		s.put(t, "photos", "2024/"+name, readFile(t, path.Join(dir, "photos", name)))
		names = append(names, "s3://photos/2024/"+name)
	}
	s.put(t, "photos", "2024/notes.txt", []byte("notes"))
	s.put(t, "photos", "2024/.trash/x.jpg", readFile(t, samplePath))
	s.put(t, "photos", "2024-old/x.jpg", readFile(t, samplePath))
	return names
}

// TestObjects checks that shares of a bucket, of which some are interrupted and one is killed, give
// each image one line in the end.
func TestObjects(t *testing.T) {
	const n, shares = 600, 3
	s := newStorage(t)
	want := s.fill(t, n)
	var asked atomic.Int64
	real1 := handler(service.DefaultConfig())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		time.Sleep(5 * time.Millisecond)
		real1.ServeHTTP(w, r)
	}))
	defer server.Close()
	start := func(share int) *exec.Cmd {
		return program(t, t.TempDir(), "s3://photos/2024", "--url", server.URL, "--output", "s3://results/faces", "--resume",
			"--shard", fmt.Sprintf("%d/%d", share, shares), "--concurrency", "2", quick)
	}
	for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		cmd := start(0)
		done := begin(t, cmd)
		for before := asked.Load(); asked.Load() < before+40; {
			time.Sleep(time.Millisecond)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		r := done()
		lines, _ := s.results(t, "faces")
		if len(lines) < 30 || len(lines) > 100 || (i == 0 && r.code != exitInterrupted) {
			t.Errorf("exit code %d, %d lines after %v\n%s", r.code, len(lines), signal, r.stderr)
		}
	}
	for i := range shares {
		if r := wait(t, start(i)); r.code != exitOK {
			t.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
	}
	lines, objects := s.results(t, "faces")
	if got := slices.Sorted(maps.Keys(lines)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("%d lines for %d images", len(got), n)
	}
	for name, l := range lines {
		if l.Answer == nil || l.Width != 20 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	for i := range shares {
		if !slices.Contains(objects, fmt.Sprintf("faces/%d-of-%d/000001.jsonl", i, shares)) {
			t.Errorf("%q", objects)
		}
	}
	// Nothing is left to do, so no server is needed.
	if r := wait(t, func() *exec.Cmd { c := start(1); c.Args = append(c.Args, "--url", "localhost:1"); return c }()); r.code != exitOK {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}

// TestObjectErrors checks that images that could not be read are tried again, and that those that
// cannot be decoded are not.
func TestObjectErrors(t *testing.T) {
	s := newStorage(t)
	s.put(t, "photos", "good.jpg", readFile(t, samplePath))
	s.put(t, "photos", "bad.jpg", []byte("not an image"))
	list := path.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("s3://photos/good.jpg\ns3://photos/bad.jpg\ns3://photos/late.jpg\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() result {
		return runProgram(t, t.TempDir(), "--files-from", list, "--output", "s3://results/", "--resume")
	}
	r := start()
	lines, objects := s.results(t, "")
	if r.code != exitSomeFailed || len(lines) != 3 || !slices.Contains(objects, "0-of-1/"+retriedName) {
		t.Fatalf("exit code %d, %q\n%s", r.code, objects, r.stderr)
	}
	if e := lines["s3://photos/late.jpg"].Error; e == nil || e.Code != "not_found" || e.Reason != reasonUnreadable {
		t.Errorf("%+v", e)
	}
	s.put(t, "photos", "late.jpg", readFile(t, samplePath))
	r = start()
	lines, objects = s.results(t, "")
	if l := lines["s3://photos/late.jpg"]; r.code != exitSomeFailed || len(lines) != 3 || l.Answer == nil || len(l.Results) != 1 ||
		!slices.Equal(objects, []string{"0-of-1/000001.jsonl", "0-of-1/000002.jsonl"}) {
		t.Errorf("exit code %d, %q, %+v\n%s", r.code, objects, l, r.stderr)
	}
}

// TestObjectUsage checks what is refused, and with which advice.
func TestObjectUsage(t *testing.T) {
	s := newStorage(t)
	s.put(t, "photos", "a.jpg", readFile(t, samplePath))
	s.put(t, "results", "old/0-of-4/000001.jsonl", []byte(`{"file":"a","width":1,"height":1,"model":"m","results":[]}`+"\n"))
	s.put(t, "results", "strange/0-of-1/data.parquet", []byte("x"))
	s.put(t, "results", "gap/0-of-1/000002.jsonl", []byte("x"))
	s.put(t, "results", "text/0-of-1/000001.jsonl", []byte("hello\n"))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"s3://photos/a.jpg", "-o", "s3://results/old", "--shard", "0/4"}, "use --resume"},
		{[]string{"s3://photos/a.jpg", "-o", "s3://results/old", "--resume"}, "has the results of 4 shares: use --shard I/4"},
		{[]string{"s3://photos/a.jpg", "-o", "s3://results/strange", "--resume"}, "was not written by this program"},
		{[]string{"s3://photos/a.jpg", "-o", "s3://results/gap", "--resume"}, "a part before it is missing"},
		{[]string{"s3://photos/a.jpg", "-o", "s3://results/text", "--resume"}, "was not written by this program"},
		{[]string{"s3://photos/a.jpg", "-o", "s3://nowhere/x"}, "the bucket does not exist"},
		{[]string{"s3://nowhere/x"}, "the bucket does not exist"},
		{[]string{"s3://"}, "names no bucket"},
		{[]string{"s3://photos/a.jpg", "-o", "s3://results/t", "--format", "table"}, "omit --format table"},
		{[]string{"s3://photos/a.jpg", "--annotate", "marked"}, "cannot be annotated"},
		{[]string{"s3://results/strange/"}, "no images found"},
	} {
		if r := runProgram(t, t.TempDir(), c.args...); r.code != exitUsage || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%q: exit code %d\n%s", c.args, r.code, r.stderr)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	if r := runProgram(t, t.TempDir(), "s3://photos/a.jpg"); r.code != exitUnreachable || !strings.Contains(r.stderr, "does not answer as it should") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	t.Setenv("AWS_ENDPOINT_URL", "storage:9000")
	if r := runProgram(t, t.TempDir(), "s3://photos/a.jpg"); r.code != exitUsage || !strings.Contains(r.stderr, "AWS_ENDPOINT_URL") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}

// TestObjectWriters checks that two processes cannot write the same share.
func TestObjectWriters(t *testing.T) {
	s := newStorage(t)
	open := func() *objectSink {
		sink, _, err := openObjectSink(t.Context(), s.Client, "s3://results/x", shard{}, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.write([]byte("{}\n"), false); err != nil {
			t.Fatal(err)
		}
		return sink
	}
	a, b := open(), open()
	if err := a.close(); err != nil {
		t.Error(err)
	}
	if err := b.close(); err == nil || !strings.Contains(err.Error(), "another process is writing this share") {
		t.Errorf("%v", err)
	}
}
