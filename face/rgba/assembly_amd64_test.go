//go:build amd64 && !purego

package rgba

// setAssembly turns the assembly on or off, and returns what it was.
func setAssembly(on bool) bool {
	was := assembly
	assembly = on
	return was
}
