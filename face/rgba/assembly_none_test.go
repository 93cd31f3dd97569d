//go:build !amd64 || purego

package rgba

func setAssembly(bool) bool { return false }
