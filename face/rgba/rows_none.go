//go:build !amd64 || purego

package rgba

import "image"

func drawYCbCr(*image.RGBA, image.Rectangle, *image.YCbCr) bool { return false }
