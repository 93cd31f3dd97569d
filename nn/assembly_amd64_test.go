//go:build amd64 && !purego

package nn

func setAssembly(on bool) (was bool) {
	was, assembly = assembly, on
	return was
}

// setWide turns the vectors of AVX-512 on or off. They stay off where there are none.
func setWide(on bool) (was bool) {
	was, wide = wide, on && hasWide
	return was
}
