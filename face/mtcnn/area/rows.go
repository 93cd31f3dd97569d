package area

// rounding is how a mean is rounded to a gray level.
type rounding int

const (
	unrounded rounding = iota
	// halfEven rounds to a whole gray level, and halves to the even one.
	halfEven
	// halfUp rounds halves up, as OpenCV does if both sides are halved exactly.
	halfUp
)

// addRowsGo makes dst the sum of rows, 256 at most, that are stride bytes apart.
func addRowsGo(dst []uint16, src []uint8, stride, rows int) {
	clear(dst)
	for y := range rows {
		for i, v := range src[y*stride:][:len(dst)] {
			dst[i] += uint16(v)
		}
	}
}

// scaleRowGo makes pairs of outputs of RGBA pixels, or of sums of several rows of them. sums is
// memory for the sums of pixels from the start on, which may overflow: their differences do
// not.
func scaleRowGo[T uint8 | uint16](dst []float32, src []T, pairs []pair, sums []int32) {
	var r, g, b int32
	to := sums
	for from := src; len(from) >= 4 && len(to) >= 4; from, to = from[4:], to[4:] {
		to[0], to[1], to[2] = r, g, b
		r, g, b = r+int32(from[0]), g+int32(from[1]), b+int32(from[2])
	}
	to[0], to[1], to[2] = r, g, b
	for i := range pairs {
		p := &pairs[i]
		for k := range 2 {
			first, last := src[2*p.first[k]:][:3], src[2*p.last[k]:][:3]
			before, after := sums[2*p.first[k]+4:][:3], sums[2*p.last[k]:][:3]
			w0, w1, w2 := p.weights[0][4*k], p.weights[1][4*k], p.weights[2][4*k]
			out := dst[8*i+4*k:][:3]
			for c := range out {
				v := float32(w0 * float32(first[c]))
				v += float32(w1 * float32(after[c]-before[c]))
				v += float32(w2 * float32(last[c]))
				out[c] = v
			}
		}
	}
}

// addRowGo adds a row times its weight to a sum of rows.
func addRowGo(sum, row []float32, weight float32) {
	for i, v := range row[:len(sum)] {
		sum[i] += float32(weight * v)
	}
}

// storeGo rounds pixels of a sum of rows, normalizes them, and stores them with a distance of
// step.
func storeGo(dst, sum []float32, step, pixels int, r rounding) {
	for p := range pixels {
		from, to := sum[4*p:][:3], dst[p*step:][:3]
		for c, v := range from {
			switch r {
			case unrounded:
			case halfEven:
				// Above 2^23 a float32 has no fraction bits, so the processor rounds.
				const shift = 1 << 23
				v = float32(v+shift) - shift
			case halfUp:
				v = float32(int32(v + 0.5))
			}
			to[c] = normalize(v)
		}
	}
}
