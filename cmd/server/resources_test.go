package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestResources checks that the limits of cgroups are read from files as kernels
// present them. testdata has the files of Linux 6.1 for a process in the cgroup of a
// container, of a pod that has the limits, and without limits: with the cgroup's own
// files at the mount point, as in a container, or with those of the host.
func TestResources(t *testing.T) {
	const machine = 1_473_588 << 10
	for _, c := range []struct {
		name string
		want resources
	}{
		{"v1-docker", resources{512 << 20, "cgroup memory.limit_in_bytes", .5, "cgroup cpu.cfs_quota_us"}},
		// Parents of a container's cgroup in version 1 are visible only for memory.
		{"v1-pod", resources{256 << 20, "cgroup hierarchical_memory_limit", 0, ""}},
		{"v1-pod-host", resources{256 << 20, "cgroup hierarchical_memory_limit", 1.5, "cgroup cpu.cfs_quota_us"}},
		{"v1-none", resources{machine, "machine", 0, ""}},
		{"v2-docker", resources{512 << 20, "cgroup memory.max", .5, "cgroup cpu.max"}},
		{"v2-pod", resources{256 << 20, "cgroup memory.max", 1.5, "cgroup cpu.max"}},
		{"v2-systemd", resources{768 << 20, "cgroup memory.high", 3, "cgroup cpu.max"}},
		{"v2-none", resources{machine, "machine", 0, ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readResources(recorded(t, c.name))
			if err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// recorded returns a copy of the files in testdata/cgroup, with the link that /proc
// has.
func recorded(t *testing.T, name string) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "root")
	if err := os.CopyFS(root, os.DirFS(filepath.Join("testdata/cgroup", name))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("1", filepath.Join(root, "proc/self")); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestUnreadableResources checks that readable limits are used, and that the others are
// reported as errors.
func TestUnreadableResources(t *testing.T) {
	for name, spoil := range map[string]func(root string) error{
		"no /proc":   func(root string) error { return os.RemoveAll(filepath.Join(root, "proc")) },
		"no process": func(root string) error { return os.RemoveAll(filepath.Join(root, "proc/1")) },
		"no number": func(root string) error {
			return os.WriteFile(filepath.Join(root, "sys/fs/cgroup/memory.max"), []byte("512M\n"), 0o600)
		},
		"no quota": func(root string) error {
			return os.WriteFile(filepath.Join(root, "sys/fs/cgroup/cpu.max"), []byte("half 100000\n"), 0o600)
		},
		"no period": func(root string) error {
			return os.WriteFile(filepath.Join(root, "sys/fs/cgroup/cpu.max"), []byte("50000 -\n"), 0o600)
		},
		"no cgroup": func(root string) error {
			return os.WriteFile(filepath.Join(root, "proc/1/cgroup"), []byte("nonsense\n"), 0o600)
		},
		"no mounting": func(root string) error {
			return os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), []byte("nonsense\n"), 0o600)
		},
	} {
		root := recorded(t, "v2-docker")
		if err := spoil(root); err != nil {
			t.Fatal(err)
		}
		if r, err := readResources(root); err == nil {
			t.Errorf("%s: %+v without an error", name, r)
		}
	}
	// Controllers that are not enabled have no files, and a period of 0 means no quota.
	root := recorded(t, "v2-docker")
	for file, content := range map[string]string{"memory.max": "", "memory.high": "", "cpu.max": "50000 0\n"} {
		path := filepath.Join(root, "sys/fs/cgroup", file)
		err := os.Remove(path)
		if content != "" {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if r, err := readResources(root); err != nil || r.memoryFrom != "machine" || r.cpus != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWorkersOfAQuota(t *testing.T) {
	for _, c := range []struct {
		cpus        float64
		procs, want int
	}{{0, 8, 8}, {.1, 2, 1}, {.5, 2, 1}, {1, 2, 1}, {1.5, 2, 1}, {2, 2, 2}, {2.5, 3, 2}, {64, 8, 8}} {
		if got := (&resources{cpus: c.cpus}).workers(c.procs); got != c.want {
			t.Errorf("%v CPUs, %d cores: %d workers, want %d", c.cpus, c.procs, got, c.want)
		}
	}
}

// FuzzResources checks that no content of the files makes readResources panic.
func FuzzResources(f *testing.F) {
	f.Add("0::/\n", "28 27 0:21 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "max\n", "50000 100000\n", "hierarchical_memory_limit 1\n")
	f.Add("2:cpu,cpuacct:/a\n1:memory:/../b\n", "36 31 0:23 /a /sys/fs/cgroup rw - cgroup cgroup rw,memory,cpu\n", "18446744073709551615\n", "-1", "x")
	f.Fuzz(func(t *testing.T, group, mounts, memory, cpu, stat string) {
		root := t.TempDir()
		for path, content := range map[string]string{
			"proc/1/cgroup": group, "proc/1/mountinfo": mounts, "sys/fs/cgroup/memory.max": memory, "sys/fs/cgroup/memory.limit_in_bytes": memory,
			"sys/fs/cgroup/cpu.max": cpu, "sys/fs/cgroup/cpu.cfs_quota_us": cpu, "sys/fs/cgroup/cpu.cfs_period_us": cpu, "sys/fs/cgroup/memory.stat": stat,
		} {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("1", filepath.Join(root, "proc/self")); err != nil {
			t.Fatal(err)
		}
		r, _ := readResources(root)
		if r.memory < 0 || r.cpus < 0 || r.workers(4) < 1 || r.workers(4) > 4 {
			t.Errorf("%+v", r)
		}
	})
}
