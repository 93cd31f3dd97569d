//go:build !amd64 || purego

package resample

func setAssembly(bool) bool { return false }
