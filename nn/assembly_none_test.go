//go:build !amd64 || purego

package nn

func setAssembly(bool) (was bool) { return false }

func setWide(bool) (was bool) { return false }
