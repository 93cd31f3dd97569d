package main

import (
	"fmt"
	"hash/fnv"
	"os"
	"strconv"
	"strings"
)

// indexVariable has the index of a pod in an Indexed Job of Kubernetes.
const indexVariable = "JOB_COMPLETION_INDEX"

// shard is a part of the input: the index-th of count, counted from 0. The zero value is all of
// it.
type shard struct {
	index, count uint64
}

// parseShard reads I/N, or N with the index of an Indexed Job.
func parseShard(s string) (shard, error) {
	if s == "" {
		return shard{}, nil
	}
	index, count, both := strings.Cut(s, "/")
	if !both {
		index, count = os.Getenv(indexVariable), s
		if index == "" {
			return shard{}, fmt.Errorf("--shard: %q is not a share: write it as I/N with I from 0 to N-1, or N alone in a pod that has %s", s, indexVariable)
		}
	}
	i, err := strconv.ParseUint(index, 10, 32)
	n, err2 := strconv.ParseUint(count, 10, 32)
	if err != nil || err2 != nil || i >= n {
		return shard{}, fmt.Errorf("--shard: share %s of %s does not exist: I is a number from 0 to N-1", index, count)
	}
	return shard{i, n}, nil
}

// has reports whether a file belongs to the share. That depends on its name alone, and not on
// what other files there are.
func (s shard) has(name string) bool {
	if s.count <= 1 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	// The low bits of FNV are as good as those of its last byte.
	sum := h.Sum64()
	return (sum^sum>>32)%s.count == s.index
}
