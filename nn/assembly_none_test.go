//go:build !amd64 || purego

package nn

func setAssembly(bool) (was bool) { return false }
