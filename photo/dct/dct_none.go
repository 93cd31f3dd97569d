//go:build !amd64 || purego

package dct

func inverse(*[64]int32, []byte, int) bool { return false }
