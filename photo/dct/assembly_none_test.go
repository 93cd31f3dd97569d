//go:build !amd64 || purego

package dct

func setAssembly(bool) bool { return false }
