package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// resources is what this process may use of its machine.
type resources struct {
	// memory is in bytes, or 0 if it is unknown. memoryFrom says what limits it.
	memory     int64
	memoryFrom string
	// cpus is a quota in cores, or 0 if there is none. cpusFrom says what sets it.
	cpus     float64
	cpusFrom string
}

// readResources reads the limits of this process's cgroups (version 1, 2 or both), or
// the memory of the machine if that is less. root is the directory that contains /proc
// and /sys; it differs from "/" only in tests. If there is an error, the result has
// what could be read.
//
// The limits of parent cgroups count too, if those are mounted.
// https://docs.kernel.org/admin-guide/cgroup-v2.html describes the files of version 2;
// admin-guide/cgroup-v1/memory.html and scheduler/sched-bwc.html describe those of
// version 1.
func readResources(root string) (resources, error) {
	var r resources
	proc, err := procfs.NewFS(filepath.Join(root, "proc"))
	if err != nil {
		return r, err
	}
	if m, err := proc.Meminfo(); err == nil && m.MemTotalBytes != nil {
		r.setMemory(*m.MemTotalBytes, "machine")
	}
	self, err := proc.Self()
	if err != nil {
		return r, err
	}
	groups, err := self.Cgroups()
	if err != nil {
		return r, err
	}
	mounts, err := self.MountInfo()
	if err != nil {
		return r, err
	}
	var errs []error
	for _, dir := range cgroupsAround(root, "memory", groups, mounts) {
		for _, file := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
			value, err := firstLine(dir, file)
			if value != "" && value != "max" {
				var limit uint64
				limit, err = strconv.ParseUint(value, 10, 64)
				if err == nil {
					r.setMemory(limit, "cgroup "+file)
				}
			}
			errs = append(errs, err)
		}
		// Version 1 reports the lowest limit here, including those of cgroups that are
		// not mounted.
		limit, err := hierarchicalLimit(dir)
		errs = append(errs, err)
		r.setMemory(limit, "cgroup hierarchical_memory_limit")
	}
	for _, dir := range cgroupsAround(root, "cpu", groups, mounts) {
		both, err := firstLine(dir, "cpu.max")
		errs = append(errs, err)
		quota, err := firstLine(dir, "cpu.cfs_quota_us")
		errs = append(errs, err)
		period, err := firstLine(dir, "cpu.cfs_period_us")
		errs = append(errs, err,
			r.setCPUs(strings.Fields(both), "cgroup cpu.max"),
			r.setCPUs(strings.Fields(quota+" "+period), "cgroup cpu.cfs_quota_us"))
	}
	return r, errors.Join(errs...)
}

// setMemory stores limit if it is the lowest so far.
func (r *resources) setMemory(limit uint64, from string) {
	if limit > 0 && limit < math.MaxInt64 && (r.memory == 0 || int64(limit) < r.memory) {
		r.memory, r.memoryFrom = int64(limit), from
	}
}

// setCPUs stores the quota if it is the lowest so far. fields are the quota and its
// period.
func (r *resources) setCPUs(fields []string, from string) error {
	if len(fields) < 2 || fields[0] == "max" || fields[0] == "-1" {
		return nil
	}
	quota, err := strconv.ParseUint(fields[0], 10, 63)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	period, err := strconv.ParseUint(fields[1], 10, 63)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if cpus := float64(quota) / float64(period); cpus > 0 && period > 0 && (r.cpus == 0 || cpus < r.cpus) {
		r.cpus, r.cpusFrom = cpus, from
	}
	return nil
}

// workers returns the number of workers for procs cores. It is at most the number of
// whole cores in the quota, because a worker on a part of a core would slow down the
// others.
func (r *resources) workers(procs int) int {
	if r.cpus == 0 {
		return procs
	}
	return max(1, min(procs, int(r.cpus)))
}

// cgroupsAround returns the directories of the process's cgroup for controller, and of
// its parents, that are mounted. If none is mounted, it returns the mount points,
// because in a container these often have the files of the process's own cgroup,
// whatever its path is.
func cgroupsAround(root, controller string, groups []procfs.Cgroup, mounts []*procfs.MountInfo) []string {
	var path string
	isMount := func(m *procfs.MountInfo) bool { return m.FSType == "cgroup2" }
	for _, g := range groups {
		if slices.Contains(g.Controllers, controller) { // version 1, which wins on systems with both
			path = g.Path
			isMount = func(m *procfs.MountInfo) bool {
				_, ok := m.SuperOptions[controller]
				return m.FSType == "cgroup" && ok
			}
			break
		}
		if g.HierarchyID == 0 {
			path = g.Path
		}
	}
	var dirs, points []string
	for _, m := range mounts {
		if !isMount(m) {
			continue
		}
		point := filepath.Join(root, m.MountPoint)
		points = append(points, point)
		rel, err := filepath.Rel(m.Root, path)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		dir := filepath.Join(point, rel)
		for ; dir != point; dir = filepath.Dir(dir) {
			dirs = append(dirs, dir)
		}
		dirs = append(dirs, point)
	}
	if dirs == nil {
		return points
	}
	return dirs
}

// firstLine returns the first line of a file, or "" if the file does not exist.
func firstLine(dir, file string) (string, error) {
	data, err := fs.ReadFile(os.DirFS(dir), file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line), err
}

// hierarchicalLimit returns hierarchical_memory_limit from memory.stat, or 0 if it is
// missing.
func hierarchicalLimit(dir string) (uint64, error) {
	data, err := fs.ReadFile(os.DirFS(dir), "memory.stat")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "hierarchical_memory_limit "); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, err
}
