package nn

// denseFloatsGo computes tiles of pixels of a block of outputs: the sums of products, of which
// negative ones are multiplied by the slope.
func denseFloatsGo(dst, src []float32, places []int32, taps []int, weights, after []float32, width, perTap, step, tiles int) {
	for p := 0; p < tile*tiles; p += 2 {
		x, y := src[places[p]:], src[places[p+1]:]
		for c := 0; c < width; c += 4 {
			bias, slope := (*[4]float32)(after[c:]), (*[4]float32)(after[width+c:])
			a0, a1, a2, a3 := bias[0], bias[1], bias[2], bias[3]
			b0, b1, b2, b3 := a0, a1, a2, a3
			at := c
			for _, tap := range taps {
				x := x[tap:][:perTap]
				y := y[tap:][:len(x)]
				for k, u := range x {
					v, q := y[k], weights[at:][:4]
					a0 += float32(u * q[0])
					b0 += float32(v * q[0])
					a1 += float32(u * q[1])
					b1 += float32(v * q[1])
					a2 += float32(u * q[2])
					b2 += float32(v * q[2])
					a3 += float32(u * q[3])
					b3 += float32(v * q[3])
					at += width
				}
			}
			out := (*[4]float32)(dst[p*step+c:])
			out[0], out[1], out[2], out[3] = sloped(a0, slope[0]), sloped(a1, slope[1]), sloped(a2, slope[2]), sloped(a3, slope[3])
			out = (*[4]float32)(dst[(p+1)*step+c:])
			out[0], out[1], out[2], out[3] = sloped(b0, slope[0]), sloped(b1, slope[1]), sloped(b2, slope[2]), sloped(b3, slope[3])
		}
	}
}

// sloped multiplies a negative sum. It never returns a zero with a sign.
func sloped(sum, slope float32) float32 {
	if sum > 0 {
		return sum
	}
	return float32(sum*slope) + 0
}

func poolFloatsGo(dst []float32, rows *[3][]float32, side int, columns [2]int, pixel, pixels int) {
	offsets := [3]int{0, columns[0], columns[1]}
	for p := range pixels {
		out := dst[p*pixel:][:pixel]
		at := 2 * p * pixel
		copy(out, rows[0][at:])
		for _, row := range rows[:side] {
			for _, offset := range offsets[:side] {
				for c, v := range row[at+offset:][:pixel] {
					if !(out[c] > v) {
						out[c] = v
					}
				}
			}
		}
	}
}
