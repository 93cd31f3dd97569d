package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/mienproject/mien/auth"
	"github.com/mienproject/mien/cores"
	"github.com/mienproject/mien/face/pigo"
	inferencev1connect "github.com/mienproject/mien/gen/inference/v1/inferencev1connect"
	"github.com/mienproject/mien/internal/version"
	"github.com/mienproject/mien/photo"
	"github.com/mienproject/mien/service"
)

// quick makes the server search only for faces as large as the one in the sample.
const quick = "--min-face-size=150"

const samplePath = "../../service/selftest/sample.jpg"

// programVariable makes the test binary run as the program.
const programVariable = "MIEN_CLIENT_TEST_PROGRAM"

// serverURL is the URL of a server with the embedded model, for all tests.
var serverURL string

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	server := httptest.NewUnstartedServer(handler(service.DefaultConfig()))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	serverURL = server.URL
	os.Exit(m.Run())
}

// handler returns the real service.
func handler(config service.Config) http.Handler {
	detector, err := pigo.New(cores.NewGate(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic(err)
	}
	config.Models = []service.Model{{Name: "pigo", Detector: detector}}
	svc, err := service.New(config)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(svc.Handler())
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(inferencev1connect.InferenceName)))
	return mux
}

// program returns a command that runs the program with args in dir.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), programVariable+"=1", "MIEN_URL="+serverURL)
	return cmd
}

// result is the output and the exit code of the program.
type result struct {
	code           int
	stdout, stderr string
}

func runProgram(t *testing.T, dir string, args ...string) result {
	t.Helper()
	return wait(t, program(t, dir, args...))
}

func wait(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	return begin(t, cmd)()
}

// begin starts cmd, and returns a function that waits for its result.
func begin(t *testing.T, cmd *exec.Cmd) func() result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() result {
		t.Helper()
		if _, failed := errors.AsType[*exec.ExitError](cmd.Wait()); failed && strings.Contains(stderr.String(), "DATA RACE") {
			t.Error(stderr.String())
		}
		return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
}

// answers returns the lines of an output by file. More than one line for a file fails
// the test.
func answers(t *testing.T, output string) map[string]line {
	t.Helper()
	all := map[string]line{}
	for text := range strings.Lines(output) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil || !strings.HasSuffix(text, "\n") {
			t.Errorf("%q: %v", text, err)
		}
		if _, twice := all[l.File]; twice {
			t.Errorf("%s was answered twice", l.File)
		}
		all[l.File] = l
	}
	return all
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// small returns the sample image at a sixteenth of its size, which is fast to process
// and has no face.
func small(t testing.TB) image.Image {
	t.Helper()
	img, err := jpeg.Decode(bytes.NewReader(readFile(t, samplePath)))
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewRGBA(image.Rect(0, 0, img.Bounds().Dx()/16, img.Bounds().Dy()/16))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			out.Set(x, y, img.At(16*x, 16*y))
		}
	}
	return out
}

// folder returns a folder with n small images, all different.
func folder(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	img := small(t).(*image.RGBA)
	for i := range n {
		draw.Draw(img, image.Rect(0, 0, 4, 4), image.NewUniform(color.Gray16{uint16(64 * i)}), image.Point{}, draw.Src)
		var b bytes.Buffer
		if err := jpeg.Encode(&b, img, nil); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "photos", fmt.Sprintf("%c", 'a'+i%7), fmt.Sprintf("%04d.jpg", i)), b.Bytes())
	}
	return dir
}

// until waits until the output has that many lines.
func until(t *testing.T, path string, lines int) {
	t.Helper()
	for {
		data, _ := os.ReadFile(path)
		if bytes.Count(data, []byte("\n")) >= lines {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
		time.Sleep(time.Millisecond)
	}
}

// TestKilledAndResumed checks that each of a thousand images gets one answer although
// the program is killed three times.
func TestKilledAndResumed(t *testing.T) {
	const n = 1000
	dir := folder(t, n)
	output := filepath.Join(dir, "out.jsonl")
	args := []string{"-o", "out.jsonl", "--resume", "photos"}
	for _, lines := range []int{150, 400, 700} {
		cmd := program(t, dir, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, output, lines)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		data := readFile(t, output)
		if got := bytes.Count(data, []byte("\n")); got < lines || got >= n {
			t.Fatalf("killed after %d lines", got)
		}
		// As if it had been killed in the middle of a write.
		writeFile(t, output, append(data, `{"file":"photos/a/0000.jpg","width":6`...))
	}
	r := runProgram(t, dir, args...)
	if r.code != exitOK {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	got := answers(t, string(readFile(t, output)))
	if len(got) != n {
		t.Errorf("%d answers", len(got))
	}
	for i := range n {
		name := filepath.Join("photos", fmt.Sprintf("%c", 'a'+i%7), fmt.Sprintf("%04d.jpg", i))
		if l := got[name]; l.Answer == nil || l.Width != 20 || l.Height != 25 || l.Model != "pigo" {
			t.Errorf("%s: %+v", name, l)
		}
	}
	// Nothing is left to do, so no server is needed.
	before := readFile(t, output)
	r = runProgram(t, dir, append(args, "--url", "localhost:1")...)
	if r.code != exitOK || !bytes.Equal(before, readFile(t, output)) {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}

// TestInterrupted checks that requests in flight finish, and that a second run does the
// rest.
func TestInterrupted(t *testing.T) {
	const n = 300
	dir := folder(t, n)
	output := filepath.Join(dir, "out.jsonl")
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		os.Remove(output)
		cmd := program(t, dir, "-o", output, "photos")
		finish := begin(t, cmd)
		until(t, output, 50)
		cmd.Process.Signal(signal)
		r := finish()
		if r.code != exitInterrupted || !strings.Contains(r.stderr, "--resume continues") {
			t.Errorf("%v: exit code %d\n%s", signal, r.code, r.stderr)
		}
		if got := len(answers(t, string(readFile(t, output)))); got < 50 || got >= n {
			t.Errorf("%v: %d answers", signal, got)
		}
	}
	r := runProgram(t, dir, "-o", output, "--resume", "photos")
	if got := answers(t, string(readFile(t, output))); r.code != exitOK || len(got) != n {
		t.Errorf("exit code %d, %d answers\n%s", r.code, len(got), r.stderr)
	}
}

// TestBadFiles checks that files with errors are reported, that the others are
// answered, and that files which may succeed later are tried again.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	sample := readFile(t, samplePath)
	writeFile(t, filepath.Join(dir, "good.jpg"), sample)
	writeFile(t, filepath.Join(dir, "cut.jpg"), sample[:2000])
	writeFile(t, filepath.Join(dir, "text.jpg"), []byte("hello"))
	writeFile(t, filepath.Join(dir, "empty.png"), nil)
	writeFile(t, filepath.Join(dir, "odd\xffname & co.jpg"), sample)
	large := filepath.Join(dir, "large.tiff")
	writeFile(t, large, nil)
	if err := os.Truncate(large, 1<<40); err != nil {
		os.Remove(large) // some file systems do not support such files
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "broken.jpg")); err != nil {
		t.Fatal(err)
	}
	args := []string{quick, "-o", "out", "--resume", ".", "missing.jpg", "no*match"}
	want := map[string]string{
		"good.jpg": "", `odd\xffname & co.jpg`: "",
		"cut.jpg": "CORRUPT_IMAGE", "text.jpg": "UNSUPPORTED_FORMAT", "empty.png": "EMPTY_IMAGE", "large.tiff": "TOO_MANY_BYTES",
		"broken.jpg": "UNREADABLE_FILE", "missing.jpg": "UNREADABLE_FILE", "no*match": "UNREADABLE_FILE",
	}
	r := runProgram(t, dir, args...)
	check := func() {
		t.Helper()
		if r.code != exitSomeFailed {
			t.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
		output := string(readFile(t, filepath.Join(dir, "out")))
		got := answers(t, output)
		if len(got) != len(want) {
			t.Errorf("%d answers, want %d:\n%s", len(got), len(want), output)
		}
		for name, reason := range want {
			l := got[name]
			if reason == "" && (l.Answer == nil || len(l.Results) != 1 || l.Error != nil) {
				t.Errorf("%s: %+v", name, l)
			}
			if reason != "" && (l.Error == nil || l.Error.Reason != reason || l.Error.Code == "" || l.Error.Message == "") {
				t.Errorf("%s: %+v, want %s", name, l.Error, reason)
			}
		}
		for i, text := range slices.Collect(strings.Lines(output)) {
			if strings.Contains(text, "UNREADABLE_FILE") != (i >= len(want)-3) {
				t.Errorf("line %d is %s", i+1, text)
			}
		}
	}
	check()
	for name, reason := range want {
		if told := strings.Contains(r.stderr, name+": "+reason) || strings.Contains(r.stderr, fmt.Sprintf("%q: %s", name, reason)); told != (reason != "") {
			t.Errorf("%s is told on standard error: %v\n%s", name, told, r.stderr)
		}
	}
	// Run again: three files are tried again, and no file occurs twice.
	r = runProgram(t, dir, args...)
	check()
	if !strings.Contains(r.stderr, "6 of 9 have results from earlier runs, 4 of them errors") {
		t.Error(r.stderr)
	}
	// Now one of the files can be read.
	writeFile(t, filepath.Join(dir, "missing.jpg"), sample)
	want["missing.jpg"] = ""
	r = runProgram(t, dir, args...)
	output := string(readFile(t, filepath.Join(dir, "out")))
	if got := answers(t, output)["missing.jpg"]; got.Answer == nil || len(got.Results) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestExitCodes checks each exit code, and the messages that go with it.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.jpg"), readFile(t, samplePath))
	writeFile(t, filepath.Join(dir, "bad.jpg"), []byte("bad"))
	writeFile(t, filepath.Join(dir, "notes.txt"), []byte("notes\n"))
	writeFile(t, filepath.Join(dir, "one.txt"), []byte("notes"))
	writeFile(t, filepath.Join(dir, "empty", "notes.txt"), []byte("notes"))
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"a.jpg", 0, ""},
		{"--help", 0, ""},
		{"--grpc a.jpg", 0, ""},
		{"--min-confidence 1 --max-results 3 --min-face-size 50 --skip-landmarks --any-orientation --model pigo a.jpg", 0, ""},
		{"-o /dev/null a.jpg", 0, ""},
		{"a.jpg bad.jpg", 1, "bad.jpg: UNSUPPORTED_FORMAT"},
		{"-o /dev/full a.jpg", 1, "no space left"},
		{"", 2, "name an image"},
		{"empty", 2, `no images found: nothing below "empty" ends`},
		{"--nonsense a.jpg", 2, "--nonsense"},
		{"--url ftp://x a.jpg", 2, "--url"},
		{"--timeout 0s --wait 0s --concurrency 0 --min-confidence 2 --max-results=-1 --min-face-size=-1 a.jpg", 2, "--min-face-size"},
		{"--model nosuch a.jpg", 2, "UNKNOWN_MODEL"},
		{"--resume a.jpg", 2, "--resume needs --output"},
		{"--resume -o out --format table a.jpg", 2, "JSON lines"},
		{"--resume -o out -", 2, "standard input"},
		{"--resume -o /dev/null a.jpg", 2, "regular file"},
		{"-o notes.txt a.jpg", 2, "has content already"},
		{"-o notes.txt --resume a.jpg", 2, "line 1 was not written by this program"},
		{"-o one.txt --resume a.jpg", 2, "line 1 was not written by this program"},
		{"-o nowhere/out a.jpg", 2, "no such file"},
		{"--annotate a.jpg a.jpg", 2, "--annotate"},
		{"-0 a.jpg", 2, "--files-from"},
		{"--files-from nowhere", 2, "nowhere"},
		{"--files-from - -", 2, "both an image"},
		{"--url http://127.0.0.1:1 --wait 300ms a.jpg", 3, "refused"},
	} {
		t.Run(c.args, func(t *testing.T) {
			if strings.Contains(c.args, "/dev/full") && runtime.GOOS != "linux" {
				t.Skip("has no /dev/full")
			}
			r := runProgram(t, dir, strings.Fields(c.args)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.says) || (c.says == "" && r.stderr != "") {
				t.Errorf("exit code %d, want %d\n%s", r.code, c.code, r.stderr)
			}
		})
	}
	if string(readFile(t, filepath.Join(dir, "notes.txt"))) != "notes\n" || string(readFile(t, filepath.Join(dir, "one.txt"))) != "notes" {
		t.Error("a file of somebody else's was changed")
	}
}

// TestInputs checks every way to name images.
func TestInputs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"a.jpg", "b.PNG", "c.txt", "sub/d.webp", "sub/deep/e.tiff", ".hidden.jpg", ".git/f.jpg", "[x].jpg", "x.jpg", "marked/a.jpg", "new\nline.jpg",
	} {
		writeFile(t, filepath.Join(dir, name), nil)
	}
	if err := errors.Join(os.Symlink("sub", filepath.Join(dir, "link")), makeFIFO(filepath.Join(dir, "sub/pipe.jpg"))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, c := range []struct {
		cfg   config
		stdin string
		want  string
	}{
		{cfg: config{Files: []string{"."}, Annotate: "marked"}, want: "[x].jpg a.jpg b.PNG new\nline.jpg sub/d.webp sub/deep/e.tiff x.jpg"},
		{cfg: config{Files: []string{"sub", "./a.jpg", "a.jpg", "sub/../a.jpg", "c.txt", "nope.jpg"}}, want: "sub/d.webp sub/deep/e.tiff a.jpg c.txt nope.jpg"},
		{cfg: config{Files: []string{"*.jpg"}}, want: ".hidden.jpg [x].jpg a.jpg new\nline.jpg x.jpg"},
		{cfg: config{Files: []string{"[x].jpg", "s*"}}, want: "[x].jpg sub/d.webp sub/deep/e.tiff"},
		{cfg: config{Files: []string{"[", "link", "-"}}, want: "[ link/d.webp link/deep/e.tiff -"},
		{cfg: config{FilesFrom: "-"}, stdin: "a.jpg\r\n\nsub\n*.jpg", want: "a.jpg sub/d.webp sub/deep/e.tiff *.jpg"},
		{cfg: config{FilesFrom: "-", Null: true}, stdin: "new\nline.jpg\x00\x00a.jpg", want: "new\nline.jpg a.jpg"},
	} {
		got, _, err := c.cfg.inputs(t.Context(), strings.NewReader(c.stdin))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, %v, want %q", c.cfg.Files, got, err, c.want)
		}
	}
}

// TestShards checks that each image is in one share, that shares are of about the same size, and
// what is refused.
func TestShards(t *testing.T) {
	const n = 300
	dir := folder(t, n)
	all := map[string]line{}
	for i := range 4 {
		cmd := program(t, dir, "--shard", "4", "photos", quick)
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", indexVariable, i))
		r := wait(t, cmd)
		share := answers(t, r.stdout)
		if r.code != exitOK || len(share) < n/4-30 || len(share) > n/4+30 {
			t.Errorf("exit code %d, %d of %d images in a quarter\n%s", r.code, len(share), n, r.stderr)
		}
		named := answers(t, runProgram(t, dir, "--shard", fmt.Sprintf("%d/4", i), "photos", quick).stdout)
		for name, l := range share {
			if _, twice := all[name]; twice || named[name].Answer == nil {
				t.Errorf("%s is in several shares, or not in the same one", name)
			}
			all[name] = l
		}
	}
	if len(all) != n {
		t.Errorf("%d of %d images", len(all), n)
	}
	// A share may be empty.
	writeFile(t, filepath.Join(dir, "one", "a.jpg"), readFile(t, samplePath))
	for i, lines := 0, 0; i < 8; i++ {
		r := runProgram(t, dir, "--shard", fmt.Sprintf("%d/8", i), "one")
		lines += strings.Count(r.stdout, "\n")
		if r.code != exitOK || (i == 7 && lines != 1) {
			t.Errorf("exit code %d, %d lines\n%s", r.code, lines, r.stderr)
		}
	}
	for shard, want := range map[string]string{
		"4": indexVariable, "4/4": "share 4 of 4", "-1/4": "share -1 of 4", "0/0": "share 0 of 0", "a/b": "share a of b", "1/2/3": "share 1 of 2/3",
	} {
		if r := runProgram(t, dir, "--shard="+shard, "one"); r.code != exitUsage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: exit code %d\n%s", shard, r.code, r.stderr)
		}
	}
}

// TestSeveralServers checks that images are spread over servers, and that one which ends loses
// none.
func TestSeveralServers(t *testing.T) {
	const n = 200
	dir := folder(t, n)
	var urls []string
	var asked [3]atomic.Int64
	for i := range asked {
		real1 := handler(service.DefaultConfig())
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == inferencev1connect.InferencePredictProcedure && asked[i].Add(1) > 20 && i == 0 {
				panic(http.ErrAbortHandler)
			}
			real1.ServeHTTP(w, r)
		}))
		defer server.Close()
		urls = append(urls, server.URL)
	}
	r := runProgram(t, dir, "photos", quick, "--concurrency", "8", "--url", urls[0], "--url", urls[1]+","+urls[2], "--attempt-timeout", "20s")
	if got := answers(t, r.stdout); r.code != exitOK || len(got) != n {
		t.Errorf("exit code %d, %d answers\n%s", r.code, len(got), r.stderr)
	}
	if asked[1].Load() < n/4 || asked[2].Load() < n/4 {
		t.Errorf("%d, %d and %d requests", asked[0].Load(), asked[1].Load(), asked[2].Load())
	}
}

// TestMessages checks what is told apart from errors of images.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.heic", "b.txt", "c.mp4", "d", ".hidden"} {
		writeFile(t, filepath.Join(dir, "photos", name), nil)
	}
	writeFile(t, filepath.Join(dir, "photos", "good.jpg"), readFile(t, samplePath))
	for _, c := range []struct {
		args []string
		code int
		want string // on standard error, unless it is the version
	}{
		{[]string{"--version"}, exitOK, "mien-client " + version.Number + ", go"},
		{[]string{"photos", quick}, exitOK, "passed over photos/a.heic, photos/b.txt, photos/c.mp4 and 1 more: in folders"},
		{[]string{"photos/good.jpg", "--model", "nosuch"}, exitUsage, `UNKNOWN_MODEL: unknown model: --model is "nosuch"`},
		{[]string{"photos/good.jpg", "--url", "127.0.0.1:1", "--wait", "1500ms"}, exitUnreachable, "waiting for 127.0.0.1:1, up to 1.5s (--wait)"},
	} {
		r := runProgram(t, dir, c.args...)
		text := r.stderr
		if c.args[0] == "--version" {
			text = r.stdout
		}
		if r.code != c.code || !strings.Contains(text, c.want) || strings.Contains(r.stderr, "--resume can") {
			t.Errorf("%q: exit code %d\n%s%s", c.args, r.code, r.stdout, r.stderr)
		}
	}
	if r := runProgram(t, dir, "photos/good.jpg", quick); r.stderr != "" {
		t.Errorf("%s", r.stderr)
	}
}

func TestStandardInput(t *testing.T) {
	cmd := program(t, t.TempDir(), "-")
	cmd.Stdin = bytes.NewReader(readFile(t, samplePath))
	r := wait(t, cmd)
	if got := answers(t, r.stdout)["-"]; r.code != exitOK || got.Answer == nil || len(got.Results) != 1 ||
		!strings.Contains(string(got.Results[0]), `"upLeft":{"x":`) {
		t.Errorf("%+v\n%s", got, r.stderr)
	}
}

// TestAnnotate checks where annotated images are written, in which format, and that
// nothing is written elsewhere.
func TestAnnotate(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "here")
	sample := readFile(t, samplePath)
	img, err := jpeg.Decode(bytes.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	var asPNG bytes.Buffer
	if err := png.Encode(&asPNG, img); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "a.jpg"), sample)
	writeFile(t, filepath.Join(dir, "sub/b.png"), asPNG.Bytes())
	writeFile(t, filepath.Join(dir, "sub/c.gif"), sample)
	writeFile(t, filepath.Join(dir, "bad.jpg"), sample[:3000])
	writeFile(t, filepath.Join(root, "up.jpg"), sample)
	r := runProgram(t, dir, quick, "--annotate", "marked", ".", "../up.jpg", filepath.Join(root, "up.jpg"))
	if r.code != exitSomeFailed {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	var got []string
	_ = filepath.WalkDir(filepath.Join(dir, "marked"), func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			name, _ := filepath.Rel(filepath.Join(dir, "marked"), path)
			got = append(got, name)
			p, err := photo.Open(readFile(t, path), photo.Limits{})
			if err != nil || p.Width != 320 || p.Height != 400 || (p.Format == "png") != strings.HasSuffix(name, ".png") {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
		return nil
	})
	want := []string{"__/up.jpg", "a.jpg", "sub/b.png", "sub/c.gif.jpg", strings.TrimPrefix(filepath.Join(root, "up.jpg"), "/")}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if bytes.Equal(readFile(t, filepath.Join(dir, "marked/a.jpg")), sample) {
		t.Error("nothing was drawn")
	}
	// Run again: annotated images in the folder itself are not inputs.
	if n := len(answers(t, runProgram(t, dir, quick, "--annotate", "marked", ".").stdout)); n != 4 {
		t.Errorf("%d answers the second time", n)
	}

	// Never over the source, and not through a link that leads out of the folder.
	r = runProgram(t, dir, quick, "--annotate", ".", "a.jpg")
	if got := answers(t, r.stdout)["a.jpg"]; r.code != exitSomeFailed || got.Error == nil || got.Error.Reason != reasonNotAnnotated ||
		!bytes.Equal(readFile(t, filepath.Join(dir, "a.jpg")), sample) {
		t.Errorf("exit code %d, %+v", r.code, got)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "trap"), 0o755), os.Symlink("../..", filepath.Join(dir, "trap/sub"))); err != nil {
		t.Fatal(err)
	}
	r = runProgram(t, dir, quick, "--annotate", "trap", "sub/b.png")
	if _, err := os.Stat(filepath.Join(root, "b.png")); r.code != exitSomeFailed || err == nil {
		t.Errorf("exit code %d, %v\n%s", r.code, err, r.stdout)
	}
}

// TestTwoProcesses checks that an output has only one writer.
func TestTwoProcesses(t *testing.T) {
	release := make(chan struct{})
	next := handler(service.DefaultConfig())
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == inferencev1connect.InferencePredictProcedure {
			asked <- struct{}{}
			<-release
		}
		next.ServeHTTP(w, r)
	}))
	defer server.Close()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.jpg"), readFile(t, samplePath))
	args := []string{"-o", "out", "--resume", "--url", server.URL, "a.jpg"}
	first := program(t, dir, args...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if r := runProgram(t, dir, args...); r.code != exitUsage || !strings.Contains(r.stderr, "another process") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	close(release)
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	if got := answers(t, string(readFile(t, filepath.Join(dir, "out")))); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestServerAway checks that the program waits for a server that comes back, that a
// server which does not come back ends the run, and that the next run does the rest.
func TestServerAway(t *testing.T) {
	const n = 60
	dir := folder(t, n)
	real1 := handler(service.DefaultConfig())
	var served atomic.Int32
	away := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == inferencev1connect.InferencePredictProcedure {
			if served.Add(1) == 20 {
				close(away)
			}
		}
		select {
		case <-away:
			panic(http.ErrAbortHandler)
		default:
			real1.ServeHTTP(w, r)
		}
	}))
	server.Start()
	defer server.Close()
	args := []string{"-o", "out", "--resume", "--concurrency", "1", "--wait", "500ms", "photos", "--url"}
	r := runProgram(t, dir, append(args, server.URL)...)
	if r.code != exitUnreachable || !strings.Contains(r.stderr, "--resume continues") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	if got := answers(t, string(readFile(t, filepath.Join(dir, "out")))); len(got) != 19 {
		t.Errorf("%d answers", len(got))
	}

	var requests atomic.Int32
	restarting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); n > 5 && n <= 15 {
			panic(http.ErrAbortHandler)
		}
		real1.ServeHTTP(w, r)
	}))
	defer restarting.Close()
	r = runProgram(t, dir, append(args, restarting.URL, "--wait", "10s")...)
	if got := answers(t, string(readFile(t, filepath.Join(dir, "out")))); r.code != exitOK || len(got) != n {
		t.Errorf("exit code %d, %d answers\n%s", r.code, len(got), r.stderr)
	}
}

// TestOverloaded checks that a server which admits fewer images than the client sends
// answers all of them in the end.
func TestOverloaded(t *testing.T) {
	config := service.DefaultConfig()
	config.Workers, config.Queue = 1, 0
	server := httptest.NewServer(handler(config))
	defer server.Close()
	dir := t.TempDir()
	for i := range 4 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.jpg", i)), readFile(t, samplePath))
	}
	r := runProgram(t, dir, "--concurrency", "4", "--url", server.URL, ".")
	if got := answers(t, r.stdout); r.code != exitOK || len(got) != 4 {
		t.Errorf("exit code %d, %d answers\n%s", r.code, len(got), r.stderr)
	}
}

// TestTimeout checks that an image which takes too long is reported, and is tried again
// by the next run.
func TestTimeout(t *testing.T) {
	next := handler(service.DefaultConfig())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == inferencev1connect.InferencePredictProcedure {
			_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice that the client disconnects
			<-r.Context().Done()
			return
		}
		next.ServeHTTP(w, r)
	}))
	defer server.Close()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.jpg"), readFile(t, samplePath))
	r := runProgram(t, dir, "-o", "out", "--resume", "--timeout", "100ms", "--url", server.URL, "a.jpg")
	got := answers(t, string(readFile(t, filepath.Join(dir, "out"))))["a.jpg"]
	if r.code != exitSomeFailed || got.Error == nil || got.Error.Code != connect.CodeDeadlineExceeded.String() {
		t.Errorf("exit code %d, %+v", r.code, got)
	}
	r = runProgram(t, dir, "-o", "out", "--resume", "a.jpg")
	if got := answers(t, string(readFile(t, filepath.Join(dir, "out"))))["a.jpg"]; r.code != exitOK || got.Answer == nil {
		t.Errorf("exit code %d, %+v", r.code, got)
	}
}

func TestMarkedName(t *testing.T) {
	for _, c := range [][3]string{
		{"a.jpg", "jpeg", "a.jpg"},
		{"a/b.JPEG", "jpeg", "a/b.JPEG"},
		{"a.webp", "webp", "a.webp.jpg"},
		{"a.png", "jpeg", "a.png.jpg"},
		{"a.jpg", "png", "a.jpg.png"},
		{"/x/a.png", "png", "x/a.png"},
		{"../../a.jpg", "jpeg", "__/__/a.jpg"},
		{"-", "gif", "stdin.jpg"},
	} {
		if got, _ := annotatedName(c[0], c[1]); got != c[2] {
			t.Errorf("%s of %s becomes %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// FuzzReadAnswered checks that what is kept of an output file reads the same again, and
// that only an incomplete last line and errors that a retry may fix are removed.
func FuzzReadAnswered(f *testing.F) {
	f.Add([]byte(`{"file":"a.jpg","width":1,"height":1,"model":"pigo","results":[]}` + "\n" + `{"file":"b.jpg","wid`))
	f.Add([]byte(`{"file":"a","error":{"code":"invalid_argument","reason":"CORRUPT_IMAGE"}}` + "\n" + `{"file":"b","error":{"code":"unavailable"}}` + "\n"))
	f.Add([]byte(`{"file":"b","error":{"code":"unavailable"}}` + "\n" + `{"file":"a","results":[{}]}` + "\n{"))
	f.Add([]byte("notes\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnswered(bytes.NewReader(data))
		if err != nil {
			return
		}
		if a.length < 0 || a.length > int64(len(data)) {
			t.Fatalf("%d of %d bytes", a.length, len(data))
		}
		kept := data[:a.length]
		if len(kept) > 0 && kept[len(kept)-1] != '\n' {
			t.Errorf("%q does not end with a line", kept)
		}
		again, err := readAnswered(bytes.NewReader(kept))
		if err != nil || again.length != a.length || len(again.files) != len(a.files) {
			t.Errorf("%+v, then %+v, %v", a, again, err)
		}
	})
}

// TestLabel checks that names which are not valid text stay distinct, and that all
// others are not changed.
func TestLabel(t *testing.T) {
	for name, want := range map[string]string{"a b é.jpg": "a b é.jpg", "a\xff\xfe": `a\xff\xfe`, "\ufffd": "\ufffd", "": ""} {
		if got := label(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

// TestPause checks that an interrupt does not wait for the server's recovery.
func TestPause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, time.Hour); !errors.Is(err, errNotDone) {
		t.Error(err)
	}
}

// secureServer returns a server that requires a client certificate and an API key, and a
// folder with what is needed to call it: ca.pem, cert.pem, key.pem and api.key.
func secureServer(t *testing.T) (server *httptest.Server, dir string) {
	t.Helper()
	secret, line, err := auth.NewKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	keys := &auth.Keys{}
	if err := keys.Load([]byte(line)); err != nil {
		t.Fatal(err)
	}
	authenticate := auth.Authenticator{Keys: keys}
	inside := handler(service.DefaultConfig())
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := authenticate.Authenticate(r.Context(), r); err != nil && !strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodeUnauthenticated, err))
			return
		}
		inside.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)

	dir = t.TempDir()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	for name, data := range map[string][]byte{
		"ca.pem": cert, "cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"api.key": []byte(secret + "\n"), "empty.key": []byte("\n"), "two.key": []byte(secret + "\n" + secret), "large.key": make([]byte, 5<<10),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sample, err := os.ReadFile(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.jpg"), sample, 0o600); err != nil {
		t.Fatal(err)
	}
	return server, dir
}

// TestSecureServer checks which flags and variables let the program call a server that
// requires a key and a certificate, and what it says without them.
func TestSecureServer(t *testing.T) {
	server, dir := secureServer(t)
	secret := strings.TrimSpace(string(readAll(t, filepath.Join(dir, "api.key"))))
	const certificates = "--tls-ca ca.pem --tls-cert cert.pem --tls-key key.pem "
	for _, c := range []struct {
		args, variable string
		code           int
		want           string // in standard error
	}{
		{args: certificates + "--api-key-file api.key", code: exitOK},
		{args: certificates + "--grpc --api-key-file api.key", code: exitOK},
		{args: certificates, variable: secret, code: exitOK},
		{args: certificates + "--api-key-file api.key", variable: "wrong", code: exitOK}, // the flag counts
		{args: certificates, code: exitUsage, want: "requires an API key"},
		{args: certificates, variable: "wrong", code: exitUsage, want: "not valid"},
		{args: certificates, variable: "two words", code: exitUsage, want: "MIEN_API_KEY"},
		{args: certificates + "--api-key-file none.key", code: exitUsage, want: "--api-key-file: open none.key"},
		{args: certificates + "--api-key-file empty.key", code: exitUsage, want: "--api-key-file: empty.key is empty"},
		{args: certificates + "--api-key-file two.key", code: exitUsage, want: "--api-key-file: it must be one key"},
		{args: certificates + "--api-key-file large.key", code: exitUsage, want: "--api-key-file: large.key is larger"},
		{args: "--api-key-file api.key --tls-ca ca.pem --wait 300ms", code: exitUnreachable, want: "the server did not become ready"},
		{args: "--api-key-file api.key --wait 300ms", code: exitUnreachable, want: "certificate"},
		{args: "--tls-ca a.jpg", code: exitUsage, want: "--tls-ca: a.jpg has no certificate"},
		{args: "--tls-cert cert.pem", code: exitUsage, want: "--tls-cert and --tls-key: set both or neither"},
		{args: "--tls-cert cert.pem --tls-key a.jpg", code: exitUsage, want: "--tls-cert and --tls-key"},
		{args: "--tls-ca ca.pem --url http://localhost:1", code: exitUsage, want: "not an https:// URL"},
	} {
		t.Run(c.args+" "+c.variable, func(t *testing.T) {
			args := strings.Fields(c.args)
			if !slices.Contains(args, "--url") {
				args = append(args, "--url", server.URL)
			}
			cmd := program(t, dir, append(args, quick, "a.jpg")...)
			cmd.Env = append(cmd.Env, apiKeyVariable+"="+c.variable)
			r := wait(t, cmd)
			if r.code != c.code || !strings.Contains(r.stderr, c.want) || (c.code == exitOK && !strings.Contains(r.stdout, `"results":[{`)) {
				t.Errorf("exit code %d, want %d: %s%s", r.code, c.code, r.stdout, r.stderr)
			}
			if strings.Contains(r.stdout+r.stderr, secret) {
				t.Error("the output has the key")
			}
		})
	}
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
