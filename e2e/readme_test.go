package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readmeBlocks are the code blocks of README.md that are run here. The line
// before such a block is <!-- e2e: NAME -->.
var readmeBlocks = []string{"server", "curl", "json", "buf", "grpcurl", "client", "fetch"}

var (
	marker = regexp.MustCompile(`^<!-- e2e: ([a-z]+) -->$`)
	fence  = regexp.MustCompile("^(`{3,})[a-z]*$")
)

// markedBlocks returns the fenced code blocks that have a marker, by name.
func markedBlocks(markdown string) (map[string]string, error) {
	blocks := map[string]string{}
	lines := strings.Split(markdown, "\n")
	for i := 0; i < len(lines); i++ {
		m := marker.FindStringSubmatch(lines[i])
		if m == nil {
			if strings.Contains(lines[i], "e2e:") {
				return nil, fmt.Errorf("line %d: %q is no marker, and looks like one", i+1, lines[i])
			}
			continue
		}
		name := m[1]
		if _, ok := blocks[name]; ok {
			return nil, fmt.Errorf("line %d: a second block %q", i+1, name)
		}
		if i++; i >= len(lines) || !fence.MatchString(lines[i]) {
			return nil, fmt.Errorf("line %d: no code block after the marker of %q", i+1, name)
		}
		closing, begin := fence.FindStringSubmatch(lines[i])[1], i+1
		for i++; i < len(lines) && lines[i] != closing; i++ {
		}
		if i >= len(lines) {
			return nil, fmt.Errorf("the block %q does not end", name)
		}
		blocks[name] = strings.Join(lines[begin:i], "\n")
	}
	return blocks, nil
}

// What README.md tells people to type works as it stands there.
func TestReadme(t *testing.T) {
	readme := string(read(t, filepath.Join(root, "README.md")))
	blocks, err := markedBlocks(readme)
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	for _, name := range readmeBlocks {
		if strings.TrimSpace(blocks[name]) == "" {
			t.Errorf("README.md has no code block marked <!-- e2e: %s -->", name)
		}
	}
	for name := range blocks {
		if !slices.Contains(readmeBlocks, name) {
			t.Errorf("README.md has a block %q that nothing here runs", name)
		}
	}
	if t.Failed() {
		return
	}

	t.Run("shell", func(t *testing.T) {
		serveReadme(t, blocks["server"])
		for _, name := range []string{"curl", "json", "buf", "grpcurl", "client"} {
			t.Run(name, func(t *testing.T) {
				out := run(t, nil, "bash", "-euo", "pipefail", "-c", blocks[name]).must(t)
				var a answer
				if err := json.Unmarshal(out, &a); err != nil {
					t.Fatalf("it prints no JSON: %v\n%s", err, excerpt(out))
				}
				sample.checkFaces(t, a.Results)
			})
		}
	})
	t.Run("fetch", func(t *testing.T) {
		// The page is of another origin. README.md names the command that allows it
		// in the running text.
		command := regexp.MustCompile("`(" + regexp.QuoteMeta(blocks["server"]) + " --cors-origin [^`]+)`").FindStringSubmatch(readme)
		if command == nil {
			t.Fatalf("README.md does not have `%s --cors-origin ...`", blocks["server"])
		}
		serveReadme(t, command[1])

		// Stands for `python3 -m http.server 8000`, which README.md has people run.
		files := http.NewServeMux()
		files.Handle("/", http.FileServer(http.Dir(root)))
		files.HandleFunc("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		site := &http.Server{Handler: files, ReadHeaderTimeout: patience}
		l := listen(t, "localhost:8000")
		go func() { _ = site.Serve(l) }() // until Close
		defer site.Close()

		logged, others := browse(t, "http://localhost:8000/", blocks["fetch"], 1)
		var faces []face
		if err := json.Unmarshal(logged, &faces); err != nil {
			t.Fatalf("it logs no results: %v\n%s", err, excerpt(logged))
		}
		sample.checkFaces(t, faces)
		checkConsole(t, others)
	})
}

// listen takes an address that README.md names, or that is the server's default.
func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		refuse := t.Skipf
		if inCI() {
			refuse = t.Fatalf
		}
		refuse("README.md takes it that %s is free, and it is not: %v", addr, err)
	}
	t.Cleanup(func() { _ = l.Close() }) // closed already by whoever served on it
	return l
}

// serveReadme runs the command that starts the server, until the test ends.
func serveReadme(t testing.TB, command string) {
	t.Helper()
	if strings.Contains(strings.TrimSpace(command), "\n") {
		t.Fatalf("the block server has more than one line:\n%s", command)
	}
	for _, addr := range []string{":8080", "127.0.0.1:9464"} {
		_ = listen(t, addr).Close() // it was free
	}

	cmd := exec.Command("bash", "-euo", "pipefail", "-c", command)
	cmd.Dir = root
	cmd.Env = environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		// As Ctrl-C does. The exit code is that of go run, which has been
		// interrupted; the log tells how the server ended.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		select {
		case <-exited:
			if !strings.Contains(output.String(), `"msg":"stopped"`) {
				t.Errorf("%s did not stop in order", command)
			}
		case <-time.After(patience):
			t.Errorf("%s does not stop", command)
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-exited
		}
		if t.Failed() {
			t.Logf("%s\n%s", command, output.String())
		}
	})

	// It may have to be compiled first.
	for began := time.Now(); time.Since(began) < 5*patience; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s ended: %v", command, err)
		default:
		}
		res, err := http.Get("http://localhost:8080/readyz")
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatalf("%s is not ready at http://localhost:8080/readyz", command)
}
