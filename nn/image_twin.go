package nn

// imageInputsGo computes Bᵀ d B of tiles, which are two pixels apart.
func imageInputsGo(dst, src []float32, row, tiles int) {
	for t := range tiles {
		for c := range 3 {
			input2Go(dst[t*imageTile+c:], src[2*3*t+c:], row, 3, 3)
		}
	}
}

// imageOutputsGo computes the sums of products of tiles, Aᵀ m A of them, and multiplies what is
// negative by the slope.
func imageOutputsGo(dst, tiles, weights, after []float32, row, pixel, groups int) {
	for t := range groups * imageTiles {
		v := (*[imageTile]float32)(tiles[t*imageTile:])
		for c := range 8 {
			var y [2][2]float32
			for i := range y {
				y[i] = [2]float32{after[c], after[c]}
			}
			for j := range 4 {
				var m [4]float32
				for i := range m {
					k := 3 * (4*i + j)
					w := weights[8*k+c:]
					m[i] = float32(v[k]*w[0]) + float32(v[k+1]*w[8]) + float32(v[k+2]*w[16])
				}
				for i, s := range [2]float32{m[0] + m[1] + m[2], m[1] - m[2] - m[3]} {
					switch j {
					case 0:
						y[i][0] += s
					case 1:
						y[i][0] += s
						y[i][1] += s
					case 2:
						y[i][0] += s
						y[i][1] -= s
					case 3:
						y[i][1] -= s
					}
				}
			}
			for i := range y {
				to := dst[i*row+2*t*pixel+c:]
				to[0], to[pixel] = sloped(y[i][0], after[8+c]), sloped(y[i][1], after[8+c])
			}
		}
	}
}
