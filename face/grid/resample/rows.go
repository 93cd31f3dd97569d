package resample

// scaleGo interpolates between each first input and the one after it.
func scaleGo(out []float32, src []uint8, first []int32, weight []float32) {
	weight = weight[:len(out)]
	for x, f := range first[:len(out)] {
		pair := src[f:][:2]
		left := float32(pair[0])
		out[x] = left + float32((float32(pair[1])-left)*weight[x])
	}
}

// blendGo interpolates between two rows.
func blendGo(out, upper, lower []float32, weight float32) {
	upper, lower = upper[:len(out)], lower[:len(out)]
	for x := range out {
		out[x] = upper[x] + float32((lower[x]-upper[x])*weight)
	}
}

// Contributions of chroma, from the standard JFIF (ITU-T T.871, section 7).
const (
	redOfCr   = 1.402
	greenOfCb = -0.344136
	greenOfCr = 0.714136 // subtracted
	blueOfCb  = 1.772
)

// setGo interpolates between two rows of Cb and of Cr, and multiplies.
func (c Chroma) setGo(cb, cbBelow, cr, crBelow []float32, weight float32) {
	for x := range c.Red {
		cb := cb[x] + float32((cbBelow[x]-cb[x])*weight) - 128
		cr := cr[x] + float32((crBelow[x]-cr[x])*weight) - 128
		c.Red[x] = redOfCr * cr
		c.Green[x] = float32(greenOfCb*cb) - float32(greenOfCr*cr)
		c.Blue[x] = blueOfCb * cb
	}
}

// colorsGo interpolates between two rows of luminance, and adds the contributions.
func (c Chroma) colorsGo(red, green, blue, upper, lower []float32, weight float32) {
	toGreen, toBlue := c.Green, c.Blue
	for i, toRed := range c.Red {
		toGreen, toBlue := toGreen[i], toBlue[i]
		above, below := upper[2*i:][:2], lower[2*i:][:2]
		left, right := above[0]+float32((below[0]-above[0])*weight), above[1]+float32((below[1]-above[1])*weight)
		out := blue[2*i:][:2]
		out[0], out[1] = clamp(left+toBlue), clamp(right+toBlue)
		out = green[2*i:][:2]
		out[0], out[1] = clamp(left+toGreen), clamp(right+toGreen)
		out = red[2*i:][:2]
		out[0], out[1] = clamp(left+toRed), clamp(right+toRed)
	}
}

// clamp limits v to the range 0 to 255, with branches that are almost always predicted.
// min and max, which also handle signed zeros and NaN, take four times as long.
func clamp(v float32) float32 {
	if v < 0 {
		return 0
	}
	if v > 255 {
		return 255
	}
	return v
}
