//go:build amd64 && !purego

package nn

func setAssembly(on bool) (was bool) {
	was, assembly = assembly, on
	return was
}
