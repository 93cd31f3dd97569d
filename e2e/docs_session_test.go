package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A session is the terminal in which the examples of one document are run: a shell that keeps its
// variables and its folder from block to block, and the servers that blocks start.
type session struct {
	t testing.TB
	// folder is where it runs: a copy of the repository, with images.
	folder string
	// private has the scripts, what they print, and the logs of servers, by the lines of the blocks.
	private string
	env     []string // additional variables

	cmd     *exec.Cmd
	scripts *os.File      // takes the paths of scripts, one on each line
	done    *bufio.Reader // has a line for each script that succeeded
	stderr  bytes.Buffer
	ended   bool // because a block failed

	ran []ranBlock
}

type ranBlock struct {
	block
	began time.Time
}

// serverAddress is where the server listens that a document has if it starts none.
const serverAddress = "localhost:8080"

// sampleCopies are the images in the folder, all of them copies of the sample.
var sampleCopies = []string{"photo.jpg", "one.jpg", "two.jpg", "photos/a.jpg", "photos/b.jpg", "more/c.jpg"}

// sessionProgram runs the scripts that it is told on file descriptor 3, in one shell. It ends with
// the first that fails. Servers are jobs, each a process group that an interrupt reaches.
const sessionProgram = `
declare -A docs_servers
docs_stop() { # ADDRESS
	kill -INT -- "-${docs_servers[$1]}" 2>/dev/null || true
	wait "${docs_servers[$1]}" || true
	unset "docs_servers[$1]"
}
docs_start() { # ADDRESS SCRIPT
	local status
	if [[ ${docs_servers[$1]:-} ]]; then docs_stop "$1"; fi
	set -m
	bash -euo pipefail "$2" </dev/null >"$2.log" 2>&1 &
	docs_servers[$1]=$!
	set +m
	while :; do
		status=$(curl -q --silent --output /dev/null --write-out '%{http_code}' "http://$1/readyz") || true
		case $status in 000 | 503) ;; *) return ;; esac
		kill -0 "${docs_servers[$1]}" 2>/dev/null || { cat "$2.log" >&2; return 1; }
		sleep 0.05
	done
}
docs_end() {
	local address
	for address in "${!docs_servers[@]}"; do docs_stop "$address"; done
}
trap docs_end EXIT
while IFS= read -r docs_script <&3; do
	. "$docs_script" </dev/null >"$docs_script.out" 2>"$docs_script.err" 3<&- 4>&-
	echo >&4
done
`

// ownNetwork is the command that runs another with a network of its own: there every port is free,
// and nothing outside can be reached. It is nil where the system does not allow that: then the
// examples need the ports that they name.
var ownNetwork = sync.OnceValue(func() []string {
	prefix := []string{"unshare", "--net"}
	if os.Geteuid() != 0 {
		prefix = append(prefix, "--map-root-user")
	}
	probe := append(prefix, "ip", "link", "set", "lo", "up")
	if exec.Command(probe[0], probe[1:]...).Run() != nil {
		return nil
	}
	return append(prefix, "bash", "-c", `ip link set lo up && exec "$@"`, "bash")
})

// ports is held by the session that uses the machine's ports.
var ports sync.Mutex

// newSession starts a session that can run the blocks, which are one document's.
func newSession(t testing.TB, blocks []block) *session {
	t.Helper()
	s := &session{t: t, folder: filepath.Join(t.TempDir(), "mien"), private: t.TempDir()}
	s.copyRepository()
	s.install(blocks)

	if ownNetwork() == nil {
		ports.Lock()
		t.Cleanup(ports.Unlock)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pagePatience)
	t.Cleanup(cancel)
	args := append(ownNetwork(), "bash", "-euo", "pipefail", "-c", sessionProgram)
	s.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	s.cmd.Dir = s.folder
	s.cmd.Env = s.environ()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The shell stops the servers, which have process groups of their own.
	s.cmd.Cancel = func() error { return syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) }
	s.cmd.WaitDelay = 10 * time.Second
	s.cmd.Stderr = &s.stderr
	s.connect()

	for _, b := range blocks {
		if b.mark == "server" {
			return s
		}
	}
	if _, err := s.run(block{doc: blocks[0].doc, language: "sh", code: "mien", mark: "server", argument: serverAddress}); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect starts the shell, with a pipe to it as file descriptor 3 and one from it as 4.
func (s *session) connect() {
	s.t.Helper()
	in, scripts, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	done, out, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.scripts, s.done = scripts, bufio.NewReader(done)
	s.cmd.ExtraFiles = []*os.File{in, out}
	err = s.cmd.Start()
	in.Close()
	out.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = s.end() // told already, unless the test has failed before
		done.Close()
	})
}

func (s *session) copyRepository() {
	s.t.Helper()
	const command = `mkdir -p "$1/photos" "$1/more"
tar --create --exclude=./.git --exclude=./.bin --exclude=node_modules --exclude=jars . | tar --extract --directory "$1"`
	run(s.t, nil, "bash", "-euo", "pipefail", "-c", command, "bash", s.folder).must(s.t)
	for _, name := range sampleCopies {
		s.put(filepath.Join(s.folder, name), sample.load(s.t))
	}
	if err := os.Symlink(filepath.Dir(nodeModule(s.t, "esbuild")), filepath.Join(s.folder, "node_modules")); err != nil {
		s.t.Fatal(err)
	}
}

// install prepares what the examples take to be installed.
func (s *session) install(blocks []block) {
	s.t.Helper()
	bin := filepath.Join(s.private, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for name, path := range map[string]string{"mien": binary, "python3": python} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, name := range []string{"buf", "curl", "grpcurl", "jq", "node", "go"} {
		tool(s.t, name)
	}
	// An answer that is not OK is a failure.
	s.put(filepath.Join(s.private, ".curlrc"), []byte("fail-with-body\nsilent\nshow-error\n"))
	// This fetches the modules, which cannot be fetched in the session.
	runIn(s.t, root, pagePatience, nil, nil, "go", "list", "-deps", "./cmd/server", "./cmd/client").must(s.t)

	for _, b := range blocks {
		if !b.runs() || !strings.Contains(b.code, "--model ") {
			continue
		}
		library, models := shelf(s.t)
		s.env = append(s.env, "MIEN_ONNXRUNTIME="+library)
		for name, file := range map[string]string{"yunet": "yunet_n_dynamic.onnx", "yunet-s": "yunet_s_dynamic.onnx"} {
			s.cache(name, filepath.Join(models, file))
		}
		return
	}
}

// cache puts the files of a known model where the server keeps what it has fetched.
func (s *session) cache(model, pattern string) {
	s.t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		s.t.Fatalf("no %s (%v)", pattern, err)
	}
	for _, file := range files {
		s.put(filepath.Join(s.private, "cache", "mien", "models", model, filepath.Base(file)), read(s.t, file))
	}
}

func (s *session) environ() []string {
	s.t.Helper()
	path := []string{filepath.Join(s.private, "bin"), filepath.Join(root, ".bin"), filepath.Dir(nodeModule(s.t, ".bin", "esbuild")), os.Getenv("PATH")}
	return append(append(environ(), s.env...),
		"PATH="+strings.Join(path, string(filepath.ListSeparator)),
		"CURL_HOME="+s.private,
		"XDG_CACHE_HOME="+filepath.Join(s.private, "cache"),
		"GOCACHE="+strings.TrimSpace(string(run(s.t, nil, "go", "env", "GOCACHE").must(s.t))),
		"GOPROXY=off",
		"MIEN_LOG_LEVEL=debug",
	)
}

// put writes a file, and makes its folder.
func (s *session) put(path string, data []byte) {
	s.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

// write writes the block to the file that its mark names.
func (s *session) write(b block) error {
	if !filepath.IsLocal(b.argument) {
		return b.failed("the file %q is not below the folder", b.argument)
	}
	s.put(filepath.Join(s.folder, b.argument), []byte(b.code))
	return nil
}

// run runs a block, and returns what it prints.
func (s *session) run(b block) ([]byte, error) {
	s.t.Helper()
	code, err := s.script(b)
	if err != nil {
		return nil, err
	}
	script := s.path(b, ".sh")
	s.put(script, []byte(code))
	s.ran = append(s.ran, ranBlock{b, time.Now()})
	_, err = fmt.Fprintln(s.scripts, script)
	if err == nil {
		_, err = s.done.ReadString('\n')
	}
	stdout, _ := os.ReadFile(script + ".out") // missing if the shell did not get so far
	if err != nil {
		s.ended = true
		err := s.end()
		stderr, _ := os.ReadFile(script + ".err")
		stderr = append(stderr, s.stderr.Bytes()...)
		return stdout, b.failed("%w\n--- stdout:\n%s\n--- stderr:\n%s", err, excerpt(stdout), excerpt(stderr))
	}
	if b.mark == "browser" {
		return logged(b, stdout)
	}
	return stdout, nil
}

// path returns the path of a private file for the block.
func (s *session) path(b block, extension string) string {
	return filepath.Join(s.private, strconv.Itoa(b.line)+extension)
}

// script returns the code that runs the block in the shell.
func (s *session) script(b block) (string, error) {
	s.t.Helper()
	code, err := s.command(b)
	switch {
	case err != nil:
		return "", err
	case b.mark == "server":
		file := s.path(b, ".server")
		s.put(file, []byte(code))
		return "docs_start " + quote(b.argument) + " " + quote(file) + "\n", nil
	case b.mark == "fails":
		file := s.path(b, ".fails")
		s.put(file, []byte(code))
		return "set +e\n(set -e; . " + quote(file) + ")\ndocs_code=$?\nset -e\n" +
			"if ((docs_code == 0)); then echo 'it succeeds, and is marked as one that fails' >&2; exit 1; fi\n", nil
	}
	return code, nil
}

// command returns the command that runs the block's code, which it writes to a file unless it is
// the shell's own.
func (s *session) command(b block) (string, error) {
	s.t.Helper()
	switch b.language {
	case "python":
		file := s.path(b, ".py")
		s.put(file, []byte(b.code))
		if strings.Contains(b.code, "tritonclient") || strings.Contains(b.code, "google.rpc") { // Debian's has neither
			return quote(filepath.Join(root, ".bin", "tritonclient", "bin", "python3")) + " " + quote(file), nil
		}
		return "python3 " + quote(file), nil
	case "go":
		return s.buildGo(b)
	case "js", "ts":
		code, err := s.bundle(b)
		if err != nil {
			return "", err
		}
		if b.mark == "browser" {
			file := s.path(b, ".json")
			s.put(file, marshal(s.t, map[string]any{"page": b.argument, "script": string(code), "messages": 1}))
			return "node " + quote(filepath.Join(root, "e2e", "browser", "browse.mjs")) + " <" + quote(file), nil
		}
		// Below the folder, where the packages are found.
		file := filepath.Join(s.folder, "example"+strconv.Itoa(b.line)+".mjs")
		s.put(file, code)
		return "node " + quote(file), nil
	}
	return b.code, nil
}

// buildGo makes a module of the program, which uses this repository as any module can. The command
// runs it in the shell's folder.
func (s *session) buildGo(b block) (string, error) {
	s.t.Helper()
	formatted, err := format.Source([]byte(b.code))
	if err != nil {
		return "", b.failed("%w", err)
	}
	if string(formatted) != b.code {
		return "", b.failed("it is not formatted; gofmt makes this of it:\n%s", formatted)
	}
	module := s.path(b, ".module")
	s.put(filepath.Join(module, "main.go"), []byte(b.code))
	s.put(filepath.Join(module, "go.mod"), fmt.Appendf(nil,
		"module example\n\ngo 1.26\n\nrequire github.com/mienproject/mien v0.0.0\n\nreplace github.com/mienproject/mien => %s\n", strconv.Quote(root)))
	s.put(filepath.Join(module, "go.sum"), read(s.t, filepath.Join(root, "go.sum")))
	return "go build -C " + quote(module) + " -mod=mod -o program\n" + quote(filepath.Join(module, "program")), nil
}

// bundle returns JavaScript as it is, and compiles TypeScript: for the browser with all that it
// imports, for Node.js without packages.
func (s *session) bundle(b block) ([]byte, error) {
	s.t.Helper()
	if b.language == "js" {
		return []byte(b.code), nil
	}
	file := filepath.Join(s.folder, "example"+strconv.Itoa(b.line)+".ts")
	s.put(file, []byte(b.code))
	args := []string{file, "--bundle", "--format=esm", "--target=es2022", "--log-level=warning"}
	if b.mark != "browser" {
		args = append(args, "--platform=node", "--packages=external")
	}
	r := run(s.t, nil, nodeModule(s.t, ".bin", "esbuild"), args...)
	if r.code != 0 {
		return nil, b.failed("it does not compile: %v", r)
	}
	return r.stdout, nil
}

// quote quotes a word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// logged returns what a script logged in a browser, given what browse.mjs prints.
func logged(b block, out []byte) ([]byte, error) {
	var seen struct {
		Messages []consoleMessage
		Errors   []string
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		return nil, b.failed("%w: %s", err, excerpt(out))
	}
	var printed []byte
	for _, m := range seen.Messages {
		switch {
		case m.Type == "log":
			printed = append(printed, m.Text+"\n"...)
		case strings.HasPrefix(m.Text, "Failed to load resource"): // such as the icon of a site; fetch throws
		default:
			seen.Errors = append(seen.Errors, m.Type+": "+m.Text)
		}
	}
	if len(seen.Errors) != 0 {
		return printed, b.failed("in the browser: %q", seen.Errors)
	}
	return printed, nil
}

// end ends the shell, which stops the servers. It returns an error unless all went well.
func (s *session) end() error {
	if s.cmd.ProcessState != nil {
		return nil // it has ended before, and that was told
	}
	s.scripts.Close()
	return s.cmd.Wait()
}

// refused returns, from the logs of the servers, the requests that were not answered as an example
// would have it, each with the block that sent it.
func (s *session) refused() error {
	s.t.Helper()
	var problems []error
	logs, err := filepath.Glob(filepath.Join(s.private, "*.log"))
	if err != nil {
		return err
	}
	for _, file := range logs {
		var listened, stopped bool
		for line := range bytes.SplitSeq(read(s.t, file), []byte("\n")) {
			var entry serverLogEntry
			if json.Unmarshal(line, &entry) != nil {
				continue // of another server
			}
			listened = listened || entry.Msg == "listening"
			stopped = stopped || entry.Msg == "stopped"
			if !entry.wrong() {
				continue
			}
			if b := s.at(entry.began()); b.mark != "fails" {
				problems = append(problems, b.failed("the server's log says: %s", line))
			}
		}
		if listened && !stopped {
			problems = append(problems, fmt.Errorf("a server did not stop in order: %s", excerpt(read(s.t, file))))
		}
	}
	return errors.Join(problems...)
}

// at returns the block that ran at a time.
func (s *session) at(moment time.Time) block {
	found := s.ran[0]
	for _, b := range s.ran {
		if b.began.Before(moment) {
			found = b
		}
	}
	return found.block
}

// A serverLogEntry is a line of the log of Mien, as docs/operations.md describes it.
type serverLogEntry struct {
	Time                  time.Time
	Level, Msg, Path      string
	Code                  string
	MS                    float64
	Status, Failed, Faces int
	Width                 int
	CORSRefused           string `json:"cors_refused"`
}

// began returns when the request began that the entry is about.
func (e serverLogEntry) began() time.Time {
	return e.Time.Add(-time.Duration(e.MS * float64(time.Millisecond)))
}

// wrong reports whether the entry tells of something that no example should bring about. All
// images have a face.
func (e serverLogEntry) wrong() bool {
	switch {
	case e.Level == "WARN" || e.Level == "ERROR" || e.Msg == "unknown fields are ignored":
		return true
	case e.Msg != "request" || e.Path == "/readyz" || e.Path == "/favicon.ico":
		return false // or what docs_start and browsers ask for
	}
	return e.Status >= 400 || (e.Code != "" && e.Code != "ok") || e.Failed > 0 || e.CORSRefused != "" || (e.Width > 0 && e.Faces == 0)
}
