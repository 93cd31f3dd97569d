package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A program is a running peer: all processes that have its mark in their environment.
type program struct {
	name    string
	port    int
	mark    string
	log     string // a file with all that it printed
	started time.Time
	process *exec.Cmd
	exited  chan struct{}
}

// markName is the variable with the mark of a program.
const markName = "PEER_MARK"

// kept returns the environment of this process without what would configure a peer.
func kept() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "MIEN_"), strings.HasPrefix(name, "OTEL_"), strings.HasPrefix(name, "OPENBLAS_"), name == "RUN_ENV", name == "PORT", name == "PATH":
		default:
			env = append(env, kv)
		}
	}
	return env
}

// launch starts a command with its output in a file.
func launch(name, folder, log, path string, env, command []string) (*program, error) {
	p := &program{name: name, mark: rand.Text(), log: log, exited: make(chan struct{})}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the program has it
	if path != "" {
		path += string(os.PathListSeparator)
	}
	p.process = exec.Command("env", command...) //nolint:gosec,noctx // the table has the commands; stop ends it. env looks up the command in PATH.
	p.process.Dir = folder
	p.process.Env = append(append(kept(), env...), markName+"="+p.mark, "PATH="+path+os.Getenv("PATH"))
	p.process.Stdout, p.process.Stderr = out, out
	p.started = time.Now()
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.process.Wait() // that it has ended is what counts
		close(p.exited)
	}()
	return p, nil
}

// ended returns an error if the program has ended by itself.
func (p *program) ended() error {
	select {
	case <-p.exited:
		text, _ := os.ReadFile(p.log) // what there is
		const shown = 2000
		return fmt.Errorf("%s ended: %v\n%s", p.name, p.process.ProcessState, text[max(0, len(text)-shown):])
	default:
		return nil
	}
}

// stop ends the program, and all of its processes that are left after a while.
func (p *program) stop() {
	_ = p.process.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(15 * time.Second):
	}
	for range 100 {
		left := p.processes()
		if len(left) == 0 {
			return
		}
		for _, id := range left {
			_ = syscall.Kill(id, syscall.SIGKILL) // it may have ended
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processes returns the ids of all processes of the program.
func (p *program) processes() []int {
	mark := []byte(markName + "=" + p.mark)
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	var ids []int
	for _, folder := range folders {
		env, err := os.ReadFile(filepath.Join(folder, "environ"))
		if err != nil || !bytes.Contains(env, mark) {
			continue // it ended, or is another user's
		}
		if id, err := strconv.Atoi(filepath.Base(folder)); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// A usage is what the processes of a program use.
type usage struct {
	cpu float64 // seconds since the start
	pss float64 // bytes, with a share of what several processes use
}

func (p *program) usage() usage {
	var u usage
	for _, id := range p.processes() {
		u.cpu += cpuSeconds(id)
		u.pss += proportional(id)
	}
	return u
}

// cpuSeconds returns the time of a process, and of its children that have ended. See
// proc_pid_stat(5); a tick is a hundredth of a second on Linux.
func cpuSeconds(id int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return 0 // it ended
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const utime, cstime = 11, 14
	ticks := 0
	for i := utime; i <= cstime && i < len(fields); i++ {
		n, _ := strconv.Atoi(fields[i]) // the kernel writes numbers
		ticks += n
	}
	return float64(ticks) / 100
}

// proportional returns the PSS of a process.
func proportional(id int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", id))
	if err != nil {
		return 0 // it ended
	}
	_, rest, _ := strings.Cut(string(text), "\nPss:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64) // the kernel writes numbers
	return kib * 1024
}

// watch takes the usage every while until stop is called, which returns the highest PSS.
func (p *program) watch(every time.Duration) (stop func() float64) {
	done, result := make(chan struct{}), make(chan float64)
	go func() {
		highest := 0.0
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				result <- highest
				return
			case <-tick.C:
				highest = max(highest, p.usage().pss)
			}
		}
	}()
	return func() float64 {
		close(done)
		return max(<-result, p.usage().pss)
	}
}

// settle waits until the program does nothing, at most for a while.
func (p *program) settle(ctx context.Context, patience time.Duration) error {
	const every = 500 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		before := p.usage().cpu
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
		if p.usage().cpu-before < 0.05*every.Seconds() {
			break
		}
	}
	return p.ended()
}

// freePort returns a port that nobody listened on a moment ago.
func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }() // it has accepted nothing
	return l.Addr().(*net.TCPAddr).Port, nil
}

// size returns the bytes of files and of all files in folders, each file once.
func size(paths ...string) (int64, error) {
	total := int64(0)
	type place struct{ device, file uint64 }
	seen := map[place]bool{}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				if at := (place{s.Dev, s.Ino}); seen[at] {
					return nil
				} else {
					seen[at] = true
				}
			}
			total += info.Size()
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}
