package nn

// inputGo computes Bᵀ d B of tiles, which are side pixels apart. Position p of a tile is in the
// p-th plane of dst.
func (f *winograd) inputGo(dst, src []float32, row, pixel, plane, tiles int) {
	input := input4Go
	if f.side == 2 {
		input = input2Go
	}
	for t := range tiles {
		for c := range pixel {
			input(dst[t*pixel+c:], src[f.side*t*pixel+c:], row, pixel, plane)
		}
	}
}

// input2Go computes one channel of a tile for a side of 2.
func input2Go(dst, src []float32, row, pixel, plane int) {
	var v [4][4]float32 // Bᵀ d
	for j := range 4 {
		from := src[j*pixel:]
		v[0][j], v[1][j], v[2][j], v[3][j] = input2(from[0], from[row], from[2*row], from[3*row])
	}
	for i, d := range v {
		to := dst[4*i*plane:]
		to[0], to[plane], to[2*plane], to[3*plane] = input2(d[0], d[1], d[2], d[3])
	}
}

// input2 computes Bᵀ d.
func input2(d0, d1, d2, d3 float32) (float32, float32, float32, float32) {
	return d0 - d2, d1 + d2, d2 - d1, d1 - d3
}

// input4Go computes one channel of a tile for a side of 4.
func input4Go(dst, src []float32, row, pixel, plane int) {
	var v [6][6]float32 // Bᵀ d
	for j := range 6 {
		var d [6]float32
		for i := range d {
			d[i] = src[i*row+j*pixel]
		}
		for i, u := range input4(&d) {
			v[i][j] = u
		}
	}
	for i := range v {
		for j, u := range input4(&v[i]) {
			dst[(6*i+j)*plane] = u
		}
	}
}

// input4 computes Bᵀ d. Products are with powers of 2, and therefore exact.
func input4(d *[6]float32) [6]float32 {
	p, q, r, s := d[4]-float32(4*d[2]), d[3]-float32(4*d[1]), d[4]-d[2], d[3]-d[1]
	return [6]float32{float32(4*(d[0]-d[2])) + r, p + q, p - q, r + (s + s), r - (s + s), d[5] - d[3] - float32(4*s)}
}

// tileProductsGo computes start + src · weights of tiles.
func tileProductsGo(dst, src, weights, start []float32, srcTile, dstTile, blocks int) {
	width := len(start)
	values := len(weights) / width
	for p := 0; p < tile*blocks; p += 2 {
		x := src[p*srcTile:][:values]
		y := src[(p+1)*srcTile:][:len(x)]
		for c := 0; c < width; c += 4 {
			bias := (*[4]float32)(start[c:])
			a0, a1, a2, a3 := bias[0], bias[1], bias[2], bias[3]
			b0, b1, b2, b3 := a0, a1, a2, a3
			at := c
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
			*(*[4]float32)(dst[p*dstTile+c:]) = [4]float32{a0, a1, a2, a3}
			*(*[4]float32)(dst[(p+1)*dstTile+c:]) = [4]float32{b0, b1, b2, b3}
		}
	}
}

// outputGo computes Aᵀ m A of tiles, and multiplies what is negative by the slope.
func (f *winograd) outputGo(dst, src []float32, plane, row, tiles int) {
	output := output4Go
	if f.side == 2 {
		output = output2Go
	}
	pixel := len(f.slope)
	for t := range tiles {
		for c, slope := range f.slope {
			output(dst[f.side*t*pixel+c:], src[t*pixel+c:], slope, plane, row, pixel)
		}
	}
}

// output2Go computes one channel of a tile for a side of 2.
func output2Go(dst, src []float32, slope float32, plane, row, pixel int) {
	var v [2][4]float32 // Aᵀ m
	for j := range 4 {
		from := src[j*plane:]
		v[0][j], v[1][j] = output2(from[0], from[4*plane], from[8*plane], from[12*plane])
	}
	for i, m := range v {
		a, b := output2(m[0], m[1], m[2], m[3])
		dst[i*row], dst[i*row+pixel] = sloped(a, slope), sloped(b, slope)
	}
}

// output2 computes Aᵀ m.
func output2(m0, m1, m2, m3 float32) (float32, float32) { return m1 + m2 + m0, m1 - m2 - m3 }

// output4Go computes one channel of a tile for a side of 4.
func output4Go(dst, src []float32, slope float32, plane, row, pixel int) {
	var v [4][6]float32 // Aᵀ m
	for j := range 6 {
		var m [6]float32
		for i := range m {
			m[i] = src[(6*i+j)*plane]
		}
		for i, u := range output4(&m) {
			v[i][j] = u
		}
	}
	for i := range v {
		for j, u := range output4(&v[i]) {
			dst[i*row+j*pixel] = sloped(u, slope)
		}
	}
}

// output4 computes Aᵀ m.
func output4(m *[6]float32) [4]float32 {
	a, b, c, d := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [4]float32{a + m[0] + c, b + (d + d), a + float32(4*c), b + float32(8*d) + m[5]}
}
