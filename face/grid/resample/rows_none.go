//go:build !amd64 || purego

package resample

const assembly = false

func (a *Axis) vectors([]float32, []uint8) int { return 0 }

func blend([]float32, []float32, []float32, float32) int { return 0 }

func (c Chroma) set([]float32, []float32, []float32, []float32, float32) int { return 0 }

func (c Chroma) colors([]float32, []float32, []float32, []float32, []float32, float32) int { return 0 }
