package modelstore_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mienproject/mien/modelstore"
)

func init() {
	limitFileSize = func(n uint64) error {
		// Otherwise the signal ends the process.
		signal.Ignore(syscall.SIGXFSZ)
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n})
	}
}

// mount mounts a file system in memory at dir.
func mount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("only root can mount file systems: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if flags&syscall.MS_REMOUNT == 0 {
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	p := publish(t, whole)
	s := p.store(t)
	mount(t, s.Dir, 0, "size=64k")
	_, err := s.Fetch(t.Context(), "small")
	if !errors.Is(err, modelstore.ErrCache) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ErrCache and ENOSPC", err)
	}
	for _, want := range []string{"no space left", s.Dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q in it", err, want)
		}
	}
	if n := largest(s.Dir); n > 0 {
		t.Errorf("%d bytes were left on the full disk", n)
	}
	mount(t, s.Dir, syscall.MS_REMOUNT, "size=1m")
	path, err := s.Fetch(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	check(t, path, content)
}

// Every user can limit the size of files, which is not the same as a full disk.
func TestFileSizeLimit(t *testing.T) {
	p := publish(t, whole)
	s := p.store(t)
	out, err := command(t, s, 64<<10).Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "cannot be kept in the cache: ") || !strings.Contains(string(out), "file too large") {
		t.Fatalf("%v: %s", err, out)
	}
	if n := largest(s.Dir); n > 0 {
		t.Errorf("%d bytes were left", n)
	}
	path, err := s.Fetch(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	check(t, path, content)
}

// readOnly makes dir read-only.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() == 0 {
		// Permissions do not stop root, but a read-only file system does.
		mount(t, dir, syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
		return
	}
	chmod := func(mode os.FileMode) {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, mode)
			}
			return err
		})
	}
	chmod(0o555)
	t.Cleanup(func() { chmod(0o755) })
}

func TestReadOnlyFolder(t *testing.T) {
	p := publish(t, whole)
	s := p.store(t)
	if os.Getuid() == 0 {
		mount(t, s.Dir, 0, "size=1m")
	}
	t.Run("warm", func(t *testing.T) {
		if _, err := s.Fetch(t.Context(), "small"); err != nil {
			t.Fatal(err)
		}
		readOnly(t, s.Dir)
		path, err := s.Fetch(t.Context(), "small")
		if err != nil {
			t.Fatal(err)
		}
		check(t, path, content)
	})
	t.Run("cold", func(t *testing.T) {
		readOnly(t, s.Dir)
		cold := *s
		cold.Models = []modelstore.Model{{Name: "other", Files: s.Models[0].Files}}
		_, err := cold.Fetch(t.Context(), "other")
		if !errors.Is(err, modelstore.ErrCache) {
			t.Fatalf("error %v, want ErrCache", err)
		}
		for _, want := range []string{`model "other"`, s.Dir} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q, want %q in it", err, want)
			}
		}
	})
	if n := len(p.asked()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}
