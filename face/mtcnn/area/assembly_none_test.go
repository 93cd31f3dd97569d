//go:build !amd64 || purego

package area

func setAssembly(bool) bool { return false }
