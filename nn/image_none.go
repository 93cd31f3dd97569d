//go:build !amd64 || purego

package nn

func imageInputs(dst, src []float32, row, tiles int) { imageInputsGo(dst, src, row, tiles) }

func imageOutputs(dst, tiles, weights, after []float32, row, pixel, groups int) {
	imageOutputsGo(dst, tiles, weights, after, row, pixel, groups)
}

func (f *imageFilter) outputWide([]float32, []float32, int, int) int { return 0 }
