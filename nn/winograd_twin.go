package nn

// tilesOfGo computes Bᵀ d B of tiles, which are two pixels apart. Position p of a tile is in
// the p-th plane of dst.
func tilesOfGo(dst, src []float32, row, pixel, plane, tiles int) {
	for t := range tiles {
		for c := range pixel {
			var v [4][4]float32 // Bᵀ d
			for j := range 4 {
				from := src[(2*t+j)*pixel+c:]
				d0, d1, d2, d3 := from[0], from[row], from[2*row], from[3*row]
				v[0][j], v[1][j], v[2][j], v[3][j] = d0-d2, d1+d2, d2-d1, d1-d3
			}
			to := dst[t*pixel+c:]
			for i := range v {
				a, b, c, d := v[i][0], v[i][1], v[i][2], v[i][3]
				to[(4*i)*plane], to[(4*i+1)*plane], to[(4*i+2)*plane], to[(4*i+3)*plane] = a-c, b+c, c-b, b-d
			}
		}
	}
}

// tileProductsGo computes start + src · weights of tiles.
func tileProductsGo(dst, src, weights, start []float32, srcTile, dstTile, blocks int) {
	width := len(start)
	values := len(weights) / width
	for p := 0; p < tile*blocks; p += 2 {
		x, y := src[p*srcTile:][:values], src[(p+1)*srcTile:][:values]
		for c := 0; c < width; c += 4 {
			bias := (*[4]float32)(start[c:])
			a0, a1, a2, a3 := bias[0], bias[1], bias[2], bias[3]
			b0, b1, b2, b3 := a0, a1, a2, a3
			w := weights[c:]
			for k, u := range x {
				v, q := y[k], (*[4]float32)(w)
				a0 += float32(u * q[0])
				b0 += float32(v * q[0])
				a1 += float32(u * q[1])
				b1 += float32(v * q[1])
				a2 += float32(u * q[2])
				b2 += float32(v * q[2])
				a3 += float32(u * q[3])
				b3 += float32(v * q[3])
				w = w[min(width, len(w)):]
			}
			*(*[4]float32)(dst[p*dstTile+c:]) = [4]float32{a0, a1, a2, a3}
			*(*[4]float32)(dst[(p+1)*dstTile+c:]) = [4]float32{b0, b1, b2, b3}
		}
	}
}

// mapOfGo computes Aᵀ m A of tiles, and multiplies what is negative by the slope.
func mapOfGo(dst, src, slope []float32, plane, row, tiles int) {
	pixel := len(slope)
	for t := range tiles {
		for c, slope := range slope {
			from := src[t*pixel+c:]
			var s [2][4]float32 // Aᵀ m
			for j := range 4 {
				m0, m1, m2, m3 := from[j*plane], from[(4+j)*plane], from[(8+j)*plane], from[(12+j)*plane]
				s[0][j], s[1][j] = m1+m2+m0, m1-m2-m3
			}
			for i := range s {
				to := dst[2*t*pixel+i*row+c:]
				to[0] = sloped(s[i][1]+s[i][2]+s[i][0], slope)
				to[pixel] = sloped(s[i][1]-s[i][2]-s[i][3], slope)
			}
		}
	}
}
