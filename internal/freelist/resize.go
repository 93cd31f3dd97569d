package freelist

// Resize returns n undefined values, in the memory of b if they fit.
func Resize[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}
